"""One width a tensor: its profiled precision, after Proteus (Judd et al., ICS 2016)."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from dpred_sim.codecs.base import Codec, Encoded, register
from dpred_sim.codecs.bits import CHUNK, BitReader, BitWriter, damaged, prefix_bits, restored, unsigned
from dpred_sim.errors import InputError
from dpred_sim.values.layout import check_group_size
from dpred_sim.values.tensor import Tensor, TensorSource
from dpred_sim.values.widths import group_stats, layout


@register("per_layer")
@dataclass(frozen=True)
class PerLayer(Codec):
    """A header of log2(bits) bits holds precision - 1, then each value takes `precision` bits.

    `group_size` only says how finely `group_bits` tells sizes. Sizes and `encode` raise InputError for
    a tensor with values wider than its precision.
    """

    rank = 10
    group_size: int = 16

    def __post_init__(self) -> None:
        check_group_size(self.group_size)

    def encode(self, x: Tensor) -> Encoded:
        """Header, then the values in container order, two's complement where signed."""
        x = x.load()
        self._check(x)
        writer = BitWriter()
        writer.add(x.precision - 1, prefix_bits(x.bits))
        flat = unsigned(np.ascontiguousarray(layout(x.shape, self.group_size).arrange(x.values)).reshape(-1))
        mask = np.uint64((1 << x.precision) - 1)
        for start in range(0, len(flat), CHUNK):
            writer.add(flat[start : start + CHUNK].astype(np.uint64) & mask, x.precision)
        return writer.encoded(x)

    def decode(self, encoded: Encoded) -> Tensor:
        """Raises InputError for a container of another length than shape and header say."""
        reader = BitReader(encoded)
        head = prefix_bits(encoded.bits)
        width = reader.peek(0, head) + 1
        count = prod(encoded.shape)
        if encoded.size_bits != head + count * width:
            raise damaged(f"{encoded.size_bits} bits; {head + count * width} expected")
        flat = np.empty(count, f"{'i' if encoded.signed else 'u'}{encoded.bits // 8}")
        sign = 1 << (width - 1)
        for start in range(0, count, CHUNK):
            place = np.arange(start, min(start + CHUNK, count), dtype=np.int64)
            fields = reader.read(head + place * width, width).astype(np.int64)
            flat[start : start + CHUNK] = (fields ^ sign) - sign if encoded.signed else fields
        return restored(flat, layout(encoded.shape, self.group_size), encoded)

    def group_bits(self, x: TensorSource) -> NDArray[np.int32]:
        """Values of the group times the precision (a read-only view)."""
        self._check(x)
        order = layout(x.shape, self.group_size)
        lengths = order.group_lengths(self.group_size) * np.int32(x.precision)
        return np.broadcast_to(lengths, (*order.leading, len(lengths)))

    def header_bits(self, x: TensorSource) -> int:
        """Bits that hold the precision."""
        return prefix_bits(x.bits)

    def size_bits(self, x: TensorSource) -> int:
        """Header and number of values times the precision."""
        self._check(x)
        return self.header_bits(x) + prod(x.shape) * x.precision

    def _check(self, x: TensorSource) -> None:
        stats = group_stats(x, self.group_size, layout(x.shape, self.group_size))
        widest = int(stats.widths.max())
        fits = widest <= x.precision
        if not fits and x.signed and x.precision == 1:  # 0 and -1 are charged 2 bits but fit 1
            values = x.load().values
            fits = bool(values.min() >= -1 and values.max() <= 0)
        if not fits:
            raise InputError(
                "values wider than the tensor's precision",
                found=f"{widest} bits",
                allowed=f"{x.precision} bits",
            )
