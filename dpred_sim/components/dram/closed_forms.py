"""What a saturated channel reaches by its timing alone, for patterns simple enough to say so.

With f = 1 - (tRFC + tRP + tRCD)/tREFI, the share of time that all-bank refresh leaves once rows are closed
before it and opened after it, and a burst of nBL clocks, the fraction of peak is

    bank groups interleaved   f
    one bank group            f * nBL / tCCD_L
    one bank, ever new rows   f * nBL / max(tRC, tRCD + tRTP + tRP)
    random bursts             f * min(1, 4 nBL/tFAW, nBL/tRRD_S, banks nBL/tRC)

Each is the rate of the one resource that is always busy: the data bus, a group's column spacing, a row
cycle, a rank's activate window. Two things lengthen a refresh: rows that were written are closed CWL + tWR
after their last data began, so f of writes has these two as well; and of random bursts the row opened last
stays open for tRAS, while those opened less than tRCD before have not been read and are opened again, so
their f has tRAS less half the time between two activates.

What is left out: a command bus carries one command a clock, and runs end with queues that run dry one by
one. docs/fidelity.md has what these come to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dpred_sim.components.dram.mapping import Location, Mapping
from dpred_sim.components.dram.patterns import Access
from dpred_sim.components.dram.standard import Standard

_LOOKED_AT = 4096
"""Bursts that are looked at to say what a pattern is."""
_LONG_VISIT = 4
"""Bursts a visit of a row from which activates hide behind data."""


class ClosedForm(NamedTuple):
    """A closed form for one pattern on one channel."""

    name: str
    fraction: float
    """Of peak, as the run goes on for many refresh intervals."""


def refresh_factor(standard: Standard, more: float = 0.0) -> float:
    """What all-bank refresh leaves of the time, if each takes `more` clocks."""
    timing = standard.timing
    return 1 - (timing.tRFC + timing.tRP + timing.tRCDRD + more) / timing.tREFI


def random_bursts(standard: Standard) -> float:
    """Clocks from burst to burst when each opens a row in a bank of its own choice, one rank."""
    timing = standard.timing
    return max(timing.tFAW / 4, timing.tRRD_S, timing.nBL, timing.tRC / standard.banks)


def closed_form(
    standard: Standard,
    accesses: Sequence[Access],
    *,
    pattern: str,
    bus_bits: int | None = None,
    level: str = "banked",
    mapping: str | None = None,
    page: str = "open",
    refresh: str | None = None,
) -> ClosedForm | None:
    """The closed form of a pattern run without `rate` and `outstanding`, or None where there is none.

    There is none for mixed directions, several ranks, refresh by bank, closed pages, and requests that are
    not whole bursts. `pattern` is a name of patterns.PATTERNS; options as `make_model` takes them.
    """
    if level == "ideal" or not accesses:
        return None
    burst = standard.burst_bytes(bus_bits)
    if any(access.size_bytes % burst or access.address % burst for access in accesses[:_LOOKED_AT]):
        return None
    if level == "bandwidth":
        return ClosedForm("data bus always busy", 1.0)
    chosen = refresh or standard.refresh
    write = accesses[0].write
    if standard.ranks > 1 or page == "closed" or chosen == "per_bank":
        return None
    if any(access.write is not write for access in accesses):
        return None
    timing = standard.timing
    more = float(timing.CWL + timing.tWR + timing.tRCDWR - timing.tRCDRD if write else 0)
    if pattern == "random":
        if accesses[0].size_bytes != burst:
            return None
        clocks = random_bursts(standard)
        found: tuple[str, float] | None = ("random bursts", clocks)
        more += timing.tRAS - clocks / 2
    elif pattern in ("seq_read", "seq_write", "strided"):
        found = _stream(standard, _places(accesses, Mapping(mapping, standard, bus_bits), burst), write)
    else:
        return None
    if found is None:
        return None
    name, clocks = found
    left = 1.0 if chosen == "none" else refresh_factor(standard, more)
    return ClosedForm(name, left * timing.nBL / clocks)


def _places(accesses: Sequence[Access], mapping: Mapping, burst_bytes: int) -> list[Location]:
    places: list[Location] = []
    for access in accesses:
        first = access.address // burst_bytes
        places += [
            mapping.locate(number) for number in range(first, first + access.size_bytes // burst_bytes)
        ]
        if len(places) >= _LOOKED_AT:
            break
    return places


def _stream(standard: Standard, places: list[Location], write: bool) -> tuple[str, float] | None:
    """Name and clocks a burst of a stream of bursts in one direction."""
    timing = standard.timing
    rows: dict[int, int] = {}
    visits = 0
    for place in places:
        visits += rows.get(place.flat_bank) != place.row
        rows[place.flat_bank] = place.row
    if len(rows) == 1 and len(places) > 1 and visits == len(places):
        opening = timing.tRCDWR if write else timing.tRCDRD
        closing = timing.CWL + timing.nBL + timing.tWR if write else timing.tRTP
        return "one bank", max(timing.tRC, opening + closing + timing.tRP)
    if len(places) < _LONG_VISIT * visits:
        return None
    spacing = timing.tCCD_L_WR if write else timing.tCCD_L
    groups = len({place.group for place in places})
    if spacing > timing.nBL and groups == 1:
        return "one bank group", spacing
    apart = -(-spacing // timing.nBL)
    near = sum(
        one.group == other.group
        for step in range(1, apart)
        for one, other in zip(places, places[step:], strict=False)
    )
    # where a row ends, groups may meet once
    if groups == standard.bank_groups and near <= visits:
        return "bank groups interleaved", timing.nBL
    return None
