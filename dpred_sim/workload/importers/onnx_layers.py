"""From a folded ONNX graph to layers: shapes, weights, and which ONNX tensor holds what is stored."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from dpred_sim.errors import InputError
from dpred_sim.workload.importers.onnx_fusion import (
    Fusion,
    Stored,
    Tail,
    Value,
    is_residual_add,
    pooled_size,
)
from dpred_sim.workload.importers.onnx_geometry import (
    Phases,
    Windows,
    conv_settings,
    is_direct,
    phases,
    pooling,
    unfolded,
    unfolded_weights,
    windows,
)
from dpred_sim.workload.importers.onnx_graph import Graph
from dpred_sim.workload.importers.onnx_ops import CLASSIFIERS, DYNAMIC, POOLS, VIEWS
from dpred_sim.workload.importers.onnx_quantised import Native, native_of
from dpred_sim.workload.importers.onnx_recurrent import GATES, by_unit, is_reversed, projection
from dpred_sim.workload.importers.onnx_views import Positions, channel_last, image_of, in_order, moved, same
from dpred_sim.workload.network import INPUT

Renames = Sequence[tuple[str, str]]
"""Pairs (regular expression, replacement) that make layer names of the names in the file."""


@dataclass(frozen=True)
class Weights:
    """Weights of a layer: `factor` times the constant `source` of the graph, which `make` brings into order.

    They are made when they are looked at, so that they are not in memory twice.
    """

    make: Callable[[NDArray[np.float32]], NDArray[np.float32]]
    constant: Callable[[], NDArray[np.float32]]
    source: str
    factor: float = 1.0
    native: Native | None = None

    @property
    def values(self) -> NDArray[np.float32]:
        """The weights, channel last."""
        return self.make(self.constant())


@dataclass(frozen=True)
class Planned:
    """A layer to be, or a tensor that is there at the start (kind `given`; the input has no settings).

    The ONNX tensor `tensor` holds what the layer stores, a tensor of `shape`: value i of it lies at
    `positions[i]`, or where there is `gather`, stored value j comes from `gather[j]` (-1: zero).
    `settings` is JSON-ready: kind, operator, reads, and shortcut, stride, padding, dilation, groups,
    pool, parts where they apply.
    """

    name: str
    settings: dict[str, Any]
    shape: tuple[int, ...]
    tensor: str
    positions: Positions
    weights: Weights | None = None
    gather: Positions | None = None
    native: Native | None = None

    @property
    def is_stored(self) -> bool:
        """Whether it has values of its own; what several layers write side by side has not."""
        return self.settings.get("kind") != "concat"

    def arrange(self, value: NDArray[Any]) -> NDArray[np.float32]:
        """The stored tensor, given the ONNX tensor."""
        flat = value.reshape(-1)
        if self.gather is not None:
            kept = np.where(self.gather < 0, 0, flat[self.gather]).astype(np.float32, copy=False)
            return kept.reshape(self.shape)
        stored = np.zeros(prod(self.shape), dtype=np.float32)
        stored[self.positions.reshape(-1)] = flat
        return stored.reshape(self.shape)


@dataclass(frozen=True)
class Plan:
    """The network's input and its layers in execution order.

    `outputs` names the stored tensors that the network returns, those before a final softmax.
    """

    layers: list[Planned]
    outputs: list[str]


def plan_layers(graph: Graph, renames: Renames = (), natives: Mapping[str, Native] | None = None) -> Plan:
    """The layers of a graph; raises InputError for what no layer can be made of.

    `natives` are the formats of tensors that the model stores in 8 bits.
    """
    return _Planner(graph, renames, natives or {}).plan()


class _Planner:
    def __init__(self, graph: Graph, renames: Renames, natives: Mapping[str, Native]) -> None:
        self.graph = graph
        self.natives = natives
        self.renames = [(re.compile(pattern), text) for pattern, text in renames]
        self.values: dict[str, Value] = {}
        self.planned: list[Planned] = []
        self.names: set[str] = {INPUT}
        self.done: set[str] = set(graph.control)
        self.fusion = Fusion(graph, self.values)
        self.joins: dict[str, tuple[str, ...]] = {}
        self.relaid: dict[tuple[str, tuple[int, ...], bytes], Value] = {}

    def plan(self) -> Plan:
        graph = self.graph
        for index, name in enumerate(graph.given):
            self._given(name, INPUT if index == 0 else None)
        for node in graph.nodes:
            if not all(name in self.done for name in node.output if name):
                self._layer(node)
        if not any(layer.weights for layer in self.planned):
            raise InputError("the model has no convolution and no fully connected layer", file=graph.path)
        found = [self.values[name].stored.name for name in graph.outputs if name in self.values]
        if not found:
            raise InputError(
                "no output of the model is that of a layer", file=graph.path, found=graph.outputs
            )
        known = {layer.name for layer in self.planned if layer.is_stored}
        found = [part for name in found for part in self.joins.get(name, (name,))]
        # The last state of a recurrence belongs to all of them.
        owners = [name if name in known else name.rsplit(".h[", 1)[0] for name in found]
        return Plan(self.planned, list(dict.fromkeys(owners)))

    def _layer(self, node: Any) -> None:
        kind, operands = node.op_type, self.graph.variables(node)
        if not operands:
            self._refuse(node, "a constant that cannot be folded")
        if kind in CLASSIFIERS and self.graph.is_final(node):
            self._classifier(node)
        elif kind == "Conv":
            self._conv(node)
        elif kind == "ConvTranspose":
            self._transposed(node)
        elif kind in ("Gemm", "MatMul"):
            if any(name in operands for name in node.input[2:]):
                self._refuse(node, "a computed bias is not modelled: add it in a node of its own")
            both = all(name in operands for name in node.input[:2])
            self._product(node) if both else self._linear(node)
        elif kind in GATES:
            self._recurrent(node)
        elif kind == DYNAMIC:
            self._alias(node)
        elif kind not in POOLS or not self._pool(node):
            self._memory(node, operands)

    def _refuse(self, node: Any, reason: str) -> NoReturn:
        self.graph.refuse(node, reason)

    # Tensors

    def _given(self, name: str, called: str | None) -> None:
        """A tensor that is in memory at the start: point-wise operators on it are preprocessing."""
        graph = self.graph
        shape = graph.shape(name)
        flat = in_order(prod(shape)).reshape(shape)
        # Not what belongs to a layer's rows: the shape says that nothing is one.
        end, positions = name, flat
        if name in graph.inputs:
            end, positions = self.fusion.pointwise(name, flat, (1,))
        order, stored = self._natural(end, positions)
        place = np.empty(flat.size, dtype=np.int32)
        place[order.reshape(-1)] = in_order(flat.size)
        settings = {} if called == INPUT else {"kind": "given", "operator": "input"}
        tail = Tail(end, place[positions], stored)
        self._store(called or self._unique(name), tail, settings, None)

    def _natural(self, name: str, positions: Positions) -> tuple[Positions, tuple[int, ...]]:
        """An ONNX tensor in stored order, and the stored shape: channel last, as its first reader sees it."""
        index, reader = positions, self._reader(name)
        while reader is not None and reader.op_type in VIEWS and reader.input[0] == name:
            found = moved(self.graph, reader, name, index)
            if found is None or found.size != positions.size:
                break
            index, name = found, reader.output[0]
            reader = self._reader(name)
        if reader is not None and reader.op_type == "MatMul" and index.ndim == 4:
            # Heads side by side, as a product of two activations reads them.
            heads = index.reshape(-1, *index.shape[-2:]).transpose(1, 0, 2)
            return heads.reshape(-1), (heads.shape[0], heads.shape[1] * heads.shape[2])
        spatial = reader is not None and reader.op_type in ("Conv", "ConvTranspose") and index.ndim == 3
        if index.ndim > 3 or spatial:
            stored = image_of(index.shape)
            order = np.moveaxis(index, 1, -1).reshape(-1)
            return order, stored if stored[0] * stored[1] > 1 or index.ndim > 3 else (1, stored[2])
        columns = index.shape[-1] if index.ndim else 1
        return index.reshape(-1), (index.size // columns, columns)

    def _reader(self, name: str) -> Any:
        readers = self.graph.readers.get(name, [])
        return self.graph.nodes[readers[0]] if readers else None

    def _store(
        self,
        name: str,
        tail: Tail,
        settings: dict[str, Any],
        weights: Weights | None,
        gather: Positions | None = None,
    ) -> Value:
        """Enter a stored tensor, with what is fused into it and all views of it."""
        stored = Stored(name, tail.shape)
        settings = {key: value for key, value in settings.items() if value is not None}
        if tail.shortcut is not None:
            settings["shortcut"] = tail.shortcut.name
        if tail.pool is not None:
            settings["pool"] = tail.pool
        native = self._native(tail.end)
        self.names.add(name)
        self.planned.append(
            Planned(name, settings, tail.shape, tail.end, tail.positions, weights, gather, native)
        )
        value = Value(stored, tail.positions)
        if gather is None:
            self._mark_done(tail.end)
            self._view(tail.end, value)
        return value

    def _native(self, name: str) -> Native | None:
        """The 8-bit format in which the model stores a tensor, if it does."""
        while name not in self.natives:
            node = self.graph.makers.get(name)
            if node is None or node.op_type not in VIEWS:
                return None
            name = node.input[0]
        return self.natives[name]

    def _view(self, name: str, value: Value) -> None:
        """Enter an ONNX tensor that holds a stored one, and all views of it."""
        self.values[name] = value
        pending = [name]
        while pending:
            source = pending.pop()
            for index in self.graph.readers.get(source, []):
                node = self.graph.nodes[index]
                if node.op_type not in VIEWS:
                    continue
                for output, made in enumerate(node.output):
                    if not made or made in self.values:
                        continue
                    positions = moved(self.graph, node, source, self.values[source].positions, output)
                    if positions is not None:
                        self.values[made] = Value(value.stored, positions)
                        self.done.add(made)
                        pending.append(made)
                    elif node.op_type == "Dropout" and output:
                        self.done.add(made)

    def _mark_done(self, end: str) -> None:
        """Neither `end` nor what it is made of needs a layer any more."""
        pending = [end]
        while pending:
            name = pending.pop()
            if name in self.graph.makers and name not in self.done:
                self.done.add(name)
                pending.extend(self.graph.variables(self.graph.makers[name]))

    def _read(self, node: Any, name: str) -> Value:
        if name in self.values:
            return self.values[name]
        values = self.graph.constant(name)
        if values is None:
            self._refuse(node, f"reads {name!r}, which no layer stores")
        self._refuse(node, f"reads the constant {name!r} where only activations can be modelled")

    def _laid_out(
        self, node: Any, name: str, index: Positions, shape: tuple[int, ...], joined: bool = False
    ) -> str:
        """Name of the stored tensor of `shape` whose value j is value `index[j]` of an ONNX tensor.

        Where it is stored otherwise, a memory layer brings it into this order (-1: zero). `joined`: it may
        be several tensors side by side.
        """
        value = self._read(node, name)
        index = index.reshape(-1)
        if (
            value.stored.shape == shape
            and index.size == value.positions.size
            and (joined or not value.stored.parts)
        ):
            flat = value.positions.reshape(-1)
            if index.min() >= 0 and same(flat[index], in_order(index.size)):
                return value.stored.name
        key = (name, shape, hashlib.sha256(index.tobytes()).digest())
        if key not in self.relaid:
            made = self._unique(
                f"{self._called(name)}.rows" if len(shape) == 2 else f"{self._called(name)}.moved"
            )
            settings = {"kind": "move", "operator": "layout", **self._parts([value])}
            tail = Tail(name, value.positions, shape)
            self.relaid[key] = self._store(made, tail, settings, None, np.array(index, dtype=np.int32))
        return self.relaid[key].stored.name

    def _parts(self, values: Sequence[Value]) -> dict[str, Any]:
        """What a memory layer reads: of each tensor the rows and channels that its values span."""
        parts: list[dict[str, Any]] = []
        for value in values:
            shape = value.stored.shape
            channels = shape[-1]
            row = prod(shape[1:]) if len(shape) > 1 else channels
            flat = value.positions.reshape(-1)
            if flat.size >= prod(shape):
                rows, columns = (0, shape[0]), (0, channels)
            else:
                rows = (int(flat.min()) // row, int(flat.max()) // row + 1)
                within = flat % channels
                columns = (int(within.min()), int(within.max()) + 1)
            parts.extend(part for part in _cut(value.stored, rows, columns) if part not in parts)
        return {"reads": parts[0]["name"], "parts": parts}

    def _weights(self, node: Any, name: str) -> NDArray[np.float32]:
        """The weights of a layer; refuses what is not constant, not floating point or not finite."""
        array = self.graph.constant(name)
        if array is None:
            self._refuse(node, "its weights are not constant: no design loads computed weights")
        if array.dtype.kind != "f":
            self._refuse(node, f"its weights are {array.dtype}, not floating point")
        array = array.astype(np.float32)
        if not np.isfinite(array).all():
            self._refuse(node, "its weights are not all finite (NaN or infinity)")
        return array

    def _made(
        self,
        node: Any,
        source: str,
        make: Callable[[NDArray[np.float32]], NDArray[np.float32]],
        factor: float = 1.0,
    ) -> Weights:
        made = Weights(make, lambda: self._weights(node, source), source, factor)
        if factor != 1 or source not in self.natives:
            return made
        return replace(made, native=native_of(self.natives, source, made.values))

    def _called(self, output: str, name: str = "") -> str:
        found = name.removesuffix("/MatMulAddFusion") or output
        for pattern, text in self.renames:
            if pattern.search(output):
                found = pattern.sub(text, output)
                break
        return found.strip("/") or "layer"

    def _name(self, node: Any) -> str:
        """A name for the layer of a node: that of the node, else of its tensor; unique."""
        return self._unique(self._called(node.output[0], node.name))

    def _unique(self, name: str) -> str:
        unique, count = name, 2
        while unique in self.names:
            unique, count = f"{name}_{count}", count + 1
        self.names.add(unique)
        return unique

    # Layers

    def _conv(self, node: Any) -> None:
        graph = self.graph
        shape, out = graph.shape(node.input[0]), graph.shape(node.output[0])
        weights = self._weights(node, node.input[1])
        groups = graph.attributes(node).get("group", 1)
        over = windows(graph, node, weights.shape[2:], shape[2:])
        if is_direct(over, shape[0]):
            reads = self._laid_out(node, node.input[0], _channels_last_index(shape), image_of(shape), True)
            make = _kernels
            settings = conv_settings(over, groups)
            if weights.ndim > 4 or shape[0] > 1:
                settings |= _along_the_last(settings)
        else:
            index, unfolded_shape = unfolded(shape, over, groups)
            reads = self._laid_out(node, node.input[0], index, unfolded_shape)
            make = unfolded_weights
            settings = _along_the_last(conv_settings(over, groups))
        stored = image_of(out)
        tail = self.fusion.tail(node.output[0], channel_last(out), stored, add=True, pool=True)
        settings = {"kind": "conv", "operator": "Conv", "reads": reads, **settings}
        self._store(self._name(node), tail, settings, self._made(node, node.input[1], make))

    def _transposed(self, node: Any) -> None:
        graph = self.graph
        shape, out = graph.shape(node.input[0]), graph.shape(node.output[0])
        weights = self._weights(node, node.input[1])
        if len(shape) not in (3, 4) or (shape[0] > 1 and len(shape) == 4):
            self._refuse(node, "only transposed convolutions of one input over one or two axes are modelled")
        groups = graph.attributes(node).get("group", 1)
        over = _transposed_windows(graph, node, weights.shape[2:], shape[2:], out[2:])
        size = shape[2:]
        if len(shape) == 3:
            # One axis is two, the first of one row; a batch makes the rows.
            one = {key: (fill, *getattr(over, key)) for key, fill in _ONE_ROW.items()}
            over = type(over)(**one)
            size, out = (shape[0], *size), (1, out[1], out[0], out[2])
        reads = self._laid_out(node, node.input[0], _channels_last_index(shape), image_of(shape), True)

        def made_of(values: NDArray[np.float32]) -> Phases:
            return phases(values if values.ndim == 4 else values[:, :, None], over, groups, size, out)

        made = made_of(weights)
        positions = made.positions
        if len(shape) == 3:
            positions = positions[0].transpose(1, 0, 2)
        tail = self.fusion.tail(node.output[0], positions, made.shape, add=False, pool=False)
        settings = {
            "kind": "conv",
            "operator": "ConvTranspose",
            "reads": reads,
            "stride": (1, 1),
            "padding": made.padding,
            "dilation": (1, 1),
            "groups": groups,
        }
        held = self._made(node, node.input[1], lambda values: made_of(values).weights)
        self._store(self._name(node), tail, settings, held)

    def _linear(self, node: Any) -> None:
        graph = self.graph
        attributes = graph.attributes(node)
        across = node.input[0] in graph.constants
        source, constant = (node.input[1], node.input[0]) if across else (node.input[0], node.input[1])
        weights = self._weights(node, constant)
        if weights.ndim != 2:
            if weights.ndim == 1:
                self._refuse(node, "a product with a constant vector is not modelled: make it a matrix")
            self._product(node)
            return
        turned_a, turned_b = bool(attributes.get("transA", 0)), bool(attributes.get("transB", 0))
        index = in_order(prod(graph.shape(source))).reshape(graph.shape(source))
        flat_out = in_order(prod(graph.shape(node.output[0]))).reshape(graph.shape(node.output[0]))
        if across:
            # W x is the transposed of x' W': rows of the layer are the columns of x.
            turned = turned_a
            index = index if turned_b else index.swapaxes(-1, -2)
        else:
            turned = not turned_b
            index = index.swapaxes(-1, -2) if turned_a else index
        filters, inputs = weights.shape[::-1] if turned else weights.shape
        factor = float(attributes.get("alpha", 1.0))
        reads, order = self._rows(node, source, index.reshape(-1, inputs))

        def make(weights: NDArray[np.float32]) -> NDArray[np.float32]:
            values = np.empty((filters, inputs), dtype=np.float32)
            values[:, order] = weights.T if turned else weights
            return values if factor == 1 else values * np.float32(factor)

        rows = index.size // inputs
        if across:
            other = (*flat_out.shape[:-2], flat_out.shape[-1], flat_out.shape[-2])
            flat_out = in_order(flat_out.size).reshape(other).swapaxes(-1, -2)
        tail = self.fusion.tail(node.output[0], flat_out, (rows, filters), add=True, pool=False)
        settings = {"kind": "linear", "operator": node.op_type, "reads": reads}
        self._store(self._name(node), tail, settings, self._made(node, constant, make, factor))

    def _rows(self, node: Any, name: str, index: Positions) -> tuple[str, Positions]:
        """The stored tensor whose rows are those of `index`, and where in a row each column lies."""
        value = self._read(node, name)
        count, inputs = index.shape
        table = value.positions.reshape(-1)[index]
        order = table[0]
        in_rows = count == 1 or value.stored.shape == (count, inputs)
        offsets = inputs * np.arange(count, dtype=np.int32)[:, None]
        if (
            in_rows
            and value.positions.size == prod(value.stored.shape)
            and np.array_equal(table, order + offsets)
        ):
            return value.stored.name, order
        return self._laid_out(node, name, index, (count, inputs)), in_order(inputs)

    def _product(self, node: Any) -> None:
        """A product of two activations, all heads in one layer."""
        graph = self.graph
        attributes = graph.attributes(node)
        for name in node.input[:2]:
            if name not in self.values and graph.constant(name) is not None:
                self._constant_operand(name)
        first, second = (
            in_order(prod(graph.shape(name))).reshape(graph.shape(name)) for name in node.input[:2]
        )
        first = first.swapaxes(-1, -2) if attributes.get("transA", 0) else first
        second = second.swapaxes(-1, -2) if attributes.get("transB", 0) else second
        out = graph.shape(node.output[0])
        if min(first.ndim, second.ndim) < 2:
            self._refuse(node, "a product with a vector is not modelled: make it a matrix")
        first = np.broadcast_to(first, (*out[:-2], *first.shape[-2:]))
        second = np.broadcast_to(second, (*out[:-2], *second.shape[-2:]))
        groups, rows, depth, columns = prod(out[:-2]), first.shape[-2], first.shape[-1], out[-1]
        by_row = first.reshape(groups, rows, depth).transpose(1, 0, 2)
        reads = self._laid_out(node, node.input[0], by_row, (rows, groups * depth))
        apart = second.reshape(groups, depth, columns)
        transposed = self._is_stored(node.input[1], apart.transpose(1, 0, 2), (depth, groups * columns))
        order = apart.transpose(1, 0, 2) if transposed else apart.transpose(2, 0, 1)
        stored = (depth, groups * columns) if transposed else (columns, groups * depth)
        other = self._laid_out(node, node.input[1], order, stored)
        flat = in_order(rows * groups * columns).reshape(rows, groups, columns)
        positions = flat.transpose(1, 0, 2).reshape(out)
        shape = (rows, groups * columns)
        tail = self.fusion.tail(node.output[0], positions, shape, add=True, pool=False)
        settings = {
            "kind": "matmul",
            "operator": node.op_type,
            "reads": reads,
            "second": other,
            "transposed": transposed,
            "groups": groups,
        }
        self._store(self._name(node), tail, settings, None)

    def _constant_operand(self, name: str) -> None:
        """A constant that is not a matrix of weights: in memory at the start, as activations are."""
        shape = self.graph.shape(name)
        flat = in_order(prod(shape)).reshape(shape)
        stored = (flat.size // shape[-1], shape[-1])
        settings = {"kind": "given", "operator": "constant"}
        self._store(self._unique(self._called(name)), Tail(name, flat, stored), settings, None)

    def _is_stored(self, name: str, index: Positions, shape: tuple[int, ...]) -> bool:
        value = self.values.get(name)
        if value is None or value.stored.shape != shape or value.positions.size != index.size:
            return False
        if value.stored.parts:
            return False
        return same(value.positions.reshape(-1)[index.reshape(-1)], in_order(index.size))

    def _recurrent(self, node: Any) -> None:
        """The steps of an LSTM, GRU or RNN; its input projection is a layer already."""
        graph = self.graph
        value = self._read(node, projection(node))
        gates = GATES[node.op_type]
        out = graph.shape(node.output[0])
        steps, units = out[0], out[-1]
        if out[1:3] != (1, 1):
            self._refuse(node, "only batch 1 is modelled")
        weights = self._made(node, node.input[2], lambda values: by_unit(values[0], gates))
        flat = in_order(steps * units).reshape(out)
        name = self._name(node)
        settings = {
            "kind": "recurrence",
            "operator": node.op_type,
            "reads": value.stored.name,
            "gates": gates,
            "reverse": True if is_reversed(node) else None,
        }
        state = node.input[5] if len(node.input) > 5 else ""
        if state and state not in graph.constants:
            settings["initial"] = self._laid_out(node, state, in_order(units), (1, units))
        elif state and np.any(graph.constant(state)):
            self._constant_operand(state)
            settings["initial"] = self._laid_out(node, state, in_order(units), (1, units))
        self._store(name, Tail(node.output[0], flat, (steps, units)), settings, weights)
        last = Value(
            Stored(f"{name}.h[{0 if is_reversed(node) else steps - 1}]", (1, units)),
            in_order(units).reshape(1, 1, units),
        )
        if len(node.output) > 1 and node.output[1]:
            self.done.add(node.output[1])
            self._view(node.output[1], last)
        if len(node.output) > 2 and node.output[2] in (*graph.readers, *graph.outputs):
            # The cell state leaves post-processing once, after the last step.
            cell = Tail(node.output[2], last.positions, (1, units))
            settings = {"kind": "move", "operator": "cell state", **self._parts([last])}
            self._store(self._unique(f"{name}.c"), cell, settings, None)
        self.done.update(made for made in node.output[2:] if made)

    def _pool(self, node: Any) -> bool:
        """A pooling that cannot be fused; whether it is one over rows and columns of an image."""
        value = self._read(node, node.input[0])
        shape = value.stored.shape
        whole = value.positions.size == prod(shape)
        found = pooling(self.graph, node, shape, value.positions) if whole else None
        if found is None:
            return False
        pool, positions = found
        out = (*pooled_size(pool, shape), shape[2])
        tail = self.fusion.tail(node.output[0], positions, out, add=False, pool=False)
        settings = {"kind": "pool", "operator": node.op_type, "reads": value.stored.name, "pool": pool}
        self._store(self._name(node), tail, settings, None)
        return True

    def _alias(self, node: Any) -> None:
        """Quantising as it comes is how a tensor is stored, not another tensor."""
        value = self._read(node, node.input[0])
        self.done.add(node.output[0])
        self._view(node.output[0], value)
        for index in self.graph.readers.get(node.output[0], []):
            self._follow(self.graph.nodes[index], node.output[0], value)

    def _follow(self, node: Any, name: str, value: Value) -> None:
        """Casts and zero points behind a tensor that is quantised as it comes."""
        if node.op_type in ("Cast", "Sub", "Identity") and self.graph.variables(node) == [name]:
            made = node.output[0]
            self.done.add(made)
            self._view(made, Value(value.stored, self.values[name].positions))
            for index in self.graph.readers.get(made, []):
                self._follow(self.graph.nodes[index], made, value)

    def _memory(self, node: Any, operands: list[str]) -> None:
        """A memory layer: what has no inner products and cannot be fused behind a layer that has."""
        sources = [self._read(node, name) for name in operands]
        if len(sources) == 1 and self._point_wise_behind(node, operands[0], sources[0]):
            return
        if self._add(node, sources) or self._concat(node):
            return
        made = [
            name
            for name in node.output
            if name and (name in self.graph.readers or name in self.graph.outputs)
        ]
        for name in made or [node.output[0]]:
            shape = self.graph.shape(name)
            flat = in_order(prod(shape)).reshape(shape)
            order, stored = self._natural(name, flat)
            positions = np.empty(flat.size, dtype=np.int32)
            positions[order] = in_order(flat.size)
            tail = self.fusion.tail(name, positions.reshape(shape), stored, add=True, pool=False)
            read = [*sources, *([self._whole(tail.shortcut)] if tail.shortcut is not None else [])]
            settings = {"kind": "move", "operator": node.op_type, **self._parts(read)}
            called = self._name(node) if name == node.output[0] else self._unique(self._called(name))
            self._store(called, Tail(tail.end, tail.positions, stored), settings, None)

    def _whole(self, stored: Stored) -> Value:
        return Value(stored, in_order(prod(stored.shape)))

    def _point_wise_behind(self, node: Any, operand: str, value: Value) -> bool:
        """Point-wise operators and normalisations of rows of one stored tensor, as one memory layer."""
        if value.positions.size != prod(value.stored.shape):
            return False
        shape = value.stored.shape
        end, positions = self.fusion.pointwise(operand, value.positions, shape, node.output[0])
        if end == operand:
            return False
        tail = self.fusion.tail(end, positions, shape, add=True, pool=False)
        settings = {"kind": "add", "operator": node.op_type, "reads": value.stored.name}
        self._store(self._name(node), tail, settings, None)
        return True

    def _add(self, node: Any, sources: list[Value]) -> bool:
        """A residual add of two tensors of one shape."""
        if not is_residual_add(self.graph, node) or len(sources) != 2:
            return False
        first, other = sources
        fits = first.stored.shape == other.stored.shape and same(first.positions, other.positions)
        fits = fits and not (first.stored.parts or other.stored.parts)
        whole = first.positions.size == prod(first.stored.shape)
        if not fits or not whole or self.graph.shape(node.output[0]) != first.positions.shape:
            return False
        shape = first.stored.shape
        tail = self.fusion.tail(node.output[0], first.positions, shape, add=False, pool=False)
        settings = {
            "kind": "add",
            "operator": node.op_type,
            "reads": first.stored.name,
            "shortcut": other.stored.name,
        }
        self._store(self._name(node), tail, settings, None)
        return True

    def _concat(self, node: Any) -> bool:
        """Channels of several tensors side by side: nothing moves, who reads the whole reads all of them."""
        if node.op_type != "Concat":
            return False
        sources = [self.values.get(name) for name in node.input]
        parts: list[Stored] = []
        for source in sources:
            if source is None or source.positions.size != prod(source.stored.shape):
                return False
            parts.extend(source.stored.parts or (source.stored,))
        plane = parts[0].shape[:-1]
        writers = {layer.name: layer.settings.get("kind") for layer in self.planned}
        if len(set(parts)) < len(parts) or any(
            part.shape[:-1] != plane or writers.get(part.name, "recurrence") == "recurrence" for part in parts
        ):
            return False
        depth = sum(part.shape[-1] for part in parts)
        moved_in, first = [], 0
        for source in (source for source in sources if source is not None):
            place, channel = np.divmod(source.positions, source.stored.shape[-1])
            moved_in.append(place * depth + channel + first)
            first += source.stored.shape[-1]
        axis = self.graph.attributes(node).get("axis", 1)
        positions = np.concatenate(moved_in, axis=axis).astype(np.int32)
        name, shape = self._name(node), (*plane, depth)
        stored = Stored(name, shape, tuple(parts))
        self.joins[name] = tuple(part.name for part in parts)
        settings = {"kind": "concat", "operator": "Concat", "joins": list(self.joins[name])}
        self.planned.append(Planned(name, settings, shape, node.output[0], positions))
        self.done.add(node.output[0])
        self._view(node.output[0], Value(stored, positions))
        return True

    def _classifier(self, node: Any) -> None:
        """A softmax that only outputs of the graph follow is passed over."""
        value = self._read(node, node.input[0])
        pending = [name for name in node.output if name]
        while pending:
            name = pending.pop()
            self.values[name] = value
            self.done.add(name)
            for index in self.graph.readers.get(name, []):
                pending.extend(self.graph.nodes[index].output)


def _kernels(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weights (K, C, k...) of a convolution over the last axis or two as (K, Ky, Kx, C)."""
    if weights.ndim != 4:
        weights = weights.reshape(*weights.shape[:2], 1, weights.shape[-1])
    return np.ascontiguousarray(weights.transpose(0, 2, 3, 1))


