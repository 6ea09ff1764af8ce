"""Group containers: each group of values is stored in the width that its largest value needs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from dpred_sim.codecs.base import Codec, Encoded, Role, Variants, register
from dpred_sim.codecs.bits import BitReader, BitWriter, damaged, prefix_bits, restored, unsigned
from dpred_sim.codecs.groups import Groups, packed_flags, stored_values
from dpred_sim.errors import InputError
from dpred_sim.values.layout import check_group_size
from dpred_sim.values.tensor import Tensor, TensorSource
from dpred_sim.values.widths import group_stats, layout

Mode = Literal["plain", "zeros", "adaptive", "auto", "offline"]
MODES = ("plain", "zeros", "adaptive", "auto", "offline")


@register("dpred")
@dataclass(frozen=True)
class Dpred(Codec):
    """A prefix of log2(bits) bits a group holds its width - 1; the values follow in that width.

    Modes:

    * `plain`: prefix, then every value;
    * `zeros`: prefix, a flag a value (1: not zero), then the values that are not zero;
    * `adaptive`: one bit a group (1: `zeros`), then the smaller of the two;
    * `offline`: one bit a tensor (1: `zeros`), then the smaller of the two throughout, which takes
      knowing all values beforehand;
    * `auto`: `offline` for weights, `adaptive` for what is packed while it is made.

    Values are two's complement fields where the tensor is signed, so a container decodes on its own.
    """

    rank = 60
    swept = True
    variants: ClassVar[Variants] = {mode: {"mode": mode} for mode in MODES if mode != "offline"}
    group_size: int = 16
    mode: Mode = "auto"

    def __post_init__(self) -> None:
        check_group_size(self.group_size)
        if self.mode not in MODES:
            raise InputError("mode", field="mode", found=self.mode, allowed=MODES)

    def chosen_for(self, x: TensorSource, role: Role) -> Codec:
        """`auto` becomes `offline` for weights and `adaptive` for activations."""
        if self.mode != "auto":
            return self
        return replace(self, mode="offline" if role == "weights" else "adaptive")

    def header_bits(self, x: TensorSource) -> int:
        """1 where the tensor's mode is recorded, else 0."""
        return int(self.mode == "offline")

    def group_bits(self, x: TensorSource) -> NDArray[np.int32]:
        """Bits of each group, prefix and flags included."""
        plain, zeros = self._costs(x)
        if self.mode == "plain":
            return plain
        if self.mode == "zeros":
            return zeros
        if self.mode == "offline":
            return zeros if _smaller(zeros, plain) else plain
        np.minimum(plain, zeros, out=plain)
        plain += np.int32(1)
        return plain

    def encode(self, x: Tensor) -> Encoded:
        """Groups back to back in container order."""
        x = x.load()
        order = layout(x.shape, self.group_size)
        widths = group_stats(x, self.group_size, order).widths.reshape(-1).astype(np.uint64)
        flagged = self._flagged(x)
        writer = BitWriter()
        if self.mode == "offline":
            writer.add(int(flagged[0]), 1)
        flat = unsigned(np.ascontiguousarray(order.arrange(x.values)).reshape(-1))
        head = prefix_bits(x.bits)
        choice = int(self._adaptive)  # bits that say whether flags follow
        for group in Groups.all(order, self.group_size):
            width, flag = widths[group.first : group.last, None], flagged[group.first : group.last, None]
            values = np.where(group.mask, flat[group.places], 0).astype(np.uint64)
            nonzero = values != 0
            stored = np.where(flag, nonzero, group.mask)
            heads = (width - np.uint64(1)) | (flag.astype(np.uint64) << np.uint64(head)) * np.uint64(choice)
            flags, flag_sizes = packed_flags(nonzero & flag, group.sizes * flag[:, 0])
            values &= (np.uint64(1) << width) - np.uint64(1)
            values[~stored] = 0
            fields = np.concatenate([heads, flags, values], axis=1)
            sizes = np.concatenate(
                [np.full(heads.shape, head + choice), flag_sizes, stored * width.astype(np.int64)], axis=1
            )
            writer.add(fields, sizes)
        return writer.encoded(x)

    def decode(self, encoded: Encoded) -> Tensor:
        """Raises InputError for a container of another length than its groups take."""
        order = layout(encoded.shape, self.group_size)
        reader = BitReader(encoded, beyond=min(self.group_size, order.length) // 8 + 8)
        flat = np.empty(prod(encoded.shape), f"{'i' if encoded.signed else 'u'}{encoded.bits // 8}")
        end = int(self.mode == "offline")
        always = self.mode == "zeros" or (self.mode == "offline" and reader.peek(0, 1) == 1)
        for group in Groups.all(order, self.group_size):
            starts, widths, flagged, end = self._walk(reader, end, group.sizes, encoded.bits, always)
            flat[group.places[group.mask]] = stored_values(
                reader, group, starts, widths, flagged, encoded.signed
            )
        if end != encoded.size_bits:
            raise damaged(f"{encoded.size_bits} bits; {end} expected")
        return restored(flat, order, encoded)

    @property
    def _adaptive(self) -> bool:
        return self.mode in ("adaptive", "auto")

    def _costs(self, x: TensorSource) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Bits of each group as `plain` and as `zeros`."""
        order = layout(x.shape, self.group_size)
        stats = group_stats(x, self.group_size, order)
        lengths = order.group_lengths(self.group_size)
        prefix = np.int32(prefix_bits(x.bits))
        plain = stats.widths.astype(np.int32)
        zeros = plain * stats.nonzeros
        plain *= lengths
        plain += prefix
        zeros += lengths + prefix
        return plain, zeros

    def _flagged(self, x: Tensor) -> NDArray[np.bool_]:
        """Which groups carry zero flags, in container order."""
        plain, zeros = (costs.reshape(-1) for costs in self._costs(x))
        if self._adaptive:
            return zeros < plain
        return np.full(
            len(plain), self.mode == "zeros" or (self.mode == "offline" and _smaller(zeros, plain))
        )

    def _walk(
        self, reader: BitReader, start: int, sizes: NDArray[np.int64], bits: int, always: bool
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_], int]:
        """Follow the groups from bit `start`: where one ends is known only from its head.

        Returns each group's first bit behind the head, its width, whether it carries flags; and the end.
        """
        adaptive, head = self._adaptive, prefix_bits(bits)
        front = head + adaptive
        low = (1 << head) - 1
        span = (int(sizes.max()) + front + 14) // 8  # bytes that hold front and flags wherever they begin
        data, end, read = reader.data, reader.size_bits, int.from_bytes
        starts, widths, flagged = [], [], []
        for size in sizes.tolist():
            byte = start >> 3
            word = read(data[byte : byte + span], "big") >> (8 * span - (start & 7) - front - size)
            flags = always or (adaptive and word >> (head + size) & 1 == 1)
            width = ((word >> size) & low) + 1
            start += front
            starts.append(start)
            widths.append(width)
            flagged.append(flags)
            start += size + width * (word & ((1 << size) - 1)).bit_count() if flags else size * width
            if start > end:
                raise damaged("it ends within a group")
        return np.array(starts, np.int64), np.array(widths, np.int64), np.array(flagged, np.bool_), start


def _smaller(some: NDArray[np.int32], others: NDArray[np.int32]) -> bool:
    return bool(some.sum(dtype=np.int64) < others.sum(dtype=np.int64))
