"""Make docs/topology.svg: a system, with links in the colour of how busy they were in a run.

python docs/make_topology_svg.py [WORKLOAD [TOPOLOGY]]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from dpred_sim.observe.drawing.draw import draw_file
from dpred_sim.observe.drawing.usage import read_usage
from dpred_sim.simulation.engine import simulate
from dpred_sim.simulation.systems import load_topology
from dpred_sim.workload.load import load_workload


def main(workload_name: str = "resnet50", topology_name: str = "dpred_stripes_ddr4") -> None:
    """Run, and write the picture beside this script."""
    topology = load_topology(topology_name)
    result = simulate(load_workload(workload_name), topology)
    target = Path(__file__).with_name("topology.svg")
    with tempfile.TemporaryDirectory() as folder:
        usage = read_usage(result.write(Path(folder) / "run"), topology)
    draw_file(topology, target, usage)
    print(f"{target}: {topology.name}, {usage.title}")


if __name__ == "__main__":
    main(*sys.argv[1:])
