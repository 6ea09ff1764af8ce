"""A flag a value, then the values that are not zero in full width: the bit mask of sparse formats."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from dpred_sim.codecs.base import Codec, Encoded, register
from dpred_sim.codecs.bits import BitReader, BitWriter, damaged, restored, unsigned
from dpred_sim.codecs.groups import Groups, packed_flags, stored_values
from dpred_sim.values.layout import check_group_size
from dpred_sim.values.tensor import Tensor, TensorSource
from dpred_sim.values.widths import group_stats, layout


@register("bitmap")
@dataclass(frozen=True)
class Bitmap(Codec):
    """Each group holds a flag a value (1: not zero), then its values that are not zero, `bits` each.

    The number of bits does not depend on `group_size`: it says how many flags stand together, and how
    finely `group_bits` tells sizes.
    """

    rank = 30
    group_size: int = 16

    def __post_init__(self) -> None:
        check_group_size(self.group_size)

    def encode(self, x: Tensor) -> Encoded:
        """Groups back to back in container order."""
        x = x.load()
        order = layout(x.shape, self.group_size)
        flat = unsigned(np.ascontiguousarray(order.arrange(x.values)).reshape(-1))
        writer = BitWriter()
        for group in Groups.all(order, self.group_size):
            values = np.where(group.mask, flat[group.places], 0).astype(np.uint64)
            nonzero = values != 0
            flags, flag_sizes = packed_flags(nonzero, group.sizes)
            writer.add(
                np.concatenate([flags, values], axis=1),
                np.concatenate([flag_sizes, np.where(nonzero, x.bits, 0)], axis=1),
            )
        return writer.encoded(x)

    def decode(self, encoded: Encoded) -> Tensor:
        """Raises InputError for a container of another length than its flags say."""
        order = layout(encoded.shape, self.group_size)
        reader = BitReader(encoded, beyond=min(self.group_size, order.length) // 8 + 8)
        flat = np.empty(prod(encoded.shape), f"{'i' if encoded.signed else 'u'}{encoded.bits // 8}")
        end = 0
        for group in Groups.all(order, self.group_size):
            starts, end = _walk(reader, end, group.sizes, encoded.bits)
            widths = np.full(len(starts), encoded.bits, np.int64)
            flagged = np.ones(len(starts), np.bool_)
            flat[group.places[group.mask]] = stored_values(
                reader, group, starts, widths, flagged, encoded.signed
            )
        if end != encoded.size_bits:
            raise damaged(f"{encoded.size_bits} bits; {end} expected")
        return restored(flat, order, encoded)

    def group_bits(self, x: TensorSource) -> NDArray[np.int32]:
        """Flags and values of each group."""
        order = layout(x.shape, self.group_size)
        bits = group_stats(x, self.group_size, order).nonzeros.astype(np.int32)
        bits *= np.int32(x.bits)
        bits += order.group_lengths(self.group_size)
        return bits


def _walk(
    reader: BitReader, start: int, sizes: NDArray[np.int64], bits: int
) -> tuple[NDArray[np.int64], int]:
    """Where each group begins: one ends where its flags say. Returns (starts, end of the last)."""
    data, end = reader.data, reader.size_bits
    span = (int(sizes.max()) + 14) // 8
    starts = []
    for size in sizes.tolist():
        starts.append(start)
        byte = start >> 3
        flags = int.from_bytes(data[byte : byte + span], "big") >> (8 * span - (start & 7) - size)
        start += size + bits * (flags & ((1 << size) - 1)).bit_count()
        if start > end:
            raise damaged("it ends within a group")
    return np.array(starts, np.int64), start
