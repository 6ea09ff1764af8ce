"""dpred_stripes against a per-value model, cycle for cycle."""

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dpred_sim.designs.base import design
from dpred_sim.errors import InputError
from dpred_sim.values.tensor import Tensor
from dpred_sim.workload.layer import Layer
from tests.designs.nest_oracle import (
    Nest,
    Step,
    check,
    column_groups,
    group_cost,
    in_turn,
    layers,
    nest_parameters,
    shared_chunk,
    waiting,
)


@st.composite
def designs(draw: Any) -> Any:
    return design(
        "dpred_stripes",
        **draw(nest_parameters()),
        group_columns=draw(st.integers(1, 4)),
        run_ahead=draw(st.sampled_from([0, 0, 1, 2, 4])),
        both_ends=draw(st.booleans()),
        even_only=draw(st.booleans()),
    )


def costs_of_groups(made: Any, nest: Nest, step: Any) -> list[int]:
    """Cost of each column group of a step, idle ones 0."""
    costs = []
    for group in column_groups(step, made.group_columns, nest.columns * nest.blocks_a):
        values = [pair for column in group for pair in column]
        cost = group_cost(values, made.both_ends) if values else 0
        costs.append(cost + cost % 2 if made.even_only else cost)
    return costs


def compare(made: Any, layer: Layer, rows: int | None) -> None:
    nest = Nest(made, layer, rows)
    steps = list(nest.steps())
    if nest.fc:

        def cost(step: Step) -> int:
            shared = [shared_chunk(steps, step, made.group_columns, b) for b in range(nest.blocks_a)]
            most = max(group_cost(values, made.both_ends) for values in shared)
            return most + most % 2 if made.even_only else most

        grown = in_turn(steps, nest.columns, cost, lambda step: 1)
    else:
        grown = waiting(steps, lambda step: costs_of_groups(made, nest, step), made.run_ahead)
    check(made.schedule(layer, rows, nest.split), nest, grown)


@settings(max_examples=120, deadline=None)
@given(designs(), layers(), st.sampled_from([None, None, 1, 2]))
def test_every_step_costs_what_the_values_say(made: Any, layer: Layer, rows: int | None) -> None:
    compare(made, layer, rows)


@settings(max_examples=25, deadline=None)
@given(nest_parameters(), layers(("conv", "image", "groups", "depthwise")), st.booleans(), st.integers(0, 2))
def test_differences(parameters: dict[str, Any], layer: Layer, both_ends: bool, ahead: int) -> None:
    parameters["pe_width"] = 16
    assume(layer.activations.bits == 8)
    made = design("dpred_stripes", **parameters, diffy=True, both_ends=both_ends, run_ahead=ahead)
    compare(made, layer, None)


@settings(max_examples=40, deadline=None)
@given(designs(), layers(), st.data())
def test_cycles_add_up(made: Any, layer: Layer, data: Any) -> None:
    schedule = made.schedule(layer)
    a, b, c = sorted(data.draw(st.lists(st.integers(0, schedule.steps), min_size=3, max_size=3)))
    assert schedule.cycles(a, b) + schedule.cycles(b, c) == schedule.cycles(a, c)
    assert sum(int(schedule.set_cycles(n).sum()) for n in range(len(schedule.blocks))) == schedule.total


def test_no_registers_is_never_faster_than_registers() -> None:
    rng = np.random.default_rng(5)
    values = np.where(rng.random((9, 9, 32)) < 0.05, 255, rng.integers(0, 3, (9, 9, 32)))
    layer = Layer.conv2d("c", Tensor(values), Tensor(np.ones((8, 3, 3, 32), int)))
    totals = [design("dpred_stripes", run_ahead=r).layer_cycles(layer).total for r in (0, 1, 2, 8)]
    assert totals == sorted(totals, reverse=True)
    assert totals[0] > totals[-1]


def test_work_bits_count_each_value_alone() -> None:
    layer = Layer.conv2d(
        "c", Tensor([[[0, 5]], [[8, 255]]]), Tensor(np.ones((3, 1, 1, 2), int)), padding=(0, 1, 0, 0)
    )
    padding_zeros = 2 * 2 * 1
    assert design("dpred_stripes").work_bits(layer) == 3 * (padding_zeros + 1 + 3 + 4 + 8)
    assert design("dpred_stripes", both_ends=True).work_bits(layer) == 3 * (padding_zeros + 1 + 3 + 1 + 8)
    assert design("dpred_stripes", even_only=True).work_bits(layer) == 3 * (2 * padding_zeros + 2 + 4 + 4 + 8)


def test_differences_need_units_that_take_a_whole_value() -> None:
    layer = Layer.conv2d(
        "c", Tensor(np.ones((3, 3, 2), int), bits=16), Tensor(np.ones((3, 1, 1, 2), int), bits=16)
    )
    with pytest.raises(InputError, match="narrower units"):
        design("dpred_stripes", diffy=True, pe_width=8).schedule(layer)


@pytest.mark.parametrize(
    "bad",
    [
        {"group_columns": 0},
        {"run_ahead": -1},
        {"both_ends": 1},
        {"lanes": 2.5},
        {"tile_split": "both"},
        {"depthwise": "all"},
        {"pe_width": 17},
        {"rows": True},
        {"space_to_depth": "image"},
        {"lane": 4},
    ],
)
def test_bad_parameters_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(InputError) as error:
        design("dpred_stripes", **bad)
    assert error.value.field == next(iter(bad))
