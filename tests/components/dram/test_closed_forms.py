"""`dram bench` on every standard against closed forms."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from dpred_sim.components.dram import bench, patterns
from dpred_sim.components.dram.mapping import Mapping
from dpred_sim.components.dram.model import make_model
from dpred_sim.components.dram.patterns import Access
from dpred_sim.components.dram.standard import Standard, load_standard, standard_names

LEVELS = ["banked", "burst"]
BURSTS = {"banked": 12_000, "burst": 6_000}
"""Long enough that some refresh intervals more or less do not count."""


def refresh_factor(standard: Standard) -> float:
    """What all-bank refresh leaves of the time, rows closed and opened again."""
    timing = standard.timing
    return 1 - (timing.tRFC + timing.tRP + timing.tRCDRD) / timing.tREFI


def intervals(standard: Standard, level: str, clocks_a_burst: float) -> int:
    """Bursts that fill a whole number of refresh intervals."""
    a_period = refresh_factor(standard) * standard.timing.tREFI / clocks_a_burst
    # as many ends of refreshes as beginnings
    return int((max(2, BURSTS[level] // a_period) + 0.5) * a_period)


def fraction(standard: Standard, level: str, accesses: Iterator[Access], count: int) -> float:
    result = bench.run(standard, accesses, level=level, refresh="all_bank", requests=count)
    assert sum(result.breakdown.values()) == pytest.approx(1, abs=1e-9)
    assert min(result.breakdown.values()) >= 0
    return result.fraction_of_peak


def bursts_of_a_row(standard: Standard) -> int:
    """Bursts between an address and the same place in the next row, which default mappings have on top."""
    return standard.page_bytes() // standard.burst_bytes() * standard.banks


def first_bursts(standard: Standard) -> dict[tuple[int, int], int]:
    """The first burst of every (group, bank of the group) in row 0."""
    mapping = Mapping(None, standard)
    found: dict[tuple[int, int], int] = {}
    for number in range(bursts_of_a_row(standard)):
        place = mapping.locate(number)
        assert place.row == 0
        found.setdefault((place.group, place.bank), number)
    assert len(found) == standard.banks
    return found


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", standard_names())
def test_sequential(name: str, level: str) -> None:
    standard = load_standard(name)
    size = standard.burst_bytes()
    count = intervals(standard, level, standard.timing.nBL) * size // 2048
    reached = fraction(standard, level, patterns.seq_read(2048), count)
    assert reached == pytest.approx(refresh_factor(standard), rel=0.015)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", standard_names())
def test_one_bank_group(name: str, level: str) -> None:
    """Bursts that hit rows of one group are tCCD_L apart."""
    standard = load_standard(name)
    timing, size = standard.timing, standard.burst_bytes()
    mapping = Mapping(None, standard)

    def stream() -> Iterator[Access]:
        number = 0
        while True:
            if mapping.locate(number).group == 0:
                yield Access(number * size, size, False)
            number += 1

    count = intervals(standard, level, timing.tCCD_L)
    reached = fraction(standard, level, stream(), count)
    # a run of few refresh intervals at the `burst` level ends up to half an interval early or late
    rel = 0.015 if level == "banked" else 0.025
    assert reached == pytest.approx(refresh_factor(standard) * timing.nBL / timing.tCCD_L, rel=rel)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", standard_names())
def test_one_bank(name: str, level: str) -> None:
    """Every burst another row of the same bank: a row cycle each."""
    standard = load_standard(name)
    timing, size = standard.timing, standard.burst_bytes()
    row = bursts_of_a_row(standard) * size
    cycle = max(timing.tRC, timing.tRCDRD + timing.tRTP + timing.tRP)
    count = max(300, intervals(standard, level, cycle) // 12)
    accesses = (Access(number * row, size, False) for number in range(count))
    reached = fraction(standard, level, accesses, count)
    assert reached == pytest.approx(refresh_factor(standard) * timing.nBL / cycle, rel=0.015)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", standard_names())
def test_random_rows_in_banks_by_turns(name: str, level: str) -> None:
    """Activates bound bursts of ever other rows: four a tFAW, one a tRRD, and each bank's row cycle."""
    standard = load_standard(name)
    timing, size = standard.timing, standard.burst_bytes()
    every = max(timing.tFAW / 4, timing.tRRD_S, timing.nBL, timing.tRC / standard.banks)
    # bank groups by turns, so that tRRD_L and tCCD_L do not count
    banks = [
        number for _, number in sorted((key[::-1], number) for key, number in first_bursts(standard).items())
    ]
    row, random = bursts_of_a_row(standard), Random(1)
    count = intervals(standard, level, every)
    rows = [random.randrange(standard.rows) for _ in range(count)]
    accesses = (
        Access((banks[place % len(banks)] + number * row) * size, size, False)
        for place, number in enumerate(rows)
    )
    reached = fraction(standard, level, accesses, count)
    # at the `burst` level an activate may find its clock taken by another command
    rel = 0.015 if level == "banked" else 0.04
    assert reached == pytest.approx(refresh_factor(standard) * timing.nBL / every, rel=rel)


@pytest.mark.parametrize("name", standard_names())
def test_random_bursts_come_near_the_bound(name: str) -> None:
    """Where they fall decides: a queue of 32 and 8 a bank does not find work for every bank all the time."""
    standard = load_standard(name)
    timing, size = standard.timing, standard.burst_bytes()
    every = max(timing.tFAW / 4, timing.tRRD_S, timing.nBL, timing.tRC / standard.banks)
    bound = refresh_factor(standard) * timing.nBL / every
    random = Random(1)
    slots = standard.capacity_bytes() // size
    accesses = (Access(random.randrange(slots) * size, size, False) for _ in range(2000))
    assert 0.9 * bound < fraction(standard, "burst", accesses, 2000) < 1.03 * bound


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", standard_names())
@pytest.mark.parametrize("write", [False, True])
def test_latency_of_hit_closed_and_conflict_is_exact(name: str, level: str, write: bool) -> None:
    standard = load_standard(name)
    timing, size = standard.timing, standard.burst_bytes()
    banks, row = first_bursts(standard), bursts_of_a_row(standard)
    model = make_model(standard, level=level, refresh="none")
    hit = (timing.CWL if write else timing.CL) + timing.nBL
    closed = hit + (timing.tRCDWR if write else timing.tRCDRD)
    for clock, number, expected in (
        (1000, banks[0, 0], closed),
        (2000, banks[0, 0], hit),
        (3000, banks[0, 0] + row, closed + timing.tRP),
        (4000, banks[0, 1] + row, closed),
    ):
        start = -(-clock * standard.tck_ps.numerator // standard.tck_ps.denominator)
        served = model.serve(start, number * size, size, write)
        assert (served.end_ps - start) / standard.tck_ps == pytest.approx(expected, abs=0.01)
