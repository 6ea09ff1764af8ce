"""From a folded ONNX graph to layers: shapes, weights, and which ONNX tensor holds what is stored."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from dpred_sim.errors import InputError
from dpred_sim.workload.importers.onnx_geometry import Positions, channel_last, conv_geometry, pooling
from dpred_sim.workload.importers.onnx_graph import (
    CLASSIFIERS,
    POINTWISE,
    POOLS,
    VIEWS,
    Fusion,
    Graph,
    Stored,
    Tail,
    Value,
    is_residual_add,
    pooled_size,
)
from dpred_sim.workload.importers.onnx_recurrent import GATES, by_unit, projection
from dpred_sim.workload.network import INPUT

Renames = Sequence[tuple[str, str]]
"""Pairs (regular expression, replacement) that make layer names of the names in the file."""


@dataclass(frozen=True)
class Weights:
    """Weights of a layer: `values` is channel last, `factor` times the constant `source` of the graph."""

    values: NDArray[np.float32]
    source: str
    factor: float = 1.0


@dataclass(frozen=True)
class Planned:
    """A layer to be, or the network's input (without settings).

    The ONNX tensor `tensor` holds what the layer stores, a tensor of `shape`, in the order `positions`.
    `settings` is JSON-ready: kind, operator, reads, and shortcut, stride, padding, dilation, groups,
    pool where they apply.
    """

    name: str
    settings: dict[str, Any]
    shape: tuple[int, ...]
    tensor: str
    positions: Positions
    weights: Weights | None = None


@dataclass(frozen=True)
class Plan:
    """The network's input and its layers in execution order.

    `outputs` names the stored tensors that the network returns, those before a final softmax.
    """

    layers: list[Planned]
    outputs: list[str]


def plan_layers(graph: Graph, renames: Renames = ()) -> Plan:
    """The layers of a graph; raises InputError for what no layer can be made of."""
    return _Planner(graph, renames).plan()


class _Planner:
    def __init__(self, graph: Graph, renames: Renames) -> None:
        self.graph = graph
        self.renames = [(re.compile(pattern), text) for pattern, text in renames]
        self.values: dict[str, Value] = {}
        self.planned: list[Planned] = []
        self.done: set[str] = set()
        self.fusion = Fusion(graph, self.values)
        self.makers = {name: node for node in graph.nodes for name in node.output}

    def plan(self) -> Plan:
        graph = self.graph
        self._input()
        for node in graph.nodes:
            if node.output[0] not in self.done:
                self._layer(node)
        if not any(layer.weights for layer in self.planned):
            raise InputError("the model has no convolution and no fully connected layer", file=graph.path)
        outputs = []
        for name in graph.outputs:
            if name not in self.values:
                raise InputError("an output of the model is not that of a layer", file=graph.path, field=name)
            outputs.append(self.values[name].stored.name)
        return Plan(self.planned, list(dict.fromkeys(outputs)))

    def _layer(self, node: Any) -> None:
        operands = self.graph.variables(node)
        if node.op_type in CLASSIFIERS:
            self._classifier(node)
        elif node.op_type == "Conv":
            self._conv(node)
        elif node.op_type == "MatMul" and len(operands) == 2:
            self._product(node)
        elif node.op_type in ("Gemm", "MatMul"):
            self._linear(node)
        elif node.op_type in GATES:
            self._recurrent(node)
        elif node.op_type in POOLS:
            self._pool(node)
        elif is_residual_add(self.graph, node) or (node.op_type in POINTWISE and len(operands) == 1):
            self._elementwise(node, operands)
        elif not operands:
            self._refuse(node, "a constant that cannot be folded")
        elif len(operands) > 1:
            self._refuse(node, "combines tensors: only an Add of two of the same shape can be modelled")
        else:
            self._refuse(node, "changes the order of values that no layer has stored")

    def _refuse(self, node: Any, reason: str) -> NoReturn:
        self.graph.refuse(node, reason)

    # Tensors

    def _input(self) -> None:
        """The tensor that the network reads: point-wise operators on it are preprocessing."""
        graph = self.graph
        shape = graph.shape(graph.input)
        flat = np.arange(prod(shape), dtype=np.int32).reshape(shape)
        tail = self.fusion.tail(graph.input, flat, shape, add=False, pool=False)
        order = self._input_order(tail)
        place = np.empty(flat.size, dtype=np.int32)
        place[order.ravel()] = np.arange(flat.size, dtype=np.int32)
        self._store(INPUT, Tail(tail.end, place[tail.positions], order.shape), {}, None)

    def _input_order(self, tail: Tail) -> Positions:
        """The input's values in stored order: channel last, as its first reader sees it."""
        name, positions = tail.end, tail.positions
        readers = self.graph.readers.get(name, [])
        while readers and self.graph.nodes[readers[0]].op_type in VIEWS:
            node = self.graph.nodes[readers[0]]
            name, positions = node.output[0], self.graph.moved(node, positions)
            readers = self.graph.readers.get(name, [])
        if positions.ndim == 4:
            return np.moveaxis(positions[0], 0, -1)
        if positions.ndim in (2, 3):
            return positions.reshape(-1, positions.shape[-1])
        raise InputError(
            "the model's input is neither an image nor rows of numbers",
            file=self.graph.path,
            found=f"shape {positions.shape}",
            allowed="(1, C, H, W), (1, H, W, C), (T, C) or (1, T, C)",
        )

    def _store(self, name: str, tail: Tail, settings: dict[str, Any], weights: Weights | None) -> None:
        """Enter a stored tensor, with what is fused into it and all views of it."""
        stored = Stored(name, tail.shape)
        settings = {key: value for key, value in settings.items() if value is not None}
        if tail.shortcut is not None:
            settings["shortcut"] = tail.shortcut.name
        if tail.pool is not None:
            settings["pool"] = tail.pool
        self.planned.append(Planned(name, settings, tail.shape, tail.end, tail.positions, weights))
        self._mark_done(tail.end)
        self._view(tail.end, Value(stored, tail.positions))

    def _view(self, name: str, value: Value) -> None:
        """Enter an ONNX tensor that holds a stored one, and all views of it."""
        self.values[name] = value
        pending = [name]
        while pending:
            source = pending.pop()
            for index in self.graph.readers.get(source, []):
                node = self.graph.nodes[index]
                made = node.output[0]
                if node.op_type in VIEWS and made not in self.values:
                    positions = self.graph.moved(node, self.values[source].positions)
                    self.values[made] = Value(value.stored, positions)
                    self.done.add(made)
                    pending.append(made)

    def _mark_done(self, end: str) -> None:
        """Neither `end` nor what it is made of needs a layer any more."""
        pending = [end]
        while pending:
            name = pending.pop()
            if name in self.makers and name not in self.done:
                self.done.add(name)
                pending.extend(self.graph.variables(self.makers[name]))

    def _read(self, node: Any, name: str) -> Value:
        if name not in self.values:
            self._refuse(node, f"reads {name!r}, which no layer stores")
        return self.values[name]

    def _constant(self, node: Any, name: str) -> NDArray[np.float32]:
        """The weights of a layer; refuses what is not constant, not floating point or not finite."""
        array = self.graph.constant(name)
        if array is None:
            self._refuse(node, "multiplies two activations: only constant weights can be modelled")
        if array.dtype.kind != "f":
            self._refuse(node, f"its weights are {array.dtype}, not floating point")
        array = array.astype(np.float32)
        if not np.isfinite(array).all():
            self._refuse(node, "its weights are not all finite (NaN or infinity)")
        return array

    def _name(self, node: Any) -> str:
        """A name for the layer of a node: that of the node, else of its tensor; unique."""
        known = {layer.name for layer in self.planned} | {INPUT}
        name = node.name.removesuffix("/MatMulAddFusion") or node.output[0]
        for pattern, text in self.renames:
            if pattern.search(node.output[0]):
                name = pattern.sub(text, node.output[0])
                break
        name = name.strip("/") or "layer"
        unique, count = name, 2
        while unique in known:
            unique, count = f"{name}_{count}", count + 1
        return unique

    # Layers

    def _conv(self, node: Any) -> None:
        graph = self.graph
        value = self._read(node, node.input[0])
        if value.positions.ndim != 4 or len(value.stored.shape) != 3:
            self._refuse(node, f"only images can be convolved, not activations of {value.positions.shape}")
        if not np.array_equal(value.positions, channel_last(*value.stored.shape)):
            self._refuse(node, f"reads the tensor of {value.stored.name!r} in another layout")
        weights = self._constant(node, node.input[1])
        height, width, _ = value.stored.shape
        geometry = conv_geometry(graph, node, (weights.shape[2], weights.shape[3]), (height, width))
        _, filters, rows, columns = graph.shape(node.output[0])
        positions = channel_last(rows, columns, filters)
        tail = self.fusion.tail(node.output[0], positions, (rows, columns, filters), add=True, pool=True)
        settings = {"kind": "conv", "operator": "Conv", "reads": value.stored.name, **geometry}
        values = np.ascontiguousarray(weights.transpose(0, 2, 3, 1))
        self._store(self._name(node), tail, settings, Weights(values, node.input[1]))

    def _linear(self, node: Any) -> None:
        graph = self.graph
        if node.input[0] in graph.constants:
            self._refuse(node, "its first operand is constant: only constant second operands can be modelled")
        weights = self._constant(node, node.input[1])
        value = self._read(node, node.input[0])
        attributes = graph.attributes(node)
        if attributes.get("transA", 0):
            self._refuse(node, "transposed activations (transA=1) cannot be modelled")
        if weights.ndim != 2:
            self._refuse(node, f"weights of {weights.ndim} dimensions cannot be modelled")
        if not attributes.get("transB", 0):
            weights = weights.T
        filters, inputs = weights.shape
        factor = float(attributes.get("alpha", 1.0))
        values = np.empty((filters, inputs), dtype=np.float32)
        values[:, self._row_order(node, value, inputs)] = weights
        if factor != 1:
            values *= np.float32(factor)
        rows = value.positions.size // inputs
        flat = np.arange(rows * filters, dtype=np.int32).reshape(graph.shape(node.output[0]))
        tail = self.fusion.tail(node.output[0], flat, (rows, filters), add=True, pool=False)
        settings = {"kind": "linear", "operator": node.op_type, "reads": value.stored.name}
        self._store(self._name(node), tail, settings, Weights(values, node.input[1], factor))

    def _product(self, node: Any) -> None:
        """A product of two activations, all heads in one layer."""
        graph = self.graph
        first, second = (self._read(node, name) for name in node.input)
        out = graph.shape(node.output[0])
        if first.positions.ndim < 2 or first.positions.shape[:-2] != second.positions.shape[:-2]:
            self._refuse(node, "multiplies two activations of different heads")
        groups = prod(out[:-2])
        rows, depth = first.positions.shape[-2:]
        columns = out[-1]
        if not _by_heads(first, groups, rows, depth, False):
            self._refuse(node, f"reads the tensor of {first.stored.name!r} in another layout")
        transposed = _by_heads(second, groups, depth, columns, False)
        if not transposed and not _by_heads(second, groups, columns, depth, True):
            self._refuse(node, f"reads the tensor of {second.stored.name!r} in another layout")
        flat = np.arange(rows * groups * columns, dtype=np.int32).reshape(rows, groups, columns)
        positions = flat.transpose(1, 0, 2).reshape(out)
        shape = (rows, groups * columns)
        tail = self.fusion.tail(node.output[0], positions, shape, add=True, pool=False)
        settings = {
            "kind": "matmul",
            "operator": "MatMul",
            "reads": first.stored.name,
            "second": second.stored.name,
            "transposed": transposed,
            "groups": groups,
        }
        self._store(self._name(node), self.fusion.softmax(tail), settings, None)

    def _recurrent(self, node: Any) -> None:
        """The steps of an LSTM or GRU; its input projection is a layer already."""
        graph = self.graph
        if len(node.output) > 2 and node.output[2] in (*graph.readers, *graph.outputs):
            self._refuse(node, "its cell state is read, which is not stored")
        value = self._read(node, projection(node))
        gates = GATES[node.op_type]
        out = graph.shape(node.output[0])
        steps, units = out[0], out[-1]
        if out[1:3] != (1, 1):
            self._refuse(node, "only batch 1 is modelled")
        weights = Weights(by_unit(self._constant(node, node.input[2])[0], gates), node.input[2])
        flat = np.arange(steps * units, dtype=np.int32).reshape(out)
        name = self._name(node)
        settings = {
            "kind": "recurrence",
            "operator": node.op_type,
            "reads": value.stored.name,
            "gates": gates,
        }
        self._store(name, Tail(node.output[0], flat, (steps, units)), settings, weights)
        if len(node.output) > 1 and node.output[1]:
            last = Stored(f"{name}.h[{steps - 1}]", (1, units))
            flat = np.arange(units, dtype=np.int32).reshape(graph.shape(node.output[1]))
            self._view(node.output[1], Value(last, flat))

    def _row_order(self, node: Any, value: Value, inputs: int) -> Positions:
        """Where the value for each column of the weights lies in a row of the stored tensor."""
        table = value.positions.reshape(-1, inputs)
        rows = table.shape[0]
        order: Positions = table[0]
        offsets = inputs * np.arange(rows, dtype=np.int32)[:, None]
        in_rows = rows == 1 or value.stored.shape == (rows, inputs)
        if not in_rows or not np.array_equal(table, order + offsets):
            self._refuse(node, f"reads the tensor of {value.stored.name!r} in another layout")
        return order

    def _pool(self, node: Any) -> None:
        value = self._read(node, node.input[0])
        shape = value.stored.shape
        found = pooling(self.graph, node, shape, value.positions)
        if found is None:
            self._refuse(node, "only pooling over the rows and columns of an image can be modelled")
        pool, positions = found
        out = (*pooled_size(pool, shape), shape[2])
        tail = self.fusion.tail(node.output[0], positions, out, add=False, pool=False)
        settings = {"kind": "pool", "operator": node.op_type, "reads": value.stored.name, "pool": pool}
        self._store(self._name(node), tail, settings, None)

    def _elementwise(self, node: Any, operands: list[str]) -> None:
        """A memory layer: what nobody can fuse."""
        first = self._read(node, operands[0])
        others = [self._read(node, name) for name in operands[1:]]
        if len(first.stored.shape) != 3:
            self._refuse(node, "cannot be fused behind a layer, and its operand is not an image")
        for other in others:
            same = other.stored.shape == first.stored.shape
            if not same or not np.array_equal(other.positions, first.positions):
                self._refuse(node, f"adds {other.stored.name!r}, a tensor of another shape or layout")
        if self.graph.shape(node.output[0]) != first.positions.shape:
            self._refuse(node, "changes the shape of its operand")
        shape = first.stored.shape
        tail = self.fusion.tail(node.output[0], first.positions, shape, add=not others, pool=False)
        settings = {"kind": "add", "operator": node.op_type, "reads": first.stored.name}
        if others:
            settings["shortcut"] = others[0].stored.name
        self._store(self._name(node), tail, settings, None)

    def _classifier(self, node: Any) -> None:
        """A softmax that only outputs of the graph follow is passed over."""
        value = self._read(node, node.input[0])
        pending = [node.output[0]]
        while pending:
            name = pending.pop()
            self.values[name] = value
            self.done.add(name)
            for index in self.graph.readers.get(name, []):
                reader = self.graph.nodes[index]
                if reader.op_type not in VIEWS:
                    self._refuse(node, "can be passed over at the end of a network only")
                pending.append(reader.output[0])


def _by_heads(value: Value, groups: int, rows: int, columns: int, swapped: bool) -> bool:
    """Whether (groups, rows, columns) are the channel groups of a stored (rows, groups * columns)."""
    if value.stored.shape != (rows, groups * columns):
        return False
    flat = np.arange(rows * groups * columns, dtype=np.int32).reshape(rows, groups, columns)
    wanted = flat.transpose(1, 2, 0) if swapped else flat.transpose(1, 0, 2)
    return np.array_equal(value.positions.reshape(wanted.shape), wanted)
