"""What the input has no part in is computed once: weights made of constants, and what shapes decide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dpred_sim.workload.importers.onnx_flatten import replace_nodes
from dpred_sim.workload.importers.onnx_runtime import Feeds, Runner, import_onnx

SIZED_BY_VALUES = frozenset({"Compress", "NonMaxSuppression", "NonZero", "Unique"})
"""Operators whose values decide how many they give."""

SIZED_BY_OPERANDS = {
    "ConstantOfShape": 0, "Expand": 1, "OneHot": 1, "Pad": 1, "Range": 0, "Reshape": 1, "Resize": 1,
    "Slice": 1, "Tile": 1, "TopK": 1,
}  # fmt: skip
"""Operators that give a shape which their operands from this one on decide."""


def fold_fixed(path: Path, proto: Any, feed: Feeds) -> None:
    """Make constants, in place, of what only constants and shapes decide. Raises InputError."""
    onnx, _ = import_onnx()
    fixed = {tensor.name for tensor in proto.graph.initializer} | {""}
    constant = len(fixed)
    open_ended: set[str] = set()
    kept = []
    for node in proto.graph.node:
        made = [name for name in node.output if name]
        if _is_open_ended(node, fixed, open_ended):
            open_ended.update(made)
        of_shape = node.op_type in ("Shape", "Size") and node.input[0] not in open_ended
        if (of_shape or all(name in fixed for name in node.input)) and not _is_drawn(node):
            fixed.update(made)
        else:
            kept.append(node)
    if len(fixed) == constant:
        return
    makers = {name: node for node in proto.graph.node for name in node.output if name}
    read = [name for node in kept for name in node.input] + [value.name for value in proto.graph.output]
    wanted = [name for name in dict.fromkeys(read) if name in fixed and name in makers]
    values = Runner(path, proto, wanted).run(wanted, feed)
    for name, array in zip(wanted, values, strict=True):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    replace_nodes(proto, kept)
    used = {name for node in kept for name in node.input} | {value.name for value in proto.graph.output}
    for index in reversed(range(len(proto.graph.initializer))):
        if proto.graph.initializer[index].name not in used:
            del proto.graph.initializer[index]


def _is_drawn(node: Any) -> bool:
    return node.op_type.startswith("Random") or node.op_type in ("Bernoulli", "Multinomial")


def _is_open_ended(node: Any, fixed: set[str], open_ended: set[str]) -> bool:
    """Whether values that are fed decide the shape of what a node gives."""
    if node.op_type in SIZED_BY_VALUES or any(name in open_ended for name in node.input):
        return True
    first = SIZED_BY_OPERANDS.get(node.op_type)
    return first is not None and any(name not in fixed for name in node.input[first:])
