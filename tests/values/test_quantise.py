from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dpred_sim.codecs.base import codec
from dpred_sim.errors import InputError
from dpred_sim.values.quantise import pruned, quantise_8bit, quantise_8bit_channels, quantise_fixed
from dpred_sim.values.widths import group_widths

reals = st.floats(-1e6, 1e6, allow_nan=False, width=32)


def slow_half_up(value: float, scale: float) -> int:
    """floor(value / scale + 1/2), exactly."""
    from fractions import Fraction

    return math.floor(Fraction(value) / Fraction(scale) + Fraction(1, 2))


def test_power_of_two_step_fills_the_precision() -> None:
    done = quantise_fixed([0.0, 0.3, 5.9], precision=8)
    assert (done.exponent, done.scale) == (5, 1 / 32)
    assert done.tensor.values.tolist() == [0, 10, 189]
    assert (done.tensor.bits, done.tensor.signed, done.tensor.precision) == (16, False, 8)


def test_the_sign_is_part_of_the_precision() -> None:
    done = quantise_fixed([-5.9, 0.3, 1.0], precision=8)
    assert done.exponent == 4
    assert done.tensor.values.tolist() == [-94, 5, 16]
    assert done.tensor.signed


def test_range_of_two_s_complement_is_used_to_its_end() -> None:
    assert quantise_fixed([-1.0, 0.5], precision=8).tensor.values.tolist() == [-128, 64]
    assert quantise_fixed([-1.0, 1.0], precision=8).tensor.values.tolist() == [-64, 64]


@settings(max_examples=100, deadline=None)
@given(
    values=st.lists(reals, min_size=1, max_size=20),
    precision=st.integers(2, 16),
    signed=st.sampled_from([None, True]),
)
def test_fixed_point_is_exact_half_up_and_fits(values, precision, signed) -> None:
    array = np.array(values, np.float32)
    done = quantise_fixed(array, precision, signed=signed)
    assert done.tensor.values.tolist() == [slow_half_up(float(v), done.scale) for v in array]
    assert int(group_widths(done.tensor, len(values)).max()) <= precision
    assert np.abs(done.dequantise() - array).max() <= done.scale / 2
    # The next smaller step would not fit.
    if array.any():
        finer = [slow_half_up(float(v), done.scale / 2) for v in array]
        magnitude = precision - done.tensor.signed
        assert max(finer) > 2**magnitude - 1 or min(finer) < -(2**magnitude)


def test_ties_go_up_and_almost_ties_do_not() -> None:
    almost = np.nextafter(0.5, 0)
    values = np.array([0.5, -0.5, 1.5, -1.5, almost, -almost, 100.0, -100.0])
    done = quantise_fixed(values, 8)
    assert done.scale == 1.0
    assert done.tensor.values.tolist() == [1, 0, 2, -1, 0, 0, 100, -100]


def test_a_calibrated_limit_decides_the_scale_and_saturates() -> None:
    done = quantise_fixed([-9.0, -1.0, 0.25, 1.0, 9.0], 8, limit=1.0)
    assert done.scale == 1 / 64
    assert done.tensor.values.tolist() == [-128, -64, 16, 64, 127]
    unsigned = quantise_fixed([-9.0, 1.0, 9.0], 8, signed=False, limit=1.0)
    assert unsigned.tensor.values.tolist() == [0, 128, 255]
    assert unsigned.scale == quantise_fixed([0.1], 8, signed=False, limit=1.0).scale


def test_8_bit_non_negative_has_zero_point_zero() -> None:
    done = quantise_8bit([0.0, 1.0, 2.0, 4.0])
    assert done.tensor.values.tolist() == [0, 64, 128, 255]
    assert (done.tensor.bits, done.tensor.signed, done.exponent) == (8, False, None)
    assert done.scale == 4 / 255


def test_8_bit_signed_is_symmetric() -> None:
    done = quantise_8bit([-4.0, 0.0, 2.0, 4.0])
    assert done.tensor.values.tolist() == [-127, 0, 64, 127]
    assert quantise_8bit([-4.0, 1.0]).tensor.values.tolist() == [-127, 32]
    clipped = quantise_8bit([-9.0, 9.0], limit=1.0)
    assert clipped.tensor.values.tolist() == [-127, 127]


@settings(max_examples=60, deadline=None)
@given(values=st.lists(reals, min_size=1, max_size=20))
def test_8_bit_error_is_half_a_step(values) -> None:
    array = np.array(values)
    done = quantise_8bit(array)
    assert np.abs(done.dequantise() - array).max() <= done.scale * 0.500001


@pytest.mark.parametrize("signed", [None, True, False])
def test_all_zeros(signed) -> None:
    for done in (quantise_fixed(np.zeros((3, 2)), 9, signed=signed), quantise_8bit(np.zeros((3, 2)), signed)):
        assert not done.tensor.values.any()
        assert done.tensor.shape == (3, 2)
        assert done.scale == 1.0


@pytest.mark.parametrize("tiny", [5e-324, 1e-310, 1e-300, 1e300])
def test_extreme_magnitudes(tiny) -> None:
    for done in (quantise_fixed([tiny, 0.0], 8), quantise_8bit([-tiny, tiny])):
        assert done.scale > 0
        assert np.isfinite(done.dequantise()).all()
    assert quantise_fixed([tiny * 2, 1e308], 8, limit=1e-3).tensor.values[1] == 255


