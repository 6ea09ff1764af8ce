from __future__ import annotations

import subprocess
import sys
from statistics import NormalDist

import numpy as np
import pytest

from dpred_sim.errors import InputError
from dpred_sim.values import synthetic
from dpred_sim.values.synthetic import normal_quantile, synthetic_activations, synthetic_weights
from dpred_sim.values.tensor import Tensor
from dpred_sim.values.widths import group_stats


def ratios(x, prefix: int) -> tuple[float, float]:
    """Stored bits over raw bits with groups of 16: plain, and with zero flags."""
    stats = group_stats(x, 16)
    widths = stats.widths.astype(float)
    plain = prefix + 16 * widths
    zeros = prefix + 16 + widths * stats.nonzeros
    return plain.mean() / (16 * x.bits), zeros.mean() / (16 * x.bits)


@pytest.mark.parametrize(
    ("make", "bits", "precision", "prefix", "plain", "zeros"),
    [
        # Ratios of the generator's source: a draw of 2^19 values whose maximum fills the format.
        (synthetic_weights, 16, 16, 4, 0.874, 0.936),
        (synthetic_weights, 8, 8, 3, 0.744, 0.810),
        (synthetic_activations, 16, 15, 4, 0.848, 0.619),
        (synthetic_activations, 8, 8, 3, 0.813, 0.657),
    ],
)
def test_groups_compress_as_measured_for_this_distribution(
    make, bits, precision, prefix, plain, zeros
) -> None:
    found = np.mean(
        [ratios(make((512, 1024), bits, precision, seed, "x"), prefix) for seed in range(4)], axis=0
    )
    assert found == pytest.approx([plain, zeros], abs=0.03)


@pytest.mark.parametrize("make", [synthetic_weights, synthetic_activations])
def test_groups_are_narrower_than_the_profiled_precision(make) -> None:
    # 0.69 in real networks; identically distributed values give 0.82 (weights) and 0.88 (activations).
    x = make((512, 1024), 16, 9, 0, "x")
    assert 0.65 < group_stats(x, 16).widths.mean() / 9 < 0.82


def test_share_of_zeros() -> None:
    activations = synthetic_activations((256, 1024), 16, 15, 0, "x").load().values
    assert (activations == 0).mean() == pytest.approx(NormalDist().cdf(-0.385), abs=0.005)
    weights = synthetic_weights((256, 1024), 16, 16, 0, "x").load().values
    assert (weights == 0).mean() < 0.002
    assert abs((weights > 0).mean() - 0.5) < 0.005


@pytest.mark.parametrize("shape", [(1,), (5,), (1023,), (1025,), (3, 700), (2, 3, 4, 5), (600, 1000)])
@pytest.mark.parametrize(("bits", "precision"), [(8, 8), (8, 3), (16, 16), (16, 9), (16, 2)])
def test_the_largest_magnitude_fills_the_precision(shape, bits, precision) -> None:
    weights = synthetic_weights(shape, bits, precision, 1, "w").load()
    assert np.abs(weights.values.astype(int)).max() == 2 ** (precision - 1) - 1
    activations = synthetic_activations(shape, bits, precision, 1, "a").load()
    assert activations.values.max() in (2**precision - 1, 0 if np.prod(shape) == 1 else -1)
    for x, signed in ((weights, True), (activations, False)):
        assert isinstance(x, Tensor)
        assert (x.shape, x.bits, x.signed, x.precision) == (shape, bits, signed, precision)
        assert x.values.dtype == f"{'i' if signed else 'u'}{bits // 8}"


def test_the_search_for_the_maximum_may_stop_early(monkeypatch) -> None:
    # The first of four pieces holds the largest value that there can be.
    monkeypatch.setattr(synthetic, "_factors", lambda: np.ones(256))
    recipe = synthetic_weights((1 << 20,), 16, 16, 0, "w").recipe
    looked_at = 0

    def counted():
        nonlocal looked_at
        for item in synthetic.Recipe._draws(recipe):
            looked_at += 1
            yield item

    object.__setattr__(recipe, "_draws", counted)
    largest = recipe._largest()
    assert looked_at == 1
    assert largest == pytest.approx(np.log(1 << 16))


def test_one_patch_shares_a_factor() -> None:
    x = synthetic_weights((400, 1024), 16, 16, 0, "w").load().values.astype(float)
    spread = np.log(np.abs(x).mean(axis=1))
    assert spread.std() == pytest.approx(0.3, abs=0.04)  # 1024 Laplace magnitudes add 0.03


def test_blocks_are_what_load_gives() -> None:
    for make in (synthetic_weights, synthetic_activations):
        x = make((700, 1000), 16, 12, 3, "x")
        joined = np.concatenate([piece.copy() for piece in x.blocks()])
        assert (joined == x.load().values.ravel()).all()


def test_analysis_piece_by_piece_is_that_of_the_whole(monkeypatch) -> None:
    whole = group_stats(synthetic_weights((900, 433), 8, 7, 0, "w"), 16)
    monkeypatch.setattr("dpred_sim.values.widths.BLOCKWISE_FROM", 1000)
    pieces = group_stats(synthetic_weights((900, 433), 8, 7, 0, "w"), 16)
    assert (whole.widths == pieces.widths).all()
    assert (whole.nonzeros == pieces.nonzeros).all()


def test_values_depend_on_seed_name_and_role_alone() -> None:
    def values(make=synthetic_weights, seed=0, name="a", shape=(64, 64)):
        return make(shape, 16, 16, seed, name).load().values

    first = values()
    assert (values() == first).all()
    values(name="other")
    assert (values() == first).all()
    assert (values(name="b") != first).any()
    assert (values(seed=1) != first).any()
    draws = [next(iter(synthetic_weights((64, 64), bits, 8, 0, "a").recipe._draws()))[1] for bits in (8, 16)]
    assert (draws[0] == draws[1]).all()
    other = next(iter(synthetic_activations((64, 64), 16, 8, 0, "a").recipe._draws()))[1]
    assert (other != draws[0]).any()


def test_values_do_not_depend_on_the_process() -> None:
    program = (
        "from dpred_sim.values.synthetic import synthetic_weights as w;"
        "print(w((40, 40), 16, 12, 7, 'conv1').load().digest)"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    digests.add(synthetic_weights((40, 40), 16, 12, 7, "conv1").load().digest + "\n")
    assert len(digests) == 1


def test_normal_quantiles() -> None:
    p = np.concatenate([(np.arange(2000) + 0.5) / 2000, [0.5 / 65536, 1 - 0.5 / 65536, 0.5, 0.075, 0.925]])
    expected = [NormalDist().inv_cdf(value) for value in p]
    assert normal_quantile(p) == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize(
    ("shape", "bits", "precision", "text"),
    [
        ((0, 3), 8, 8, "shape"),
        ((), 8, 8, "shape"),
        ((3,), 12, 8, "bits"),
        ((3,), 8, 9, "precision"),
        ((3,), 8, 0, "precision"),
    ],
)
def test_formats_that_cannot_be(shape, bits, precision, text) -> None:
    for make in (synthetic_weights, synthetic_activations):
        with pytest.raises(InputError, match=text):
            make(shape, bits, precision, 0, "x")
    with pytest.raises(InputError, match="precision"):
        synthetic_weights((3,), 8, 1, 0, "x")
