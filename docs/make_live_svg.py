"""Make docs/live.svg: the live view of a real run when 60 % of its work is done.

python docs/make_live_svg.py [WORKLOAD [TOPOLOGY]]
"""

from __future__ import annotations

import sys
from pathlib import Path

from dpred_sim.observe.frame import Frames, Heading, Size
from dpred_sim.observe.live import frame_svg
from dpred_sim.simulation.engine import Simulation
from dpred_sim.simulation.systems import load_topology
from dpred_sim.workload.load import load_workload

DONE = 0.6
PACE_S = 8.0
FRAMES = 32
"""Looks at the run before the picture is taken: bandwidth is what moved between the last two."""


def main(workload_name: str = "resnet50_thin", topology_name: str = "dpred_stripes_ddr4") -> None:
    """Drive the run to the picture and write it beside this script."""
    workload, topology = load_workload(workload_name), load_topology(topology_name)
    heading = Heading(workload.name, workload.source, workload.synthetic, topology.name, workload.bits)
    simulation = Simulation(workload, topology)
    size = Size(100, 31)
    frames = Frames(heading)
    looked = 0
    while True:
        snapshot = simulation.snapshot()
        done = snapshot.work_done / snapshot.work_total
        if done >= DONE:
            break
        if done >= looked / FRAMES:
            looked += 1
            frames.frame(snapshot, done * PACE_S, size)
        if not simulation.advance(32):
            sys.exit(f"the run ended before {DONE:.0%} of its work was done")
    target = Path(__file__).with_name("live.svg")
    target.write_text(frame_svg(frames, snapshot, DONE * PACE_S, size), encoding="utf-8")
    print(f"{target}: {workload.name} on {topology.name}, {done:.0%} done, {snapshot.time_ps} ps")


if __name__ == "__main__":
    main(*sys.argv[1:])