def test_blocks_do_not_show(monkeypatch) -> None:
    values = np.random.default_rng(0).normal(size=(70, 30)).astype(np.float32)
    whole = quantise_fixed(values, 10).tensor.values
    monkeypatch.setattr("dpred_sim.values.quantise.BLOCK", 7)
    assert (quantise_fixed(values, 10).tensor.values == whole).all()
    assert (quantise_fixed(values.T, 10).tensor.values == whole.T).all()


@pytest.mark.parametrize(
    ("array", "text"),
    [
        ([1.0, math.nan], "1 of 2"),
        ([math.inf, -math.inf, 0.0], "2 of 3"),
        (np.zeros((0, 3)), "no values"),
        (np.array([1j]), "not real"),
        (np.array(["x"]), "not real"),
    ],
)
@pytest.mark.parametrize(
    "how", [lambda a: quantise_fixed(a, 8, name="conv1"), lambda a: quantise_8bit(a, name="conv1")]
)
def test_what_cannot_be_quantised_is_refused_by_name(array, text, how) -> None:
    with pytest.raises(InputError, match=text) as caught:
        how(array)
    assert "conv1" in str(caught.value)


@pytest.mark.parametrize("precision", [0, 17, -3])
def test_precision_out_of_range(precision) -> None:
    with pytest.raises(InputError, match="precision"):
        quantise_fixed([1.0], precision)


def test_other_arguments_out_of_range() -> None:
    with pytest.raises(InputError, match="precision"):
        quantise_fixed([-1.0], 1)
    with pytest.raises(InputError, match="bits"):
        quantise_fixed([1.0], 8, bits=12)
    for limit in (-1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="limit"):
            quantise_8bit([1.0], limit=limit)


@given(
    array=hnp.arrays(
        np.float32, hnp.array_shapes(max_dims=4, max_side=6), elements=st.floats(-8, 8, width=32)
    ),
    sparsity=st.floats(0, 1),
)
def test_pruning_sets_the_smallest_to_zero(array: np.ndarray, sparsity: float) -> None:
    left = pruned(array, sparsity)
    assert left.shape == array.shape and left.dtype == array.dtype
    count = round(sparsity * array.size)
    order = sorted(range(array.size), key=lambda i: (abs(array.flat[i]), i))
    expected = array.copy()
    expected.flat[order[:count]] = 0
    assert np.array_equal(left, expected)


def test_pruning_takes_the_first_of_equals_and_leaves_its_argument() -> None:
    array = np.array([[2.0, -1.0], [1.0, -1.0]])
    assert pruned(array, 0.5).tolist() == [[2.0, 0.0], [0.0, -1.0]]
    assert array[0, 1] == -1.0
    assert pruned(np.array([-128, 3, 4], np.int8), 1 / 3).tolist() == [-128, 0, 4]


@pytest.mark.parametrize(
    ("array", "sparsity", "message"),
    [
        ([1.0, 2.0], 1.5, "w: sparsity: sparsity; found 1.5; allowed: 0 to 1"),
        ([1.0, 2.0], True, "w: sparsity"),
        ([1.0, np.nan], 0.5, "1 of 2 are NaN or infinite"),
        ([], 0.5, "no values"),
        (["a"], 0.5, "not real numbers"),
    ],
)
def test_what_pruning_refuses(array: list, sparsity: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        pruned(array, sparsity, "w")


@given(
    array=hnp.arrays(
        np.float32, hnp.array_shapes(max_dims=4, max_side=6), elements=st.floats(-8, 8, width=32)
    ),
    data=st.data(),
)
def test_a_scale_for_each_channel_is_quantising_channel_by_channel(array: np.ndarray, data) -> None:
    axis = data.draw(st.integers(-array.ndim, array.ndim - 1))
    signed = bool(array.min() < 0)
    made = quantise_8bit_channels(array, axis)
    assert (made.tensor.bits, made.tensor.precision, made.tensor.signed) == (8, 8, signed)
    assert made.tensor.shape == array.shape
    for index in range(array.shape[axis]):
        channel = np.take(array, [index], axis)
        alone = quantise_8bit(channel, signed=signed)
        assert np.array_equal(np.take(made.tensor.values, [index], axis), alone.tensor.values)
        assert made.scale[index] == alone.scale
    error = np.abs(made.dequantise() - array)
    shape = [1] * array.ndim
    shape[axis] = -1
    assert (error <= made.scale.reshape(shape) * 0.5000001).all()


def test_every_channel_fills_its_range() -> None:
    """Why scales by channel leave nothing to group widths: real per-channel models show it (1.01 of raw)."""
    rng = np.random.default_rng(0)
    array = rng.laplace(0, 1, (64, 3, 3, 64)) * np.exp(rng.normal(0, 1, (64, 1, 1, 1)))
    by_channel, by_tensor = quantise_8bit_channels(array).tensor, quantise_8bit(array).tensor
    assert (np.abs(by_channel.values.astype(int)).max(axis=(1, 2, 3)) == 127).all()
    plain = codec("dpred", mode="plain")
    assert plain.size_bits(by_channel) > 1.3 * plain.size_bits(by_tensor)


def test_an_axis_that_is_not_there() -> None:
    with pytest.raises(InputError, match="w: axis: axis; found 2; allowed: one of 2 axes"):
        quantise_8bit_channels(np.ones((2, 2)), 2, name="w")
