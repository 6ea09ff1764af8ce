"""Tiles as groups of windows x parts of filters: which splits there are, what they cost, tile by tile."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpred_sim.designs.base import DESIGNS, design
from dpred_sim.designs.loop_nest import NestDesign
from dpred_sim.errors import InputError
from dpred_sim.values.tensor import Tensor
from dpred_sim.workload.layer import Layer
from tests.designs.nest_oracle import (
    Nest,
    column_groups,
    group_cost,
    layers,
    nest_parameters,
    split,
    tensor,
)
from tests.designs.test_compute import OPTIONS

NESTS = [name for name in DESIGNS.names() if issubclass(DESIGNS.get(name), NestDesign)]


@st.composite
def parameters_of(draw: Any, name: str) -> dict[str, Any]:
    """Small sizes and options of a design, but for its split."""
    parameters = draw(nest_parameters())
    if name in ("cnvlutin", "tactical", "cambricon_x", "subword"):
        parameters["pe_width"] = 16
    if name == "bit_fusion":
        parameters["columns"] = 1
    parameters |= {key: draw(values) for key, values in OPTIONS[name].items()}
    del parameters["tile_split"]
    return dict(parameters)


@pytest.mark.parametrize("name", NESTS)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_auto_is_the_fastest_of_all_splits(name: str, data: Any) -> None:
    """And so never slower than tiles that all take filters, or all take windows."""
    parameters, layer = data.draw(parameters_of(name)), data.draw(layers())
    rows = data.draw(st.sampled_from([None, None, 1, 2]))
    auto = design(name, **parameters, tile_split="auto")
    totals = [auto.schedule(layer, rows, split).total for split in auto.splits(layer)]
    chosen = auto.schedule(layer, rows)
    assert chosen.total == min(totals)
    for kind in ("filters", "windows"):
        fixed = design(name, **parameters, tile_split=kind).schedule(layer, rows)
        assert fixed.total in totals and chosen.total <= fixed.total
    assert auto.layer_cycles(layer).total == auto.schedule(layer).total


@pytest.mark.parametrize("name", NESTS)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_split_is_what_its_fixed_name_says(name: str, data: Any) -> None:
    """Equal step by step, not only in the sum; the default of a design is what it was."""
    parameters, layer = data.draw(parameters_of(name)), data.draw(layers())
    auto = design(name, **parameters, tile_split="auto")
    for kind in ("filters", "windows"):
        fixed = design(name, **parameters, tile_split=kind)
        (split,) = fixed.splits(layer)
        ours, theirs = auto.schedule(layer, split=split), fixed.schedule(layer)
        at = np.arange(theirs.steps)
        assert ours.steps == theirs.steps and ours.blocks == theirs.blocks
        assert np.array_equal(ours.cycles(at, at + 1), theirs.cycles(at, at + 1))
    assert design(name, **parameters).schedule(layer).total == (
        design(name, **parameters, tile_split="filters").schedule(layer).total
    )


@pytest.mark.parametrize("name", NESTS)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data())
def test_windows_and_filters_meet_once(name: str, data: Any) -> None:
    """Each window of a layer is one group's, and meets each filter in one tile of that group."""
    parameters, layer = data.draw(parameters_of(name)), data.draw(layers())
    auto = design(name, **parameters, tile_split="auto")
    for number in auto.splits(layer):
        schedule = auto.schedule(layer, split=number)
        groups = schedule.window_groups
        assert groups <= number and schedule.windows_per_set % groups == 0
        met = np.zeros((layer.windows, layer.filters), dtype=int)
        size = schedule.windows_per_set // groups
        for block in schedule.blocks:
            parts, rest = divmod(len(block.tile_filters), groups)
            assert rest == 0 and len(block.tile_filters) <= parameters["tiles"]
            for place, (first, last) in enumerate(block.tile_filters):
                for start in range(place // parts * size, layer.windows, schedule.windows_per_set):
                    met[start : start + size, first:last] += 1
        assert (met == 1).all()


def test_divisors_of_the_tiles() -> None:
    image = Layer.conv2d("c", Tensor(np.ones((9, 9, 4), int)), Tensor(np.ones((4, 3, 3, 4), int)))
    depthwise = Layer.conv2d(
        "d", Tensor(np.ones((9, 9, 4), int)), Tensor(np.ones((4, 3, 3, 1), int)), groups=4
    )
    row = Layer.linear("row", Tensor(np.ones((1, 8), int)), Tensor(np.ones((5, 8), int)))
    tokens = Layer.linear("tokens", Tensor(np.ones((7, 8), int)), Tensor(np.ones((5, 8), int)))
    auto, fixed = design("stripes", tiles=12, tile_split="auto"), design("stripes", tiles=12)
    for layer in (image, depthwise, tokens):
        assert auto.splits(layer) == (1, 2, 3, 4, 6, 12)
        assert fixed.splits(layer) == (1,)
        assert design("stripes", tiles=12, tile_split="windows").splits(layer) == (12,)
    assert auto.splits(row) == (1,)
    one = design("stripes", tiles=12, tile_split="auto", depthwise="one_tile")
    assert one.splits(depthwise) == (1,) and one.splits(image) == auto.splits(image)
    assert design("bit_fusion", tiles=4, tile_split="auto", depthwise="one_tile").splits(depthwise) == (
        1,
        2,
        4,
    )


@pytest.mark.parametrize(("name", "split"), [("stripes", 2), ("stripes", 0), ("scnn", 2), ("dadiannao", 16)])
def test_a_split_that_is_not_there_is_refused(name: str, split: int) -> None:
    layer = Layer.conv2d("c", Tensor(np.ones((9, 9, 4), int)), Tensor(np.ones((4, 3, 3, 4), int)))
    for made in (design(name).schedule, design(name).compute):
        with pytest.raises(InputError) as error:
            made(layer, split=split)
        assert error.value.field == "layer 'c': split" and error.value.found == split


def test_few_filters_fill_the_tiles_with_windows() -> None:
    """64 filters on 16 tiles of 16: four parts of filters, so four groups share the windows."""
    layer = Layer.conv2d("c", Tensor(np.ones((32, 32, 16), int)), Tensor(np.ones((64, 1, 1, 16), int)))
    auto = design("dadiannao", tile_split="auto")
    schedule = auto.schedule(layer)
    assert (schedule.window_groups, schedule.windows_per_set, schedule.sets) == (4, 4, 256)
    assert schedule.blocks[0].tile_filters == ((0, 16), (16, 32), (32, 48), (48, 64)) * 4
    assert (schedule.total, design("dadiannao").layer_cycles(layer).total) == (256, 1024)


def test_equal_cycles_keep_weights_in_fewest_tiles() -> None:
    layer = Layer.conv2d("c", Tensor(np.ones((8, 8, 16), int)), Tensor(np.ones((256, 1, 1, 16), int)))
    assert design("dadiannao", tile_split="auto").schedule(layer).window_groups == 1


def test_more_groups_than_windows() -> None:
    """Three windows of one column each: groups four to eight have nothing to do, and are no tiles."""
    layer = Layer.linear("t", Tensor(np.ones((3, 8), int)), Tensor(np.ones((20, 8), int)))
    made = design("stripes", tiles=8, columns=1, tile_split="windows")
    schedule = made.schedule(layer)
    assert (schedule.window_groups, schedule.windows_per_set, schedule.sets) == (3, 3, 1)
    assert schedule.blocks[0].tile_filters == ((0, 16),) * 3


ADDITIVE: dict[str, dict[str, Any]] = {
    "dpred_stripes": {"group_columns": st.integers(1, 3), "both_ends": st.booleans()},
    "pragmatic": {"first_stage_bits": st.integers(0, 4), "recoding": st.booleans()},
    "loom": {"serial_bits": st.integers(1, 2), "both_ends": st.booleans()},
    "dpred_loom": {"group_rows": st.integers(1, 2), "both_ends": st.booleans()},
    "tartan": {"dynamic_widths": st.just(True)},
}
SPATIAL = ("conv", "image", "groups", "depthwise", "linear")


@pytest.mark.parametrize("name", sorted(ADDITIVE))
@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_the_slowest_tile_makes_the_step(name: str, data: Any) -> None:
    parameters = data.draw(nest_parameters()) | {
        key: data.draw(values) for key, values in ADDITIVE[name].items()
    }
    layer = data.draw(layers(SPATIAL))
    made = design(name, **parameters | {"tile_split": "auto"})
    schedule = made.schedule(layer, split=data.draw(st.sampled_from(made.splits(layer))))
    at = np.arange(schedule.steps)
    tiles = range(max(len(block.tile_filters) for block in schedule.blocks))
    spent = np.stack([schedule.tile_cycles(at, at + 1, tile) for tile in tiles])
    assert np.array_equal(spent.max(axis=0), schedule.cycles(at, at + 1))
    per_block = schedule.sets * schedule.inner
    for number, block in enumerate(schedule.blocks):
        idle = spent[len(block.tile_filters) :, number * per_block : (number + 1) * per_block]
        assert not idle.any()
    a, b = sorted(data.draw(st.lists(st.integers(0, schedule.steps), min_size=2, max_size=2)))
    for tile in tiles:
        assert schedule.tile_cycles(a, b, tile) == spent[tile, a:b].sum()
    assert int(schedule.tile_cycles(0, schedule.steps, tiles[-1] + 1)) == 0


@pytest.mark.parametrize("name", ["dpred_stripes", "tartan", "dpred_loom"])
@settings(max_examples=60, deadline=None, derandomize=True)
@given(parameters=nest_parameters(), layer=layers(SPATIAL), columns=st.integers(1, 3))
def test_a_tile_pays_for_its_own_windows_and_filters(
    name: str, parameters: dict[str, Any], layer: Layer, columns: int
) -> None:
    options = {"dpred_stripes": {"group_columns": columns}, "tartan": {"dynamic_widths": True}}
    made = design(name, **parameters, **options.get(name, {}))
    assert layer.weights is not None
    nest, signed = Nest(made, layer), layer.weights.signed
    size, blocks = made.pe_width, -(-layer.weights.precision // made.pe_width)
    schedule = made.schedule(layer, split=nest.split)
    for step in nest.steps():
        number = (step.region * nest.blocks() + step.block) * schedule.sets + step.window_set
        at = number * schedule.inner + step.inner
        met = nest.meetings(step)  # by group of windows, then part of filters
        for place in range(len(schedule.blocks[number // schedule.sets].tile_filters)):
            held, rows = met[place]
            step.tiles = [held]
            grouped = column_groups(step, columns, nest.columns * nest.blocks_a)
            values = [[pair for column in found for pair in column] for found in grouped]
            expected = max((group_cost(own, False) for own in values if own), default=0)
            if name == "dpred_loom":
                expected *= max(
                    group_cost([split(value, signed, blocks, size)[b] for value in row], False)
                    for row in rows
                    for b in range(blocks)
                )
            assert schedule.tile_cycles(at, at + 1, place) == expected


def test_tiles_that_are_not_told_apart_take_as_long_as_all() -> None:
    rng = np.random.default_rng(3)
    layer = Layer.conv2d("c", tensor(rng, (6, 6, 9), 8, False), tensor(rng, (9, 2, 2, 9), 8, True))
    for name in ("dadiannao", "stripes", "cnvlutin", "laconic", "scnn"):
        schedule = design(name).schedule(layer)
        assert schedule.tile_cycles(0, schedule.steps, 0) == schedule.total
    ahead = design("dpred_stripes", run_ahead=1, tile_split="windows", columns=2, tiles=3).schedule(layer)
    assert ahead.tile_cycles(0, ahead.steps, 2) == ahead.total
