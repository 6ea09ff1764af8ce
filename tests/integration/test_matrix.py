"""Every workload on every topology (by `make matrix`); each of both at least once by default."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from dpred_sim.locate import ready_made_names
from dpred_sim.simulation.engine import Simulation
from dpred_sim.simulation.systems import load_topology
from dpred_sim.workload.layer import Layer
from dpred_sim.workload.load import load_workload
from dpred_sim.workload.network import Network
from dpred_sim.workload.workload import Workload
from tests.networks import spiky
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


def alone(layer: Layer, bits: int) -> Workload:
    network = Network()
    network.add(layer)
    return Workload("alone", network, bits, source="random values", synthetic=True)


@pytest.mark.parametrize("topology", sorted(LIMITED))
def test_a_projection_onto_a_large_vocabulary(topology):
    """Outputs of 4 positions are 4.5 Mbit, the buffer of the edge system holds 3 Mbit."""
    rng = np.random.default_rng(1)
    outputs = spiky(rng, (4, 70_000), 16, True)
    weights = spiky(rng, (70_000, 16), 16, True)
    layer = Layer.linear("softmax", spiky(rng, (4, 16), 16, False), weights, outputs)
    result = Simulation(alone(layer, 16), load_topology(topology)).run()
    assert result.layers[0].traffic["outputs"].raw_write_bytes == outputs.values.size * 2


@pytest.mark.parametrize("topology", [name for name in TOPOLOGIES if name.startswith("scnn")])
def test_a_plane_that_no_grid_holds_at_once(topology):
    """A part of 32 x 33 or 33 x 33 outputs on each of 64 units with room for 1024."""
    bits = bits_of(topology)
    rng = np.random.default_rng(1)
    weights = spiky(rng, (8, 3, 3, 3), bits, True)
    layer = Layer.conv2d("c", spiky(rng, (264, 256, 3), bits, False), weights, None, padding=1)
    simulation = Simulation(alone(layer, bits), load_topology(topology))
    (job,) = simulation.jobs
    assert job.bands > 1
    (found,) = simulation.run().layers
    assert found.compute_cycles == job.schedule.total
    assert found.macs == 264 * 256 * 27 * 8


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
