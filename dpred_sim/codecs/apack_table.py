"""Tables of value ranges for arithmetic coding, and the search for the one that makes a tensor smallest."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dpred_sim.codecs.bits import BitReader, BitWriter, damaged

RANGES = 16
"""Rows of a table (arXiv 2201.08830)."""
COUNT_BITS = 10
TOTAL = (1 << COUNT_BITS) - 1
"""The counts of all ranges together, so that what is below any of them fits COUNT_BITS."""
EXACT = 16
"""Magnitudes below it are all places where a range may begin; each octave above has a few."""
MOST_PLACES = 48
"""Places above EXACT on either side of zero."""
FREQUENT = 8
"""Patterns that may have a range of their own, wherever they are."""


@dataclass(frozen=True)
class Table:
    """Ranges of `bits`-bit patterns: `firsts` rise from 0; `counts` of TOTAL are their probabilities.

    A range ends where the next one begins. Those in use stand last; a range with the count 0 cannot be
    coded.
    """

    bits: int
    firsts: tuple[int, ...]
    counts: tuple[int, ...]

    @cached_property
    def first(self) -> NDArray[np.int64]:
        """First pattern of each range."""
        return np.array(self.firsts, np.int64)

    @cached_property
    def end(self) -> NDArray[np.int64]:
        """The pattern behind each range."""
        return np.append(self.first[1:], 1 << self.bits)

    @cached_property
    def offset_bits(self) -> NDArray[np.uint8]:
        """Length of the offsets of each range."""
        return np.array([max(0, int(size) - 1).bit_length() for size in self.end - self.first], np.uint8)

    @cached_property
    def count(self) -> NDArray[np.uint32]:
        """Probability of each range, in parts of 2**COUNT_BITS."""
        return np.array(self.counts, np.uint32)

    @cached_property
    def below(self) -> NDArray[np.uint32]:
        """Probability of all ranges before each."""
        return np.cumsum(self.count, dtype=np.uint32) - self.count

    @cached_property
    def index(self) -> NDArray[np.uint8]:
        """The range of each pattern, (2**bits,)."""
        return np.repeat(np.arange(len(self.firsts), dtype=np.uint8), self.end - self.first)

    def write(self, writer: BitWriter) -> None:
        """Row by row: first pattern, length of offsets, count of the rows before."""
        fields = np.stack([self.first, self.offset_bits, self.below], axis=1)
        writer.add(fields, [self.bits, offset_length_bits(self.bits), COUNT_BITS])

    @classmethod
    def read(cls, reader: BitReader, bits: int) -> Table:
        """The table at the head of a container; raises InputError for one that `write` does not make."""
        lengths = np.array([bits, offset_length_bits(bits), COUNT_BITS])
        starts = np.arange(RANGES)[:, None] * lengths.sum() + (np.cumsum(lengths) - lengths)
        first, offset_bits, below = reader.read(starts, lengths).astype(np.int64).T
        counts = np.diff(below, append=TOTAL)
        if first[0] or (np.diff(first) < 0).any() or below[0] or (counts < 0).any():
            raise damaged("the table's ranges do not rise")
        table = cls(bits, tuple(first.tolist()), tuple(counts.tolist()))
        if not np.array_equal(table.offset_bits, offset_bits):
            raise damaged("the table's offsets do not fit its ranges")
        if (table.count[table.first == table.end] > 0).any():
            raise damaged("the table has an empty range with a probability")
        return table


def offset_length_bits(bits: int) -> int:
    """Bits that hold a length of 0 to `bits`."""
    return bits.bit_length()


def searched(counts: NDArray[np.int64], bits: int, everything: bool = False) -> Table:
    """The table that makes values with this histogram of patterns, (2**bits,), smallest.

    Exact but for rounded probabilities, among all tables whose ranges begin at `_places`: a shortest
    path with at most RANGES steps. With `everything` every range can be coded, whether the histogram
    has it or not.
    """
    places = _places(counts, bits)
    before = np.concatenate([[0], np.cumsum(counts)])[places].astype(np.float64)
    total = max(1.0, before[-1])
    occurs = before[None, :] - before[:, None]
    size = places[None, :] - places[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        prefix = np.minimum(np.log2(total / np.where(occurs > 0, occurs, total)), COUNT_BITS)
        offset = np.ceil(np.log2(np.where(size > 0, size, 1)))
    # A range that can be coded costs all others a count; otherwise fewer ranges win only where equal.
    cost = occurs * (prefix + offset) + total * (1.0 / TOTAL if everything else 1e-9)
    cost[size <= 0] = np.inf
    best, came = cost[0], []
    choices = [(best[-1], 1)]
    for used in range(2, RANGES + 1):
        through = best[:, None] + cost
        step = through.argmin(axis=0)
        best = np.take_along_axis(through, step[None, :], axis=0)[0]
        came.append(step)
        choices.append((best[-1], used))
    used = min(choices)[1]
    cuts = [len(places) - 1]
    for step in reversed(came[: used - 1]):
        cuts.append(int(step[cuts[-1]]))
    firsts = [0, *places[cuts[:0:-1]].tolist()]
    return _table(firsts, np.add.reduceat(counts, firsts), bits, everything)


def _table(firsts: list[int], occurs: NDArray[np.int64], bits: int, everything: bool) -> Table:
    """Counts of TOTAL in proportion, at least 1 where a range must be coded."""
    total = max(1, int(occurs.sum()))
    needed = (occurs > 0) | everything
    if not needed.any():
        needed[0] = True
    counts = np.where(needed, np.maximum(1, occurs * TOTAL // total), 0)
    while counts.sum() != TOTAL:  # what rounding took or gave, where it matters least
        off = TOTAL - int(counts.sum())
        most = int(counts.argmax())
        counts[most] += max(off, 1 - int(counts[most]))
    spare = RANGES - len(firsts)
    return Table(bits, (0,) * spare + tuple(firsts), (0,) * spare + tuple(counts.tolist()))


def _places(counts: NDArray[np.int64], bits: int) -> NDArray[np.int64]:
    """Where ranges may begin, and the end: small magnitudes, a few an octave, frequent patterns."""
    everything = 1 << bits
    patterns = np.flatnonzero(counts)
    magnitude = int(np.minimum(patterns, everything - patterns).max(initial=0))
    octaves = max(1, magnitude.bit_length() - EXACT.bit_length() + 1)
    each = min(EXACT, 1 << ((MOST_PLACES // octaves).bit_length() - 1))
    lows = 1 << np.arange(EXACT.bit_length() - 1, bits)
    above = (lows[:, None] + lows[:, None] * np.arange(each) // each).reshape(-1)
    # As far as values go, and one place beyond them.
    above = above[: int(np.searchsorted(above, magnitude, side="right")) + 1]
    found = np.concatenate([np.arange(EXACT), above])
    frequent = np.argpartition(counts, -FREQUENT)[-FREQUENT:]
    return np.unique(np.concatenate([found, everything - found, frequent, frequent + 1])).astype(np.int64)
