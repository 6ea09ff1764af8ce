"""Cycles of the SCNN grid on a fully connected layer: channels folded to planes of 16 x 16.

A product counts only where activation and weight are of the same channel, and all outputs are at one
position, so banks depend on filters alone: a pair of blocks is late by its repeated banks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.designs.base import Range
from dpred_sim.designs.scnn_grid import Integers, bank_of, deal

SIDE = 16
FOLD = SIDE * SIDE
"""Channels of a folded plane."""
NARROW = 8
"""Weight inputs up to which blocks are looked at for repeated banks before anything is sorted."""


def folded(vector: NDArray[Any]) -> NDArray[Any]:
    """(..., channels) to (..., folds, FOLD), filled up with zeros."""
    short = -vector.shape[-1] % FOLD
    filled = np.pad(vector, (*((0, 0),) * (vector.ndim - 1), (0, short)))
    return filled.reshape(*vector.shape[:-1], -1, FOLD)


@dataclass(frozen=True, slots=True)
class FoldedGrid:
    """Units (x, y) of the grid and the sizes of a unit."""

    units: tuple[int, int]
    act_inputs: int
    wgt_inputs: int
    banks: int
    conflicts: bool = True

    def owner(self) -> Integers:
        """Unit of each channel of a fold; channel = x * SIDE + y."""
        tile_x, tile_y = (-(-SIDE // units) for units in self.units)
        at = np.arange(FOLD)
        return at // SIDE // tile_x * self.units[1] + at % SIDE // tile_y

    def cycles(
        self, activations: NDArray[Any], turns: NDArray[Any], weights: NDArray[Any], passes: list[Range]
    ) -> NDArray[np.int64]:
        """Cycles of each unit for each pass and fold, shape (passes, folds, units).

        `activations` and the cycles that they take to enter, `turns`, are (folds, FOLD), `weights`
        (filters, channels); a pass is a range of filters.
        """
        filters = np.arange(len(weights))
        at_zero = np.zeros_like(filters)
        bank = bank_of(filters, at_zero, at_zero, self.banks).astype(np.int32)
        owner = self.owner()
        count_units = self.units[0] * self.units[1]
        cycles = np.zeros((len(passes), len(activations), count_units), dtype=np.int64)
        for fold in range(len(activations)):
            block_of, units, waits = self._blocks(activations[fold], turns[fold], owner)
            if not len(units):
                continue
            part = np.ascontiguousarray(weights[:, fold * FOLD : (fold + 1) * FOLD].T)
            # Products of the same key meet in a bank; those without an activation never do.
            key = np.where(block_of < 0, -1, block_of * self.banks)[: len(part), None]
            for number, (first, last) in enumerate(passes):
                mine = part[:, first:last]
                keys = np.where(key < 0, np.int32(-1), key + bank[first:last])[mine != 0]
                count = -(-len(keys) // self.wgt_inputs)
                spent = waits * count + (self._late(keys, waits) if self.conflicts else 0)
                cycles[number, fold] = np.bincount(units, weights=spent, minlength=count_units)
        return cycles

    def _blocks(
        self, values: NDArray[Any], turns: NDArray[Any], owner: Integers
    ) -> tuple[NDArray[np.int32], Integers, Integers]:
        """Activation block of each channel of a fold (-1: zero), and unit and turns of each block."""
        found = np.flatnonzero(values)
        found = found[np.argsort(owner[found], kind="stable")]
        dealt = deal(owner[found], found, self.act_inputs)
        block_of = np.full(FOLD, -1, dtype=np.int32)
        number = np.repeat(np.arange(len(dealt.first)), np.diff(np.append(dealt.first, len(found))))
        block_of[found] = number
        slowest = np.maximum.reduceat(turns[found], dealt.first) if len(found) else dealt.first
        return block_of, dealt.segments, slowest.astype(np.int64)

    def _late(self, keys: NDArray[np.int32], waits: Integers) -> NDArray[Any]:
        """Cycles that the fullest banks cost each activation block beyond its turns."""
        size, room = self.wgt_inputs, len(waits) * self.banks
        slots = np.full(-(-len(keys) // size) * size, -1, dtype=np.int32)
        slots[: len(keys)] = keys
        blocks = slots.reshape(-1, size)
        if size <= NARROW:  # most blocks have no two products in a bank
            columns = np.ascontiguousarray(blocks.T)
            busy = np.zeros(len(blocks), dtype=bool)
            for gap in range(1, size):
                busy |= ((columns[gap:] == columns[:-gap]) & (columns[gap:] >= 0)).any(axis=0)
            blocks = blocks[busy]
        number: Integers = np.arange(
            len(blocks), dtype=np.int32 if len(blocks) * room < 1 << 31 else np.int64
        )
        # Products of a weight block, activation block and bank, side by side.
        order = np.sort((number[:, None] * room + blocks)[blocks >= 0])
        banks = np.flatnonzero(np.diff(order, prepend=-1))
        hits = np.diff(banks, append=len(order))
        pairs = order[banks] // self.banks
        first = np.flatnonzero(np.diff(pairs, prepend=-1))
        if not len(first):
            return np.zeros(len(waits))
        block = pairs[first] % len(waits)
        over = np.maximum(np.maximum.reduceat(hits, first) - waits[block], 0)
        return np.bincount(block, weights=over, minlength=len(waits))
