"""What is part of a layer is put into it, and what is none taken out: padding and computed biases."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.workload.importers.onnx_flatten import prune, replace_nodes
from dpred_sim.workload.importers.onnx_runtime import import_onnx


def fold_pads(proto: Any) -> None:
    """Fold every Pad of zeros into the convolutions that read it, in place; others stay as they are."""
    onnx, _ = import_onnx()
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    makers = {node.output[0]: node for node in proto.graph.node if node.op_type == "Pad"}

    def value(name: str) -> NDArray[Any] | None:
        return onnx.numpy_helper.to_array(constants[name]) if name in constants else None

    for node in proto.graph.node:
        while node.op_type == "Conv" and node.input[0] in makers:
            pad = makers[node.input[0]]
            around = _around(onnx, pad, value)
            if around is None or not _takes(onnx, node, around):
                break
            node.input[0] = pad.input[0]
    prune(proto)


def part_biases(proto: Any) -> None:
    """Take what is added to a Gemm and is no constant out of it, into an Add of its own, in place."""
    onnx, _ = import_onnx()
    constants = {tensor.name for tensor in proto.graph.initializer}
    nodes: list[Any] = []
    for node in proto.graph.node:
        if node.op_type != "Gemm" or len(node.input) < 3 or node.input[2] in {*constants, ""}:
            nodes.append(node)
            continue
        output, bias, zero = node.output[0], node.input[2], f"{node.output[0]}.no_bias"
        beta = next((item.f for item in node.attribute if item.name == "beta"), 1.0)
        for name, number in ((zero, 0.0), (f"{output}.beta", beta)):
            proto.graph.initializer.append(onnx.numpy_helper.from_array(np.full(1, number, np.float32), name))
        node.input[2], node.output[0] = zero, f"{output}.product"
        nodes.append(node)
        if beta != 1.0:
            nodes.append(onnx.helper.make_node("Mul", [bias, f"{output}.beta"], [f"{output}.bias"]))
            bias = f"{output}.bias"
        nodes.append(onnx.helper.make_node("Add", [node.output[0], bias], [output], name=f"{output}.sum"))
    if len(nodes) > len(proto.graph.node):
        replace_nodes(proto, nodes)


def _around(onnx: Any, pad: Any, value: Any) -> list[int] | None:
    """Zeros before and after each axis but the first two; None for another kind of Pad."""
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in pad.attribute}
    if attributes.get("mode", b"constant") != b"constant":
        return None
    if len(pad.input) > 1:
        pads = value(pad.input[1])
        fill = value(pad.input[2]) if len(pad.input) > 2 and pad.input[2] else np.zeros(1)
        axes = value(pad.input[3]) if len(pad.input) > 3 and pad.input[3] else None
        if pads is None or fill is None or (axes is not None and (axes < 0).any()) or len(pad.input) > 3:
            return None
        fill = fill.reshape(-1)[0]
    else:
        pads, fill = np.asarray(attributes["pads"]), attributes.get("value", 0.0)
    apart = np.asarray(pads).reshape(2, -1)
    if fill != 0 or apart.min() < 0 or apart[:, :2].any():
        return None
    return [int(size) for size in apart[:, 2:].reshape(-1)]


def _takes(onnx: Any, node: Any, around: list[int]) -> bool:
    """Enter padding in a convolution; whether it has padding of its own that is given in numbers."""
    attributes = {a.name: a for a in node.attribute}
    auto = attributes.get("auto_pad")
    if auto is not None and auto.s not in (b"NOTSET", b"VALID"):
        return False
    own = (
        list(attributes["pads"].ints)
        if "pads" in attributes and (auto is None or auto.s == b"NOTSET")
        else []
    )
    own = own or [0] * len(around)
    _set(onnx, node, "auto_pad", "NOTSET")
    _set(onnx, node, "pads", [a + b for a, b in zip(own, around, strict=True)])
    return True


def _set(onnx: Any, node: Any, name: str, value: Any) -> None:
    kept = [item for item in node.attribute if item.name != name]
    copies = [type(item).FromString(item.SerializeToString()) for item in kept]
    del node.attribute[:]
    node.attribute.extend([*copies, onnx.helper.make_attribute(name, value)])
