"""Arithmetic-coded ranges: the table, the coder's length, several streams, calibrated tables."""

from __future__ import annotations

from dataclasses import replace
from math import log2

import numpy as np
import pytest

from dpred_sim.codecs.apack import Apack, histogram
from dpred_sim.codecs.apack_table import RANGES, TOTAL, Table, searched
from dpred_sim.codecs.base import codec
from dpred_sim.errors import InputError
from dpred_sim.values.tensor import Tensor


def laplace(count: int, bits: int = 8, scale: float = 6.0, seed: int = 0) -> Tensor:
    values = np.random.default_rng(seed).laplace(0, scale, count).round()
    most = (1 << (bits - 1)) - 1
    return Tensor(np.clip(values, -most, most).astype(int), bits, True)


def ideal_bits(table: Table, counts: np.ndarray) -> float:
    """Coded bits if the coder wasted nothing, and offsets."""
    occurs = np.bincount(table.index, counts, RANGES)
    return sum(
        n * (log2(1024 / table.counts[row]) + int(table.offset_bits[row]))
        for row, n in enumerate(occurs)
        if n
    )


def underflow_coder_bits(x: Tensor, table: Table) -> int:
    """The textbook coder: two bounds of 16 bits, and a count of underflow bits (Witten, Neal, Cleary)."""
    half, quarter = 1 << 15, 1 << 14
    total = 0
    patterns = x.values.reshape(-1).astype(np.int64) % (1 << x.bits)
    for start in range(0, len(patterns), 1024):
        low, high, out = 0, (1 << 16) - 1, 0
        for pattern in patterns[start : start + 1024].tolist():
            row = table.index[pattern]
            span = high - low + 1
            below, count = int(table.below[row]), table.counts[row]
            high = low + span * (below + count) // 1024 - 1
            low = low + span * below // 1024
            while True:
                if high < half:
                    pass
                elif low >= half:
                    low, high = low - half, high - half
                elif low >= quarter and high < 3 * quarter:
                    low, high = low - quarter, high - quarter
                else:
                    break
                low, high, out = 2 * low, 2 * high + 1, out + 1
            out += int(table.offset_bits[row])
        total += out + 2 + 16
    return total


def test_ranges_and_counts_by_hand() -> None:
    values = np.array([0] * 900 + [7] * 100 + [200] * 24)
    x = Tensor(values, 8, False)
    table = searched(histogram(x), 8)
    used = {first: n for first, n in zip(table.firsts, table.counts, strict=True) if n}
    # 0, 7 and 200 alone: shorter ranges would not save anything, longer ones need offsets.
    assert used == {0: TOTAL - 99 - 23, 7: 99, 200: 23}
    assert table.offset_bits[table.index[[0, 7]]].tolist() == [0, 0]
    size = codec("apack").size_bits(x)
    header = RANGES * (8 + 4 + 10)
    offsets = 24 * int(table.offset_bits[table.index[200]])
    entropy = 900 * log2(1024 / 901) + 100 * log2(1024 / 99) + 24 * log2(1024 / 23)
    assert header + 16 + entropy + offsets < size < header + 16 + entropy + offsets + 4


def test_the_search_finds_no_worse_table_than_others_over_the_same_places() -> None:
    rng = np.random.default_rng(5)
    for scale in (0.5, 3, 25):
        counts = histogram(laplace(20_000, scale=scale))
        found = ideal_bits(searched(counts, 8), counts)
        places = np.array([*range(16), *range(16, 128, 8), *range(128, 240, 8), *range(240, 256)])
        for _ in range(200):
            firsts = [0, *sorted(rng.choice(places[1:], RANGES - 1, replace=False).tolist())]
            occurs = np.add.reduceat(counts, firsts)
            ends = [*firsts[1:], 256]
            other = sum(
                n * (min(10, log2(occurs.sum() / n)) + (end - first - 1).bit_length())
                for n, first, end in zip(occurs, firsts, ends, strict=True)
                if n
            )
            assert found <= other * 1.002


@pytest.mark.parametrize(("bits", "scale"), [(8, 2.0), (8, 25.0), (16, 40.0), (16, 2000.0)])
def test_the_coder_wastes_little_and_as_much_as_the_textbook_s(bits: int, scale: float) -> None:
    x = laplace(6000, bits, scale)
    made = Apack()
    table = searched(histogram(x), bits)
    size = made.size_bits(x) - made.header_bits(x)
    ideal = ideal_bits(table, histogram(x))
    assert ideal <= size - 6 * 16 <= ideal * 1.0005 + 6 * 3
    assert abs(size - underflow_coder_bits(x, table)) <= 6 * 2 + 0.0005 * size


def test_many_streams_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpred_sim.codecs.apack.STREAMS", 3)
    x = laplace(9 * 1024 + 5)
    made = codec("apack")
    encoded = made.encode(x)
    assert encoded.size_bits == made.size_bits(x) == made.header_bits(x) + int(made.group_bits(x).sum())
    assert np.array_equal(made.decode(encoded).values, x.values)


def test_streams_begin_anew() -> None:
    x = laplace(1024)
    twice = Tensor(np.tile(x.values, 2), 8, True)
    made = Apack(table=searched(histogram(x), 8))
    header = made.header_bits(x)
    assert made.size_bits(twice) - header == 2 * (made.size_bits(x) - header)


def test_a_carry_runs_through_the_whole_code() -> None:
    """A code of ones that the last step turns over: the sum is carried word by word."""
    table = Table(8, (0,) * 14 + (0, 128), (0,) * 14 + (1, 1022))
    for tail in ([0], [200], [0, 200], [200] * 7):
        x = Tensor(np.array([200] * 1000 + tail), 8, False)
        made = Apack(table=table)
        assert np.array_equal(made.decode(made.encode(x)).values, x.values)


def test_a_calibrated_table_codes_what_it_has_not_seen() -> None:
    seen, other = Tensor(np.array([0, 1, 2, 3] * 500), 8, False), Tensor(np.arange(256), 8, False)
    made = Apack().fitted(histogram(seen), 8)
    assert made.decode(made.encode(other)).values.tolist() == list(range(256))
    # Being ready for everything costs little on what was expected.
    assert codec("apack").size_bits(seen) <= made.size_bits(seen) <= 1.03 * codec("apack").size_bits(seen)
    assert made.size_bits(other) > 8 * 256
    with pytest.raises(InputError, match="another width; found 8; allowed: 16"):
        made.size_bits(Tensor(np.array([1]), 16, False))


def test_a_table_of_the_tensor_itself_may_leave_values_out() -> None:
    x = Tensor(np.full(5000, 77), 8, False)
    table = searched(histogram(x), 8)
    assert table.counts[table.index[77]] == TOTAL
    # A value in 1023 of 1024 parts costs 0.0014 bits.
    assert Apack().size_bits(x) < Apack().header_bits(x) + 5 * (16 + 2 + 3)


def test_damaged_tables() -> None:
    x = laplace(3000)
    encoded = codec("apack").encode(x)
    head = encoded.payload
    for byte in range(44):
        payload = bytearray(head)
        payload[byte] ^= 0xFF
        broken = replace(encoded, payload=bytes(payload))
        try:
            back = codec("apack").decode(broken)
        except InputError as error:
            assert "damaged container" in str(error)
        else:
            assert not np.array_equal(back.values, x.values)
