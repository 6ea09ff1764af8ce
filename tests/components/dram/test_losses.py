"""Where the time of the data bus goes, by hand: every cause by itself."""

from __future__ import annotations

import pytest

from dpred_sim.components.dram.bench import drive
from dpred_sim.components.dram.controller import Request, make_controller
from dpred_sim.components.dram.model import make_model
from dpred_sim.components.dram.standard import load_standard

DDR4 = load_standard("DDR4-3200")
TIMING = DDR4.timing
LEVELS = ["banked", "burst"]
GROUP = 64
COLUMN = 4 * GROUP
BANK = 128 * COLUMN
ROW = 4 * BANK
READ, WRITE = False, True


def losses(
    level: str, requests: list[tuple[int, int, bool]], ranks: int = 1, refresh: str = "none"
) -> dict[str, int]:
    """Clocks by cause, without those that are 0; requests are clock, address and direction."""
    model = make_model(DDR4.with_ranks(ranks), level=level, refresh=refresh)
    controller = make_controller(model)
    done: list[Request] = []
    ends: list[int] = []
    now = 0
    for clock, address, write in requests:
        now = drive(controller, now, clock * 625, ends, done)
        controller.submit(now, Request(now, address, 64, write))
    while len(done) < len(requests):
        now = drive(controller, now, None, ends, done)
    end = max(request.end_ps for request in done)
    parts = {name.removesuffix("_ps"): part / 625 for name, part in model.breakdown(end).items()}
    assert sum(parts.values()) * 625 == end
    return {name: int(part) for name, part in parts.items() if part}


@pytest.mark.parametrize("level", LEVELS)
def test_nobody_asks_and_a_closed_bank(level: str) -> None:
    found = losses(level, [(1000, 0, READ)])
    assert found == {"idle": 1000 + TIMING.CL, "row_misses": TIMING.tRCDRD, "busy": TIMING.nBL}


@pytest.mark.parametrize("level", LEVELS)
def test_a_conflict(level: str) -> None:
    found = losses(level, [(1000, 0, READ), (2000, ROW, READ)])
    assert found["row_misses"] == TIMING.tRCDRD + TIMING.tRP + TIMING.tRCDRD
    assert found["busy"] == 2 * TIMING.nBL
    assert set(found) == {"idle", "row_misses", "busy"}


@pytest.mark.parametrize("level", LEVELS)
def test_the_activate_window(level: str) -> None:
    """Four rows of four groups are opened tRRD_S apart, the fifth waits for the window."""
    found = losses(level, [(0, number * GROUP, READ) for number in range(4)] + [(0, BANK, READ)])
    gap = TIMING.tFAW - 4 * TIMING.tRRD_S
    if level == "burst":
        # the fourth read has the command bus when the window opens
        assert 3 * TIMING.tRRD_S + TIMING.tRCDRD == TIMING.tFAW
        gap += 1
    assert found["activate_windows"] == gap
    assert found["row_misses"] == TIMING.tRCDRD
    assert found["busy"] == 5 * TIMING.nBL


@pytest.mark.parametrize("level", LEVELS)
def test_column_spacing(level: str) -> None:
    found = losses(level, [(0, 0, READ), (1000, COLUMN, READ), (1000, 2 * COLUMN, READ)])
    assert found["column_spacing"] == TIMING.tCCD_L - TIMING.nBL


def served(*calls: tuple[int, int, bool]) -> int:
    """Clocks lost in turns by bursts that the `burst` level serves one by one."""
    model = make_model(DDR4, level="burst", refresh="none")
    for clock, address, write in calls:
        end = model.serve(clock * 625, address, 64, write).end_ps
    return model.breakdown(end)["turns_ps"] // 625


@pytest.mark.parametrize("same", [False, True])
def test_from_writes_to_reads_and_back(same: bool) -> None:
    """After writes the bus stands still for tWTR and the latency of a read, after reads it hardly does."""
    opened, other = [(0, 0, READ), (500, GROUP, READ)], COLUMN if same else GROUP
    # two writes, so that the read is there before their data end
    writes = [(1000, GROUP - other % COLUMN, WRITE), (1000, 0, WRITE)]
    turn = TIMING.tWTR_L if same else TIMING.tWTR_S
    assert served(*opened, *writes, (1001, other, READ)) == turn + TIMING.CL
    back = TIMING.tRTW + TIMING.CWL - TIMING.CL - TIMING.nBL
    assert served(*opened, (1000, 0, READ), (1001, other, WRITE)) == back
    # where a row has to be opened, what it takes beyond the turn is no turn
    assert served(*opened, *writes, (1001, ROW, READ)) == TIMING.tWTR_S + TIMING.CL


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("opened", [False, True])
def test_refresh(level: str, opened: bool) -> None:
    """A read that comes ten clocks after a refresh fell due; an open row is closed first."""
    due = TIMING.tREFI
    before = [(due - 1000, 0, READ)] if opened else []
    found = losses(level, [*before, (due + 10, 0, READ)], refresh="all_bank")
    whole = TIMING.tRFC + TIMING.tRCDRD + TIMING.tRP * opened
    assert found["refresh"] == whole - 10
    assert found.get("row_misses", 0) == TIMING.tRCDRD * opened
    assert found["busy"] == TIMING.nBL * (1 + opened)


def test_from_rank_to_rank() -> None:
    opened = [(0, 0, READ), (500, ROW, READ)]
    found = losses("burst", [*opened, (1000, COLUMN, READ), (1000, ROW + COLUMN, READ)], ranks=2)
    assert found["turns"] == TIMING.tRTRS
