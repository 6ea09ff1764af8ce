"""A model whose tensors can be rounded from outside: behind each one sits a switch that its inputs set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.workload.importers.onnx_recurrent import (
    GATES,
    candidate,
    is_reversed,
    projection,
    resets_before,
    through,
)
from dpred_sim.workload.importers.onnx_runtime import import_onnx

HALF = "rounding_half"
ADDITIONS = ("Add", "Sum")
"""Operators that read a shortcut."""


def switches(
    prefix: str, precision: int | None = None, signed: bool = False, step: float = 1.0
) -> Iterator[tuple[str, NDArray[Any]]]:
    """What the switch `prefix` is fed with: off, or rounding to `precision` bits with `step`."""
    low, high = 0, 0
    if precision is not None:
        low = -(1 << precision - 1) if signed else 0
        high = (1 << precision - signed) - 1
    yield f"{prefix}_on", np.array(precision is not None)
    for part, value in (("scale", step), ("low", low), ("high", high)):
        yield f"{prefix}_{part}", np.array(value, dtype=np.float32)


def with_rounding(
    folded: Any,
    prefixes: Mapping[str, str],
    constants: Sequence[str],
    outputs: Sequence[str],
    exact_shortcuts: bool = False,
) -> Any:
    """The model with a switch behind each tensor in `prefixes`, called PREFIX_out; `constants` can be fed.

    `outputs` are returned besides the rounded tensors. In a recurrence the hidden state is rounded at
    every step. With `exact_shortcuts` additions read what is before the switches.
    """
    onnx, _ = import_onnx()
    helper, kinds = onnx.helper, onnx.TensorProto
    proto = onnx.ModelProto()
    proto.CopyFrom(folded)
    proto.ir_version = max(proto.ir_version, 4)
    constant = {t.name: t for t in proto.graph.initializer}
    proto.graph.initializer.append(helper.make_tensor(HALF, kinds.FLOAT, [], [0.5]))
    nodes = [
        _switch(helper, name, prefixes[name], name + "_rounded")
        for name in dict.fromkeys([*(value.name for value in proto.graph.input), *constant])
        if name in prefixes
    ]
    for node in proto.graph.node:
        if node.op_type in GATES and node.output[0] in prefixes:
            weights = onnx.numpy_helper.to_array(constant[node.input[2]])
            nodes.extend(_unrolled(onnx, proto, node, weights, prefixes))
            continue
        if not (exact_shortcuts and node.op_type in ADDITIONS):
            renamed = [f"{prefixes[name]}_out" if name in prefixes else name for name in node.input]
            del node.input[:]
            node.input.extend(renamed)
        nodes.append(node)
        nodes.extend(
            _switch(helper, name, prefixes[name], name + "_rounded")
            for name in node.output
            if name in prefixes
        )
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del proto.graph.node[:]
    proto.graph.node.extend(copies)
    for prefix in prefixes.values():
        proto.graph.input.append(helper.make_tensor_value_info(f"{prefix}_on", kinds.BOOL, []))
        proto.graph.input.extend(
            helper.make_tensor_value_info(f"{prefix}_{part}", kinds.FLOAT, [])
            for part in ("scale", "low", "high")
        )
    del proto.graph.output[:]
    proto.graph.output.extend(
        helper.make_empty_tensor_value_info(name)
        for name in dict.fromkeys([*(f"{prefix}_out" for prefix in prefixes.values()), *outputs])
    )
    known = {value.name for value in proto.graph.input}
    for tensor in proto.graph.initializer:
        if tensor.name in constants and tensor.name not in known:
            proto.graph.input.append(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    return proto


def _switch(helper: Any, name: str, prefix: str, graph: str, made: str = "") -> Any:
    """A node that passes the tensor `name` on as `made`, rounded or not."""
    own = f"{graph}_{prefix}"
    steps = (
        ("Div", [name, f"{prefix}_scale"], "a"),
        ("Add", [f"{own}_a", HALF], "b"),
        ("Floor", [f"{own}_b"], "c"),
        ("Max", [f"{own}_c", f"{prefix}_low"], "d"),
        ("Min", [f"{own}_d", f"{prefix}_high"], "e"),
        ("Mul", [f"{own}_e", f"{prefix}_scale"], "rounded"),
    )
    rounded = [helper.make_node(kind, inputs, [f"{own}_{out}"]) for kind, inputs, out in steps]
    exact = [helper.make_node("Identity", [name], [f"{own}_exact"])]
    branches = {
        f"{branch}_branch": helper.make_graph(
            body, f"{own}_{branch}", [], [helper.make_empty_tensor_value_info(body[-1].output[0])]
        )
        for branch, body in (("then", rounded), ("else", exact))
    }
    return helper.make_node("If", [f"{prefix}_on"], [made or f"{prefix}_out"], **branches)


def _unrolled(
    onnx: Any, proto: Any, node: Any, weights: NDArray[Any], prefixes: Mapping[str, str]
) -> list[Any]:
    """A recurrence as a Scan over its projected input, so that each hidden state can be rounded."""
    helper, gates = onnx.helper, GATES[node.op_type]
    name, prefix = node.output[0], prefixes[node.output[0]]
    units = weights.shape[-1]
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}

    def constant(key: str, values: Any, dtype: Any = np.float32) -> str:
        key = f"{name}.{key}"
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(values, dtype=dtype), key))
        return key

    # The recurrent matrix stays the constant that it was, so that it can be rounded: gate after gate.
    bias = np.zeros(gates * units, np.float32)
    if len(node.input) > 3 and node.input[3]:
        bias = constants[node.input[3]][0, gates * units :]
    over = constant("over", bias)
    zero = constant("zero", np.zeros((1, units)))
    state = node.input[5] if len(node.input) > 5 else ""
    cell = node.input[6] if len(node.input) > 6 else ""
    rows, rows_of = constant("rows", [1, units], np.int64), constant("all_rows", [-1, units], np.int64)
    nodes, states = [], []
    for what, source in (("h", state), ("c", cell)):
        made = f"{name}.{what}0"
        source = f"{prefixes[source]}_out" if source in prefixes else source
        nodes.append(helper.make_node("Reshape", [source or zero, rows], [made]))
        states.append(made)
    axis = constant("axis", [0], np.int64)
    across = f"{name}.across"
    nodes.append(helper.make_node("Squeeze", [node.input[2], axis], [f"{name}.matrix"]))
    nodes.append(helper.make_node("Transpose", [f"{name}.matrix"], [across], perm=[1, 0]))
    added = projection(node)
    added = f"{prefixes[added]}_out" if added in prefixes else added
    inputs, resets = [added], resets_before(node)
    if resets:
        more = candidate(node)
        inputs.append(f"{prefixes[more]}_out" if more in prefixes else more)
        ends_of_reset = prefixes[through(node)]
    body = _step(helper, node, name, across, over, prefixes, units, constant)
    ends = [f"{name}.h_end", f"{name}.c_end", f"{name}.all", *([f"{name}.r_all"] if resets else [])]
    back = [1] * len(inputs)
    outward = [1] * (len(ends) - 2)
    way = {"scan_input_directions": back, "scan_output_directions": outward} if is_reversed(node) else {}
    nodes.append(
        helper.make_node("Scan", [*states, *inputs], ends, body=body, num_scan_inputs=len(inputs), **way)
    )
    if resets:
        nodes.append(helper.make_node("Reshape", [ends[3], rows_of], [f"{ends_of_reset}_out"]))
    whole = constant("whole", [-1, 1, 1, units], np.int64)
    nodes.append(helper.make_node("Reshape", [ends[2], whole], [f"{prefix}_out"]))
    for index, end in ((1, ends[0]), (2, ends[1])):
        if len(node.output) > index and node.output[index]:
            shape = constant(f"end{index}", [1, 1, units], np.int64)
            made = node.output[index]
            nodes.append(helper.make_node("Reshape", [end, shape], [made]))
            if made in prefixes:
                nodes.append(_switch(helper, made, prefixes[made], f"{made}_rounded"))
    return nodes


def _step(
    helper: Any,
    node: Any,
    name: str,
    across: str,
    over: str,
    prefixes: Mapping[str, str],
    units: int,
    constant: Any,
) -> Any:
    """One step: (h, c, x...) -> (h, c, h...); x holds all gates of a unit side by side."""
    kind, resets = node.op_type, resets_before(node)
    gates = GATES[kind]
    made: list[Any] = []

    def op(kind: str, inputs: Sequence[str], out: str, **attributes: Any) -> str:
        made.append(helper.make_node(kind, list(inputs), [f"{name}.{out}"], **attributes))
        return f"{name}.{out}"

    plain = constant("plain", [1, units], np.int64)

    def by_gate(source: str, count: int, out: str) -> str:
        apart = constant(f"{out}.apart", [1, units, count], np.int64)
        return op("Transpose", [op("Reshape", [source, apart], f"{out}.units")], out, perm=[2, 0, 1])

    def product(state: str, out: str) -> str:
        sums = op("Add", [op("MatMul", [state, across], f"{out}.mm"), over], f"{out}.sum")
        return op("Reshape", [sums, constant(f"{out}.gates", [gates, 1, units], np.int64)], out)

    def gate(source: str, index: int, out: str) -> str:
        place = constant(f"{out}.place", [index], np.int64)
        return op("Reshape", [op("Gather", [source, place], f"{out}.raw", axis=0), plain], out)

    before, cell = f"{name}.h_in", f"{name}.c_in"
    x = by_gate(f"{name}.x_t", 2 if resets else gates, "x_by_gate")
    sums = product(before, "h_by_gate")
    if kind == "LSTM":
        total = op("Add", [x, sums], "gates")
        i, o, f, c = (gate(total, index, f"g{index}") for index in range(4))
        kept = op("Mul", [op("Sigmoid", [f], "forget"), cell], "kept")
        new = op("Mul", [op("Sigmoid", [i], "in"), op("Tanh", [c], "new")], "taken")
        cell = op("Add", [kept, new], "cell")
        state = op("Mul", [op("Sigmoid", [o], "out"), op("Tanh", [cell], "shown")], "state")
    elif kind == "GRU":
        xz, xr = (gate(x, index, f"x{index}") for index in range(2))
        hz, hr = (gate(sums, index, f"p{index}") for index in range(2))
        update = op("Sigmoid", [op("Add", [xz, hz], "z_sum")], "update")
        reset = op("Sigmoid", [op("Add", [xr, hr], "r_sum")], "reset")
        if resets:
            let = op("Mul", [reset, before], "let_through")
            made.append(_switch(helper, let, prefixes[through(node)], f"{name}_reset", f"{name}.r_out"))
            made.append(helper.make_node("Identity", [f"{name}.r_out"], [f"{name}.r_each"]))
            xh = op("Reshape", [f"{name}.xh_t", plain], "x2")
            inner = gate(product(f"{name}.r_out", "r_by_gate"), 2, "p2")
        else:
            xh = gate(x, 2, "x2")
            inner = op("Mul", [reset, gate(sums, 2, "p2")], "h_reset")
        new = op("Tanh", [op("Add", [xh, inner], "n_sum")], "new")
        state = op("Add", [new, op("Mul", [update, op("Sub", [before, new], "less")], "part")], "state")
    else:
        state = op("Tanh", [op("Add", [gate(x, 0, "x0"), gate(sums, 0, "p0")], "r_sum")], "state")
    made.append(_switch(helper, state, prefixes[node.output[0]], f"{name}_step", f"{name}.h_out"))
    made.append(helper.make_node("Identity", [cell], [f"{name}.c_out"]))
    made.append(helper.make_node("Identity", [f"{name}.h_out"], [f"{name}.h_all"]))
    info = helper.make_empty_tensor_value_info
    more = {"in": ["xh_t"], "out": ["r_each"]} if resets else {"in": [], "out": []}
    inputs = [info(f"{name}.{part}") for part in ("h_in", "c_in", "x_t", *more["in"])]
    outputs = [info(f"{name}.{part}") for part in ("h_out", "c_out", "h_all", *more["out"])]
    return helper.make_graph(made, f"{name}.step", inputs, outputs)
