"""Stripes: activations enter bit by bit, as many bits as the layer's precision."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpred_sim.designs.base import ComparisonPoint, register
from dpred_sim.designs.dadiannao import bit_parallel
from dpred_sim.designs.loop_nest import ConstantSchedule, NestDesign
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
        return (ComparisonPoint("equal peak", made, bit_parallel(4096, bits), 4096, bits),)

    def schedule(self, layer: Layer, rows: int | None = None) -> ConstantSchedule:
        """Steps of a layer, min(precision, pe_width) cycles each; raises InputError as `nest` does."""
        return ConstantSchedule(self.nest(layer, rows), min(layer.activations.precision, self.pe_width))

    def entering_bits(self, layer: Layer) -> NDArray[np.uint8]:
        """The layer's precision."""
        return np.array(layer.activations.precision, dtype=np.uint8)

    def work_bits(self, layer: Layer) -> int:
        """Bits of an activation at the layer's precision, summed over the multiply-accumulates."""
        return layer.macs * layer.activations.precision
