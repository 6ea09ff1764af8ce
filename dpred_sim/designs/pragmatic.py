"""Bit-Pragmatic: activations enter as terms, zero bits are skipped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.designs.base import ComparisonPoint, register
from dpred_sim.designs.bricks import (
    Bricks,
    Bytes,
    arranged,
    bordered,
    differences,
    group_costs,
    set_maximum,
    tile_costs,
    with_idle_cells,
)
from dpred_sim.designs.charged import check_columns, check_overlapped, check_steps
from dpred_sim.designs.dadiannao import bit_parallel, with_auto
from dpred_sim.designs.entering import of_chunks, of_column_groups, shifted_terms, whole
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
from dpred_sim.designs.recoding import TermSplit
from dpred_sim.designs.run_ahead import overlapped, round_robin
from dpred_sim.designs.work import total_work
from dpred_sim.errors import InputError
from dpred_sim.workload.layer import Layer

SLAB_BRICKS = 1 << 13
"""Bricks that are taken through their cycles side by side."""


@register("pragmatic")
@dataclass(frozen=True, kw_only=True)
class Pragmatic(NestDesign):
    """Activations enter as their terms (Albericio et al., MICRO'17).

    In a cycle a unit shifts to the lowest term of all its lanes, and each lane takes its own lowest term
    if it lies less than 2^`first_stage_bits` above. A step costs the slowest window, at least 1. Terms are
    set bits of the magnitude, or with `recoding` its signed powers of two (see `recoding.py`).
    `run_ahead` and `diffy` are those of dpred_stripes, the rest is in `NestDesign`.
    Raises InputError for a value that is not allowed.
    """

    first_stage_bits: int = 2
    recoding: bool = False
    run_ahead: int = 0
    diffy: bool = False

    def __post_init__(self) -> None:
        NestDesign.__post_init__(self)
        check_counts(self, "first_stage_bits", low=0, high=5)
        check_counts(self, "run_ahead", low=0)
        check_flags(self, "recoding", "diffy")

    @classmethod
    def equal_peak(cls, bits: int) -> tuple[ComparisonPoint, ...]:
        """4096 multiply-accumulates a cycle, in lockstep and with columns one step ahead."""
        baseline = bit_parallel(4096, bits)
        made = [cls(columns=bits, pe_width=bits, run_ahead=ahead) for ahead in (0, 1)]
        return (
            *with_auto(ComparisonPoint("equal peak", made[0], baseline, 4096, bits)),
            *with_auto(ComparisonPoint("run-ahead 1", made[1], baseline, 4096, bits)),
        )

    def of_nest(self, nest: Nest) -> NestSchedule:
        """Steps of a layer; raises InputError for differences that do not fit the units."""
        if self.diffy and nest.act_blocks > 1:
            raise InputError(
                "differences cannot be split over narrower units",
                field=f"layer {nest.layer.name!r}: pe_width",
                found=self.pe_width,
                allowed=f">= {nest.layer.activations.precision}",
            )
        options = (
            "pragmatic",
            self.first_stage_bits,
            self.recoding,
            self.diffy and nest.layer.kind == "conv",
        )
        if not nest.window_parallel:
            finish = kept(nest, ("turns", nest.steps, *options), lambda: self._turns(nest))
            return FinishSchedule(nest, finish)
        if self.run_ahead:
            key = ("ahead", nest.blocks_per_region, self.run_ahead, *options)
            return FinishSchedule(nest, kept(nest, key, lambda: self._ahead(nest)))
        sums = kept(nest, ("sums", *options), lambda: prefix_sums(self._steps(nest)))
        return PrefixSchedule(nest, sums, lambda: tile_costs(nest, self._groups(nest))[:, None])

    def _steps(self, nest: Nest) -> Bytes:
        """Cost of each step with every column waiting: (regions, sets, inner)."""
        planes = self._planes(nest)
        if len(planes) == 1:
            return set_maximum(nest, planes[0].tops)
        slowest: Bytes = group_costs(nest, planes, 1, both_ends=False).max(axis=-1)
        return slowest

    def _groups(self, nest: Nest) -> Bytes:
        """Cost of each column in each step: (regions, sets, inner, columns)."""
        return group_costs(nest, self._planes(nest), 1, both_ends=False)

    def _ahead(self, nest: Nest) -> NDArray[np.int64]:
        return overlapped(self._groups(nest), nest.blocks_per_region, self.run_ahead)

    def _turns(self, nest: Nest) -> NDArray[np.int64]:
        chunks = self._planes(nest)[0].tops[0, 0].max(axis=0)
        return round_robin(np.tile(chunks, nest.blocks_per_region), nest.columns)

    def _planes(self, nest: Nest) -> tuple[Bricks, ...]:
        """Cycles of each brick in place of widths; raw values and differences with `diffy`."""
        if self.diffy and nest.layer.kind == "conv":
            *planes, size = differences(nest)
            cycles = [self._cycles(nest, part, size, 0)[:, :, None] for part in planes]
            return tuple(Bricks(with_idle_cells(nest, part, 0), None) for part in cycles)
        values, size = arranged(nest, nest.layer.activations.load().values)
        blocks = [self._cycles(nest, values, size, block) for block in range(nest.act_blocks)]
        return (bordered(nest, np.stack(blocks, axis=2), None, [False] * nest.act_blocks),)

    def _cycles(self, nest: Nest, values: NDArray[Any], size: int, block: int) -> Bytes:
        """Cycles of one value block of each brick: (y, x, cell)."""
        split = TermSplit(self.recoding, nest.act_blocks, nest.pe_width)
        short = -values.shape[-1] % size
        if 1 << self.first_stage_bits >= 16 + self.recoding:  # every term is in reach
            counts = split.counts(values, block)
            starts = np.arange(0, values.shape[-1], size)
            cycles = np.maximum(np.maximum.reduceat(counts, starts, axis=-1), np.uint8(1))
        else:
            masks = split.masks(values, block)
            filled = np.pad(masks, (*((0, 0),) * (masks.ndim - 1), (0, short))) if short else masks
            cycles = unit_cycles(filled.reshape(-1, size), 1 << self.first_stage_bits)
        return cycles.reshape(*values.shape[:2], -1)

    def compute(self, layer: Layer, split: int | None = None) -> NDArray[np.int64]:
        """Outputs from the terms that each unit takes in the cycles it is charged; see `Design.compute`."""
        schedule = self.schedule(layer, split=split)
        nest = schedule.nest
        if nest.window_parallel:
            costs = self._groups(nest)
            if self.run_ahead:
                check_overlapped(schedule, nest, costs, self.run_ahead)
            else:
                check_steps(schedule, nest, costs.max(axis=-1)[:, None])
            cycles = of_column_groups(costs, 1)
        else:
            chunks = self._planes(nest)[0].tops[0, 0]
            check_columns(schedule, nest, np.tile(chunks.max(axis=0), nest.blocks_per_region))
            cycles = of_chunks(chunks)
        terms = shifted_terms(cycles, self.recoding, 1 << self.first_stage_bits)
        return nest_outputs(Lanes(nest, self.diffy and layer.kind == "conv"), terms, whole)

    def work_bits(self, layer: Layer) -> int:
        """Terms of each activation, summed over the multiply-accumulates."""
        return total_work(layer, activations=TermSplit(self.recoding).counts)


def unit_cycles(masks: NDArray[Any], reach: int) -> Bytes:
    """Cycles of units whose lanes hold terms at the set bits of `masks` (units, lanes), at least 1.

    A lane takes its lowest term when it lies less than `reach` above the lowest term of the unit.
    """
    span = masks.dtype.type(((1 << reach) - 1) & np.iinfo(masks.dtype).max)
    cycles = np.zeros(len(masks), dtype=np.uint8)
    for first in range(0, len(masks), SLAB_BRICKS):
        left = np.ascontiguousarray(masks[first : first + SLAB_BRICKS].T)
        taken = cycles[first : first + SLAB_BRICKS]
        low = np.empty_like(left)
        lowest = np.bitwise_or.reduce(left, axis=0)
        while lowest.any():
            taken += lowest != 0
            within = (lowest & -lowest) * span  # bits shifted out are above every term
            np.negative(left, out=low)
            low &= left
            low &= within
            left ^= low
            lowest = np.bitwise_or.reduce(left, axis=0)
    return np.maximum(cycles, np.uint8(1))
