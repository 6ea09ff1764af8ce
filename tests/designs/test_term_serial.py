"""Recoding, pragmatic and laconic against per-value models, cycle for cycle."""

from math import ceil
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dpred_sim.designs.base import design
from dpred_sim.designs.recoding import TermSplit, digit_masks
from dpred_sim.errors import InputError
from dpred_sim.values.tensor import Tensor
from dpred_sim.workload.layer import Layer
from tests.designs.nest_oracle import Nest, Step, check, in_turn, layers, nest_parameters, waiting


def digits(magnitude: int) -> list[tuple[int, int]]:
    """(position, sign) of the recoded digits, by the rule read from the top."""
    bits = [0, 0, *(int(b) for b in f"{magnitude:016b}"[::-1])]  # two zeros below bit 0
    found, run = [], False
    for i in range(15, -1, -1):
        here, below, next_below = bits[i + 2], bits[i + 1], bits[i]
        if not run:
            if here and below and next_below:
                found.append((i + 1, 1))
                run = True
            elif here:
                found.append((i, 1))
        elif not here and below:
            found.append((i, -1))
        elif here and not below and not next_below:
            found.append((i, -1))
            run = False
    return found


def positions(magnitude: int, recoding: bool) -> set[int]:
    if recoding:
        return {position for position, _ in digits(magnitude)}
    return {i for i in range(17) if magnitude >> i & 1}


def test_recoded_digits_add_up_to_the_magnitude() -> None:
    plus, minus = digit_masks()
    assert np.array_equal(plus.astype(np.int64) - minus, np.arange(1 << 16))
    assert not (plus & minus).any()


@settings(deadline=None)
@given(st.integers(0, (1 << 16) - 1))
def test_recoding_is_the_rule(magnitude: int) -> None:
    plus, minus = digit_masks()
    assert sum(1 << p for p, s in digits(magnitude) if s > 0) == plus[magnitude]
    assert sum(1 << p for p, s in digits(magnitude) if s < 0) == minus[magnitude]


def test_published_digits() -> None:
    plus, minus = digit_masks()
    assert (plus[0b0111], minus[0b0111]) == (8, 1)
    assert TermSplit(True).counts(np.array([0, 1, 7, 0b11101], np.uint8)).tolist() == [0, 1, 2, 3]
    assert TermSplit(False).counts(np.array([-128, -7, 7], np.int8)).tolist() == [1, 3, 3]


def magnitude_blocks(value: int, count: int, size: int) -> list[int]:
    rest = abs(value)
    return [rest >> size * b & (1 << size) - 1 if b < count - 1 else rest >> size * b for b in range(count)]


def unit(lanes: list[set[int]], reach: int) -> int:
    """Cycles of a unit whose lanes hold these terms."""
    lanes, cycles = [set(lane) for lane in lanes], 0
    while any(lanes):
        lowest = min(min(lane) for lane in lanes if lane)
        for lane in lanes:
            if lane and min(lane) < lowest + reach:
                lane.remove(min(lane))
        cycles += 1
    return max(1, cycles)


def activation_blocks(nest: Nest, values: list[int]) -> list[list[int]]:
    """The value blocks of a column's magnitudes."""
    parts = [magnitude_blocks(v, nest.blocks_a, nest.design.pe_width) for v in values]
    return [list(block) for block in zip(*parts, strict=True)]


class Magnitudes(Nest):
    """The nest with magnitudes in place of two's complement blocks."""

    def column(self, window: Any, tap: Any, channels: list[int]) -> Any:
        values = [self.value(window, tap, c) for c in channels]
        if getattr(self.design, "diffy", False) and self.layer.kind == "conv" and window[1] > 0:
            before = (window[0], window[1] - 1)
            values = [v - self.value(before, tap, c) for v, c in zip(values, channels, strict=True)]
        return [[(v, False) for v in block] for block in activation_blocks(self, values)]


@settings(max_examples=100, deadline=None)
@given(
    nest_parameters(),
    layers(),
    st.integers(0, 5),
    st.booleans(),
    st.sampled_from([0, 0, 1, 3]),
    st.booleans(),
    st.sampled_from([None, 1]),
)
def test_pragmatic(
    parameters: dict[str, Any],
    layer: Layer,
    first_stage: int,
    recoding: bool,
    ahead: int,
    diffy: bool,
    rows: int | None,
) -> None:
    if diffy:
        parameters["pe_width"] = 16
        assume(layer.activations.bits == 8)
    made: Any = design(
        "pragmatic",
        **parameters,
        first_stage_bits=first_stage,
        recoding=recoding,
        run_ahead=ahead,
        diffy=diffy,
    )
    nest = Magnitudes(made, layer, rows)

    def costs(step: Step) -> list[int]:
        found = []
        for tile in step.tiles:
            tile_columns = nest.columns * nest.blocks_a
            cycles = [unit([positions(v, recoding) for v, _ in column], 1 << first_stage) for column in tile]
            found += cycles + [0] * (tile_columns - len(tile))
        return found

    steps = list(nest.steps())
    if nest.fc:
        grown = in_turn(steps, nest.columns, lambda step: max(costs(step)), lambda step: 1)
    else:
        grown = waiting(steps, costs, ahead)
    check(made.schedule(layer, rows, nest.split), nest, grown)


@settings(max_examples=100, deadline=None)
@given(nest_parameters(), layers(), st.booleans(), st.sampled_from([None, 1]))
def test_laconic(parameters: dict[str, Any], layer: Layer, recoding: bool, rows: int | None) -> None:
    made: Any = design("laconic", **parameters, recoding=recoding)
    nest = Magnitudes(made, layer, rows)
    assert layer.weights is not None
    blocks = ceil(layer.weights.precision / made.pe_width)

    def terms(value: int) -> int:
        return len(positions(value, recoding))

    def cost(step: Step) -> int:
        most = 1
        for columns, rows in nest.meetings(step):
            for column in columns:
                for number, row in enumerate(rows):
                    lanes = [column[number]] if layer.is_depthwise and number < len(column) else column
                    for (value, _), weight in zip(lanes, row, strict=True):
                        parts = magnitude_blocks(weight, blocks, made.pe_width)
                        most = max(most, *(terms(value) * terms(part) for part in parts))
        return most

    steps = list(nest.steps())
    if nest.fc:
        grown = in_turn(steps, nest.columns, cost, lambda step: 1)
    else:
        grown = waiting(steps, lambda step: [cost(step)])
    check(made.schedule(layer, rows, nest.split), nest, grown)


def test_differences_need_units_that_take_a_whole_value() -> None:
    layer = Layer.conv2d(
        "c", Tensor(np.ones((3, 3, 2), int), bits=16), Tensor(np.ones((3, 1, 1, 2), int), bits=16)
    )
    with pytest.raises(InputError, match="narrower units"):
        design("pragmatic", diffy=True, pe_width=8).schedule(layer)


@pytest.mark.parametrize("bad", [{"first_stage_bits": 6}, {"recoding": 1}, {"run_ahead": -1}])
def test_bad_parameters_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(InputError) as error:
        design("pragmatic", **bad)
    assert error.value.field == next(iter(bad))
