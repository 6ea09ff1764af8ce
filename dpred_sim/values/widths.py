"""Widths: how many bits a value, and a group of values, is charged.

Unsigned: max(1, bit_length(v)). Signed: max(1, bit_length(v if v >= 0 else ~v)) + 1, two's complement;
0 and -1 are charged 2 bits. The width of a group is the largest of its values'.

Both depend on the top set bit alone: of v, or of v ^ 2v when signed (whose top bit is the lowest bit
that repeats the sign). So a group is OR-ed together 64 bits at a time and one bit length is taken of
the result. Everything runs in blocks that stay in the cache; a tensor that can be made piece by piece
(`blocks`) never is in memory as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dpred_sim.errors import InputError
from dpred_sim.values.layout import Layout, channel_runs, check_group_size, layout
from dpred_sim.values.tensor import Tensor, TensorSource

__all__ = [
    "Blockwise",
    "GroupStats",
    "Layout",
    "channel_runs",
    "group_stats",
    "group_widths",
    "layout",
    "pieces",
    "value_widths",
]

BLOCK_BYTES = 1 << 19
"""Looked at in one go: small enough for the cache, large enough to hide the calls."""
BLOCKWISE_FROM = 1 << 20
"""A tensor with more values than this is made piece by piece if it can be."""


@runtime_checkable
class Blockwise(Protocol):
    """A tensor source that can also be made piece by piece."""

    def blocks(self) -> Iterator[NDArray[Any]]:
        """The values in C order as flat pieces; a piece is valid until the next one is asked for."""


@dataclass(frozen=True, slots=True)
class GroupStats:
    """What codecs and designs need of each group, read-only, shape leading axes + (groups a run,).

    `widths` is uint8; `nonzeros` uint8 while a group has at most 255 values, else wider.
    """

    widths: NDArray[np.uint8]
    nonzeros: NDArray[Any]


def group_widths(x: TensorSource, group_size: int = 16) -> NDArray[np.uint8]:
    """Width of each group along the last axis, shape x.shape[:-1] + (ceil(C / group_size),).

    The last group of a run may be short. Remembered on the tensor. Raises InputError for a group size
    below 1.
    """
    check_group_size(group_size)
    # Where values must be made first, looking at them once more costs least now.
    wanted = ("widths",) if isinstance(x, Tensor) else ("widths", "nonzeros")
    widths: NDArray[np.uint8] = _measured(x, group_size, channel_runs(x.shape), wanted)["widths"]
    return widths


def group_stats(x: TensorSource, group_size: int = 16, layout: Layout | None = None) -> GroupStats:
    """Widths and numbers of non-zero values of all groups, remembered on the tensor.

    `layout` says which values make a group (default: along the last axis, as `group_widths`). Raises
    InputError for a group size below 1.
    """
    check_group_size(group_size)
    layout = channel_runs(x.shape) if layout is None else layout
    return GroupStats(**_measured(x, group_size, layout, ("widths", "nonzeros")))


def value_widths(values: NDArray[Any], signed: bool) -> NDArray[np.uint8]:
    """Width of each value, of the shape of `values`.

    `values` has an integer dtype of at most 16 bits. Raises InputError for another dtype.
    """
    values = np.asarray(values)
    if values.dtype.kind not in "iu" or values.itemsize > 2:
        raise InputError("dtype of values", found=str(values.dtype), allowed="integers of 8 or 16 bits")
    flat = np.ascontiguousarray(values).reshape(-1)
    words = flat.view(f"u{flat.itemsize}")
    out = np.empty(flat.shape, np.uint8)
    folded = signed and flat.dtype.kind == "i"
    step = BLOCK_BYTES // flat.itemsize
    for start in range(0, len(flat), step):
        part = words[start : start + step]
        if folded:
            part = part ^ (part + part)
        _bit_lengths(part | part.dtype.type(2 if folded else 1), out[start : start + step])
    if signed and not folded:
        out += 1
    return out.reshape(values.shape)


def _bit_lengths(positive: NDArray[Any], out: NDArray[np.uint8]) -> None:
    """Bit lengths of positive integers below 2^24, by the exponent of their (exact) float32."""
    exponents = positive.astype(np.float32).view(np.uint32)
    np.right_shift(exponents, np.uint32(23), out=exponents)
    np.copyto(out, exponents, casting="unsafe")
    np.subtract(out, np.uint8(126), out=out)


def _measured(
    x: TensorSource, group_size: int, layout: Layout, wanted: tuple[str, ...]
) -> dict[str, NDArray[Any]]:
    """The wanted arrays, from the tensor's memo or by one pass over its values."""
    size = min(group_size, layout.length)
    keys = {name: (name, size, layout.grouping) for name in wanted}
    missing = [name for name in wanted if keys[name] not in x.memo]
    if missing:
        shape = (*layout.leading, layout.groups(size))
        for name, array in _measure(x, size, layout, missing).items():
            array = array.reshape(shape)
            array.flags.writeable = False
            x.memo[keys[name]] = array
    return {name: x.memo[keys[name]] for name in wanted}


