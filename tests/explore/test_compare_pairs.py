from __future__ import annotations

import numpy as np
import pytest
from fake_runs import layer_result, run_result

from dpred_sim.designs.base import DESIGNS, design
from dpred_sim.errors import InputError
from dpred_sim.explore.compare import check_pair, compare, compressed_storage
from dpred_sim.explore.peak import design_peak, peak_macs_per_cycle
from dpred_sim.locate import ready_made_names
from dpred_sim.registry import parameter_names
from dpred_sim.simulation.result import RunResult
from dpred_sim.simulation.systems import load_topology
from dpred_sim.topology.graph import DRAM, Topology
from dpred_sim.values.tensor import Tensor
from dpred_sim.workload.layer import Layer
from dpred_sim.workload.network import Network
from dpred_sim.workload.workload import Workload

TILED = [name for name in DESIGNS.names() if {"tiles", "rows"} <= set(parameter_names(DESIGNS.get(name)))]
"""Designs that are made of tiles with rows."""


@pytest.fixture(scope="module")
def workload() -> Workload:
    network = Network()
    activations = Tensor(np.arange(64).reshape(2, 2, 16), 16)
    network.add(Layer.conv2d("conv", activations, Tensor(np.ones((16, 1, 1, 16), dtype=int), 16)))
    return Workload("one", network, 16, "made for a test", synthetic=True)


class Runs:
    """Stands in for the simulator: cycles tell design, storage and memory apart."""

    def __init__(self) -> None:
        self.ran: list[Topology] = []

    def __call__(self, workload: Workload, topology: Topology) -> RunResult:
        self.ran.append(topology)
        channel = topology.of_kind(DRAM)[0].parameters
        cycles = 1_000 if topology.name.startswith("dadiannao") else 400
        if channel.level != "ideal":
            cycles += 800 if channel.stores.codec == "raw" else 200
        return run_result([layer_result(0, "conv", cycles), layer_result(1, "fc", 100, kind="linear")])


def test_eight_runs_in_their_places(workload: Workload) -> None:
    runs = Runs()
    topology, baseline = load_topology("dpred_stripes_ddr4"), load_topology("dadiannao_ddr4")
    found = compare(workload, topology, baseline, run=runs)
    assert len(runs.ran) == 8
    cycles = {(c.compute, c.storage, c.memory): (c.conv_cycles, c.cycles) for c in found.cells}
    assert cycles == {
        ("baseline", "raw", "real"): (1800, 1900),
        ("baseline", "raw", "ideal"): (1000, 1100),
        ("baseline", "compressed", "real"): (1200, 1300),
        ("baseline", "compressed", "ideal"): (1000, 1100),
        ("design", "raw", "real"): (1200, 1300),
        ("design", "raw", "ideal"): (400, 500),
        ("design", "compressed", "real"): (600, 700),
        ("design", "compressed", "ideal"): (400, 500),
    }
    assert found.speedup() == 1900 / 700 and found.speedup(conv=True) == 3.0
    assert found.speedup(memory="ideal", conv=True) == 2.5
    assert found.storage == "dpred" and found.synthetic and found.warnings == ()
    assert found.peak_macs_per_cycle == {"baseline": 4096.0, "design": 4096.0}


@pytest.mark.parametrize("name", ["dpred_stripes_ddr4", "dpred_stripes_raw_ddr4"])
def test_a_run_that_was_done_is_not_repeated(workload: Workload, name: str) -> None:
    runs = Runs()
    topology, baseline = load_topology(name), load_topology("dadiannao_ddr4")
    done = Runs()(workload, topology)
    found = compare(workload, topology, baseline, done=done, run=runs)
    assert len(runs.ran) == 7 and topology not in runs.ran
    own = "raw" if "raw" in name else "compressed"
    assert found.cell("design", own).cycles == done.total_cycles


def test_a_run_that_was_stopped_is_repeated(workload: Workload) -> None:
    runs = Runs()
    topology = load_topology("dpred_stripes_ddr4")
    done = Runs()(workload, topology)
    done.complete = False
    compare(workload, topology, load_topology("dadiannao_ddr4"), done=done, run=runs)
    assert len(runs.ran) == 8


def test_compressed_is_what_the_design_stores() -> None:
    raw, baseline = load_topology("dpred_stripes_raw_ddr4"), load_topology("dadiannao_ddr4")
    assert compressed_storage(raw, baseline) == ("dpred", {})
    own = load_topology("dpred_stripes_ddr4").with_stores("dpred", mode="zeros")
    assert compressed_storage(own, baseline) == ("dpred", {"mode": "zeros"})
    assert compressed_storage(raw, load_topology("dadiannao_dpred_ddr4"))[0] == "dpred"


def test_different_clocks_are_refused() -> None:
    topology = load_topology("dpred_stripes_ddr4", set=["clocks.core=2 GHz"])
    with pytest.raises(InputError, match="2000 MHz and 1000 MHz"):
        check_pair(topology, load_topology("dadiannao_ddr4"))


def test_different_peaks_are_a_warning(workload: Workload) -> None:
    topology = load_topology("dpred_stripes_ddr4", set=["nodes.tile.columns=8"])
    found = compare(workload, topology, load_topology("dadiannao_ddr4"), run=Runs())
    assert found.peak_ratio == 0.5
    assert "the peaks differ, dpred_stripes_ddr4 2,048 and dadiannao_ddr4 4,096" in found.warnings[0]


@pytest.mark.parametrize("name", ready_made_names("topologies", ".yaml"))
def test_ready_made_topologies_have_the_peak_that_they_state(name: str) -> None:
    bits = 8 if "_8b" in name else 16
    topology = load_topology(name)
    peak = peak_macs_per_cycle(topology, bits)
    stated = f"{peak:.0f} {bits}-bit multiply-accumulates a cycle"
    assert stated in " ".join(topology.description.split())


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("name", TILED)
def test_peak_scales_with_the_hardware(name: str, bits: int) -> None:
    small = design_peak(design(name, tiles=2, rows=4), bits)
    assert design_peak(design(name, tiles=4, rows=4), bits) == pytest.approx(2 * small, rel=0.01)
    assert design_peak(design(name, tiles=2, rows=8), bits) == pytest.approx(2 * small, rel=0.01)
