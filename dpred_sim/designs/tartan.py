"""Tartan: Stripes whose fully connected layers are bit-serial in the weights' loading too."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpred_sim.designs.base import ComparisonPoint, register
from dpred_sim.designs.bricks import chunk_costs, own_bits, plain_bricks, set_maximum, tile_maximum
from dpred_sim.designs.charged import check_rounds, check_steps
from dpred_sim.designs.dadiannao import bit_parallel, with_auto
from dpred_sim.designs.entering import bit_serial, loaded, of_chunks, of_rows, of_steps, whole
from dpred_sim.designs.filters import row_costs
from dpred_sim.designs.functional import Lanes, nest_outputs
from dpred_sim.designs.loop_nest import (
    ConstantSchedule,
    FinishSchedule,
    Nest,
    NestDesign,
    NestSchedule,
    PrefixSchedule,
    check_flags,
    kept,
    prefix_sums,
    running,
)
from dpred_sim.designs.work import total_work
from dpred_sim.workload.layer import Layer


@register("tartan")
@dataclass(frozen=True, kw_only=True)
class Tartan(NestDesign):
    """Stripes with fully connected layers in rounds (arXiv 1707.09068).

    In a round every column takes a chunk of its own, with weights that entered bit by bit during the
    round before: it costs max(precision of the activations, precision of the weights). With
    `dynamic_widths` a step or round costs the widest groups that it holds in place of precisions.
    The rest is in `NestDesign`. Raises InputError for a value that is not allowed.
    """

    dynamic_widths: bool = False

    def __post_init__(self) -> None:
        NestDesign.__post_init__(self)
        check_flags(self, "dynamic_widths")

    @classmethod
    def equal_peak(cls, bits: int) -> tuple[ComparisonPoint, ...]:
        """4096 multiply-accumulates a cycle, with precisions and with dynamic widths."""
        baseline = bit_parallel(4096, bits)
        made = [cls(columns=bits, pe_width=bits, dynamic_widths=dynamic) for dynamic in (False, True)]
        return (
            *with_auto(ComparisonPoint("equal peak", made[0], baseline, 4096, bits)),
            *with_auto(ComparisonPoint("dynamic widths", made[1], baseline, 4096, bits)),
        )

    def of_nest(self, nest: Nest) -> NestSchedule:
        """Steps of a layer."""
        if nest.window_parallel:
            if not self.dynamic_widths:
                return ConstantSchedule(nest, self._bits(nest)[0])
            sums = kept(
                nest, ("widest sums",), lambda: prefix_sums(set_maximum(nest, plain_bricks(nest).tops))
            )
            return PrefixSchedule(nest, sums, lambda: tile_maximum(nest, plain_bricks(nest).tops)[:, None])
        key = ("rounds", nest.layer.weights, nest.steps, nest.rows, nest.filter_tiles, self.dynamic_widths)
        return FinishSchedule(nest, kept(nest, key, lambda: self._rounds(nest)))

    def _bits(self, nest: Nest) -> tuple[int, int]:
        weights = nest.layer.weights
        assert weights is not None
        return (
            min(nest.layer.activations.precision, self.pe_width),
            min(weights.precision, self.pe_width),
        )

    def _rounds(self, nest: Nest) -> NDArray[np.integer]:
        """Finish times: the cost of a round falls on its first step."""
        starts = np.arange(0, nest.inner, nest.columns)
        costs = np.zeros((nest.blocks_per_region, nest.inner), dtype=np.uint8)
        if self.dynamic_widths:
            widths = np.maximum(chunk_costs(nest, 1, False), row_costs(nest, 1, False)[0, :, 0])
            costs[:, starts] = np.maximum.reduceat(widths, starts, axis=1)
        else:
            costs[:, starts] = max(self._bits(nest))
        return running(costs)

    def compute(self, layer: Layer, split: int | None = None) -> NDArray[np.int64]:
        """Outputs bit by bit; weights of fully connected layers come in bit by bit; see `Design.compute`."""
        schedule = self.schedule(layer, split=split)
        nest = schedule.nest
        act_bits, wgt_bits = self._bits(nest)
        if nest.window_parallel:
            steps = np.full((nest.regions, nest.sets, nest.inner), act_bits)
            if self.dynamic_widths:
                steps = set_maximum(nest, plain_bricks(nest).tops).astype(np.int64)
            check_steps(schedule, nest, steps[:, None])
            return nest_outputs(Lanes(nest), bit_serial(of_steps(steps)), whole)
        chunks = np.full(nest.inner, act_bits)
        planes = np.full((1, nest.blocks_per_region, 1, nest.inner), wgt_bits)
        if self.dynamic_widths:
            chunks = chunk_costs(nest, 1, False).astype(np.int64)
            planes = row_costs(nest, 1, False).astype(np.int64)
        check_rounds(schedule, nest, np.maximum(chunks, planes[0, :, 0]))
        return nest_outputs(Lanes(nest), bit_serial(of_chunks(chunks)), loaded(of_rows(planes)))

    def work_bits(self, layer: Layer) -> int:
        """Bits of an activation, precision or own width, summed over the multiply-accumulates."""
        if not self.dynamic_widths:
            return layer.macs * layer.activations.precision
        return total_work(layer, activations=lambda values: own_bits(values, layer.activations.signed))
