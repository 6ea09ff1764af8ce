"""DPRed Stripes: activations enter bit by bit, as many bits as their group needs right now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.designs.base import ComparisonPoint, register
from dpred_sim.designs.bricks import (
    Bytes,
    chunk_costs,
    difference_bricks,
    group_costs,
    own_bits,
    plain_bricks,
    set_maximum,
    tile_costs,
)
from dpred_sim.designs.charged import check_columns, check_overlapped, check_steps
from dpred_sim.designs.dadiannao import bit_parallel, with_auto
from dpred_sim.designs.entering import (
    bit_serial,
    lows_of_chunks,
    lows_of_columns,
    of_chunks,
    of_column_groups,
    whole,
)
from dpred_sim.designs.functional import Lanes, nest_outputs
from dpred_sim.designs.loop_nest import (
    FinishSchedule,
    Nest,
    NestDesign,
    NestSchedule,
    PrefixSchedule,
    check_counts,
    check_flags,
    kept,
    prefix_sums,
)
from dpred_sim.designs.run_ahead import overlapped, round_robin
from dpred_sim.designs.work import total_work
from dpred_sim.errors import InputError
from dpred_sim.workload.layer import Layer


@register("dpred_stripes")
@dataclass(frozen=True, kw_only=True)
class DpredStripes(NestDesign):
    """Activation-serial inner products with a width per group (arXiv 1804.06732).

    A group is the bricks of `group_columns` neighbouring columns. Without `run_ahead` every column waits
    for the slowest one in each step; with r registers a column starts step n once all columns ended step
    n - 1 - r. `both_ends`: zero bits at the bottom of a group are skipped too. `even_only`: widths are
    rounded up to even ones. `diffy`: differences of neighbouring windows enter in place of values
    (Mahmoud et al., MICRO'18). The rest is in `NestDesign`.
    Raises InputError for a value that is not allowed.
    """

    group_columns: int = 1
    run_ahead: int = 0
    both_ends: bool = False
    even_only: bool = False
    diffy: bool = False

    def __post_init__(self) -> None:
        NestDesign.__post_init__(self)
        check_counts(self, "group_columns")
        check_counts(self, "run_ahead", low=0)
        check_flags(self, "both_ends", "even_only", "diffy")

    @classmethod
    def equal_peak(cls, bits: int) -> tuple[ComparisonPoint, ...]:
        """4096 multiply-accumulates a cycle: as many columns as values have bits."""
        made = cls(columns=bits, pe_width=bits)
        return with_auto(ComparisonPoint("equal peak", made, bit_parallel(4096, bits), 4096, bits))

    def of_nest(self, nest: Nest) -> NestSchedule:
        """Steps of a layer; raises InputError for differences that do not fit the units."""
        if self.diffy and nest.act_blocks > 1:
            raise InputError(
                "differences cannot be split over narrower units",
                field=f"layer {nest.layer.name!r}: pe_width",
                found=self.pe_width,
                allowed=f">= {nest.layer.activations.precision}",
            )
        options = (self.group_columns, self.both_ends, self.even_only, self.diffy)
        if not nest.window_parallel:
            finish = kept(nest, ("turns", nest.steps, *options), lambda: self._turns(nest))
            return FinishSchedule(nest, finish)
        if self.run_ahead:
            key = ("ahead", nest.blocks_per_region, self.run_ahead, *options)
            return FinishSchedule(
                nest,
                kept(
                    nest,
                    key,
                    lambda: overlapped(self._groups(nest), nest.blocks_per_region, self.run_ahead),
                ),
            )
        sums = kept(nest, ("sums", *options), lambda: prefix_sums(self._steps(nest)))
        return PrefixSchedule(nest, sums, lambda: tile_costs(nest, self._groups(nest))[:, None])

    def _steps(self, nest: Nest) -> Bytes:
        """Cost of each step with every column waiting: (regions, sets, inner)."""
        if self.both_ends or self._diffy(nest):
            slowest: Bytes = self._groups(nest).max(axis=-1)
            return slowest
        return self._rounded(set_maximum(nest, plain_bricks(nest).tops))

    def _groups(self, nest: Nest) -> Bytes:
        """Cost of each column group in each step: (regions, sets, inner, groups)."""
        planes = difference_bricks(nest) if self._diffy(nest) else (plain_bricks(nest, lows=self.both_ends),)
        return self._rounded(group_costs(nest, planes, self.group_columns, self.both_ends))

    def _turns(self, nest: Nest) -> NDArray[np.integer]:
        """Finish times of the fully connected nest; neighbouring chunks make a group."""
        chunks = self._rounded(chunk_costs(nest, self.group_columns, self.both_ends))
        return round_robin(np.tile(chunks, nest.blocks_per_region), nest.columns)

    def _rounded(self, costs: Bytes) -> Bytes:
        return (costs + np.uint8(1)) & np.uint8(0xFE) if self.even_only else costs

    def _diffy(self, nest: Nest) -> bool:
        return self.diffy and nest.layer.kind == "conv"

    def compute(self, layer: Layer, split: int | None = None) -> NDArray[np.int64]:
        """Outputs from as many bits of each group as it is charged; see `Design.compute`."""
        schedule = self.schedule(layer, split=split)
        nest = schedule.nest
        if not nest.window_parallel:
            costs = self._rounded(chunk_costs(nest, self.group_columns, self.both_ends))
            check_columns(schedule, nest, np.tile(costs, nest.blocks_per_region))
            lows = lows_of_chunks(self.group_columns) if self.both_ends else None
            return nest_outputs(Lanes(nest), bit_serial(of_chunks(costs), lows), whole)
        costs = self._groups(nest)
        if self.run_ahead:
            check_overlapped(schedule, nest, costs, self.run_ahead)
        else:
            check_steps(schedule, nest, costs.max(axis=-1)[:, None])
        lows = lows_of_columns(self.group_columns) if self.both_ends else None
        entering = bit_serial(of_column_groups(costs, self.group_columns), lows)
        return nest_outputs(Lanes(nest, self._diffy(nest)), entering, whole)

    def work_bits(self, layer: Layer) -> int:
        """Bits that each activation needs by itself, summed over the multiply-accumulates."""
        signed = layer.activations.signed

        def bits(values: NDArray[Any]) -> Bytes:
            return self._rounded(own_bits(values, signed, self.both_ends))

        return total_work(layer, activations=bits)
