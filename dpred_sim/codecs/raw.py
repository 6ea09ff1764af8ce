"""No compression: every value takes the model's width."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from dpred_sim.codecs.base import Codec, Encoded, register
from dpred_sim.codecs.bits import damaged, restored
from dpred_sim.values.layout import check_group_size
from dpred_sim.values.tensor import Tensor, TensorSource
from dpred_sim.values.widths import layout


@register("raw")
@dataclass(frozen=True)
class Raw(Codec):
    """Values as they are. `group_size` only says how finely `group_bits` tells sizes."""

    rank = 0
    group_size: int = 16

    def __post_init__(self) -> None:
        check_group_size(self.group_size)

    def encode(self, x: Tensor) -> Encoded:
        """Values in container order, big-endian."""
        values = layout(x.shape, self.group_size).arrange(x.load().values)
        payload = values.astype(values.dtype.newbyteorder(">")).tobytes()
        return Encoded(payload, self.size_bits(x), tuple(x.shape), x.bits, x.signed, x.precision)

    def decode(self, encoded: Encoded) -> Tensor:
        """Raises InputError for a container of another length than its shape takes."""
        size = prod(encoded.shape) * encoded.bits
        if encoded.size_bits != size or 8 * len(encoded.payload) != size:
            raise damaged(f"{len(encoded.payload)} bytes, {encoded.size_bits} bits; {size} bits expected")
        kind = f">{'i' if encoded.signed else 'u'}{encoded.bits // 8}"
        values = np.frombuffer(encoded.payload, kind)
        return restored(values, layout(encoded.shape, self.group_size), encoded)

    def group_bits(self, x: TensorSource) -> NDArray[np.int32]:
        """Values of the group times their width (a read-only view)."""
        order = layout(x.shape, self.group_size)
        lengths = order.group_lengths(self.group_size) * np.int32(x.bits)
        return np.broadcast_to(lengths, (*order.leading, len(lengths)))

    def size_bits(self, x: TensorSource) -> int:
        """Number of values times their width."""
        return prod(x.shape) * x.bits
