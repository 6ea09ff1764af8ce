"""Zero run-length encoding, as in EIE (4-bit runs; Han et al., ISCA 2016) and Eyeriss (5-bit runs)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dpred_sim.codecs.base import Codec, Encoded, Variants, register
from dpred_sim.codecs.bits import CHUNK, BitReader, BitWriter, damaged, restored, unsigned
from dpred_sim.errors import InputError
from dpred_sim.values.layout import Layout, check_group_size
from dpred_sim.values.tensor import Tensor, TensorSource
from dpred_sim.values.widths import group_stats, layout, pieces

LONGEST_RUN_BITS = 16


@register("zero_rle")
@dataclass(frozen=True)
class ZeroRle(Codec):
    """Each non-zero value is a token: the number of zeros before it in `run_bits` bits, then the value.

    Where more zeros come than a run holds, filler tokens (longest run, value 0) account for
    2**run_bits zeros each. Zeros at the end cost nothing: the shape says how many values there are.
    Runs of zeros cross groups. `group_size` only says how finely `group_bits` tells sizes.
    """

    rank = 20
    variants: ClassVar[Variants] = {"4": {"run_bits": 4}, "5": {"run_bits": 5}}
    group_size: int = 16
    run_bits: int = 4

    def __post_init__(self) -> None:
        check_group_size(self.group_size)
        allowed = range(1, LONGEST_RUN_BITS + 1)
        if isinstance(self.run_bits, bool) or self.run_bits not in allowed:
            raise InputError(
                "bits of a run", field="run_bits", found=self.run_bits, allowed=f"1..{LONGEST_RUN_BITS}"
            )

    def encode(self, x: Tensor) -> Encoded:
        """Tokens in container order."""
        x = x.load()
        writer = BitWriter()
        token_bits = self.run_bits + x.bits
        filler = np.uint64(((1 << self.run_bits) - 1) << x.bits)
        for _, values, zeros in self._nonzeros(x, layout(x.shape, self.group_size)):
            ends = np.cumsum((zeros >> self.run_bits) + 1)
            tokens = np.full(int(ends[-1]), filler)
            runs = (zeros & ((1 << self.run_bits) - 1)).astype(np.uint64)
            tokens[ends - 1] = (runs << np.uint64(x.bits)) | unsigned(values)
            for start in range(0, len(tokens), CHUNK):
                writer.add(tokens[start : start + CHUNK], token_bits)
        return writer.encoded(x)

    def decode(self, encoded: Encoded) -> Tensor:
        """Raises InputError for a broken token or for more values than the shape has."""
        reader = BitReader(encoded)
        token_bits = self.run_bits + encoded.bits
        tokens, rest = divmod(encoded.size_bits, token_bits)
        if rest:
            raise damaged(f"{encoded.size_bits} bits are no whole number of tokens of {token_bits} bits")
        flat = np.zeros(prod(encoded.shape), f"u{encoded.bits // 8}")
        place = -1
        for start in range(0, tokens, CHUNK):
            index = np.arange(start, min(start + CHUNK, tokens), dtype=np.int64)
            fields = reader.read(index * token_bits, token_bits)
            places = place + np.cumsum((fields >> np.uint64(encoded.bits)).astype(np.int64) + 1)
            place = int(places[-1])
            if place >= len(flat):
                raise damaged(f"more than the {len(flat)} values of its shape")
            flat[places] = (fields & np.uint64((1 << encoded.bits) - 1)).astype(flat.dtype)
        values = flat.view(f"{'i' if encoded.signed else 'u'}{encoded.bits // 8}")
        return restored(values, layout(encoded.shape, self.group_size), encoded)

    def group_bits(self, x: TensorSource) -> NDArray[np.int32]:
        """Bits of the tokens whose non-zero value lies in the group, with the fillers before it."""
        order = layout(x.shape, self.group_size)
        tokens = group_stats(x, self.group_size, order).nonzeros.astype(np.int32)
        tokens += self._fillers(x, order)
        tokens *= np.int32(self.run_bits + x.bits)
        return tokens

    def _fillers(self, x: TensorSource, order: Layout) -> NDArray[Any]:
        """Filler tokens of each group, remembered on the tensor."""
        groups = order.groups(self.group_size)
        key = ("zero_rle", self.run_bits, self.group_size, order.grouping)
        found: NDArray[Any] | None = x.memo.get(key)
        if found is None:
            count = np.zeros(order.runs * groups, np.int32)
            for places, _, zeros in self._nonzeros(x, order):
                fillers = zeros >> self.run_bits
                some = np.flatnonzero(fillers)
                runs, within = np.divmod(places[some], order.length)
                np.add.at(count, runs * groups + within // self.group_size, fillers[some].astype(np.int32))
            found = count.astype(np.min_scalar_type(int(count.max()))).reshape(*order.leading, groups)
            x.memo[key] = found
        return found

    def _nonzeros(
        self, x: TensorSource, order: Layout
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[Any], NDArray[np.int64]]]:
        """Non-zero values in container order, a chunk at a time: places, values, zeros before each."""
        first, last_place = 0, -1
        for piece in pieces(x, order):
            for start in range(0, len(piece), CHUNK):
                chunk = piece[start : start + CHUNK]
                within = np.flatnonzero(chunk)
                if within.size:
                    places = within + (first + start)
                    zeros = np.diff(places, prepend=last_place) - 1
                    last_place = int(places[-1])
                    yield places, chunk[within], zeros
            first += len(piece)
