"""Bit Fusion: units that fuse into one wide or many narrow multipliers, per layer."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dpred_sim.designs.base import ComparisonPoint, register
from dpred_sim.designs.charged import check_columns, check_steps
from dpred_sim.designs.dadiannao import bit_parallel, with_auto
from dpred_sim.designs.entering import two_bit_bricks
from dpred_sim.designs.functional import Lanes, nest_outputs
from dpred_sim.designs.loop_nest import ConstantSchedule, Nest, NestDesign, check_choice
from dpred_sim.designs.space_to_depth import SpaceToDepth
from dpred_sim.errors import InputError
from dpred_sim.workload.layer import Layer


@register("bit_fusion")
@dataclass(frozen=True, kw_only=True)
class BitFusion(NestDesign):
    """A systolic array of `rows` (filters) x `lanes` fusion units (Sharma et al., ISCA'18).

    Precisions are rounded up to powers of two, at least 2. A unit does one product of two
    `pe_width`-bit values a cycle, (`pe_width` / p) times as many for each operand that is narrower,
    as more channels at a time, and takes p / `pe_width` times as long for each that is wider.
    Conv groups, depthwise layers too, run one after another whatever `depthwise` says; strided layers are
    not rearranged unless asked, as in the published formula.
    Raises InputError for a value that is not allowed.
    """

    columns: int = 1
    rows: int = 32
    tiles: int = 1
    pe_width: int = 8
    space_to_depth: SpaceToDepth = False

    def __post_init__(self) -> None:
        NestDesign.__post_init__(self)
        check_choice(self, "columns", (1,))
        if self.pe_width not in (2, 4, 8, 16):
            raise InputError(
                "bad design parameter", field="pe_width", found=self.pe_width, allowed=(2, 4, 8, 16)
            )

    @classmethod
    def equal_peak(cls, bits: int) -> tuple[ComparisonPoint, ...]:
        """512 fusion units: 512 multiply-accumulates a cycle at 8 bits, 128 at 16."""
        macs = 512 * 8 * 8 // (bits * bits)
        note = f"512 8-bit units against {macs} {bits}-bit multipliers, neither with space to depth"
        baseline = bit_parallel(macs, bits, space_to_depth=False)
        return with_auto(ComparisonPoint("per MAC", cls(), baseline, macs, bits * bits, note))

    def nest(self, layer: Layer, rows: int | None = None, split: int | None = None) -> Nest:
        """The loop nest with as many lanes as products run at a time; raises InputError as `Nest` does."""
        return Nest(self, layer, rows, split, fused=self._fused(layer))

    def splits(self, layer: Layer) -> tuple[int, ...]:
        """As in `NestDesign`, whatever `depthwise` says."""
        return NestDesign.splits(replace(self, depthwise="spread"), layer)

    def of_nest(self, nest: Nest) -> ConstantSchedule:
        """Steps that are all alike."""
        return ConstantSchedule(nest, self._time(nest.original))

    def _fused(self, layer: Layer) -> int:
        """Products that a unit does at a time."""
        products = 1
        for bits in precisions(layer):
            products *= self.pe_width // min(bits, self.pe_width)
        return products

    def _time(self, layer: Layer) -> int:
        cycles = 1
        for bits in precisions(layer):
            cycles *= max(bits, self.pe_width) // self.pe_width
        return cycles

    def compute(self, layer: Layer, split: int | None = None) -> NDArray[np.int64]:
        """Outputs from products of 2-bit bricks of both operands; see `Design.compute`.

        A unit of `pe_width` bits has (`pe_width` / 2)^2 bricks; the products that it does at a time have
        to fit them in the cycles that they are charged.
        """
        schedule = self.schedule(layer, split=split)
        nest = schedule.nest
        activations, weights = precisions(layer)
        bricks = self._fused(layer) * (activations // 2) * (weights // 2)
        cycles = -(-bricks // (self.pe_width // 2) ** 2)
        if nest.window_parallel:
            check_steps(schedule, nest, np.array([cycles]))
        else:
            check_columns(schedule, nest, np.full(nest.steps, cycles))
        return nest_outputs(Lanes(nest), two_bit_bricks(activations), two_bit_bricks(weights))

    def work_bits(self, layer: Layer) -> int:
        """Product of the rounded precisions, summed over the multiply-accumulates."""
        activations, weights = precisions(layer)
        return layer.macs * activations * weights


def precisions(layer: Layer) -> tuple[int, int]:
    """Precisions of activations and weights, rounded up to powers of two, at least 2."""
    weights = layer.activations if layer.weights is None else layer.weights
    a, w = (1 << (max(tensor.precision, 2) - 1).bit_length() for tensor in (layer.activations, weights))
    return a, w
