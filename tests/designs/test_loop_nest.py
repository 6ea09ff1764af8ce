"""Blocks, sizes and the closed-form designs against the per-value nest."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpred_sim.designs.base import design
from dpred_sim.errors import InputError
from dpred_sim.values.tensor import LazyTensor, Tensor
from dpred_sim.workload.layer import Layer, Pool
from tests.designs.nest_oracle import Nest, layers, nest_parameters


def layer_of(height: int, width: int, channels: int, filters: int, kernel: int = 1, **rest: Any) -> Layer:
    groups = rest.get("groups", 1)
    return Layer.conv2d(
        "c",
        Tensor(np.ones((height, width, channels), int)),
        Tensor(np.ones((filters, kernel, kernel, channels // groups), int)),
        **rest,
    )


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(["dadiannao", "stripes"]),
    nest_parameters(),
    layers(),
    st.sampled_from([None, 1, 2]),
    st.data(),
)
def test_constant_designs(
    name: str, parameters: dict[str, Any], layer: Layer, rows: int | None, data: Any
) -> None:
    made = design(name, **parameters)
    nest = Nest(made, layer, rows)
    schedule = made.schedule(layer, rows, nest.split)
    cost = 1 if name == "dadiannao" else min(layer.activations.precision, parameters["pe_width"])
    free, clock, finish = [0] * nest.columns, 0, [0]
    for number, _ in enumerate(nest.steps()):
        column = number % nest.columns if nest.fc else 0
        start = max(clock, free[column])
        free[column] = start + cost
        clock = start + (1 if nest.fc else cost)
        finish.append(max(free))
    assert schedule.steps == len(finish) - 1
    at = np.arange(schedule.steps + 1)
    assert schedule.cycles(0, at).tolist() == finish
    a, b, c = sorted(data.draw(st.lists(st.integers(0, schedule.steps), min_size=3, max_size=3)))
    assert schedule.cycles(a, b) + schedule.cycles(b, c) == schedule.cycles(a, c)
    assert sum(int(schedule.set_cycles(n).sum()) for n in range(len(schedule.blocks))) == schedule.total


@settings(max_examples=60, deadline=None)
@given(nest_parameters(), layers(), st.sampled_from([None, 1, 2]))
def test_blocks_cover_every_filter_once(parameters: dict[str, Any], layer: Layer, rows: int | None) -> None:
    made = design("stripes", **parameters)
    nest = Nest(made, layer, rows)
    schedule = made.schedule(layer, rows, nest.split)
    filters = [f for block in schedule.blocks for f in range(*block.filters)]
    assert filters == list(range(layer.filters))
    regions = nest.lane_channels()
    for number, block in enumerate(schedule.blocks):
        size, shared = schedule.layer.channels, regions[number // nest.blocks()]
        read = {c for tile in shared for chunk in tile for c in chunk}
        assert set(range(*block.channels)) == read and block.channels[1] <= size
        parts = {f for tile in block.tile_filters for f in range(*tile)}
        assert parts == set(range(*block.filters))
        assert all(0 < last - first <= nest.rows for first, last in block.tile_filters)
        assert len(block.tile_filters) <= parameters["tiles"]
        count = len(block.tile_filters) // schedule.window_groups
        assert block.tile_filters == block.tile_filters[:count] * schedule.window_groups
        assert [f for tile in block.tile_filters[:count] for f in range(*tile)] == list(range(*block.filters))
        for inner, (first, last) in enumerate(schedule.inner_channels.tolist()):
            if layer.is_depthwise:
                assert first == 0 and last >= len(read)
            else:
                chunk = shared[0][inner % len(shared[0])]
                assert [block.channels[0] + c for c in range(first, last)] == chunk


def test_sizes_of_a_published_layer() -> None:
    """VGG conv3_1 on 16 tiles of 16 x 16 units with 16 lanes: S = 196 sets x 1 block x 9 x 8 chunks."""
    schedule = design("stripes").schedule(layer_of(56, 56, 128, 256, 3, padding=1))
    assert (schedule.sets, len(schedule.blocks), schedule.inner) == (196, 1, 72)
    assert schedule.total == 196 * 72 * 8
    assert design("dadiannao").layer_cycles(layer_of(56, 56, 128, 256, 3, padding=1)).total == 3136 * 72


def test_spread_depthwise_uses_all_tiles() -> None:
    layer = layer_of(8, 8, 64, 64, 3, padding=1, groups=64)
    spread, one = (design("stripes", depthwise=d).schedule(layer) for d in ("spread", "one_tile"))
    assert one.total == 4 * spread.total
    assert len(spread.blocks) == 1 and len(spread.blocks[0].tile_filters) == 4
    assert len(one.blocks) == 4 and all(len(block.tile_filters) == 1 for block in one.blocks)


def test_tiles_take_windows() -> None:
    schedule = design("stripes", tile_split="windows", tiles=4, rows=8).schedule(layer_of(10, 10, 16, 24))
    assert (schedule.windows_per_set, schedule.sets, len(schedule.blocks)) == (64, 2, 3)
    assert schedule.blocks[1].tile_filters == ((8, 16),) * 4


@pytest.mark.parametrize("name", ["dadiannao", "stripes", "dpred_stripes"])
def test_memory_layers_are_refused(name: str) -> None:
    x = Tensor(np.ones((4, 4, 2), int))
    for layer in (Layer.pooling("p", x, Pool("max", (2, 2), (2, 2))), Layer.add("a", x)):
        with pytest.raises(InputError, match="without products"):
            design(name).schedule(layer)


def test_values_that_no_unit_can_take() -> None:
    layer = Layer.conv2d("c", Tensor(np.ones((4, 4, 2), int), 16), Tensor(np.ones((2, 1, 1, 2), int), 16))
    with pytest.raises(InputError, match="need 2 columns"):
        design("dadiannao", pe_width=8).schedule(layer)
    with pytest.raises(InputError, match="need 2 rows"):
        design("stripes", pe_width=8, rows=1).schedule(layer)
    with pytest.raises(InputError, match="rows in use"):
        design("stripes").schedule(layer, rows=0)


@pytest.mark.parametrize("name", ["dpred_stripes", "loom", "dpred_loom", "pragmatic", "laconic", "scnn"])
def test_values_are_looked_at_once(name: str) -> None:
    """A second topology with the same design, or one that limits the rows, finds the costs ready."""
    made: list[str] = []

    def lazy(which: str, shape: tuple[int, ...]) -> LazyTensor:
        def make() -> Tensor:
            made.append(which)
            return Tensor(np.arange(np.prod(shape)).reshape(shape) % 9, signed=False)

        return LazyTensor(shape, 8, 8, False, make)

    layer = Layer.conv2d("c", lazy("a", (6, 6, 20)), lazy("w", (40, 3, 3, 20)))
    first = design(name, **({} if name == "scnn" else {"tiles": 2})).schedule(layer).total
    looked_at = list(made)
    again = design(name, **({} if name == "scnn" else {"tiles": 2}))
    assert again.schedule(layer).total == first
    if name in ("dpred_stripes", "loom", "pragmatic"):
        again.schedule(layer, rows=3)
    assert made == looked_at


def test_work_bits() -> None:
    x = Tensor(np.ones((4, 4, 2), int), bits=16, precision=9)
    layer = Layer.conv2d("c", x, Tensor(np.ones((3, 1, 1, 2), int)))
    made: Any = design("dadiannao")
    assert made.work_bits(layer) == 96
    made = design("stripes")
    assert made.work_bits(layer) == 96 * 9
