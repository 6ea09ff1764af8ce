"""Each timing rule by itself: blocked at t-1, ready at t."""

from __future__ import annotations

import pytest

from dpred_sim.components.dram.model import make_model
from dpred_sim.components.dram.standard import Standard, load_standard
from tests.components.dram.harness import DramUnderTest

LEVELS = ["banked", "burst"]


@pytest.fixture(params=LEVELS)
def dram(request: pytest.FixtureRequest) -> DramUnderTest:
    return DramUnderTest(load_standard("DDR4-3200"), request.param)


@pytest.fixture
def ddr4() -> Standard:
    return load_standard("DDR4-3200")


def latencies(dram: DramUnderTest, write: bool = False) -> tuple[int, int, int]:
    """Hit, closed, conflict; to the end of the data."""
    timing = dram.timing
    hit = (timing.CWL if write else timing.CL) + timing.nBL
    closed = hit + (timing.tRCDWR if write else timing.tRCDRD)
    return hit, closed, closed + timing.tRP


@pytest.mark.parametrize("write", [False, True])
def test_unloaded_latency_is_exact(dram: DramUnderTest, write: bool) -> None:
    hit, closed, conflict = latencies(dram, write)
    assert dram.issue(1000, write, row=0) == 1000 + closed
    assert dram.issue(2001, write, row=0, column=5) == 2001 + hit
    assert dram.issue(3002, write, row=7) == 3002 + conflict
    assert dram.issue(4003, write, row=7, bank=1, group=2) == 4003 + closed


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
    dram.assert_earliest_ready_at(1000 + dram.timing.tRAS, latencies(dram)[2], row=1)


def test_read_to_precharge(dram: DramUnderTest) -> None:
    dram.issue(1000, row=0)
    dram.issue(1200, row=0, column=1)
    dram.assert_earliest_ready_at(1200 + dram.timing.tRTP, latencies(dram)[2], row=1)


def test_write_recovery(dram: DramUnderTest) -> None:
    dram.issue(1000, True, row=0)
    end = dram.issue(1200, True, row=0, column=1)
    dram.assert_earliest_ready_at(end + dram.timing.tWR, latencies(dram, True)[2], True, row=1)


@pytest.mark.parametrize(("group", "name"), [(1, "tRRD_S"), (0, "tRRD_L")])
def test_activate_to_activate(dram: DramUnderTest, group: int, name: str) -> None:
    dram.issue(1000, row=0, bank=0, group=0)
    distance = getattr(dram.timing, name)
    dram.assert_earliest_ready_at(1000 + distance, latencies(dram)[1], row=0, bank=1, group=group)


def test_four_activate_window(dram: DramUnderTest) -> None:
    for group in range(4):
        dram.issue(1000 + 4 * group, row=0, group=group)
    dram.assert_earliest_ready_at(1000 + dram.timing.tFAW, latencies(dram)[1], row=0, bank=1, group=0)


@pytest.mark.parametrize(("group", "name"), [(1, "tCCD_S"), (0, "tCCD_L")])
@pytest.mark.parametrize("write", [False, True])
def test_column_to_column(dram: DramUnderTest, group: int, name: str, write: bool) -> None:
    dram.issue(1000, write, row=0, group=0)
    dram.issue(1100, write, row=0, group=1)
    dram.issue(1400, write, row=0, group=0)
    distance = getattr(dram.timing, name)
    dram.assert_earliest_ready_at(
        1400 + distance, latencies(dram, write)[0], write, row=0, group=group, column=1
    )


@pytest.mark.parametrize(("group", "name"), [(1, "tWTR_S"), (0, "tWTR_L")])
def test_write_to_read(dram: DramUnderTest, group: int, name: str) -> None:
    dram.issue(1000, row=0, group=0)
    dram.issue(1100, row=0, group=1)
    end = dram.issue(1400, True, row=0, group=0)
    dram.assert_earliest_ready_at(end + getattr(dram.timing, name), latencies(dram)[0], row=0, group=group)


def test_read_to_write(dram: DramUnderTest) -> None:
    dram.issue(1000, row=0)
    dram.issue(1400, row=0)
    dram.assert_earliest_ready_at(1400 + dram.timing.tRTW, latencies(dram, True)[0], True, row=0)


