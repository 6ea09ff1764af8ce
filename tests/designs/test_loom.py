"""loom and dpred_loom against a per-value model, cycle for cycle."""

from math import ceil
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpred_sim.designs.base import design
from dpred_sim.errors import InputError
from dpred_sim.values.tensor import Tensor
from dpred_sim.workload.layer import Layer
from tests.designs.nest_oracle import (
    Column,
    Nest,
    Step,
    check,
    group_cost,
    in_turn,
    layers,
    nest_parameters,
    shared_chunk,
    split,
    tensor,
    tile_groups,
    waiting,
)


@st.composite
def designs(draw: Any) -> Any:
    return design(
        draw(st.sampled_from(["loom", "dpred_loom"])),
        **draw(nest_parameters()),
        serial_bits=draw(st.sampled_from([1, 1, 2, 3, 4])),
        group_columns=draw(st.integers(1, 3)),
        group_rows=draw(st.integers(1, 3)),
        fc_issue=draw(st.sampled_from(["step", "plane"])),
        both_ends=draw(st.booleans()),
    )


def weight_costs(made: Any, nest: Nest, rows: list[list[int]]) -> list[int]:
    """Bits of each row group of a tile."""
    weights = nest.layer.weights
    assert weights is not None
    if made.__class__.__name__ == "Loom":
        return [min(weights.precision, made.pe_width)]
    blocks = ceil(weights.precision / made.pe_width)
    physical: list[Column] = []
    for row in rows:
        parts = [split(value, weights.signed, blocks, made.pe_width) for value in row]
        physical += [list(block) for block in zip(*parts, strict=True)]
    groups = [physical[i : i + made.group_rows] for i in range(0, len(physical), made.group_rows)]
    return [group_cost([pair for row in group for pair in row], made.both_ends) for group in groups]


def turns(made: Any, values: Column) -> int:
    return ceil(group_cost(values, made.both_ends) / made.serial_bits)


@settings(max_examples=80, deadline=None)
@given(designs(), layers(), st.sampled_from([None, None, 1, 2]))
def test_every_step_costs_what_the_values_say(made: Any, layer: Layer, rows: int | None) -> None:
    compare(made, layer, rows)


@pytest.mark.parametrize("seed", range(6))
def test_tiles_with_channels_of_their_own(seed: int) -> None:
    """Depthwise: wide activations meet the weights of their own tile only."""
    rng = np.random.default_rng(seed)
    layer = Layer.conv2d("d", tensor(rng, (3, 4, 9), 8, False), tensor(rng, (9, 2, 2, 1), 8, True), groups=9)
    sizes = {"lanes": 2, "columns": 2, "rows": 3, "tiles": 3}
    compare(design("dpred_loom", **sizes, both_ends=seed % 2 == 1), layer, None)


@pytest.mark.parametrize("seed", range(6))
def test_planes_of_each_step_hold_back_the_next(seed: int) -> None:
    rng = np.random.default_rng(seed)
    layer = Layer.linear("f", tensor(rng, (1, 29), 8, False), tensor(rng, (17, 29), 8, True))
    sizes = {"lanes": 2, "columns": 3, "rows": 2, "tiles": 2}
    compare(design("dpred_loom", **sizes, serial_bits=1 + seed % 3 * 4), layer, None)


def compare(made: Any, layer: Layer, rows: int | None) -> None:
    nest = Nest(made, layer, rows)
    steps = list(nest.steps())

    def planes(step: Step) -> int:
        return max(c for _, part in nest.meetings(step) for c in weight_costs(made, nest, part))

    def cost(step: Step) -> list[int]:
        products = []
        for columns, part in nest.meetings(step):
            groups = tile_groups(columns, made.group_columns, nest.columns * nest.blocks_a)
            values = [[pair for column in group for pair in column] for group in groups]
            entered = [turns(made, group) for group in values if group]
            products += [a * w for a in entered for w in weight_costs(made, nest, part)]
        return [max(products, default=0)]

    def fc_cost(step: Step) -> int:
        shared = [shared_chunk(steps, step, made.group_columns, b) for b in range(nest.blocks_a)]
        return max(turns(made, values) for values in shared) * planes(step)

    if nest.fc:
        issue = planes if made.fc_issue == "plane" else lambda step: 1
        grown = in_turn(steps, nest.columns, fc_cost, issue)
    else:
        grown = waiting(steps, cost)
    check(made.schedule(layer, rows, nest.split), nest, grown)


def test_fully_connected_speed_up_at_equal_peak() -> None:
    """By bit plane, a fully connected layer is 16 / p_w times as fast as bit-parallel."""
    layer = Layer.linear(
        "fc",
        Tensor(np.full((1, 4096), 1000), 16, precision=10),
        Tensor(np.ones((4096, 4096), np.int16), 16, precision=8),
    )
    parallel = design("dadiannao").layer_cycles(layer).total
    serial = design("loom", rows=128, tiles=32, tile_split="windows").layer_cycles(layer).total
    assert parallel / serial == pytest.approx(2, rel=0.05)


def test_another_weight_tensor_is_another_result() -> None:
    x = Tensor(np.full((4, 4, 8), 3))
    totals = []
    for value in (1, 100):
        layer = Layer.conv2d("c", x, Tensor(np.full((4, 1, 1, 8), value)))
        totals.append(design("dpred_loom").layer_cycles(layer).total)
    assert totals == [2 * 1, 2 * 7]


@pytest.mark.parametrize("name", ["loom", "dpred_loom"])
@pytest.mark.parametrize(
    "bad", [{"serial_bits": 0}, {"fc_issue": "bit"}, {"group_rows": 0}, {"both_ends": 2}]
)
def test_bad_parameters_are_refused(name: str, bad: dict[str, Any]) -> None:
    with pytest.raises(InputError) as error:
        design(name, **bad)
    assert error.value.field == next(iter(bad))
