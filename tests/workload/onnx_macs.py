"""Multiply-accumulates of an ONNX model, counted from its operators and inferred shapes alone."""

from __future__ import annotations

from math import prod
from typing import Any


def count_macs(model: Any, shapes: dict[str, tuple[int, ...]]) -> dict[str, int]:
    """Multiply-accumulates by operator, of a model whose inputs have these shapes."""
    import onnx

    model = onnx.ModelProto.FromString(model.SerializeToString())
    for value in model.graph.input:
        if value.name in shapes:
            for axis, size in zip(value.type.tensor_type.shape.dim, shapes[value.name], strict=True):
                axis.dim_value = size
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    known = {t.name: tuple(t.dims) for t in inferred.graph.initializer}
    for value in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output):
        known[value.name] = tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
    counts: dict[str, int] = {}
    for node in inferred.graph.node:
        found = _macs(node, known)
        if found:
            counts[node.op_type] = counts.get(node.op_type, 0) + found
    return counts


def _macs(node: Any, shape: dict[str, tuple[int, ...]]) -> int:
    from onnx.helper import get_attribute_value

    has = {a.name: get_attribute_value(a) for a in node.attribute}
    kind, read = node.op_type, list(node.input)
    if kind in ("Conv", "ConvInteger"):
        # Each output is a sum over the kernel and the channels of its group.
        return prod(shape[node.output[0]]) * prod(shape[read[1]][1:])
    if kind == "QLinearConv":
        return prod(shape[node.output[0]]) * prod(shape[read[3]][1:])
    if kind == "ConvTranspose":
        # Each input is spread over the kernel and the filters of its group.
        return prod(shape[read[0]]) * prod(shape[read[1]][1:])
    if kind in ("MatMul", "MatMulInteger"):
        return prod(shape[node.output[0]]) * shape[read[0]][-1]
    if kind == "QLinearMatMul":
        return prod(shape[node.output[0]]) * shape[read[0]][-1]
    if kind == "Gemm":
        depth = shape[read[0]][0 if has.get("transA", 0) else 1]
        return prod(shape[node.output[0]]) * depth
    if kind in ("LSTM", "GRU", "RNN"):
        steps, batch, channels = shape[read[0]]
        directions, rows, units = shape[read[2]]
        return directions * steps * batch * rows * (channels + units)
    return 0
