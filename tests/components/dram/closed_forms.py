"""Makes the closed forms of docs/fidelity.md: `python -m tests.components.dram.closed_forms`.

Random bursts at the `burst` level, over whole refresh intervals and before the queues run dry.
test_closed_forms.py holds the page to what it measures.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from unittest.mock import patch

from dpred_sim.components.dram import burst
from dpred_sim.components.dram.bench import closed_loop
from dpred_sim.components.dram.closed_forms import random_bursts, refresh_factor
from dpred_sim.components.dram.first_ready import FirstReady
from dpred_sim.components.dram.mapping import Mapping
from dpred_sim.components.dram.patterns import Access
from dpred_sim.components.dram.standard import Standard, load_standard, standard_names
from tests.components.dram.commands import FreeCommandBus, clocks_an_activate, record

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "fidelity.md"
BEGIN = "<!-- closed forms: begin, made by tests/components/dram/closed_forms.py -->"
END = "<!-- closed forms: end -->"
INTERVALS = 2
"""Refresh intervals that are measured, after one to settle."""
PATTERNS = ("by turns", "anywhere")


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


def accesses(standard: Standard, pattern: str) -> Iterator[Access]:
    """Reads of one burst: ever other rows of all banks by turns, or anywhere."""
    size, random = standard.burst_bytes(), Random(1)
    # bank groups by turns, so that tRRD_L and tCCD_L do not count
    banks = [
        number for _, number in sorted((key[::-1], number) for key, number in first_bursts(standard).items())
    ]
    row, slots = bursts_of_a_row(standard), standard.capacity_bytes() // size
    while True:
        if pattern == "anywhere":
            yield Access(random.randrange(slots) * size, size, False)
        else:
            for bank in banks:
                yield Access((bank + random.randrange(standard.rows) * row) * size, size, False)


@dataclass(frozen=True)
class Measured:
    """Fractions of peak, and what the command bus made of the clocks between two activates."""

    fraction: float
    clocks: float


def measure(standard: Standard, pattern: str, scheduler: type[FirstReady] = FirstReady) -> Measured:
    """Run a pattern at the `burst` level for some refresh intervals."""
    timing = standard.timing
    count = int((INTERVALS + 1.6) * timing.tREFI / random_bursts(standard))
    with patch.object(burst, "FirstReady", scheduler):
        model = burst.BurstModel(standard, standard.bus_bits, refresh="all_bank")
    log = record(model)
    pieces = ((access, number) for number, access in enumerate(islice(accesses(standard, pattern), count)))
    done = closed_loop(model, pieces, None, model.burst_bytes)
    period = timing.tREFI * standard.tck_ps
    inside = sum(period <= request.end_ps < (1 + INTERVALS) * period for request in done)
    assert max(request.end_ps for request in done) > (1.1 + INTERVALS) * period
    seen = [command for command in log if command.clock < (1 + INTERVALS) * timing.tREFI]
    return Measured(inside * timing.nBL / (INTERVALS * timing.tREFI), clocks_an_activate(standard, seen))


def simple(standard: Standard) -> float:
    """f * min(4 bursts a tFAW, a burst a tRRD_S, banks a tRC)."""
    return refresh_factor(standard) * standard.timing.nBL / random_bursts(standard)


def with_terms(standard: Standard, clocks: float) -> float:
    """The same with the rows that a refresh finds just opened, and `clocks` from activate to activate."""
    timing = standard.timing
    factor = refresh_factor(standard, timing.tRAS - random_bursts(standard) / 2)
    return factor * timing.nBL / clocks


def line(name: str) -> str:
    """A standard's line of the table."""
    standard = load_standard(name)
    form = simple(standard)
    cells = [name, f"{form:.3f}"]
    for pattern in PATTERNS:
        found = measure(standard, pattern)
        terms = with_terms(standard, found.clocks)
        cells += [f"{found.fraction:.3f}", _off(found.fraction, form), _off(found.fraction, terms)]
    free = measure(standard, "anywhere", FreeCommandBus)
    return f"| {' | '.join([*cells, _off(free.fraction, form)])} |"


def _off(fraction: float, form: float) -> str:
    return f"{100 * (fraction / form - 1):+.1f} %"


def page() -> str:
    """The table, as Markdown."""
    heading = (
        "| standard | closed form | rows by turns | off it | off it with both terms "
        "| bursts anywhere | off it | off it with both terms | free command bus, off it |"
    )
    rule = "|---" + "|---:" * 8 + "|"
    return "\n".join([BEGIN, heading, rule, *(line(name) for name in standard_names()), END])


if __name__ == "__main__":
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    DOCUMENT.write_text(before + page() + rest.partition(END)[2], encoding="utf-8")
