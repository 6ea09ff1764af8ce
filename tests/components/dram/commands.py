"""The commands of the `burst` level: recorded, held against all rules, and what activates waited for."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

from dpred_sim.components.dram.burst import BurstModel
from dpred_sim.components.dram.first_ready import FirstReady
from dpred_sim.components.dram.standard import Standard


class Command(NamedTuple):
    """One command. `bank` is flat over ranks; of a refresh, the first of its `banks`."""

    clock: int
    kind: str
    """ACT, PRE, RD, WR or REF."""
    bank: int
    row: int = -1
    banks: int = 1


def record(model: BurstModel) -> list[Command]:
    """A list that fills with the commands that a model issues from now on."""
    log: list[Command] = []
    banks: Any = model._schedule._banks
    activate, precharge, column, refresh = banks.activate, banks.precharge, banks.column, banks.refresh

    def on_activate(bank: int, row: int, clock: int) -> None:
        log.append(Command(clock, "ACT", bank, row))
        activate(bank, row, clock)

    def on_precharge(bank: int, clock: int) -> None:
        log.append(Command(clock, "PRE", bank))
        precharge(bank, clock)

    def on_column(bank: int, write: bool, clock: int) -> None:
        log.append(Command(clock, "WR" if write else "RD", bank, banks.row[bank]))
        column(bank, write, clock)

    def on_refresh(span: range, clock: int, duration: int) -> None:
        log.append(Command(clock, "REF", span.start, banks=len(span)))
        refresh(span, clock, duration)

    banks.activate, banks.precharge, banks.column, banks.refresh = (
        on_activate, on_precharge, on_column, on_refresh,
    )  # fmt: skip
    return log


def distance(standard: Standard, first: Command, later: Command, refresh_clocks: int) -> int:
    """Clocks that must lie between two commands, as the standards' tables have them; 0: any."""
    timing = standard.timing
    kinds = first.kind, later.kind
    same_bank = first.bank == later.bank
    same_rank = first.bank // standard.banks == later.bank // standard.banks
    same_group = first.bank // standard.banks_per_group == later.bank // standard.banks_per_group
    data = timing.CWL + timing.nBL
    if first.kind == "REF":
        covered = first.bank <= later.bank < first.bank + first.banks
        return refresh_clocks if covered and later.kind in ("ACT", "REF") else 0
    if later.kind == "REF":
        covered = later.bank <= first.bank < later.bank + later.banks
        return {"PRE": timing.tRP, "ACT": timing.tRC}.get(first.kind, 0) if covered else 0
    if same_bank:
        own = {
            ("ACT", "ACT"): timing.tRC,
            ("ACT", "RD"): timing.tRCDRD,
            ("ACT", "WR"): timing.tRCDWR,
            ("ACT", "PRE"): timing.tRAS,
            ("PRE", "ACT"): timing.tRP,
            ("RD", "PRE"): timing.tRTP,
            ("WR", "PRE"): data + timing.tWR,
        }
        if kinds in own:
            return own[kinds]
    if not same_rank:
        return {
            ("RD", "RD"): timing.nBL + timing.tRTRS,
            ("WR", "WR"): timing.nBL + timing.tRTRS,
            ("RD", "WR"): timing.CL + timing.nBL + timing.tRTRS - timing.CWL,
            ("WR", "RD"): data + timing.tRTRS - timing.CL,
        }.get(kinds, 0)
    return {
        ("ACT", "ACT"): timing.tRRD_L if same_group else timing.tRRD_S,
        ("RD", "RD"): timing.tCCD_L if same_group else timing.tCCD_S,
        ("WR", "WR"): timing.tCCD_L_WR if same_group else timing.tCCD_S,
        ("RD", "WR"): timing.tRTW,
        ("WR", "RD"): data + (timing.tWTR_L if same_group else timing.tWTR_S),
    }.get(kinds, 0)


