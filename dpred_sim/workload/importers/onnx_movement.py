"""Operators without inner products: memory layers, poolings, and what needs no layer at all."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from dpred_sim.workload.importers.onnx_fusion import Stored, Tail, Value, is_residual_add, pooled_size
from dpred_sim.workload.importers.onnx_geometry import pooling
from dpred_sim.workload.importers.onnx_plan import Planned
from dpred_sim.workload.importers.onnx_tensors import Tensors
from dpred_sim.workload.importers.onnx_views import in_order, same


class Movement(Tensors):
    """Plans what an accelerator carries and does not multiply."""

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
