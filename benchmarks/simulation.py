"""How fast whole simulations are, beside a yardstick taken in the same run.

python benchmarks/simulation.py

Absolute times depend on the host and its load: quote the ratios.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time

import simpy

from dpred_sim.simulation.engine import Simulation
from dpred_sim.simulation.systems import load_topology
from dpred_sim.workload.load import load_workload

NETWORKS = ("alexnet", "resnet50", "vgg19")
TOPOLOGY = "dpred_stripes_ddr4"


def timeouts_per_second(count: int = 200_000, processes: int = 64) -> float:
    """The yardstick: bare SimPy timeouts."""

    def process(env: simpy.Environment):
        for _ in range(count // processes):
            yield env.timeout(1)

    env = simpy.Environment()
    for _ in range(processes):
        env.process(process(env))
    start = time.perf_counter()
    env.run()
    return count / (time.perf_counter() - start)


def kernel() -> None:
    """Events of real runs a second. A useful event moves a request, ends a pass or wakes a component."""
    print(f"{'network':10} {'events':>8} {'k events/s':>11} {'of bare timeouts':>17} {'requests/s':>11}")
    for name in NETWORKS:
        simulation = Simulation(load_workload(name), load_topology(TOPOLOGY))
        events = 0
        start = time.perf_counter()
        while simulation.advance(1_000):
            events += 1_000
        seconds = time.perf_counter() - start
        yardstick = timeouts_per_second()
        statistics = [c.statistics(int(simulation.env.now)) for c in simulation.system.channels]
        requests = sum(s.read_requests + s.write_requests for s in statistics)
        print(
            f"{name:10} {events:8,} {events / seconds / 1e3:11.0f} {events / seconds / yardstick:17.2f} "
            f"{requests / seconds:11,.0f}"
        )


def second_topology() -> None:
    """The same workload object on another system: what was computed from its values is kept."""
    print(f"\n{'network':10} {'first s':>8} {'second s':>9} {'ratio':>6}   (preparation; whole)")
    for name in NETWORKS:
        workload = load_workload(name)
        first, second = load_topology(TOPOLOGY), load_topology("dpred_stripes_2ch")
        times = []
        for topology in (first, second):
            start = time.perf_counter()
            simulation = Simulation(workload, topology)
            ready = time.perf_counter()
            simulation.run()
            times.append((ready - start, time.perf_counter() - start))
        (a, whole_a), (b, whole_b) = times
        print(f"{name:10} {a:8.3f} {b:9.3f} {b / a:6.2f}   {whole_b / whole_a:.2f} of the whole first run")


def processes() -> None:
    """Whole processes, imports and synthetic values included, beside an empty Python and a numpy import."""
    commands = {
        "python": [sys.executable, "-c", "pass"],
        "import numpy": [sys.executable, "-c", "import numpy"],
        **{
            name: [sys.executable, "-m", "dpred_sim", "run", name, "--topology", TOPOLOGY, "--no-live"]
            for name in NETWORKS
        },
    }
    print(f"\n{'process':14} {'best wall s':>11} {'of import numpy':>16} {'peak MB so far':>15}")
    unit = 0.0
    for name, command in commands.items():
        best = min(_timed(command) for _ in range(3))
        unit = best if name == "import numpy" else unit
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(f"{name:14} {best:11.2f} {best / unit if unit else 0:16.1f} {peak:15.0f}")


def _timed(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


if __name__ == "__main__":
    kernel()
    second_topology()
    processes()
