"""Arithmetic-coded value ranges, after APack (Delmas Lascorz, Mahmoud, Moshovos, arXiv 2201.08830).

What the paper says: the values that a tensor can hold are cut into 16 ranges; a value becomes the
arithmetic-coded number of its range and an offset within it, stored as it is. A table a tensor holds the
first value, the offset length and the probability of each range; a heuristic search finds it, for
weights on the weights themselves, for activations on samples of a profile. Several coders work in
parallel, each on a stream of its own.

Assumptions, where the paper was not at hand or leaves room: probabilities are counts of 1024; values are
taken as their two's complement bits; a stream has 1024 values: 16 bits with its length, the
coded ranges, then the offsets. The coder keeps 16 bits of range and propagates carries
(Martin's range coder), where the paper's counts underflow bits: both end within a few bits of the same
length. The table comes from an optimal search over about a hundred places where ranges may begin, so it
is at least as good as a heuristic over the same places.

Not valid for: time and energy of the coder (not modelled), and random access finer than a stream.
`group_bits` tells what each group adds to its stream, but no hardware could begin to decode there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.codecs.apack_table import COUNT_BITS, RANGES, Table, offset_length_bits, searched
from dpred_sim.codecs.base import Codec, Encoded, Role, register
from dpred_sim.codecs.bits import BitReader, BitWriter, damaged, restored, unsigned
from dpred_sim.errors import InputError
from dpred_sim.values.layout import check_group_size
from dpred_sim.values.tensor import Tensor, TensorSource
from dpred_sim.values.widths import layout, pieces

STREAM = 1024
"""Values that one coder codes before it starts anew."""
LENGTH_BITS = 16
"""Header of a stream: bits behind it, at most STREAM * (COUNT_BITS + 16) + END_BITS."""
END_BITS = 2
"""What makes the end of the coded part certain, whatever bits follow."""
RANGE_BITS = 16
"""Bits of the coder's range; it stays at or above half of what they hold."""
STREAMS = 1 << 11
"""Streams that are coded side by side in one go."""

_SHIFTS = np.array([RANGE_BITS - i.bit_length() for i in range(1 << RANGE_BITS)], np.uint8)
"""Bits that go out so that a range is large again."""


