"""The folded graph of an ONNX model: operators, tensors, and what is fused into one layer.

Post-processing of a layer takes all point-wise operators behind it, a residual add and a pooling, as
long as nobody else reads what lies in between. A tensor in between is never stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from heapq import heappop, heappush
from math import prod
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from dpred_sim.errors import InputError
from dpred_sim.workload.importers.onnx_geometry import Positions, pooling
from dpred_sim.workload.importers.onnx_model import Model, Runner, import_onnx
from dpred_sim.workload.importers.onnx_recurrent import expand_recurrent
from dpred_sim.workload.layer import Pool

VIEWS = frozenset({"Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
"""Operators that move or rename values and change none."""

# fmt: off
POINTWISE = frozenset({
    "Abs", "Add", "BatchNormalization", "Cast", "Ceil", "Clip", "Div", "Elu", "Erf", "Exp", "Floor",
    "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Log", "Max", "Min", "Mish", "Mul", "Neg",
    "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Softplus", "Softsign",
    "Sqrt", "Sub", "Sum", "Swish", "Tanh", "ThresholdedRelu",
})
# fmt: on
"""Operators that work on one value at a time; further operands are constants or made of the same tensor."""

LAYERS = frozenset({"Conv", "GRU", "Gemm", "LSTM", "MatMul"})
POOLS = frozenset({"AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool", "ReduceMean"})
CLASSIFIERS = frozenset({"LogSoftmax", "Softmax"})
"""Operators passed over at the end of a network: a class is chosen the same without them."""

SUPPORTED = [name for group in (LAYERS, POOLS, CLASSIFIERS, VIEWS, POINTWISE) for name in sorted(group)]


@dataclass(frozen=True)
class Stored:
    """A tensor that the accelerator stores: called after the layer that writes it."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Value:
    """An ONNX tensor that holds the values of a stored one, in the order `positions`."""

    stored: Stored
    positions: Positions


@dataclass(frozen=True)
class Tail:
    """Where post-processing of a layer ends.

    The ONNX tensor `end` holds what is stored, a tensor of `shape`, in the order `positions`.
    """

    end: str
    positions: Positions
    shape: tuple[int, ...]
    shortcut: Stored | None = None
    pool: dict[str, Any] | None = None


class Graph:
    """Look-ups on the folded graph of a model; shapes are those of a run on `feed`.

    Raises InputError for an operator that is not supported.
    """

    def __init__(self, model: Model, proto: Any, feed: NDArray[Any]) -> None:
        onnx, _ = import_onnx()
        self.path = model.path
        expand_recurrent(self.path, proto)
        self.input = model.spec.name
        self.nodes = list(proto.graph.node)
        self.outputs = [value.name for value in proto.graph.output]
        self.initialisers = {tensor.name: tensor for tensor in proto.graph.initializer}
        self.constants = set(self.initialisers) | {""}
        self.readers: dict[str, list[int]] = {}
        for i, node in enumerate(self.nodes):
            for name in dict.fromkeys(node.input):
                self.readers.setdefault(name, []).append(i)
        self._attribute_value: Callable[[Any], Any] = onnx.helper.get_attribute_value
        self._to_array: Callable[[Any], NDArray[Any]] = onnx.numpy_helper.to_array
        for node in self.nodes:
            if node.domain not in ("", "ai.onnx") or node.op_type not in SUPPORTED:
                self.refuse(node, "unsupported operator")
        names = [self.input, *(name for node in self.nodes for name in node.output if name)]
        # Inferred shapes are not always those that onnxruntime computes (ceil_mode), nor always known.
        self.runner = Runner(self.path, proto)
        values = self.runner.run(names, {self.input: feed})
        self._shapes = {name: tuple(value.shape) for name, value in zip(names, values, strict=True)}

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor."""
        if name in self.initialisers:
            return tuple(self.initialisers[name].dims)
        return self._shapes[name]

    def constant(self, name: str) -> NDArray[Any] | None:
        """Values of a constant; None for a tensor that is not constant."""
        tensor = self.initialisers.get(name)
        return None if tensor is None else self._to_array(tensor)

    def variables(self, node: Any) -> list[str]:
        """The operands of a node that are not constant, each once."""
        return list(dict.fromkeys(name for name in node.input if name not in self.constants))

    def attributes(self, node: Any) -> dict[str, Any]:
        """The attributes of a node by name; strings are decoded."""
        found = {a.name: self._attribute_value(a) for a in node.attribute}
        return {key: v.decode() if isinstance(v, bytes) else v for key, v in found.items()}

    def refuse(self, node: Any, reason: str) -> NoReturn:
        """Raise InputError that names file, node and operator, and what is supported."""
        domain = f"{node.domain}." if node.domain not in ("", "ai.onnx") else ""
        raise InputError(
            reason,
            file=self.path,
            field=f"node {node.name or node.output[0]!r}",
            found=f"{domain}{node.op_type}",
            allowed=SUPPORTED,
        )

    def is_unary(self, node: Any, among: Mapping[str, Positions]) -> bool:
        """Whether the node makes one tensor, value by value, from tensors in `among`."""
        operands = self.variables(node)
        if not operands or any(name not in among for name in operands):
            return False
        if node.op_type in VIEWS:
            return len(operands) == 1
        if node.op_type not in POINTWISE or (node.op_type == "PRelu" and node.input[1] in operands):
            return False
        shape = self.shape(node.output[0])
        first = among[operands[0]]
        return all(self.shape(name) == shape and _same_positions(among[name], first) for name in operands)

    def moved(self, node: Any, positions: Positions) -> Positions:
        """Positions of the node's output, given those of its operand."""
        if node.op_type == "Transpose":
            return positions.transpose(self.attributes(node).get("perm"))
        if node.op_type in VIEWS:
            shape = self.shape(node.output[0])
            if prod(shape) != positions.size:
                self.refuse(node, "changes the number of values")
            return positions.reshape(shape)
        return positions


