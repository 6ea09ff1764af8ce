"""Random networks on random systems: every guarantee of a run holds."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dpred_sim.components.dma import TransferSettings
from dpred_sim.components.planning import reserve_bits
from dpred_sim.errors import InputError
from dpred_sim.schedule.passes import PassLimits
from dpred_sim.simulation.build import Settings
from dpred_sim.simulation.engine import Simulation
from dpred_sim.simulation.systems import load_topology
from dpred_sim.workload.layer import Layer
from dpred_sim.workload.network import Network
from dpred_sim.workload.workload import Workload
from tests.networks import random_workload, spiky

BASES = {
    name: load_topology(name)
    for name in ("dpred_stripes_ddr4", "dadiannao_ddr4", "stripes_ddr4", "dpred_stripes_2ch")
}


def random_system(seed: int):
    """A shipped system with small buffers and other codecs; layers may not fit."""
    rnd = random.Random(seed)
    changes = [
        f"nodes.activations.size={rnd.choice([8, 16, 24, 32, 64, 4096])} KiB",
        f"nodes.weights.size={rnd.choice([1, 2, 4, 16, 512])} KiB",
        f"nodes.dram.stores.codec={rnd.choice(['raw', 'zero_rle', 'per_layer', 'dpred'])}",
    ]
    if rnd.random() < 0.3:
        changes.append("nodes.activations.stores.codec=dpred")
    if rnd.random() < 0.3:
        changes.append("nodes.weights.stores.codec=dpred")
    if rnd.random() < 0.3:
        changes += ["nodes.tile.count=4", "nodes.weights.count=4"]
    return BASES[rnd.choice(sorted(BASES))].with_set(changes)


@given(seed=st.integers(0, 100_000))
@settings(max_examples=40, deadline=None)
def test_random_runs_keep_every_guarantee(seed):
    rnd = random.Random(seed)
    workload = random_workload(seed, bits=rnd.choice([8, 16]), layers=rnd.randint(1, 6))
    topology = random_system(seed)
    try:
        simulation = Simulation(workload, topology, batch=rnd.choice([1, 1, 2]))
    except InputError as error:
        assert "fit" in str(error) or "too small" in str(error)
        return
    # `run` raises Deadlock or InvariantBroken when a guarantee does not hold.
    result = simulation.run()
    assert result.complete
    assert result.total_cycles >= sum(layer.compute_cycles for layer in result.layers)
    assert sum(layer.cycles for layer in result.layers) == result.total_cycles
    moved = sum(layer.offchip_bytes for layer in result.layers)
    system = result.traffic["system_traffic"]
    assert moved == system["stored_bytes"]
    seconds = result.time_ps / 1e12
    assert moved <= result.peak_bytes_per_second * seconds
    for channel in simulation.system.channels:
        assert sum(channel.breakdown(result.time_ps).values()) == result.time_ps


@given(seed=st.integers(0, 100_000), share=st.sampled_from([1.0, 1.0, 1.05, 1.3, 2.0]))
@example(seed=9346, share=1.0)  # a stride skips rows: they are freed when they have come
@settings(max_examples=30, deadline=None)
def test_the_smallest_buffer_that_is_allowed_never_deadlocks(seed, share):
    """Everything spills, windows are as small as they get, blocks are cut."""
    rnd = random.Random(seed)
    workload = random_workload(seed, bits=rnd.choice([8, 16]), layers=rnd.randint(2, 8))
    tiles = rnd.choice([1, 2, 4])
    changes = [f"nodes.weights.size={rnd.choice([1, 2, 4, 8])} KiB"]
    changes += [f"nodes.tile.count={tiles}", f"nodes.weights.count={tiles}"]
    base = BASES[rnd.choice(sorted(BASES))]
    try:
        roomy = Simulation(workload, base.with_set([*changes, "nodes.activations.size=64 MiB"]))
        machine = roomy.system.machine
        least = reserve_bits(machine, roomy.jobs, roomy.sequencer.tensors)
        tight = base.with_set([*changes, f"nodes.activations.size={int(least * share)} bit"])
        assert Simulation(workload, tight).run().complete
        too_small = base.with_set([*changes, f"nodes.activations.size={least - 1} bit"])
        with pytest.raises(InputError, match="too small"):
            Simulation(workload, too_small)
    except InputError as error:
        assert "fit" in str(error)


@pytest.mark.parametrize("seed", range(8))
def test_with_ideal_memory_a_run_takes_its_compute_cycles(seed):
    """Long enough layers: what remains is fill and drain, a few dozen cycles a layer."""
    workload = random_workload(seed, layers=4)
    result = Simulation(workload, BASES["dadiannao_ddr4"].with_ideal_memory()).run()
    ideal = sum(layer.ideal_cycles for layer in result.layers)
    assert ideal <= result.total_cycles <= ideal + 100 * len(result.layers)


VARIANTS = {
    "activation buffer": lambda a, w: f"nodes.activations.size={2 * a} KiB",
    "weight buffer": lambda a, w: f"nodes.weights.size={2 * w} KiB",
    "DRAM bus": lambda a, w: "nodes.dram.bus=128 bit",
    "DRAM link": lambda a, w: "links.dram->activations.width=128 bit",
    "dispatcher path": lambda a, w: "links.activations->dispatcher.width=512 bit",
    "weight bus": lambda a, w: "links.dram->weights[*].width=512 bit",
    "output bus": lambda a, w: "links.tile[*]->activations.width=8192 bit",
}
REQUEST_PS = 2 * 4096 * 10**12 // 25_600_000_000
"""Two requests on the data bus: a prefetch that is under way is not taken back."""


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("variant", VARIANTS)
def test_more_of_anything_is_never_slower(seed, variant):
    rnd = random.Random(seed)
    workload = random_workload(seed, layers=rnd.randint(2, 6))
    acts, weights = rnd.choice([16, 24, 32, 64]), rnd.choice([2, 4, 16])
    topology = BASES[rnd.choice(["dpred_stripes_ddr4", "dadiannao_ddr4"])].with_set(
        [
            f"nodes.activations.size={acts} KiB",
            f"nodes.weights.size={weights} KiB",
            "links.dram->activations.width=64 bit",
            "links.activations->dispatcher.width=256 bit",
        ]
    )
    try:
        before = Simulation(workload, topology).run()
    except InputError:
        pytest.skip("does not fit")
    after = Simulation(workload, topology.with_set([VARIANTS[variant](acts, weights)])).run()
    assert after.time_ps <= before.time_ps * 1.01 + REQUEST_PS


def test_granularity_hardly_matters():
    """Request and pass sizes are settings of the simulation, not of the hardware."""
    workload = random_workload(3, layers=5)
    topology = BASES["dpred_stripes_ddr4"].with_set(["nodes.activations.size=32 KiB"])
    usual = Simulation(workload, topology).run().time_ps
    fine = Settings(TransferSettings(request_bytes=1024), PassLimits(cycles=128, passes_per_block=64))
    assert Simulation(workload, topology, settings=fine).run().time_ps == pytest.approx(usual, rel=0.05)


def test_same_bytes_whatever_the_hash_seed_and_whoever_looks():
    code = (
        "from tests.networks import random_workload\n"
        "from dpred_sim.simulation.engine import Simulation\n"
        "from dpred_sim.simulation.systems import load_topology\n"
        "t = load_topology('dpred_stripes_2ch', set=['nodes.activations.size=32 KiB'])\n"
        "print(Simulation(random_workload(4, layers=6), t).run().to_json())\n"
    )
    outputs = set()
    for seed in ("0", "1", "12345"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        outputs.add(done.stdout)
    assert len(outputs) == 1
    topology = load_topology("dpred_stripes_2ch", set=["nodes.activations.size=32 KiB"])
    watched = Simulation(random_workload(4, layers=6), topology)
    while watched.advance(17):
        watched.snapshot()
    assert {watched.result().to_json() + "\n"} == outputs


def test_a_batch_runs_its_inputs_one_after_another():
    workload = random_workload(5, layers=3)
    one = Simulation(workload, BASES["dpred_stripes_ddr4"]).run()
    three = Simulation(workload, BASES["dpred_stripes_ddr4"], batch=3).run()
    assert len(three.layers) == 3 * len(one.layers)
    moved = [result.traffic["system_traffic"]["stored_bytes"] for result in (one, three)]
    assert moved[1] == 3 * moved[0]
    # A short run may end before the first refresh (350 ns each).
    assert one.total_cycles < three.total_cycles <= 3 * one.total_cycles + 800
    with pytest.raises(InputError, match="batch"):
        Simulation(workload, BASES["dpred_stripes_ddr4"], batch=0)


def test_several_clusters_share_a_layer(tmp_path):
    """Two clusters of 8 tiles compute as much a cycle as one of 16."""
    document = BASES["dadiannao_ddr4"].to_dict()
    nodes, links = document["nodes"], document["links"]
    nodes["tile"]["count"] = nodes["weights"]["count"] = 8
    for name in ("dispatcher", "tile", "weights"):
        nodes[f"{name}_b"] = dict(nodes[name])
    for link in list(links):
        twin = {key: value for key, value in link.items() if key != "name"}
        for end in ("from", "to"):
            name = str(twin[end]).split("[")[0]
            if name in ("dispatcher", "tile", "weights"):
                twin[end] = str(twin[end]).replace(name, f"{name}_b", 1)
        if (twin["from"], twin["to"]) != (link["from"], link["to"]):
            links.append(twin)
    path = tmp_path / "two.yaml"
    path.write_text(json.dumps(document))
    two = load_topology(path)
    assert len(two.clusters) == 2
    for seed in (9, 10, 11):
        workload = random_workload(seed, layers=4)
        result = Simulation(workload, two).run()
        for layer in result.layers:
            assert layer.compute_cycles == layer.ideal_cycles
        single = Simulation(workload, BASES["dadiannao_ddr4"]).run()
        assert sum(x.macs for x in result.layers) == sum(x.macs for x in single.layers)
        assert result.traffic["paper_traffic"] == single.traffic["paper_traffic"]


def test_a_shared_weight_buffer_must_feed_all_tiles(tmp_path):
    """One buffer with one port in place of sixteen makes the baseline sixteen times slower."""
    rng = np.random.default_rng(12)
    layer = Layer.conv2d("wide", spiky(rng, (16, 16, 64), 16, False), spiky(rng, (256, 3, 3, 64), 16, True))
    network = Network()
    network.add(layer)
    workload = Workload("wide", network, 16, source="random values", synthetic=True)
    document = BASES["dadiannao_ddr4"].to_dict()
    document["nodes"]["weights"].pop("count")
    document["nodes"]["weights"]["size"] = "8 MiB"
    for link in document["links"]:
        link.pop("name", None)
        if link["to"] == "weights[*]":
            link["to"], link["medium"] = "weights", "point"
        if link["from"] == "weights[i]":
            link["from"], link["to"], link["medium"] = "weights", "tile[*]", "bus"
    path = tmp_path / "shared.yaml"
    path.write_text(json.dumps(document))
    shared = Simulation(workload, load_topology(path).with_ideal_memory()).run()
    own = Simulation(workload, BASES["dadiannao_ddr4"].with_ideal_memory()).run()
    assert own.layers[0].bound_by == "compute"
    assert shared.layers[0].bound_by == "weight path"
    assert shared.total_cycles == pytest.approx(16 * own.total_cycles, rel=0.02)


def test_reading_bricks_anew_every_step_takes_longer():
    workload = random_workload(14, layers=2)
    narrow = BASES["stripes_ddr4"].with_set(["links.activations->dispatcher.width=64 bit"])
    anew = narrow.with_set(["nodes.dispatcher.reuse=none"])
    once, every = Simulation(workload, narrow).run(), Simulation(workload, anew).run()
    kernel = max(node.layer.kernel[0] for node in workload.network)
    assert every.total_cycles >= once.total_cycles
    assert kernel == 1 or every.total_cycles > once.total_cycles