def check(
    standard: Standard, log: list[Command], *, refresh_clocks: int, closes_itself: bool = False
) -> None:
    """Hold every pair of commands against the rules, and every command against the state of its bank."""
    timing = standard.timing
    log = sorted(log, key=lambda command: command.clock)
    reach = max(
        refresh_clocks, timing.tRC, timing.CWL + timing.nBL + max(timing.tWR, timing.tWTR_L), timing.CL * 2
    )
    rows: dict[int, int] = {}
    start = 0
    for index, later in enumerate(log):
        while log[start].clock < later.clock - reach:
            start += 1
        for first in log[start:index]:
            need = distance(standard, first, later, refresh_clocks)
            assert later.clock - first.clock >= need, (first, later, need)
        span = range(later.bank, later.bank + later.banks)
        if later.kind in ("ACT", "REF"):
            assert all(rows.get(bank, -1) < 0 for bank in span), later
        if later.kind in ("RD", "WR"):
            assert rows.get(later.bank) == later.row, later
        if later.kind in ("ACT", "PRE"):
            rows[later.bank] = later.row
    for rank in range(standard.ranks):
        times = [one.clock for one in log if one.kind == "ACT" and one.bank // standard.banks == rank]
        assert all(fifth - one >= timing.tFAW for one, fifth in zip(times, times[4:], strict=False))
    _check_buses(standard, log, closes_itself)


def _check_buses(standard: Standard, log: list[Command], closes_itself: bool) -> None:
    """One command a clock on each command bus, one burst at a time on the data bus."""
    timing = standard.timing
    two_buses = standard.protocol.startswith("HBM")
    taken: dict[tuple[int, bool], Command] = {}
    for one in log:
        column = one.kind in ("RD", "WR")
        if one.kind == "PRE" and closes_itself:
            continue
        other = taken.setdefault((one.clock, column and two_buses), one)
        # the open banks of a rank are closed by one command before a refresh
        assert other is one or {other.kind, one.kind} == {"PRE"}, (other, one)
    starts = sorted(
        one.clock + (timing.CWL if one.kind == "WR" else timing.CL) for one in log if one.kind in ("RD", "WR")
    )
    assert all(after - before >= timing.nBL for before, after in pairwise(starts))


def clocks_an_activate(standard: Standard, log: list[Command]) -> float:
    """Clocks from activate to activate by the windows tRRD_S and tFAW and the command bus alone, one rank.

    Each activate comes when its windows open, later by the clocks in which another command had the bus.
    Activates after a refresh begin anew.
    """
    timing = standard.timing
    two_buses = standard.protocol.startswith("HBM")
    busy = {one.clock for one in log if not (two_buses and one.kind in ("RD", "WR"))}
    refreshes = [one.clock for one in log if one.kind == "REF"]
    runs: list[list[int]] = [[]]
    for one in log:
        if one.kind == "REF" and runs[-1]:
            runs.append([])
        elif one.kind == "ACT":
            runs[-1].append(one.clock)
    assert len(runs) >= len(refreshes)
    span = count = 0
    for real in runs:
        times: list[int] = []
        for number, clock in enumerate(real):
            if number == 0:
                times.append(clock)
                continue
            opens = _opens(real, number, timing.tRRD_S, timing.tFAW)
            waited = sum(taken in busy for taken in range(opens, clock))
            times.append(_opens(times, number, timing.tRRD_S, timing.tFAW) + waited)
        if len(times) > 4:
            span += times[-1] - times[0]
            count += len(times) - 1
    return span / count


def _opens(times: list[int], number: int, short: int, window: int) -> int:
    after = times[number - 1] + short
    return after if number < 4 else max(after, times[number - 4] + window)


class FreeCommandBus(FirstReady):
    """As many commands a clock as are ready."""

    def _step(self, clock: int) -> bool:
        issued = False
        while super()._step(clock):
            issued = True
        return issued
