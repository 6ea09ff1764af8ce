"""ONNX models as files: read, check, fold, run. Everything here needs the extra [onnx]."""

from __future__ import annotations

import hashlib
import heapq
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.errors import InputError, MissingExtra

FLOATS = {1: "float32", 10: "float16", 11: "float64"}
"""Floating-point element types, by their number in ONNX. All are computed in float32."""

Feeds = Mapping[str, NDArray[Any]]


def import_onnx() -> tuple[Any, Any]:
    """The modules (onnx, onnxruntime); raises MissingExtra."""
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise MissingExtra("onnx", "reading an ONNX model") from error
    return onnx, onnxruntime


@dataclass(frozen=True)
class InputSpec:
    """What a model reads: `shape` holds None for a size that the input decides."""

    name: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Model:
    """A model as read from a file; `files` are the files of its external data."""

    path: Path
    proto: Any
    spec: InputSpec
    files: tuple[str, ...]


def read_model(path: Path) -> Model:
    """Read an ONNX file and the external data beside it.

    Raises InputError for a file that is no ONNX model, external data that is missing, and a model
    that does not read exactly one floating-point tensor; MissingExtra without the extra [onnx].
    """
    onnx, _ = import_onnx()
    try:
        proto = onnx.load(str(path), load_external_data=False)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=path) from error
    except Exception as error:
        # Whatever the protobuf version at hand raises.
        raise InputError("not an ONNX model, or a damaged one", file=path) from error
    if not proto.graph.node:
        raise InputError("not an ONNX model: there is no graph in it", file=path)
    external = [t for t in proto.graph.initializer if onnx.external_data_helper.uses_external_data(t)]
    files = sorted({entry.value for t in external for entry in t.external_data if entry.key == "location"})
    for name in files:
        if not (path.parent / name).is_file():
            raise InputError("the model's external data is missing", file=path, found=name)
    try:
        onnx.load_external_data_for_model(proto, str(path.parent))
    except Exception as error:
        raise InputError(
            f"the model's external data cannot be read: {_first_line(error)}", file=path
        ) from error
    spec = _input_spec(path, proto)
    _in_single_precision(onnx, proto)
    return Model(path, proto, spec, tuple(files))


def _input_spec(path: Path, proto: Any) -> InputSpec:
    constants = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in constants]
    if len(inputs) != 1:
        raise InputError(
            "the model must read exactly one tensor", file=path, found=[value.name for value in inputs]
        )
    (value,) = inputs
    kind = value.type.tensor_type
    if kind.elem_type not in FLOATS:
        raise InputError(
            "the model's input is not floating point",
            file=path,
            field=value.name,
            found=f"element type {kind.elem_type}",
            allowed=list(FLOATS.values()),
        )
    if not kind.HasField("shape"):
        raise InputError("the model's input has no shape", file=path, field=value.name)
    shape = tuple(
        d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in kind.shape.dim
    )
    if shape and shape[0] is not None and shape[0] != 1:
        raise InputError(
            "the model has a fixed batch", file=path, field=value.name, found=shape, allowed="batch 1"
        )
    return InputSpec(value.name, shape)


def _in_single_precision(onnx: Any, proto: Any) -> None:
    """Make all floating point of a model float32: not every operator is there in half and double."""
    graph = proto.graph
    attributes = [attribute for node in graph.node for attribute in node.attribute]
    constants = [a.t for a in attributes if a.type == onnx.AttributeProto.TENSOR]
    for tensor in [*graph.initializer, *constants]:
        if tensor.data_type in FLOATS and tensor.data_type != onnx.TensorProto.FLOAT:
            array = onnx.numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i in FLOATS:
                attribute.i = onnx.TensorProto.FLOAT
    for value in [*graph.input, *graph.output]:
        if value.type.tensor_type.elem_type in FLOATS:
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT


def fit_array(path: Path, spec: InputSpec, array: NDArray[Any]) -> NDArray[Any]:
    """`array` as the model reads it: float32, a missing batch axis is added.

    Raises InputError for another shape, another kind of dtype, and values that are not finite.
    """
    if array.dtype.kind not in "fiu":
        raise InputError("not a real array", file=path, found=f"dtype {array.dtype}", allowed="float dtypes")
    if array.ndim == len(spec.shape) - 1:
        array = array[None]
    fits = array.ndim == len(spec.shape) and all(
        have == want or want is None for have, want in zip(array.shape, spec.shape, strict=True)
    )
    if not fits or array.size == 0 or (array.ndim > 0 and array.shape[0] != 1):
        want = ", ".join("any" if size is None else str(size) for size in (1, *spec.shape[1:]))
        raise InputError(
            f"not the shape of the model's input {spec.name!r}",
            file=path,
            found=f"({', '.join(map(str, array.shape))})",
            allowed=f"({want})",
        )
    with np.errstate(over="ignore"):
        single = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(single).all():
        raise InputError("the input holds values that are not finite (NaN or infinity)", file=path)
    return single


