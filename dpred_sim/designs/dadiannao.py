"""DaDianNao: the bit-parallel baseline. Every unit takes whole values, a step is one cycle."""

from __future__ import annotations

from dataclasses import dataclass

from dpred_sim.designs.base import register
from dpred_sim.designs.loop_nest import ConstantSchedule, NestDesign
from dpred_sim.workload.layer import Layer


@register("dadiannao")
@dataclass(frozen=True, kw_only=True)
class DaDianNao(NestDesign):
    """Bit-parallel inner products, one window at a time (Chen et al., MICRO'14).

    See `NestDesign` for the parameters. Raises InputError for a value that is not allowed.
    """

    columns: int = 1

    def schedule(self, layer: Layer, rows: int | None = None) -> ConstantSchedule:
        """Steps of a layer, one cycle each; raises InputError for a layer that cannot run."""
        return ConstantSchedule(self.nest(layer, rows), 1)

    def work_bits(self, layer: Layer) -> int:
        """Multiply-accumulates: every one is the same work."""
        return layer.macs
