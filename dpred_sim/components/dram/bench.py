"""Measures a channel with a pattern: bandwidth, latency, row hits, and where the time went."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from heapq import heappop, heappush
from itertools import islice
from typing import Any

from dpred_sim.components.dram.controller import Controller, Request, make_controller
from dpred_sim.components.dram.model import ChannelModel, make_model
from dpred_sim.components.dram.patterns import Access
from dpred_sim.components.dram.standard import Standard
from dpred_sim.errors import InputError

AHEAD_BURSTS = 512
"""Bursts that a saturating source has waiting; more than any queue holds."""


@dataclass(slots=True)
class BenchResult:
    """What one run of a pattern measured."""

    standard: str
    level: str
    mapping: str
    requests: int
    bytes: int
    time_ps: int
    bandwidth_gbps: float | None
    """10^9 bytes a second; None where no time passes (level `ideal`)."""
    peak_gbps: float
    fraction_of_peak: float | None
    offered_fraction: float | None
    mean_latency_ns: float
    """Of what is issued (requests, or pieces of them), to its last data: from arrival at a fixed rate or
    number outstanding, from leaving the source's queue when saturated."""
    p99_latency_ns: float
    mean_read_latency_ns: float
    mean_request_latency_ns: float
    """From the arrival of a request's first piece to the end of its last."""
    row_hit_rate: float
    breakdown: dict[str, float]
    """Fractions of the elapsed time; they add up to 1."""
    counters: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


def run(
    standard: Standard,
    accesses: Iterable[Access],
    *,
    bus_bits: int | None = None,
    level: str = "banked",
    mapping: str | None = None,
    page: str = "open",
    refresh: str | None = None,
    queue: int | None = None,
    rate: float | None = None,
    outstanding: int | None = None,
    piece_bytes: int | None = None,
    requests: int | None = None,
    **options: Any,
) -> BenchResult:
    """Run a pattern.

    Without `rate` and `outstanding` the source is always ahead (saturated). `rate` is a fraction of
    peak: pieces arrive evenly spaced, whatever becomes of them. `outstanding` keeps so many pieces on
    their way. `piece_bytes` cuts requests (default: as they are). `queue` is the transaction queue in
    bursts (default 32). `requests` bounds the pattern.
    """
    model_options = dict(options)
    controller_options: dict[str, Any] = {}
    if level == "burst":
        if queue is not None:
            model_options["queue"] = queue
    elif level == "banked" and queue is not None:
        controller_options = {"queue": queue}
    model = make_model(
        standard, bus_bits, level, mapping=mapping, page=page, refresh=refresh, **model_options
    )
    controller = make_controller(model, **controller_options)
    if rate is not None and not 0 < rate < float("inf"):
        raise InputError("the rate is a positive fraction of peak", field="rate", found=rate)
    stream = islice(accesses, requests) if requests is not None else iter(accesses)
    pieces = _cut(stream, piece_bytes)
    if rate is not None:
        done = _fixed_rate(controller, pieces, rate, standard, bus_bits)
    else:
        done = closed_loop(controller, pieces, outstanding, model.burst_bytes)
    return _result(model, done, rate, saturated=rate is None and outstanding is None)


def _cut(accesses: Iterator[Access], size: int | None) -> Iterator[tuple[Access, int]]:
    """Pieces and the number of the request they belong to."""
    for number, access in enumerate(accesses):
        if size is None:
            yield access, number
            continue
        for start in range(0, access.size_bytes, size):
            piece = Access(access.address + start, min(size, access.size_bytes - start), access.write)
            yield piece, number


def drive(controller: Controller, now: int, until: int | None, ends: list[int], done: list[Request]) -> int:
    """Let the controller work up to `until` (or to the next end of a request); returns the time."""
    while True:
        for request in controller.advance(now):
            heappush(ends, request.end_ps)
            done.append(request)
        wake = controller.wake_ps
        if wake is not None and wake <= now:
            wake = now + 1
        if until is None and ends and (wake is None or ends[0] <= wake):
            return max(now, heappop(ends))
        following = min(
            (time for time in (ends[0] if ends else None, wake) if time is not None), default=None
        )
        if following is None or (until is not None and following > until):
            return now if until is None else until
        if ends and ends[0] <= following:
            heappop(ends)
        now = max(now, following)


