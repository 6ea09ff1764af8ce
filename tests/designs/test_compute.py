"""What the hardware of each design computes, against sums of products taken one value at a time."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpred_sim.designs import functional
from dpred_sim.designs.base import DESIGNS, design
from dpred_sim.designs.charged import check_overlapped
from dpred_sim.designs.loop_nest import FinishSchedule, Nest
from dpred_sim.errors import InputError, InvariantBroken
from dpred_sim.values.tensor import Tensor
from dpred_sim.workload.layer import Layer
from tests.designs.nest_oracle import layers, nest_parameters, tensor

FLAG = st.booleans()
SMALL = st.integers(1, 4)
OPTIONS: dict[str, dict[str, Any]] = {
    "dadiannao": {},
    "stripes": {},
    "dpred_stripes": {
        "group_columns": SMALL,
        "run_ahead": st.integers(0, 2),
        "both_ends": FLAG,
        "even_only": FLAG,
    },
    "tartan": {"dynamic_widths": FLAG},
    "loom": {
        "serial_bits": st.sampled_from([1, 2, 3, 4]),
        "group_columns": SMALL,
        "group_rows": SMALL,
        "fc_issue": st.sampled_from(["step", "plane"]),
        "both_ends": FLAG,
    },
    "pragmatic": {"first_stage_bits": st.integers(0, 5), "recoding": FLAG, "run_ahead": st.integers(0, 2)},
    "laconic": {"recoding": FLAG},
    "cnvlutin": {},
    "scnn": {
        "grid_x": SMALL,
        "grid_y": SMALL,
        "act_inputs": SMALL,
        "wgt_inputs": SMALL,
        "group_passes": st.sampled_from(["joined", "separate"]),
        "barrier": st.sampled_from(["channel", "pass"]),
        "conflicts": FLAG,
        "fully_connected": st.sampled_from(["dealt", "folded"]),
    },
    "bit_fusion": {"pe_width": st.sampled_from([2, 4, 8, 16])},
}
OPTIONS["cambricon_x"] = {}
OPTIONS["subword"] = {}
OPTIONS["tactical"] = {
    "back": st.sampled_from(["parallel", "serial"]),
    "group_columns": SMALL,
    "run_ahead": st.integers(0, 2),
    "gate_zeros": FLAG,
}
OPTIONS["dpred_loom"] = OPTIONS["loom"]
OPTIONS["scnn_dpred"] = OPTIONS["scnn"] | {"serial_bits": st.integers(1, 3)}


@st.composite
def made(draw: Any, name: str) -> Any:
    parameters: dict[str, Any] = {} if name.startswith("scnn") else draw(nest_parameters())
    if name in ("cnvlutin", "tactical", "cambricon_x", "subword"):
        parameters["pe_width"] = 16
    if name == "bit_fusion":
        parameters["columns"] = 1
    parameters |= {key: draw(values) for key, values in OPTIONS[name].items()}
    return design(name, **parameters)


def activation(values: Any, y: int, x: int, channel: int) -> int:
    """A value, zero outside."""
    inside = 0 <= y < len(values) and 0 <= x < len(values[0])
    return int(values[y, x, channel]) if inside else 0


def slow_outputs(layer: Layer) -> list[list[int]]:
    """One product after the other."""
    assert layer.weights is not None
    weights = layer.weights.load().values.reshape(layer.filters, *layer.kernel, -1)
    values = layer.activations.load().values.reshape(layer.height, layer.width, layer.channels)
    group, depth = layer.filters // layer.groups, weights.shape[3]
    (top, left), (sy, sx), (dy, dx) = layer.padding[:2], layer.stride, layer.dilation
    outputs = []
    for window in range(layer.windows):
        y, x = divmod(window, layer.conv_width)
        sums = [0] * layer.filters
        for k, ky, kx, c in np.ndindex(*weights.shape):
            at = y * sy + ky * dy - top, x * sx + kx * dx - left
            value = activation(values, *at, k // group * depth + c)
            sums[k] += value * int(weights[k, ky, kx, c])
        outputs.append(sums)
    return outputs


def test_all_designs_are_here() -> None:
    assert sorted(OPTIONS) == sorted(DESIGNS.names())


@pytest.mark.parametrize("name", sorted(OPTIONS))
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_outputs(name: str, data: Any) -> None:
    layer, one = data.draw(layers()), data.draw(made(name))
    expected = slow_outputs(layer)
    assert one.compute(layer).tolist() == expected
    for split in one.splits(layer):
        assert one.compute(layer, split).tolist() == expected


@pytest.mark.parametrize("name", ["dpred_stripes", "pragmatic"])
@pytest.mark.parametrize("bits", [8, 16])
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_outputs_from_differences(name: str, bits: int, data: Any) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    layer = Layer.conv2d(
        "c",
        tensor(rng, (6, 7, 5), bits, data.draw(FLAG), bits - 2),
        tensor(rng, (4, 3, 2, 5), bits, True),
        stride=data.draw(SMALL),
        padding=data.draw(st.integers(0, 2)),
    )
    options = {"run_ahead": data.draw(st.integers(0, 2))}
    more = ("both_ends", "even_only", "group_columns") if name == "dpred_stripes" else ("recoding",)
    options |= {key: data.draw(OPTIONS[name][key]) for key in more}
    out = design(name, diffy=True, lanes=3, columns=4, **options).compute(layer)
    assert out is not None and out.tolist() == slow_outputs(layer)


def test_differences_that_do_not_fit_are_refused() -> None:
    x = np.zeros((1, 3, 1), int)
    x[0, 1] = 40_000
    layer = Layer.conv2d("c", Tensor(x, 16), Tensor(np.ones((1, 1, 1, 1), int)))
    for name in ("dpred_stripes", "pragmatic"):
        with pytest.raises(InputError, match="differences do not fit 16 bits") as error:
            design(name, diffy=True).compute(layer)
        assert error.value.found == "2 differences"
        assert design(name).compute(layer).ravel().tolist() == [0, 40_000, 0]  # type: ignore[union-attr]


@cache
def large(kind: str) -> tuple[Layer, list[list[int]]]:
    """A layer with several filter blocks and window sets, and its outputs."""
    rng = np.random.default_rng(7)
    if kind == "fc":
        layer = Layer.linear("fc", tensor(rng, (1, 90), 16, False), tensor(rng, (45, 90), 16, True))
    else:
        groups = {"conv": 1, "groups": 2, "depthwise": 14}[kind]
        acts, weights = tensor(rng, (5, 7, 14), 16, True), tensor(rng, (28, 3, 3, 14 // groups), 16, True)
        layer = Layer.conv2d(kind, acts, weights, padding=1, groups=groups)
    return layer, slow_outputs(layer)


@pytest.mark.parametrize("name", sorted(OPTIONS))
@pytest.mark.parametrize("kind", ["conv", "groups", "depthwise", "fc"])
def test_operands_looked_at_piece_by_piece(name: str, kind: str, monkeypatch: Any) -> None:
    """Pieces smaller than a layer give the same outputs."""
    layer, expected = large(kind)
    parameters = {} if name.startswith("scnn") else {"lanes": 4, "rows": 4, "tiles": 3}
    one = design(name, **parameters)
    assert one.compute(layer).tolist() == expected  # type: ignore[union-attr]
    monkeypatch.setattr(functional, "SLAB_VALUES", 40)
    monkeypatch.setattr("dpred_sim.designs.scnn_products.SLAB_WEIGHTS", 256)
    assert one.compute(layer).tolist() == expected  # type: ignore[union-attr]


def test_every_row_of_differences_starts_anew() -> None:
    values = np.array([[[3], [5], [9]], [[7], [7], [1]]])
    layer = Layer.conv2d("c", Tensor(values), Tensor(np.array([[[[2]]]])))
    for name in ("dpred_stripes", "pragmatic"):
        out = design(name, diffy=True).compute(layer)
        assert out is not None and out.ravel().tolist() == [6, 10, 18, 14, 14, 2]


@pytest.mark.parametrize("name", ["stripes", "tartan", "loom", "bit_fusion"])
def test_values_wider_than_their_precision_come_out_wrong(name: str) -> None:
    """25 = 11001, of which 3 bits enter as its precision says, or 4 in bricks of 2."""
    wide, three = Tensor.adopt(np.array([[[[25]]]], np.uint8), 8, False, 3), Tensor(np.array([[[[3]]]]))
    weights, values = (wide, three) if name == "loom" else (three, wide)
    image = Tensor.adopt(values.values[0].copy(), 8, False, values.precision)
    out = design(name).compute(Layer.conv2d("c", image, weights))
    assert out is not None and out.item() == 3 * (25 % (16 if name == "bit_fusion" else 8))


def charges(kind: str) -> tuple[Any, Layer]:
    """A design that checks its charges this way, and a layer."""
    rng = np.random.default_rng(5)
    sizes = {"lanes": 4, "columns": 4, "rows": 4, "tiles": 1}
    if kind in ("columns", "rounds"):
        layer = Layer.linear("fc", tensor(rng, (1, 90), 8, False), tensor(rng, (9, 90), 8, True))
    else:
        layer = Layer.conv2d("c", tensor(rng, (6, 6, 20), 8, False), tensor(rng, (9, 2, 2, 20), 8, True))
    name = {"rounds": "tartan", "sets": "cnvlutin", "terms": "pragmatic", "pairs": "laconic"}
    if kind == "depthwise pairs":
        kind = "pairs"
        layer = Layer.conv2d(
            "d", tensor(rng, (6, 6, 9), 8, False), tensor(rng, (9, 2, 2, 1), 8, True), groups=9
        )
    if kind in ("blocks", "folds"):
        fc = Layer.linear("fc", tensor(rng, (1, 300), 8, False), tensor(rng, (9, 300), 8, True))
        return design("scnn", grid_x=2, grid_y=2), fc if kind == "folds" else layer
    more = {"run_ahead": 1} if kind == "overlapped" else {}
    return design(name.get(kind, "dpred_stripes"), **sizes, **more), layer


@pytest.mark.parametrize(
    "kind",
    [
        *("steps", "columns", "overlapped", "rounds", "sets", "terms", "pairs", "depthwise pairs"),
        *("blocks", "folds"),
    ],
)
def test_short_charges_are_noticed(kind: str, monkeypatch: Any) -> None:
    """A schedule that charges a little less breaks the check of its kind."""
    one, layer = charges(kind)
    assert one.compute(layer).tolist() == slow_outputs(layer)
    honest = one.schedule(layer)
    schedule = type(honest)
    cycles = schedule.cycles

    def shorter(self: Any, start: Any, stop: Any) -> Any:
        return cycles(self, start, stop) * 3 // 4

    monkeypatch.setattr(schedule, "cycles", shorter)
    with pytest.raises(InvariantBroken, match="charged"):
        one.compute(layer)


def test_a_step_cannot_end_before_those_that_it_waits_for() -> None:
    """Steps that end every cycle with one register leave a step two cycles."""
    one, layer = charges("overlapped")
    nest = Nest(one, layer)
    schedule = FinishSchedule(nest, np.arange(nest.steps + 1))
    spent = np.zeros((nest.regions, nest.sets, nest.inner, 4), dtype=np.int64)
    spent[0, 0, 3, 1] = 2
    check_overlapped(schedule, nest, spent, 1)
    spent[0, 0, 3, 1] = 3
    with pytest.raises(InvariantBroken, match="number 2 by 1"):
        check_overlapped(schedule, nest, spent, 1)


@pytest.mark.parametrize(
    ("name", "what", "change"),
    [
        ("dpred_stripes", "_groups", lambda costs: np.maximum(costs, 2) - 1),
        ("loom", "activation_turns", lambda costs: costs - 1),
        ("dpred_loom", "activation_turns", lambda costs: np.maximum(costs, 2) - 1),
        ("cnvlutin", "_occupied", lambda costs: np.maximum(costs, 2) - 1),
        ("scnn_dpred", "turns", lambda costs: np.maximum(costs, 2) - 1),
    ],
)
def test_less_than_values_need_gives_wrong_outputs(
    name: str, what: str, change: Any, monkeypatch: Any
) -> None:
    """A bit, turn or cycle less than is charged makes outputs differ."""
    rng = np.random.default_rng(6)
    layer = Layer.conv2d("c", tensor(rng, (5, 6, 20), 8, True), tensor(rng, (9, 2, 2, 20), 8, True))
    one = design(name)
    one.schedule(layer)  # charged as it should be
    honest = getattr(type(one), what)
    monkeypatch.setattr(type(one), what, lambda self, *rest: change(honest(self, *rest)))
    out = one.compute(layer)
    assert out is not None and out.tolist() != slow_outputs(layer)
