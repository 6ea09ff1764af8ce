"""Promotion of weights and what its lines cost, against a model that looks at one slot after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpred_sim.designs.base import design
from dpred_sim.errors import InputError
from dpred_sim.values.tensor import Tensor
from dpred_sim.workload.layer import Layer
from tests.designs.nest_oracle import Nest, check, in_turn, layers, nest_parameters, waiting, width
from tests.designs.test_compute import slow_outputs

Slot = tuple[int, tuple[int, int] | None]
"""A weight, and the line and lane whose activation it takes; None where the slot takes none."""


def places(shape: str, ahead: int, aside: int) -> list[tuple[int, int]]:
    if shape == "T":
        return [(1, -1), (1, 0), (1, 1), (1, 3), (2, -2), (2, 0), (2, 2)]
    return [(1, -lane) for lane in range(aside, 0, -1)] + [(line, 0) for line in range(1, ahead + 1)]


def executed(filters: list[list[list[Slot]]], made: Any) -> list[list[list[Slot]]]:
    """The executed lines of one tile's filters, [line][filter][lane]."""
    lines, lanes = len(filters[0]), len(filters[0][0])
    found, skipped = [], 0
    for t in range(lines):
        if all(weight == 0 for f in filters for weight, _ in f[t]) and skipped < made.lookahead:
            skipped += 1
            continue
        skipped = 0
        for f in filters:
            while True:
                best: Any = None
                for lane in range(lanes):
                    if f[t][lane][0]:
                        continue
                    at = [
                        (t + line, (lane + side) % lanes)
                        for line, side in places(made.shape, made.lookahead, made.lookaside)
                        if t + line < lines and f[t + line][(lane + side) % lanes][0]
                    ]
                    if at and (best is None or len(at) > len(best[1])):
                        best = lane, at
                if best is None:
                    break
                lane, ((line, side), *_) = best
                f[t][lane], f[line][side] = f[line][side], (0, None)
        found.append([list(f[t]) for f in filters])
    return found


class Promoting(Nest):
    """The nest, with the executed lines of each tile of a block."""

    def tile_lines(self, region: int, block: int) -> list[list[list[list[Slot]]]]:
        """[tile][executed line][filter][lane]; depthwise tiles have a lane a filter."""
        channels, layer = self.lane_channels()[region], self.layer
        if layer.is_depthwise:
            first, tiles = sum(len(t[0]) for r in self.lane_channels()[:region] for t in r), []
            for tile in channels:
                lanes = min(self.design.lanes, self.rows)
                filters = [
                    [
                        [
                            (self.weight(first + r, tap, 0), (n, lane)) if lane == r else (0, None)
                            for lane in range(lanes)
                        ]
                        for n, tap in enumerate(self.taps())
                    ]
                    for r in range(len(tile[0]))
                ]
                first += len(tile[0])
                tiles.append(executed(filters, self.design))
            return tiles
        count = layer.filters // layer.groups
        start, size = channels[0][0][0], self.rows * self.each
        tiles = []
        for at in range(block * size, min((block + 1) * size, count), self.rows):
            filters = []
            for k in range(at, min(at + self.rows, count)):
                lines: list[list[Slot]] = []
                for tap in self.taps():
                    for chunk in channels[0]:
                        weights = [self.weight(region * count + k, tap, c - start) for c in chunk]
                        line: list[Slot] = [(w, (len(lines), lane)) for lane, w in enumerate(weights)]
                        lines.append(line + [(0, None)] * (self.design.lanes - len(line)))
                filters.append(lines)
            tiles.append(executed(filters, self.design))
        return tiles


@st.composite
def designs(draw: Any) -> Any:
    parameters = draw(nest_parameters()) | {"pe_width": 16}
    shape = draw(st.sampled_from(["T", "L"]))
    reach = (
        {} if shape == "T" else {"lookahead": draw(st.integers(1, 3)), "lookaside": draw(st.integers(0, 4))}
    )
    return design(
        "tactical",
        **parameters,
        **reach,
        shape=shape,
        back=draw(st.sampled_from(["parallel", "serial"])),
        run_ahead=draw(st.sampled_from([0, 0, 1, 2])),
        group_columns=draw(st.integers(1, 3)),
        gate_zeros=draw(st.booleans()),
    )


