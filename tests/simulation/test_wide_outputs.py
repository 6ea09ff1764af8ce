"""Layers whose outputs of one window set, over all filters, are more than the activation buffer holds."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpred_sim.codecs.base import codec
from dpred_sim.components.planning import reserve_bits
from dpred_sim.errors import InputError
from dpred_sim.schedule.placement import POINTER_BITS
from dpred_sim.simulation.engine import Simulation
from dpred_sim.simulation.systems import load_topology
from dpred_sim.workload.layer import Layer
from dpred_sim.workload.network import Network
from dpred_sim.workload.workload import Workload
from tests.networks import spiky

EDGE = load_topology("dpred_stripes_edge")
BURST = 32
"""Bytes of a burst on 32 bits of DDR4."""


def workload(positions: int, depth: int, filters: int, follows: bool = False, seed: int = 1) -> Workload:
    """A projection to many filters, as onto a vocabulary; `follows`: another layer reads all of them."""
    rng = np.random.default_rng(seed)
    network = Network()
    acts, outputs = spiky(rng, (positions, depth), 16, False), spiky(rng, (positions, filters), 16, True)
    network.add(Layer.linear("wide", acts, spiky(rng, (filters, depth), 16, True), outputs))
    if follows:
        weights, last = spiky(rng, (24, filters), 16, True), spiky(rng, (positions, 24), 16, True)
        network.add(Layer.linear("next", outputs, weights, last))
    return Workload("wide", network, 16, source="random values", synthetic=True)


def attention(steps: int, heads: int, width: int = 16) -> Workload:
    """Scores of all heads: each row is heads x steps wide."""
    rng = np.random.default_rng(2)
    network = Network()
    x = spiky(rng, (steps, width), 16, False)
    parts = {}
    for part in "qk":
        parts[part] = spiky(rng, (steps, heads * width), 16, True)
        network.add(Layer.linear(part, x, spiky(rng, (heads * width, width), 16, True), parts[part]), "input")
    scores = spiky(rng, (steps, heads * steps), 16, False)
    network.add(Layer.matmul("scores", parts["q"], parts["k"], scores, groups=heads), "q", second="k")
    return Workload("attention", network, 16, source="random values", synthetic=True)


@pytest.mark.parametrize("positions", [1, 5, 16])
def test_outputs_leave_as_the_filters_of_a_block_are_complete(positions):
    """Twice all outputs of a window set (8,000 filters) would take 256 kbit a position, 64 kbit are there."""
    made = workload(positions, 64, 8000)
    simulation = Simulation(made, EDGE.with_set(["nodes.activations.size=64 kbit"]))
    (job,) = simulation.jobs
    assert 8000 * 16 * job.geometry.output_span > 64_000
    (found,) = simulation.run().layers
    assert simulation.system.machine.activations.peak_bits <= 64_000
    assert found.macs == positions * 64 * 8000
    assert found.traffic["outputs"].raw_write_bytes == positions * 8000 * 2
    # A row is written in as many pieces as there are blocks, and each piece is whole bursts.
    outputs = made.network.nodes[0].layer.outputs
    assert outputs is not None
    packer, pieces = codec("dpred"), 0
    for first, last in {job.outputs(block) for block in range(len(job.blocks))}:
        bits = packer.group_bits(outputs)[:, first // 16 : last // 16].sum(axis=1)
        pieces += int((-(-(bits + POINTER_BITS) // (BURST * 8)) * BURST).sum())
    assert found.traffic["outputs"].write_bytes == pieces


def test_a_reader_finds_all_of_the_pieces():
    simulation = Simulation(
        workload(16, 64, 2048, follows=True), EDGE.with_set(["nodes.activations.size=768 kbit"])
    )
    wide, after = simulation.run().layers
    written, read = wide.traffic["outputs"], after.traffic["activations"]
    assert 0 < written.raw_write_bytes < 16 * 2048 * 2  # some rows stay
    assert (read.read_bytes, read.raw_read_bytes) == (written.write_bytes, written.raw_write_bytes)


def test_scores_of_many_heads_leave_head_by_head():
    simulation = Simulation(attention(96, 8), EDGE.with_set(["nodes.activations.size=150 kbit"]))
    scores = simulation.jobs[2]
    assert 2 * scores.geometry.output_span * 96 * 8 * 16 > 150_000
    found = simulation.run().layers[2]
    assert found.macs == 96 * 96 * 8 * 16
    assert found.traffic["outputs"].raw_write_bytes == 96 * 96 * 8 * 2


@pytest.mark.parametrize("made", [workload(5, 64, 3000), workload(1, 16, 3000), attention(48, 6)])
def test_the_smallest_buffer_that_is_allowed_runs(made):
    roomy = Simulation(made, EDGE.with_set(["nodes.activations.size=64 MiB"]))
    least = reserve_bits(roomy.system.machine, roomy.jobs, roomy.sequencer.tensors)
    smallest = Simulation(made, EDGE.with_set([f"nodes.activations.size={least} bit"]))
    assert smallest.run().complete
    with pytest.raises(InputError, match="too small for one window set and its outputs"):
        Simulation(made, EDGE.with_set([f"nodes.activations.size={least - 1} bit"]))


def test_more_room_for_wide_outputs_is_never_slower():
    times = []
    for kilobits in (64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096):
        topology = EDGE.with_set([f"nodes.activations.size={kilobits} kbit"])
        times.append(Simulation(workload(4, 32, 4000), topology).run().time_ps)
    for less, more in itertools.pairwise(times):
        assert more <= less * 1.01 + 700_000


@given(seed=st.integers(0, 100_000))
@settings(max_examples=25, deadline=None)
def test_random_wide_layers_keep_every_guarantee(seed):
    rnd = random.Random(seed)
    made = workload(
        rnd.choice([1, 1, 2, 7, 40]),
        rnd.choice([5, 16, 80]),
        rnd.randint(300, 4000),
        rnd.random() < 0.5,
        seed,
    )
    changes = [f"nodes.activations.size={rnd.choice([24, 48, 100, 200, 400, 1600])} kbit"]
    changes += [f"nodes.{node}.count={rnd.choice([1, 3, 4])}" for node in ("tile",)]
    count = changes[-1].split("=")[1]
    changes += [f"nodes.weights.count={count}", f"nodes.weights.size={rnd.choice([4, 16, 64])} KiB"]
    try:
        simulation = Simulation(made, EDGE.with_set(changes), batch=rnd.choice([1, 1, 2]))
    except InputError as error:
        assert "fit" in str(error) or "too small" in str(error)
        return
    assert simulation.run().complete  # raises when a guarantee does not hold
