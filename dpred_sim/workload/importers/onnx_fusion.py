"""What is fused into one layer.

Post-processing of a layer takes all point-wise operators behind it, normalisations of whole rows, a
residual add and a pooling, as long as nobody else reads what lies in between. A tensor in between is
never stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any

import numpy as np

from dpred_sim.workload.importers.onnx_geometry import pooling
from dpred_sim.workload.importers.onnx_graph import Graph
from dpred_sim.workload.importers.onnx_ops import NORMALISATIONS, POINTWISE, POOLS, REDUCTIONS, VIEWS
from dpred_sim.workload.importers.onnx_views import Positions, moved, same
from dpred_sim.workload.layer import Pool


@dataclass(frozen=True)
class Stored:
    """A tensor that the accelerator stores: called after the layer that writes it.

    With `parts` it is their channels side by side, each of them stored for itself.
    """

    name: str
    shape: tuple[int, ...]
    parts: tuple[Stored, ...] = ()


@dataclass(frozen=True)
class Value:
    """An ONNX tensor that holds (some of) the values of a stored one, in the order `positions`."""

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


Region = dict[str, Positions | None]
"""Tensors between two points by name: positions, or None for a statistic of each row."""


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
        end, positions = self.pointwise(start, positions, shape)
        shortcut = self._shortcut(end, positions, shape) if add else None
        if shortcut is not None:
            end, positions = self.pointwise(self._only_reader(end).output[0], positions, shape)
        node = self._only_reader(end)
        if pool and node is not None and node.op_type in POOLS:
            fused = pooling(self.graph, node, shape, positions)
            if fused is not None:
                pooled = (*pooled_size(fused[0], shape), shape[2])
                end, positions = self.pointwise(node.output[0], fused[1], pooled)
                return Tail(end, positions, pooled, shortcut, fused[0])
        return Tail(end, positions, shape, shortcut)

    def _shortcut(self, end: str, positions: Positions, shape: tuple[int, ...]) -> Stored | None:
        """The stored tensor that is added to `end`, if that add can be fused."""
        node = self._only_reader(end)
        if node is None or not is_residual_add(self.graph, node):
            return None
        (other,) = set(self.graph.variables(node)) - {end}
        value = self.values.get(other)
        if value is None or self.graph.shape(end) != self.graph.shape(other):
            return None
        fits = value.stored.shape == shape and same(value.positions, positions)
        return value.stored if fits and not value.stored.parts else None

    def _only_reader(self, name: str) -> Any:
        readers = self.graph.readers.get(name, [])
        return self.graph.nodes[readers[0]] if len(readers) == 1 and name not in self.graph.outputs else None

    def pointwise(
        self, start: str, positions: Positions, shape: tuple[int, ...], through: str | None = None
    ) -> tuple[str, Positions]:
        """The last tensor that all paths from `start` pass, through operators of post-processing only.

        With `through` it is the last one whose paths from `start`, which is stored and has readers of its
        own, pass that tensor; `start` itself when there is none.
        """
        graph = self.graph
        region: Region = {start: positions}
        above: dict[str, set[str]] = {start: set()}
        queue = sorted(graph.readers.get(start, []))
        seen = set(queue)
        while queue:
            node = graph.nodes[heappop(queue)]
            found = self._step(node, region, shape)
            if found is False:
                continue
            made = node.output[0]
            region[made] = None if found is True else found
            operands = graph.variables(node)
            above[made] = set(operands).union(*(above[name] for name in operands))
            for reader in graph.readers.get(made, []):
                if reader not in seen:
                    seen.add(reader)
                    heappush(queue, reader)
        for end in reversed(list(region)):
            place = region[end]
            inside = above[end] | {end}
            if place is None or (through is not None and through not in inside):
                continue
            between = above[end] if through is None else above[end] - {start}
            if all(self._stays_inside(name, inside) for name in between):
                return end, place
        return start, positions

    def _step(self, node: Any, region: Region, shape: tuple[int, ...]) -> Positions | bool:
        """What a node makes of tensors in the region: positions, True for a statistic, False for neither."""
        graph = self.graph
        operands = graph.variables(node)
        if not operands or any(name not in region for name in operands) or graph.is_final(node):
            return False
        whole = [place for name in operands if (place := region[name]) is not None]
        if node.op_type in VIEWS:
            if len(operands) != 1 or not whole or len([name for name in node.output if name]) > 1:
                return False
            found = moved(graph, node, operands[0], whole[0])
            # A part of the values, or some of them twice, is another tensor.
            return found if found is not None and found.size == whole[0].size else False
        if node.op_type in REDUCTIONS or node.op_type in NORMALISATIONS:
            rows = len(operands) == 1 and bool(whole) and _are_rows(whole[0], shape)
            if not rows or not graph.is_over_rows(node):
                return False
            return True if node.op_type in REDUCTIONS else whole[0]
        if node.op_type not in POINTWISE or (node.op_type == "PRelu" and node.input[1] in operands):
            return False
        return self._joined(node, operands, region)

    def _joined(self, node: Any, operands: list[str], region: Region) -> Positions | bool:
        """What a point-wise operator makes of whole tensors and statistics of their rows."""
        graph, out = self.graph, self.graph.shape(node.output[0])
        whole = [(name, place) for name in operands if (place := region[name]) is not None]
        if not whole:
            return all(graph.shape(name) == out for name in operands)
        first = whole[0][1]
        if any(graph.shape(name) != out or not same(place, first) for name, place in whole):
            return False
        rows = (*out[:-1], 1)
        statistics = [name for name in operands if region[name] is None]
        return first if all(graph.shape(name) == rows for name in statistics) else False

    def _stays_inside(self, name: str, inside: set[str]) -> bool:
        readers = (self.graph.nodes[i] for i in self.graph.readers.get(name, []))
        return name not in self.graph.outputs and all(node.output[0] in inside for node in readers)


def is_residual_add(graph: Graph, node: Any) -> bool:
    """Whether the node adds two tensors, neither of which is constant."""
    return node.op_type in ("Add", "Sum") and len(node.input) == 2 and len(graph.variables(node)) == 2


def pooled_size(pool: dict[str, Any], shape: tuple[int, ...]) -> tuple[int, int]:
    """(height, width) of an (H, W, C) tensor after pooling."""
    return Pool(**pool).output_size(shape[0], shape[1])


def _are_rows(positions: Positions, shape: tuple[int, ...]) -> bool:
    """Whether each run along the last axis lies within one position of a stored tensor of `shape`."""
    if positions.ndim < 2:
        return False
    place = positions // shape[-1]
    return bool(np.all(place == place[..., :1]))
