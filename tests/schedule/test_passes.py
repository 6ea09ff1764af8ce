"""Passes cover every step once, in order, within their limits."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpred_sim.codecs.base import codec
from dpred_sim.designs.base import design
from dpred_sim.schedule.job import MemoryFormat, prepare
from dpred_sim.schedule.passes import PassLimits, build_passes
from dpred_sim.workload.layer import Layer
from dpred_sim.workload.network import Network
from tests.networks import spiky

DESIGN = design("dpred_stripes", lanes=16, columns=4, rows=4, tiles=2)


def job_of(layer: Layer, weight_room: int = 1 << 30, clusters: int = 1):
    network = Network()
    network.add(layer)
    raw = codec("raw")
    memory = MemoryFormat(codec("dpred"), raw, raw, weight_room, False, 64)
    return prepare(network.nodes[0], DESIGN, clusters, memory)


def conv(seed: int, filters: int = 20, depth: int = 40, kernel: int = 3) -> Layer:
    rng = np.random.default_rng(seed)
    acts = spiky(rng, (9, 8, depth), 16, False)
    weights = spiky(rng, (filters, kernel, kernel, depth), 16, True)
    return Layer.conv2d("l", acts, weights, None, 1, kernel // 2)


@given(
    seed=st.integers(0, 1000),
    order=st.sampled_from(["filters", "windows"]),
    cycles=st.sampled_from([1, 300, 10_000]),
    rows=st.sampled_from([None, 3, 5]),
    outputs=st.sampled_from([None, 4, 9]),
    clusters=st.integers(1, 3),
    run_rows=st.integers(1, 9),
)
@settings(max_examples=40, deadline=None)
def test_every_window_set_of_every_block_once(seed, order, cycles, rows, outputs, clusters, run_rows):
    job = job_of(conv(seed), clusters=clusters)
    limits = PassLimits(cycles=cycles, rows=rows, outputs=outputs)
    covered: Counter[tuple[int, int]] = Counter()
    total_cycles = total_macs = 0
    for share in job.shares(clusters):
        passes = build_passes(job.work, share, order, run_rows, limits)
        windows: Counter[int] = Counter()
        for item in passes:
            total_cycles += item.cycles
            total_macs += item.macs
            single = item.windows <= job.schedule.windows_per_set
            assert single or item.cycles <= cycles
            if rows is not None:
                assert single or item.last_row - item.first_row < rows
            if outputs is not None:
                assert single or item.outputs_last - item.outputs_first <= outputs
            first = windows[item.weights]
            for place in range(first, first + item.windows):
                covered[(item.weights, place)] += 1
            windows[item.weights] += item.windows
        for sweep in {item.sweep for item in passes}:
            released = [p.next_row for p in passes if p.sweep == sweep and p.next_row]
            assert released == sorted(released)
        if passes:
            assert passes[-1].last_of_sweep and passes[-1].next_row == job.needed_rows
            assert {p.weights for p in passes if p.weights_done} == set(share)
    assert total_cycles == job.schedule.total
    assert total_macs == job.layer.macs
    assert set(covered.values()) == {1}
    assert len(covered) == len(job.blocks) * job.layer.windows


def test_no_row_is_released_while_a_later_pass_needs_it():
    job = job_of(conv(3, filters=40))
    for order in ("filters", "windows"):
        passes = build_passes(job.work, job.shares(1)[0], order, 4, PassLimits(cycles=200))
        for place, item in enumerate(passes):
            later = [p.first_row for p in passes[place + 1 :] if p.sweep == item.sweep]
            assert item.next_row <= min(later, default=job.needed_rows)


def test_refetched_weights_come_once_a_run():
    job = job_of(conv(4, filters=40))
    passes = build_passes(job.work, job.shares(1)[0], "windows", 3, PassLimits(), refetch=True)
    rounds = {}
    for item in passes:
        rounds.setdefault(item.weight_round, set()).add(item.weights)
    assert len(rounds) > 1
    assert all(blocks == set(range(len(job.blocks))) for blocks in rounds.values())


CUTS = [(1 << 20, 4, 1), (20_000, 3, 1), (9000, 1, 1), (3000, 1, 3)]


@pytest.mark.parametrize("weight_bits,rows,chunks", CUTS)
def test_a_block_too_big_is_cut_to_fewer_filters_then_to_channel_chunks(weight_bits, rows, chunks):
    job = job_of(conv(5), weight_room=weight_bits)
    sizes = {last - first for block in job.schedule.blocks for first, last in block.tile_filters}
    assert max(sizes) == rows
    assert job.chunks == chunks
    assert all(int(block.room[-1]) <= weight_bits for block in job.blocks)
    passes = build_passes(job.work, job.shares(1)[0], "filters", 9, PassLimits())
    assert sum(item.macs for item in passes) == job.layer.macs
    assert sum(item.cycles for item in passes) == job.schedule.total
    stored = [item for item in passes if item.last_chunk]
    assert (
        sum(item.outputs_last - item.outputs_first for item in stored)
        == len(job.schedule.blocks) * job.layer.windows
    )


@pytest.mark.parametrize("room", [None, 30_000])
def test_passes_by_channels_release_a_slab_when_they_have_used_it(room):
    layer = conv(6, filters=80, depth=64)
    network = Network()
    network.add(layer)
    raw = codec("raw")
    memory = MemoryFormat(codec("dpred"), raw, raw, 1 << 30, True, 64, room)
    job = prepare(network.nodes[0], design("scnn", accumulators=64, group_passes="separate"), 1, memory)
    slabs = 1 if room is None else 4
    assert (job.slabs, len(job.blocks)) == (slabs, 3)
    assert job.readings(1) == [job.slab(block, n) for block in range(3) for n in range(slabs)]
    passes = build_passes(job.work, job.shares(1)[0], "filters", 1, PassLimits(cycles=60))
    assert len(passes) > 3 * slabs
    for item, after in pairwise([*passes, None]):
        read = after is None or (item.weights, item.slab) != (after.weights, after.slab)
        assert item.next_row == (9 if read else 0) and (item.first_row, item.last_row) == (0, 8)
        ends = after is None or item.weights != after.weights
        assert item.windows == (72 if ends else 0) and item.outputs_last == item.windows
        assert item.last_of_sweep == item.weights_done == ends
    assert sum(item.macs for item in passes) == layer.macs
    assert sum(item.cycles for item in passes) == job.schedule.total
    for block in range(3):
        mine = [item for item in passes if item.weights == block]
        assert [item.slab for item in mine] == sorted(item.slab for item in mine)
        assert {item.slab for item in mine} == set(range(slabs))


@pytest.mark.parametrize("refetch", [False, True])
@pytest.mark.parametrize("clusters", [1, 2, 5])
def test_bands_go_outermost_and_keep_what_later_blocks_need(refetch, clusters):
    """A 9 x 8 plane on one unit with 30 accumulators: bands of 1 row and 3 filters."""
    layer = conv(7, filters=10, depth=24)
    network = Network()
    network.add(layer)
    raw = codec("raw")
    memory = MemoryFormat(codec("dpred"), raw, raw, 1 << 30, True, 64, 20_000)
    made = design("scnn", grid_x=1, grid_y=1, accumulators=30, group_passes="separate")
    job = prepare(network.nodes[0], made, clusters, memory)
    assert (job.bands, job.slabs, len(job.blocks)) == (9, 1, 4)
    everything = []
    for share in job.shares(clusters):
        passes = build_passes(job.work, share, "windows", 1, PassLimits(cycles=60), refetch)
        everything += passes
        assert [(p.run, p.weights) for p in passes] == sorted((p.run, p.weights) for p in passes)
        freed: Counter[tuple[int, int]] = Counter()
        for place, item in enumerate(passes):
            band, later = item.run, passes[place + 1 :]
            assert item.sweep == 0 and item.weight_round == (band if refetch else 0)
            assert (item.first_row, item.last_row) == (max(0, band - 1), min(8, band + 1))
            assert item.next_row <= min((p.first_row for p in later), default=9)
            assert item.shortcut_next <= min((p.window_rows[0] for p in later), default=9)
            fetch = item.weights, item.weight_round
            same = [p for p in later if (p.weights, p.weight_round) == fetch]
            assert item.weights_done == (not same)
            # Weights that a later band reads stay.
            again = any(p.run != band for p in same)
            assert item.weight_release == 0 or not again
            freed[fetch] = max(freed[fetch], item.weight_release)
            ends = not later or later[0].run != band or later[0].weights != item.weights
            assert (item.windows, item.outputs_last) == ((8, 8 * (band + 1)) if ends else (0, 8 * band))
        assert all(bits == job.blocks[block].room[-1] for (block, _), bits in freed.items())
        if passes:
            ends = [
                passes[i].next_row
                for i in range(len(passes))
                if i + 1 == len(passes) or passes[i + 1].run != passes[i].run
            ]
            assert ends == [max(0, band - 1) for band in range(1, 9)] + [9]
            assert [p.last_of_sweep for p in passes] == [False] * (len(passes) - 1) + [True]
    assert sum(item.macs for item in everything) == layer.macs
    assert sum(item.cycles for item in everything) == job.schedule.total


def test_fully_connected_passes_follow_the_channels():
    rng = np.random.default_rng(8)
    layer = Layer.linear("fc", spiky(rng, (1, 700), 16, False), spiky(rng, (30, 700), 16, True))
    job = job_of(layer)
    passes = build_passes(job.work, job.shares(1)[0], "filters", 1, PassLimits(weight_room=20_000))
    assert sum(item.macs for item in passes) == layer.macs
    assert sum(item.cycles for item in passes) == job.schedule.total
    for block in range(len(job.blocks)):
        mine = [item for item in passes if item.weights == block]
        assert [item.weight_bytes for item in mine] == sorted(item.weight_bytes for item in mine)
        assert mine[-1].weight_bytes == job.blocks[block].stored_bytes
        assert mine[-1].weight_release == job.blocks[block].room[-1]
        steps = [0] + [item.weight_release for item in mine]
        assert all(b - a <= 20_000 for a, b in pairwise(steps))