@register("apack")
@dataclass(frozen=True)
class Apack(Codec):
    """Ranges of values, arithmetic coded, with offsets; the table stands at the head.

    `table` is the table to use; None searches it on the tensor itself, which for activations is
    hindsight: give a table of other inputs (`fitted`) to count what hardware could reach. `group_size`
    only says how finely `group_bits` tells sizes.
    """

    rank = 50
    group_size: int = 16
    table: Table | None = None

    def __post_init__(self) -> None:
        check_group_size(self.group_size)
        if self.table is not None and not isinstance(self.table, Table):
            raise InputError(
                "not a table of value ranges",
                field="table",
                found=str(self.table),
                allowed="None, or a Table made by `fitted`",
            )

    def fitted(self, counts: NDArray[np.int64], bits: int) -> Apack:
        """This codec with the table found for a histogram of `bits`-bit patterns, (2**bits,).

        The table can code values that the histogram does not have.
        """
        return Apack(self.group_size, searched(counts, bits, everything=True))

    def learned(self, others: Sequence[TensorSource]) -> Codec:
        """This codec with the table of the same tensor of other inputs."""
        if self.table is not None or not others:
            return self
        return self.fitted(np.sum([histogram(other) for other in others], axis=0), others[0].bits)

    def needs_hindsight(self, role: Role) -> bool:
        """True for activations without a table: it would be searched on them."""
        return self.table is None and role == "activations"

    def header_bits(self, x: TensorSource) -> int:
        """Bits of the table."""
        return RANGES * (x.bits + offset_length_bits(x.bits) + COUNT_BITS)

    def size_bits(self, x: TensorSource) -> int:
        """Length of the container: what `encode` packs, from the coder's range alone."""
        key = ("apack", "size", self.table)
        if key not in x.memo:
            table = self._table(x)
            total = self.header_bits(x) + int((histogram(x) * table.offset_bits[table.index]).sum())
            for streams in _streams(x, table):
                shifts, _ = streams.coded()
                total += int(shifts.sum(dtype=np.int64)) + shifts.shape[1] * (LENGTH_BITS + END_BITS)
            x.memo[key] = total
        bits: int = x.memo[key]
        return bits

    def group_bits(self, x: TensorSource) -> NDArray[np.int32]:
        """Bits that each group adds: of its ranges as they are coded, its offsets, and of streams begun."""
        order = layout(x.shape, self.group_size)
        groups = order.groups(self.group_size)
        key = ("apack", self.group_size, order.grouping, self.table)
        if key not in x.memo:
            table = self._table(x)
            bits = np.empty(prod(x.shape), np.uint8)
            for streams in _streams(x, table):
                part = bits[streams.first : streams.first + len(streams.values)]
                part[:] = streams.coded()[0].T.reshape(-1)[: len(part)]
                part += table.offset_bits[table.index][streams.values]
            bits[::STREAM] += np.uint8(LENGTH_BITS + END_BITS)
            starts = (np.arange(order.runs) * order.length)[:, None] + np.arange(groups) * self.group_size
            x.memo[key] = np.add.reduceat(bits, starts.reshape(-1), dtype=np.int32)
        found: NDArray[np.int32] = x.memo[key]
        return found.reshape(*order.leading, groups).copy()

    def encode(self, x: Tensor) -> Encoded:
        """The table, then stream by stream."""
        x = x.load()
        table = self._table(x)
        writer = BitWriter()
        table.write(writer)
        for streams in _streams(x, table):
            symbols = table.index[streams.values]
            offsets, sizes = streams.values - table.first[symbols], table.offset_bits[symbols]
            for number, (words, code) in enumerate(streams.codes()):
                part = slice(number * STREAM, (number + 1) * STREAM)
                writer.add(code + int(sizes[part].sum(dtype=np.int64)), LENGTH_BITS)
                full, rest = divmod(code, 32)
                writer.add(words[:full], 32)
                writer.add(words[full] >> np.uint64(32 - rest), rest)
                writer.add(offsets[part], sizes[part])
        return writer.encoded(x)

    def decode(self, encoded: Encoded) -> Tensor:
        """Raises InputError for a broken table, a code or an offset out of its range, or another length."""
        reader = BitReader(encoded)
        table = Table.read(reader, encoded.bits)
        count = prod(encoded.shape)
        starts, place = [], RANGES * (encoded.bits + offset_length_bits(encoded.bits) + COUNT_BITS)
        for _ in range(0, count, STREAM):
            starts.append(place + LENGTH_BITS)
            place += LENGTH_BITS + reader.peek(place, LENGTH_BITS)
        if place != encoded.size_bits:
            raise damaged(f"{encoded.size_bits} bits; {place} expected")
        ends = np.array([*(start - LENGTH_BITS for start in starts[1:]), place])
        flat = np.empty(count, f"u{encoded.bits // 8}")
        for first in range(0, len(starts), STREAMS):
            some = slice(first, first + STREAMS)
            part = flat[first * STREAM : (first + STREAMS) * STREAM]
            part[:] = _decoded(reader, table, np.array(starts[some]), ends[some], len(part))
        kind = f"{'i' if encoded.signed else 'u'}{encoded.bits // 8}"
        return restored(flat.view(kind), layout(encoded.shape, self.group_size), encoded)

    def _table(self, x: TensorSource) -> Table:
        if self.table is not None:
            if self.table.bits != x.bits:
                raise InputError(
                    "the table is of another width", field="table", found=self.table.bits, allowed=x.bits
                )
            return self.table
        key = ("apack", "table")
        if key not in x.memo:
            x.memo[key] = searched(histogram(x), x.bits)
        table: Table = x.memo[key]
        return table


