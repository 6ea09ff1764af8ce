"""Speed of the DRAM levels: megabytes of traffic a second of processor time, simulation included.

Then the share of whole network runs that is spent in DRAM: own time of its modules under cProfile, and
processor time beside the same run at the level `bandwidth`.
"""

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


def share(network: str, topology: str = "dpred_stripes_ddr4") -> str:
    from cProfile import Profile
    from pstats import Stats

    import dpred_sim as dp

    workload, system = dp.load_workload(network), dp.load_topology(topology)
    flat = dp.load_topology(topology, set=["nodes.dram.level=bandwidth"])
    dp.simulate(workload, system)  # what is computed from the values alone is kept
    times = []
    for one in (system, flat):
        runs = []
        for _ in range(3):
            start = process_time()
            dp.simulate(workload, one)
            runs.append(process_time() - start)
        times.append(min(runs))
    profile = Profile()
    profile.runcall(dp.simulate, workload, system)
    own = [(where[0], row[2]) for where, row in Stats(profile).stats.items()]  # type: ignore[attr-defined]
    total = sum(seconds for _, seconds in own)
    inside = sum(seconds for file, seconds in own if "components/dram/" in file)
    return (
        f"{network:10} {times[0]:8.3f} s, {times[1]:.3f} s at the level bandwidth; own time of DRAM "
        f"{100 * inside / total:.0f} %"
    )


def main() -> None:
    print(f"{'level':10} {'pattern':12} {'request':>8} {'MB/s':>8}")
    for level, count in (("bandwidth", COUNT), ("banked", COUNT)):
        for pattern in ("sequential", "random", "streams"):
            for size in (2048, 4096):
                print(f"{level:10} {pattern:12} {size:8} {run(level, pattern, size, count):8.0f}")
    print()
    for network in ("alexnet", "resnet50", "vgg19"):
        print(share(network))


if __name__ == "__main__":
    main()
