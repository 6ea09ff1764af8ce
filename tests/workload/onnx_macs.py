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


OPERANDS = {
    "Conv": (0, 1), "ConvInteger": (0, 1), "QLinearConv": (0, 3), "ConvTranspose": (0, 1), "Einsum": (0, 1),
    "Gemm": (0, 1), "MatMul": (0, 1), "MatMulInteger": (0, 1), "QLinearMatMul": (0, 3),
    "LSTM": (0, 2), "GRU": (0, 2), "RNN": (0, 2),
}  # fmt: skip
"""The two operands of each operator that its products are counted from."""


def macs_of_a_run(model: Any, feed: dict[str, Any]) -> dict[str, int]:
    """Multiply-accumulates by operator, from the shapes that a run of the file itself shows."""
    import numpy as np
    import onnx
    import onnxruntime as ort

    names = {t.name: np.array(t.dims) for t in model.graph.initializer}
    # What only constants decide is computed before the network runs.
    decided, nodes = set(feed), []
    for node in model.graph.node:
        if node.op_type != "Shape" and decided & set(node.input):
            decided.update(node.output)
            nodes += [node] if node.op_type in OPERANDS else []
    read = [[node.input[i] for i in OPERANDS[node.op_type]] for node in nodes]
    made = [next(name for name in node.output if name) for node in nodes]
    wanted = [*(name for pair in read for name in pair), *made]
    asked = [name for name in dict.fromkeys(wanted) if name not in names]
    run = onnx.ModelProto()
    run.CopyFrom(model)
    del run.graph.output[:]
    run.graph.node.extend(onnx.helper.make_node("Shape", [name], [f"{name}.s"]) for name in asked)
    run.graph.output.extend(onnx.helper.make_empty_tensor_value_info(f"{name}.s") for name in asked)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(run.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names |= dict(zip(asked, session.run(None, feed), strict=True))
    found: dict[str, int] = {}
    for node, (a, b), output in zip(nodes, read, made, strict=True):
        first, second, out = names[a], names[b], names[output]
        if node.op_type == "Einsum":
            left = node.attribute[0].s.decode().replace(" ", "").partition("->")[0].split(",")
            sizes = dict(zip("".join(left), (*first, *second), strict=True))
            each = np.prod(list(sizes.values()))
        elif node.op_type in ("LSTM", "GRU", "RNN"):
            each = np.prod(first[:2]) * np.prod(second[:2]) * (first[2] + second[2])
        elif "Conv" in node.op_type:
            each = np.prod(first if node.op_type == "ConvTranspose" else out) * np.prod(second[1:])
        else:
            each = np.prod(out) * first[-1]
        found[node.op_type] = found.get(node.op_type, 0) + int(each)
    return found
