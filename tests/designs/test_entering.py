"""The parts that units work on: what enters in which cycle, one value at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpred_sim.designs import entering
from dpred_sim.designs.base import design
from dpred_sim.designs.functional import Operand
from dpred_sim.designs.loop_nest import Nest
from dpred_sim.values.tensor import Tensor
from dpred_sim.workload.layer import Layer

LANES = 4
VALUES = st.lists(
    st.lists(st.one_of(st.just(0), st.integers(-5, 5), st.integers(-32768, 32767)), min_size=4, max_size=4),
    min_size=1,
    max_size=3,
)


def operand(rows: list[list[int]], signed: bool = True, blocks: int = 1, pe_width: int = 16) -> Operand:
    """Windows of one brick each."""
    x = Tensor(np.array(rows)[:, None], 16, signed)
    layer = Layer.conv2d("c", x, Tensor(np.ones((1, 1, 1, LANES), int)))
    made: Any = design("stripes", lanes=LANES, columns=16, pe_width=pe_width)
    values = x.values.astype(np.int32)[:, :, None]
    return Operand(Nest(made, layer), 0, np.arange(len(rows)), values, signed, blocks)


def parts(enter: entering.Enter, one: Operand) -> list[tuple[int, list[list[int]]]]:
    shape = one.values.shape
    return [(e, np.broadcast_to(d, shape)[:, 0, 0].astype(int).tolist()) for e, d in enter(one)]


def total(found: list[tuple[int, list[list[int]]]]) -> list[list[int]]:
    summed: list[list[int]] = sum(np.array(digits) << exponent for exponent, digits in found).tolist()  # type: ignore[attr-defined]
    return summed


@settings(max_examples=40, deadline=None)
@given(VALUES, st.integers(1, 16))
def test_bits_enter_from_the_bottom_and_the_top_one_is_negative(rows: list[list[int]], bits: int) -> None:
    found = parts(entering.bit_serial(entering.always(bits)), operand(rows))
    assert [exponent for exponent, _ in found] == list(range(bits))
    for exponent, digits in found:
        sign = -1 if exponent == bits - 1 else 1
        assert digits == [[sign * (v >> exponent & 1) for v in row] for row in rows]


@settings(max_examples=40, deadline=None)
@given(VALUES, st.sampled_from([8, 5]))
def test_blocks_have_bits_of_their_own(rows: list[list[int]], size: int) -> None:
    blocks = -(-16 // size)
    one = operand(rows, blocks=blocks, pe_width=size)
    found = parts(entering.bit_serial(entering.always(size)), one)
    assert len(found) == blocks * size and total(found) == rows
    lower = parts(entering.bit_serial(entering.always(size - 1)), one)
    top = (blocks - 1) * size
    for exponent, digits in lower:
        negative = exponent >= top and exponent - top == size - 2
        assert digits == [[(-1 if negative else 1) * (v >> exponent & 1) for v in row] for row in rows]


def recoded(value: int, recoding: bool) -> list[int]:
    """Signed powers of two of a value, lowest first (the rule itself is tested elsewhere)."""
    plus, minus = abs(value), 0
    if recoding:
        plus, minus = (int(mask[abs(value)]) for mask in entering.digit_masks())
    sign = -1 if value < 0 else 1
    found = [sign << i for i in range(17) if plus >> i & 1] + [
        -sign << i for i in range(17) if minus >> i & 1
    ]
    return sorted(found, key=abs)


@settings(max_examples=40, deadline=None)
@given(VALUES, st.booleans())
def test_a_plane_holds_the_terms_of_its_position(rows: list[list[int]], recoding: bool) -> None:
    for exponent, digits in parts(entering.term_planes(recoding), operand(rows)):
        terms = [[[t for t in recoded(v, recoding) if abs(t) == 1 << exponent] for v in row] for row in rows]
        assert digits == [[sum(t) >> exponent for t in row] for row in terms]


@settings(max_examples=60, deadline=None)
@given(VALUES, st.booleans(), st.sampled_from([1, 2, 4, 32]), st.integers(1, 17))
def test_units_take_the_terms_within_reach(
    rows: list[list[int]], recoding: bool, reach: int, cycles: int
) -> None:
    found = parts(entering.shifted_terms(entering.always(cycles), recoding, reach), operand(rows))
    assert len(found) == cycles
    for unit, row in enumerate(rows):
        left = [recoded(v, recoding) for v in row]
        for _, digits in found:
            lowest = min((abs(terms[0]) for terms in left if terms), default=1)
            taken = [terms[0] if terms and abs(terms[0]) < lowest << reach else 0 for terms in left]
            assert digits[unit] == taken
            left = [terms[1:] if t else terms for terms, t in zip(left, taken, strict=True)]


@settings(max_examples=40, deadline=None)
@given(VALUES, st.integers(1, 5))
def test_non_zeros_enter_one_a_cycle(rows: list[list[int]], cycles: int) -> None:
    found = parts(entering.nonzeros(entering.always(cycles)), operand(rows))
    for unit, row in enumerate(rows):
        packed = [(offset, v) for offset, v in enumerate(row) if v][:cycles]
        for cycle, (_, digits) in enumerate(found):
            picked = [packed[cycle]] if cycle < len(packed) else []
            assert [(offset, v) for offset, v in enumerate(digits[unit]) if v] == picked


@settings(max_examples=40, deadline=None)
@given(VALUES, st.booleans())
def test_bricks_of_two_bits(rows: list[list[int]], signed: bool) -> None:
    rows = rows if signed else [[v + 32768 for v in row] for row in rows]
    found = parts(entering.two_bit_bricks(16), operand(rows, signed))
    assert [exponent for exponent, _ in found] == list(range(0, 16, 2)) and total(found) == rows
    for exponent, digits in found:
        low = -2 if signed and exponent == 14 else 0
        assert all(low <= d <= low + 3 for row in digits for d in row)


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_groups_skip_the_bits_that_they_share(columns: int) -> None:
    rows = [[8, 24, 0, 0], [4, 0, 0, 0], [0, 0, 0, 0], [-32, 0, 0, 0], [1, 0, 0, 0]]
    lows = entering.lows_of_columns(columns)(operand(rows))[0, :, 0, 0].tolist()
    assert lows == {1: [3, 2, 0, 5, 0], 2: [2, 2, 5, 5, 0], 3: [2, 2, 2, 0, 0]}[columns]