def pruned(layer: Layer, seed: int, density: float) -> Layer:
    """The layer with whole channels, and single weights, set to zero."""
    assert layer.weights is not None
    tensor, rng = layer.weights.load(), np.random.default_rng(seed)
    values = tensor.values * (rng.random(tensor.values.shape) < density)
    values = values * (rng.random(values.shape[-1]) < 0.8)
    object.__setattr__(layer, "weights", Tensor(values, tensor.bits, tensor.signed, tensor.precision))
    return layer


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    designs(), layers(), st.integers(0, 99), st.sampled_from([0.0, 0.2, 0.5, 1.0]), st.sampled_from([None, 2])
)
def test_every_line_costs_what_its_slots_take(
    made: Any, layer: Layer, seed: int, density: float, rows: int | None
) -> None:
    nest = Promoting(made, pruned(layer, seed, density), rows)
    signed = layer.activations.signed
    kept: dict[tuple[int, int], Any] = {}

    def lines(step: Any) -> Any:
        key = step.region, step.block
        if key not in kept:
            kept[key] = nest.tile_lines(*key)
        return kept[key]

    steps = list(nest.steps())
    held = {(s.region, s.window_set, s.inner): s.tiles for s in steps if s.block == 0}
    executing = [step for step in steps if step.inner < max(map(len, lines(step)))]

    def column_costs(step: Any) -> list[int]:
        """Of each group of columns of each tile, its windows with the filters of a part or of all."""
        tiles, costs = lines(step), []
        for number in range(len(step.tiles)):
            mine = [tiles[number % len(tiles)]] if layer.is_depthwise else tiles
            slots = [slot for t in mine if step.inner < len(t) for f in t[step.inner] for slot in f]
            taken = {at for weight, at in slots if at and (weight or not made.gate_zeros)}
            columns = []
            for column in range(len(step.tiles[number])):
                values = [
                    held[step.region, step.window_set, line][number][column][lane][0] for line, lane in taken
                ]
                columns.append(max([1, *(width(value, signed) for value in values)]))
            if all(step.inner >= len(tile) for tile in mine):
                columns = []  # a tile without a line that is left
            columns += [0] * (nest.columns - len(columns))
            costs += [
                max(columns[at : at + made.group_columns])
                for at in range(0, nest.columns, made.group_columns)
            ]
        return [1] if made.back == "parallel" else costs

    if nest.fc:
        grown = in_turn(executing, nest.columns, lambda step: max(column_costs(step)), lambda step: 1)
    else:
        grown = waiting(executing, column_costs, made.run_ahead if made.back == "serial" else 0)
    grown |= {
        (s.region, s.block, s.window_set, s.inner): 0
        for s in steps
        if (s.region, s.block, s.window_set, s.inner) not in grown
    }
    check(made.schedule(layer, rows, nest.split), nest, grown)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(designs(), layers(), st.integers(0, 99), st.sampled_from([0.0, 0.2, 0.6]))
def test_outputs(made: Any, layer: Layer, seed: int, density: float) -> None:
    pruned(layer, seed, density)
    expected = slow_outputs(layer)
    for split in made.splits(layer):
        assert made.compute(layer, split).tolist() == expected


@settings(max_examples=60, deadline=None, derandomize=True)
@given(layers(), st.integers(0, 99))
def test_more_zeros_are_never_slower_without_promotion_in_the_way(layer: Layer, seed: int) -> None:
    """One filter, one lane: executed lines are at least the weights that are left, and at most all lines."""
    made: Any = design("tactical", lanes=1, rows=1, tiles=1, shape="L", lookaside=0)
    pruned(layer, seed, 0.4)
    nest = made.nest(layer)
    lines = made.promoted(nest).executed.sum(axis=0)
    assert (lines <= nest.inner).all()
    assert int(lines.sum()) >= np.count_nonzero(nest.layer.weights.load().values)


def test_worked_example() -> None:
    """Six lines of eight lanes, lane 7 without a channel: three are executed, ten weights promoted."""
    rows = [
        ". 5 . . . . .",
        "8 2 . . . . .",
        ". 8 . . . 9 4",
        ". . . . . . .",
        "9 . . 4 . 3 .",
        ". . . 1 9 4 .",
    ]
    values = np.array([[0 if at == "." else int(at) for at in row.split()] for row in rows])
    layer = Layer.conv2d("c", Tensor(np.ones((6, 1, 7), int)), Tensor(values.reshape(1, 6, 1, 7)))
    made: Any = design("tactical", lanes=8, rows=1, tiles=1)
    promoted = made.promoted(made.nest(layer))
    assert np.flatnonzero(promoted.executed[:, 0]).tolist() == [0, 3, 5]
    assert promoted.promotions == 10
    own, one, two = (
        {lane for lane in range(8) if promoted.sources[ahead, 0, 0] >> lane & 1} for ahead in range(3)
    )
    assert (own, one, two) == ({1}, {0, 1}, {1, 5, 6})
    assert design("tactical", lanes=8, rows=1, tiles=1).layer_cycles(layer).total == 3


def test_dense_weights_take_as_long_as_without_promotion() -> None:
    rng = np.random.default_rng(3)
    layer = Layer.conv2d(
        "c", Tensor(rng.integers(0, 255, (6, 6, 32))), Tensor(rng.integers(1, 9, (40, 3, 3, 32)))
    )
    for back, other in (("parallel", "dadiannao"), ("serial", "dpred_stripes")):
        columns = {"columns": 16 if back == "serial" else 1}
        ours = design("tactical", back=back, **columns).layer_cycles(layer).total
        assert ours == design(other, **columns).layer_cycles(layer).total


def test_weights_of_zeros_are_read_every_third_line() -> None:
    layer = Layer.conv2d("c", Tensor(np.ones((3, 3, 16), int)), Tensor(np.zeros((4, 3, 3, 16), int)))
    assert design("tactical").layer_cycles(layer).total == 9 // 3


@pytest.mark.parametrize(
    "bad",
    [
        {"lookahead": 3},
        {"lookaside": 4},
        {"shape": "X"},
        {"back": "both"},
        {"lanes": 64},
        {"gate_zeros": 1},
        {"run_ahead": -1},
    ],
)
def test_bad_parameters_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(InputError) as error:
        design("tactical", **bad)
    assert error.value.field == next(iter(bad))


def test_values_wider_than_the_units_are_refused() -> None:
    x = Tensor(np.ones((3, 3, 2), int), bits=16)
    with pytest.raises(InputError, match="promoted whole"):
        design("tactical", pe_width=8, columns=2).schedule(
            Layer.conv2d("c", x, Tensor(np.ones((3, 1, 1, 2), int)))
        )