def test_refresh_closes_all_banks_and_blocks(ddr4: Standard) -> None:
    dram = DramUnderTest(ddr4, refresh="all_bank")
    timing = dram.timing
    due = timing.tREFI
    dram.issue(due - 500, row=0)
    # the open row is precharged when the refresh is due
    done = due + timing.tRP + timing.tRFC
    dram.assert_earliest_ready_at(done, latencies(dram)[1], row=0)
    closed = DramUnderTest(ddr4, refresh="all_bank")
    closed.assert_earliest_ready_at(due + timing.tRFC, latencies(dram)[1], row=0)


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


@pytest.fixture(params=LEVELS)
def two_ranks(request: pytest.FixtureRequest) -> DramUnderTest:
    return DramUnderTest(load_standard("DDR4-3200").with_ranks(2), request.param)


def test_the_activate_window_is_of_a_rank(two_ranks: DramUnderTest) -> None:
    dram = two_ranks
    for group in range(4):
        dram.issue(1000 + 4 * group, row=0, group=group)
    closed = latencies(dram)[1]
    # at once in the other rank, once the bubble on the data bus is over
    assert dram.probe(1018, row=0, rank=1) == 1018 + closed
    assert dram.probe(1018, row=0, bank=1) > 1018 + closed


def test_rank_switch_leaves_a_bubble(two_ranks: DramUnderTest) -> None:
    dram = two_ranks
    dram.issue(1000, row=0, group=0)
    dram.issue(1100, row=0, group=1)
    dram.issue(1200, row=0, rank=1)
    dram.issue(1400, row=0, group=0)
    hit = latencies(dram)[0]
    same_rank = dram.probe(1401, row=0, group=1)
    other_rank = dram.probe(1401, row=0, rank=1)
    assert same_rank == 1400 + dram.timing.tCCD_S + hit
    assert other_rank - same_rank == dram.timing.tRTRS
    dram.issue(1401, row=0, rank=1)
    third = dram.issue(1402, row=0, group=2) - hit
    assert third >= 1400 + 2 * dram.timing.nBL + dram.timing.tRTRS


def test_ranks_are_refreshed_apart(two_ranks: DramUnderTest) -> None:
    dram = DramUnderTest(two_ranks.standard, two_ranks.model.level, refresh="all_bank")
    timing = dram.timing
    closed = latencies(dram)[1]
    # the first rank is due half a period after time 0, the second at its end
    due = timing.tREFI // 2
    dram.assert_earliest_ready_at(due + timing.tRFC, closed, row=0)
    assert dram.probe(due + 1, row=0, rank=1) == due + 1 + closed


@pytest.mark.parametrize("level", LEVELS)
def test_refresh_by_bank_blocks_one_bank(level: str) -> None:
    standard = load_standard("LPDDR4-3200")
    dram = DramUnderTest(standard, level, refresh="per_bank")
    timing = dram.timing
    closed = latencies(dram)[1]
    due = timing.tREFIpb
    dram.assert_earliest_ready_at(due + timing.tRFCpb, closed, row=0, bank=0)
    assert dram.probe(due + 1, row=0, bank=1) == due + 1 + closed
    end = 8 * timing.tREFIpb
    assert dram.model.statistics(end * dram.tck).refreshes == 8


@pytest.mark.parametrize("level", LEVELS)
def test_writes_of_ddr5_in_one_group_are_further_apart(level: str) -> None:
    standard = load_standard("DDR5-6400")
    timing = standard.timing
    channel = make_model(standard, level=level, refresh="none")
    # columns of one bank are the bursts of its 8 groups apart
    column = standard.bank_groups * standard.burst_bytes()
    spacing = []
    for start_ps, write in ((1_000_000, False), (2_000_000, True)):
        first = channel.serve(start_ps, 0, 64, write).end_ps
        second = channel.serve(start_ps, column, 64, write).end_ps
        spacing.append(round((second - first) / float(standard.tck_ps)))
    assert spacing == [timing.tCCD_L, timing.tCCD_L_WR]
