"""Base-delta-immediate compression (Pekhimenko et al., PACT 2012), on groups of values of one width.

A general-purpose scheme for cache lines, here in the form in which container codecs are compared with it:
one base a group, and deltas of 2, 4 or 8 bits. Its classes are made for 8-bit models.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.codecs.base import Codec, Encoded, register
from dpred_sim.codecs.bits import BitReader, BitWriter, damaged, restored
from dpred_sim.codecs.groups import Groups
from dpred_sim.values.layout import Layout, check_group_size
from dpred_sim.values.tensor import Tensor, TensorSource
from dpred_sim.values.widths import group_stats, layout

CLASSES = (2, 4, 8)
"""Bits of a value, or of its difference to the first value of its group."""
TAG_BITS = 4
ZERO_BITS = 12
"""A group of zeros: its tag and a byte."""
RAW, ZERO = 2 * len(CLASSES), 2 * len(CLASSES) + 1
"""Tags. Below RAW: 2 * (index of the class), odd where differences are stored."""


@register("bdi")
@dataclass(frozen=True)
class Bdi(Codec):
    """A tag of 4 bits a group says how it is stored; the smallest of what fits is taken:

    * all values zero: 12 bits;
    * the values, or their differences to the group's first value, in 2, 4 or 8 bits each, behind a base
      of `bits` bits (the first value; 0 where the values themselves are stored);
    * the values in full width.

    Values fit a class as group widths count (two's complement where the tensor is signed); differences
    are two's complement.
    """

    rank = 40
    group_size: int = 16

    def __post_init__(self) -> None:
        check_group_size(self.group_size)

    def encode(self, x: Tensor) -> Encoded:
        """Groups back to back in container order."""
        x = x.load()
        order = layout(x.shape, self.group_size)
        tags = self._tags(x, order).reshape(-1)
        flat = np.ascontiguousarray(order.arrange(x.values)).reshape(-1)
        writer = BitWriter()
        full = np.uint64((1 << x.bits) - 1)
        for group in Groups.all(order, self.group_size):
            tag = tags[group.first : group.last].astype(np.int64)[:, None]
            values = np.where(group.mask, flat[group.places].astype(np.int64), 0)
            base = np.where(_differs(tag), values[:, :1], 0)
            width = _widths(tag, x.bits)
            fields = (values - base).astype(np.uint64) & ((np.uint64(1) << width.astype(np.uint64)) - 1)
            fields[~group.mask] = 0
            sizes = np.where(group.mask, width, 0)
            base_size = np.where(tag < RAW, x.bits, np.where(tag == ZERO, ZERO_BITS - TAG_BITS, 0))
            writer.add(
                np.concatenate([tag.astype(np.uint64), base.astype(np.uint64) & full, fields], axis=1),
                np.concatenate([np.full(tag.shape, TAG_BITS), base_size, sizes], axis=1),
            )
        return writer.encoded(x)

    def decode(self, encoded: Encoded) -> Tensor:
        """Raises InputError for an unknown tag, values out of range, or another length than tags say."""
        order = layout(encoded.shape, self.group_size)
        reader = BitReader(encoded)
        flat = np.empty(prod(encoded.shape), f"{'i' if encoded.signed else 'u'}{encoded.bits // 8}")
        end = 0
        for group in Groups.all(order, self.group_size):
            starts, tags, end = _walk(reader, end, group.sizes, encoded.bits)
            values = _stored(reader, group, starts, tags, encoded)
            low, high = _range(encoded.bits, encoded.signed)
            if values.min() < low or values.max() > high:
                raise damaged("a value out of range")
            flat[group.places[group.mask]] = values[group.mask]
        if end != encoded.size_bits:
            raise damaged(f"{encoded.size_bits} bits; {end} expected")
        return restored(flat, order, encoded)

    def group_bits(self, x: TensorSource) -> NDArray[np.int32]:
        """Bits of each group, tag and base included."""
        order = layout(x.shape, self.group_size)
        tags = self._tags(x, order)
        bits = _widths(np.arange(ZERO + 1), x.bits).astype(np.int32)[tags]
        bits *= order.group_lengths(self.group_size)
        bits += np.array([TAG_BITS + x.bits] * RAW + [TAG_BITS, ZERO_BITS], np.int32)[tags]
        return bits

    def _tags(self, x: TensorSource, order: Layout) -> NDArray[np.uint8]:
        """How each group is stored, remembered on the tensor."""
        key = ("bdi", self.group_size, order.grouping)
        if key not in x.memo:
            x.memo[key] = self._choose(x, order)
        tags: NDArray[np.uint8] = x.memo[key]
        return tags

    def _choose(self, x: TensorSource, order: Layout) -> NDArray[np.uint8]:
        stats = group_stats(x, self.group_size, order)
        values, spread = stats.widths, _spread(x, self.group_size, order)
        lengths = order.group_lengths(self.group_size)
        tags = np.full(values.shape, RAW, np.uint8)
        for index in reversed(range(len(CLASSES))):
            shorter = CLASSES[index] * lengths + x.bits < x.bits * lengths
            for odd, widths in ((1, spread), (0, values)):  # where both fit, the values themselves
                np.copyto(tags, np.uint8(2 * index + odd), where=(widths <= CLASSES[index]) & shorter)
        tags[stats.nonzeros == 0] = ZERO
        return tags


def _spread(x: TensorSource, group_size: int, order: Layout) -> NDArray[np.uint8]:
    """Two's complement width of the differences to the first value of each group, 255 where above 8."""
    arranged = order.arrange(x.load().values)
    groups = order.groups(group_size)
    whole = order.length // group_size
    low = np.empty((order.runs, groups), arranged.dtype)
    high, first = np.empty_like(low), np.ascontiguousarray(arranged[:, ::group_size])
    body = arranged[:, : whole * group_size].reshape(order.runs, whole, -1) if whole else None
    for out, reduce in ((low, np.minimum.reduce), (high, np.maximum.reduce)):
        if body is not None:
            reduce(body, axis=2, out=out[:, :whole])
        if whole < groups:
            reduce(arranged[:, whole * group_size :], axis=1, out=out[:, whole])
    below = first.astype(np.int32) - low
    above = high.astype(np.int32) - first
    spread = np.full(low.shape, 255, np.uint8)
    for bits in reversed(CLASSES):
        fits = (below <= 1 << (bits - 1)) & (above < 1 << (bits - 1))
        np.copyto(spread, np.uint8(bits), where=fits)
    return spread.reshape(*order.leading, groups)


def _differs(tags: NDArray[Any]) -> NDArray[np.bool_]:
    return np.asarray((tags < RAW) & (tags % 2 == 1))


def _widths(tags: NDArray[Any], bits: int) -> NDArray[np.int64]:
    """Bits of a stored value by tag."""
    by_tag = [width for width in CLASSES for _ in range(2)] + [bits, 0]
    return np.asarray(np.array(by_tag, np.int64)[tags])


def _range(bits: int, signed: bool) -> tuple[int, int]:
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)


