"""SCNN with activations that enter bit by bit, as many bits as they need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.designs.base import ComparisonPoint, register
from dpred_sim.designs.bricks import own_bits
from dpred_sim.designs.dadiannao import bit_parallel, with_auto
from dpred_sim.designs.loop_nest import check_counts
from dpred_sim.designs.scnn import Scnn
from dpred_sim.designs.work import total_work
from dpred_sim.workload.layer import Layer


@register("scnn_dpred")
@dataclass(frozen=True, kw_only=True)
class ScnnDpred(Scnn):
    """SCNN whose activations are stored with group widths and enter serially (arXiv 1804.06732).

    An activation takes ceil(width / `serial_bits`) cycles, and a block of activations waits for its
    slowest; products leave together, so a pair of blocks takes the longer of that and its fullest bank.
    The rest is in `Scnn`. Raises InputError for a value that is not allowed.
    """

    serial_bits: int = 1

    def __post_init__(self) -> None:
        Scnn.__post_init__(self)
        check_counts(self, "serial_bits", high=16)

    @classmethod
    def equal_peak(cls, bits: int) -> tuple[ComparisonPoint, ...]:
        """1024 x `bits` serial multipliers, 4 activations x 4 `bits` weights a unit, against a dense 1024."""
        note = f"{1024 * bits:,} serial multipliers against a dense machine of 1024"
        made = cls(group_passes="separate", pe_width=bits, tiles=64, act_inputs=4, wgt_inputs=4 * bits)
        return with_auto(ComparisonPoint("1024 MACs", made, bit_parallel(1024, bits), 1024, bits, note))

    def turns(self, values: NDArray[Any], signed: bool) -> NDArray[np.uint8]:
        """Cycles that each activation takes to enter."""
        widths = own_bits(values, signed).astype(np.int16)
        cycles: NDArray[np.uint8] = (-(-widths // self.serial_bits)).astype(np.uint8)
        return cycles

    def entered(self, values: NDArray[np.int64], signed: bool) -> NDArray[np.int64]:
        """The bits of each activation that enter in its turns, the top one negative in a signed tensor."""
        bits = self.turns(values, signed).astype(np.int64) * self.serial_bits
        span = np.int64(1) << bits
        low = values & (span - 1)
        return np.where(low >> (bits - 1) & 1, low - span, low) if signed else low

    def work_bits(self, layer: Layer) -> int:
        """Bits of the activation, summed over the multiply-accumulates with both values non-zero."""
        signed = layer.activations.signed
        return total_work(
            layer,
            activations=lambda values: own_bits(values, signed) * np.not_equal(values, 0),
            weights=lambda values: np.not_equal(values, 0),
        )
