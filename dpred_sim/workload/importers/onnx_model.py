"""ONNX models as files: read, check, fold, run. Everything here needs the extra [onnx]."""

from __future__ import annotations

import ctypes
import hashlib
import heapq
import re
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.errors import InputError, MissingExtra
from dpred_sim.workload.inputs import InputSpec

FLOATS = {1: "float32", 10: "float16", 11: "float64", 16: "bfloat16"}
"""Floating-point element types, by their number in ONNX. All are computed in float32."""

WHOLE = {2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool"}
"""Other element types that a model may read."""

KINDS = frozenset({("Cast", "to"), ("EyeLike", "dtype"), ("SequenceEmpty", "dtype")})
"""Attributes that hold an element type, with their operators."""

OLDEST_OPSET = 7
"""Older opsets have other attributes for broadcasting and batch norm."""

SHAPE = ".shape_of"
"""Ending of the tensor that holds the shape of another."""

LARGEST = 1 << 31
"""Bytes that a model has not: protobuf counts them with 31 bits."""

Feeds = Mapping[str, NDArray[Any]]


class RefusedByRuntime(InputError):
    """onnxruntime does not load a model, or does not run it on the given input."""


def import_onnx() -> tuple[Any, Any]:
    """The modules (onnx, onnxruntime); raises MissingExtra."""
    try:
        import onnx
        import onnx.inliner
        import onnxruntime
    except ImportError as error:
        raise MissingExtra("onnx", "reading an ONNX model") from error
    return onnx, onnxruntime


@dataclass
class Model:
    """A model as read from a file; `files` are the files of its external data.

    `proto` is gone once the model is folded: weights are in memory as seldom as can be.
    """

    path: Path
    proto: Any
    specs: tuple[InputSpec, ...]
    files: tuple[str, ...]


def read_model(path: Path) -> Model:
    """Read an ONNX file and the external data beside it.

    Raises InputError for a file that is no ONNX model, external data that is missing or lies outside
    the model's folder, and inputs that are no tensors of numbers; MissingExtra without the extra [onnx].
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
    opset = max((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), default=0)
    if opset < OLDEST_OPSET:
        raise InputError(
            "the model is written for an opset that is too old",
            file=path,
            field="opset",
            found=opset,
            allowed=f"{OLDEST_OPSET} or newer (onnx.version_converter raises it)",
        )
    # protobuf gives bytes where a name is not UTF-8.
    for node in all_nodes(proto.graph):
        if not all(isinstance(text, str) for text in (node.name, node.op_type, *node.input, *node.output)):
            raise InputError("not an ONNX model, or a damaged one: a name is not UTF-8", file=path)
    _forbid_sparse(path, proto)
    files = _external_files(onnx, path, proto)
    try:
        onnx.load_external_data_for_model(proto, str(path.parent))
    except Exception as error:
        raise InputError(
            f"the model's external data cannot be read: {_first_line(error)}", file=path
        ) from error
    constants = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in constants]
    if not inputs:
        raise InputError("the model reads no input", file=path)
    specs = tuple(_input_spec(onnx, path, value) for value in inputs)
    _in_single_precision(onnx, proto)
    return Model(path, proto, specs, files)


def _forbid_sparse(path: Path, proto: Any) -> None:
    if proto.graph.sparse_initializer:
        raise InputError(
            "sparse constants are not supported: save the model with dense ones",
            file=path,
            found=[t.values.name for t in proto.graph.sparse_initializer],
        )


def _external_files(onnx: Any, path: Path, proto: Any) -> tuple[str, ...]:
    """Names of the files that hold external data; each must lie in the model's folder, really."""
    attributes = [attribute for node in all_nodes(proto.graph) for attribute in node.attribute]
    tensors = [*proto.graph.initializer, *(a.t for a in attributes if a.HasField("t"))]
    external = [t for t in tensors if onnx.external_data_helper.uses_external_data(t)]
    files = sorted({entry.value for t in external for entry in t.external_data if entry.key == "location"})
    folder = path.parent.resolve()
    for name in files:
        place = path.parent / name
        inside = not Path(name).is_absolute() and "\\" not in name and ".." not in Path(name).parts
        if not inside or not place.resolve().is_relative_to(folder):
            raise InputError(
                "the model's external data lies outside the model's folder: not read", file=path, found=name
            )
        if not place.is_file():
            raise InputError("the model's external data is missing", file=path, found=name)
        size = place.stat().st_size
        for tensor in external:
            entry = {e.key: e.value for e in tensor.external_data}
            if entry.get("location") == name:
                _check_extent(path, tensor.name, entry, size)
    return tuple(files)


def _check_extent(path: Path, tensor: str, entry: Mapping[str, str], size: int) -> None:
    try:
        first, length = int(entry.get("offset", 0)), int(entry.get("length", 0))
    except ValueError:
        first, length = -1, -1
    if first < 0 or length < 0 or first + length > size:
        raise InputError(
            f"the model's external data is cut short: {tensor!r} lies beyond its end",
            file=path,
            found=f"{entry['location']} of {size} bytes",
        )


def all_nodes(graph: Any) -> Iterator[Any]:
    """The nodes of a graph and of the graphs inside it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from all_nodes(inner)


def _input_spec(onnx: Any, path: Path, value: Any) -> InputSpec:
    if not value.type.HasField("tensor_type"):
        raise InputError("the model's input is not a tensor", file=path, field=value.name)
    kind = value.type.tensor_type
    if kind.elem_type not in FLOATS and kind.elem_type not in WHOLE:
        raise InputError(
            "the model's input is neither floating point nor whole numbers",
            file=path,
            field=value.name,
            found=f"element type {kind.elem_type}",
            allowed=[*FLOATS.values(), *WHOLE.values()],
        )
    if not kind.HasField("shape"):
        raise InputError("the model's input has no shape", file=path, field=value.name)
    shape = tuple(
        d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in kind.shape.dim
    )
    if len(shape) > 3 and shape[0] is not None and shape[0] != 1:
        raise InputError(
            "the model has a fixed batch", file=path, field=value.name, found=shape, allowed="batch 1"
        )
    return InputSpec(value.name, shape, WHOLE.get(kind.elem_type, "float32"))


def _in_single_precision(onnx: Any, proto: Any) -> None:
    """Make all floating point of a model float32: not every operator is there in half and double."""
    nodes = [*all_nodes(proto.graph), *(node for part in proto.functions for node in all_nodes(part))]
    attributes = [(node, attribute) for node in nodes for attribute in node.attribute]
    graphs = [proto.graph, *(a.g for _, a in attributes if a.HasField("g"))]
    constants = [a.t for _, a in attributes if a.type == onnx.AttributeProto.TENSOR]
    for tensor in [*(t for graph in graphs for t in graph.initializer), *constants]:
        if tensor.data_type in FLOATS and tensor.data_type != onnx.TensorProto.FLOAT:
            array = onnx.numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    for node, attribute in attributes:
        if (node.op_type, attribute.name) in KINDS and attribute.i in FLOATS:
            attribute.i = onnx.TensorProto.FLOAT
    for value in (value for graph in graphs for value in [*graph.input, *graph.output]):
        if value.type.tensor_type.elem_type in FLOATS:
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT


def fold(model: Model, feed: Feeds) -> Any:
    """The model for inputs of the shapes in `feed`, with batch norm and constants folded into the weights.

    onnxruntime's basic optimisations do the folding: activations stay nodes of their own. Whole numbers
    of rank 0 become constants, so that what they choose is chosen. The nodes come back in an order as
    near to the file's as the folding allows. The model's own proto is used up. Raises InputError for a
    model that onnxruntime refuses.
    """
    onnx, ort = import_onnx()
    rank = {name: i for i, node in enumerate(model.proto.graph.node) for name in node.output}
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "model.onnx", Path(folder) / "folded.onnx"
        _fix_shapes(onnx, model, feed)
        _write(model.path, model.proto, source)
        model.proto = None
        _session(model.path, source, ort.GraphOptimizationLevel.ORT_ENABLE_BASIC, target)
        _trim()
        folded = onnx.load(str(target))
    used = {node.domain for node in folded.graph.node}
    kept = [opset for opset in folded.opset_import if opset.domain in used or opset.domain == ""]
    del folded.opset_import[:]
    folded.opset_import.extend(kept)
    nodes = _ordered(list(folded.graph.node), rank)
    del folded.graph.node[:]
    folded.graph.node.extend(nodes)
    return folded


def _fix_shapes(onnx: Any, model: Model, feed: Feeds) -> None:
    """Give the inputs of a model the shapes in `feed`, and make constants of whole numbers of rank 0.

    A function of its own: whatever still names a part of the proto keeps all of it in memory.
    """
    proto = model.proto
    # Constants that are listed as inputs could be overridden, and would not be folded.
    known = {spec.name for spec in model.specs}
    inputs = [onnx.ValueInfoProto.FromString(v.SerializeToString()) for v in proto.graph.input]
    inputs = [value for value in inputs if value.name in known]
    del proto.graph.input[:]
    for value, spec in zip(inputs, model.specs, strict=True):
        if spec.is_whole and not spec.shape:
            proto.graph.initializer.append(onnx.numpy_helper.from_array(feed[spec.name], spec.name))
            continue
        proto.graph.input.append(value)
        dimensions = proto.graph.input[-1].type.tensor_type.shape.dim
        for dimension, size in zip(dimensions, feed[spec.name].shape, strict=True):
            dimension.dim_value = size
    proto.ir_version = max(proto.ir_version, 4)
    # Shapes noted in the file may be those of another batch or image size.
    del proto.graph.value_info[:]
    for value in proto.graph.output:
        value.type.tensor_type.ClearField("shape")


class Runner:
    """A folded model in a session that gives the tensors `outputs` of the graph, without optimisations.

    `shapes_of` are tensors whose shapes it gives: they are gone from memory as soon as the model has no use
    for them, where onnxruntime keeps an output to the end. `types` are the element types of the outputs as
    onnxruntime writes them. Raises InputError when onnxruntime cannot load the model.
    """

    def __init__(
        self, path: Path, proto: Any, outputs: Collection[str], shapes_of: Sequence[str] = ()
    ) -> None:
        onnx, _ = import_onnx()
        self.path = path
        nodes, before = len(proto.graph.node), list(proto.graph.output)
        before = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in before]
        del proto.graph.output[:]
        # Inferred shapes are not always those that onnxruntime computes (ceil_mode), nor always known.
        proto.graph.node.extend(
            onnx.helper.make_node("Shape", [name], [f"{name}{SHAPE}"]) for name in shapes_of
        )
        if not any(opset.domain in ("", "ai.onnx") for opset in proto.opset_import):
            proto.opset_import.append(onnx.helper.make_opsetid("", 17))
        proto.graph.output.extend(
            onnx.helper.make_empty_tensor_value_info(name)
            for name in (*outputs, *(f"{name}{SHAPE}" for name in shapes_of))
        )
        self._shapes_of = shapes_of
        try:
            self._session = plain_session(path, proto)
        finally:
            del proto.graph.node[nodes:]
            del proto.graph.output[:]
            proto.graph.output.extend(before)
        self.types = {output.name: output.type for output in self._session.get_outputs()}
        self.inputs = {value.name for value in self._session.get_inputs()}

    def run(self, outputs: Sequence[str], feed: Feeds) -> list[NDArray[Any]]:
        """Values of the tensors `outputs`; raises InputError when the model fails."""
        return run_session(self.path, self._session, outputs, feed, self.inputs)

    def shapes(self, feed: Feeds) -> dict[str, tuple[int, ...]]:
        """Shapes of the tensors `shapes_of`."""
        found = self.run([f"{name}{SHAPE}" for name in self._shapes_of], feed)
        return {name: tuple(map(int, shape)) for name, shape in zip(self._shapes_of, found, strict=True)}


def run_session(
    path: Path, session: Any, outputs: Sequence[str], feed: Feeds, inputs: Collection[str] | None = None
) -> list[NDArray[Any]]:
    """One run of a session; a tensor that is fed can be asked for as well.

    `inputs` are the names that the session reads, where `feed` has others besides.
    """
    wanted = [name for name in dict.fromkeys(outputs) if name not in feed]
    try:
        fed = {name: array for name, array in feed.items() if inputs is None or name in inputs}
        found = dict(zip(wanted, session.run(wanted, fed), strict=True)) if wanted else {}
    except Exception as error:
        raise RefusedByRuntime(
            f"onnxruntime cannot run the model: {_first_line(error)}", file=path
        ) from error
    return [feed[name] if name in feed else found[name] for name in outputs]


def plain_session(path: Path, proto: Any) -> Any:
    """A session without optimisations: every tensor of the graph keeps its meaning."""
    _, ort = import_onnx()
    with tempfile.TemporaryDirectory() as folder:
        # Through a file: onnxruntime would keep a second copy of the bytes.
        file = Path(folder) / "model.onnx"
        _write(path, proto, file)
        session = _session(path, file, ort.GraphOptimizationLevel.ORT_DISABLE_ALL, None)
    _trim()
    return session


def _write(path: Path, proto: Any, file: Path) -> None:
    """Write a model for onnxruntime; raises InputError for one that is too large for a file.

    Constants are written one by one: messages that follow each other in a file are read as one, and
    protobuf needs three times the memory of what it writes.
    """
    try:
        with file.open("wb") as stream:
            stream.write(without_constants(proto).SerializeToString())
            for tensor in proto.graph.initializer:
                part = type(proto)()
                part.graph.initializer.append(tensor)
                stream.write(part.SerializeToString())
            size = stream.tell()
    except Exception as error:
        # protobuf has an EncodeError of its own, whose class depends on its version.
        raise InputError(
            f"the model cannot be handed to onnxruntime: {_first_line(error)}", file=path
        ) from error
    if size >= LARGEST:
        raise InputError(
            "the model is too large for onnxruntime", file=path, found=f"{size} bytes", allowed="2 GiB"
        )


def without_constants(proto: Any) -> Any:
    """A copy of a model without its initialisers."""
    copy = type(proto)()
    for source, target in ((proto, copy), (proto.graph, copy.graph)):
        for field, value in source.ListFields():
            if field.name in ("graph", "initializer"):
                continue
            if isinstance(value, str | bytes | int):
                setattr(target, field.name, value)
            else:
                getattr(target, field.name).MergeFrom(value)
    return copy


def _session(path: Path, file: Path, level: Any, save_to: Path | None) -> Any:
    _, ort = import_onnx()
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level = 4
    # Shapes as soon as they are known, so that their tensors can go.
    options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
    options.use_deterministic_compute = True
    # Returns memory as tensors are done with; it costs no time that can be measured.
    options.enable_cpu_mem_arena = False
    options.add_session_config_entry("session.disable_prepacking", "1")
    # Else weights between quantised activations are quantised as well.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    if save_to is not None:
        options.optimized_model_filepath = str(save_to)
    _trim()
    try:
        return ort.InferenceSession(
            str(file),
            options,
            providers=["CPUExecutionProvider"],
            # Two layers that compute the same are two layers.
            disabled_optimizers=["CommonSubexpressionElimination"],
            # It would print, and try the same again.
            enable_fallback=0,
        )
    except Exception as error:
        raise RefusedByRuntime(
            f"onnxruntime cannot load the model: {_first_line(error)}", file=path
        ) from error


def _trim() -> None:
    """Give freed memory back: glibc keeps the megabytes that loading the model before left behind."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return


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


_NOISE = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : \w+ : |Load model from \S+ failed:|Non-zero status code returned while |"
    r"/onnxruntime_src/\S+ \S+ "
)
"""What onnxruntime's messages hold besides what is wrong: codes, temporary files, places in its source."""


def _first_line(error: Exception) -> str:
    text = " ".join(_NOISE.sub("", " ".join(str(error).split())).split())
    return text if len(text) <= 240 else text[:237] + "..."
