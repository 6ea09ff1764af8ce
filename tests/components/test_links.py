"""Links, ways and converters: when the last bit is there, to the picosecond."""

from __future__ import annotations

import pytest

from dpred_sim.components.link import Converters, Link, Path
from dpred_sim.topology.graph import Link as Description

NS = 1000


def link(width: int | None = 256, latency: int = 4, medium: str = "point", targets=("b",)) -> Link:
    return Link(Description("a->b", medium, ("a",), targets, width, latency, "core"), NS)


def test_bits_enter_at_the_width_and_arrive_a_latency_later():
    assert link().send(0, 0, 256) == (1 + 4) * NS
    assert link().send(7 * NS, 7 * NS, 1024) == (7 + 4 + 4) * NS


def test_a_part_of_a_cycle_is_not_rounded_away():
    assert link(latency=0).send(0, 0, 1) == 4  # 1000 ps / 256, rounded up
    assert link(latency=0).send(0, 0, 257) == 1004


def test_one_transfer_at_a_time():
    wire = link(latency=0)
    assert wire.send(0, 0, 2560) == 10 * NS
    assert wire.send(3 * NS, 3 * NS, 256) == 11 * NS
    assert wire.send(20 * NS, 20 * NS, 256) == 21 * NS
    assert (wire.busy_ps, wire.bits, wire.transfers) == (12 * NS, 3072, 3)


def test_cut_through_waits_for_the_source_and_overlaps_with_it():
    # Bits that take 20 ns to come pass a link that could take them in 1 ns.
    assert link(latency=2).send(0, 20 * NS, 256) == 22 * NS
    # A slow link that starts with the first bit ends later than the source.
    assert link(width=8, latency=0).send(0, 20 * NS, 256) == 32 * NS


def test_an_unlimited_link_takes_no_time():
    assert link(width=None).send(5, 9, 10**9) == 9


def test_a_way_takes_its_slowest_part_and_all_latencies():
    way = Path([link(256, 4), link(64, 2), link(512, 1)])
    assert way.duration_ps(256) == 4 * NS
    assert way.latency_ps == 7 * NS
    assert way.send(0, 0, 256) == (4 + 7) * NS
    assert [part.bits for part in way.links] == [256, 256, 256]


def test_bits_whose_time_is_charged_elsewhere_are_counted():
    wire = link()
    Path([wire]).occupy(512)
    assert (wire.bits, wire.busy_ps, wire.free_ps) == (512, 2 * NS, 0)


def test_converters_take_groups_at_their_rate():
    unit = Converters("c", 16, 4, NS)
    assert unit.convert(0, 0, 16) == (1 + 4) * NS
    assert unit.convert(0, 0, 160) == (11 + 4) * NS
    assert unit.convert(0, 50 * NS, 16) == 54 * NS
    assert (unit.groups, unit.busy_ps) == (192, 12 * NS)


@pytest.mark.parametrize("bits", [1, 255, 256, 4096, 123_457])
def test_never_faster_than_the_width(bits):
    wire = link(latency=0)
    assert wire.send(0, 0, bits) * 256 >= bits * NS
    assert (wire.send(0, 0, 0) - 1) * 256 < bits * NS
