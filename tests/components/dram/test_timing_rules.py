"""Each timing rule by itself, on all standards: blocked at t-1, ready at t; some levels know none."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest

from dpred_sim.components.dram.model import make_model
from dpred_sim.components.dram.standard import Standard, load_standard, standard_names
from tests.components.dram.harness import DramUnderTest

LEVELS = ["banked", "burst"]
FLAT = ["ideal", "bandwidth"]
LATER = 1000
"""Clocks after which a command binds nothing but its row and refresh."""


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=standard_names())
def standard(request: pytest.FixtureRequest) -> Standard:
    return load_standard(str(request.param))


@pytest.fixture
def dram(level: str, standard: Standard) -> DramUnderTest:
    return DramUnderTest(standard, level)


@pytest.fixture
def ddr4() -> Standard:
    return load_standard("DDR4-3200")


def latencies(dram: DramUnderTest, write: bool = False) -> tuple[int, int, int]:
    """Hit, closed, conflict; to the end of the data."""
    timing = dram.timing
    hit = (timing.CWL if write else timing.CL) + timing.nBL
    closed = hit + (timing.tRCDWR if write else timing.tRCDRD)
    return hit, closed, closed + timing.tRP


def other_group(dram: DramUnderTest) -> dict[str, int]:
    """A bank of another group; of another number where there is one group."""
    return {"group": 1} if dram.standard.bank_groups > 1 else {"bank": 1}


def by_turns(dram: DramUnderTest, number: int) -> dict[str, int]:
    """Banks such that neighbours are in different groups, where there are several."""
    groups = dram.standard.bank_groups
    return {"group": number % groups, "bank": number // groups}


@pytest.mark.parametrize("write", [False, True])
def test_unloaded_latency_is_exact(dram: DramUnderTest, write: bool) -> None:
    """tRCD of reads and of writes, tRP, CL, CWL."""
    hit, closed, conflict = latencies(dram, write)
    assert dram.issue(1000, write, row=0) == 1000 + closed
    assert dram.issue(2001, write, row=0, column=5) == 2001 + hit
    assert dram.issue(3002, write, row=7) == 3002 + conflict
    assert dram.issue(4003, write, row=7, bank=1) == 4003 + closed


def test_conflict_latency_of_ddr4_3200_is_44_ns(ddr4: Standard) -> None:
    dram = DramUnderTest(ddr4)
    dram.issue(1000, row=0)
    assert (dram.issue(3000, row=1) - 3000) * 0.625 == pytest.approx(43.75)


def test_arrivals_between_clocks_wait_for_the_next(ddr4: Standard) -> None:
    dram = DramUnderTest(ddr4)
    served = dram.model.serve(1000 * 625 - 624, 0, 64, False)
    assert served.end_ps == (1000 + 48) * 625


def test_tras_holds_back_the_precharge(dram: DramUnderTest) -> None:
    dram.issue(1000, row=0)
    done = max(dram.timing.tRAS, dram.timing.tRCDRD + dram.timing.tRTP)
    dram.assert_earliest_ready_at(1000 + done, latencies(dram)[2], row=1)


def test_trc_holds_back_the_next_activate(level: str, standard: Standard) -> None:
    timing = standard.timing
    longer = timing.tRAS + timing.tRP + 20
    dram = DramUnderTest(replace(standard, timing=replace(timing, tRC=longer)), level)
    dram.issue(1000, row=0)
    dram.assert_earliest_ready_at(1000 + longer - timing.tRP, latencies(dram)[2], row=1)


def test_read_to_precharge(dram: DramUnderTest) -> None:
    dram.issue(1000, row=0)
    dram.issue(2000, row=0, column=1)
    dram.assert_earliest_ready_at(2000 + dram.timing.tRTP, latencies(dram)[2], row=1)


@pytest.mark.parametrize("then_write", [False, True])
def test_write_recovery(dram: DramUnderTest, then_write: bool) -> None:
    dram.issue(1000, True, row=0)
    end = dram.issue(2000, True, row=0, column=1)
    ready = end + dram.timing.tWR
    dram.assert_earliest_ready_at(ready, latencies(dram, then_write)[2], then_write, row=1)


@pytest.mark.parametrize("same", [False, True])
def test_activate_to_activate(dram: DramUnderTest, same: bool) -> None:
    """tRRD_S and tRRD_L."""
    dram.issue(1000, row=0)
    place = {"bank": 1} if same else other_group(dram)
    within = same or dram.standard.bank_groups == 1
    distance = dram.timing.tRRD_L if within else dram.timing.tRRD_S
    dram.assert_earliest_ready_at(1000 + distance, latencies(dram)[1], row=0, **place)


def test_four_activate_window(level: str, standard: Standard) -> None:
    """With a window longer than four tRRD, which some standards do not have."""
    timing = standard.timing
    window = max(timing.tFAW, 4 * timing.tRRD_S + 3)
    dram = DramUnderTest(replace(standard, timing=replace(timing, tFAW=window)), level)
    for number in range(4):
        dram.issue(1000 + number * timing.tRRD_S, row=0, **by_turns(dram, number))
    dram.assert_earliest_ready_at(1000 + window, latencies(dram)[1], row=0, **by_turns(dram, 4))


@pytest.mark.parametrize("same", [False, True])
@pytest.mark.parametrize("write", [False, True])
def test_column_to_column(dram: DramUnderTest, same: bool, write: bool) -> None:
    """tCCD_S, tCCD_L, and tCCD_L_WR of writes."""
    timing = dram.timing
    place = {} if same else other_group(dram)
    dram.issue(1000, write, row=0)
    dram.issue(2000, write, row=0, **place)
    dram.issue(4000, write, row=0)
    long = timing.tCCD_L_WR if write else timing.tCCD_L
    distance = long if same or dram.standard.bank_groups == 1 else timing.tCCD_S
    dram.assert_earliest_ready_at(4000 + distance, latencies(dram, write)[0], write, row=0, column=1, **place)


@pytest.mark.parametrize("same", [False, True])
def test_write_to_read(dram: DramUnderTest, same: bool) -> None:
    """tWTR_S and tWTR_L."""
    timing = dram.timing
    place = {} if same else other_group(dram)
    dram.issue(1000, row=0)
    dram.issue(2000, row=0, **place)
    end = dram.issue(4000, True, row=0)
    turn = timing.tWTR_L if same or dram.standard.bank_groups == 1 else timing.tWTR_S
    dram.assert_earliest_ready_at(end + turn, latencies(dram)[0], row=0, **place)


@pytest.mark.parametrize("same", [False, True])
def test_read_to_write(dram: DramUnderTest, same: bool) -> None:
    """tRTW, whatever the group."""
    place = {} if same else other_group(dram)
    dram.issue(1000, row=0)
    dram.issue(2000, row=0, **place)
    dram.issue(4000, row=0)
    dram.assert_earliest_ready_at(4000 + dram.timing.tRTW, latencies(dram, True)[0], True, row=0, **place)


def test_refresh_closes_all_banks_and_blocks(level: str, standard: Standard) -> None:
    """tREFI, tRFC, and tRP before it."""
    dram = DramUnderTest(standard, level, refresh="all_bank")
    timing, due = dram.timing, dram.timing.tREFI
    assert dram.probe(due - 1, row=0, **other_group(dram)) > due + timing.tRFC
    dram.issue(due - 500, row=0)
    # the open row is precharged when the refresh is due
    done = due + timing.tRP + timing.tRFC
    dram.assert_earliest_ready_at(done, latencies(dram)[1], row=0)
    closed = DramUnderTest(standard, level, refresh="all_bank")
    closed.assert_earliest_ready_at(due + timing.tRFC, latencies(dram)[1], row=0)


def test_refreshes_fall_due_every_trefi(level: str, standard: Standard) -> None:
    dram = DramUnderTest(standard, level, refresh="all_bank")
    timing, closed = dram.timing, latencies(dram)[1]
    for number in (1, 2, 5):
        due = number * timing.tREFI
        dram.assert_earliest_ready_at(due + timing.tRFC, closed, row=0)
        assert dram.model.statistics(dram.to_ps(due - 1)).refreshes == number - 1
        assert dram.model.statistics(dram.to_ps(due + 1)).refreshes == number


def test_refresh_splits_a_request(ddr4: Standard) -> None:
    dram = DramUnderTest(ddr4, refresh="all_bank")
    timing = dram.timing
    start = timing.tREFI - 100
    served = dram.model.serve(start * 625, 0, 4096, False)
    assert served.first_ps == (start + timing.tRCDRD + timing.CL) * 625
    whole = start + timing.tRCDRD + timing.CL + 64 * 4
    lost = served.end_ps // 625 - whole
    assert timing.tRFC + timing.tRP < lost < timing.tRFC + timing.tRP + timing.tRCDRD + timing.CL + 40
    assert dram.model.statistics(served.end_ps).refreshes == 1


def test_closed_page_never_hits_across_requests_and_never_conflicts(ddr4: Standard) -> None:
    dram = DramUnderTest(ddr4, page="closed")
    _, closed, _ = latencies(dram)
    dram.issue(1000, row=0)
    assert dram.issue(2000, row=0) == 2000 + closed
    assert dram.issue(3000, row=1) == 3000 + closed
    assert dram.model.statistics(0).row_conflicts == 0


# -- ranks, refresh by bank -----------------------------------------------------------------------


@pytest.fixture
def two_ranks(level: str, standard: Standard) -> DramUnderTest:
    return DramUnderTest(standard.with_ranks(2), level)


def test_the_activate_window_is_of_a_rank(two_ranks: DramUnderTest) -> None:
    dram, timing = two_ranks, two_ranks.timing
    for number in range(4):
        dram.issue(1000 + number * timing.tRRD_S, row=0, **by_turns(dram, number))
    closed = latencies(dram)[1]
    # at once in the other rank, once the bubble on the data bus is over
    free = 1000 + 3 * timing.tRRD_S + timing.nBL + timing.tRTRS
    dram.assert_earliest_ready_at(free, closed, row=0, rank=1)
    allowed = 1000 + max(timing.tFAW, 4 * timing.tRRD_S)
    assert dram.probe(free, row=0, **by_turns(dram, 4)) == max(free, allowed) + closed


@pytest.mark.parametrize("write", [False, True])
def test_rank_switch_leaves_a_bubble(two_ranks: DramUnderTest, write: bool) -> None:
    """tRTRS between two bursts that follow each other."""
    dram, timing = two_ranks, two_ranks.timing
    for clock, place in ((1000, {}), (1500, other_group(dram)), (2000, {"rank": 1}), (4000, {})):
        dram.issue(clock, write, row=0, **place)
    hit = latencies(dram, write)[0]
    ready = 4000 + timing.nBL + timing.tRTRS
    assert dram.probe(ready, write, row=0, rank=1) == ready + hit
    assert dram.probe(4001, write, row=0, rank=1) == ready + hit
    dram.issue(4001, write, row=0, rank=1)
    back = ready + timing.nBL + timing.tRTRS
    assert dram.issue(4002, write, row=0, **other_group(dram)) == back + hit


@pytest.mark.parametrize("write", [False, True])
def test_the_bubble_is_exact_for_late_comers(level: str, standard: Standard, write: bool) -> None:
    dram = DramUnderTest(standard.with_ranks(2), level)
    for clock, place in ((1000, {}), (2000, {"rank": 1}), (4000, {})):
        dram.issue(clock, write, row=0, **place)
    ready = 4000 + dram.timing.nBL + dram.timing.tRTRS
    dram.assert_earliest_ready_at(ready, latencies(dram, write)[0], write, row=0, rank=1)


def test_a_rank_switch_with_a_turn_only_leaves_the_bubble(level: str, standard: Standard) -> None:
    """Reads do not wait tWTR for writes of another rank, nor writes tRTW for reads."""
    dram = DramUnderTest(standard.with_ranks(2), level)
    timing = dram.timing
    for clock, place in ((1000, {}), (2000, {"rank": 1})):
        dram.issue(clock, row=0, **place)
    for number, write in enumerate((False, True)):
        end = dram.issue(4000 + number * LATER, write, row=0)
        hit = latencies(dram, not write)[0]
        soonest = end + timing.tRTRS - (hit - timing.nBL)
        dram.assert_earliest_ready_at(soonest, hit, not write, row=0, rank=1)


def test_ranks_are_refreshed_apart(two_ranks: DramUnderTest) -> None:
    dram = DramUnderTest(two_ranks.standard, two_ranks.model.level, refresh="all_bank")
    timing = dram.timing
    closed = latencies(dram)[1]
    # the first rank is due half a period after time 0, the second at its end
    due = timing.tREFI // 2
    dram.assert_earliest_ready_at(due + timing.tRFC, closed, row=0)
    assert dram.probe(due + 1, row=0, rank=1) == due + 1 + closed


PER_BANK = [name for name in standard_names() if load_standard(name).timing.tRFCpb]


@pytest.mark.parametrize("name", PER_BANK)
def test_refresh_by_bank_blocks_one_bank(level: str, name: str) -> None:
    """tREFIpb and tRFCpb."""
    dram = DramUnderTest(load_standard(name), level, refresh="per_bank")
    timing, closed = dram.timing, latencies(dram)[1]
    for number in range(3):
        due = (number + 1) * timing.tREFIpb
        dram.assert_earliest_ready_at(due + timing.tRFCpb, closed, row=0, bank=number)
        assert dram.probe(due + 1, row=0, bank=3) == due + 1 + closed
    end = dram.to_ps(8 * timing.tREFIpb)
    assert dram.model.statistics(end).refreshes in (7, 8)
    assert dram.model.statistics(end + 1000).refreshes == 8


def test_refresh_by_bank_closes_the_bank_first(level: str) -> None:
    dram = DramUnderTest(load_standard("LPDDR4-3200"), level, refresh="per_bank")
    timing = dram.timing
    dram.issue(timing.tREFIpb - 200, row=0, bank=0)
    ready = timing.tREFIpb + timing.tRP + timing.tRFCpb
    dram.assert_earliest_ready_at(ready, latencies(dram)[1], row=0, bank=0)


# -- levels without banks -------------------------------------------------------------------------


@pytest.mark.parametrize("flat", FLAT)
def test_levels_without_banks_know_none_of_the_rules(flat: str, standard: Standard) -> None:
    """Whatever a rule would hold back: conflicts, windows, spacing, turns, ranks, refresh."""
    timing = standard.timing
    model = make_model(standard.with_ranks(2), level=flat, refresh="all_bank")
    size = standard.burst_bytes()
    latency = timing.tRCDRD + timing.CL + timing.nBL if flat == "bandwidth" else 0
    random, clock = Random(1), 0
    for number in range(200):
        # bursts follow each other as close as the data bus lets them, a refresh interval passes now and then
        clock += timing.nBL if number % 50 else timing.tREFI - 5
        address = random.randrange(model.capacity_bytes // size) * size
        served = model.serve(int(clock * standard.tck_ps), address, size, random.random() < 0.5)
        assert int(served.end_ps / standard.tck_ps) in (clock + latency, clock + latency - 1)
    parts = model.breakdown(served.end_ps)
    assert [name for name, part in parts.items() if part] == (
        ["busy_ps", "idle_ps"] if latency else ["idle_ps"]
    )
    statistics = model.statistics(served.end_ps)
    assert (statistics.row_hits, statistics.activates, statistics.refreshes) == (200, 0, 0)


def test_the_data_bus_of_level_bandwidth_is_never_above_its_peak(standard: Standard) -> None:
    model = make_model(standard, level="bandwidth")
    ends = [model.serve(0, 0, 4 * standard.burst_bytes(), False).end_ps for _ in range(50)]
    burst = standard.timing.nBL * standard.tck_ps
    assert all(after - before in (int(4 * burst), int(4 * burst) + 1) for before, after in pairwise(ends))
    assert ends[-1] - ends[0] == pytest.approx(49 * 4 * float(burst), abs=1)
