"""Which burst goes first at the `burst` level, by the commands it issues."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import pytest

from dpred_sim.components.dram.burst import BurstModel
from dpred_sim.components.dram.controller import Request
from dpred_sim.components.dram.standard import load_standard
from tests.components.dram.commands import Command, record

DDR4 = load_standard("DDR4-3200")
TIMING = DDR4.timing
COLUMN = DDR4.bank_groups * 64
"""Bytes from one column of a bank to the next, in the default mapping."""
BANK = 128 * COLUMN
ROW = 16 * 128 * 64


def issue(
    requests: list[tuple[int, bool]], later: list[tuple[int, bool]] | None = None, **options: Any
) -> list[Command]:
    """The commands for bursts that all come at time 0, and for those that come at clock 1000."""
    model = BurstModel(DDR4, 64, refresh="none", **options)
    log = record(model)
    done = []
    for now, batch in ((0, requests), (1000 * 625, later or [])):
        for address, write in batch:
            model.submit(now, Request(now, address, 64, write))
        while (wake := model.wake_ps) is not None:
            done += model.advance(wake)
    assert len(done) == len(requests) + len(later or [])
    return log


def columns(log: list[Command]) -> list[Command]:
    return [command for command in log if command.kind in ("RD", "WR")]


def test_four_bursts_pass_an_older_one_of_another_row() -> None:
    """The second burst waits for row 1, those behind it find row 0 open; other banks fill the data bus."""
    wanted = [(0, False), (ROW, False), *((step * COLUMN, False) for step in range(1, 7))]
    others = [
        (bank * BANK + group * 64 + step * COLUMN, False)
        for step in range(8)
        for group in (1, 2, 3)
        for bank in (0, 1)
    ]
    log = issue([*wanted, *others], queue=64)
    rows = [command.row for command in columns(log) if command.bank == 0]
    assert rows == [0, 0, 0, 0, 1, 0, 0, 0]


def test_a_row_that_may_not_be_closed_yet_is_used() -> None:
    """Alone on the bus the bursts to the open row are closer than tRTP allows a precharge."""
    assert TIMING.tCCD_L < TIMING.tRTP
    log = issue([(0, False), (ROW, False), *((step * COLUMN, False) for step in range(1, 7))])
    assert [command.row for command in columns(log)] == [0, 0, 0, 0, 0, 0, 0, 1]


def test_an_open_row_is_left_when_nobody_waits_for_it() -> None:
    log = issue([(0, False), (ROW, False)])
    assert [command.kind for command in log] == ["ACT", "RD", "PRE", "ACT", "RD"]
    assert log[2].clock == TIMING.tRAS


@pytest.mark.parametrize(("count", "waits"), [(8, True), (9, False)])
def test_more_writes_than_a_quarter_of_the_queue_do_not_wait(count: int, waits: bool) -> None:
    log = issue([(number * 64, True) for number in range(count)])
    last_entered = count - 1
    patience = TIMING.CWL + TIMING.nBL + TIMING.tWTR_L + TIMING.tRP + TIMING.tRCDRD
    assert log[0].clock == last_entered + (patience if waits else 0)


@pytest.mark.parametrize(("writes", "first"), [(8, "RD"), (9, "WR")])
def test_writes_go_from_four_fifths_of_the_whole_queue_down_to_a_fifth(writes: int, first: str) -> None:
    """With one queue of ten and no queues of banks: writes begin with the ninth, and stop with one left."""
    pairs = [(step // 2 * COLUMN, step % 2 == 0) for step in range(2 * writes)]
    log = issue(pairs, queue=10, bank_queue=0)
    kinds = [(kind, len(list(run))) for kind, run in groupby(command.kind for command in columns(log))]
    if first == "RD":
        assert kinds == [("RD", 8), ("WR", 8)]
    else:
        assert kinds == [("WR", 8), ("RD", 9), ("WR", 1)]


def test_the_oldest_goes_first_without_queues_of_banks() -> None:
    """The rows of eight banks are open; those that came first go first, whichever their bank."""
    places = [
        (bank % 4 * 64 + bank // 4 * BANK, bank % 4 * 4 + bank // 4) for bank in (5, 2, 7, 0, 3, 6, 1, 4)
    ]
    first = [(place, False) for place, _ in sorted(places)]
    log = issue(first, [(place + COLUMN, False) for place, _ in places], bank_queue=0)
    assert [command.bank for command in columns(log)[8:]] == [bank for _, bank in places]


@pytest.mark.parametrize(("limit", "behind"), [(8, 8), (2, 2)])
def test_a_bank_takes_as_many_as_its_queue_holds(limit: int, behind: int) -> None:
    """A burst for another row that comes ninth is not seen before one of the first eight is gone."""
    first = [(step * COLUMN, False) for step in range(limit)]
    log = issue([*first, (ROW, False)], bank_queue=limit)
    late = issue([*first[:-1], (ROW, False)], bank_queue=limit)
    assert [command.row for command in columns(log)] == [0] * behind + [1]
    assert [command.row for command in columns(late)] == [0] * min(behind - 1, 7) + [1]


def test_the_queues_take_as_many_as_they_hold() -> None:
    """Of reads of one bank 32 wait and 8 are with the bank: the next enters when one has gone."""
    model = BurstModel(DDR4, 64, refresh="none")
    for number in range(50):
        model.submit(0, Request(0, number * COLUMN, 64, False, number))
    done = []
    while (wake := model.wake_ps) is not None:
        done += model.advance(wake)
    accepted = {request.token: request.accepted_ps // 625 for request in done}
    # one a clock while there is room; three have gone when 43 have come, so that 40 are inside
    assert [accepted[number] for number in range(43)] == list(range(43))
    gone = [TIMING.tRCDRD + step * TIMING.tCCD_L for step in range(7)]
    assert gone[2] < 43 < gone[3]
    # behind the fourth one moves on to the bank, and in the next clock one comes in
    assert [accepted[43 + step] for step in range(4)] == [clock + 2 for clock in gone[3:]]


def test_a_closed_page_is_closed_behind_the_last_burst_that_waits_for_it() -> None:
    both = issue([(0, False), (COLUMN, False), (ROW, False)], page="closed")
    assert [command.kind for command in both] == ["ACT", "RD", "RD", "PRE", "ACT", "RD", "PRE"]
    apart = issue([(0, False)], [(COLUMN, False)], page="closed")
    assert [command.kind for command in apart] == ["ACT", "RD", "PRE"] * 2