def fold(model: Model, shape: Sequence[int]) -> Any:
    """The model for inputs of `shape`, with batch norm and constants folded into the weights.

    onnxruntime's basic optimisations do the folding: activations stay nodes of their own. The nodes
    come back in an order as near to the file's as the folding allows. Raises InputError for a model
    that onnxruntime refuses.
    """
    onnx, ort = import_onnx()
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    # Constants that are listed as inputs could be overridden, and would not be folded.
    (value,) = [value for value in model.proto.graph.input if value.name == model.spec.name]
    del proto.graph.input[:]
    proto.graph.input.append(value)
    proto.ir_version = max(proto.ir_version, 4)
    for dimension, size in zip(proto.graph.input[0].type.tensor_type.shape.dim, shape, strict=True):
        dimension.dim_value = size
    # Shapes noted in the file may be those of another batch or image size.
    del proto.graph.value_info[:]
    for value in proto.graph.output:
        value.type.tensor_type.ClearField("shape")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "folded.onnx"
        _session(model.path, proto, ort.GraphOptimizationLevel.ORT_ENABLE_BASIC, target)
        folded = onnx.load(str(target))
    used = {node.domain for node in folded.graph.node}
    kept = [opset for opset in folded.opset_import if opset.domain in used]
    del folded.opset_import[:]
    folded.opset_import.extend(kept)
    rank = {name: i for i, node in enumerate(model.proto.graph.node) for name in node.output}
    nodes = _ordered(list(folded.graph.node), rank)
    del folded.graph.node[:]
    folded.graph.node.extend(nodes)
    return folded


class Runner:
    """A folded model in a session that gives every tensor of the graph, without optimisations.

    Raises InputError when onnxruntime cannot load the model.
    """

    def __init__(self, path: Path, proto: Any) -> None:
        onnx, _ = import_onnx()
        self.path = path
        extended = onnx.ModelProto()
        extended.CopyFrom(proto)
        del extended.graph.output[:]
        extended.graph.output.extend(
            onnx.helper.make_empty_tensor_value_info(name)
            for node in proto.graph.node
            for name in node.output
            if name
        )
        self._session = plain_session(path, extended)

    def run(self, outputs: Sequence[str], feed: Feeds) -> list[NDArray[Any]]:
        """Values of the tensors `outputs`; raises InputError when the model fails."""
        return run_session(self.path, self._session, outputs, feed)


def run_session(path: Path, session: Any, outputs: Sequence[str], feed: Feeds) -> list[NDArray[Any]]:
    """One run of a session; a tensor that is fed can be asked for as well."""
    wanted = [name for name in dict.fromkeys(outputs) if name not in feed]
    try:
        found = dict(zip(wanted, session.run(wanted, dict(feed)), strict=True)) if wanted else {}
    except Exception as error:
        raise InputError(f"onnxruntime cannot run the model: {_first_line(error)}", file=path) from error
    return [feed[name] if name in feed else found[name] for name in outputs]


def plain_session(path: Path, proto: Any) -> Any:
    """A session without optimisations: every tensor of the graph keeps its meaning."""
    _, ort = import_onnx()
    return _session(path, proto, ort.GraphOptimizationLevel.ORT_DISABLE_ALL, None)


def _session(path: Path, proto: Any, level: Any, save_to: Path | None) -> Any:
    _, ort = import_onnx()
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level = 4
    options.use_deterministic_compute = True
    if save_to is not None:
        options.optimized_model_filepath = str(save_to)
    try:
        return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise InputError(f"onnxruntime cannot load the model: {_first_line(error)}", file=path) from error


def _ordered(nodes: list[Any], rank: Mapping[str, int]) -> list[Any]:
    """Nodes in topological order; where that leaves a choice, in the order `rank` of their outputs."""
    producer = {name: i for i, node in enumerate(nodes) for name in node.output if name}
    waits: list[set[int]] = [{producer[n] for n in node.input if n in producer} for node in nodes]
    readers: list[list[int]] = [[] for _ in nodes]
    for i, sources in enumerate(waits):
        for source in sources:
            readers[source].append(i)
    last = len(rank)
    keys = [min((rank.get(name, last) for name in node.output), default=last) for node in nodes]
    ready = [(keys[i], i) for i, sources in enumerate(waits) if not sources]
    heapq.heapify(ready)
    order = []
    while ready:
        _, i = heapq.heappop(ready)
        order.append(nodes[i])
        for reader in readers[i]:
            waits[reader].discard(i)
            if not waits[reader]:
                heapq.heappush(ready, (keys[reader], reader))
    return order


def sha256_file(path: Path) -> str:
    """SHA-256 of a file; raises InputError when it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=path) from error


def _first_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 240 else text[:237] + "..."