class Fusion:
    """Finds the tail of a layer. `values` are the tensors stored so far."""

    def __init__(self, graph: Graph, values: Mapping[str, Value]) -> None:
        self.graph = graph
        self.values = values

    def tail(
        self, start: str, positions: Positions, shape: tuple[int, ...], *, add: bool, pool: bool
    ) -> Tail:
        """The longest tail of a layer that computes the tensor `start` of `shape`.

        `add` allows one residual add, `pool` one pooling behind it.
        """
        end, positions = self._pointwise(start, positions)
        shortcut = self._shortcut(end, positions, shape) if add else None
        if shortcut is not None:
            end, positions = self._pointwise(self._only_reader(end).output[0], positions)
        node = self._only_reader(end)
        if pool and node is not None and node.op_type in POOLS:
            fused = pooling(self.graph, node, shape, positions)
            if fused is not None:
                end, positions = self._pointwise(node.output[0], fused[1])
                pooled = (*pooled_size(fused[0], shape), shape[2])
                return Tail(end, positions, pooled, shortcut, fused[0])
        return Tail(end, positions, shape, shortcut)

    def softmax(self, found: Tail) -> Tail:
        """A tail, and the softmax over the last axis behind it: post-processing of whole rows."""
        node = self._only_reader(found.end)
        if node is None or node.op_type != "Softmax" or found.shortcut is not None:
            return found
        axes = len(self.graph.shape(found.end))
        if self.graph.attributes(node).get("axis", -1) not in (-1, axes - 1):
            return found
        end, positions = self._pointwise(node.output[0], found.positions)
        return Tail(end, positions, found.shape)

    def _shortcut(self, end: str, positions: Positions, shape: tuple[int, ...]) -> Stored | None:
        """The stored tensor that is added to `end`, if that add can be fused."""
        node = self._only_reader(end)
        if node is None or not is_residual_add(self.graph, node):
            return None
        (other,) = set(self.graph.variables(node)) - {end}
        value = self.values.get(other)
        if value is None or self.graph.shape(end) != self.graph.shape(other):
            return None
        fits = value.stored.shape == shape and _same_positions(value.positions, positions)
        return value.stored if fits else None

    def _only_reader(self, name: str) -> Any:
        readers = self.graph.readers.get(name, [])
        return self.graph.nodes[readers[0]] if len(readers) == 1 and name not in self.graph.outputs else None

    def _pointwise(self, start: str, positions: Positions) -> tuple[str, Positions]:
        """The last tensor that all paths from `start` pass, through point-wise operators only."""
        graph = self.graph
        region = {start: positions}
        above: dict[str, set[str]] = {start: set()}
        queue = list(graph.readers.get(start, []))
        queue.sort()
        seen = set(queue)
        while queue:
            index = heappop(queue)
            node = graph.nodes[index]
            if not graph.is_unary(node, region):
                continue
            operands = graph.variables(node)
            made = node.output[0]
            region[made] = graph.moved(node, region[operands[0]])
            above[made] = set(operands).union(*(above[name] for name in operands))
            for reader in graph.readers.get(made, []):
                if reader not in seen:
                    seen.add(reader)
                    heappush(queue, reader)
        for end in reversed(list(region)):
            inside = above[end] | {end}
            if all(self._stays_inside(name, inside) for name in above[end]):
                return end, region[end]
        return start, positions

    def _stays_inside(self, name: str, inside: set[str]) -> bool:
        readers = (self.graph.nodes[i] for i in self.graph.readers.get(name, []))
        return name not in self.graph.outputs and all(node.output[0] in inside for node in readers)


def is_residual_add(graph: Graph, node: Any) -> bool:
    """Whether the node adds two tensors, neither of which is constant."""
    return node.op_type in ("Add", "Sum") and len(node.input) == 2 and len(graph.variables(node)) == 2


def pooled_size(pool: dict[str, Any], shape: tuple[int, ...]) -> tuple[int, int]:
    """(height, width) of an (H, W, C) tensor after pooling."""
    return Pool(**pool).output_size(shape[0], shape[1])


def _same_positions(a: Positions, b: Positions) -> bool:
    return a is b or (a.shape == b.shape and np.array_equal(a, b))
