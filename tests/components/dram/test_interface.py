"""What every level promises to whoever calls it, for any requests on any standard."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpred_sim.components.dram.bench import drive
from dpred_sim.components.dram.controller import Request, make_controller
from dpred_sim.components.dram.model import LEVELS, LOSSES, ChannelModel, make_model
from dpred_sim.components.dram.standard import Standard, load_standard, standard_names

OPTIONS: list[dict[str, Any]] = [{}, {"page": "closed"}, {"refresh": "none"}, {"mapping": "ro ra ba bg co"}]
CALLS = st.lists(
    st.tuples(
        st.integers(0, 40_000),
        st.one_of(st.integers(0, 1 << 16), st.integers((1 << 28) - 5000, 1 << 28)),
        st.one_of(st.sampled_from([1, 31, 32, 64, 100, 2048, 4096]), st.integers(1, 9000)),
        st.booleans(),
    ),
    min_size=1,
    max_size=30,
)
"""Pause before the call in ps, address, size, direction."""


def bursts_of(model: ChannelModel, address: int, size: int) -> int:
    return (address + size - 1) // model.burst_bytes - address // model.burst_bytes + 1


def check_statistics(model: ChannelModel, end: int, calls: list[tuple[int, int, int, bool]]) -> None:
    """Bytes, requests and bursts are those asked for, whatever their order; all times add up."""
    found = model.statistics(end)
    for write, bytes_, requests, bursts in (
        (False, found.read_bytes, found.read_requests, found.read_bursts),
        (True, found.write_bytes, found.write_requests, found.write_bursts),
    ):
        own = [(address, size) for _, address, size, its in calls if its is write]
        assert (bytes_, requests) == (sum(size for _, size in own), len(own))
        assert bursts == sum(bursts_of(model, address, size) for address, size in own)
    assert found.bursts == found.read_bursts + found.write_bursts
    assert found.bursts == found.row_hits + found.row_misses + found.row_conflicts
    ranks = model.standard.ranks
    background = found.background_precharged_ps, found.background_active_ps, found.background_refresh_ps
    assert sum(background) == end * ranks
    assert min(background) >= 0
    for moment in (end, end + 12_345_678):
        parts = model.breakdown(moment)
        assert set(parts) == {"busy_ps", *(f"{name}_ps" for name in LOSSES)}
        assert sum(parts.values()) == moment
        assert min(parts.values()) >= 0
    if model.level != "ideal":
        busy = found.bursts * model.standard.timing.nBL * model.standard.tck_ps
        assert abs(model.breakdown(end)["busy_ps"] - busy) <= 1


@pytest.mark.parametrize("level", LEVELS)
@settings(max_examples=30, deadline=None)
@given(CALLS, st.sampled_from(standard_names()), st.sampled_from(OPTIONS), st.sampled_from([1, 2]))
def test_any_calls_one_after_the_other(
    level: str, calls: list[tuple[int, int, int, bool]], name: str, options: dict[str, Any], ranks: int
) -> None:
    standard = load_standard(name).with_ranks(ranks)
    one, other = make_model(standard, level=level, **options), make_model(standard, level=level, **options)
    burst = standard.timing.nBL * standard.tck_ps
    now, latest, bursts = 0, 0, 0
    for pause, address, size, write in calls:
        now += pause
        served = one.serve(now, address, size, write)
        assert served == other.serve(now, address, size, write)
        assert now <= served.start_ps <= served.first_ps <= served.end_ps
        count = bursts_of(one, address, size)
        bursts += count
        latest = max(latest, served.end_ps)
        if level != "ideal":
            # a request is never faster than its own bursts, and all of them never faster than peak
            assert served.end_ps - now >= count * burst - 1
            assert latest >= bursts * burst - 1
    check_statistics(one, latest, calls)


@pytest.mark.parametrize("level", LEVELS)
@settings(max_examples=20, deadline=None)
@given(CALLS, st.sampled_from(standard_names()), st.sampled_from(OPTIONS))
def test_any_calls_through_the_queues(
    level: str, calls: list[tuple[int, int, int, bool]], name: str, options: dict[str, Any]
) -> None:
    """Each request ends once, not before it came, and the same run gives the same ends."""
    standard = load_standard(name)
    runs = []
    for _ in range(2):
        model = make_model(standard, level=level, **options)
        controller = make_controller(model)
        done: list[Request] = []
        ends: list[int] = []
        now = time = 0
        for number, (pause, address, size, write) in enumerate(calls):
            time += pause
            now = drive(controller, now, time, ends, done)
            controller.submit(now, Request(now, address, size, write, number))
        while len(done) < len(calls):
            now = drive(controller, now, None, ends, done)
        assert sorted(request.token for request in done) == list(range(len(calls)))
        for request in done:
            assert request.arrival_ps <= request.accepted_ps <= request.end_ps
        end = max(request.end_ps for request in done)
        check_statistics(model, end, calls)
        runs.append([(request.token, request.end_ps) for request in done])
    assert runs[0] == runs[1]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", standard_names())
def test_one_byte_costs_a_burst_and_a_border_two(level: str, name: str) -> None:
    standard = load_standard(name)
    burst = standard.burst_bytes()
    for address, size, bursts in (
        (0, 1, 1),
        (burst - 1, 1, 1),
        (burst - 1, 2, 2),
        (5, burst, 2),
        (standard.page_bytes() - 1, 2, 2),
        (standard.capacity_bytes() - 1, 1, 1),
        (standard.capacity_bytes() - burst, burst, 1),
    ):
        model = make_model(standard, level=level, refresh="none")
        end = model.serve(0, address, size, False).end_ps
        assert model.statistics(end).bursts == bursts
        assert model.statistics(end).read_bytes == size
        if level != "ideal":
            assert model.breakdown(end)["busy_ps"] == int(bursts * standard.timing.nBL * standard.tck_ps)


@pytest.mark.parametrize("level", LEVELS)
def test_addresses_beyond_the_end_begin_anew(level: str) -> None:
    standard = load_standard("DDR4-3200")
    capacity, size = standard.capacity_bytes(), standard.burst_bytes()
    beyond, plain = (make_model(standard, level=level, refresh="none") for _ in range(2))
    assert beyond.serve(0, capacity, size, False) == plain.serve(0, 0, size, False)
    # a hit, where there are rows
    assert beyond.serve(10_000_000, 0, size, False) == plain.serve(10_000_000, 0, size, False)


@pytest.mark.parametrize("level", LEVELS)
def test_what_crosses_the_end_goes_on_at_the_beginning(level: str) -> None:
    standard = load_standard("DDR4-3200")
    timing, size = standard.timing, standard.burst_bytes()
    model = make_model(standard, level=level, refresh="none")
    model.serve(0, standard.capacity_bytes() - size, 2 * size, False)
    latency = {"ideal": 0, "bandwidth": timing.tRCDRD + timing.CL + timing.nBL}.get(
        level, timing.CL + timing.nBL
    )
    assert model.serve(10_000_000, 0, size, False).end_ps == 10_000_000 + latency * 625


def grows(standard: Standard, level: str, sizes: range) -> list[int]:
    ends = []
    for size in sizes:
        model = make_model(standard, level=level, refresh="none")
        model.serve(0, 1 << 20, 512, False)
        ends.append(model.serve(0, 0, size, False).end_ps)
    return ends


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", standard_names())
def test_a_longer_request_never_ends_sooner(level: str, name: str) -> None:
    standard = load_standard(name)
    step = standard.burst_bytes()
    ends = grows(standard, level, range(step, 3 * standard.page_bytes(), 5 * step))
    assert ends == sorted(ends)
    assert level == "ideal" or ends[-1] > ends[0]


@pytest.mark.parametrize("level", ["banked", "burst"])
def test_refreshes_that_nobody_sees_are_counted(level: str) -> None:
    """The first closes the row that was open; a rank that sleeps is refreshed all the same."""
    standard = load_standard("DDR4-3200")
    interval = standard.timing.tREFI * 625
    model = make_model(standard, level=level)
    model.serve(0, 0, 64, False)
    end = model.serve(3 * interval + 2_000_000, 0, 64, False).end_ps
    found = model.statistics(end)
    assert (found.refreshes, found.activates, found.precharges) == (3, 2, 1)
    assert (found.row_hits, found.row_misses, found.row_conflicts) == (0, 2, 0)
    assert model.statistics(end + 2 * interval).refreshes == 5
    conflict = model.serve(end + 1000, 16 * 128 * 64, 64, False).end_ps
    hit = model.serve(conflict + 1000, 16 * 128 * 64 + 256, 64, False).end_ps
    found = model.statistics(hit)
    assert (found.activates, found.precharges) == (3, 2)
    assert (found.row_hits, found.row_misses, found.row_conflicts) == (1, 2, 1)


def test_the_bubble_between_ranks_is_counted_once() -> None:
    model = make_model(load_standard("HBM2").with_ranks(2))
    end = model.serve(0, 268433409, 2048, False).end_ps
    assert model.breakdown(end)["busy_ps"] == 65 * 2000
