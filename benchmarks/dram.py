"""Speed of the DRAM levels: megabytes of traffic a second of processor time, simulation included.

Then the share of network runs that is spent in DRAM: own time of its modules and of the built-in functions
they call, under cProfile, in a run from the workload on and in one whose values were looked at before; and
processor time of the second beside the same at the level `bandwidth`.
"""

from __future__ import annotations

from collections.abc import Callable
from cProfile import Profile
from math import inf
from pstats import Stats
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


def share(network: str, topology: str = "dpred_stripes_ddr4") -> str:
    import dpred_sim as dp

    def whole() -> None:
        dp.simulate(dp.load_workload(network), dp.load_topology(topology))

    first = own_share(whole)
    workload, system = dp.load_workload(network), dp.load_topology(topology)
    flat = dp.load_topology(topology, set=["nodes.dram.level=bandwidth"])
    dp.simulate(workload, system)  # what is computed from the values alone is kept
    again = own_share(lambda: dp.simulate(workload, system))
    times = [inf, inf]
    for _ in range(5):
        for index, one in enumerate((system, flat)):
            start = process_time()
            dp.simulate(workload, one)
            times[index] = min(times[index], process_time() - start)
    return (
        f"{network:10} {100 * first:9.0f} % {100 * again:9.0f} % {times[0]:9.3f} s {times[1]:9.3f} s "
        f"{100 * (1 - times[1] / times[0]):9.0f} %"
    )


def own_share(action: Callable[[], object]) -> float:
    """Share of an action that is own time of DRAM."""
    profile = Profile()
    profile.runcall(action)
    inside = total = 0.0
    for (file, _, _), (_, _, seconds, _, callers) in Stats(profile).stats.items():  # type: ignore[attr-defined]
        total += seconds
        if "components/dram/" in file:
            inside += seconds
        elif file == "~":
            inside += sum(row[2] for caller, row in callers.items() if "components/dram/" in caller[0])
    return inside / total


def main() -> None:
    print(f"{'level':10} {'pattern':12} {'request':>8} {'MB/s':>8}")
    for level, count in (("bandwidth", COUNT), ("banked", COUNT)):
        for pattern in ("sequential", "random", "streams"):
            for size in (2048, 4096):
                print(f"{level:10} {pattern:12} {size:8} {run(level, pattern, size, count):8.0f}")
    print(f"\n{'':10} {'first run':>11} {'again':>11} {'banked':>11} {'bandwidth':>11} {'more':>11}")
    for network in ("alexnet", "resnet50", "vgg19"):
        print(share(network))


if __name__ == "__main__":
    main()
