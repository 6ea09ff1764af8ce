"""tartan, cnvlutin, bit_fusion, cambricon_x and subword against per-value models."""

from dataclasses import replace
from math import ceil
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
    group_cost,
    layers,
    nest_parameters,
    split,
    waiting,
)


@settings(max_examples=80, deadline=None)
@given(nest_parameters(), layers(), st.booleans(), st.sampled_from([None, 1]))
def test_tartan(parameters: dict[str, Any], layer: Layer, dynamic: bool, rows: int | None) -> None:
    made: Any = design("tartan", **parameters, dynamic_widths=dynamic)
    nest = Nest(made, layer, rows)
    weights = layer.weights
    assert weights is not None
    limit = made.pe_width
    static = [min(layer.activations.precision, limit), min(weights.precision, limit)]
    steps = list(nest.steps())

    def widest(step: Step) -> int:
        return max(group_cost(column, False) for tile in step.tiles for column in tile)

    def widest_weight(step: Step) -> int:
        blocks = ceil(weights.precision / limit)
        return max(
            group_cost(split(value, weights.signed, blocks, limit)[b : b + 1], False)
            for _, part in nest.meetings(step)
            for row in part
            for value in row
            for b in range(blocks)
        )

    def cost(step: Step) -> list[int]:
        if not nest.fc:
            return [widest(step) if dynamic else static[0]]
        if step.inner % nest.columns:
            return [0]
        round_ = [s for s in steps if s.block == step.block and 0 <= s.inner - step.inner < nest.columns]
        return [max(max(widest(s), widest_weight(s)) for s in round_) if dynamic else max(static)]

    check(made.schedule(layer, rows, nest.split), nest, waiting(steps, cost))


@settings(max_examples=80, deadline=None)
@given(nest_parameters(), layers(), st.integers(1, 3), st.sampled_from([None, 1]))
def test_cnvlutin(parameters: dict[str, Any], layer: Layer, columns: int, rows: int | None) -> None:
    parameters |= {"pe_width": 16, "columns": columns}
    made: Any = design("cnvlutin", **parameters)
    nest = Nest(made, layer, rows)
    lanes = min(made.lanes, nest.rows) if layer.is_depthwise else made.lanes
    busy: dict[tuple[int, int], list[int]] = {}
    last: list[Any] = [None, 0]

    def cost(step: Step) -> list[int]:
        at = (step.region, step.window_set, step.block)
        if last[0] != at:
            last[:] = [at, 0]
            busy.clear()
        for t, tile in enumerate(step.tiles):
            for c, column in enumerate(tile):
                load = busy.setdefault((t, c), [0] * lanes)
                load[step.inner % lanes] += max(1, sum(value != 0 for value, _ in column))
        done = max(max(load) for load in busy.values())
        grown, last[1] = done - last[1], done
        return [grown]

    check(made.schedule(layer, rows, nest.split), nest, waiting(nest.steps(), cost))


@settings(max_examples=80, deadline=None, derandomize=True)
@given(nest_parameters(), layers(), st.sampled_from([None, 1]), st.floats(0, 1))
def test_cambricon_x(parameters: dict[str, Any], layer: Layer, rows: int | None, density: float) -> None:
    """Weight by weight: the filters of a block, each on a unit of its own, packed in blocks of `lanes`."""
    assert layer.weights is not None
    tensor = layer.weights.load()
    drawn = np.random.default_rng(tensor.values.size).random(tensor.values.shape) < density
    weights = Tensor(tensor.values * drawn, tensor.bits, tensor.signed, tensor.precision)
    layer = replace(layer, weights=weights)
    made = design("cambricon_x", **parameters | {"pe_width": 16})
    nest = Nest(made, layer, rows)
    filters = layer.filters // layer.groups

    def cost(step: Step) -> list[int]:
        if layer.is_depthwise:
            size = min(made.lanes, nest.rows) * nest.each
            taken = range(step.region * size, min((step.region + 1) * size, layer.filters))
        else:
            size = nest.rows * nest.each
            taken = range(step.block * size, min((step.block + 1) * size, filters))
            taken = range(taken.start + step.region * filters, taken.stop + step.region * filters)
        most = max(sum(int(w) != 0 for w in weights.values[k].ravel().tolist()) for k in taken)
        return [int(step.inner < ceil(most / made.lanes))]

    check(made.schedule(layer, rows, nest.split), nest, waiting(nest.steps(), cost))


