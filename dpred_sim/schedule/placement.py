"""Where containers lie and how large each slice of them is.

Containers lie in the order in which they are read: weights by (block, inner step, tile, row) with one
pointer a block; activations by (channel slab, y, x, channel) with one pointer a row and slab. Streams
start at a burst, are packed back to back and padded at their end. A row that is written in several
slabs cannot be packed (its later slabs do not exist yet), so there each slab of a row starts at a burst.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.codecs.base import Codec
from dpred_sim.designs.base import Range, Schedule
from dpred_sim.values.tensor import Tensor, TensorSource

POINTER_BITS = 32
"""One pointer: a block of weights, or a row of a slab of activations."""


def image_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(H, W, C) of a stored tensor: (T, C) counts as T rows of one position, (C,) as one row."""
    if len(shape) == 3:
        return shape[0], shape[1], shape[2]
    if len(shape) == 2:
        return shape[0], 1, shape[1]
    return 1, 1, shape[0]


@dataclass(frozen=True, eq=False)
class UnknownTensor:
    """A stored tensor whose values nobody gave: it has a size, and no codec may look into it."""

    shape: tuple[int, ...]
    bits: int
    signed: bool = True
    memo: dict[Any, Any] = field(default_factory=dict, repr=False)

    @property
    def precision(self) -> int:
        """All bits."""
        return self.bits

    def load(self) -> Tensor:
        """Never there: a codec that needs values must not be used."""
        raise ValueError("the values of this tensor are not known")


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """Sizes of one activation tensor in one codec."""

    source: TensorSource
    codec: Codec

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        return image_shape(tuple(self.source.shape))

    def position_bits(self, channels: Range | None = None) -> NDArray[np.int64]:
        """Prefix sums over positions in raster order, (H * W + 1,): bits whose groups are complete.

        A group belongs to the position, and to the range of `channels`, in which its last value lies:
        its width is not known before.
        """
        key = ("position_bits", self.codec, channels)
        known = self.source.memo.get(key)
        if known is None:
            known = self.source.memo[key] = self._position_bits(channels)
        result: NDArray[np.int64] = known
        return result

    def _position_bits(self, channels: Range | None) -> NDArray[np.int64]:
        height, width, depth = self.shape
        bits = self.codec.group_bits(self.source)
        size = self.codec.group_size
        prefix = np.zeros(height * width + 1, dtype=np.int64)
        if len(self.source.shape) == 3 and bits.ndim == 2:
            # Groups run over positions of a row: each counts where its last value lies.
            ends = np.minimum((np.arange(bits.shape[1]) + 1) * size, width * depth) - 1
            rows = _summed_columns(bits, ends // depth, width)
            if channels is not None:
                # No finer than a position: a slab takes its share of the channels.
                rows = rows * channels[1] // depth - rows * channels[0] // depth
            np.cumsum(rows.reshape(-1), out=prefix[1:])
            return prefix
        bits = bits.reshape(height * width, -1)
        if channels is not None:
            ends = np.minimum((np.arange(bits.shape[1]) + 1) * size, depth) - 1
            inside = (ends >= channels[0]) & (ends < channels[1])
            bits = bits[:, inside]
        np.cumsum(bits.sum(axis=1, dtype=np.int64), out=prefix[1:])
        return prefix

    def row_bits(self, channels: Range | None = None) -> NDArray[np.int64]:
        """Stored bits of each row, pointers not included, shape (H,)."""
        height, width, _ = self.shape
        return np.diff(self.position_bits(channels)[::width]) if height else np.zeros(0, dtype=np.int64)

    @property
    def total_bits(self) -> int:
        """Length of the container without pointers and padding."""
        return int(self.position_bits()[-1]) + self.codec.header_bits(self.source)


def row_ends(
    stored: StoredTensor, slabs: tuple[Range, ...], channels: Range, first_row: int, burst_bytes: int
) -> NDArray[np.int64]:
    """Byte offsets at which rows end in a container that starts with `first_row`, (H + 1,).

    Rows before it take no bytes. One slab that covers the whole tensor is packed back to back; otherwise
    every (row, slab) starts at a burst. Of each slab only what overlaps `channels` is counted.
    """
    height, _, depth = stored.shape
    ends = np.zeros(height + 1, dtype=np.int64)
    if first_row >= height:
        return ends
    if len(slabs) == 1 and channels == (0, depth):
        bits = stored.row_bits() + POINTER_BITS
        bits[first_row] += stored.codec.header_bits(stored.source)
        bits[:first_row] = 0
        np.cumsum(bits, out=ends[1:])
        ends[1:] = (ends[1:] + 7) // 8
        ends[-1] = _round_up(int(ends[-1]), burst_bytes)
        return ends
    rows = np.zeros(height, dtype=np.int64)
    for first, last in slabs:
        part = (max(first, channels[0]), min(last, channels[1]))
        if part[0] < part[1]:
            bits = stored.row_bits(part) + POINTER_BITS
            rows += (bits + burst_bytes * 8 - 1) // (burst_bytes * 8) * burst_bytes
    rows[:first_row] = 0
    np.cumsum(rows, out=ends[1:])
    return ends


def position_ends(
    stored: StoredTensor, slabs: tuple[Range, ...], slab: Range, first_row: int, burst_bytes: int
) -> NDArray[np.int64]:
    """Byte offsets at which positions end in the container of one slab, (H * W + 1,); see `row_ends`."""
    height, width, _ = stored.shape
    rows = row_ends(stored, slabs, slab, first_row, burst_bytes)
    bits = stored.position_bits(slab if len(slabs) > 1 else None)
    starts = bits[: height * width : width]
    inside = (bits[1:].reshape(height, width) - starts[:, None]) // 8
    ends = np.minimum(rows[:-1, None] + inside, rows[1:, None])
    ends[:, -1] = rows[1:]
    ends[:first_row] = 0
    return np.concatenate([np.zeros(1, dtype=np.int64), ends.reshape(-1)])


def _round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit


def tile_parts(schedule: Schedule) -> list[Range]:
    """Distinct `block.tile_filters` of all blocks, in order: tiles that share one hold the same weights."""
    return list(dict.fromkeys(part for block in schedule.blocks for part in block.tile_filters))


def tile_step_bits(schedule: Schedule, codec: Codec) -> NDArray[np.int64]:
    """Stored bits of weights by (part, inner step); rows follow `tile_parts`.

    A group that spans inner steps counts where its first value is used: it must be there by then.
    """
    weights = schedule.layer.weights
    if weights is None:
        raise ValueError("a layer without weights has no weight sizes")
    parts, steps = tile_parts(schedule), schedule.weight_steps()
    key = ("tile_step_bits", codec, tuple(parts), schedule.inner, steps.astype(np.int32).tobytes())
    known = weights.memo.get(key)
    if known is None:
        known = weights.memo[key] = _tile_step_bits(weights, codec, parts, steps, schedule.inner)
    result: NDArray[np.int64] = known
    return result


def _tile_step_bits(
    weights: TensorSource, codec: Codec, parts: list[Range], steps: NDArray[np.int64], inner: int
) -> NDArray[np.int64]:
    shape = tuple(weights.shape)
    bits = codec.group_bits(weights)
    size = codec.group_size
    if len(shape) == 4 and shape[3] == 1 and bits.shape[:2] == shape[1:3]:
        sums, columns = _depthwise_bits(bits, parts, size), steps[:, 0]
        return _summed_columns(sums, columns, inner)
    filters, depth = shape[0], shape[-1]
    if len(shape) == 4 and bits.ndim == 3:
        # Groups run over (kernel x, channel) of a kernel row.
        tap, channel = np.divmod(np.arange(bits.shape[2]) * size, depth)
        columns = steps[np.arange(shape[1])[:, None] * shape[2] + tap, channel].reshape(-1)
    else:
        columns = steps[:, np.arange(bits.shape[-1]) * size].reshape(-1)
    by_filter = bits.reshape(filters, -1)
    if all(a[1] == b[0] for a, b in itertools.pairwise(parts)) and parts[-1][1] == filters:
        sums = np.add.reduceat(by_filter, [first for first, _ in parts], axis=0, dtype=np.int64)
    else:
        sums = np.stack([by_filter[a:b].sum(axis=0, dtype=np.int64) for a, b in parts])
    return _summed_columns(sums, columns, inner)


def _summed_columns(values: NDArray[Any], columns: NDArray[Any], count: int) -> NDArray[np.int64]:
    """Sum the columns of `values` that go to the same one of `count` columns."""
    if len(columns) == count and np.array_equal(columns, np.arange(count)):
        return values.astype(np.int64, copy=False)
    if (columns[1:] < columns[:-1]).any():
        order = np.argsort(columns, kind="stable")
        values, columns = values[:, order], columns[order]
    starts = np.flatnonzero(np.diff(columns, prepend=-1))
    result = np.zeros((values.shape[0], count), dtype=np.int64)
    result[:, columns[starts]] = np.add.reduceat(values, starts, axis=1, dtype=np.int64)
    return result


def _depthwise_bits(bits: NDArray[np.int32], parts: list[Range], size: int) -> NDArray[np.int64]:
    """(part, kernel position): depthwise groups run along the filters and count where their first one is."""
    by_group = bits.reshape(-1, bits.shape[2]).T.astype(np.int64)
    first = np.arange(by_group.shape[0]) * size
    return np.stack([by_group[(first >= a) & (first < b)].sum(axis=0) for a, b in parts])


@dataclass(frozen=True, eq=False)
class WeightBlock:
    """The weights that a cluster needs at a time: one block, or a channel chunk of one.

    `ends` are the byte offsets in the stored stream at which inner steps become available, `room` the
    bits that they take in one weight buffer by then; both have one entry more than `steps`.
    """

    block: int
    steps: NDArray[np.int64]
    """Inner steps, in order."""
    ends: NDArray[np.int64]
    room: NDArray[np.int64]
    values: NDArray[np.int64]
    """Weights, over all tiles, in the steps before each mark."""
    busiest_tile_bits: int
    """Bits that the tile with most weights reads for one window set, as its buffer stores them."""
    all_tiles_bits: int
    """The same of all tiles together."""

    @property
    def stored_bytes(self) -> int:
        """Length of the stored stream, padding and pointer included."""
        return int(self.ends[-1])


def weight_blocks(
    schedule: Schedule,
    stored: Codec,
    buffered: Codec,
    *,
    shared: bool,
    burst_bytes: int,
    chunks: int = 1,
) -> list[WeightBlock]:
    """The weight streams of a layer in order of first use.

    `shared`: one buffer holds the weights of all tiles, else each tile has its own. Tiles that take the
    same filters (other windows) are sent them once. `chunks` cuts each block into that many runs of
    channel chunks.
    """
    weights = schedule.layer.weights
    if weights is None:
        return []
    bits = tile_step_bits(schedule, stored)
    room = tile_step_bits(schedule, buffered)
    order = np.arange(schedule.inner, dtype=np.int64)
    cuts = [order]
    if chunks > 1:
        first, place = np.unique(schedule.inner_channels[:, 0], return_inverse=True)
        cuts = [order[place * chunks // len(first) == part] for part in range(chunks)]
    values_per_step = np.bincount(schedule.weight_steps().reshape(-1), minlength=schedule.inner)
    row = {part: place for place, part in enumerate(tile_parts(schedule))}
    result: list[WeightBlock] = []
    for index, block in enumerate(schedule.blocks):
        tiles = [row[part] for part in dict.fromkeys(block.tile_filters)]
        step_bits = bits[tiles].sum(axis=0)
        for steps in cuts:
            head = POINTER_BITS + (stored.header_bits(weights) if not result else 0)
            ends = np.zeros(len(steps) + 1, dtype=np.int64)
            np.cumsum(step_bits[steps], out=ends[1:])
            ends[1:] = (ends[1:] + head + 7) // 8
            ends[-1] = _round_up(int(ends[-1]), burst_bytes)
            by_tile = np.cumsum(room[tiles][:, steps], axis=1)
            occupied = np.zeros(len(steps) + 1, dtype=np.int64)
            occupied[1:] = by_tile.sum(axis=0) if shared else by_tile.max(axis=0)
            values = np.zeros(len(steps) + 1, dtype=np.int64)
            np.cumsum(values_per_step[steps] * (block.filters[1] - block.filters[0]), out=values[1:])
            busiest, every = int(by_tile[:, -1].max()), int(by_tile[:, -1].sum())
            result.append(WeightBlock(index, steps, ends, occupied, values, busiest, every))
    return result