def _walk(
    reader: BitReader, start: int, sizes: NDArray[np.int64], bits: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Follow the groups from bit `start`: (first bit behind each tag, tags, end of the last)."""
    peek, end = reader.peek, reader.size_bits
    width = _widths(np.arange(ZERO + 1), bits).tolist()
    front = [bits] * RAW + [0, ZERO_BITS - TAG_BITS]
    starts, tags = [], []
    for size in sizes.tolist():
        tag = peek(start, TAG_BITS)
        if tag > ZERO:
            raise damaged(f"a group has the tag {tag}")
        start += TAG_BITS
        starts.append(start)
        tags.append(tag)
        start += front[tag] + size * width[tag]
        if start > end:
            raise damaged("it ends within a group")
    return np.array(starts, np.int64), np.array(tags, np.int64), start


def _stored(
    reader: BitReader, group: Groups, starts: NDArray[np.int64], tags: NDArray[np.int64], encoded: Encoded
) -> NDArray[np.int64]:
    """The values of groups, (groups, columns), 0 outside of the mask; they may be out of range."""
    width = _widths(tags, encoded.bits)
    behind = np.where(tags < RAW, encoded.bits, 0)
    base = reader.read(starts, np.where(_differs(tags), encoded.bits, 0)).astype(np.int64)
    if encoded.signed:
        base = _extended(base, np.full(base.shape, encoded.bits))
    places = (starts + behind)[:, None] + width[:, None] * np.arange(group.mask.shape[1])
    sizes = np.where(group.mask, width[:, None], 0)
    places[~group.mask] = 0
    fields = reader.read(places, sizes).astype(np.int64)
    signed = (encoded.signed | _differs(tags))[:, None] & (sizes > 0)
    fields = np.where(signed, _extended(fields, np.maximum(sizes, 1)), fields)
    return np.where(group.mask, fields + base[:, None], 0)


def _extended(fields: NDArray[np.int64], bits: NDArray[Any]) -> NDArray[np.int64]:
    """Two's complement fields of `bits` bits as integers."""
    sign = np.int64(1) << (bits - 1)
    return np.asarray((fields ^ sign) - sign)
