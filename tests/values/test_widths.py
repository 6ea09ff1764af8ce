from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpred_sim.errors import InputError
from dpred_sim.values import widths as module
from dpred_sim.values.tensor import LazyTensor, Tensor
from dpred_sim.values.widths import channel_runs, group_stats, group_widths, layout, value_widths

GROUP_SIZES = (1, 3, 8, 16, 32, 256, 300)


def slow_width(value: int, signed: bool) -> int:
    """The rule, one value at a time."""
    if signed:
        return max(1, (value if value >= 0 else ~value).bit_length()) + 1
    return max(1, value.bit_length())


def slow_stats(x: Tensor, group_size: int) -> tuple[list[int], list[int]]:
    """Widths and non-zero counts of the groups along the last axis, one value at a time."""
    widths, nonzeros = [], []
    for run in x.values.reshape(-1, x.shape[-1]).tolist():
        for start in range(0, len(run), group_size):
            group = run[start : start + group_size]
            widths.append(max(slow_width(value, x.signed) for value in group))
            nonzeros.append(sum(value != 0 for value in group))
    return widths, nonzeros


def drawn(shape, bits: int, signed: bool, seed: int) -> Tensor:
    """Values of all widths, zeros and extremes among them."""
    rng = np.random.default_rng(seed)
    kind = np.dtype(f"{'i' if signed else 'u'}{bits // 8}")
    info = np.iinfo(kind)
    values = rng.integers(info.min, info.max, shape, kind, endpoint=True)
    values >>= rng.integers(0, bits, shape).astype(kind)
    values[rng.random(shape) < 0.3] = 0
    values.flat[0] = info.min
    values.flat[-1] = info.max
    return Tensor(values, bits, signed)


@pytest.mark.parametrize(
    ("value", "signed", "width"),
    [
        (0, False, 1),
        (1, False, 1),
        (2, False, 2),
        (255, False, 8),
        (256, False, 9),
        (65535, False, 16),
        (0, True, 2),
        (-1, True, 2),
        (1, True, 2),
        (-2, True, 2),
        (2, True, 3),
        (-3, True, 3),
        (127, True, 8),
        (-128, True, 8),
        (128, True, 9),
        (-129, True, 9),
        (-32768, True, 16),
    ],
)
def test_width_of_a_value(value, signed, width) -> None:
    kind = np.int16 if signed else np.uint16
    assert value_widths(np.array([[value]], kind), signed).tolist() == [[width]]
    assert group_widths(Tensor(np.array([value]), 16, signed), 16).tolist() == [width]


@pytest.mark.parametrize(("bits", "signed"), [(8, False), (8, True), (16, False), (16, True)])
def test_every_value_of_a_format(bits, signed) -> None:
    info = np.iinfo(f"{'i' if signed else 'u'}{bits // 8}")
    values = np.arange(info.min, info.max + 1).astype(info.dtype)
    expected = [slow_width(value, signed) for value in values.tolist()]
    assert value_widths(values, signed).tolist() == expected
    assert group_widths(Tensor(values, bits, signed), 1).tolist() == expected


def test_a_signed_tensor_of_an_unsigned_dtype_pays_for_the_sign() -> None:
    assert value_widths(np.array([0, 1, 255], np.uint8), True).tolist() == [2, 2, 9]


