"""The source of `dram bench` and its report, by hand: the level `bandwidth` has one latency and one peak."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice

import pytest

from dpred_sim.components.dram import bench, patterns
from dpred_sim.components.dram.controller import Request, RequestController
from dpred_sim.components.dram.model import make_model
from dpred_sim.components.dram.patterns import Access
from dpred_sim.components.dram.standard import load_standard
from dpred_sim.errors import InputError

DDR4 = load_standard("DDR4-3200")
CLOCK = 0.625
BURST = DDR4.timing.nBL
LATENCY = DDR4.timing.tRCDRD + DDR4.timing.CL + BURST
"""Clocks of one burst, alone."""


def reads(size: int = 64) -> Iterator[Access]:
    return patterns.seq_read(size)


@pytest.mark.parametrize("size", [64, 256])
def test_below_peak_requests_come_evenly_and_do_not_wait(size: int) -> None:
    found = bench.run(DDR4, reads(size), level="bandwidth", rate=0.5, requests=100)
    bursts = size // 64
    alone = LATENCY + (bursts - 1) * BURST
    assert found.time_ps == (99 * 2 * BURST * bursts + alone) * 625
    assert found.mean_latency_ns == found.p99_latency_ns == pytest.approx(alone * CLOCK)
    assert (found.offered_fraction, found.bytes) == (0.5, 100 * size)


def test_above_peak_each_waits_longer_than_the_one_before() -> None:
    found = bench.run(DDR4, reads(), level="bandwidth", rate=2.0, requests=200)
    # a burst every two clocks, served every four
    latencies = [(LATENCY + 2 * number) * CLOCK for number in range(200)]
    assert found.mean_latency_ns == pytest.approx(sum(latencies) / 200)
    assert found.p99_latency_ns == pytest.approx(latencies[197])
    assert found.mean_read_latency_ns == pytest.approx(found.mean_latency_ns)


@pytest.mark.parametrize("outstanding", [1, 2, 3])
def test_so_many_are_on_their_way(outstanding: int) -> None:
    """Each is submitted when the one so many before it has ended."""
    found = bench.run(DDR4, reads(), level="bandwidth", outstanding=outstanding, requests=60)
    rounds = 60 // outstanding
    assert found.time_ps == (rounds * LATENCY + (outstanding - 1) * BURST) * 625
    if outstanding == 1:
        assert found.mean_latency_ns == pytest.approx(LATENCY * CLOCK)


def test_requests_are_cut_in_pieces() -> None:
    found = bench.run(DDR4, reads(200), level="bandwidth", outstanding=1, piece_bytes=64, requests=10)
    # 64, 64, 64 and 8 bytes; pieces that do not begin with a burst touch two
    assert (found.requests, found.bytes) == (40, 2000)
    assert found.counters["read_bytes"] == 2000
    whole = bench.run(DDR4, reads(256), level="bandwidth", outstanding=1, piece_bytes=64, requests=10)
    assert whole.mean_latency_ns == pytest.approx(LATENCY * CLOCK)
    assert whole.mean_request_latency_ns == pytest.approx(4 * LATENCY * CLOCK)


def test_a_saturated_source_counts_from_leaving_its_queue() -> None:
    """What the window lets under way is all that a burst waits for, however many are ahead."""
    found = bench.run(DDR4, reads(), level="bandwidth", requests=3000)
    window = 32 + 8 * DDR4.banks
    assert found.p99_latency_ns <= (window * BURST + LATENCY) * CLOCK
    assert found.mean_latency_ns > 0.9 * window * BURST * CLOCK
    assert found.fraction_of_peak == pytest.approx(1, abs=0.01)


def test_read_latency_is_of_reads() -> None:
    alternating = (Access(number * 64, 64, number % 2 == 1) for number in count())
    found = bench.run(DDR4, alternating, level="bandwidth", rate=4.0, requests=40)
    assert found.mean_read_latency_ns < found.mean_latency_ns
    assert bench.run(DDR4, patterns.seq_write(64), level="bandwidth", requests=5).mean_read_latency_ns == 0


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf")])
def test_a_rate_is_a_positive_fraction(rate: float) -> None:
    with pytest.raises(InputError) as caught:
        bench.run(DDR4, reads(), rate=rate, requests=1)
    assert caught.value.field == "rate"


def test_a_pattern_without_requests_is_refused() -> None:
    with pytest.raises(InputError, match="no requests"):
        bench.run(DDR4, [])


def order(controller: RequestController, requests: str) -> str:
    """In which order the controller hands over reads and writes that all come at time 0."""
    for number, letter in enumerate(requests):
        controller.submit(0, Request(0, number * 64, 64, letter == "w", letter))
    done: list[Request] = []
    now = 0
    while len(done) < len(requests):
        done += controller.advance(now)
        now = max(request.end_ps for request in done)
    return "".join(request.token for request in done)


def test_writes_are_drained_from_the_high_to_the_low_mark() -> None:
    model = make_model(DDR4, level="bandwidth")
    options = {"window_bytes": 64, "write_high_bytes": 4 * 64}
    assert order(RequestController(model, write_low_bytes=64, **options), "wwwwrrr") == "wwwrrrw"
    assert order(RequestController(model, write_low_bytes=0, **options), "wwwwrrr") == "wwwwrrr"
    assert order(RequestController(model, write_low_bytes=0, **options), "wwwrrr") == "rrrwww"


def test_a_write_waits_for_the_reads_under_way() -> None:
    controller = RequestController(make_model(DDR4, level="bandwidth"))
    read, write = Request(0, 0, 64, False), Request(0, 64, 64, True)
    controller.submit(0, read)
    assert controller.advance(0) == [read]
    controller.submit(1, write)
    assert controller.advance(1) == controller.advance(read.end_ps - 1) == []
    assert controller.waiting == 1
    assert controller.advance(read.end_ps) == [write]


def test_two_streams_read_and_one_writes() -> None:
    kinds = [access.write for access in islice(patterns.rw21(256), 6)]
    assert kinds == [False, False, True, False, False, True]
    places = [access.address for access in islice(patterns.rw21(256, skewed=False), 6)]
    half = 1 << 29
    assert places == [0, half, 2 * half, 256, half + 256, 2 * half + 256]
