"""docs/memory.md is what the package gives today, and its parts add up."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from dpred_sim.simulation.engine import simulate
from dpred_sim.simulation.systems import load_topology
from dpred_sim.workload.layer import Layer
from dpred_sim.workload.load import load_workload
from dpred_sim.workload.network import Network
from dpred_sim.workload.workload import Workload
from tests.networks import spiky

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def page() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_memory", DOCS / "make_memory.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_page_is_made_by_the_program(page: ModuleType) -> None:
    text = (DOCS / "memory.md").read_text(encoding="utf-8")
    network, system = page.EXPLAINED
    run = simulate(load_workload(network, bits=16), load_topology(system))
    assert "\n".join(page.explain(run)).rstrip() in text
    for name in page.NETWORKS:
        section = text.split(f"### {name}\n")[1]
        for memory in page.MEMORIES:
            assert f"| `dpred_stripes_{memory}` |" in section
    assert "| " + " | ".join(page.memory_row("resnet50_thin", "hbm2")) + " |" in text


@pytest.mark.parametrize("system", ["dpred_stripes_ddr4", "dadiannao_lpddr4", "dpred_stripes_hbm2"])
def test_the_parts_of_every_channel_add_up_exactly(page: ModuleType, system: str) -> None:
    run = simulate(load_workload("resnet50_thin", bits=16), load_topology(system))
    found = page.channels(run)
    assert len(found) == {"dpred_stripes_ddr4": 1, "dadiannao_lpddr4": 2, "dpred_stripes_hbm2": 16}[system]
    moved = 0
    for channel in found:
        parts, statistics = channel.parts, channel.statistics
        assert sum(parts.values()) == run.time_ps
        assert min(parts.values()) >= 0
        assert sum(channel.background.values()) == run.time_ps
        assert parts["refresh"] >= 0.9 * channel.background["refreshing"] * parts["busy"] / run.time_ps
        assert statistics["activates"] >= statistics["row_misses"] + statistics["row_conflicts"]
        assert statistics["bursts"] == statistics["read_bursts"] + statistics["write_bursts"]
        moved += statistics["read_bytes"] + statistics["write_bytes"]
    assert moved == run.traffic["system_traffic"]["stored_bytes"]
    text = "\n".join(page.explain(run))
    assert text.count("| sum | the whole run |") == len(found)
    assert text.count("100.00 %") == len(found)


@pytest.mark.parametrize(("memory", "count"), [("hbm2", 16), ("hbm3", 32)])
def test_all_channels_of_a_stack_work_side_by_side(page: ModuleType, memory: str, count: int) -> None:
    """Weights of a fully connected layer that nothing computes on for long: every channel near its peak."""
    rng = np.random.default_rng(1)
    network = Network()
    network.add(
        Layer.linear(
            "fc",
            spiky(rng, (2048,), 16, False),
            spiky(rng, (2048, 2048), 16, True),
            spiky(rng, (2048,), 16, False),
        )
    )
    workload = Workload("fc", network, 16, source="random values", synthetic=True)
    run = simulate(workload, load_topology(f"dadiannao_{memory}"))
    found = page.channels(run)
    assert len(found) == count
    bytes_ = [channel.statistics["read_bytes"] for channel in found]
    assert min(bytes_) > 0.95 * max(bytes_)
    busy = [channel.parts["busy"] / run.time_ps for channel in found]
    assert min(busy) > 0.95 * max(busy)
    # 8 MiB: the time is that of all channels together, with what fill and drain take
    assert run.time_ps < 1.5 * 2**23 / run.peak_bytes_per_second * 1e12 + 5_000_000
