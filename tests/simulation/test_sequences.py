"""Recurrences and products of two activations: what they compute, fetch, and how long they take."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpred_sim.components.planning import reserve_bits
from dpred_sim.components.probe import NullProbe
from dpred_sim.designs.base import DESIGNS, design
from dpred_sim.errors import InputError
from dpred_sim.simulation.engine import Simulation
from dpred_sim.simulation.systems import load_topology
from dpred_sim.simulation.verify import verify_workload
from dpred_sim.workload.layer import Layer
from dpred_sim.workload.network import INPUT, Network
from dpred_sim.workload.workload import Workload
from tests.networks import random_sequence, spiky

STEPS, WIDTH, UNITS = 7, 40, 48
BASE = load_topology("dpred_stripes_ddr4")


def recurrent(gates: int = 4, bits: int = 16, more: bool = True) -> Workload:
    rng = np.random.default_rng(gates)
    network = Network()
    append = network.lstm if gates == 4 else network.gru
    append(
        "r",
        spiky(rng, (STEPS, WIDTH), bits, False),
        spiky(rng, (gates * UNITS, WIDTH), bits, True),
        spiky(rng, (gates * UNITS, UNITS), bits, True),
        spiky(rng, (STEPS, UNITS), bits, True),
        spiky(rng, (STEPS, gates * UNITS), bits, True),
    )
    if more:
        states = network.tensor("r")
        assert states is not None
        network.add(Layer.linear("out", states, spiky(rng, (20, UNITS), bits, True)), "r")
    return Workload("recurrent", network, bits, "random values", True)


def attention(heads: int, bits: int = 16, steps: int = 20, depth: int = 24) -> Workload:
    rng = np.random.default_rng(heads)
    network = Network()
    width = heads * depth
    x = spiky(rng, (steps, width), bits, False)
    made = {}
    for part in "qkv":
        made[part] = spiky(rng, (steps, width), bits, True)
        network.add(Layer.linear(part, x, spiky(rng, (width, width), bits, True), made[part]), INPUT)
    scores = spiky(rng, (steps, heads * steps), bits, False)
    network.add(Layer.matmul("s", made["q"], made["k"], scores, groups=heads), "q", second="k")
    mixed = spiky(rng, (steps, width), bits, True)
    layer = Layer.matmul("c", scores, made["v"], mixed, groups=heads, transposed=True)
    network.add(layer, "s", second="v")
    return Workload("attention", network, bits, "random values", True)


@pytest.mark.parametrize("gates", [3, 4])
def test_a_recurrence_is_one_projection_and_a_product_a_step(gates):
    workload = recurrent(gates)
    nodes = workload.network.nodes
    assert [node.name for node in nodes] == ["r.x", *(f"r.h[{t}]" for t in range(STEPS)), "out"]
    assert nodes[0].layer.output_shape == (STEPS, gates * UNITS)
    assert nodes[0].layer.macs == STEPS * WIDTH * gates * UNITS
    states = workload.network.tensor("r").load().values
    for step, node in enumerate(nodes[1:-1]):
        assert node.reads == f"r.h[{step - 1}]"
        assert (node.shortcut, node.shortcut_row, node.family) == ("r.x", step, "r.h")
        assert node.layer.weights is nodes[1].layer.weights
        assert node.layer.output_shape == (1, UNITS)
        before = states[step - 1] if step else np.zeros(UNITS)
        assert np.array_equal(node.layer.activations.load().values[0], before)
        assert np.array_equal(node.layer.outputs.load().values[0], states[step])
    # Every hidden state is read by the next step and by who reads them all.
    assert workload.network.readers("r.h[2]") == [4, len(nodes) - 1]
    assert workload.network.readers("r.x") == list(range(1, STEPS + 1))


def test_gates_of_a_unit_stand_side_by_side():
    rng = np.random.default_rng(0)
    network = Network()
    into, over = spiky(rng, (12, 5), 16, True), spiky(rng, (12, 3), 16, True)
    projected = spiky(rng, (2, 12), 16, True)
    network.lstm("r", spiky(rng, (2, 5), 16, True), into, over, spiky(rng, (2, 3), 16, True), projected)
    found = network.nodes[0].layer
    for unit in range(3):
        for gate in range(4):
            at, place = gate * 3 + unit, unit * 4 + gate
            assert np.array_equal(found.weights.load().values[place], into.values[at])
            assert np.array_equal(found.outputs.load().values[:, place], projected.values[:, at])
            assert np.array_equal(network.nodes[1].layer.weights.load().values[place], over.values[at])


@pytest.mark.parametrize("name", sorted(DESIGNS.names()))
def test_a_step_takes_the_cycles_of_a_fully_connected_layer(name):
    made = design(name)
    for node in recurrent().network.nodes[1:-1]:
        plain = Layer.linear("l", node.layer.activations.load(), node.layer.weights.load())
        assert made.layer_cycles(node.layer).total == made.layer_cycles(plain).total


def weight_reads(workload: Workload, *changes: str) -> tuple[list[int], int]:
    result = Simulation(workload, BASE.with_set(list(changes))).run()
    steps = [layer for layer in result.layers if layer.family]
    return [layer.traffic["weights"].read_bytes for layer in steps], result.total_cycles


def test_recurrent_weights_come_once_when_they_fit_and_every_step_when_not():
    once, short = weight_reads(recurrent())
    again, long = weight_reads(recurrent(), "nodes.weights.size=1 KiB")
    assert once == [once[0]] + [0] * (STEPS - 1)
    assert again == [once[0]] * STEPS
    assert long > short
    # The limit is what one tile holds of its 16 of 192 filters, 48 raw values each.
    room = 16 * UNITS * 16
    assert weight_reads(recurrent(), f"nodes.weights.size={room} bit")[0] == once
    assert weight_reads(recurrent(), f"nodes.weights.size={room - 1} bit")[0] == again


def test_rows_of_the_projected_input_and_hidden_states_move_once():
    """Nothing stays on chip but what a step needs: each row is read by its step alone."""
    workload = recurrent(more=False)
    roomy = Simulation(workload, BASE).run()
    steps = [layer for layer in roomy.layers if layer.family]
    assert all(layer.traffic["shortcut"].read_bytes == 0 for layer in steps)
    simulation = Simulation(workload, BASE.with_set(["nodes.activations.size=64 MiB"]))
    least = reserve_bits(simulation.system.machine, simulation.jobs, simulation.sequencer.tensors)
    tight = Simulation(workload, BASE.with_set([f"nodes.activations.size={least} bit"])).run()
    raw = sum(layer.traffic["shortcut"].raw_read_bytes for layer in tight.layers)
    assert raw == STEPS * 4 * UNITS * 2


def test_the_values_of_a_product():
    rng = np.random.default_rng(5)
    q, k = spiky(rng, (6, 8), 16, True), spiky(rng, (5, 8), 16, True)
    v = spiky(rng, (5, 12), 16, True)
    layer = Layer.matmul("s", q, k, groups=2)
    assert layer.output_shape == (6, 10) and layer.macs == 6 * 5 * 8
    weights = layer.weights.load().values
    for head in range(2):
        for key in range(5):
            assert np.array_equal(weights[head * 5 + key, 0, 0], k.values[key, head * 4 : head * 4 + 4])
    scores = spiky(rng, (6, 10), 16, False)
    mixed = Layer.matmul("c", scores, v, groups=2, transposed=True)
    assert mixed.output_shape == (6, 12)
    weights = mixed.weights.load().values
    for head in range(2):
        for channel in range(6):
            at = head * 6 + channel
            assert np.array_equal(weights[at, 0, 0], v.values[:, at])


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("name", sorted(DESIGNS.names()))
def test_every_design_runs_a_product_like_the_layer_with_those_weights(name, heads):
    made = design(name)
    for node in attention(heads).network.nodes[3:]:
        layer = node.layer
        if heads == 1:
            plain = Layer.linear("l", layer.activations.load(), layer.weights.load())
        else:
            plain = Layer.conv2d("l", layer.activations.load(), layer.weights.load(), groups=heads)
        try:
            expected = made.layer_cycles(plain).total
        except InputError:
            with pytest.raises(InputError):
                made.layer_cycles(layer)
            continue
        assert made.layer_cycles(layer).total == expected > 0


@pytest.mark.parametrize("heads", [1, 2])
def test_a_second_operand_leaves_the_chip_and_comes_back(heads):
    workload = attention(heads)
    result = Simulation(workload, BASE.with_set(["nodes.dram.stores.codec=raw"])).run()
    layers = {layer.name: layer for layer in result.layers}
    raw = 20 * heads * 24 * 2
    assert layers["q"].traffic["outputs"].write_bytes == 0
    for reader, writer in (("s", "k"), ("c", "v")):
        assert layers[reader].kind == "matmul"
        assert layers[writer].traffic["outputs"].raw_write_bytes == raw
        moved = layers[reader].traffic["weights"]
        # Each value once; a pointer a row and bursts come on top.
        assert moved.raw_read_bytes == raw
        assert raw < moved.read_bytes <= raw + 20 * heads * (4 + 2 * 64)
        assert layers[reader].start_ps >= layers[writer].end_ps


def test_a_second_operand_is_not_fetched_before_it_is_stored():
    events = []

    class Watch(NullProbe):
        active = True

        def transfer(self, engine, what, layer, write, address, size_bytes, raw_bits, time_ps, cause=-1):
            if engine == "weight_dma" and layer in ("s", "c"):
                events.append((layer, time_ps))
            return 0

    result = Simulation(attention(2), BASE, probe=Watch()).run()
    ends = {layer.name: layer.end_ps for layer in result.layers}
    assert {layer for layer, _ in events} == {"s", "c"}
    assert all(time >= ends["k" if layer == "s" else "v"] for layer, time in events)


@given(seed=st.integers(0, 100_000), share=st.sampled_from([1.0, 1.0, 1.1, 2.0, 1000.0]))
@settings(max_examples=50, deadline=None)
def test_random_sequences_keep_every_guarantee_and_never_deadlock(seed, share):
    rnd = random.Random(seed)
    workload = random_sequence(seed, bits=rnd.choice([8, 16]))
    tiles = rnd.choice([1, 2, 4])
    changes = [
        f"nodes.weights.size={rnd.choice([1, 2, 4, 64])} KiB",
        f"nodes.tile.count={tiles}",
        f"nodes.weights.count={tiles}",
        f"nodes.dram.stores.codec={rnd.choice(['raw', 'zero_rle', 'per_layer', 'dpred'])}",
    ]
    base = load_topology(rnd.choice(["dpred_stripes_ddr4", "dadiannao_ddr4", "dpred_stripes_2ch"]))
    try:
        roomy = Simulation(workload, base.with_set([*changes, "nodes.activations.size=64 MiB"]))
        least = reserve_bits(roomy.system.machine, roomy.jobs, roomy.sequencer.tensors)
        size = f"nodes.activations.size={int(least * share)} bit"
        simulation = Simulation(workload, base.with_set([*changes, size]), batch=rnd.choice([1, 1, 2]))
    except InputError as error:
        assert "fit" in str(error)
        return
    result = simulation.run()
    assert result.complete
    assert sum(layer.cycles for layer in result.layers) == result.total_cycles


def test_rows_can_be_added_in_a_memory_layer():
    rng = np.random.default_rng(3)
    network = Network()
    x, made = spiky(rng, (9, 40), 16, True), spiky(rng, (9, 40), 16, True)
    network.add(Layer.linear("l", x, spiky(rng, (40, 40), 16, True), made))
    network.add(Layer.add("a", made, spiky(rng, (9, 40), 16, True)), "l", shortcut=INPUT)
    workload = Workload("rows", network, 16, "random values", True)
    for size in ("4 MiB", "8 KiB"):
        result = Simulation(workload, BASE.with_set([f"nodes.activations.size={size}"])).run()
        assert result.layers[1].traffic["outputs"].raw_write_bytes == 9 * 40 * 2


def test_sequences_verify():
    for workload in (recurrent(), attention(2), attention(1)):
        assert verify_workload(workload, BASE)["layers"] == len(workload.network)


def test_what_does_not_fit_is_refused():
    rng = np.random.default_rng(1)
    q, k = spiky(rng, (4, 8), 16, True), spiky(rng, (4, 8), 16, True)
    with pytest.raises(InputError, match="reduction"):
        Layer.matmul("s", q, spiky(rng, (4, 9), 16, True))
    with pytest.raises(InputError, match="groups"):
        Layer.matmul("s", q, k, groups=3)
    network = Network()
    network.add(Layer.linear("k", q, spiky(rng, (8, 8), 16, True), k))
    with pytest.raises(InputError, match="second"):
        network.add(Layer.matmul("s", q, k), INPUT)
    with pytest.raises(InputError, match="no layer before writes"):
        network.add(Layer.matmul("s", q, k), INPUT, second="q")
    with pytest.raises(InputError, match="gates"):
        network.gru("r", q, spiky(rng, (8, 8), 16, True), k, k)
    single = Network()
    single.add(Layer.linear("k", q, spiky(rng, (8, 8), 16, True), k))
    single.add(Layer.matmul("s", k, k), "k", second="k")
    large = spiky(rng, (1, 4096), 16, True)
    whole = Network()
    whole.given("cache", spiky(rng, (64, 4096), 16, True))
    whole.add(Layer.matmul("s", large, whole.tensor("cache")), INPUT, second="cache")
    workload = Workload("large", whole, 16, "random values", True)
    with pytest.raises(InputError, match="as a whole"):
        Simulation(workload, BASE.with_set(["nodes.weights.size=4 KiB"]))
    assert Simulation(workload, BASE).run().complete
