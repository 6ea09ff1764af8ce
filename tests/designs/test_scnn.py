"""scnn and scnn_dpred against a model that looks at every product."""

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dpred_sim.designs.base import design
from dpred_sim.errors import InputError
from dpred_sim.values.tensor import Tensor
from dpred_sim.workload.layer import Layer, Pool
from tests.designs.nest_oracle import layers, tensor
from tests.designs.scnn_oracle import scnn_costs


@st.composite
def designs(draw: Any) -> Any:
    name = draw(st.sampled_from(["scnn", "scnn_dpred"]))
    return design(
        name,
        grid_x=draw(st.integers(1, 3)),
        grid_y=draw(st.integers(1, 3)),
        act_inputs=draw(st.integers(1, 5)),
        wgt_inputs=draw(st.integers(1, 5)),
        accumulators=draw(st.sampled_from([12, 64, 128, 6144])),
        banks=draw(st.sampled_from([32, 32, 8, 5])),
        group_passes=draw(st.sampled_from(["joined", "separate"])),
        barrier=draw(st.sampled_from(["channel", "pass"])),
        conflicts=draw(st.sampled_from([True, True, False])),
        fully_connected=draw(st.sampled_from(["dealt", "folded"])),
        **({"serial_bits": draw(st.integers(1, 3))} if name == "scnn_dpred" else {}),
    )


def compare(made: Any, layer: Layer, rows: int | None) -> None:
    schedule = made.schedule(layer, rows)
    expected = scnn_costs(made, layer, rows)
    numbers = sorted(expected)
    assert schedule.steps == len(numbers) and schedule.sets == len({band for _, band, _ in numbers})
    at = np.arange(schedule.steps)
    assert schedule.cycles(at, at + 1).tolist() == [expected[number] for number in numbers]
    assert schedule.total == sum(expected.values())
    assert sum(int(schedule.set_cycles(n).sum()) for n in range(len(schedule.blocks))) == schedule.total


@settings(max_examples=120, deadline=None)
@given(designs(), layers(), st.sampled_from([None, 1, 2]))
def test_every_step_costs_what_the_products_say(made: Any, layer: Layer, rows: int | None) -> None:
    compare(made, layer, rows)


@pytest.mark.parametrize("name", ["scnn", "scnn_dpred"])
@pytest.mark.parametrize("seed", range(3))
def test_planes_with_an_inside(name: str, seed: int) -> None:
    """Large enough that most positions are far from the edge and many units share their patterns."""
    rng = np.random.default_rng(seed)
    stride = seed % 2 + 1
    layer = Layer.conv2d(
        "c",
        tensor(rng, (23, 21, 2), 8, True),
        tensor(rng, (7, 3, 2, 2), 8, True),
        stride=(stride, 1),
        padding=(1, 0, 2, 1),
    )
    compare(design(name, grid_x=2, grid_y=2, accumulators=1024), layer, None)


@st.composite
def small_grids(draw: Any) -> Any:
    """Accumulators so few that planes are cut into bands."""
    name = draw(st.sampled_from(["scnn", "scnn_dpred"]))
    sizes = {key: draw(st.integers(1, 2)) for key in ("grid_x", "grid_y")}
    sizes |= {key: draw(st.integers(1, 4)) for key in ("act_inputs", "wgt_inputs")}
    kinds = {
        "group_passes": draw(st.sampled_from(["joined", "separate"])),
        "barrier": draw(st.sampled_from(["channel", "pass"])),
    }
    return design(name, **sizes, **kinds, accumulators=draw(st.integers(10, 24)), banks=8)


