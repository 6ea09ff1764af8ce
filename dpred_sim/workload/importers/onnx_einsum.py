"""Einsum as products: an equation of two operands is Transpose, Reshape and MatMul.

More operands are taken from left to right, two at a time. An equation that sums nothing is a Mul of the
operands, and one of a single operand a Transpose or a ReduceSum.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from dpred_sim.errors import InputError
from dpred_sim.workload.importers.onnx_flatten import replace_nodes
from dpred_sim.workload.importers.onnx_runtime import import_onnx

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Equation:
    """Labels of the operands' axes and of the output's, ellipses written out."""

    operands: tuple[str, ...]
    output: str

    @classmethod
    def of(cls, node: Any, ranks: Sequence[int]) -> Equation:
        """The equation of a node whose operands have these ranks; raises ValueError for a wrong one."""
        text = next(item.s.decode() for item in node.attribute if item.name == "equation").replace(" ", "")
        left, arrow, output = text.partition("->")
        operands = left.split(",")
        # Axes of an ellipsis get labels that are no letters, aligned at the last.
        named = [len(labels.replace("...", "")) for labels in operands]
        count = max((r - n for r, n, o in zip(ranks, named, operands, strict=True) if "..." in o), default=0)
        extra = "".join(chr(0x100 + i) for i in range(count))
        made = []
        for labels, rank, names in zip(operands, ranks, named, strict=True):
            spread = extra[count - (rank - names) :] if rank > names else ""
            made.append(labels.replace("...", spread))
            if len(made[-1]) != rank:
                raise ValueError(f"{labels!r} is not of rank {rank}")
        if not arrow:
            letters = sorted(set(left) - set(",."))
            output = "..." * ("..." in left) + "".join(x for x in letters if left.count(x) == 1)
        return cls(tuple(made), output.replace("...", extra))

    def steps(self) -> list[tuple[str, str, str]]:
        """The products from left to right: labels of both operands, and of what they make."""
        found, left = [], self.operands[0]
        for index, right in enumerate(self.operands[1:], 1):
            later = set(self.output).union(*self.operands[index + 1 :])
            last = index == len(self.operands) - 1
            made = self.output if last else "".join(x for x in dict.fromkeys(left + right) if x in later)
            found.append((left, right, made))
            left = made
        return found

    def macs(self, shapes: Sequence[Shape]) -> list[int]:
        """Multiply-accumulates of each step; zero for one that sums nothing over both operands."""
        sizes: dict[str, int] = {}
        for labels, shape in zip(self.operands, shapes, strict=True):
            for label, size in zip(labels, shape, strict=True):
                sizes[label] = max(sizes.get(label, 1), size)
        counts = []
        for left, right, made in self.steps():
            # What one operand alone sums is summed before.
            both = {x for x in left + right if x in made or (x in left and x in right)}
            counts.append(prod(sizes[x] for x in both) if both - set(made) else 0)
        return counts


class Rewriting:
    """Replaces every Einsum of a model, in place. `shapes` gives the shapes of tensors by name."""

    def __init__(
        self, path: Path, proto: Any, shapes: Callable[[Sequence[str]], Mapping[str, Shape]]
    ) -> None:
        self.onnx, _ = import_onnx()
        self.path, self.proto = path, proto
        self.opset = max(o.version for o in proto.opset_import if o.domain in ("", "ai.onnx"))
        self.nodes: list[Any] = []
        asked = [name for node in proto.graph.node if _is_einsum(node) for name in node.input]
        if not asked:
            return
        known = shapes(asked)
        for node in proto.graph.node:
            if _is_einsum(node):
                self._rewrite(node, [known[name] for name in node.input])
            else:
                self.nodes.append(node)
        replace_nodes(proto, self.nodes)

    def _refuse(self, node: Any, reason: str) -> NoReturn:
        field = f"node {node.name or node.output[0]!r}"
        raise InputError(reason, file=self.path, field=field, found=node.op_type)

    def _node(self, kind: str, inputs: Sequence[str], output: str, name: str = "", **attributes: Any) -> str:
        name = name or output
        self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), [output], name=name, **attributes))
        return output

    def _numbers(self, name: str, values: Sequence[int]) -> str:
        array = np.asarray(values, dtype=np.int64)
        self.proto.graph.initializer.append(self.onnx.numpy_helper.from_array(array, name))
        return name

    def _rewrite(self, node: Any, shapes: Sequence[Shape]) -> None:
        try:
            equation = Equation.of(node, [len(shape) for shape in shapes])
        except ValueError as error:
            self._refuse(node, f"the equation does not fit its operands: {error}")
        if any(len(set(labels)) < len(labels) for labels in (*equation.operands, equation.output)):
            self._refuse(node, "a diagonal (one label twice in an operand) is not modelled: take it before")
        output, name = node.output[0], node.name or node.output[0]
        left, labels, shape = node.input[0], equation.operands[0], shapes[0]
        if len(node.input) == 1:
            self._alone(left, labels, equation.output, output)
            return
        steps = equation.steps()
        for index, (_, right, made) in enumerate(steps):
            last = index == len(steps) - 1
            target = output if last else f"{output}.{index}"
            sizes = _sizes((labels, shape), (right, shapes[index + 1]))
            self._step(
                (left, labels),
                (node.input[index + 1], right),
                made,
                target,
                sizes,
                name if last else f"{target}.product",
            )
            left, labels, shape = target, made, tuple(sizes[x] for x in made)

    def _step(
        self,
        first: tuple[str, str],
        second: tuple[str, str],
        made: str,
        target: str,
        sizes: Mapping[str, int],
        name: str,
    ) -> None:
        """One product of two operands (name, labels)."""
        operands = []
        for index, ((source, own), (_, other)) in enumerate(((first, second), (second, first))):
            kept = "".join(x for x in own if x in made or x in other)
            place = f"{target}.operand{index}"
            operands.append((self._alone(source, own, kept, place) if kept != own else source, kept))
        la, lb = (labels for _, labels in operands)
        batch = "".join(x for x in la if x in lb and x in made)
        depth = "".join(x for x in la if x in lb and x not in made)
        rows = "".join(x for x in la if x not in lb)
        columns = "".join(x for x in lb if x not in la)
        if not depth:
            order = "".join(dict.fromkeys(la + lb))
            spread = [
                self._spread(source, own, order, f"{target}.{i}", sizes)
                for i, (source, own) in enumerate(operands)
            ]
            self._alone(self._node("Mul", spread, f"{target}.mul", name), order, made, target)
            return
        parts = (batch, rows, depth), (batch, depth, columns)
        laid = [
            self._laid_out(source, own, part, f"{target}.{i}", sizes)
            for i, ((source, own), part) in enumerate(zip(operands, parts, strict=True))
        ]
        product = self._node("MatMul", laid, f"{target}.product", name)
        form = [sizes[x] for x in batch + rows + columns]
        shaped = self._node("Reshape", [product, self._numbers(f"{target}.form", form)], f"{target}.shaped")
        self._alone(shaped, batch + rows + columns, made, target)

    def _laid_out(
        self, source: str, labels: str, parts: Sequence[str], made: str, sizes: Mapping[str, int]
    ) -> str:
        """An operand as (batch..., one axis, one axis), as MatMul reads it."""
        order = "".join(parts)
        moved = self._alone(source, labels, order, f"{made}.moved") if order != labels else source
        form = [*(sizes[x] for x in parts[0]), *(prod(sizes[x] for x in part) for part in parts[1:])]
        return self._node("Reshape", [moved, self._numbers(f"{made}.form", form)], f"{made}.laid_out")

    def _spread(self, source: str, labels: str, order: str, made: str, sizes: Mapping[str, int]) -> str:
        """An operand with an axis of 1 for each label that it has not."""
        own = "".join(x for x in order if x in labels)
        moved = self._alone(source, labels, own, f"{made}.moved") if own != labels else source
        form = [sizes[x] if x in labels else 1 for x in order]
        return self._node("Reshape", [moved, self._numbers(f"{made}.form", form)], f"{made}.spread")

    def _alone(self, source: str, labels: str, wanted: str, target: str) -> str:
        """One operand: axes that are not wanted are summed, the others put in order."""
        summed = [i for i, label in enumerate(labels) if label not in wanted]
        if summed:
            made = f"{target}.sum"
            if self.opset < 13:
                self._node("ReduceSum", [source], made, axes=summed, keepdims=0)
            else:
                axes = self._numbers(f"{made}.axes", summed)
                self._node("ReduceSum", [source, axes], made, keepdims=0)
            source, labels = made, "".join(x for x in labels if x in wanted)
        if labels == wanted:
            return self._node("Identity", [source], target)
        return self._node("Transpose", [source], target, perm=[labels.index(x) for x in wanted])


def _is_einsum(node: Any) -> bool:
    return node.op_type == "Einsum" and node.domain in ("", "ai.onnx")


def _sizes(*operands: tuple[str, Shape]) -> dict[str, int]:
    """The size of each label."""
    sizes: dict[str, int] = {}
    for labels, shape in operands:
        for label, size in zip(labels, shape, strict=True):
            sizes[label] = max(sizes.get(label, 1), size)
    return sizes
