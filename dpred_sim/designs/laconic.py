"""Laconic: both operands enter as terms, a product takes terms(a) x terms(w) cycles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpred_sim.designs.base import ComparisonPoint, register
from dpred_sim.designs.bricks import lane_values, set_maximum
from dpred_sim.designs.charged import check_columns, check_steps
from dpred_sim.designs.dadiannao import bit_parallel, with_auto
from dpred_sim.designs.entering import most_terms, term_planes
from dpred_sim.designs.filters import by_tile
from dpred_sim.designs.functional import Lanes, nest_outputs
from dpred_sim.designs.loop_nest import FinishSchedule, Nest, NestDesign, check_flags, kept, running
from dpred_sim.designs.recoding import TermSplit
from dpred_sim.designs.run_ahead import round_robin
from dpred_sim.designs.work import total_work
from dpred_sim.workload.layer import Layer

SLAB_STEPS = 1 << 16
"""Steps whose products are looked at in one go."""


@register("laconic")
@dataclass(frozen=True, kw_only=True)
class Laconic(NestDesign):
    """Term-serial in both operands (Sharify et al., ISCA'19).

    A step costs the largest terms(a) x terms(w) over its lanes, windows and filters, at least 1. Terms are
    the set bits of the magnitude, or with `recoding` its signed powers of two (see `recoding.py`).
    The rest is in `NestDesign`. Raises InputError for a value that is not allowed.
    """

    recoding: bool = False

    def __post_init__(self) -> None:
        NestDesign.__post_init__(self)
        check_flags(self, "recoding")

    @classmethod
    def equal_peak(cls, bits: int) -> tuple[ComparisonPoint, ...]:
        """4096 multiply-accumulates a cycle when every product has all terms, units and tiles as in loom."""
        made = cls(columns=bits, rows=8 * bits, tiles=32, pe_width=bits, tile_split="windows")
        note = f"a product of full-width values has {bits} x {bits} terms"
        baseline = bit_parallel(4096, bits, tile_split="windows")
        return with_auto(ComparisonPoint("equal peak", made, baseline, 4096, bits * bits, note))

    def of_nest(self, nest: Nest) -> FinishSchedule:
        """Steps of a layer."""
        key = (
            *("laconic", nest.layer.weights, nest.blocks_per_region, nest.rows, nest.filter_tiles),
            *(nest.wgt_blocks, self.recoding),
        )
        return FinishSchedule(nest, kept(nest, key, lambda: self._finish(nest)))

    def _finish(self, nest: Nest) -> NDArray[np.integer]:
        terms = self._activation_terms(nest)
        weights = self._weight_terms(nest)
        costs = np.ones((nest.regions, nest.blocks_per_region, nest.sets, nest.inner), dtype=np.uint16)
        slab = max(1, SLAB_STEPS // nest.inner)
        for region, block in np.ndindex(*costs.shape[:2]):
            for first in range(0, nest.sets, slab):
                part = terms[region, first : first + slab] * weights[region, block]
                at = costs[region, block, first : first + slab]
                np.maximum(at, part.max(axis=-1), out=at)
        if nest.window_parallel:
            return running(costs)
        return round_robin(costs.reshape(-1), nest.columns)

    def _activation_terms(self, nest: Nest) -> NDArray[np.uint16]:
        """Most terms over the windows of a set: (regions, sets, inner, channel tile and lane)."""
        split = TermSplit(self.recoding, nest.act_blocks, nest.pe_width)
        values = nest.layer.activations.load().values
        blocks = [lane_values(nest, split.counts(values, block)) for block in range(nest.act_blocks)]
        most = set_maximum(nest.by_lane(), np.stack(blocks, axis=2), by_tile=True)
        lanes = most.reshape(nest.regions, nest.channel_tiles, nest.sets, nest.inner, nest.lanes)
        joined = np.moveaxis(lanes, 1, 3).reshape(nest.regions, nest.sets, nest.inner, -1)
        return joined.astype(np.uint16)

    def _weight_terms(self, nest: Nest) -> NDArray[np.uint16]:
        """Most terms over the filters of a block: (regions, blocks, inner, channel tile and lane)."""
        split = TermSplit(self.recoding, nest.wgt_blocks, nest.pe_width)
        assert nest.layer.weights is not None
        values = nest.layer.weights.load().values
        parts = [split.counts(values, block) for block in range(nest.wgt_blocks)]
        counts = parts[0][:, None] if len(parts) == 1 else np.stack(parts, axis=1)
        counts = counts.reshape(*counts.shape[:2], nest.inner // nest.chunks, -1)
        if nest.depthwise:  # row and lane are one
            rows = by_tile(nest, counts[..., 0], 0)
            lanes = rows.reshape(*rows.shape[:3], nest.rows, nest.wgt_blocks, -1).max(axis=4).swapaxes(3, 4)
        else:
            idle = nest.chunks * nest.lanes - counts.shape[3]
            filled = np.pad(counts, ((0, 0), (0, 0), (0, 0), (0, idle))) if idle else counts
            lanes = by_tile(nest, filled, 0).max(axis=(3, 4))
            lanes = lanes.reshape(*lanes.shape[:3], nest.inner, nest.lanes)
        joined = np.moveaxis(lanes, 2, 3).reshape(nest.regions, nest.blocks_per_region, nest.inner, -1)
        most: NDArray[np.uint16] = joined.astype(np.uint16)
        return most

    def compute(self, layer: Layer, split: int | None = None) -> NDArray[np.int64]:
        """Outputs from products of one term of each operand; see `Design.compute`."""
        schedule = self.schedule(layer, split=split)
        nest = schedule.nest
        lanes, terms = Lanes(nest), term_planes(self.recoding)
        spent = self._pairs(lanes)
        if nest.window_parallel:
            check_steps(schedule, nest, spent)
        else:
            check_columns(schedule, nest, spent.reshape(-1))
        return nest_outputs(lanes, terms, terms)

    def _pairs(self, lanes: Lanes) -> NDArray[np.int64]:
        """Most pairs of terms that meet in a lane, (regions, blocks, sets, inner), value by value."""
        nest = lanes.nest
        spent = np.zeros((nest.regions, nest.blocks_per_region, nest.sets, nest.inner), dtype=np.int64)
        for region in range(nest.regions):
            most = np.zeros((nest.blocks_per_region, nest.inner, nest.channel_tiles, nest.lanes), np.int64)
            for filters in lanes.filters(region):
                counts, tiles = most_terms(filters, self.recoding), filters.numbers // nest.rows
                if nest.depthwise:
                    at = (tiles, filters.numbers % nest.rows)
                    most[0].transpose(1, 2, 0)[at] = counts[:, :, 0, 0]
                else:
                    np.maximum.at(most, tiles // nest.filter_tiles, counts)
            for windows in lanes.windows(region):
                sets = windows.numbers // nest.windows_per_set
                starts = np.flatnonzero(np.diff(sets, prepend=-1))
                reached = np.maximum.reduceat(most_terms(windows, self.recoding), starts, axis=0)
                for block in range(nest.blocks_per_region):
                    spent[region, block, sets[starts]] = (reached * most[block]).max(axis=(2, 3))
        return spent

    def work_bits(self, layer: Layer) -> int:
        """Products of the terms of both values, summed over the multiply-accumulates."""
        split = TermSplit(self.recoding)
        return total_work(layer, activations=split.counts, weights=split.counts)
