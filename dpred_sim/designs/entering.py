"""Ways for values to enter the units: whole, bit by bit, as terms, as non-zeros, as small bricks.

Each returns an `Enter`: from the values of an operand to the parts that units work on. What a step
takes, bits or cycles, comes from the costs that the design charges: too few of them, and outputs are
wrong. Amounts are (value block, window or filter, inner, tile), or broadcast to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.designs.bricks import window_view
from dpred_sim.designs.functional import Enter, Operand, Part
from dpred_sim.designs.loop_nest import Nest
from dpred_sim.designs.recoding import digit_masks

Amounts = Callable[[Operand], NDArray[Any]]


def whole(operand: Operand) -> Iterator[Part]:
    """Every block of a value at once."""
    for block, (values, _) in enumerate(operand.split()):
        yield block * operand.nest.pe_width, values


def always(amount: int) -> Amounts:
    """The same for every value."""
    return lambda operand: np.full((1, 1, 1, 1), amount, dtype=np.int64)


def of_steps(costs: NDArray[Any]) -> Amounts:
    """What each step takes of activations: costs (regions, sets, inner), or (regions, tiles, sets, inner)."""
    by_tile = costs if costs.ndim == 4 else costs[:, None]

    def amounts(windows: Operand) -> NDArray[Any]:
        sets = windows.numbers // windows.nest.windows_per_set
        met: NDArray[Any] = by_tile[windows.region].transpose(1, 2, 0)[sets][None]
        return met

    return amounts


def of_column_groups(costs: NDArray[Any], columns: int) -> Amounts:
    """What each group of `columns` columns takes in a step: costs (regions, sets, inner, groups)."""

    def amounts(windows: Operand) -> NDArray[Any]:
        nest = windows.nest
        sets = (windows.numbers // nest.windows_per_set)[None, :, None]
        by_tile = costs[windows.region].reshape(*costs.shape[1:3], nest.channel_tiles, -1)
        groups = column_groups(windows, columns).T[:, :, None]
        met: NDArray[Any] = by_tile[sets, np.arange(nest.inner), :, groups]
        return met

    return amounts


def of_chunks(costs: NDArray[Any]) -> Amounts:
    """What each step of the fully connected nest takes: costs (chunks,), or (value blocks, chunks)."""
    return lambda windows: np.atleast_2d(costs)[:, None, :, None]


def of_rows(costs: NDArray[Any]) -> Amounts:
    """What each step takes of weights: costs (regions, filter blocks, channel tiles, inner)."""

    def amounts(filters: Operand) -> NDArray[Any]:
        nest = filters.nest
        tiles = filters.numbers // nest.rows
        block, tile = (0 * tiles, tiles) if nest.depthwise else (tiles // nest.filter_tiles, 0 * tiles)
        met: NDArray[Any] = costs[filters.region][block, tile][None, :, :, None]
        return met

    return amounts


def column_groups(windows: Operand, columns: int) -> NDArray[np.int64]:
    """Group of each column in its set, (window, value block): `columns` neighbours of a tile."""
    nest = windows.nest
    tile, column = np.divmod(windows.numbers % nest.windows_per_set, nest.columns)
    each = -(-nest.columns * windows.blocks // columns)
    within = column[:, None] * windows.blocks + np.arange(windows.blocks)
    return tile[:, None] * each + within // columns


def bit_serial(bits: Amounts, lows: Amounts | None = None, a_cycle: int = 1) -> Enter:
    """Two's complement from the bottom, `bits` of every value, `a_cycle` of them at a time.

    The top bit that enters counts negative where the block is signed. `lows` are bits at the bottom
    that are skipped; the sum is shifted by as many.
    """

    def enter(operand: Operand) -> Iterator[Part]:
        count = bits(operand)
        count = np.broadcast_to(count, (operand.blocks, *count.shape[1:]))[..., None].astype(np.int32)
        skipped = None if lows is None else lows(operand)[..., None].astype(np.int32)
        for block, (values, signed) in enumerate(operand.split()):
            base = block * operand.nest.pe_width
            left = values if skipped is None else values >> skipped[block]
            for first in range(0, int(count[block].max(initial=0)), a_cycle):
                digit = np.zeros_like(values)
                for bit in range(first, first + a_cycle):
                    weight = (count[block] > bit) * np.int32(1 << (bit - first))
                    if signed:
                        weight = np.where(count[block] == bit + 1, -weight, weight)
                    digit += (left >> min(bit, 31) & 1) * weight
                yield base + first, digit if skipped is None else digit << skipped[block]

    return enter


def loaded(bits: Amounts) -> Enter:
    """Values that came in bit by bit and are used whole: a part a block."""
    serial = bit_serial(bits)

    def enter(operand: Operand) -> Iterator[Part]:
        total: dict[int, NDArray[Any]] = {}
        for exponent, digits in serial(operand):
            block = exponent // operand.nest.pe_width if operand.blocks > 1 else 0
            base = block * operand.nest.pe_width
            total[base] = total.get(base, 0) + (digits << (exponent - base))
        yield from total.items()

    return enter


def lows_of_columns(columns: int) -> Amounts:
    """Zero bits at the bottom that all values of a group of columns share; 0 for zeros."""

    def lows(windows: Operand) -> NDArray[Any]:
        nest, joined = windows.nest, _joined(windows)
        groups = column_groups(windows, columns)
        sets = windows.numbers // nest.windows_per_set
        keys = (sets[:, None] * (groups.max() + 1) + groups).reshape(-1)
        return _shared(joined, keys)

    return lows


def lows_of_chunks(columns: int) -> Amounts:
    """The same in the fully connected nest, where neighbouring chunks make a group and blocks do not."""

    def lows(windows: Operand) -> NDArray[Any]:
        starts = np.arange(0, windows.nest.inner, columns)
        least = _lowest(np.bitwise_or.reduceat(_joined(windows), starts, axis=2))
        return np.repeat(least, columns, axis=2)[:, :, : windows.nest.inner]

    return lows


def lows_of_rows(rows: int) -> Amounts:
    """Zero bits at the bottom that all weights of a group of `rows` rows share, (filter, block) each."""

    def lows(filters: Operand) -> NDArray[Any]:
        tile, row = np.divmod(filters.numbers, filters.nest.rows)
        within = row[:, None] * filters.blocks + np.arange(filters.blocks)
        keys = (tile[:, None] * filters.nest.rows * filters.blocks + within // rows).reshape(-1)
        return _shared(_joined(filters), keys)

    return lows


def _joined(operand: Operand) -> NDArray[np.int32]:
    """Bitwise or over the lanes: (block, window or filter, inner, tile)."""
    return np.stack([np.bitwise_or.reduce(values, axis=-1) for values, _ in operand.split()])


def _shared(joined: NDArray[np.int32], keys: NDArray[np.int64]) -> NDArray[np.int32]:
    """Lowest set bit over neighbours of the same key; keys run over (window or filter, block)."""
    blocks, rows = joined.shape[:2]
    flat = joined.swapaxes(0, 1).reshape(rows * blocks, *joined.shape[2:])
    starts = np.flatnonzero(np.diff(keys, prepend=keys[0] - 1))
    least = _lowest(np.bitwise_or.reduceat(flat, starts, axis=0))
    spread = np.repeat(least, np.diff(np.append(starts, len(keys))), axis=0)
    return spread.reshape(rows, blocks, *joined.shape[2:]).swapaxes(0, 1)


def _lowest(values: NDArray[np.int32]) -> NDArray[np.int32]:
    """Number of the lowest set bit, 0 for 0."""
    lowest = np.frexp((values & -values).astype(np.float64))[1] - 1
    return np.maximum(np.where(values == 0, 0, lowest), 0).astype(np.int32)


def signed_terms(operand: Operand, recoding: bool) -> Iterator[tuple[int, Any, Any]]:
    """Terms of each block's magnitude: (exponent, positions of positive, of negative ones) as set bits.

    The sign of the value is in: terms of a negative value are turned round.
    """
    size, values = operand.nest.pe_width, operand.values
    for block in range(operand.blocks):
        magnitude = np.abs(values) >> (size * block)
        if block < operand.blocks - 1:
            magnitude &= (1 << size) - 1
        plus, minus = magnitude.astype(np.int64), np.zeros(values.shape, dtype=np.int64)
        if recoding:
            plus, minus = (mask[magnitude].astype(np.int64) for mask in digit_masks())
        yield size * block, np.where(values < 0, minus, plus), np.where(values < 0, plus, minus)


def most_terms(operand: Operand, recoding: bool) -> NDArray[np.int64]:
    """Terms of each value, of the block that has most."""
    counts = [np.bitwise_count(plus | minus) for _, plus, minus in signed_terms(operand, recoding)]
    most: NDArray[np.int64] = np.maximum.reduce(counts).astype(np.int64)
    return most


def term_planes(recoding: bool) -> Enter:
    """A part a bit position: the signed powers of two of every value."""

    def enter(operand: Operand) -> Iterator[Part]:
        for base, plus, minus in signed_terms(operand, recoding):
            for bit in range(int((plus | minus).max(initial=0)).bit_length()):
                yield base + bit, ((plus >> bit & 1) - (minus >> bit & 1)).astype(np.int8)

    return enter


def shifted_terms(cycles: Amounts, recoding: bool, reach: int) -> Enter:
    """A part a cycle: each lane's lowest term that lies less than `reach` above its unit's lowest.

    A unit has as many cycles as it is charged.
    """

    def enter(operand: Operand) -> Iterator[Part]:
        count = cycles(operand)
        count = np.broadcast_to(count, (operand.blocks, *count.shape[1:]))[..., None]
        for block, (base, plus, minus) in enumerate(signed_terms(operand, recoding)):
            left = plus | minus
            for cycle in range(int(count[block].max(initial=0))):
                lowest = np.bitwise_or.reduce(left, axis=-1, keepdims=True)
                lowest &= -lowest
                taken = left & -left
                taken &= (lowest << reach) - lowest
                taken *= count[block] > cycle
                left ^= taken
                yield base, np.where(taken & minus, -taken, taken)

    return enter


def nonzeros(cycles: Amounts) -> Enter:
    """A part a cycle: the next (value, offset) of each brick's packed non-zeros.

    A brick has as many cycles as it is charged; the offset picks the weight.
    """

    def enter(operand: Operand) -> Iterator[Part]:
        count = np.broadcast_to(cycles(operand)[0][..., None], (*operand.values.shape[:-1], 1))
        offsets = np.argsort(operand.values == 0, axis=-1, kind="stable")
        packed = np.take_along_axis(operand.values, offsets, axis=-1)
        for cycle in range(min(int(count.max(initial=0)), packed.shape[-1])):
            value = np.where(count > cycle, packed[..., cycle : cycle + 1], 0)
            picked = np.zeros_like(packed)
            np.put_along_axis(picked, offsets[..., cycle : cycle + 1], value, axis=-1)
            yield 0, picked

    return enter


def two_bit_bricks(bits: int) -> Enter:
    """A part a brick of 2 bits of `bits`-bit two's complement; the top one is signed in a signed tensor."""

    def enter(operand: Operand) -> Iterator[Part]:
        for first in range(0, bits, 2):
            brick = operand.values >> first & 3
            if operand.signed and first + 2 >= bits:
                brick = np.where(brick > 1, brick - 4, brick)
            yield first, brick.astype(np.int8)

    return enter


def charged_bricks(nest: Nest, cycles: NDArray[np.uint8]) -> Amounts:
    """What each brick of the plane takes where a window meets it: cycles (y, x, value block, cell)."""
    cells = (nest.regions, nest.channel_tiles, nest.chunks)
    plane = cycles.reshape(*cycles.shape[:3], *cells)

    def amounts(windows: Operand) -> NDArray[Any]:
        y, x = np.divmod(windows.numbers, nest.layer.conv_width)
        met = window_view(nest, plane[:, :, :, windows.region])[y, x]  # (n, Ky, Kx, block, tile, chunk)
        shape = (windows.blocks, len(y), nest.inner, nest.channel_tiles)
        return met.transpose(3, 0, 1, 2, 5, 4).reshape(shape)

    return amounts
