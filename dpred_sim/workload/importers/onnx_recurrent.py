"""LSTM and GRU nodes of ONNX: what they must look like, and their input projection made explicit."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from dpred_sim.errors import InputError
from dpred_sim.workload.importers.onnx_model import import_onnx

GATES = {"LSTM": 4, "GRU": 3}
ACTIVATIONS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"]}


def expand_recurrent(path: Path, proto: Any) -> None:
    """Put the input projection of every LSTM and GRU before it, as a MatMul and an Add of their own.

    The node stays as it is and gives the hidden states; rows of the projection are by unit, all gates of
    a unit side by side. Raises InputError for what is not modelled: another direction, other activations,
    a GRU whose reset gate works before the product, an initial state that is not zero.
    """
    onnx, _ = import_onnx()
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    nodes: list[Any] = []
    for node in proto.graph.node:
        if node.op_type in GATES and node.domain in ("", "ai.onnx"):
            _check(onnx, path, node, constants)
            weights, bias = _projection(node, constants)
            if not node.output[0]:
                node.output[0] = f"{recurrent_name(node)}.states"
            name = projection(node)
            for key, values in ((f"{name}.weights", weights), (f"{name}.bias", bias)):
                proto.graph.initializer.append(onnx.numpy_helper.from_array(values, key))
            product = [node.input[0], f"{name}.weights"]
            nodes.append(onnx.helper.make_node("MatMul", product, [f"{name}.product"], name=name))
            nodes.append(onnx.helper.make_node("Add", [f"{name}.product", f"{name}.bias"], [name]))
        nodes.append(node)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)


def recurrent_name(node: Any) -> str:
    """Name of a node, else of what it writes."""
    return str(node.name or next(name for name in node.output if name))


def projection(node: Any) -> str:
    """Name of the projected input of a node, and of its layer."""
    return f"{recurrent_name(node)}.x"


def by_unit(matrix: NDArray[Any], gates: int) -> NDArray[np.float32]:
    """Rows (gates * H, ...) reordered so that those of one unit stand side by side."""
    apart = matrix.reshape(gates, -1, *matrix.shape[1:])
    rows: NDArray[np.float32] = np.ascontiguousarray(np.swapaxes(apart, 0, 1), dtype=np.float32)
    return rows.reshape(matrix.shape)


def _projection(node: Any, constants: dict[str, Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    gates = GATES[node.op_type]
    weights = by_unit(constants[node.input[1]][0], gates)
    bias = np.zeros(len(weights), np.float32)
    if len(node.input) > 3 and node.input[3]:
        bias = by_unit(constants[node.input[3]][0, : len(weights)], gates)
    return np.ascontiguousarray(weights.T), bias


def _check(onnx: Any, path: Path, node: Any, constants: dict[str, Any]) -> None:
    def refuse(reason: str) -> NoReturn:
        raise InputError(reason, file=path, field=f"node {node.name or node.output[0]!r}", found=node.op_type)

    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    if attributes.get("direction", b"forward") != b"forward":
        refuse("only the forward direction is modelled")
    found = [text.decode() for text in attributes.get("activations", [])]
    if found and found != ACTIVATIONS[node.op_type]:
        refuse("only the default activations are modelled")
    if attributes.get("layout", 0) or attributes.get("input_forget", 0) or "clip" in attributes:
        refuse("layout, input_forget and clip are not modelled")
    if node.op_type == "GRU" and not attributes.get("linear_before_reset", 0):
        refuse(
            "a reset gate before the product (linear_before_reset=0) takes two products a step: not modelled"
        )
    inputs = [*node.input, *[""] * 8]
    if inputs[1] not in constants or inputs[2] not in constants:
        refuse("its weights are not constant")
    if inputs[3] and inputs[3] not in constants:
        refuse("its bias is not constant")
    if inputs[4] or inputs[7]:
        refuse("sequence lengths and peepholes are not modelled")
    for state in (inputs[5], inputs[6]):
        if state and (state not in constants or np.any(constants[state])):
            refuse("only an initial state of zeros is modelled")
