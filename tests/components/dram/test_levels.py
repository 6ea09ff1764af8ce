"""What all levels keep: conservation, a breakdown that adds up, closed forms, monotony."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from random import Random

import pytest
import simpy

from dpred_sim.components.dram.channel import DramChannel, DramParameters
from dpred_sim.components.dram.model import LOSSES, make_model
from dpred_sim.components.dram.standard import Standard, load_standard
from dpred_sim.errors import InputError

LEVELS = ["ideal", "bandwidth", "banked", "burst"]
TIMED = [level for level in LEVELS if level != "ideal"]
DDR4 = load_standard("DDR4-3200")
GIB = 1 << 30


def pattern(name: str, size: int, count: int, seed: int = 1) -> list[tuple[int, bool]]:
    random = Random(seed)
    if name == "sequential":
        return [(number * size, False) for number in range(count)]
    if name == "writes":
        return [(number * size, True) for number in range(count)]
    if name == "random":
        return [(random.randrange(2 * GIB // size) * size, False) for _ in range(count)]
    if name == "mixed":
        return [(random.randrange(2 * GIB // size) * size, random.random() < 0.33) for _ in range(count)]
    assert name == "streams"
    return [
        (number // 3 * size + number % 3 * (GIB // 2 + 42240), number % 3 == 2) for number in range(count)
    ]


class Source:
    """Keeps a number of requests outstanding."""

    def __init__(
        self, channel: DramChannel, requests: list[tuple[int, bool]], size: int, outstanding: int
    ) -> None:
        self.channel, self.size = channel, size
        self.requests = iter(requests)
        self.ends: list[int] = []
        for _ in range(outstanding):
            self.next()

    def next(self, end_ps: int | None = None) -> None:
        if end_ps is not None:
            assert end_ps == self.channel.env.now
            self.ends.append(end_ps)
        request = next(self.requests, None)
        if request is not None:
            self.channel.submit(request[0], self.size, request[1], self.next)


def run(
    level: str,
    name: str,
    size: int,
    count: int,
    standard: Standard = DDR4,
    outstanding: int = 16,
    **options: object,
) -> tuple[DramChannel, int]:
    env = simpy.Environment(initial_time=0)
    channel = DramChannel(env, "dram", standard=standard, level=level, **options)
    source = Source(channel, pattern(name, size, count), size, outstanding)
    env.run()
    assert len(source.ends) == count
    assert channel.pending == 0
    return channel, int(env.now)


def fraction(channel: DramChannel, end: int, bytes_: int) -> float:
    return bytes_ / (end * channel.model.peak_bytes_per_ps)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", ["sequential", "mixed", "streams"])
@pytest.mark.parametrize("size", [64, 100, 2048])
def test_every_byte_is_served_once_and_time_adds_up(level: str, name: str, size: int) -> None:
    channel, end = run(level, name, size, 300)
    statistics = channel.statistics(end)
    writes = sum(write for _, write in pattern(name, size, 300))
    assert statistics.write_bytes == writes * size
    assert statistics.read_bytes == (300 - writes) * size
    assert statistics.bursts == statistics.row_hits + statistics.row_misses + statistics.row_conflicts
    assert statistics.bursts == statistics.read_bursts + statistics.write_bursts
    if level == "banked":
        assert statistics.activates >= statistics.row_misses + statistics.row_conflicts
    for moment in (end, end + 123_457):
        parts = channel.breakdown(moment)
        assert set(parts) == {"busy_ps", *(f"{name}_ps" for name in LOSSES)}
        assert sum(parts.values()) == moment
        assert min(parts.values()) >= 0
        if level != "ideal":
            assert parts["busy_ps"] == statistics.bursts * DDR4.timing.nBL * 625


@pytest.mark.parametrize("level", TIMED)
def test_never_above_peak_and_requests_overlap(level: str) -> None:
    channel, end = run(level, "sequential", 4096, 200)
    assert 0.9 < fraction(channel, end, 200 * 4096) <= 1


@pytest.mark.parametrize("name", ["sequential", "writes"])
@pytest.mark.parametrize("size", [2048, 4096])
def test_sequential_reaches_the_refresh_limit(name: str, size: int) -> None:
    timing = DDR4.timing
    limit = 1 - (timing.tRFC + timing.tRP + timing.tRCDRD) / timing.tREFI
    channel, end = run("banked", name, size, 8 * 2**20 // size)
    assert fraction(channel, end, 8 * 2**20) == pytest.approx(limit, rel=0.015)


def test_one_bank_group_and_one_bank() -> None:
    timing = DDR4.timing
    limit = 1 - (timing.tRFC + timing.tRP + timing.tRCDRD) / timing.tREFI
    env = simpy.Environment(initial_time=0)
    channel = DramChannel(env, "dram", standard=DDR4, window_bytes=16384)
    Source(channel, [(number * 256, False) for number in range(40_000)], 64, 64)
    env.run()
    one_group = limit * timing.tCCD_S / timing.tCCD_L
    assert fraction(channel, int(env.now), 40_000 * 64) == pytest.approx(one_group, rel=0.015)
    env = simpy.Environment(initial_time=0)
    channel = DramChannel(env, "dram", standard=DDR4)
    Source(channel, [(number << 17, False) for number in range(4_000)], 64, 64)
    env.run()
    one_bank = limit * timing.nBL / timing.tRC
    assert fraction(channel, int(env.now), 4_000 * 64) == pytest.approx(one_bank, rel=0.015)


def faster(**changes: int) -> Standard:
    return replace(DDR4, timing=replace(DDR4.timing, **changes))


@pytest.mark.parametrize("name", ["sequential", "random", "mixed", "streams"])
@pytest.mark.parametrize(
    "standard",
    [
        replace(DDR4, tck_ps=DDR4.tck_ps * 3 / 4),
        faster(tRCDRD=16, tRCDWR=16, tRP=16, tRAS=40, tRC=56),
        faster(tCCD_L=6),
        faster(tFAW=17, tRRD_L=4),
        faster(tRFC=280),
        faster(tWTR_S=2, tWTR_L=6, tRTW=11),
    ],
    ids=["clock", "rows", "ccd", "window", "refresh", "turns"],
)
def test_a_faster_standard_is_never_slower(name: str, standard: Standard) -> None:
    size, count = 2048, 1500
    _, slow = run("banked", name, size, count)
    _, fast = run("banked", name, size, count, standard)
    assert fast <= slow * 1.01


@pytest.mark.parametrize("level", TIMED)
def test_a_wider_bus_is_never_slower(level: str) -> None:
    for name in ("sequential", "streams"):
        count = 20 if level == "burst" else 300
        times = [run(level, name, 4096, count, bus_bits=bits)[1] for bits in (16, 32, 64, 128)]
        assert times == sorted(times, reverse=True)


@pytest.mark.parametrize("level", LEVELS)
def test_same_calls_same_times(level: str) -> None:
    one = make_model(DDR4, level=level)
    other = make_model(DDR4, level=level)
    for number, (address, write) in enumerate(pattern("mixed", 2048, 200)):
        assert one.serve(number * 50_000, address, 2048, write) == other.serve(
            number * 50_000, address, 2048, write
        )


@pytest.mark.parametrize("level", ["banked", "burst"])
def test_writes_wait_for_reads_and_go_in_batches(level: str) -> None:
    env = simpy.Environment(initial_time=0)
    channel = DramChannel(env, "dram", standard=DDR4, level=level)
    order: list[str] = []
    for number in range(320):
        write = number % 2 == 1
        label = "w" if write else "r"
        channel.submit(number * 64, 64, write, lambda end, label=label: order.append(label))
    env.run()
    assert sorted(order) == ["r"] * 160 + ["w"] * 160
    runs = ["".join(run) for _, run in groupby(order)]
    # 160 writes in batches of 32
    assert 4 <= sum("w" in run for run in runs) <= 6


@pytest.mark.parametrize("level", ["banked", "burst"])
def test_few_writes_wait_as_long_as_they_would_cost_a_read(level: str) -> None:
    env = simpy.Environment(initial_time=0)
    channel = DramChannel(env, "dram", standard=DDR4, level=level)
    done: list[int] = []
    channel.submit(0, 64, True, done.append)
    env.run()
    timing = DDR4.timing
    patience = timing.CWL + timing.nBL + timing.tWTR_L + timing.tRP + timing.tRCDRD
    assert done == [(patience + timing.tRCDWR + timing.CWL + timing.nBL) * 625]


@pytest.mark.parametrize("level", ["banked", "burst"])
def test_a_read_does_not_wait_for_few_writes(level: str) -> None:
    env = simpy.Environment(initial_time=0)
    channel = DramChannel(env, "dram", standard=DDR4, level=level)
    done: dict[str, int] = {}
    channel.submit(0, 64, True, lambda end: done.setdefault("write", end))
    channel.submit(1 << 20, 64, False, lambda end: done.setdefault("read", end))
    env.run()
    timing = DDR4.timing
    # a clock behind the write at the port
    assert done["read"] <= (1 + timing.tRCDRD + timing.CL + timing.nBL) * 625 < done["write"]


def test_ideal_is_asynchronous() -> None:
    env = simpy.Environment(initial_time=77)
    channel = DramChannel(env, "dram", standard=DDR4, level="ideal")
    done: list[int] = []
    channel.submit(0, 1 << 20, False, done.append)
    assert done == []
    env.run()
    assert done == [77]


def test_parameters_from_a_topology() -> None:
    parameters = DramParameters.model_validate(
        {"standard": "DDR4-3200", "bus": "32 bit", "window": "8 KiB", "stores": {"codec": "dpred"}}
    )
    channel = DramChannel.from_parameters(simpy.Environment(), "dram", parameters)
    assert channel.model.burst_bytes == 32
    assert channel.model.level == "banked"
    assert channel.controller.window_bytes == 8192  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "options", [{"level": "exact"}, {"page": "ajar"}, {"refresh": "never"}, {"mapping": "no"}]
)
def test_wrong_options_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(InputError) as caught:
        make_model(DDR4, **options)
    assert caught.value.field == next(iter(options))


@pytest.mark.parametrize("level", TIMED)
@pytest.mark.parametrize("options", [{}, {"page": "closed"}, {"refresh": "none"}, {"refresh": "per_bank"}])
def test_background_time_adds_up_over_the_ranks(level: str, options: dict[str, str]) -> None:
    standard = load_standard("LPDDR4-3200" if options.get("refresh") == "per_bank" else "DDR4-3200")
    channel, end = run(level, "mixed", 256, 600, standard.with_ranks(2), **options)
    for moment in (end, end + 10_000_000):
        statistics = channel.statistics(moment)
        parts = [
            statistics.background_precharged_ps,
            statistics.background_active_ps,
            statistics.background_refresh_ps,
        ]
        assert sum(parts) == 2 * moment
        assert min(parts) >= 0
        if level != "bandwidth":
            assert statistics.background_active_ps > 0


@pytest.mark.parametrize("level", ["banked", "burst"])
def test_background_time_by_hand(level: str) -> None:
    """One read: its row is open until the refresh, or until it closes by itself."""
    timing, period = DDR4.timing, 625
    whole = 2 * timing.tREFI + 5000
    for options, active in (
        ({}, timing.tREFI - 1000),
        ({"page": "closed"}, max(timing.tRAS, timing.tRCDRD + timing.tRTP)),
        ({"refresh": "none"}, whole - 1000),
    ):
        model = make_model(DDR4, level=level, **options)
        model.serve(1000 * period, 0, 64, False)
        statistics = model.statistics(whole * period)
        refreshes = 0 if options.get("refresh") == "none" else 2
        assert statistics.refreshes == refreshes
        assert statistics.background_active_ps == active * period
        assert statistics.background_refresh_ps == refreshes * timing.tRFC * period
        assert (statistics.activates, statistics.read_bursts, statistics.write_bursts) == (1, 1, 0)
    model = make_model(DDR4, level=level)
    early = model.statistics((timing.tREFI + 100) * period)
    assert early.background_refresh_ps == 100 * period
