"""Stripes: activations enter bit by bit, as many bits as the layer's precision."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpred_sim.designs.base import ComparisonPoint, register
from dpred_sim.designs.charged import check_columns, check_steps
from dpred_sim.designs.dadiannao import bit_parallel, with_auto
from dpred_sim.designs.entering import always, bit_serial, whole
from dpred_sim.designs.functional import Lanes, nest_outputs
from dpred_sim.designs.loop_nest import ConstantSchedule, Nest, NestDesign
from dpred_sim.workload.layer import Layer


@register("stripes")
@dataclass(frozen=True, kw_only=True)
class Stripes(NestDesign):
    """Activation-serial inner products with a precision per layer (Judd et al., MICRO'16).

    See `NestDesign` for the parameters. Raises InputError for a value that is not allowed.
    """

    @classmethod
    def equal_peak(cls, bits: int) -> tuple[ComparisonPoint, ...]:
        """4096 multiply-accumulates a cycle: as many columns as values have bits."""
        made = cls(columns=bits, pe_width=bits)
        return with_auto(ComparisonPoint("equal peak", made, bit_parallel(4096, bits), 4096, bits))

    def of_nest(self, nest: Nest) -> ConstantSchedule:
        """Steps of min(precision, pe_width) cycles each."""
        return ConstantSchedule(nest, min(nest.layer.activations.precision, self.pe_width))

    def compute(self, layer: Layer, split: int | None = None) -> NDArray[np.int64]:
        """Outputs from the bits of the layer's precision; see `Design.compute`."""
        schedule = self.schedule(layer, split=split)
        nest = schedule.nest
        bits = min(layer.activations.precision, self.pe_width)
        if nest.window_parallel:
            check_steps(schedule, nest, np.array([bits]))
        else:
            check_columns(schedule, nest, np.full(nest.steps, bits))
        return nest_outputs(Lanes(nest), bit_serial(always(bits)), whole)

    def work_bits(self, layer: Layer) -> int:
        """Bits of an activation at the layer's precision, summed over the multiply-accumulates."""
        return layer.macs * layer.activations.precision
