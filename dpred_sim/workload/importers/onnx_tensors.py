"""The tensors that are stored while a graph is planned: names, layouts, and where their values lie."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from dpred_sim.workload.importers.onnx_fusion import Fusion, Stored, Tail, Value
from dpred_sim.workload.importers.onnx_graph import Graph
from dpred_sim.workload.importers.onnx_native import Native, native_of
from dpred_sim.workload.importers.onnx_ops import VIEWS
from dpred_sim.workload.importers.onnx_plan import Planned, Renames, Weights
from dpred_sim.workload.importers.onnx_views import Positions, image_of, in_order, moved, same
from dpred_sim.workload.network import INPUT


class Tensors:
    """Enters stored tensors, and finds them in the layout that a layer needs."""

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

    def _refuse(self, node: Any, reason: str) -> NoReturn:
        self.graph.refuse(node, reason)

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
                # What a tensor that is given is made of may be a layer's, as the sizes of boxes are.
                if name not in self.graph.given:
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

    def _constant_operand(self, name: str) -> None:
        """A constant that is not a matrix of weights: in memory at the start, as activations are."""
        shape = self.graph.shape(name)
        flat = in_order(prod(shape)).reshape(shape)
        stored = (flat.size // shape[-1], shape[-1])
        settings = {"kind": "given", "operator": "constant"}
        self._store(self._unique(self._called(name)), Tail(name, flat, stored), settings, None)

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
