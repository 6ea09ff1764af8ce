"""Each part of a system limits a run by just its own time, worked out by hand."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest

from dpred_sim.codecs.base import codec
from dpred_sim.designs.base import DESIGNS, Design
from dpred_sim.errors import InputError
from dpred_sim.schedule.residency import LayerNeeds, StreamNeeds, plan_layer
from dpred_sim.simulation.engine import Simulation
from dpred_sim.simulation.systems import load_topology
from dpred_sim.workload.layer import Layer
from dpred_sim.workload.network import Network
from dpred_sim.workload.workload import Workload
from tests.networks import spiky

IDEAL = load_topology("dadiannao_ddr4").with_ideal_memory()
COMPRESSED = load_topology("dpred_stripes_ddr4")


def workload(filters: int = 64, depth: int = 32, size: int = 16, layers: int = 1) -> Workload:
    """A chain of 1x1 convolutions."""
    rng = np.random.default_rng(1)
    network = Network()
    current = spiky(rng, (size, size, depth), 16, False)
    for index in range(layers):
        weights = spiky(rng, (filters, 1, 1, current.shape[2]), 16, True)
        out = spiky(rng, (size, size, filters), 16, False)
        network.add(Layer.conv2d(f"l{index}", current, weights, out))
        current = out
    return Workload("chain", network, 16, source="random values", synthetic=True)


def run(topology, *changes: str, **options):
    simulation = Simulation(workload(**options), topology.with_set(changes))
    return simulation, simulation.run()


def test_the_activation_path_limits_by_the_bricks_it_carries():
    # 256 windows read 32 values of 16 bits each over 64 bits a cycle: 8 cycles against 2 of compute.
    _, result = run(IDEAL, "links.activations->dispatcher.width=64 bit")
    assert result.layers[0].bound_by == "activation path"
    assert result.total_cycles == pytest.approx(256 * 8, rel=0.03)


def test_the_port_of_the_activation_buffer_limits_alike():
    _, result = run(IDEAL, "nodes.activations.port=64 bit")
    assert result.total_cycles == pytest.approx(256 * 8, rel=0.03)


def test_the_output_bus_limits_by_the_outputs_it_carries():
    # 256 windows x 64 outputs x 16 bits over 128 bits a cycle, the last ones drained too.
    _, result = run(IDEAL, "links.tile[*]->activations.width=128 bit")
    least = 256 * 64 * 16 // 128
    assert least <= result.total_cycles <= 1.1 * least


def test_a_layer_ends_when_its_last_outputs_are_stored():
    _, narrow = run(IDEAL, "links.tile[*]->activations.width=64 bit", layers=2)
    for layer in narrow.layers:
        assert layer.cycles >= 256 * 64 * 16 // 64


def test_the_link_at_dram_limits_by_the_bits_it_carries():
    simulation, result = run(COMPRESSED, "links.dram->activations.width=1 bit", layers=1)
    link = simulation.system.links["dram->activations"]
    moved = result.layers[0].traffic["activations"].read_bytes * 8
    assert link.bits == moved
    assert moved <= result.total_cycles <= 1.2 * moved + 1000


def test_the_weight_bus_limits_by_the_bits_it_carries():
    simulation, result = run(COMPRESSED, "links.dram->weights[*].width=1 bit", layers=1)
    moved = result.layers[0].traffic["weights"].read_bytes * 8
    assert simulation.system.links["dram->weights[*]"].bits == moved
    assert moved <= result.total_cycles


def test_a_slow_converter_limits_by_its_groups():
    _, quick = run(COMPRESSED, layers=1)
    slow, late = run(
        COMPRESSED,
        "nodes.activations.converter.groups=1",
        "nodes.activations.converter.latency=0 cycle",
        layers=1,
    )
    (unpack,) = [c for c in slow.system.converters if c.name == "activations.unpack"]
    assert unpack.groups >= 16 * 16 * 2  # 32 channels: two groups a position
    assert late.total_cycles >= unpack.groups
    assert quick.total_cycles < late.total_cycles


def test_outputs_leave_in_the_encoding_of_their_buffer():
    """The buffer stores raw: raw bits cross the link, and are packed at DRAM's end."""
    simulation, result = run(COMPRESSED, layers=1)
    outputs = result.layers[0].traffic["outputs"]
    raw = 16 * 16 * 64 * 16
    assert outputs.raw_write_bytes * 8 == raw
    assert outputs.write_bytes < outputs.raw_write_bytes
    assert simulation.system.links["activations->dram"].bits == raw
    packed, _ = run(COMPRESSED, "nodes.activations.stores.codec=dpred", layers=1)
    stored = packed.layers[0].traffic["outputs"].write_bytes * 8
    assert packed.system.links["activations->dram"].bits == stored
    assert packed.system.machine.write_dma.port.converters is None


def test_off_chip_bytes_are_the_containers_rounded_to_bursts():
    simulation, result = run(COMPRESSED, layers=1)
    layer = simulation.workload.network.nodes[0].layer
    stored = codec("dpred")
    acts = stored.chosen_for(layer.activations, "activations").size_bits(layer.activations)
    read = result.layers[0].traffic["activations"].read_bytes
    assert read == -(-(acts + 16 * 32) // 512) * 64  # a 32-bit pointer for each of 16 rows


def needs(weights_fit: bool, free: int) -> LayerNeeds:
    """8 rows of 1000 bits, 4 blocks, weights far larger than activations."""
    rows = StreamNeeds(np.full(64, 100_000, dtype=np.int64), 1, 0, 400_000, 1_600_000)
    return LayerNeeds(
        name="l",
        activations=rows,
        shortcut=None,
        output_row_room=np.full(64, 100, dtype=np.int64),
        output_readers=1,
        set_output_room=100,
        block_output_room=25,
        weight_bytes=10_000_000,
        weight_blocks=4,
        weights_fit=weights_fit,
        chunked=False,
        free_room=free,
        keep_room=10**9,
    )


def test_weights_that_fit_are_fetched_once_for_many_runs():
    plan = plan_layer(needs(True, 900_000))
    assert plan.order == "windows"
    assert plan.traffic_bytes == 400_000 + 10_000_000


def test_weights_that_come_anew_for_each_run_count_each_time():
    """Fetching 10 MB again costs more than reading the activations four times."""
    plan = plan_layer(needs(False, 900_000))
    assert plan.order == "filters" and not plan.hold_activations
    assert plan.traffic_bytes == 1_600_000 + 10_000_000


def test_a_design_without_tiles_is_refused_before_time_starts(tmp_path, monkeypatch):
    @dataclass(frozen=True, kw_only=True)
    class Alone(Design):
        lanes: int = 1

        def schedule(self, layer, rows=None):
            raise NotImplementedError

    monkeypatch.setitem(DESIGNS._entries, "alone", Alone)
    document = COMPRESSED.to_dict()
    document["nodes"]["tile"] = {"kind": "tile", "count": 16, "design": "alone"}
    path = tmp_path / "alone.yaml"
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match="no tiles that a dispatcher feeds") as caught:
        Simulation(workload(), load_topology(path))
    assert caught.value.found == "alone" and "stripes" in caught.value.allowed
