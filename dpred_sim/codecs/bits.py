"""Fields of up to 32 bits back to back, most significant bit first; whole arrays of them at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpred_sim.codecs.base import Encoded
from dpred_sim.errors import InputError
from dpred_sim.values.layout import Layout
from dpred_sim.values.tensor import Tensor, TensorSource

FIELD_BITS = 32
"""Longest field that can be written or read in one go."""
CHUNK = 1 << 14
"""Fields handled in one go."""


def prefix_bits(bits: int) -> int:
    """Bits that hold a width - 1 of values of `bits` bits: log2(bits)."""
    return bits.bit_length() - 1


class BitWriter:
    """Packs fields one after the other."""

    def __init__(self) -> None:
        self._words: list[NDArray[np.uint64]] = []
        self._open = np.uint64(0)  # the word that is not full yet
        self.size_bits = 0

    def add(self, values: ArrayLike, lengths: ArrayLike) -> None:
        """Append fields: the lowest `lengths` bits of non-negative `values` that fit into them.

        Both are flattened in C order; lengths are 0 (nothing is written, the value is 0) to FIELD_BITS.
        """
        fields, sizes = np.broadcast_arrays(np.asarray(values, np.uint64), np.asarray(lengths, np.int64))
        fields, sizes = fields.reshape(-1), sizes.reshape(-1)
        if not fields.size:
            return
        ends = np.cumsum(sizes)
        ends += self.size_bits & 63
        starts = ends - sizes
        index = starts >> 6
        words = np.zeros(int(ends[-1] >> 6) + 2, np.uint64)
        words[0] = self._open
        room = 64 - (starts & 63) - sizes  # bits of the word behind the field; negative: it goes on
        shifted = fields << np.maximum(room, 0).astype(np.uint64)
        over = np.flatnonzero(room < 0)
        shifted[over] = fields[over] >> (-room[over]).astype(np.uint64)
        # No field spans a word, so every word up to the last holds the start of one.
        first = np.flatnonzero(np.diff(index, prepend=-1))
        words[index[first]] |= np.bitwise_or.reduceat(shifted, first)
        words[index[over] + 1] |= fields[over] << (64 + room[over]).astype(np.uint64)
        full = int(ends[-1] >> 6)
        self._words.append(words[:full])
        self._open = words[full]
        self.size_bits += int(ends[-1]) - (self.size_bits & 63)

    def encoded(self, x: TensorSource) -> Encoded:
        """What was written, as a container of `x`."""
        words = np.concatenate([*self._words, np.array([self._open])])
        payload = words.astype(">u8").tobytes()[: -(-self.size_bits // 8)]
        return Encoded(payload, self.size_bits, tuple(x.shape), x.bits, x.signed, x.precision)


class BitReader:
    """Reads fields of a container at any place. `data` goes on with at least `beyond` zero bytes."""

    def __init__(self, encoded: Encoded, beyond: int = 8) -> None:
        if len(encoded.payload) != -(-encoded.size_bits // 8):
            raise damaged(f"{len(encoded.payload)} bytes for {encoded.size_bits} bits")
        self.size_bits = encoded.size_bits
        padding = max(beyond, 8)
        padding += -(len(encoded.payload) + padding) % 4
        self.data = encoded.payload + bytes(padding)
        self._words = np.frombuffer(self.data, ">u4").astype(np.uint64)

    def read(self, starts: NDArray[np.int64], lengths: ArrayLike) -> NDArray[np.uint64]:
        """The fields of `lengths` (0 to FIELD_BITS) bits that begin at bits `starts`, of their shape.

        Raises InputError for a field that ends behind the container.
        """
        sizes = np.asarray(lengths, np.int64)
        if starts.size and int((starts + sizes).max()) > self.size_bits:
            raise damaged("it ends within a field")
        index = starts >> 5
        pairs = self._words[index] << np.uint64(32)
        pairs |= self._words[index + 1]
        pairs >>= (64 - (starts & 31) - sizes).astype(np.uint64)
        return np.asarray(pairs & ((np.uint64(1) << sizes.astype(np.uint64)) - np.uint64(1)))

    def peek_all(self, starts: NDArray[np.int64], lengths: ArrayLike) -> NDArray[np.int64]:
        """Fields of at most FIELD_BITS bits; bits behind the container read as zeros."""
        index = starts >> 5
        pairs = self._words.take(index, mode="clip") << np.uint64(32)
        pairs |= self._words.take(index + 1, mode="clip")
        sizes = np.asarray(lengths, np.int64)
        pairs >>= (64 - (starts & 31) - sizes).astype(np.uint64)
        return (pairs & ((np.uint64(1) << sizes.astype(np.uint64)) - np.uint64(1))).astype(np.int64)

    def peek(self, start: int, length: int) -> int:
        """One field of at most FIELD_BITS bits; bits behind the container read as zeros."""
        word = int.from_bytes(self.data[start >> 3 : (start >> 3) + 5], "big")
        return (word >> (40 - (start & 7) - length)) & ((1 << length) - 1)


def restored(flat: NDArray[Any], order: Layout, encoded: Encoded) -> Tensor:
    """The tensor of a container's values, given in container order and within the format."""
    kind = f"{'i' if encoded.signed else 'u'}{encoded.bits // 8}"
    values = np.ascontiguousarray(order.restore(flat), dtype=kind)
    return Tensor.adopt(values, encoded.bits, encoded.signed, encoded.precision)


def damaged(what: str) -> InputError:
    """The error for a container that cannot be what its format says."""
    return InputError(f"damaged container: {what}")


def unsigned(values: NDArray[Any]) -> NDArray[Any]:
    """The same bits as unsigned integers."""
    return values.view(f"u{values.itemsize}")