@dataclass(frozen=True, slots=True)
class _Streams:
    """Neighbouring streams of a tensor: `values` are its bit patterns from value `first` on."""

    first: int
    values: NDArray[Any]
    table: Table

    def coded(self, keep: bool = False) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
        """What the coders do, step by step side by side: (bits that go out, range before each step).

        Both (steps, streams); ranges have one step more, and only that unless `keep`.
        """
        counts = self._lockstep(self.table.count, 1 << COUNT_BITS)
        shifts = np.empty(counts.shape, np.uint8)
        kept = np.empty((len(counts) + 1 if keep else 1, counts.shape[1]), np.uint32)
        span = np.full(counts.shape[1], (1 << RANGE_BITS) - 1, np.uint32)
        down = np.uint32(COUNT_BITS)
        for step, count in enumerate(counts):
            if keep:
                kept[step] = span
            np.multiply(span, count, out=span)
            np.right_shift(span, down, out=span)
            np.take(_SHIFTS, span, out=shifts[step], mode="clip")
            np.left_shift(span, shifts[step], out=span)
        kept[-1] = span
        return shifts, kept

    def codes(self) -> Iterator[tuple[NDArray[np.uint64], int]]:
        """The code of each stream: words of 32 bits and its length in bits.

        A code is a number within the interval that the stream's ranges leave. It is the sum of what each
        step adds to the interval's lower end, at the place that the bits gone out until then say; the
        last two bits round it up so far that whatever follows stays within.
        """
        shifts, spans = self.coded(keep=True)
        added = (spans[:-1] * self._lockstep(self.table.below, 0)) >> np.uint32(COUNT_BITS)
        places = np.zeros(spans.shape, np.int64)
        np.cumsum(shifts, axis=0, out=places[1:])
        lengths = places[-1] + END_BITS
        up = np.full((1, added.shape[1]), (1 << (RANGE_BITS - END_BITS)) - 1)
        added = np.concatenate([added, up]).astype(np.uint64) << (64 - RANGE_BITS - places % 32).astype(
            np.uint64
        )
        columns = int(places.max()) // 32 + 2
        index = np.arange(added.shape[1]) * columns + places // 32
        room = columns * added.shape[1]
        # Sums of up to STREAM + 1 words of 32 bits are exact in a float64.
        upper = np.bincount(index.reshape(-1), (added >> np.uint64(32)).reshape(-1), room)
        lower = np.bincount(index.reshape(-1) + 1, (added & np.uint64(2**32 - 1)).reshape(-1), room)
        words = (upper + lower[:room]).astype(np.uint64).reshape(-1, columns)
        for column in range(columns - 1, 0, -1):
            words[:, column - 1] += words[:, column] >> np.uint64(32)
        words &= np.uint64(2**32 - 1)
        yield from zip(words, lengths.tolist(), strict=True)

    def _lockstep(self, of_range: NDArray[np.uint32], beyond: int) -> NDArray[np.uint32]:
        """What `of_range` says of each value's range, (steps, streams); `beyond` behind the last value."""
        found = of_range[self.table.index][self.values]
        steps = min(STREAM, len(found))
        missing = -len(found) % steps
        if missing:
            found = np.concatenate([found, np.full(missing, beyond, np.uint32)])
        return np.ascontiguousarray(found.reshape(-1, steps).T)


def _streams(x: TensorSource, table: Table) -> Iterator[_Streams]:
    """All streams of a tensor in container order, a bounded number in one go."""
    first = 0
    for piece in pieces(x, layout(x.shape), STREAM):
        for start in range(0, len(piece), STREAM * STREAMS):
            yield _Streams(first + start, unsigned(piece[start : start + STREAM * STREAMS]), table)
        first += len(piece)


def histogram(x: TensorSource) -> NDArray[np.int64]:
    """Histogram of a tensor's bit patterns, (2**bits,), remembered on the tensor."""
    key = ("apack", "histogram")
    if key not in x.memo:
        counts = np.zeros(1 << x.bits, np.int64)
        for piece in pieces(x, layout(x.shape)):
            for start in range(0, len(piece), STREAM * STREAMS):
                part = unsigned(piece[start : start + STREAM * STREAMS])
                counts += np.bincount(part, minlength=1 << x.bits)
        x.memo[key] = counts
    found: NDArray[np.int64] = x.memo[key]
    return found


def _decoded(
    reader: BitReader, table: Table, starts: NDArray[np.int64], ends: NDArray[np.int64], count: int
) -> NDArray[np.int64]:
    """The `count` patterns of neighbouring streams, all of STREAM values but for the last."""
    steps = min(STREAM, count)
    symbols = np.zeros((steps, len(starts)), np.uint8)
    span = np.full(len(starts), (1 << RANGE_BITS) - 1, np.int64)
    place = starts + RANGE_BITS
    code = reader.peek_all(starts, RANGE_BITS)
    below, counts = table.below.astype(np.int64), table.count.astype(np.int64)
    for step in range(steps):
        live = len(starts) - (step >= count - (len(starts) - 1) * steps)
        now = span[:live]
        floors = (now[:, None] * below) >> COUNT_BITS
        symbol = (floors <= code[:live, None]).sum(axis=1) - 1
        rest = code[:live] - floors[np.arange(live), symbol]
        now = (now * counts[symbol]) >> COUNT_BITS
        if (rest >= now).any():
            raise damaged("a code out of every range")
        shift = _SHIFTS[now].astype(np.int64)
        code[:live] = rest << shift | reader.peek_all(place[:live], shift)
        span[:live] = now << shift
        place[:live] += shift
        symbols[step, :live] = symbol
    flat = symbols.T.reshape(-1)[:count]
    sizes = table.offset_bits[flat].astype(np.int64)
    inside = np.arange(0, count, STREAM)
    before = np.cumsum(sizes) - sizes
    begin = place - RANGE_BITS + END_BITS
    if not np.array_equal(begin + np.add.reduceat(sizes, inside), ends):
        raise damaged("a stream of another length than its values take")
    lengths = np.diff(inside, append=count)
    values = table.first[flat] + reader.read(
        np.repeat(begin - before[inside], lengths) + before, sizes
    ).astype(np.int64)
    if (values >= table.end[flat]).any():
        raise damaged("an offset out of its range")
    return values
