"""Every workload on every topology (by `make matrix`); each of both at least once by default."""

from __future__ import annotations

from functools import lru_cache

import pytest

from dpred_sim.locate import ready_made_names
from dpred_sim.simulation.engine import Simulation
from dpred_sim.simulation.systems import load_topology
from dpred_sim.workload.load import load_workload
from tests.trained import need

WORKLOADS = ready_made_names("workloads", ".py")
TOPOLOGIES = ready_made_names("topologies", ".yaml")
LIMITED = {"dpred_stripes_edge"}
"""Systems whose files say that something other than compute and DRAM limits them."""


def bits_of(topology: str) -> int:
    """8-bit systems take 8-bit models."""
    return 8 if "_8b_" in topology else 16


@lru_cache(maxsize=2)
def workload_of(name: str, bits: int):
    return load_workload(name, bits=bits)


def run(workload: str, topology: str) -> None:
    # `run` raises when any guarantee does not hold.
    result = Simulation(workload_of(workload, bits_of(topology)), load_topology(topology)).run()
    assert result.complete and result.total_cycles > 0
    system = result.traffic["system_traffic"]
    assert system["stored_bytes"] > 0
    assert sum(layer.macs for layer in result.layers) > 0


@pytest.mark.matrix
@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("workload", WORKLOADS)
def test_every_workload_on_every_topology(workload, topology):
    need(workload, download=True)
    run(workload, topology)


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_each_topology(topology):
    run("alexnet", topology)


@pytest.mark.parametrize("workload", WORKLOADS)
def test_each_workload(workload):
    need(workload)
    run(workload, "dpred_stripes_ddr4")


@pytest.mark.parametrize("topology", sorted(set(TOPOLOGIES) - LIMITED))
@pytest.mark.parametrize("workload", ["alexnet", "resnet50"])
def test_with_ideal_memory_each_balanced_system_takes_its_compute_cycles(workload, topology):
    system = load_topology(topology).with_ideal_memory()
    result = Simulation(workload_of(workload, bits_of(topology)), system).run()
    ideal = sum(layer.ideal_cycles for layer in result.layers)
    assert ideal <= result.total_cycles <= 1.05 * ideal


def test_small_buffers_cost_traffic_and_time():
    """The edge system holds little: blocks are cut and tensors leave the chip."""
    simulation = Simulation(workload_of("resnet50", 16), load_topology("dpred_stripes_edge"))
    result = simulation.run()
    assert any(layer.traffic["activations"].read_bytes for layer in result.layers[1:])
    assert any(layer.traffic["outputs"].write_bytes for layer in result.layers[:-1])
    ranges = [
        [last - first for b in job.schedule.blocks for first, last in b.tile_filters]
        for job in simulation.jobs
    ]
    rows = simulation.system.design.rows
    cut = [max(sizes) < rows <= job.layer.filters for sizes, job in zip(ranges, simulation.jobs, strict=True)]
    assert any(cut)
