"""LSTM, GRU and RNN nodes of ONNX: what they must look like, and their input projection made explicit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from dpred_sim.errors import InputError
from dpred_sim.workload.importers.onnx_runtime import import_onnx

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
ACTIVATIONS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}

Constants = dict[str, NDArray[Any]]


def expand_recurrent(path: Path, proto: Any) -> dict[str, str]:
    """Put the input projection of every recurrence before it, as a MatMul and an Add of their own.

    The node stays as it is and gives the hidden states; rows of the projection are by unit, all gates of
    a unit side by side. A node with two directions becomes one for each, and a Concat. Returns the names
    of the nodes in the file by those of the nodes made of them. Raises InputError for what is not
    modelled, such as other activations.
    """
    onnx, _ = import_onnx()
    origins: dict[str, str] = {}
    if not any(node.op_type in GATES for node in proto.graph.node):
        return origins
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    nodes: list[Any] = []
    for node in proto.graph.node:
        if node.op_type not in GATES or node.domain not in ("", "ai.onnx"):
            nodes.append(node)
            continue
        _check(onnx, path, node, constants)
        for one in _directions(onnx, proto, node, constants):
            if one.op_type not in GATES:
                nodes.append(one)
                continue
            origins[recurrent_name(one)] = recurrent_name(node)
            if not one.output[0]:
                one.output[0] = f"{recurrent_name(one)}.states"
            for name, first, last in _projections(one):
                origins[name] = recurrent_name(node)
                weights, bias = _projection(one, constants, first, last)
                for key, values in ((f"{name}.weights", weights), (f"{name}.bias", bias)):
                    proto.graph.initializer.append(onnx.numpy_helper.from_array(values, key))
                product = [one.input[0], f"{name}.weights"]
                nodes.append(onnx.helper.make_node("MatMul", product, [f"{name}.product"], name=name))
                nodes.append(onnx.helper.make_node("Add", [f"{name}.product", f"{name}.bias"], [name]))
            nodes.append(one)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del proto.graph.node[:]
    proto.graph.node.extend(copies)
    return origins


def recurrent_name(node: Any) -> str:
    """Name of a node, else of what it writes."""
    return str(node.name or next(name for name in node.output if name))


def projection(node: Any) -> str:
    """Name of the projected input of a node, and of its layer."""
    return f"{recurrent_name(node)}.x"


def resets_before(node: Any) -> bool:
    """Whether a node is a GRU whose reset gate works on the state, before the product."""
    after = any(item.name == "linear_before_reset" and item.i for item in node.attribute)
    return node.op_type == "GRU" and not after


def candidate(node: Any) -> str:
    """Name of the projected input of the candidate state of a GRU that resets before the product."""
    return f"{recurrent_name(node)}.xh"


def through(node: Any) -> str:
    """Name of the states that the reset gate of such a GRU lets through."""
    return f"{recurrent_name(node)}.r"


def reset_states(
    node: Any, weights: NDArray[Any], bias: NDArray[Any] | None, state: NDArray[Any] | None
) -> Callable[..., NDArray[np.float32]]:
    """What makes the states that a reset gate lets through, of the projected input and the hidden states.

    `state` is the one before the first step; without it a fed one comes as the third tensor, or is zero.
    """
    units = weights.shape[-1]
    gate = weights[0, units : 2 * units].astype(np.float64)
    later = 0 if bias is None else bias[0, 4 * units : 5 * units]

    def make(x: NDArray[Any], states: NDArray[Any], fed: NDArray[Any] | None = None) -> NDArray[np.float32]:
        added, states = x.reshape(-1, units, 2)[:, :, 1], states.reshape(-1, units)
        first = fed if fed is not None else state if state is not None else np.zeros(units)
        first = first.reshape(1, units)
        before = [states[1:], first] if is_reversed(node) else [first, states[:-1]]
        previous = np.concatenate(before)
        opened = 1 / (1 + np.exp(-(added + previous @ gate.T + later)))
        return np.asarray(opened * previous, dtype=np.float32)

    return make


def is_reversed(node: Any) -> bool:
    """Whether a node goes from the last step to the first."""
    return any(item.name == "direction" and item.s == b"reverse" for item in node.attribute)


def by_unit(matrix: NDArray[Any], gates: int) -> NDArray[np.float32]:
    """Rows (gates * H, ...) reordered so that those of one unit stand side by side."""
    apart = matrix.reshape(gates, -1, *matrix.shape[1:])
    rows: NDArray[np.float32] = np.ascontiguousarray(np.swapaxes(apart, 0, 1), dtype=np.float32)
    return rows.reshape(matrix.shape)


def _directions(onnx: Any, proto: Any, node: Any, constants: Constants) -> Iterator[Any]:
    """The node itself, or one node for each direction and what puts their results together."""
    direction = next((item.s for item in node.attribute if item.name == "direction"), b"forward")
    if direction != b"bidirectional":
        yield onnx.NodeProto.FromString(node.SerializeToString())
        return
    name = recurrent_name(node)
    inputs = [*node.input, *[""] * (8 - len(node.input))]
    parts: dict[int, list[str]] = {0: [], 1: [], 2: []}
    for place, way in enumerate(("forward", "reverse")):
        made = onnx.NodeProto.FromString(node.SerializeToString())
        made.name = f"{name}.{way}"
        own = []
        for index, operand in enumerate(inputs):
            if index in (0, 4) or not operand:
                own.append(operand)
                continue
            key = f"{operand}.{way}"
            if operand in constants and key not in constants:
                constants[key] = np.ascontiguousarray(constants[operand][place : place + 1])
                proto.graph.initializer.append(onnx.numpy_helper.from_array(constants[key], key))
            elif operand not in constants:
                edges = [f"{key}.from", f"{key}.to", f"{key}.axis"]
                for edge, value in zip(edges, (place, place + 1, 0), strict=True):
                    tensor = onnx.numpy_helper.from_array(np.array([value], dtype=np.int64), edge)
                    proto.graph.initializer.append(tensor)
                yield onnx.helper.make_node("Slice", [operand, *edges], [key])
            own.append(key)
        while not own[-1]:
            own.pop()
        del made.input[:]
        made.input.extend(own)
        made.output[:] = [f"{output}.{way}" if output else "" for output in node.output]
        for index, output in enumerate(made.output):
            if output:
                parts[index].append(output)
        kept = [item for item in made.attribute if item.name not in ("direction", "activations")]
        del made.attribute[:]
        made.attribute.extend([*kept, onnx.helper.make_attribute("direction", way)])
        yield made
    for index, output in enumerate(node.output):
        if output:
            yield onnx.helper.make_node("Concat", parts[index], [output], axis=1 if index == 0 else 0)


def _projections(node: Any) -> list[tuple[str, int, int]]:
    """Name, first gate and last + 1 of each projection of the input."""
    if resets_before(node):
        return [(projection(node), 0, 2), (candidate(node), 2, 3)]
    return [(projection(node), 0, GATES[node.op_type])]


def _projection(
    node: Any, constants: Constants, first: int, last: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    whole = constants[node.input[1]][0]
    units = len(whole) // GATES[node.op_type]
    rows = slice(first * units, last * units)
    weights = by_unit(whole[rows], last - first)
    bias = np.zeros(len(weights), np.float32)
    if len(node.input) > 3 and node.input[3]:
        bias = by_unit(constants[node.input[3]][0, rows], last - first)
    return np.ascontiguousarray(weights.T), bias


def _check(onnx: Any, path: Path, node: Any, constants: Constants) -> None:
    def refuse(reason: str) -> NoReturn:
        raise InputError(reason, file=path, field=f"node {node.name or node.output[0]!r}", found=node.op_type)

    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    found = [text.decode() for text in attributes.get("activations", [])]
    wanted = ACTIVATIONS[node.op_type]
    if any(found[i : i + len(wanted)] != wanted for i in range(0, len(found), len(wanted))):
        refuse("only the default activations are modelled")
    if attributes.get("layout", 0) or attributes.get("input_forget", 0) or "clip" in attributes:
        refuse("layout, input_forget and clip are not modelled")
    inputs = [*node.input, *[""] * 8]
    if inputs[1] not in constants or inputs[2] not in constants:
        refuse("its weights are not constant")
    if inputs[3] and inputs[3] not in constants:
        refuse("its bias is not constant")
    if inputs[7]:
        refuse("peepholes are not modelled")
