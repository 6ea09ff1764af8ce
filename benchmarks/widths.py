"""How fast widths are found, against `np.bitwise_or.reduce` over the same array in the same run.

Two references: one reduction over the flat array (a single result: what memory and SIMD allow), and
one per group (a result a group, as widths have). Then drawn values with their analysis.

    python benchmarks/widths.py [millions of values]
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np

from dpred_sim.values.synthetic import synthetic_activations, synthetic_weights
from dpred_sim.values.tensor import Tensor
from dpred_sim.values.widths import group_stats, group_widths

CHANNELS = 240
REPEATS = 7


def best(function: Callable[[], Any]) -> float:
    """Shortest of a few times, in seconds."""
    times = []
    for _ in range(REPEATS):
        start = perf_counter()
        function()
        times.append(perf_counter() - start)
    return min(times)


def fresh(function: Callable[..., Any], x: Any, group_size: int) -> Callable[[], Any]:
    """The function without what the tensor remembers."""

    def run() -> Any:
        x.memo.clear()
        return function(x, group_size)

    return run


def compare(bits: int, signed: bool, group_size: int, count: int) -> None:
    kind = f"{'i' if signed else 'u'}{bits // 8}"
    values = np.random.default_rng(0).integers(-99 if signed else 0, 100, (count // CHANNELS, CHANNELS))
    x = Tensor(values.astype(kind), bits, signed)
    flat = best(lambda: np.bitwise_or.reduce(x.values.reshape(-1)))
    grouped = x.values.reshape(-1)[: x.values.size // group_size * group_size].reshape(-1, group_size)
    by_group = best(lambda: np.bitwise_or.reduce(grouped, axis=1))
    widths = best(fresh(group_widths, x, group_size))
    both = best(fresh(group_stats, x, group_size))
    rate = x.values.size / 1e9
    rates = "".join(f"{rate / seconds:10.2f}" for seconds in (widths, both, flat, by_group))
    print(f"{kind:4} {group_size:5}{rates}{flat / widths:10.3f}{by_group / widths:13.2f}")


def draw(make: Callable[..., Any], bits: int, count: int) -> None:
    x = make((count // CHANNELS, CHANNELS), bits, bits - 4, 0, "benchmark")
    pieces = best(lambda: [None for _ in x.blocks()])
    both = best(fresh(group_stats, x, 16))
    millions = count / 1e6
    print(f"{make.__name__:22} {bits:4} {millions / pieces:12.0f} {millions / both:22.0f}")


def main() -> None:
    count = int(float(sys.argv[1]) * 1e6) if len(sys.argv) > 1 else 1 << 24
    print(f"{count} values; G values/s; ratios are our throughput over the reduction's")
    print("dtype group   widths     stats      flat  by group    / flat   / by group")
    for bits in (8, 16):
        for signed in (False, True):
            for group_size in (16, 15, 256):
                compare(bits, signed, group_size, count)
    print("\ndrawn values               bits   M values/s   with group statistics")
    for make in (synthetic_weights, synthetic_activations):
        for bits in (8, 16):
            draw(make, bits, count)


if __name__ == "__main__":
    main()