@settings(max_examples=80, deadline=None, derandomize=True)
@given(layers(("conv", "groups", "linear", "fc")), nest_parameters(), st.sampled_from([4, 8, 16]))
def test_subword(layer: Layer, parameters: dict[str, Any], pe_width: int) -> None:
    parameters |= {"pe_width": pe_width, "space_to_depth": False}
    made = design("subword", **parameters)
    assert layer.weights is not None
    widest = max(layer.activations.precision, layer.weights.precision)
    if widest > pe_width:
        with pytest.raises(InputError):
            made.schedule(layer)
        return
    times = pe_width // next(bits for bits in (4, 8, 16) if bits >= widest)
    nest = Nest(design("dadiannao", **parameters | {"lanes": parameters["lanes"] * times}), layer)
    cycles = made.schedule(layer, split=nest.split).total
    plain = design("dadiannao", **parameters | {"lanes": parameters["lanes"] * times})
    assert cycles == plain.schedule(layer, split=nest.split).total


def test_published_subword_modes() -> None:
    """A 16-bit multiplier does one product of 16 bits, two of up to 8, four of up to 4."""
    totals = {}
    for precision in (3, 4, 5, 8, 9, 16):
        x, w = (
            Tensor(np.ones(shape, int), 16, precision=precision) for shape in ((4, 4, 64), (16, 1, 1, 64))
        )
        totals[precision] = design("subword", tiles=1).layer_cycles(Layer.conv2d("c", x, w)).total
    assert totals == {3: 16, 4: 16, 5: 32, 8: 32, 9: 64, 16: 64}


@settings(max_examples=80, deadline=None)
@given(
    layers(),
    st.integers(1, 6),
    st.integers(1, 4),
    st.integers(1, 3),
    st.sampled_from([2, 4, 8, 16]),
    st.sampled_from([None, 1, 2]),
)
def test_bit_fusion(
    layer: Layer, rows: int, lanes: int, tiles: int, pe_width: int, limit: int | None
) -> None:
    made = design("bit_fusion", rows=rows, lanes=lanes, tiles=tiles, pe_width=pe_width)
    weights = layer.weights
    assert weights is not None
    fused, time = 1, 1
    for precision in (layer.activations.precision, weights.precision):
        bits = next(b for b in (2, 4, 8, 16) if b >= precision)
        fused *= max(1, pe_width // bits)
        time *= max(1, bits // pe_width)
    filters, channels = layer.filters // layer.groups, layer.channels // layer.groups
    blocks = ceil(filters / (min(rows, limit or rows) * tiles))
    taps = layer.kernel[0] * layer.kernel[1]
    expected = layer.groups * blocks * layer.windows * taps * ceil(channels / (lanes * fused)) * time
    schedule = made.schedule(layer, limit)
    assert schedule.total == expected
    assert len(schedule.blocks) == layer.groups * blocks


def test_published_bit_fusion_sizes() -> None:
    """8-bit products: 512 a cycle; 4-bit ones four times as many; 16-bit ones take four cycles."""
    totals = []
    for bits, precision in ((8, 8), (8, 4), (16, 16)):
        x = Tensor(np.ones((4, 4, 256), int), bits, precision=precision)
        w = Tensor(np.ones((32, 1, 1, 256), int), bits, precision=precision)
        totals.append(design("bit_fusion").layer_cycles(Layer.conv2d("c", x, w)).total)
    assert totals == [256, 64, 1024]


def test_what_the_hardware_cannot_do() -> None:
    layer = Layer.conv2d("c", Tensor(np.ones((3, 3, 2), int), 16), Tensor(np.ones((3, 1, 1, 2), int), 16))
    with pytest.raises(InputError, match="whole values"):
        design("cnvlutin", pe_width=8, columns=2).schedule(layer)
    for name, bad in (
        ("bit_fusion", {"pe_width": 6}),
        ("bit_fusion", {"columns": 2}),
        ("cnvlutin", {"lanes": 256}),
        ("tartan", {"dynamic_widths": 1}),
    ):
        with pytest.raises(InputError) as error:
            design(name, **bad)  # type: ignore[arg-type]
        assert error.value.field == next(iter(bad))


@settings(max_examples=20, deadline=None)
@given(layers(("conv", "groups", "fc")))
def test_work_of_products_without_zeros(layer: Layer) -> None:
    assume(layer.weights is not None)
    made: Any = design("cnvlutin")
    nest = Nest(
        design("stripes", lanes=1, columns=1, rows=1, tiles=1, space_to_depth=False, pe_width=16), layer
    )
    expected = sum(value != 0 for step in nest.steps() for tile in step.tiles for c in tile for value, _ in c)
    assert made.work_bits(layer) == expected
