"""ONNX models as files: read, check, fold. Everything here needs the extra [onnx]."""

from __future__ import annotations

import hashlib
import heapq
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dpred_sim.errors import InputError
from dpred_sim.workload.importers.onnx_runtime import (
    Feeds,
    first_line,
    import_onnx,
    open_session,
    trim,
    write_model,
)
from dpred_sim.workload.inputs import InputSpec

FLOATS = {1: "float32", 10: "float16", 11: "float64", 16: "bfloat16"}
"""Floating-point element types, by their number in ONNX. All are computed in float32."""

WHOLE = {2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool"}
"""Other element types that a model may read."""

KINDS = frozenset({("Cast", "to"), ("EyeLike", "dtype"), ("SequenceEmpty", "dtype")})
"""Attributes that hold an element type, with their operators."""

OLDEST_OPSET = 7
"""Older opsets have other attributes for broadcasting and batch norm."""


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
            f"the model's external data cannot be read: {first_line(error)}", file=path
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
        write_model(model.path, model.proto, source)
        model.proto = None
        open_session(model.path, source, ort.GraphOptimizationLevel.ORT_ENABLE_BASIC, target)
        trim()
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