def _fixed_rate(
    controller: Controller,
    pieces: Iterator[tuple[Access, int]],
    rate: float,
    standard: Standard,
    bus_bits: int | None,
) -> list[Request]:
    done: list[Request] = []
    ends: list[int] = []
    bits_a_ps = Fraction(standard.peak_bits_per_second(bus_bits)) / 10**12 * Fraction(rate)
    arrival = Fraction(0)
    now = count = 0
    for (address, size, write), number in pieces:
        now = drive(controller, now, int(arrival), ends, done)
        controller.submit(now, Request(now, address, size, write, number))
        count += 1
        arrival += 8 * size / bits_a_ps
    while len(done) < count:
        now = drive(controller, now, None, ends, done)
    return done


def closed_loop(
    controller: Controller, pieces: Iterator[tuple[Access, int]], outstanding: int | None, burst_bytes: int
) -> list[Request]:
    """Serve pieces, so many outstanding or all ahead; requests have the number of their piece as token."""
    done: list[Request] = []
    ends: list[int] = []
    now = on_the_way = 0
    open_pieces = True
    bytes_ahead = AHEAD_BURSTS * burst_bytes
    waiting_bytes = 0
    while True:
        while open_pieces and (
            on_the_way < outstanding if outstanding is not None else waiting_bytes < bytes_ahead
        ):
            piece = next(pieces, None)
            if piece is None:
                open_pieces = False
                break
            access, number = piece
            controller.submit(now, Request(now, *access, number))
            on_the_way += 1
            waiting_bytes += access.size_bytes
        if not on_the_way:
            return done
        before = len(done)
        ended = now
        now = drive(controller, now, None, ends, done)
        if outstanding is None:
            for request in done[before:]:
                on_the_way -= 1
                waiting_bytes -= request.size_bytes
        elif now >= ended:
            on_the_way -= 1


def _result(model: ChannelModel, done: list[Request], rate: float | None, saturated: bool) -> BenchResult:
    if not done:
        raise InputError("the pattern has no requests", field="pattern")
    end = max(request.end_ps for request in done)
    starts = [request.accepted_ps if saturated else request.arrival_ps for request in done]
    times = [(request.end_ps - start) / 1000 for request, start in zip(done, starts, strict=True)]
    reads = [time for request, time in zip(done, times, strict=True) if not request.write]
    latencies = sorted(times)
    whole: dict[int, tuple[int, int]] = {}
    for request, start in zip(done, starts, strict=True):
        first, last = whole.get(request.token, (start, request.end_ps))
        whole[request.token] = min(first, start), max(last, request.end_ps)
    size = sum(request.size_bytes for request in done)
    statistics = model.statistics(end)
    bandwidth = size / end * 1000 if end else None
    peak = model.peak_bytes_per_ps * 1000
    elapsed = max(1, end)
    return BenchResult(
        standard=model.standard.name,
        level=model.level,
        mapping=getattr(getattr(model, "mapping", None), "text", ""),
        requests=len(done),
        bytes=size,
        time_ps=end,
        bandwidth_gbps=bandwidth,
        peak_gbps=peak,
        fraction_of_peak=None if bandwidth is None else bandwidth / peak,
        offered_fraction=rate,
        mean_latency_ns=sum(latencies) / len(latencies),
        p99_latency_ns=latencies[min(len(latencies) - 1, -(-99 * len(latencies) // 100) - 1)],
        mean_read_latency_ns=sum(reads) / len(reads) if reads else 0.0,
        mean_request_latency_ns=sum(last - first for first, last in whole.values()) / len(whole) / 1000,
        row_hit_rate=statistics.row_hits / max(1, statistics.bursts),
        breakdown={name.removesuffix("_ps"): value / elapsed for name, value in model.breakdown(end).items()},
        counters=statistics.to_dict(),
    )
