"""Cycles of the SCNN grid on a fully connected layer: channels dealt over the units in turn.

The plane of a channel is a single position, so a unit has one activation of each of its channels, and
multiplies it with blocks of the channel's non-zero weights: one of the activation inputs is in use. A unit
takes the weights of its own channels only. All outputs are at one position, so banks depend on filters alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.designs.base import Range
from dpred_sim.designs.scnn_folded import FOLD
from dpred_sim.designs.scnn_grid import bank_of

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class DealtGrid:
    """Number of units, and the sizes of a unit. Steps are runs of FOLD channels, as in a folded layer."""

    units: int
    wgt_inputs: int
    banks: int
    conflicts: bool = True

    def cycles(self, turns: NDArray[Any], weights: NDArray[Any], passes: list[Range]) -> Integers:
        """Cycles of each unit for each pass and step, shape (passes, steps, units).

        `turns` (channels,) are those that each activation takes to enter, 0 where it is zero, `weights`
        (filters, channels); a pass is a range of filters.
        """
        live = np.flatnonzero(turns)
        waits = turns[live].astype(np.int64)
        filters = np.arange(len(weights))
        bank = bank_of(filters, 0 * filters, 0 * filters, self.banks).astype(np.int16)
        spent = np.zeros((len(passes), len(live)), dtype=np.int64)
        for start in range(0, len(live), FOLD):
            some = slice(start, start + FOLD)
            occupied = np.ascontiguousarray(weights[:, live[some]].T != 0)
            for number, (first, last) in enumerate(passes):
                late = self._late(occupied[:, first:last], bank[first:last], waits[some])
                blocks = -(-np.count_nonzero(occupied[:, first:last], axis=1) // self.wgt_inputs)
                spent[number, some] = blocks * waits[some] + late
        return self.summed(spent, live, len(turns))

    def least(self, turns: NDArray[Any], weights: NDArray[Any], passes: list[Range]) -> Integers:
        """The same if no two products of a block met in a bank."""
        counts = np.add.reduceat(
            np.not_equal(weights, 0), [first for first, _ in passes], axis=0, dtype=np.int64
        )
        blocks = -(-counts // self.wgt_inputs)
        return self.summed(blocks * turns.astype(np.int64), np.arange(len(turns)), len(turns))

    def summed(self, spent: Integers, channels: Integers, count: int) -> Integers:
        """(passes, some of `count` channels) cycles to those of each (pass, step, unit)."""
        sums = np.zeros((-(-count // FOLD), self.units, len(spent)), dtype=np.int64)
        np.add.at(sums, (channels // FOLD, channels % self.units), spent.T)
        return sums.transpose(2, 0, 1)

    def _late(self, occupied: NDArray[np.bool_], bank: NDArray[np.int16], waits: Integers) -> Integers | int:
        """Cycles that the fullest banks cost each channel beyond the turns of its activation."""
        if not self.conflicts:
            return 0
        channel, place = np.nonzero(occupied)
        if not len(channel):
            return 0
        counts = np.bincount(channel, minlength=len(occupied))
        rank = np.arange(len(channel)) - (np.cumsum(counts) - counts)[channel]
        blocks = -(-int(counts.max()) // self.wgt_inputs)
        slots = np.full((len(occupied), blocks * self.wgt_inputs), -1, dtype=np.int16)
        slots[channel, rank] = bank[place]
        by_block = slots.reshape(len(occupied), blocks, self.wgt_inputs)
        hits = np.zeros(by_block.shape[:2], dtype=np.int64)
        for one in np.unique(bank):
            np.maximum(hits, np.count_nonzero(by_block == one, axis=2), out=hits)
        late: Integers = np.maximum(hits - waits[:, None], 0).sum(axis=1)
        return late
