"""`dram bench` on every standard against closed forms."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dpred_sim.components.dram import bench, patterns
from dpred_sim.components.dram.closed_forms import random_bursts, refresh_factor
from dpred_sim.components.dram.mapping import Mapping
from dpred_sim.components.dram.model import make_model
from dpred_sim.components.dram.patterns import Access
from dpred_sim.components.dram.standard import Standard, load_standard, standard_names
from tests.components.dram import closed_forms as forms
from tests.components.dram.closed_forms import bursts_of_a_row, first_bursts
from tests.components.dram.commands import FreeCommandBus

LEVELS = ["banked", "burst"]
BURSTS = {"banked": 12_000, "burst": 6_000}
"""Long enough that some refresh intervals more or less do not count."""


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
    assert reached == pytest.approx(refresh_factor(standard) * timing.nBL / timing.tCCD_L, rel=0.015)


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


@pytest.mark.parametrize("name", standard_names())
def test_random_rows_in_banks_by_turns(name: str) -> None:
    """Activates bound bursts of ever other rows: four a tFAW, one a tRRD, and each bank's row cycle."""
    standard = load_standard(name)
    count = intervals(standard, "banked", random_bursts(standard))
    reached = fraction(standard, "banked", forms.accesses(standard, "by turns"), count)
    assert reached == pytest.approx(forms.simple(standard), rel=0.015)


@pytest.mark.parametrize("pattern", forms.PATTERNS)
@pytest.mark.parametrize("name", standard_names())
def test_random_bursts_reach_their_closed_form(name: str, pattern: str) -> None:
    """Of each burst by itself: but for what the command bus and the rows that a refresh closes take away."""
    standard = load_standard(name)
    found = forms.measure(standard, pattern)
    assert found.fraction == pytest.approx(forms.with_terms(standard, found.clocks), rel=0.005)
    assert 0.97 * forms.simple(standard) < found.fraction < forms.simple(standard)
    cells = next(row for row in table() if row.startswith(f"| {name} |")).split(" | ")
    assert cells[2 + 3 * forms.PATTERNS.index(pattern)] == f"{found.fraction:.3f}"


@pytest.mark.parametrize("name", standard_names())
def test_the_command_bus_is_what_random_bursts_lack(name: str) -> None:
    standard = load_standard(name)
    free = forms.measure(standard, "anywhere", FreeCommandBus).fraction
    assert free == pytest.approx(forms.simple(standard), rel=0.015)
    assert free == pytest.approx(forms.with_terms(standard, random_bursts(standard)), rel=0.005)


def table() -> list[str]:
    page = forms.DOCUMENT.read_text(encoding="utf-8")
    return page.partition(forms.BEGIN)[2].partition(forms.END)[0].strip().splitlines()[2:]


def test_the_page_has_what_is_measured() -> None:
    assert [row.split(" | ")[0].removeprefix("| ") for row in table()] == standard_names()
    assert forms.line("HBM3") in table(), "run python -m tests.components.dram.closed_forms"


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
