"""Access patterns for measuring a channel, as endless or finite streams of requests.

Addresses are bytes in the channel, aligned to the request size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import NamedTuple

from dpred_sim.errors import InputError, nearest

MIB = 1 << 20
GIB = 1 << 30
SPAN = 2 * GIB
"""Range of random addresses."""
STRIDE_SPAN = 256 * MIB
SKEW = 8192 + 256
"""Unit by which the skewed streams are moved apart."""
SEED = 88172645463325252


class Access(NamedTuple):
    """One request of a pattern."""

    address: int
    size_bytes: int
    write: bool


def seq_read(size: int) -> Iterator[Access]:
    """Consecutive reads from address 0."""
    return (Access(number * size, size, False) for number in count())


def seq_write(size: int) -> Iterator[Access]:
    """Consecutive writes from address 0."""
    return (Access(number * size, size, True) for number in count())


def rw21(size: int, skewed: bool = True) -> Iterator[Access]:
    """Two read streams and one write stream, 512 MiB apart, that take turns.

    `skewed` moves them by five and ten times SKEW, so that they do not share banks all the time.
    """
    bases = [stream * (GIB // 2) + (5 * stream * SKEW if skewed else 0) for stream in range(3)]
    for number in count():
        for stream, base in enumerate(bases):
            yield Access(base + number * size, size, stream == 2)


def random(size: int, write_third: bool = False, span: int = SPAN, seed: int = SEED) -> Iterator[Access]:
    """Uniform reads, a third of them writes if asked; xorshift64, the same on every machine."""
    state = seed
    slots = span // size
    mask = (1 << 64) - 1
    while True:
        state ^= (state << 13) & mask
        state ^= state >> 7
        state ^= (state << 17) & mask
        yield Access(state % slots * size, size, write_third and (state >> 32) % 3 == 0)


def strided(size: int, stride: int, span: int = STRIDE_SPAN) -> Iterator[Access]:
    """Reads of `size` every `stride` bytes over a span, then the same moved by `size`, again and again."""
    for offset in count(0, size):
        for address in range(offset % stride, span, stride):
            yield Access(address, size, False)


PATTERNS: dict[str, Callable[[int, int], Iterator[Access]]] = {
    "seq_read": lambda size, stride: seq_read(size),
    "seq_write": lambda size, stride: seq_write(size),
    "rw21": lambda size, stride: rw21(size),
    "rw21_aligned": lambda size, stride: rw21(size, skewed=False),
    "random": lambda size, stride: random(size),
    "random_rw": lambda size, stride: random(size, write_third=True),
    "strided": strided,
}
"""Patterns by name; each takes the request size and the stride in bytes."""


def make_pattern(name: str, size: int, stride: int) -> Iterator[Access]:
    """The pattern of that name; raises InputError with the nearest known name."""
    if size < 1 or stride < 1:
        raise InputError("sizes are positive", field="request" if size < 1 else "stride")
    try:
        return PATTERNS[name](size, stride)
    except KeyError:
        allowed = [*PATTERNS, "file:TRACE"]
        raise InputError(
            f"unknown pattern{nearest(name, PATTERNS)}", field="pattern", found=name, allowed=allowed
        ) from None
