"""Sizes of slices against containers that are really packed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpred_sim.codecs.base import codec
from dpred_sim.designs.base import design
from dpred_sim.schedule.placement import (
    POINTER_BITS,
    StoredTensor,
    position_ends,
    row_ends,
    tile_step_bits,
    weight_blocks,
)
from dpred_sim.values.tensor import Tensor
from dpred_sim.workload.layer import Layer
from tests.networks import spiky

PLAIN = codec("dpred", mode="plain")
CODECS = [PLAIN, codec("dpred", mode="zeros"), codec("dpred", mode="adaptive"), codec("raw")]


def packed(values: np.ndarray, like: Tensor, which=PLAIN) -> int:
    """Bits that a container of just these values really has, without its header."""
    part = Tensor(values, like.bits, like.signed, like.precision)
    return which.encode(part).size_bits - which.header_bits(part)


@given(
    seed=st.integers(0, 10_000),
    height=st.integers(1, 6),
    width=st.integers(1, 5),
    depth=st.integers(16, 70),
)
@settings(max_examples=25, deadline=None)
def test_rows_and_slabs_are_as_long_as_what_is_packed(seed, height, width, depth):
    x = spiky(np.random.default_rng(seed), (height, width, depth), 16, signed=seed % 2 == 0)
    for which in CODECS:
        stored = StoredTensor(x, which)
        for row, bits in enumerate(stored.row_bits()):
            assert bits == packed(x.values[row : row + 1], x, which)
        cut = depth // 32 * 16
        if cut:
            low, high = stored.row_bits((0, cut)), stored.row_bits((cut, depth))
            assert np.array_equal(low + high, stored.row_bits())
            assert low[0] == packed(x.values[:1, :, :cut], x, which)
        assert stored.total_bits == which.size_bits(x)


@pytest.mark.parametrize("depth", [1, 3, 5, 12])
def test_rows_of_images_with_few_channels(depth):
    x = spiky(np.random.default_rng(depth), (4, 11, depth), 8, signed=False)
    stored = StoredTensor(x, PLAIN)
    for row, bits in enumerate(stored.row_bits()):
        assert bits == packed(x.values[row : row + 1], x)
    assert stored.position_bits()[-1] == PLAIN.size_bits(x)
    assert np.all(np.diff(stored.position_bits()) >= 0)


def test_one_slab_is_packed_back_to_back_and_padded_at_its_end():
    x = spiky(np.random.default_rng(1), (5, 4, 32), 16, signed=False)
    stored = StoredTensor(x, PLAIN)
    ends = row_ends(stored, ((0, 32),), (0, 32), 2, 64)
    bits = stored.row_bits()[2:] + POINTER_BITS
    assert ends[:3].tolist() == [0, 0, 0]
    assert ends[3:5].tolist() == [(bits[:1].sum() + 7) // 8, (bits[:2].sum() + 7) // 8]
    assert ends[5] == -(-(bits.sum() + 7) // 8 // 64) * 64


def test_several_slabs_start_each_row_at_a_burst():
    x = spiky(np.random.default_rng(2), (3, 4, 48), 16, signed=False)
    stored = StoredTensor(x, PLAIN)
    slabs = ((0, 16), (16, 48))
    ends = row_ends(stored, slabs, (0, 48), 0, 64)
    expected = 0
    for row in range(3):
        for first, last in slabs:
            bits = packed(x.values[row : row + 1, :, first:last], x) + POINTER_BITS
            expected += -(-bits // 512) * 64
        assert ends[row + 1] == expected
    both = sum(row_ends(stored, slabs, part, 0, 64)[-1] for part in slabs)
    assert both == ends[-1]


@given(seed=st.integers(0, 10_000), kept=st.integers(0, 4))
@settings(max_examples=15, deadline=None)
def test_positions_end_where_their_rows_do(seed, kept):
    x = spiky(np.random.default_rng(seed), (5, 3, 40), 16, signed=True)
    stored = StoredTensor(x, PLAIN)
    rows = row_ends(stored, ((0, 40),), (0, 40), kept, 64)
    ends = position_ends(stored, ((0, 40),), (0, 40), kept, 64)
    assert np.array_equal(ends[::3], rows)
    assert np.all(np.diff(ends) >= 0)


LAYERS = {
    "conv": ((7, 7, 40), (33, 3, 3, 40), {}),
    "few channels": ((9, 9, 5), (20, 3, 3, 5), {}),
    "space to depth": ((13, 13, 3), (20, 5, 5, 3), {"stride": 2}),
    "groups": ((7, 7, 64), (48, 3, 3, 32), {"groups": 2}),
    "depthwise": ((7, 7, 40), (40, 3, 3, 1), {"groups": 40}),
}


@pytest.mark.parametrize("shapes", LAYERS.values(), ids=LAYERS.keys())
@pytest.mark.parametrize("lanes", [8, 16])
def test_weights_by_step_add_up_to_the_container(shapes, lanes):
    acts, weights, options = shapes
    rng = np.random.default_rng(5)
    layer = Layer.conv2d(
        "l", spiky(rng, acts, 16, False), spiky(rng, weights, 16, True), **{"padding": 1, **options}
    )
    schedule = design("dpred_stripes", lanes=lanes, columns=4, rows=4, tiles=3).schedule(layer)
    bits = tile_step_bits(schedule, PLAIN)
    assert bits.shape == (sum(len(b.tile_filters) for b in schedule.blocks), schedule.inner)
    assert bits.sum() == PLAIN.size_bits(schedule.layer.weights) - PLAIN.header_bits(schedule.layer.weights)


def test_weights_of_one_tile_and_step_are_what_is_packed():
    rng = np.random.default_rng(6)
    layer = Layer.conv2d("l", spiky(rng, (6, 6, 40), 16, False), spiky(rng, (20, 3, 3, 40), 16, True))
    schedule = design("dpred_stripes", lanes=16, columns=4, rows=4, tiles=2).schedule(layer)
    bits = tile_step_bits(schedule, PLAIN)
    weights = layer.weights.values
    place = 0
    for block in schedule.blocks:
        for first, last in block.tile_filters:
            for inner in range(schedule.inner):
                ky, kx, chunk = inner // 9, inner // 3 % 3, inner % 3
                values = weights[first:last, ky, kx, chunk * 16 : chunk * 16 + 16]
                assert bits[place, inner] == packed(values, layer.weights)
            place += 1


def test_weights_of_a_step_that_takes_all_positions_of_a_channel():
    """A group of 16 channels has to be there with its first one; the others bring nothing."""
    rng = np.random.default_rng(10)
    layer = Layer.conv2d("l", spiky(rng, (6, 6, 48), 16, False), spiky(rng, (20, 3, 2, 48), 16, True))
    schedule = design("scnn", accumulators=8).schedule(layer)
    bits = tile_step_bits(schedule, PLAIN)
    weights = layer.weights.values
    assert bits.shape == (len(schedule.blocks), 48) == (3, 48)
    for place, block in enumerate(schedule.blocks):
        first, last = block.filters
        for channel in range(48):
            values = weights[first:last, :, :, channel : channel + 16]
            expected = packed(values, layer.weights) if channel % 16 == 0 else 0
            assert bits[place, channel] == expected


@pytest.mark.parametrize("chunks", [1, 2, 3])
@pytest.mark.parametrize("shared", [False, True])
def test_blocks_hold_every_weight_once_and_room_grows(chunks, shared):
    rng = np.random.default_rng(7)
    layer = Layer.conv2d("l", spiky(rng, (6, 6, 44), 16, False), spiky(rng, (20, 3, 3, 44), 16, True))
    schedule = design("dpred_stripes", lanes=16, columns=4, rows=4, tiles=2).schedule(layer)
    raw = codec("raw")
    blocks = weight_blocks(schedule, PLAIN, raw, shared=shared, burst_bytes=64, chunks=chunks)
    assert len(blocks) == chunks * len(schedule.blocks)
    assert sum(int(b.values[-1]) for b in blocks) == layer.weights.values.size
    for block in blocks:
        assert block.stored_bytes % 64 == 0
        assert np.all(np.diff(block.ends) >= 0) and np.all(np.diff(block.room) >= 0)
    if shared:
        assert sum(int(b.room[-1]) for b in blocks) == 16 * layer.weights.values.size
    steps = np.sort(np.concatenate([b.steps for b in blocks[:chunks]]))
    assert np.array_equal(steps, np.arange(schedule.inner))


def test_tiles_that_share_filters_are_sent_them_once():
    """With the windows split over the tiles, a block's weights are in DRAM, and fetched, once."""
    rng = np.random.default_rng(9)
    layer = Layer.conv2d("l", spiky(rng, (9, 9, 32), 16, False), spiky(rng, (24, 3, 3, 32), 16, True))
    split = design("loom", lanes=16, columns=4, rows=8, tiles=4, tile_split="windows").schedule(layer)
    assert all(len(set(block.tile_filters)) == 1 for block in split.blocks)
    raw = codec("raw")
    for shared in (False, True):
        blocks = weight_blocks(split, raw, raw, shared=shared, burst_bytes=1)
        assert sum(int(block.values[-1]) for block in blocks) == layer.weights.values.size
        stored = sum(block.stored_bytes for block in blocks) - len(blocks) * POINTER_BITS // 8
        assert stored == 2 * layer.weights.values.size