@settings(max_examples=80, deadline=None)
@given(small_grids(), layers(("conv", "groups", "depthwise")), st.sampled_from([None, None, 2]))
def test_bands_of_a_plane_cost_what_their_products_say(made: Any, layer: Layer, rows: int | None) -> None:
    assume(-(-layer.conv_width // made.grid_x) <= made.accumulators)
    compare(made, layer, rows)


@settings(max_examples=60, deadline=None)
@given(small_grids(), layers(("conv", "groups", "depthwise")))
def test_outputs_of_bands_are_those_of_the_plane(made: Any, layer: Layer) -> None:
    """`compute` also raises when a band is charged fewer cycles than it has blocks."""
    assume(-(-layer.conv_width // made.grid_x) <= made.accumulators)
    outputs = made.compute(layer)
    assert np.array_equal(outputs, design("dadiannao", pe_width=16).compute(layer))


@pytest.mark.parametrize(("stride", "kernel"), [(1, 3), (2, 3), (2, 1), (3, 2)])
def test_bands_cover_the_plane_and_hold_no_more_than_fits(stride: int, kernel: int) -> None:
    layer = Layer.conv2d(
        "c",
        Tensor(np.ones((40, 30, 2), int)),
        Tensor(np.ones((9, kernel, kernel, 2), int)),
        stride=stride,
        padding=kernel // 2,
    )
    cut = 0
    for accumulators in (8, 15, 16, 40, 64, 100, 150, 400):
        schedule = (
            design("scnn", grid_x=2, grid_y=2, accumulators=accumulators).schedule(layer)
            if (-(-layer.conv_width // 2) <= accumulators)
            else None
        )
        if schedule is None:
            continue
        rows = schedule.windows_per_set // layer.conv_width
        assert schedule.windows_per_set % layer.conv_width == 0
        assert (schedule.sets - 1) * rows < layer.conv_height <= schedule.sets * rows
        held = -(-layer.conv_width // 2) * -(-rows // 2)
        assert all((b - a) * held <= accumulators for a, b in (block.filters for block in schedule.blocks))
        cut += schedule.sets > 1
    assert cut >= 2


def test_a_cut_plane_by_hand() -> None:
    """8 x 4 ones on one unit of 1 x 1, 3 x 1 kernel of ones, 16 accumulators: 6 rows of 4 outputs do not fit.

    Bands of 4 rows take one filter a pass and read 6 + 4 rows, bands of 2 rows two filters and 4 rows each.
    Two passes of 10 rows against one of 12: the lower bands let fewer rows enter.
    """
    layer = Layer.conv2d("c", Tensor(np.ones((8, 4, 1), int)), Tensor(np.ones((2, 3, 1, 1), int)))
    made: Any = design(
        "scnn", grid_x=1, grid_y=1, act_inputs=1, wgt_inputs=6, accumulators=16, conflicts=False
    )
    schedule = made.schedule(layer)
    assert [block.filters for block in schedule.blocks] == [(0, 2)]
    assert (schedule.sets, schedule.windows_per_set) == (3, 8)
    # One block of weights for each of 4 x 4 activations, then 2 rows of 4 partial sums for each filter.
    assert schedule.set_cycles(0).tolist() == [16 + 2 * 4 * 2] * 3


def test_folds_of_a_fully_connected_layer() -> None:
    rng = np.random.default_rng(1)
    for filters in (3, 21):  # blocks of weights of several channels, and of one
        layer = Layer.linear("fc", tensor(rng, (1, 300), 8, False), tensor(rng, (filters, 300), 8, True))
        for inputs, units, banks in ((4, 3, 32), (3, 8, 2), (6, 16, 2)):
            sizes = {"act_inputs": inputs, "wgt_inputs": inputs, "grid_x": units, "grid_y": units}
            for name in ("scnn", "scnn_dpred"):
                for kind in ("dealt", "folded"):
                    compare(
                        design(name, **sizes, banks=banks, accumulators=8, fully_connected=kind), layer, None
                    )
    schedule = design("scnn").schedule(layer)
    assert not schedule.window_parallel
    assert schedule.inner_channels.tolist() == [[0, 256], [256, 300]]


@settings(max_examples=60, deadline=None)
@given(designs(), layers(), st.sampled_from([None, 1, 2]))
def test_blocks_are_passes(made: Any, layer: Layer, rows: int | None) -> None:
    schedule = made.schedule(layer, rows)
    filters = [k for block in schedule.blocks for k in range(*block.filters)]
    assert filters == list(range(layer.filters))
    size, channels = layer.filters // layer.groups, layer.channels // layer.groups
    for block in schedule.blocks:
        assert set(block.tile_filters) == {block.filters}
        assert 1 <= len(block.tile_filters) <= made.units
        read = {k // size * channels + c for k in range(*block.filters) for c in range(channels)}
        assert set(range(*block.channels)) == read
        covered = {block.channels[0] + c for a, b in schedule.inner_channels for c in range(a, b)}
        assert read <= covered


def test_passes_that_end_with_their_group_read_their_own_channels() -> None:
    values = np.zeros((4, 4, 4), int)
    values[..., 2] = 1  # all the work is in the second group
    layer = Layer.conv2d("c", Tensor(values), Tensor(np.ones((8, 1, 1, 2), int)), groups=2)
    joined, separate = (design("scnn", group_passes=kind).schedule(layer) for kind in ("joined", "separate"))
    assert (len(joined.blocks), joined.total) == (1, 0)
    assert (len(separate.blocks), separate.total) == (2, 1)


def test_units_without_a_part_of_the_plane_have_no_filters() -> None:
    """A plane of 9 x 5 on a grid of 4 x 4: parts of 3 x 2 positions, so 3 x 3 units have one."""
    layer = Layer.conv2d("c", Tensor(np.ones((5, 9, 1), int)), Tensor(np.ones((2, 1, 1, 1), int)))
    (block,) = design("scnn", grid_x=4, grid_y=4).schedule(layer).blocks
    assert block.tile_filters == ((0, 2),) * 9


@settings(max_examples=40, deadline=None)
@given(designs(), layers())
def test_every_weight_is_used_in_the_step_of_its_channel(made: Any, layer: Layer) -> None:
    schedule = made.schedule(layer)
    steps = schedule.weight_steps()
    depth = layer.channels // layer.groups
    assert schedule.by_channels and steps.shape == (layer.kernel[0] * layer.kernel[1], depth)
    for channel in range(depth):
        step = channel if schedule.window_parallel else channel // 256
        assert set(steps[:, channel].tolist()) == {step}


def test_fully_connected_layers_use_all_units() -> None:
    """4096 channels on 64 units: 64 activations each x 256 filters in blocks of 4; folded, every unit goes
    through the weights of all."""
    layer = Layer.linear("fc", Tensor(np.ones((1, 4096), int)), Tensor(np.ones((256, 4096), int)))
    dealt, folded = (design("scnn", fully_connected=kind).schedule(layer) for kind in ("dealt", "folded"))
    assert dealt.total == 64 * 256 // 4
    assert folded.total == 64 * 64 * 256 // 4 + 15 * 15 * 256
    few = Layer.linear("fc", Tensor(np.ones((1, 9), int)), Tensor(np.ones((4, 9), int)))
    assert design("scnn").schedule(few).blocks[0].tile_filters == ((0, 4),) * 9


def test_what_the_hardware_cannot_do() -> None:
    layer = Layer.conv2d("c", Tensor(np.ones((9, 9, 1), int)), Tensor(np.ones((2, 1, 1, 1), int)))
    with pytest.raises(
        InputError, match="part of a row of outputs, 2 of them, does not fit its acc"
    ) as error:
        design("scnn", accumulators=1).schedule(layer)
    assert (error.value.found, error.value.allowed) == (1, ">= 2")
    x = Tensor(np.ones((4, 4, 2), int))
    with pytest.raises(InputError, match="without products"):
        design("scnn").schedule(Layer.pooling("p", x, Pool("max", (2, 2), (2, 2))))
    with pytest.raises(InputError, match="weights of 8 bits do not fit multipliers of 7 bits") as error:
        design("scnn", pe_width=7).schedule(
            Layer.conv2d("c", Tensor(x.values, precision=7), Tensor(np.ones((2, 1, 1, 2), int), bits=8))
        )
    assert error.value.field == "layer 'c': weights"
    with pytest.raises(InputError, match="each unit of the 8 x 8 grid is a tile") as error:
        design("scnn", tiles=63)
    assert (error.value.found, error.value.allowed) == (63, 64)
    for bad in ({"banks": 0}, {"grid_x": 1.5}, {"group_passes": "all"}, {"lanes": 4}, {"pe_width": 17}):
        with pytest.raises(InputError) as error:
            design("scnn", **bad)
        assert error.value.field == next(iter(bad))


@settings(max_examples=20, deadline=None)
@given(layers(("conv", "groups", "fc")))
def test_work_counts_products_of_non_zeros(layer: Layer) -> None:
    assume(layer.weights is not None)
    wide: Any = design("scnn_dpred")
    plain: Any = design("scnn")
    parallel: Any = design("dadiannao")
    assert plain.work_bits(layer) <= parallel.work_bits(layer)
    assert plain.work_bits(layer) <= wide.work_bits(layer) <= 17 * plain.work_bits(layer)
