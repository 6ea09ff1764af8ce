"""Cambricon-X: bit-parallel, units pick the activations of their non-zero weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpred_sim.designs.base import ComparisonPoint, register
from dpred_sim.designs.dadiannao import bit_parallel, with_auto
from dpred_sim.designs.entering import whole
from dpred_sim.designs.filters import by_tile
from dpred_sim.designs.functional import Lanes, nest_outputs
from dpred_sim.designs.loop_nest import Nest, NestDesign, NestSchedule, require_whole
from dpred_sim.designs.work import total_work
from dpred_sim.values.tensor import Tensor
from dpred_sim.workload.layer import Layer


class CountedSchedule(NestSchedule):
    """The first `counts` (blocks,) steps of each window set take a cycle, those that are left none."""

    def __init__(self, nest: Nest, counts: NDArray[np.int64]) -> None:
        super().__init__(nest)
        self._counts = np.append(counts, 0)
        self._before = np.concatenate([[0], np.cumsum(counts * nest.sets)])

    def cycles(self, start: ArrayLike, stop: ArrayLike) -> NDArray[np.int64]:
        """Cycles of the steps [start, stop)."""
        return self._finish(np.asarray(stop, np.int64)) - self._finish(np.asarray(start, np.int64))

    def _finish(self, done: NDArray[np.int64]) -> NDArray[np.int64]:
        sets, step = np.divmod(done, self.inner)
        block, window_set = np.divmod(sets, self.sets)
        count = self._counts[block]
        finished: NDArray[np.int64] = self._before[block] + window_set * count + np.minimum(step, count)
        return finished


@register("cambricon_x")
@dataclass(frozen=True, kw_only=True)
class CambriconX(NestDesign):
    """Zero weights are skipped, filter by filter (Zhang et al., MICRO'16; recalled).

    A row of a tile is a unit of `lanes` multipliers with a filter of its own. Step indices pick the
    activations of its next `lanes` non-zero weights, so a window takes ceil(non-zeros / lanes) cycles, and
    all units of a block wait for the one with most. Activations are dense. The rest is in `NestDesign`.
    Raises InputError for a value that is not allowed.
    """

    columns: int = 1

    @classmethod
    def equal_peak(cls, bits: int) -> tuple[ComparisonPoint, ...]:
        """4096 multiply-accumulates a cycle when no weight is zero, and the published 16 units of 16."""
        large = ComparisonPoint("equal peak", cls(pe_width=bits), bit_parallel(4096, bits), 4096, 1)
        small = cls(tiles=1, pe_width=bits)
        note = "published size"
        return (
            *with_auto(large),
            ComparisonPoint("256 MACs", small, bit_parallel(256, bits), 256, 1, note),
        )

    def of_nest(self, nest: Nest) -> CountedSchedule:
        """Steps of a layer; raises InputError for values wider than the units."""
        require_whole(nest, "units take whole weights, with their activations")
        return CountedSchedule(nest, self._cycles(nest))

    def _cycles(self, nest: Nest) -> NDArray[np.int64]:
        """Cycles of a window set of each block: those of the filter with most non-zeros."""
        weights = nest.layer.weights
        assert weights is not None
        if "cambricon_x" not in weights.memo:
            values = weights.load().values.reshape(nest.layer.filters, -1)
            weights.memo["cambricon_x"] = np.count_nonzero(values, axis=1)
        # A unit brings all its multipliers to a filter, depthwise ones too.
        most = by_tile(nest, weights.memo["cambricon_x"][:, None], 0).max(axis=(2, 3, 4))
        cycles: NDArray[np.int64] = -(-most.reshape(-1).astype(np.int64) // self.lanes)
        return cycles

    def compute(self, layer: Layer, split: int | None = None) -> NDArray[np.int64]:
        """Outputs from the packed non-zeros of each filter and their places; see `Design.compute`.

        A unit takes as many of them as its block is charged cycles for.
        """
        schedule = self.schedule(layer, split=split)
        source = schedule.layer.weights
        assert source is not None
        tensor = source.load()
        values = tensor.values.reshape(schedule.layer.filters, -1)
        places = np.argsort(values == 0, axis=1, kind="stable")
        charged = [int(schedule.set_cycles(number).min()) for number in range(len(schedule.blocks))]
        sizes = [last - first for first, last in (block.filters for block in schedule.blocks)]
        room = np.repeat(np.array(charged) * self.lanes, sizes)[:, None]
        packed = np.take_along_axis(values, places, axis=1) * (np.arange(values.shape[1]) < room)
        taken = np.zeros_like(values)
        np.put_along_axis(taken, places, packed, axis=1)
        weights = Tensor(taken.reshape(tensor.values.shape), tensor.bits, tensor.signed, tensor.precision)
        return nest_outputs(Lanes(schedule.nest.with_weights(weights)), whole, whole)

    def work_bits(self, layer: Layer) -> int:
        """Multiply-accumulates whose weight is not zero."""
        return total_work(layer, weights=lambda values: np.not_equal(values, 0))
