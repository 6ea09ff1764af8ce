"""Fitted values against what was counted on a real network, and that they are reproducible."""

from __future__ import annotations

import json
from math import prod

import numpy as np
import pytest

from dpred_sim.errors import InputError
from dpred_sim.values.fitted import fitted_activations, fitted_weights
from dpred_sim.values.synthetic import synthetic_activations, synthetic_weights
from dpred_sim.values.tensor import Tensor
from dpred_sim.workload.layer import Layer
from tests.values.real_statistics import FILE, of_tensor, step_cycles

ROWS = json.loads(FILE.read_text())
MAKERS = {
    "fitted": {"weights": fitted_weights, "activations": fitted_activations},
    "synthetic": {"weights": synthetic_weights, "activations": synthetic_activations},
}
KEYS = ("width", "width_256", "zeros", "plain", "flagged", "apack")


def drawn(row: dict, maker: str = "fitted", seed: int = 0):
    make = MAKERS[maker][row["kind"]]
    return make(tuple(row["shape"]), row["bits"], row["precision"], seed, row["layer"])


def distances(kind: str, bits: int, maker: str, seed: int = 0) -> dict[str, float]:
    """Drawn less real, mean over all values; widths as shares of the precision."""
    sums = dict.fromkeys(KEYS, 0.0)
    total = 0
    for row in ROWS:
        if (row["kind"], row["bits"]) != (kind, bits):
            continue
        found, values = of_tensor(drawn(row, maker, seed)), prod(row["shape"])
        total += values
        for key in KEYS:
            per = row["precision"] if key.startswith("width") else 1
            sums[key] += values * (found[key] - row[key]) / per
    return {key: value / total for key, value in sums.items()}


@pytest.mark.parametrize("bits", [16, 8])
@pytest.mark.parametrize("kind", ["weights", "activations"])
def test_container_ratios_are_close_to_real_ones(kind: str, bits: int) -> None:
    fitted = distances(kind, bits, "fitted")
    for key, most in (("width", 0.04), ("width_256", 0.05), ("zeros", 0.05)):
        assert abs(fitted[key]) <= most, key
    for key in ("plain", "flagged", "apack"):
        assert abs(fitted[key]) <= 0.03, key
    if bits == 16:  # where the simple generator fills the format
        simple = distances(kind, bits, "synthetic")
        assert abs(fitted["plain"]) < abs(simple["plain"]) / 2 and simple["plain"] > 0.03


def cycles(bits: int, maker: str) -> tuple[int, int]:
    """Cycles of serial activations over all convolutions: drawn and real."""
    made = real = 0
    rows = [row for row in ROWS if row["bits"] == bits and "cycles" in row]
    for row in rows:
        kernel = Tensor(np.ones(row["kernel"], np.int8), bits)
        x = drawn(row, maker)
        layer = Layer.conv2d("l", x, kernel, stride=row["stride"], padding=row["padding"])
        made += step_cycles(layer, x)
        real += row["cycles"]
    return made, real


@pytest.mark.parametrize("bits", [16, 8])
def test_step_widths_are_close_to_real_ones(bits: int) -> None:
    """A step costs the width of 16 windows x 16 channels: neighbours must resemble each other."""
    made, real = cycles(bits, "fitted")
    assert abs(made / real - 1) < 0.05
    if bits == 16:
        simple, _ = cycles(bits, "synthetic")
        assert simple / real - 1 > 0.07


def test_values_follow_seed_name_and_precision() -> None:
    def values(seed: int = 0, name: str = "a", precision: int = 9) -> np.ndarray:
        return fitted_activations((6, 7, 40), 16, precision, seed, name).load().values

    assert np.array_equal(values(), values())
    assert not np.array_equal(values(), values(seed=1)) and not np.array_equal(values(), values(name="b"))
    # One more bit: the same numbers, twice as fine.
    assert np.abs(values(precision=10).astype(int) - 2 * values().astype(int)).max() <= 3
    made = fitted_weights((3, 2, 2, 5), 16, 10, 0, "w").load().values
    assert made.tolist() == fitted_weights((3, 2, 2, 5), 16, 10, 0, "w").load().values.tolist()


def test_the_first_values_stay_what_they_are() -> None:
    """Streams and tables are the same on every machine and with every numpy."""
    weights = fitted_weights((64, 64), 16, 11, 0, "w").load().values
    activations = fitted_activations((16, 16), 8, 8, 0, "a").load().values
    assert weights[0, :8].tolist() == FIRST_WEIGHTS
    assert activations[0, :8].tolist() == FIRST_ACTIVATIONS


FIRST_WEIGHTS = [28, -1, 12, -84, -5, 26, 0, -34]
FIRST_ACTIVATIONS = [23, 15, 0, 0, 16, 3, 6, 0]


@pytest.mark.parametrize(("bits", "precision"), [(8, 8), (8, 3), (16, 16), (16, 2)])
def test_values_keep_to_their_format(bits: int, precision: int) -> None:
    x = fitted_activations((30, 30, 20), bits, precision, 0, "a").load()
    assert (x.bits, x.precision, x.signed) == (bits, precision, False)
    assert x.values.min() >= 0 and x.values.max() < 1 << precision
    w = fitted_weights((30, 3, 3, 20), bits, precision, 0, "w").load()
    assert w.signed and np.abs(w.values.astype(int)).max() < 1 << (precision - 1)
    assert w.values.min() < 0 < w.values.max() or precision == 2


def test_pieces_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpred_sim.values.fitted.PIECE", 1000)
    for x in (
        fitted_activations((9, 11, 24), 16, 9, 0, "a"),
        fitted_activations((1, 5000), 16, 9, 0, "b"),
        fitted_weights((40, 3, 3, 7), 8, 8, 0, "w"),
        fitted_weights((7,), 8, 8, 0, "v"),
    ):
        joined = np.concatenate([piece.copy() for piece in x.blocks()])
        assert np.array_equal(joined, x.load().values.reshape(-1))


def test_pruning_and_refusals() -> None:
    pruned = fitted_weights((64, 3, 3, 64), 16, 11, 0, "w", 0.8).load().values
    assert (pruned == 0).mean() == pytest.approx(0.8, abs=0.01)
    for make, field in (
        (lambda: fitted_weights((4, 4), 16, 1, 0, "w"), "w: precision"),
        (lambda: fitted_activations((4, 0), 16, 9, 0, "a"), "a: shape"),
        (lambda: fitted_weights((4, 4), 12, 9, 0, "w"), "w: bits"),
        (lambda: fitted_weights((4, 4), 16, 9, 0, "w", 2), "w: sparsity"),
    ):
        with pytest.raises(InputError) as caught:
            make()
        assert caught.value.field == field
