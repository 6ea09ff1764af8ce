"""Promotion of weights: which lines of a tile's filters are executed, and which weights each of them holds.

Lines are worked off in order, all filters of a layer side by side; the lanes of a line are the bits of an
integer, so candidates of all slots are counted with a few additions bit by bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.designs.loop_nest import Nest

Masks = NDArray[np.unsignedinteger[Any]]
"""Lines of filters, or of all filters of a tile: bit l is lane l."""
Integers = NDArray[np.int64]
Offset = tuple[int, int]
"""Lines ahead, and lanes above (round the lanes)."""
T_SHAPE: tuple[Offset, ...] = ((1, -1), (1, 0), (1, 1), (1, 3), (2, -2), (2, 0), (2, 2))


def offsets(shape: str, lookahead: int, lookaside: int, lanes: int) -> tuple[Offset, ...]:
    """Where a slot looks for a weight, in the order of its choice; lanes count upwards from its own."""
    if shape == "T":
        places = T_SHAPE
    else:
        aside = tuple((1, -lane) for lane in range(lookaside, 0, -1))
        places = (*aside, *((line, 0) for line in range(1, lookahead + 1)))
    return tuple((line, lane % lanes) for line, lane in places)


@dataclass(frozen=True, slots=True)
class Promoted:
    """What is executed of each filter set, the filters of one tile at a time."""

    executed: NDArray[np.bool_]
    """(lines, filter sets)."""
    idle: Masks
    """(lines, filter sets): slots with a zero weight of some filter that nothing was promoted to."""
    sources: Masks
    """(lines ahead, lines, filter sets): places of the weights that are executed in a line."""
    used: Masks
    """(lines, filters): weights that are executed."""
    promotions: int

    def counts(self, nest: Nest) -> Integers:
        """Executed steps, of the tile with most, by (block, tile of other channels)."""
        lines = np.count_nonzero(self.executed, axis=0)
        most = np.zeros(nest.regions * nest.blocks_per_region * nest.channel_tiles, dtype=np.int64)
        np.maximum.at(most, _holder(nest), lines)
        return most.reshape(-1, nest.channel_tiles)

    def taken(self, nest: Nest, gated: bool) -> tuple[Integers, Integers, Integers]:
        """Activations that the slots of each step take: step, line * lanes + lane, without repeats.

        In order of block, channel tile and step; block * channel tiles + tile begins at the third. Zero
        weights that stayed take theirs too unless `gated`.
        """
        masks = self.sources.copy()
        if not gated:
            masks[0] |= np.where(self.executed, self.idle, masks.dtype.type(0))
        step_of = np.cumsum(self.executed, axis=0) - 1
        ahead, line, tile_set, lane = np.nonzero(_bits(masks, nest.lanes))
        steps, places = step_of[line, tile_set], (line + ahead) * nest.lanes + lane
        held = _holder(nest)[tile_set]
        size = nest.inner * nest.lanes
        code = np.unique((held * nest.inner + steps) * size + places)
        held, rest = np.divmod(code, nest.inner * size)
        every = np.arange(nest.regions * nest.blocks_per_region * nest.channel_tiles + 1)
        return rest // size, rest % size, np.searchsorted(held, every)

    def executions(self, nest: Nest) -> NDArray[np.bool_]:
        """Weights that are executed, in the shape of the weights."""
        weights = nest.layer.weights
        assert weights is not None
        bits = _bits(self.used, nest.lanes).swapaxes(0, 1)
        if nest.depthwise:
            bits = bits[np.arange(len(bits)), :, np.arange(len(bits)) % nest.lanes]
        by_tap = bits.reshape(len(bits), nest.inner // nest.chunks, -1)
        return by_tap[:, :, : weights.shape[-1]].reshape(weights.shape)


def promoted(nest: Nest, places: tuple[Offset, ...], lookahead: int) -> Promoted:
    """The executed lines of the filters of a layer, see `docs/designs.md`."""
    now, present, set_of = _lines(nest)
    lines, zero = len(now), now.dtype.type(0)
    first = np.flatnonzero(np.diff(set_of, prepend=-1))
    skipped = np.zeros(len(first), dtype=np.int64)
    executed = np.ones((lines, len(first)), dtype=bool)
    sources = np.zeros((lookahead + 1, lines, len(first)), dtype=now.dtype)
    idle, used, vacated, count = np.zeros_like(sources[0]), np.zeros_like(now), np.zeros_like(now), 0
    for line in range(lines):
        skip = (np.bitwise_or.reduceat(now[line], first) == 0) & (skipped < lookahead)
        skipped = np.where(skip, skipped + 1, 0)
        executed[line] = ~skip
        if skip.all():
            continue
        before = now[line].copy()
        moved = np.zeros((lookahead + 1, now.shape[1]), dtype=now.dtype)
        moved[0] = before
        near = [(ahead, lane) for ahead, lane in places if line + ahead < lines]
        active = np.flatnonzero(~skip[set_of])
        while near and len(active):
            active, slots, takes = _choices(now, active, line, near, nest.lanes)
            now[line, active] |= slots
            count += len(active)
            for (ahead, lane), chosen in zip(near, takes, strict=True):
                source = _turned(np.where(chosen, slots, zero), -lane % nest.lanes, nest.lanes)
                now[line + ahead, active] ^= source
                moved[ahead, active] |= source
        for ahead, mask in enumerate(moved[: lines - line]):
            sources[ahead, line] = np.bitwise_or.reduceat(mask, first)
            used[line + ahead] |= mask
            if ahead:
                vacated[line + ahead] |= mask
        idle[line] = np.bitwise_or.reduceat(present[line] & ~now[line] & ~vacated[line], first)
    return Promoted(executed, idle, sources, used, count)


def _choices(
    now: Masks, active: Integers, line: int, near: list[Offset], lanes: int
) -> tuple[Integers, Masks, list[NDArray[np.bool_]]]:
    """Filters that have a slot to fill, the slot of each, and whether it takes from each offset.

    The slot is the zero one with most candidates, of these the lowest; it takes the first.
    """
    zero = ~now[line, active]
    candidates = [_turned(now[line + ahead, active], lane, lanes) & zero for ahead, lane in near]
    some = np.bitwise_or.reduce(candidates)
    live = np.flatnonzero(some)
    active, best = active[live], some[live]
    candidates = [mask[live] for mask in candidates]
    planes: list[Masks] = []  # bits of the counts of all slots
    for carry in candidates:
        for place, plane in enumerate(planes):
            planes[place], carry = plane ^ carry, plane & carry
        if carry.any():
            planes.append(carry)
    for plane in reversed(planes):
        most = best & plane
        best = np.where(most != 0, most, best)
    slots = best & (~best + best.dtype.type(1))
    takes, left = [], np.ones(len(active), dtype=bool)
    for mask in candidates:
        takes.append(left & ((mask & slots) != 0))
        left &= ~takes[-1]
    return active, slots, takes


def _turned(masks: Masks, lane: int, lanes: int) -> Masks:
    """Bit l is lane (l + `lane`) mod `lanes`."""
    if not lane:
        return masks
    kind = masks.dtype.type
    turned: Masks = (masks >> kind(lane) | masks << kind(lanes - lane)) & kind((1 << lanes) - 1)
    return turned


def _lines(nest: Nest) -> tuple[Masks, Masks, Integers]:
    """Slots with a weight and slots with a channel, (lines, filters), and the filter set of each filter."""
    layer = nest.layer
    assert layer.weights is not None
    nonzero = layer.weights.load().values.reshape(layer.filters, nest.inner // nest.chunks, -1) != 0
    number = np.arange(layer.filters)
    if nest.depthwise:
        slots = np.zeros((layer.filters, nest.inner, nest.lanes), dtype=bool)
        slots[number, :, number % nest.lanes] = True
        return _packed(slots & nonzero), _packed(slots), number // nest.rows
    idle = nest.chunks * nest.lanes - nonzero.shape[2]
    filled = np.pad(nonzero, ((0, 0), (0, 0), (0, idle))) if idle else nonzero
    there = np.arange(nest.chunks * nest.lanes).reshape(1, -1, nest.lanes) < nonzero.shape[2]
    chunks = np.tile(_packed(there), (nest.inner // nest.chunks, 1))
    group, within = np.divmod(number, layer.filters // layer.groups)
    set_of = group * -(-(layer.filters // layer.groups) // nest.rows) + within // nest.rows
    masks = _packed(filled.reshape(layer.filters, nest.inner, nest.lanes))
    return masks, np.broadcast_to(chunks, masks.shape), set_of


def _packed(slots: NDArray[np.bool_]) -> Masks:
    """(filters, lines, lanes) to (lines, filters)."""
    size = next(size for size in (2, 4, 8) if 8 * size >= slots.shape[2])
    packed = np.packbits(slots, axis=2, bitorder="little")
    packed = np.pad(packed, ((0, 0), (0, 0), (0, size - packed.shape[2])))
    masks: Masks = packed.view(f"<u{size}")[:, :, 0]
    return np.ascontiguousarray(masks.T)


def _bits(masks: Masks, lanes: int) -> NDArray[np.bool_]:
    """Lanes as a last axis."""
    packed = np.ascontiguousarray(masks)[..., None].view(np.uint8)
    bits: NDArray[np.bool_] = np.unpackbits(packed, axis=-1, count=lanes, bitorder="little").view(bool)
    return bits


def _holder(nest: Nest) -> Integers:
    """block * channel tiles + tile of each filter set."""
    if nest.depthwise:
        return np.arange(-(-nest.layer.filters // nest.rows))
    each = -(-(nest.layer.filters // nest.layer.groups) // nest.rows)
    region, within = np.divmod(np.arange(nest.regions * each), each)
    blocks: Integers = region * nest.blocks_per_region + within // nest.filter_tiles
    return blocks
