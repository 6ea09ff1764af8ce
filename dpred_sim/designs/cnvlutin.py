"""Cnvlutin: bit-parallel, skips activations that are zero."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpred_sim.designs.base import ComparisonPoint, register
from dpred_sim.designs.bricks import Bytes, arranged, bordered, unarranged, window_slabs
from dpred_sim.designs.charged import check_sets
from dpred_sim.designs.dadiannao import bit_parallel, with_auto
from dpred_sim.designs.entering import charged_bricks, nonzeros, whole
from dpred_sim.designs.functional import Lanes, nest_outputs
from dpred_sim.designs.loop_nest import Nest, NestDesign, PrefixSchedule, check_counts, kept, prefix_sums
from dpred_sim.designs.work import total_work
from dpred_sim.errors import InputError
from dpred_sim.values.widths import group_stats
from dpred_sim.workload.layer import Layer


@register("cnvlutin")
@dataclass(frozen=True, kw_only=True)
class Cnvlutin(NestDesign):
    """Zero activations are skipped, lane by lane (Albericio et al., ISCA'16).

    The bricks of a window, `lanes` channels each, are dealt over the lanes in turn. A brick keeps its lane
    for a cycle a non-zero value, at least one; a window waits for its slowest lane, a set for its slowest
    window and tile. See `NestDesign` for the parameters. Raises InputError for a value that is not allowed.
    """

    columns: int = 1

    def __post_init__(self) -> None:
        NestDesign.__post_init__(self)
        check_counts(self, "lanes", high=255)

    @classmethod
    def equal_peak(cls, bits: int) -> tuple[ComparisonPoint, ...]:
        """4096 multiply-accumulates a cycle when no activation is zero."""
        made = cls(pe_width=bits)
        return with_auto(ComparisonPoint("equal peak", made, bit_parallel(4096, bits), 4096, 1))

    def of_nest(self, nest: Nest) -> PrefixSchedule:
        """Steps of a layer: a step adds what its brick delays the slowest lane of the set by.

        Raises InputError for values wider than the units.
        """
        if nest.act_blocks > 1:
            raise InputError(
                "zero skipping takes whole values",
                field=f"layer {nest.layer.name!r}: pe_width",
                found=self.pe_width,
                allowed=f">= {nest.layer.activations.precision}",
            )
        return PrefixSchedule(nest, kept(nest, ("cnvlutin",), lambda: prefix_sums(self._steps(nest))))

    def _steps(self, nest: Nest) -> NDArray[np.integer]:
        plane = bordered(nest, self._occupied(nest), None, [False]).tops
        shape = (nest.regions, nest.channel_tiles, nest.chunks)
        steps = np.empty((nest.regions, nest.sets, nest.inner), dtype=np.uint8)
        for at, slab in window_slabs(nest, plane, 0):
            sets, windows = slab.shape[:2]
            cost = slab.reshape(sets, windows, -1, *shape)  # (set, window, tap, region, tile, chunk)
            cost = cost.transpose(3, 0, 1, 4, 2, 5).reshape(nest.regions, sets, -1, nest.inner)
            steps[:, at : at + sets] = self._delays(nest, cost)
        return steps

    def _delays(self, nest: Nest, cost: Bytes) -> NDArray[np.integer]:
        """(..., windows and tiles, inner) costs of bricks to (..., inner) growth of the slowest lane."""
        turns = -(-nest.inner // nest.lanes)
        dealt = np.zeros((*cost.shape[:-1], turns * nest.lanes), dtype=np.int32)
        dealt[..., : nest.inner] = cost
        lanes = dealt.reshape(*cost.shape[:-1], turns, nest.lanes)
        np.cumsum(lanes, axis=-2, out=lanes)
        done = np.maximum.accumulate(dealt[..., : nest.inner].max(axis=-2), axis=-1)
        grown: NDArray[np.integer] = np.diff(done, axis=-1, prepend=0)
        return grown

    def _occupied(self, nest: Nest) -> Bytes:
        """Cycles of each brick: (y, x, 1, cell)."""
        source = nest.layer.activations
        if unarranged(nest):
            counts = group_stats(source, nest.lanes).nonzeros
        else:
            values, size = arranged(nest, source.load().values)
            starts = np.arange(0, values.shape[-1], size)
            counts = np.add.reduceat(values != 0, starts, axis=-1, dtype=np.uint8)
        counts = np.maximum(counts.astype(np.uint8), 1)
        return counts.reshape(nest.layer.height, nest.layer.width, 1, -1)

    def compute(self, layer: Layer, split: int | None = None) -> NDArray[np.int64]:
        """Outputs from packed non-zeros and their offsets, one a cycle and lane; see `Design.compute`."""
        schedule = self.schedule(layer, split=split)
        nest = schedule.nest
        lanes = Lanes(nest)
        check_sets(schedule, nest, self._slowest(lanes))
        cycles = charged_bricks(nest, bordered(nest, self._occupied(nest), None, [False]).tops)
        return nest_outputs(lanes, nonzeros(cycles), whole)

    def _slowest(self, lanes: Lanes) -> NDArray[np.int64]:
        """Non-zeros, or empty bricks, of the slowest lane of each window set, value by value."""
        nest = lanes.nest
        spent = np.zeros((nest.regions, nest.sets), dtype=np.int64)
        idle = -nest.inner % nest.lanes
        for region in range(nest.regions):
            for windows in lanes.windows(region):
                bricks = np.maximum(np.count_nonzero(windows.values, axis=-1), 1)
                dealt = np.pad(bricks, ((0, 0), (0, idle), (0, 0)))
                turns = dealt.reshape(len(dealt), -1, nest.lanes, nest.channel_tiles).sum(axis=1)
                sets = windows.numbers // nest.windows_per_set
                np.maximum.at(spent[region], sets, turns.max(axis=(1, 2)))
        return spent

    def work_bits(self, layer: Layer) -> int:
        """Multiply-accumulates whose activation is not zero."""
        return total_work(layer, activations=lambda values: values != 0)
