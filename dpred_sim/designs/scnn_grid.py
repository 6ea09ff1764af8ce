"""Cycles of a grid of sparse Cartesian-product units on a convolution, exact but not product by product.

A unit multiplies blocks of non-zero activations with blocks of non-zero weights; a pair of blocks takes
as long as its fullest accumulator bank. Pairs that look alike cost alike: blocks are reduced to what
their banks depend on, each distinct pair is evaluated once, and a matrix product adds up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import gcd
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.integer]
Barrier = Literal["channel", "pass"]
Columns = list[tuple[Integers, NDArray[np.float32]]]
"""Distinct weight blocks and their number in each column, a phase a time."""
SLAB_PRODUCTS = 1 << 20
"""Pairs of blocks whose banks are looked at in one go."""
SLAB_VALUES = 1 << 20
"""Weights looked at in one go."""
TABLE_BITS = 22
"""Keys of up to this many bits are told apart by a table, longer ones by sorting."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One spatial axis of a convolution on the grid; positions count from the padded edge."""

    size: int
    outputs: int
    kernel: int
    stride: int
    dilation: int
    padding: int
    units: int

    @property
    def tile(self) -> int:
        """Positions of a unit."""
        return -(-self.size // self.units)

    def inside(self) -> NDArray[np.bool_]:
        """Positions of the grid whose every product is inside the plane."""
        at = np.arange(self.tile * self.units)
        low, high = (self.kernel - 1) * self.dilation, self.stride * self.outputs - 1
        inside: NDArray[np.bool_] = (at >= low) & (at <= high)
        return inside

    def turn(self) -> Integers:
        """Outputs, modulo 4, by which a position lies behind the first one inside, which has 0."""
        low = (self.kernel - 1) * self.dilation
        return (np.arange(self.tile * self.units) - low) // self.stride % 4

    def output(self, positions: Integers) -> Integers:
        """(position, tap) outputs, rounded towards zero; -1 outside the plane."""
        distance = positions[:, None] - np.arange(self.kernel) * self.dilation
        outputs = np.sign(distance) * (np.abs(distance) // self.stride)
        return np.where((outputs >= 0) & (outputs < self.outputs), outputs, -1)

    def halo(self) -> tuple[int, int, int]:
        """Partial sums that cross the lower edge, a whole tile, and the upper edge."""
        return max(0, (self.kernel - 1) * self.dilation - self.padding), self.tile, self.padding


@dataclass(frozen=True, slots=True)
class Blocks:
    """Runs of at most n entries of one segment: codes (blocks, n), -1 where short, and the segment."""

    codes: Integers
    segments: Integers
    first: Integers
    """Number of the first entry of each block."""


def deal(segments: Integers, codes: Integers, size: int) -> Blocks:
    """Cuts entries, sorted by segment, in blocks of `size` that end with their segment."""
    count = len(codes)
    edge = np.ones(count, dtype=bool)
    edge[1:] = segments[1:] != segments[:-1]
    starts = np.flatnonzero(edge)
    place = np.arange(count) - np.repeat(starts, np.diff(np.append(starts, count)))
    slot = place % size
    first = np.flatnonzero(slot == 0)
    blocks = np.full((len(first), size), -1, dtype=np.int64)
    blocks[np.cumsum(slot == 0) - 1, slot] = codes
    return Blocks(blocks, segments[first], first)


def distinct(codes: Integers) -> tuple[Integers, Integers]:
    """Distinct rows of (n, size) codes of at least -1, and which one each row is."""
    radix = int(codes.max(initial=0)) + 2
    bits = codes.shape[1] * (radix - 1).bit_length()
    if bits > 62:
        narrow = np.ascontiguousarray(codes, dtype=np.min_scalar_type(-radix))
        whole = narrow.view(np.dtype((np.void, narrow.itemsize * narrow.shape[1]))).reshape(-1)
        _, at, which = np.unique(whole, return_index=True, return_inverse=True)
        return codes[at], which.reshape(-1)
    keys = np.zeros(len(codes), dtype=np.int64)
    for column in codes.T:
        keys = keys * radix + (column + 1)
    if bits > TABLE_BITS:
        _, at, which = np.unique(keys, return_index=True, return_inverse=True)
        return codes[at], which.reshape(-1)
    example = np.full(radix ** codes.shape[1], -1, dtype=np.int32)
    example[keys] = np.arange(len(keys))
    present = np.flatnonzero(example >= 0)
    at = example[present]
    example[present] = np.arange(len(present))
    return codes[at], example[keys]


def bank_of(filters: Integers, x: Integers, y: Integers, banks: int) -> Integers:
    """Accumulator bank of an output (arrays of one shape)."""
    high = ((filters & 4) << 2) ^ ((x & 2) << 3) ^ ((y & 2) << 3)
    bank: Integers = (high + ((x & 1) << 3) + ((y & 1) << 2) + (filters & 3)) % banks
    return bank


@dataclass
class Grid:
    """The axes of a convolution and the sizes of a unit."""

    x: Axis
    y: Axis
    act_inputs: int
    wgt_inputs: int
    banks: int
    conflicts: bool = True
    """A pair of blocks takes as long as its fullest bank; else only as long as its activations."""

    @cached_property
    def classes(self) -> tuple[Integers, Integers]:
        """Class of each position (y, x), and a position (y, x) of each class.

        Positions of a class share banks with everything alike, or apart alike. A bank depends on the
        lowest bits of both output coordinates and on the sum modulo 2 of the next ones, so positions
        whose every product is inside the plane fall in 8 classes a phase.
        """
        rows, columns = np.indices((self.y.tile * self.y.units, self.x.tile * self.x.units))
        inside = self.y.inside()[:, None] & self.x.inside()
        turn_y, turn_x = self.y.turn()[:, None], self.x.turn()
        phase_y, phase_x = rows % self.y.stride, columns % self.x.stride
        joined = (turn_y & 1) + 2 * (turn_x & 1) + 4 * ((turn_y ^ turn_x) >> 1 & 1)
        joined = (joined * self.y.stride + phase_y) * self.x.stride + phase_x
        alike_y = np.where(self.y.inside(), turn_y[:, 0] * self.y.stride + phase_y[:, 0], 4 * self.y.stride)
        edge_y = np.where(self.y.inside()[:, None], alike_y[:, None], rows + 4 * self.y.stride)
        alike_x = turn_x * self.x.stride + phase_x
        edge_x = np.where(self.x.inside(), alike_x, columns + 4 * self.x.stride)
        apart = joined.max() + 1 + edge_y * (edge_x.max() + 1) + edge_x
        _, at, classes = np.unique(np.where(inside, joined, apart), return_index=True, return_inverse=True)
        return classes.reshape(rows.shape), np.stack([rows.reshape(-1)[at], columns.reshape(-1)[at]])

    def activation_blocks(
        self, values: NDArray[Any], turns: NDArray[np.uint8] | None
    ) -> list[tuple[Blocks, NDArray[np.int64]]]:
        """Blocks of the non-zeros of a padded plane (y, x, channel), and the turns of each, a phase a time.

        Segments are channel * units + unit. `turns` (same shape) are cycles that an activation takes to
        enter; a block waits for its slowest.
        """
        height, width = self.y.tile * self.y.units, self.x.tile * self.x.units
        order = _by_unit(self, _filled(values, height, width))
        at = np.flatnonzero(order.reshape(-1))
        here = at % (height * width)
        codes = _by_unit(self, self.classes[0][:, :, None]).reshape(-1)[here]
        segments = at // (self.x.tile * self.y.tile)
        waits = np.ones(len(at), dtype=np.int64)
        if turns is not None:
            waits = _by_unit(self, _filled(turns, height, width)).reshape(-1)[at].astype(np.int64)
        phase = (np.arange(height)[:, None] % self.y.stride) * self.x.stride + np.arange(
            width
        ) % self.x.stride
        phases = _by_unit(self, phase[:, :, None]).reshape(-1)[here]
        found = []
        for number in range(self.x.stride * self.y.stride):
            mine = phases == number if self.x.stride * self.y.stride > 1 else slice(None)
            blocks = deal(segments[mine], codes[mine], self.act_inputs)
            blocks.codes.sort(axis=1)
            slowest = np.maximum.reduceat(waits[mine], blocks.first) if len(blocks.first) else blocks.first
            found.append((blocks, slowest.astype(np.int64)))
        return found

    def weight_columns(self, weights: NDArray[Any], first: Integers) -> Columns:
        """Distinct weight blocks and how often each is in a column, a phase a time.

        `weights` is (group, filter, y, x, channel), `first` the number of each group's first filter;
        columns are (group, channel). Entries are in the order x, y, filter. Codes are tap * 8 + filter mod 8.
        """
        groups, filters, ky, kx, channels = weights.shape
        taps = np.arange(kx)[:, None] * ky + np.arange(ky)
        phase_y = (np.arange(ky) * self.y.dilation + self.y.padding) % self.y.stride
        phase_x = (np.arange(kx) * self.x.dilation + self.x.padding) % self.x.stride
        phases = np.repeat((phase_y * self.x.stride + phase_x[:, None]).reshape(-1), filters)
        rows: list[list[Any]] = [[] for _ in range(self.x.stride * self.y.stride)]
        slab = max(1, SLAB_VALUES // (filters * ky * kx))
        for group in range(groups):
            codes = (taps[:, :, None] * 8 + (first[group] + np.arange(filters)) % 8).reshape(-1)
            for start in range(0, channels, slab):
                part = np.ascontiguousarray(weights[group, ..., start : start + slab].transpose(3, 2, 1, 0))
                column, at = np.divmod(np.flatnonzero(part), len(codes))
                for phase, kept in enumerate(rows):
                    mine = phases[at] == phase if len(rows) > 1 else slice(None)
                    segments = column[mine] + start + group * channels
                    blocks = deal(segments, codes[at[mine]], self.wgt_inputs)
                    blocks.codes.sort(axis=1)
                    kept.append((blocks.codes, blocks.segments))
        return [_counted(kept, groups * channels) for kept in rows]

    def pair_cycles(self, acts: Integers, waits: Integers, wgts: Integers) -> NDArray[np.float32]:
        """(distinct activation blocks, distinct weight blocks): the fullest bank, at least `waits`.

        The low bits of a bank are those of the filter, so weights with other low bits never meet it: banks
        are filled class by class, each from the distinct shares that the weight blocks have in it.
        """
        parts = gcd(self.banks, 4)
        cycles = np.repeat(waits[:, None].astype(np.float32), len(wgts), axis=1)
        if not self.conflicts:
            return cycles
        present = np.unique(wgts[wgts >= 0])
        for part in range(parts):
            codes = present[present % parts == part]
            shares, which = _shares(wgts, codes)
            hits = self._hits(acts, codes, part, parts)
            each = max(1, SLAB_PRODUCTS // len(acts))
            for first in range(0, len(shares), each):
                some = shares[first : first + each].T
                fullest = hits[0] @ some
                for bank in hits[1:]:
                    np.maximum(fullest, bank @ some, out=fullest)
                mine = np.flatnonzero((which >= first) & (which < first + each))
                cycles[:, mine] = np.maximum(cycles[:, mine], fullest[:, which[mine] - first])
        return cycles

    def _hits(self, acts: Integers, codes: Integers, part: int, parts: int) -> NDArray[np.float32]:
        """Products of each activation block with a weight of each code: (bank of the class, block, code)."""
        table = self.bank_table[:, codes]
        room = self.banks // parts  # the last one: outside
        table = np.where(table == self.banks, room, table // parts)
        hits = np.zeros((room + 1, len(acts), len(codes)), dtype=np.float32)
        which = np.arange(len(acts))[:, None], np.arange(len(codes))
        for act in acts.T:
            hits[table[act], which[0], which[1]] += 1
        return hits[:-1]

    @cached_property
    def bank_table(self) -> NDArray[np.int64]:
        """Bank of each (activation code, weight code); `banks` outside the plane and for code -1."""
        y, x = self.y.output(self.classes[1][0]), self.x.output(self.classes[1][1])
        shape = (len(x), self.x.kernel, self.y.kernel, 8)
        at_x = np.broadcast_to(x[:, :, None, None], shape)
        at_y = np.broadcast_to(y[:, None, :, None], shape)
        bank = bank_of(np.broadcast_to(np.arange(8), shape), at_x, at_y, self.banks)
        bank = np.where((at_x < 0) | (at_y < 0), self.banks, bank).reshape(len(x), -1)
        return np.pad(bank, ((0, 1), (0, 1)), constant_values=self.banks)


def in_step(spent: NDArray[np.int64], barrier: Barrier) -> NDArray[np.int64]:
    """By how much each channel moves the end of a pass: (..., channels, units) to (..., channels).

    The slowest unit's cycles where all wait for each other after every channel, else by how much more the
    unit that is behind most has done.
    """
    if barrier == "channel":
        slowest: NDArray[np.int64] = spent.max(axis=-1)
        return slowest
    ended: NDArray[np.int64] = np.cumsum(spent, axis=-2).max(axis=-1)
    return np.diff(ended, axis=-1, prepend=0)


def unit_cycles(
    grid: Grid,
    acts: list[tuple[Blocks, NDArray[np.int64]]],
    rounds: Sequence[tuple[Columns, range]],
    depth: int,
    planes: int = 1,
) -> list[NDArray[np.int64]]:
    """Cycles of each unit for each channel of each round: (planes, channels, units).

    A round is weights and the range of channels that their columns meet, in each of several planes of
    `depth` channels, whose blocks come one after the other.
    """
    units = grid.x.units * grid.y.units
    totals = [np.zeros((planes, len(channels) * units), dtype=np.float64) for _, channels in rounds]
    for phase, (blocks, waits) in enumerate(acts):
        weights = [columns[phase] for columns, _ in rounds]
        rows, which_row = distinct(np.concatenate([wgts for wgts, _ in weights]))
        if not len(rows) or not len(waits):
            continue
        examples, which = distinct(np.concatenate([blocks.codes, waits[:, None]], axis=1))
        cycles = grid.pair_cycles(examples[:, :-1], examples[:, -1], rows)
        seen = 0
        for total, (wgts, counts), (_, channels) in zip(totals, weights, rounds, strict=True):
            mine = which_row[seen : seen + len(wgts)]
            seen += len(wgts)
            for at, share in _column_slabs(cycles[:, mine], counts):
                for plane in range(planes):
                    start = plane * depth + channels.start
                    ends = np.array([at, at + share.shape[1]]) + start
                    low, high = np.searchsorted(blocks.segments, ends * units)
                    owners = blocks.segments[low:high]
                    spent = share[which[low:high], owners // units - ends[0]]
                    total[plane] += np.bincount(owners - start * units, spent, total.shape[1])
    return [total.reshape(planes, -1, units).astype(np.int64) for total in totals]


def _column_slabs(
    cycles: NDArray[np.float32], counts: NDArray[np.float32]
) -> Iterator[tuple[int, NDArray[Any]]]:
    """cycles @ counts, some columns at a time; single precision where it is exact."""
    most = float(counts.sum(axis=0, dtype=np.float64).max(initial=0))
    if float(cycles.max(initial=0)) * most >= 1 << 24:
        cycles, counts = cycles.astype(np.float64), counts.astype(np.float64)
    each = max(1, SLAB_VALUES // len(cycles))
    for at in range(0, counts.shape[1], each):
        yield at, cycles @ counts[:, at : at + each]


def _shares(wgts: Integers, codes: Integers) -> tuple[NDArray[np.float32], Integers]:
    """Distinct rows of how often each of some ascending codes is in a weight block, and each block's row."""
    at = np.minimum(np.searchsorted(codes, wgts), max(0, len(codes) - 1))
    block, slot = np.nonzero(codes[at] == wgts) if len(codes) else (np.zeros(0, int), np.zeros(0, int))
    cell = block * len(codes) + at[block, slot]
    counts = np.bincount(cell, minlength=len(wgts) * len(codes)).reshape(len(wgts), len(codes))
    rows, which = distinct(counts)
    return rows.astype(np.float32), which


def _counted(parts: list[tuple[Integers, Integers]], columns: int) -> tuple[Integers, NDArray[np.float32]]:
    codes = np.concatenate([part[0] for part in parts])
    where = np.concatenate([part[1] for part in parts])
    rows, which = distinct(codes)
    counts = np.bincount(which * columns + where, minlength=len(rows) * columns)
    return rows, counts.reshape(len(rows), columns).astype(np.float32)


def _filled(values: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    return np.pad(values, ((0, height - values.shape[0]), (0, width - values.shape[1]), (0, 0)))


def _by_unit(grid: Grid, plane: NDArray[Any]) -> NDArray[Any]:
    """(y, x, channel) to (channel, unit x, unit y, x, y) of the tiles."""
    tiles = plane.reshape(grid.y.units, grid.y.tile, grid.x.units, grid.x.tile, -1)
    return np.ascontiguousarray(tiles.transpose(4, 2, 0, 3, 1))
