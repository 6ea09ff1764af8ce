"""From a model as it was read to the folded graph that layers are planned from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpred_sim.errors import InputError
from dpred_sim.workload.images import SUFFIX
from dpred_sim.workload.importers.onnx_count import Count, counted_nodes, inferred_shapes, run_shapes
from dpred_sim.workload.importers.onnx_einsum import Rewriting
from dpred_sim.workload.importers.onnx_fixed import fold_fixed
from dpred_sim.workload.importers.onnx_flatten import flatten, prune, replace_nodes
from dpred_sim.workload.importers.onnx_model import Model, fold
from dpred_sim.workload.importers.onnx_native import Native
from dpred_sim.workload.importers.onnx_ops import EXPANDED, READ, is_known, unsupported
from dpred_sim.workload.importers.onnx_parts import fold_pads, part_biases
from dpred_sim.workload.importers.onnx_quantised import in_real_numbers
from dpred_sim.workload.importers.onnx_runtime import Feeds, RefusedByRuntime, import_onnx, without_constants
from dpred_sim.workload.inputs import ARRAYS, NUMBERS, SOUND


@dataclass(frozen=True)
class Prepared:
    """A folded graph, the tensors that the model stores in 8 bits, and the count of the model's products."""

    folded: Any
    natives: dict[str, Native]
    count: Count


def prepare(model: Model, feed: Feeds, again: Callable[[], Model]) -> Prepared:
    """The folded graph of a model for inputs as in `feed`. The model's own proto is used up.

    `again` reads the model once more. Raises InputError, with node and operator, for what cannot be
    carried.
    """
    path = model.path
    _flat(path, model.proto, feed)
    for node in counted_nodes(model.proto):
        if not is_known(node, READ):
            unsupported(path, node)

    def once_more() -> Any:
        proto = again().proto
        _flat(path, proto, feed)
        return proto

    count = Count(path, model.proto, feed, once_more)

    def shapes(names: Sequence[str]) -> Mapping[str, tuple[int, ...]]:
        found = inferred_shapes(model.proto, feed)
        if all(name in found for name in names):
            return found
        return run_shapes(path, model.proto, feed, names)

    Rewriting(path, model.proto, shapes)
    natives = in_real_numbers(path, model.proto)
    folded = fold(model, feed)
    fold_fixed(path, folded, feed)
    fold_pads(folded)
    part_biases(folded)
    return Prepared(folded, natives, count)


def _flat(path: Path, proto: Any, feed: Feeds) -> None:
    """One flat graph of what outputs need, others than known operators replaced where ONNX says by which."""
    flatten(path, proto, feed)
    unknown = {node.op_type for node in proto.graph.node if node.domain in ("", "ai.onnx")} & EXPANDED
    if unknown:
        onnx, _ = import_onnx()
        wanted = [("", name) for name in sorted(unknown)]
        light = without_constants(proto)
        light.graph.input.extend(
            onnx.helper.make_tensor_value_info(t.name, t.data_type, list(t.dims))
            for t in proto.graph.initializer
        )
        inlined = onnx.inliner.inline_selected_functions(light, wanted, inline_schema_functions=True)
        replace_nodes(proto, inlined.graph.node)
        flatten(path, proto, feed)
    prune(proto)


@contextmanager
def size_named(model: Model, feed: Feeds, file: str) -> Iterator[None]:
    """Where onnxruntime refuses a model, say of which size the input `file` is and what sets that.

    Only sizes that the model leaves open are named: others were compared when the input was read.
    """
    try:
        yield
    except RefusedByRuntime as error:
        free = [spec for spec in model.specs if None in spec.shape]
        suffix = Path(file).suffix.lower()
        if not free or suffix in NUMBERS:
            raise InputError(error.message, file=error.file, field=error.field) from error
        spec, settings = free[0], model.path.with_suffix(SUFFIX).name
        keys = "`samples` or `frame`" if suffix in SOUND else "`resize` or `crop`"
        remedy = f"another size: give {keys} in {settings}"
        raise InputError(
            f"the model does not take this input: {error.message}",
            file=file,
            field=spec.name,
            found=f"({', '.join(map(str, feed[spec.name].shape))}), where the model says {spec.shown}",
            allowed="an array of another shape" if suffix in ARRAYS else remedy,
        ) from error