@settings(max_examples=60, deadline=None)
@given(
    shape=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    bits=st.sampled_from([8, 16]),
    signed=st.booleans(),
    group_size=st.sampled_from(GROUP_SIZES),
    seed=st.integers(0, 99),
)
def test_groups_agree_with_one_value_at_a_time(shape, bits, signed, group_size, seed) -> None:
    x = drawn(tuple(shape), bits, signed, seed)
    stats = group_stats(x, group_size)
    widths, nonzeros = slow_stats(x, group_size)
    assert stats.widths.shape == (*shape[:-1], -(-shape[-1] // group_size))
    assert stats.widths.ravel().tolist() == widths
    assert stats.nonzeros.ravel().tolist() == nonzeros
    assert (group_widths(x, group_size) == stats.widths).all()


@pytest.mark.parametrize(("bits", "signed"), [(8, False), (8, True), (16, False), (16, True)])
@pytest.mark.parametrize("shape", [(1000, 40), (40_000,), (3, 13_000), (12_345, 3), (6_000, 7)])
@pytest.mark.parametrize("group_size", [1, 3, 16, 20])
def test_more_values_than_one_block(monkeypatch, shape, bits, signed, group_size) -> None:
    monkeypatch.setattr(module, "BLOCK_BYTES", 1 << 12)
    x = drawn(shape, bits, signed, 5)
    stats = group_stats(x, group_size)
    per_value = value_widths(x.values, signed).reshape(-1, shape[-1])
    starts = np.arange(0, shape[-1], group_size)
    assert (stats.widths.ravel() == np.maximum.reduceat(per_value, starts, axis=1).ravel()).all()
    counts = np.add.reduceat((x.values != 0).reshape(-1, shape[-1]).astype(int), starts, axis=1)
    assert (stats.nonzeros.ravel() == counts.ravel()).all()


@pytest.mark.parametrize("group_size", [254, 255, 256, 257, 1000])
def test_counts_of_large_groups_do_not_overflow(group_size) -> None:
    x = Tensor(np.ones((2, 1000), np.uint8), 8, False)
    nonzeros = group_stats(x, group_size).nonzeros
    assert int(nonzeros.sum()) == 2000
    assert nonzeros[0, 0] == min(group_size, 1000)
    assert nonzeros.dtype == (np.uint8 if group_size <= 255 else np.uint16)


def test_a_layout_decides_which_values_make_a_group() -> None:
    values = np.zeros((2, 6, 3), np.uint8)
    values[0, 5, 2] = 200  # value 17 of its row, so in the row's second group
    x = Tensor(values, 8, False)
    rows = group_stats(x, 16, layout(x.shape, 16))
    assert rows.widths.tolist() == [[1, 8], [1, 1]]
    assert rows.nonzeros.tolist() == [[0, 1], [0, 0]]
    assert group_widths(x, 16).tolist() == [[[1]] * 5 + [[8]], [[1]] * 6]


def test_values_are_made_and_looked_at_once() -> None:
    made = []

    def make() -> Tensor:
        made.append(1)
        return Tensor(np.arange(64).reshape(2, 32), 8, False)

    x = LazyTensor((2, 32), 8, 8, False, make)
    other = LazyTensor((1,), 8, 8, False, lambda: Tensor(np.array([1]), 8, False))
    first = group_widths(x, 16)
    other.load()  # x's values are not kept any longer
    assert group_widths(x, 16) is first
    assert group_stats(x, 16).widths is first
    assert group_stats(x, 16, layout(x.shape, 16)).widths is first
    assert made == [1]


def test_results_cannot_be_changed_by_accident() -> None:
    widths = group_widths(Tensor(np.arange(16), 8), 16)
    with pytest.raises(ValueError, match="read-only"):
        widths[0] = 1


class InPieces(LazyTensor):
    """Also made in pieces of a size that fits nothing."""

    piece = 1000

    def blocks(self) -> Iterator[np.ndarray]:
        flat = self.make().values.reshape(-1)
        room = np.empty(self.piece, flat.dtype)
        for start in range(0, len(flat), self.piece):
            part = flat[start : start + self.piece]
            room[: len(part)] = part
            yield room[: len(part)]


@pytest.mark.parametrize("shape", [(90, 64), (64, 90), (7, 1234), (8001,), (40, 30, 5), (50, 3, 5, 7)])
@pytest.mark.parametrize("group_size", [1, 16, 24, 5000])
def test_a_tensor_made_piece_by_piece(monkeypatch, shape, group_size) -> None:
    monkeypatch.setattr(module, "BLOCKWISE_FROM", 0)
    x = drawn(shape, 16, True, 3)
    pieces = InPieces(shape, 16, 16, True, lambda: x)
    pieces.load = None  # type: ignore[method-assign, assignment]  # must not be needed
    for order in (channel_runs(shape), layout(shape, group_size)):
        whole, piecewise = (group_stats(source, group_size, order) for source in (x, pieces))
        assert (whole.widths == piecewise.widths).all()
        assert (whole.nonzeros == piecewise.nonzeros).all()


def test_wrong_arguments() -> None:
    x = Tensor(np.arange(16), 8)
    for size in (0, -4, 1.5):
        with pytest.raises(InputError, match="group_size"):
            group_widths(x, size)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="group_size"):
            group_stats(x, size)  # type: ignore[arg-type]
    for values in (np.zeros(3), np.zeros(3, np.int64)):
        with pytest.raises(InputError, match="dtype"):
            value_widths(values, True)