def _measure(x: TensorSource, size: int, layout: Layout, names: list[str]) -> dict[str, NDArray[Any]]:
    total = layout.runs * layout.groups(size)
    dtypes = {"widths": np.uint8, "nonzeros": np.min_scalar_type(size)}
    found = {name: np.empty(total, dtypes[name]) for name in names}
    # A unit is one run, or one group where groups need not know where runs end.
    whole = layout.length % size == 0 or layout.runs == 1
    unit = size if whole else layout.length
    _fill(x, size, unit, pieces(x, layout, unit), found)
    return found


def pieces(x: TensorSource, layout: Layout, unit: int = 1) -> Iterator[NDArray[Any]]:
    """The values in container order as flat pieces of whole `unit`s of values (but for the end).

    A big tensor that can be made piece by piece is; a piece is valid until the next one is asked for.
    """
    if isinstance(x, Blockwise) and prod(x.shape) > BLOCKWISE_FROM and layout.grouping != "filters":
        yield from _rejoined(x.blocks(), unit)
    else:
        yield np.ascontiguousarray(layout.arrange(x.load().values)).reshape(-1)


def _fill(
    x: TensorSource, size: int, unit: int, parts: Iterator[NDArray[Any]], found: dict[str, NDArray[Any]]
) -> None:
    """Fold pieces of whole units (the last unit may be short) into the arrays of `found`."""
    fold = _Fold(size, x.bits // 8, x.signed)
    first = 0
    for piece in parts:
        cut = len(piece) - len(piece) % unit
        for part, length in ((piece[:cut], unit), (piece[cut:], len(piece) - cut)):
            for block in fold.padded(part, length) if length and len(part) else ():
                last = first + len(block)
                if "widths" in found:
                    fold.widths(block, found["widths"][first:last])
                if "nonzeros" in found:
                    fold.nonzeros(block, found["nonzeros"][first:last])
                first = last


def _rejoined(blocks: Iterator[NDArray[Any]], unit: int) -> Iterator[NDArray[Any]]:
    """The same values in pieces of whole units; only the last may hold a broken one."""
    held: list[NDArray[Any]] = []
    count = 0
    for piece in blocks:
        count += len(piece)
        if count < unit:
            held.append(piece.copy())
            continue
        joined = np.concatenate([*held, piece]) if held else piece
        cut = count - count % unit
        yield joined[:cut]
        held, count = [joined[cut:].copy()] if cut < count else [], count - cut
    if count:
        yield np.concatenate(held)


class _Fold:
    """Folds groups of `size` values of `itemsize` bytes; keeps its scratch arrays from block to block."""

    def __init__(self, size: int, itemsize: int, signed: bool) -> None:
        self.size = size
        self.itemsize = itemsize
        self.signed = signed
        self.slots = -(-size // 8) * 8  # a group is padded to whole 64-bit words, of flags too
        self.words = self.slots * itemsize // 8
        self._room: dict[str, NDArray[Any]] = {}

    def padded(self, flat: NDArray[Any], length: int) -> Iterator[NDArray[np.uint64]]:
        """The groups of runs of `length` values as words, (groups, words), a cacheful at a time.

        Zeros fill short groups up: they never raise a width and count as zeros.
        """
        size, slots = self.size, self.slots
        if length == size == slots:
            step = max(1, BLOCK_BYTES // (8 * self.words)) * self.words
            words = flat.view(np.uint64)
            for start in range(0, len(words), step):
                yield words[start : start + step].reshape(-1, self.words)
            return
        groups = -(-length // size)
        whole = length // size
        runs = flat.reshape(-1, length)
        step = max(1, BLOCK_BYTES // (groups * slots * self.itemsize))
        room = np.zeros((min(step, len(runs)), groups, slots), flat.dtype)
        for start in range(0, len(runs), step):
            part = runs[start : start + step]
            room[: len(part), :whole, :size] = part[:, : whole * size].reshape(len(part), whole, size)
            if whole < groups:
                room[: len(part), whole, : length - whole * size] = part[:, whole * size :]
            yield room[: len(part)].reshape(-1).view(np.uint64).reshape(-1, self.words)

    def widths(self, block: NDArray[np.uint64], out: NDArray[np.uint8]) -> None:
        """Width of each row of words."""
        count = len(block)
        if self.signed:
            flat = block.reshape(-1)
            # Doubling carries into bit 0 of the next value, which no width depends on.
            spread = self._scratch("spread", flat.size, np.uint64)
            np.add(flat, flat, out=spread)
            np.bitwise_xor(spread, flat, out=spread)
            block = spread.reshape(count, self.words)
        lanes = self._joined(block)
        for itemsize in (4, 2, 1):  # fold each word's upper half into its lower one, down to a value
            if itemsize >= self.itemsize:
                upper = self._scratch(f"upper{itemsize}", count, lanes.dtype)
                np.right_shift(lanes, lanes.dtype.type(8 * itemsize), out=upper)
                np.bitwise_or(lanes, upper, out=lanes)
                narrow = self._scratch(f"narrow{itemsize}", count, f"u{itemsize}")
                np.copyto(narrow, lanes, casting="unsafe")
                lanes = narrow
        np.bitwise_or(lanes, lanes.dtype.type(2 if self.signed else 1), out=lanes)
        _bit_lengths(lanes, out)

    def _joined(self, block: NDArray[np.uint64]) -> NDArray[Any]:
        """All words of a row OR-ed together."""
        word = self._scratch("word", len(block), np.uint64)
        if self.words == 1:
            np.copyto(word, block[:, 0])
        elif self.words > 16:  # long enough to pay for starting a reduction in each row
            np.bitwise_or.reduce(block, axis=1, out=word)
        else:
            np.bitwise_or(block[:, 0], block[:, 1], out=word)
            for column in range(2, self.words):
                np.bitwise_or(word, block[:, column], out=word)
        return word

    def nonzeros(self, block: NDArray[np.uint64], out: NDArray[Any]) -> None:
        """Number of non-zero values of each row of words."""
        count = len(block)
        flags = self._scratch("flags", count * self.slots, np.bool_)
        np.not_equal(block.reshape(-1).view(f"u{self.itemsize}"), 0, out=flags)
        if self.size > 255:
            np.add.reduce(flags.reshape(count, self.slots), axis=1, dtype=out.dtype, out=out)
            return
        # Eight flags a word, added bytewise; the product puts the sum of the bytes, below 256, on top.
        words = flags.view(np.uint64).reshape(count, -1)
        total = self._scratch("total", count, np.uint64)
        if words.shape[1] == 1:
            np.copyto(total, words[:, 0])
        else:
            np.add(words[:, 0], words[:, 1], out=total)
            for column in range(2, words.shape[1]):
                np.add(total, words[:, column], out=total)
        np.multiply(total, np.uint64(0x0101010101010101), out=total)
        np.right_shift(total, np.uint64(56), out=total)
        np.copyto(out, total, casting="unsafe")

    def _scratch(self, name: str, count: int, dtype: Any) -> NDArray[Any]:
        room = self._room.get(name)
        if room is None or len(room) < count:
            room = self._room[name] = np.empty(count, dtype)
        return room[:count]
