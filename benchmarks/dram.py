"""Speed of the DRAM levels: megabytes of traffic a second of processor time, simulation included."""

from __future__ import annotations

from random import Random
from time import process_time

import simpy

from dpred_sim.components.dram.channel import DramChannel

COUNT = 20_000
OUTSTANDING = 8
GIB = 1 << 30


def requests(pattern: str, size: int) -> list[tuple[int, bool]]:
    random = Random(1)
    if pattern == "sequential":
        return [(number * size, False) for number in range(COUNT)]
    if pattern == "random":
        return [(random.randrange(2 * GIB // size) * size, False) for _ in range(COUNT)]
    return [
        (number // 3 * size + number % 3 * (GIB // 2 + 42240), number % 3 == 2) for number in range(COUNT)
    ]


def run(level: str, pattern: str, size: int, count: int, mapping: str | None = None) -> float:
    env = simpy.Environment(initial_time=0)
    channel = DramChannel(env, "dram", standard="DDR4-3200", level=level, mapping=mapping)
    left = iter(requests(pattern, size)[:count])

    def more(end_ps: int = 0) -> None:
        request = next(left, None)
        if request is not None:
            channel.submit(request[0], size, request[1], more)

    for _ in range(OUTSTANDING):
        more()
    start = process_time()
    env.run()
    return count * size / (process_time() - start) / 1e6


def main() -> None:
    print(f"{'level':10} {'pattern':12} {'request':>8} {'MB/s':>8}")
    for level, count in (("bandwidth", COUNT), ("banked", COUNT)):
        for pattern in ("sequential", "random", "streams"):
            for size in (2048, 4096):
                print(f"{level:10} {pattern:12} {size:8} {run(level, pattern, size, count):8.0f}")


if __name__ == "__main__":
    main()
