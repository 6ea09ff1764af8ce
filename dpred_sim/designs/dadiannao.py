"""DaDianNao: the bit-parallel baseline. Every unit takes whole values, a step is one cycle."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.designs.base import ComparisonPoint, register
from dpred_sim.designs.charged import check_steps
from dpred_sim.designs.entering import whole
from dpred_sim.designs.functional import Lanes, nest_outputs
from dpred_sim.designs.loop_nest import ConstantSchedule, Nest, NestDesign
from dpred_sim.workload.layer import Layer


@register("dadiannao")
@dataclass(frozen=True, kw_only=True)
class DaDianNao(NestDesign):
    """Bit-parallel inner products, one window at a time (Chen et al., MICRO'14).

    See `NestDesign` for the parameters. Raises InputError for a value that is not allowed.
    """

    columns: int = 1

    @classmethod
    def equal_peak(cls, bits: int) -> tuple[ComparisonPoint, ...]:
        """4096 multiply-accumulates a cycle: the baseline against itself."""
        baseline = bit_parallel(4096, bits)
        return with_auto(ComparisonPoint("equal peak", baseline, baseline, 4096, 1))

    def of_nest(self, nest: Nest) -> ConstantSchedule:
        """Steps of one cycle each."""
        return ConstantSchedule(nest, 1)

    def compute(self, layer: Layer, split: int | None = None) -> NDArray[np.int64]:
        """Outputs from whole values, or their blocks in units of their own; see `Design.compute`."""
        schedule = self.schedule(layer, split=split)
        nest = schedule.nest
        check_steps(schedule, nest, np.ones(1, dtype=np.int64))
        return nest_outputs(Lanes(nest), whole, whole)

    def work_bits(self, layer: Layer) -> int:
        """Multiply-accumulates: every one is the same work."""
        return layer.macs


def bit_parallel(macs: int, bits: int, **mapping: Any) -> DaDianNao:
    """The baseline of `macs` multiply-accumulates a cycle: 16 lanes, at most 16 filters a tile."""
    rows = min(16, macs // 16)
    tiles = macs // (16 * rows)
    return DaDianNao(rows=rows, tiles=tiles, pe_width=bits, **mapping)


def with_auto(point: ComparisonPoint) -> tuple[ComparisonPoint, ...]:
    """A point, and the same with the tiles of both machines split as suits each layer.

    A design whose dataflow leaves no choice meets a baseline that has it; a single tile has nothing to split.
    """
    if point.baseline.tiles == 1:
        return (point,)
    design, baseline = (
        replace(one, tile_split="auto") if isinstance(one, NestDesign) else one
        for one in (point.design, point.baseline)
    )
    label = "auto" if point.label == "equal peak" else f"{point.label}, auto"
    return point, replace(point, label=label, design=design, baseline=baseline)
