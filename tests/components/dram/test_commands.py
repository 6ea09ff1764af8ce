"""Every command of the `burst` level keeps every rule, on all standards and with all options."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any
from unittest.mock import patch

import pytest

from dpred_sim.components.dram import burst
from dpred_sim.components.dram.bench import closed_loop
from dpred_sim.components.dram.burst import BurstModel
from dpred_sim.components.dram.patterns import Access
from dpred_sim.components.dram.standard import Standard, load_standard, standard_names
from tests.components.dram.commands import Command, FreeCommandBus, check, record

BURSTS = 500
OPTIONS: dict[str, dict[str, Any]] = {
    "open": {},
    "closed": {"page": "closed"},
    "per_bank": {"refresh": "per_bank"},
    "whole_queue": {"bank_queue": 0, "queue": 24},
    "ranks": {"ranks": 2},
}


def mixed(standard: Standard, seed: int) -> list[Access]:
    """Short runs of bursts in few rows of all banks, a third of them writes."""
    random, size = Random(seed), standard.burst_bytes()
    few = 6 * standard.page_bytes() * standard.banks * standard.ranks
    found = []
    while len(found) < BURSTS:
        start, write = random.randrange(few // size), random.random() < 0.33
        found += [
            Access((start + step) % (few // size) * size, size, write)
            for step in range(random.randrange(1, 9))
        ]
    return found[:BURSTS]


def often_refreshed(standard: Standard, ranks: int = 1) -> Standard:
    """With a refresh every three times that it takes, so that a short run has many."""
    timing = standard.timing
    more = replace(timing, tREFI=3 * timing.tRFC, tREFIpb=3 * timing.tRFCpb)
    return replace(standard.with_ranks(ranks), timing=more)


def run(devices: Standard, options: dict[str, Any], outstanding: int | None) -> tuple[list[Command], int]:
    """The commands of a run, and the clocks that a refresh takes."""
    settings = {key: value for key, value in options.items() if key != "ranks"}
    model = BurstModel(devices, devices.bus_bits, **{"refresh": "all_bank", **settings})
    log = record(model)
    pieces = ((access, number) for number, access in enumerate(mixed(devices, 3)))
    done = closed_loop(model, pieces, outstanding, model.burst_bytes)
    assert len(done) == BURSTS
    return log, model._schedule._duration


CASES = [
    (name, options)
    for name in standard_names()
    for options in OPTIONS
    if options != "per_bank" or load_standard(name).timing.tRFCpb
]


@pytest.mark.parametrize(("name", "options"), CASES)
def test_every_rule_between_any_two_commands(name: str, options: str) -> None:
    standard = load_standard(name)
    devices = often_refreshed(standard, OPTIONS[options].get("ranks", 1))
    for outstanding in (None, 3):
        log, duration = run(devices, OPTIONS[options], outstanding)
        assert sum(command.kind in ("RD", "WR") for command in log) == BURSTS
        assert {command.kind for command in log} == {"ACT", "PRE", "RD", "WR", "REF"}
        check(devices, log, refresh_clocks=duration, closes_itself=options == "closed")


@pytest.mark.parametrize("name", standard_names())
def test_refreshes_come_in_time(name: str) -> None:
    """Each bank once an interval, late by no more than what it takes to close the bank."""
    standard = often_refreshed(load_standard(name))
    timing = standard.timing
    for refresh, every in (("all_bank", timing.tREFI), ("per_bank", timing.tREFIpb * standard.banks)):
        if not every:
            continue
        log, _ = run(standard, {"refresh": refresh}, 1)
        last = max(command.clock for command in log)
        for bank in {command.bank for command in log if command.kind == "REF"}:
            clocks = [command.clock for command in log if command.kind == "REF" and command.bank == bank]
            share = 1 if refresh == "all_bank" else standard.banks
            first = every // share * (bank + 1)
            late = timing.CWL + timing.nBL + timing.tWR + timing.tRC
            assert len(clocks) in (n := (last - first) // every + 1, n - 1)
            for number, clock in enumerate(clocks):
                assert 0 <= clock - (first + number * every) <= late


@pytest.mark.parametrize("rule", ["tRC", "tFAW", "tRTP", "tWTR_L", "tRFC", "two at once", "closed"])
def test_the_check_finds_what_is_wrong(rule: str) -> None:
    """Commands by hand, each a clock too soon or out of order."""
    standard = load_standard("DDR4-3200")
    timing = standard.timing
    act = Command(0, "ACT", 0, 1)
    read = Command(timing.tRCDRD, "RD", 0, 1)
    write = Command(timing.tRCDWR, "WR", 0, 1)
    turn = timing.tRCDWR + timing.CWL + timing.nBL + timing.tWTR_L
    late = timing.tRAS + 40
    wrong = {
        "tRC": [act, Command(timing.tRC - timing.tRP, "PRE", 0), Command(timing.tRC - 1, "ACT", 0, 2)],
        "tFAW": [Command(8 * n, "ACT", 4 * n % 16 + n // 4, 1) for n in range(5)],
        "tRTP": [act, Command(late, "RD", 0, 1), Command(late + timing.tRTP - 1, "PRE", 0)],
        "tWTR_L": [act, write, Command(turn - 1, "RD", 0, 1)],
        "tRFC": [Command(0, "REF", 0, banks=16), Command(timing.tRFC - 1, "ACT", 0, 1)],
        "two at once": [act, read, Command(timing.tRCDRD, "ACT", 4, 1)],
        "closed": [act, read, Command(late, "PRE", 0), Command(late + 60, "RD", 0, 1)],
    }[rule]
    check(standard, [act, read], refresh_clocks=timing.tRFC)
    with pytest.raises(AssertionError):
        check(standard, wrong, refresh_clocks=timing.tRFC)


def test_the_check_finds_a_command_bus_without_limit() -> None:
    devices = often_refreshed(load_standard("DDR4-3200"))
    with patch.object(burst, "FirstReady", FreeCommandBus):
        log, duration = run(devices, {}, None)
    with pytest.raises(AssertionError):
        check(devices, log, refresh_clocks=duration)
