"""Cuts a request into pieces that lie in one row of one or more banks, and those into chunks.

Only the address bits below the row decide, so the cuts of a whole request are remembered by its place
in the block below the row bits, once for all channels that are alike.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from dpred_sim.components.dram.mapping import Mapping
from dpred_sim.components.dram.standard import Standard

_REMEMBERED = 1 << 15
_CUTTERS = 32
_MAX_RUN = 4
STEP = 8
"""Bursts of one bank that enter the queue at a time."""
MAX_CHUNK = 32
"""Bursts of several banks that do."""


class Share(NamedTuple):
    """What one bank gives to a piece."""

    bank: int
    """Flat number over ranks, groups, banks."""
    group: int
    """Flat number over ranks and groups."""
    bursts: int
    first: int
    """Place of its first burst in the piece."""
    after: int
    """Bursts of the piece that follow its last one."""


@dataclass(slots=True)
class Piece:
    """Bursts of one request that lie in one row number of one rank. Shared by all requests of its shape."""

    row: int
    rank: int
    bursts: int
    interleaved: bool
    """The bank groups take turns closely enough for the data bus to be full."""
    shares: tuple[Share, ...]
    banks: tuple[int, ...]
    """Those of the shares; the same object for the same banks."""
    group: int = field(init=False)
    """That of the bank, -1 for several banks."""
    fills: bool = field(init=False)
    """There are as many bursts as enter the queues of its banks at a time."""

    def __post_init__(self) -> None:
        self.group = self.shares[0].group if len(self.shares) == 1 else -1
        self.fills = self.bursts >= STEP * len(self.banks)


@dataclass(slots=True)
class Run:
    """Consecutive bursts of the same banks and row."""

    whole: Piece
    chunks: tuple[Piece, ...]
    """What enters a queue at a time: the whole, or parts of it."""
    parted: bool = field(init=False)
    first: int = field(init=False)
    """Bursts of the first chunk, which are those of all but the last."""
    last: int = field(init=False)

    def __post_init__(self) -> None:
        self.parted = len(self.chunks) > 1
        self.first, self.last = self.chunks[0].bursts, self.chunks[-1].bursts


class Cutter:
    """Cuts requests by one mapping. `spacing` is tCCD_L in bursts, rounded up."""

    def __init__(self, mapping: Mapping, spacing: int) -> None:
        self._mapping = mapping
        self._spacing = spacing
        self._plain = mapping.plain
        self._low_bits = mapping.low_bits
        self._row_mask = mapping.row_mask
        self._last = ((mapping.row_mask + 1) << mapping.low_bits) - 1
        self._low_mask = (1 << mapping.low_bits) - 1
        self._known: dict[tuple[int, int], tuple[Run, ...]] = {}
        self._bank_sets: dict[tuple[int, ...], tuple[int, ...]] = {}

    def cut(self, burst: int, count: int) -> tuple[int, tuple[Run, ...]]:
        """Row offset and runs of `count` bursts from `burst`; add the offset to each piece's row."""
        if self._plain and (burst & self._last) + count <= self._last + 1:
            key = (burst & self._low_mask, count)
            runs = self._known.get(key)
            if runs is None:
                runs = self._remember(key, self._cut(*key))
            return (burst >> self._low_bits) & self._row_mask, runs
        return 0, self._cut(burst, count)

    def _remember(self, key: tuple[int, int], runs: tuple[Run, ...]) -> tuple[Run, ...]:
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[key] = runs
        return runs

    def _cut(self, burst: int, count: int) -> tuple[Run, ...]:
        mapping = self._mapping
        groups_per_rank = mapping.standard.bank_groups
        rows: list[tuple[int, int, list[tuple[int, int]]]] = []
        for number in range(burst, burst + count):
            place = mapping.locate(number)
            item = (place.flat_bank, place.rank * groups_per_rank + place.group)
            if rows and rows[-1][:2] == (place.row, place.rank):
                rows[-1][2].append(item)
            else:
                rows.append((place.row, place.rank, [item]))
        runs: list[Run] = []
        for row, rank, banks in rows:
            if self._interleaved(banks):
                runs += self._runs(row, rank, banks, True)
            else:
                for part in _split(banks):
                    runs += self._runs(row, rank, part, False)
        return tuple(runs)

    def _runs(self, row: int, rank: int, banks: list[tuple[int, int]], interleaved: bool) -> list[Run]:
        """One run where all chunks are of the same banks, else a run a chunk."""
        step = min(STEP * len(set(banks)), MAX_CHUNK)
        chunks = tuple(
            self._piece(row, rank, banks[start : start + step], interleaved)
            for start in range(0, len(banks), step)
        )
        if all(chunk.banks is chunks[0].banks for chunk in chunks):
            return [Run(self._piece(row, rank, banks, interleaved), chunks)]
        return [Run(chunk, (chunk,)) for chunk in chunks]

    def _piece(self, row: int, rank: int, banks: list[tuple[int, int]], interleaved: bool) -> Piece:
        total = len(banks)
        first: dict[tuple[int, int], int] = {}
        last: dict[tuple[int, int], int] = {}
        count: dict[tuple[int, int], int] = {}
        for place, item in enumerate(banks):
            first.setdefault(item, place)
            last[item] = place
            count[item] = count.get(item, 0) + 1
        shares = tuple(
            Share(item[0], item[1], count[item], first[item], total - 1 - last[item]) for item in first
        )
        numbers = tuple(share.bank for share in shares)
        numbers = self._bank_sets.setdefault(numbers, numbers)
        return Piece(row, rank, total, interleaved, shares, numbers)

    def _interleaved(self, banks: list[tuple[int, int]]) -> bool:
        if self._spacing <= 1:
            return True
        longest = run = 0
        last = -1
        count: dict[int, int] = {}
        for _, group in banks:
            run = run + 1 if group == last else 1
            longest = max(longest, run)
            last = group
            count[group] = count.get(group, 0) + 1
        most = max(count.values())
        return len(banks) > 1 and longest <= _MAX_RUN and (most - longest) * self._spacing < len(banks)


@lru_cache(maxsize=_CUTTERS)
def cutter(mapping: str | None, standard: Standard, bus_bits: int, spacing: int) -> Cutter:
    """The cutter of a mapping (see Mapping); `spacing` as in Cutter. Raises InputError."""
    return Cutter(Mapping(mapping, standard, bus_bits), spacing)


def _split(banks: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Bursts by bank, in the order of the banks' first bursts."""
    parts: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for item in banks:
        parts.setdefault(item, []).append(item)
    return list(parts.values())
