"""Widths of activation bricks, brought together for each step of the loop nest.

A width is looked up once a brick (the values of one channel chunk at one position) and gathered for
each window set afterwards: values are never unrolled into windows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.designs.loop_nest import Nest
from dpred_sim.values.tensor import Tensor
from dpred_sim.values.widths import group_widths

Bytes = NDArray[np.uint8]
NO_BIT = 255
"""Lowest set bit of a brick without any."""
SLAB_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Bricks:
    """What is known of the bricks of a padded plane, each (y, x, value block, cell).

    `tops` are widths, `lows` lowest set bits (None when nobody asks). Cells are (region, channel tile,
    chunk) in this order; a cell without channels is 0 wide.
    """

    tops: Bytes
    lows: Bytes | None


def group_tops(values: NDArray[Any], size: int, signed: bool) -> Bytes:
    """Width of each run of `size` values of the last axis; the last run may be short."""
    magnitudes = np.where(values < 0, ~values, values) if signed else values
    bits = _bit_lengths(_joined(magnitudes, size))
    widths: Bytes = np.maximum(bits, 1) + np.uint8(signed)
    return widths


def group_lows(values: NDArray[Any], size: int) -> Bytes:
    """Lowest set bit over each run of `size` values of the last axis; NO_BIT for a run of zeros."""
    joined = _joined(values, size)
    lows = (_bit_lengths(joined & -joined) - np.uint8(1)).astype(np.uint8)
    return np.where(joined == 0, np.uint8(NO_BIT), lows)


def own_bits(values: NDArray[Any], signed: bool, both_ends: bool = False) -> Bytes:
    """Bits that each value costs as a group of its own."""
    single = values[..., None]
    widths = group_tops(single, 1, signed)
    if both_ends:
        lows = group_lows(single, 1)
        widths = widths - np.where(lows == NO_BIT, np.uint8(0), lows)
    own: Bytes = widths[..., 0]
    return own


def _joined(values: NDArray[Any], size: int) -> NDArray[np.int32]:
    """Bitwise or over each run of the last axis."""
    length = values.shape[-1]
    starts = np.arange(0, length, size)
    joined: NDArray[np.int32] = np.bitwise_or.reduceat(values.astype(np.int32), starts, axis=-1)
    return joined


def _bit_lengths(values: NDArray[np.int32]) -> Bytes:
    """Bits of non-negative values below 2^24."""
    return np.frexp(values.astype(np.float32))[1].astype(np.uint8)


def value_blocks(values: NDArray[Any], signed: bool, count: int, size: int) -> Iterator[tuple[Any, bool]]:
    """The `size`-bit blocks of each value, lowest first, with "is signed": only the top one can be."""
    whole = values.astype(np.int32)
    for block in range(count):
        part = whole >> (block * size)
        top = block == count - 1
        yield (part if top else part & ((1 << size) - 1)), signed and top


def arranged(nest: Nest, values: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """Activations with chunks along the last axis, and the size of a chunk.

    Chunks restart at the first channel of each conv group; a depthwise channel is repeated for each
    filter that reads it.
    """
    layer = nest.layer
    values = values.reshape(layer.height, layer.width, layer.channels)
    if nest.depthwise:
        return np.repeat(values, nest.multiplier, axis=2) if nest.multiplier > 1 else values, nest.lanes
    channels = layer.channels // layer.groups
    if layer.groups > 1 and channels % nest.lanes:
        values = values.reshape(layer.height, layer.width, layer.groups, channels)
    return values, nest.lanes


def lane_values(nest: Nest, values: NDArray[Any]) -> NDArray[Any]:
    """The padded plane with a cell for each lane: (y, x, cell), idle lanes 0.

    Cells are (region, channel tile, chunk, lane), as in a nest whose chunks are single channels
    (`Nest.by_lane`).
    """
    cells, _ = arranged(nest, values)
    groups = 1 if nest.depthwise else nest.layer.groups
    cells = cells.reshape(nest.layer.height, nest.layer.width, groups, -1)
    size = nest.regions // groups * nest.channel_tiles * nest.chunks * nest.lanes
    plane = np.pad(cells, (*_edges(nest), (0, 0), (0, size - cells.shape[3])))
    return plane.reshape(*plane.shape[:2], -1)


def unarranged(nest: Nest) -> bool:
    """True when the runs of `lanes` channels of the activations as stored are the bricks."""
    layer = nest.layer
    aligned = (
        layer.groups == 1 or nest.depthwise or nest.chunks * nest.lanes == layer.channels // layer.groups
    )
    return (
        aligned
        and nest.act_blocks == 1
        and layer.activations.shape[-1] == layer.channels
        and (not nest.depthwise or nest.multiplier == 1)
    )


def plain_bricks(nest: Nest, lows: bool = False) -> Bricks:
    """Bricks of the activations as they are."""
    source = nest.layer.activations
    if unarranged(nest) and not lows:
        tops = group_widths(source, nest.lanes).reshape(nest.layer.height, nest.layer.width, 1, -1)
        return bordered(nest, tops, None, [source.signed])
    return bricks_of(nest, source.load())


def bricks_of(nest: Nest, tensor: Tensor) -> Bricks:
    """Widths and lowest bits of every value block of a tensor."""
    values, size = arranged(nest, tensor.values)
    blocks = list(value_blocks(values, tensor.signed, nest.act_blocks, nest.pe_width))
    shape = values.shape[:2]
    tops = [group_tops(part, size, signed).reshape(*shape, -1) for part, signed in blocks]
    lows = [group_lows(part, size).reshape(*shape, -1) for part, _ in blocks]
    return bordered(nest, np.stack(tops, axis=2), np.stack(lows, axis=2), [signed for _, signed in blocks])


def differences(nest: Nest) -> tuple[NDArray[np.int16], NDArray[np.int16], int]:
    """The padded plane, its differences along x, and the size of a chunk of their last axis.

    A difference is taken between the values that the same lane reads for two neighbouring windows of a
    row, padding included. Differences wrap at 16 bits.
    """
    values, size = arranged(nest, nest.layer.activations.load().values)
    padded = np.pad(values.astype(np.int16), (*_edges(nest), *((0, 0),) * (values.ndim - 2)))
    step = nest.layer.stride[1]
    moved = np.zeros_like(padded)
    moved[:, step:] = padded[:, :-step]
    return padded, padded - moved, size


def difference_bricks(nest: Nest) -> tuple[Bricks, Bricks]:
    """Bricks of the raw values and of their differences along x, both signed and one bit wider."""
    *planes, size = differences(nest)
    made = []
    for part in planes:
        tops = group_tops(part, size, True).reshape(*part.shape[:2], 1, -1)
        lows = group_lows(part, size).reshape(*part.shape[:2], 1, -1)
        made.append(Bricks(with_idle_cells(nest, tops, 0), with_idle_cells(nest, lows, NO_BIT)))
    return made[0], made[1]


def _edges(nest: Nest) -> tuple[tuple[int, int], tuple[int, int]]:
    top, left, bottom, right = nest.layer.padding
    return (top, bottom), (left, right)


def bordered(nest: Nest, tops: Bytes, lows: Bytes | None, signed: list[bool]) -> Bricks:
    """Puts the zero padding around: a zero is 1 wide, 2 where signed, and has no set bit."""
    rows, columns = _edges(nest)
    height, width = tops.shape[0] + sum(rows), tops.shape[1] + sum(columns)
    inside = slice(rows[0], height - rows[1]), slice(columns[0], width - columns[1])
    if (height, width) != tops.shape[:2]:
        plane = np.empty((height, width, *tops.shape[2:]), dtype=np.uint8)
        plane[:] = (1 + np.array(signed, dtype=np.uint8))[:, None]
        plane[inside] = tops
        tops = plane
        if lows is not None:
            plane = np.full_like(tops, NO_BIT)
            plane[inside] = lows
            lows = plane
    return Bricks(
        with_idle_cells(nest, tops, 0), None if lows is None else with_idle_cells(nest, lows, NO_BIT)
    )


def with_idle_cells(nest: Nest, plane: Bytes, idle: int) -> Bytes:
    """Fills the cells up to whole regions: idle tiles of the last depthwise region."""
    missing = nest.regions * nest.channel_tiles * nest.chunks - plane.shape[-1]
    if not missing:
        return plane
    return np.pad(plane, ((0, 0), (0, 0), (0, 0), (0, missing)), constant_values=idle)


def window_slabs(
    nest: Nest, plane: Bytes, idle: int, first: Bytes | None = None
) -> Iterator[tuple[int, Bytes]]:
    """Bricks of whole window sets: (first set, (sets, windows of a set, Ky, Kx, value block, cell)).

    Windows beyond the last one hold `idle`. `first` is the plane that the first window of each row
    reads in place of `plane`.
    """
    layer = nest.layer
    height, width = layer.conv_height, layer.conv_width
    per_set = nest.windows_per_set
    rows = per_set // gcd(width, per_set)
    row_bytes = width * layer.kernel[0] * layer.kernel[1] * plane[0, 0].size
    rows *= max(1, SLAB_BYTES // (row_bytes * rows))
    parts = (plane,) if first is None or first is plane else (plane, first)
    views = [window_view(nest, part) for part in parts]
    for row in range(0, height, rows):
        last = min(row + rows, height)
        count = (last - row) * width
        slab = np.empty((-(-count // per_set) * per_set, *views[0].shape[2:]), dtype=np.uint8)
        slab[:count].reshape(last - row, width, *slab.shape[1:])[:] = views[0][row:last]
        if len(views) > 1:
            slab[:count].reshape(last - row, width, *slab.shape[1:])[:, 0] = views[1][row:last, 0]
        slab[count:] = idle
        yield row * width // per_set, slab.reshape(-1, per_set, *slab.shape[1:])


def window_view(nest: Nest, plane: NDArray[Any]) -> NDArray[Any]:
    """View of a plane (y, x, ...) as (Oy, Ox, Ky, Kx, ...)."""
    (sy, sx), (dy, dx), kernel = nest.layer.stride, nest.layer.dilation, nest.layer.kernel
    down, right = plane.strides[:2]
    return np.lib.stride_tricks.as_strided(
        plane,
        (nest.layer.conv_height, nest.layer.conv_width, *kernel, *plane.shape[2:]),
        (down * sy, right * sx, down * dy, right * dx, *plane.strides[2:]),
        writeable=False,
    )


def set_maximum(nest: Nest, plane: Bytes, by_tile: bool = False) -> Bytes:
    """Largest entry of each step over all windows, value blocks and tiles: (regions, sets, inner).

    `plane` is (y, x, value block, cell). `by_tile` keeps apart the tiles that take different channels:
    (regions, channel tiles, sets, inner).
    """
    tops = plane.max(axis=2, keepdims=True)
    tops = tops.reshape(*tops.shape[:3], nest.regions, nest.channel_tiles, nest.chunks)
    if not by_tile:
        tops = tops.max(axis=4, keepdims=True)
    most = _tile_maximum(nest, np.ascontiguousarray(tops)).max(axis=1)
    return most if by_tile else np.ascontiguousarray(most[:, 0])


def tile_maximum(nest: Nest, plane: Bytes) -> Bytes:
    """The same for each tile: (regions, window groups, channel tiles, sets, inner)."""
    tops = plane.max(axis=2, keepdims=True)
    return _tile_maximum(nest, tops.reshape(*tops.shape[:3], nest.regions, nest.channel_tiles, nest.chunks))


def _tile_maximum(nest: Nest, tops: Bytes) -> Bytes:
    groups, tiles = nest.window_tiles, tops.shape[4]
    size = (nest.sets, groups, *nest.layer.kernel, nest.regions, tiles, nest.chunks)
    steps = np.empty(size, dtype=np.uint8)
    for at, slab in window_slabs(nest, tops, 0):
        by_group = slab.reshape(len(slab) * groups, -1, *slab.shape[2:])
        steps[at : at + len(slab)] = _maximum(by_group)[:, :, :, 0].reshape(-1, *size[1:])
    ordered = steps.transpose(4, 1, 5, 0, 2, 3, 6)
    return np.ascontiguousarray(ordered.reshape(nest.regions, groups, tiles, nest.sets, nest.inner))


def _maximum(slab: Bytes) -> Bytes:
    """Maximum over axis 1, by halves: long inner loops."""
    while slab.shape[1] > 1:
        half = slab.shape[1] // 2
        paired = np.maximum(slab[:, :half], slab[:, half : 2 * half])
        if slab.shape[1] % 2:
            paired[:, 0] = np.maximum(paired[:, 0], slab[:, -1])
        slab = paired
    return slab[:, 0]


def group_costs(nest: Nest, planes: tuple[Bricks, ...], columns: int, both_ends: bool) -> Bytes:
    """Cost of each group of `columns` columns in each step: (regions, sets, inner, groups).

    `planes` holds one set of bricks, or raw ones and differences. Columns are (window, value block);
    groups end with their tile. An idle group costs 0. With `both_ends` a group is charged from its
    highest to its lowest set bit.
    """
    shape = (nest.regions, nest.channel_tiles, nest.chunks)
    groups = nest.window_tiles * -(-nest.columns * nest.act_blocks // columns) * nest.channel_tiles
    steps = np.empty((nest.sets, *nest.layer.kernel, nest.regions, nest.chunks, groups), dtype=np.uint8)
    tops = window_slabs(nest, planes[-1].tops, 0, planes[0].tops)
    lows = window_slabs(nest, _lows(planes[-1]), NO_BIT, _lows(planes[0])) if both_ends else repeat((0, None))
    for (at, slab), (_, low) in zip(tops, lows, strict=False):
        cost = _grouped(nest, slab, columns, np.maximum)
        if low is not None:
            lowest = _grouped(nest, low, columns, np.minimum)
            cost = cost - np.where(lowest == NO_BIT, np.uint8(0), lowest)
        cost = cost.reshape(*cost.shape[:4], *shape)  # (set, group, Ky, Kx, region, tile, chunk)
        cost = cost.transpose(0, 2, 3, 4, 6, 5, 1)
        steps[at : at + len(cost)] = cost.reshape(*cost.shape[:5], groups)
    ordered = np.moveaxis(steps, 3, 0)
    return np.ascontiguousarray(ordered.reshape(nest.regions, nest.sets, nest.inner, groups))


def tile_costs(nest: Nest, costs: Bytes) -> Bytes:
    """Slowest group of each tile, (regions, window groups, channel tiles, sets, inner), of `group_costs`."""
    shape = (*costs.shape[:3], nest.channel_tiles, nest.window_tiles, -1)
    slowest: Bytes = costs.reshape(shape).max(axis=-1).transpose(0, 4, 3, 1, 2)
    return slowest


def _lows(bricks: Bricks) -> Bytes:
    assert bricks.lows is not None, "bricks made without their lowest bits"
    return bricks.lows


def _grouped(nest: Nest, slab: Bytes, columns: int, join: np.ufunc) -> Bytes:
    """Joins columns to groups: (sets, groups, Ky, Kx, cell)."""
    sets, _, ky, kx, blocks, cells = slab.shape
    tile = nest.columns * blocks
    by_column = slab.transpose(0, 1, 4, 2, 3, 5).reshape(sets, nest.window_tiles, tile, ky, kx, cells)
    joined: Bytes = join.reduceat(by_column, np.arange(0, tile, columns), axis=2)
    return joined.reshape(sets, -1, ky, kx, cells)


def chunk_costs(nest: Nest, columns: int, both_ends: bool) -> Bytes:
    """Cost of each step of the fully connected nest, shape (chunks,), filter blocks apart.

    The chunks of `columns` neighbouring columns make a group.
    """
    bricks = plain_bricks(nest, lows=both_ends)
    starts = np.arange(0, nest.inner, columns)
    costs = np.maximum.reduceat(bricks.tops[0, 0], starts, axis=-1)
    if both_ends:
        lows = np.minimum.reduceat(_lows(bricks)[0, 0], starts, axis=-1)
        costs = costs - np.where(lows == NO_BIT, np.uint8(0), lows)
    return np.repeat(costs.max(axis=0), columns)[: nest.inner]
