"""Subword-parallel multipliers: one wide product or several narrow ones at a time, per layer."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dpred_sim.designs.base import ComparisonPoint, register
from dpred_sim.designs.charged import check_columns, check_steps
from dpred_sim.designs.dadiannao import bit_parallel, with_auto
from dpred_sim.designs.entering import whole
from dpred_sim.designs.functional import Lanes, nest_outputs
from dpred_sim.designs.loop_nest import ConstantSchedule, Nest, NestDesign, check_choice, require_whole
from dpred_sim.workload.layer import Layer

NARROWEST = 4
"""Bits of the narrowest product."""


@register("subword")
@dataclass(frozen=True, kw_only=True)
class Subword(NestDesign):
    """Multipliers of `pe_width` bits that split into 2 or 4, as DVAFS and Envision (recalled).

    Moons et al., DATE'17 and ISSCC'17: a 16-bit multiplier does one product of 16 bits, two of 8 or four of
    4, by the larger precision of a layer's operands. Narrow products take further channels, so there are as
    many times the lanes. The rest is in `NestDesign`. Raises InputError for a value that is not allowed.
    """

    columns: int = 1

    def __post_init__(self) -> None:
        NestDesign.__post_init__(self)
        check_choice(self, "pe_width", (4, 8, 16))

    @classmethod
    def equal_peak(cls, bits: int) -> tuple[ComparisonPoint, ...]:
        """4096 multiply-accumulates a cycle: as many 16-bit multipliers, or half as many at 8 bits."""
        made = cls(tiles=bits)
        note = f"{4096 * bits // 16:,} multipliers of 16 bits; values of fewer bits run as 8 or 4"
        return with_auto(ComparisonPoint("equal peak", made, bit_parallel(4096, bits), 4096, bits, note))

    def products(self, layer: Layer) -> int:
        """Products of a layer that a multiplier does at a time."""
        widest = max(NARROWEST, layer.activations.precision)
        if layer.weights is not None:
            widest = max(widest, layer.weights.precision)
        return max(1, self.pe_width >> (widest - 1).bit_length())

    def nest(self, layer: Layer, rows: int | None = None, split: int | None = None) -> Nest:
        """The loop nest with as many lanes as products run at a time; raises InputError as `Nest` does."""
        return Nest(replace(self, lanes=self.lanes * self.products(layer)), layer, rows, split)

    def of_nest(self, nest: Nest) -> ConstantSchedule:
        """Steps of one cycle each; raises InputError for values wider than the multipliers."""
        require_whole(nest, "multipliers split, but do not join")
        return ConstantSchedule(nest, 1)

    def compute(self, layer: Layer, split: int | None = None) -> NDArray[np.int64]:
        """Outputs from whole values; see `Design.compute`.

        The products of a step have to fit the multipliers: their bits are those of the lanes as built.
        """
        schedule = self.schedule(layer, split=split)
        nest = schedule.nest
        widest = self.pe_width // self.products(layer)
        spent = -(-nest.lanes * widest // (self.lanes * self.pe_width))
        if nest.window_parallel:
            check_steps(schedule, nest, np.array([spent]))
        else:
            check_columns(schedule, nest, np.full(nest.steps, spent))
        return nest_outputs(Lanes(nest), whole, whole)

    def work_bits(self, layer: Layer) -> int:
        """Bits of the narrowest multiplier that takes the layer's values, over the multiply-accumulates."""
        return layer.macs * self.pe_width // self.products(layer)