def _cut(stored: Stored, rows: tuple[int, int], channels: tuple[int, int]) -> list[dict[str, Any]]:
    """Rows and channels of a stored tensor as what is read of it, or of its parts."""
    found, first = [], 0
    for part in stored.parts or (stored,):
        depth = part.shape[-1]
        low, high = max(channels[0] - first, 0), min(channels[1] - first, depth)
        if low < high:
            found.append({"name": part.name, "rows": rows, "channels": (low, high)})
        first += depth
    return found


_ONE_ROW = {"kernel": 1, "stride": 1, "dilation": 1, "before": 0, "after": 0}


def _channels_last_index(shape: tuple[int, ...]) -> Positions:
    """Indices into a flat ONNX tensor (N, C, ...) in the order (N, ..., C)."""
    return np.moveaxis(in_order(prod(shape)).reshape(shape), 1, -1)


def _along_the_last(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of a convolution whose rows are not mixed."""
    (_, stride), (_, left, _, right), (_, dilation) = (
        settings["stride"],
        settings["padding"],
        settings["dilation"],
    )
    return {
        "stride": (1, stride),
        "padding": (0, left, 0, right),
        "dilation": (1, dilation),
        "groups": settings["groups"],
    }


def _transposed_windows(graph: Graph, node: Any, kernel: Any, size: Any, out: Any) -> Any:
    """Windows of a transposed convolution; `before` is what its output is cropped by."""
    attributes = graph.attributes(node)
    axes = len(size)
    stride = tuple(attributes.get("strides", (1,) * axes))
    dilation = tuple(attributes.get("dilations", (1,) * axes))
    extra = tuple(attributes.get("output_padding", (0,) * axes))
    auto = attributes.get("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER") or "output_shape" in attributes:
        # The output's shape decides: total = s * (n - 1) + extra + span - out.
        total = [
            s * (n - 1) + e + (k - 1) * d + 1 - o
            for s, n, e, k, d, o in zip(stride, size, extra, kernel, dilation, out, strict=True)
        ]
        half = tuple(t // 2 for t in total)
        rest = tuple(t - t // 2 for t in total)
        # onnxruntime's way; for an odd total the standard's text has it the other way round.
        before, after = (half, rest) if auto == "SAME_UPPER" else (rest, half)
    else:
        pads = (0,) * (2 * axes) if auto == "VALID" else tuple(attributes.get("pads", (0,) * (2 * axes)))
        before, after = pads[:axes], pads[axes:]
    if min((*before, *after), default=0) < 0:
        graph.refuse(node, "negative padding is not modelled: crop with a Slice before it")
    return Windows(tuple(kernel), stride, dilation, before, after)
