"""Signed powers of two: the terms of a magnitude, and how many there are.

Term-serial designs take a magnitude as its set bits, or recoded so that long runs of ones become two
terms. The recoding scans from the top. Outside a run a one stands for itself, unless it is the first of
three ones in a row: then a run starts with +2^(i + 1). Inside a run a zero at i above a one gives -2^i; a
one at i above two zeros gives -2^i and ends the run; two zeros are assumed below bit 0. (Not the
non-adjacent form, and not radix 4.)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAGNITUDES = 1 << 16
"""Magnitudes in the tables: those of 16-bit values."""
LOOK_UP = 1 << 16
"""Values looked up in one go: the indices are 64 bits wide in between."""


@cache
def digit_masks() -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Positions of the positive and negative recoded digits of each 16-bit magnitude."""
    magnitudes = np.arange(MAGNITUDES, dtype=np.uint32)
    scanned = magnitudes << np.uint32(2)  # two zeros below bit 0
    plus, minus = np.zeros_like(magnitudes), np.zeros_like(magnitudes)
    running = np.zeros(MAGNITUDES, dtype=bool)
    for bit in range(15, -1, -1):
        here, below, next_below = (((scanned >> np.uint32(bit + 2 - n)) & 1).astype(bool) for n in range(3))
        starts = ~running & here & below & next_below
        alone = ~running & here & ~starts
        ends = running & here & ~below & ~next_below
        gap = running & ~here & below
        plus[alone] |= np.uint32(1 << bit)
        plus[starts] |= np.uint32(1 << (bit + 1))
        minus[ends | gap] |= np.uint32(1 << bit)
        running = (running | starts) & ~ends
    return plus, minus


@cache
def term_masks(recoding: bool) -> NDArray[np.uint32]:
    """Positions of the terms of each 16-bit magnitude (17 bits when recoded)."""
    if not recoding:
        return np.arange(MAGNITUDES, dtype=np.uint32)
    plus, minus = digit_masks()
    return plus | minus


@cache
def term_counts(recoding: bool) -> NDArray[np.uint8]:
    """Number of terms of each 16-bit magnitude."""
    return np.bitwise_count(term_masks(recoding)).astype(np.uint8)


def magnitudes(values: NDArray[Any]) -> NDArray[np.uint16]:
    """Absolute values; 2^15 fits."""
    if values.dtype.kind == "u":
        return values.astype(np.uint16)
    return np.abs(values.astype(np.int32)).astype(np.uint16)


@dataclass(frozen=True, slots=True)
class TermSplit:
    """How a value becomes terms: in `blocks` parts of `size` bits of its magnitude, each by itself.

    The top block takes all that is left.
    """

    recoding: bool
    blocks: int = 1
    size: int = 16

    def counts(self, values: NDArray[Any], block: int = 0) -> NDArray[np.uint8]:
        """Number of terms of one block of each value (integers of 8 or 16 bits)."""
        return looked_up(values, self._table(values.dtype, block, count=True))

    def masks(self, values: NDArray[Any], block: int = 0) -> NDArray[Any]:
        """Positions of the terms of one block of each value, as set bits: uint16, or uint32 if needed."""
        return looked_up(values, self._table(values.dtype, block, count=False))

    def _table(self, dtype: np.dtype[Any], block: int, count: bool) -> NDArray[Any]:
        return _table(self, dtype.str, block, count)


@cache
def _table(split: TermSplit, dtype: str, block: int, count: bool) -> NDArray[Any]:
    kind = np.dtype(dtype)
    raw = np.arange(1 << 8 * kind.itemsize, dtype=f"u{kind.itemsize}").view(kind)
    part = magnitudes(raw) >> np.uint16(split.size * block if block else 0)
    if block < split.blocks - 1:
        part &= np.uint16((1 << split.size) - 1)
    table: NDArray[Any] = (term_counts if count else term_masks)(split.recoding)[part]
    return table.astype(np.uint16) if not count and table.max() < 1 << 16 else table


def looked_up(values: NDArray[Any], table: NDArray[Any]) -> NDArray[Any]:
    """table[value] of the bit pattern of each value, a cacheful at a time."""
    flat = np.ascontiguousarray(values).reshape(-1).view(f"u{values.dtype.itemsize}")
    found = np.empty(len(flat), table.dtype)
    for start in range(0, len(flat), LOOK_UP):
        np.take(table, flat[start : start + LOOK_UP], out=found[start : start + LOOK_UP], mode="clip")
    return found.reshape(values.shape)
