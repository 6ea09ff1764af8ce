"""The queues before the `banked` level: against cutting every request, and against the `burst` level."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest

from dpred_sim.components.dram import bench, patterns
from dpred_sim.components.dram.banked import BankedModel
from dpred_sim.components.dram.controller import Request
from dpred_sim.components.dram.patterns import Access
from dpred_sim.components.dram.queues import QueueController, _Chunk, _Queue
from dpred_sim.components.dram.standard import load_standard
from dpred_sim.errors import InputError

STANDARDS = ["DDR4-3200", "DDR5-6400", "LPDDR4-3200", "LPDDR5-6400", "HBM2"]


def pattern(name: str, size: int) -> Iterator[Access]:
    if name == "rw21":
        return patterns.rw21(size)
    if name == "random_rw":
        return patterns.random(size, write_third=True)
    return patterns.make_pattern(name, size, 1)


@pytest.mark.parametrize("standard", STANDARDS)
@pytest.mark.parametrize("name", ["seq_read", "rw21", "random", "random_rw"])
@pytest.mark.parametrize("size", [2048, 4096])
def test_whole_runs_are_as_good_as_chunks(
    standard: str, name: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reads that nothing can come between are not cut; cutting them all gives nearly the same times."""
    loaded = load_standard(standard)
    for options in ({}, {"outstanding": 3}, {"rate": 0.5}):
        accesses = list(islice(pattern(name, size), 300))
        whole = bench.run(loaded, accesses, **options)
        with monkeypatch.context() as patched:
            patched.setattr(QueueController, "_at_once", lambda *_: False)
            cut = bench.run(loaded, accesses, **options)
        assert whole.time_ps == pytest.approx(cut.time_ps, rel=0.015)
        if options:
            assert whole.mean_latency_ns == pytest.approx(cut.mean_latency_ns, rel=0.03)
        assert whole.counters["bursts"] == cut.counters["bursts"]


BOUNDS = [
    ("DDR4-3200", None, 8), ("DDR5-6400", None, 8), ("LPDDR4-4267", None, 8), ("HBM2", None, 8),
    ("HBM3", None, 8), ("DDR4-3200", "ro ba bg co", 15), ("DDR4-2400", "ro ba bg co", 15),
]  # fmt: skip


@pytest.mark.parametrize(("standard", "mapping", "bound"), BOUNDS)
@pytest.mark.parametrize("options", [{}, {"page": "closed"}])
def test_banked_stays_near_burst(
    standard: str, mapping: str | None, bound: float, options: dict[str, str]
) -> None:
    """Configurations that no reference covers: the levels share nothing but the timing."""
    loaded = load_standard(standard)
    for name in ("rw21", "random_rw"):
        accesses = list(islice(pattern(name, 2048), 100))
        fractions = [
            bench.run(loaded, accesses, level=level, mapping=mapping, **options).fraction_of_peak
            for level in ("banked", "burst")
        ]
        assert fractions[0] == pytest.approx(fractions[1], rel=bound / 100)


def test_who_finds_his_queue_full_holds_up_those_behind() -> None:
    """33 writes to one bank fill the buffer; the read behind them waits until one has moved."""
    loaded = load_standard("DDR4-3200")
    column = 4 * 64
    alone = bench.run(loaded, [Access(1 << 20, 64, False)], refresh="none").mean_read_latency_ns
    few = [Access(number * column, 64, True) for number in range(8)]
    many = [Access(number * column, 64, True) for number in range(64)]
    read = Access(1 << 20, 64, False)
    options = {"refresh": "none", "rate": 8.0}
    behind_few = bench.run(loaded, [*few, read], **options).mean_read_latency_ns
    behind_many = bench.run(loaded, [*many, read], **options).mean_read_latency_ns
    assert behind_few < alone + 20
    assert behind_many > alone + 100


def test_watermarks() -> None:
    """Eight writes are too few to go at once, unless the watermark says so; the low one keeps some back."""
    loaded = load_standard("DDR4-3200")
    timing = loaded.timing
    at_once = (timing.tRCDWR + timing.CWL + timing.nBL) * 625
    for options, early in (
        ({}, 0),
        ({"write_high_bytes": 512}, 8),
        ({"write_high_bytes": 512, "write_low_bytes": 192}, 5),
    ):
        controller = QueueController(BankedModel(loaded, 64), **options)
        requests = [Request(0, number * 64, 64, True) for number in range(8)]
        for request in requests:
            controller.submit(0, request)
        done = controller.advance(0)
        assert len(done) == early
        if early:
            # it has come through the port a burst a clock
            assert at_once <= done[0].end_ps <= at_once + 8 * 625
        wake = controller.wake_ps
        while wake is not None and controller.waiting:
            done += controller.advance(wake)
            wake = controller.wake_ps
        assert done == requests
    for wrong in ({"window_bytes": 0}, {"write_high_bytes": 64, "write_low_bytes": 128}):
        with pytest.raises(InputError):
            QueueController(BankedModel(loaded, 64), **wrong)


@pytest.mark.parametrize("size", [64, 512])
def test_what_waits_for_a_turn_of_the_bus_keeps_its_order_at_each_bank(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reads and writes mixed at two rows: at a bank nothing passes what moved there before."""
    moved: dict[int, list[int]] = {}
    handed: dict[int, list[int]] = {}
    mixed = 0

    def told(order: dict[int, list[int]], chunk: _Chunk) -> None:
        for share in chunk.piece.shares:
            order.setdefault(share.bank, []).append(id(chunk))
        chunks.append(chunk)

    def leave(queue: _Queue, chunk: _Chunk, clock: int, end: int) -> None:
        told(moved, chunk)
        left(queue, chunk, clock, end)

    def hand_over(controller: QueueController, chunk: _Chunk) -> None:
        told(handed, chunk)
        given(controller, chunk)

    def turn(controller: QueueController) -> None:
        nonlocal mixed
        mixed += len({chunk.request.write for chunk in controller._pending}) == 2
        turned(controller)

    chunks: list[_Chunk] = []
    left, given, turned = _Queue.leave, QueueController._hand_over, QueueController._turn
    monkeypatch.setattr(_Queue, "leave", leave)
    monkeypatch.setattr(QueueController, "_hand_over", hand_over)
    monkeypatch.setattr(QueueController, "_turn", turn)
    draw = np.random.default_rng(5)
    places, writes = draw.integers(0, (1 << 16) // size, 1500) * size, draw.random(1500) < 0.5
    accesses = [Access(int(a), size, bool(w)) for a, w in zip(places, writes, strict=True)]
    bench.run(load_standard("DDR4-3200"), accesses)
    assert mixed > 10
    assert moved == handed
