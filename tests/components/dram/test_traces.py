"""Request traces out and in."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import simpy

from dpred_sim.components.dram import patterns
from dpred_sim.components.dram.channel import DramChannel
from dpred_sim.components.dram.patterns import Access
from dpred_sim.components.dram.standard import load_standard
from dpred_sim.components.dram.traces import FORMATS, TraceWriter, read_timed_trace, read_trace, write_trace
from dpred_sim.errors import InputError

DDR4 = load_standard("DDR4-3200")


@pytest.mark.parametrize("form", FORMATS)
def test_what_goes_out_comes_in(form: str, tmp_path: Path) -> None:
    accesses = list(islice(patterns.random(256, write_third=True), 20))
    path = tmp_path / "requests.trace"
    write_trace(path, form, [(number * 1000, access) for number, access in enumerate(accesses)], DDR4)
    expected = [
        Access(access.address + offset, 64, access.write)
        for access in accesses
        for offset in range(0, 256, 64)
    ]
    assert list(read_trace(path, 64)) == expected
    clocks = [clock for clock, _ in read_timed_trace(path, 64)]
    if form == "dramsim3":
        assert clocks == [-(-(number // 4) * 1000 // 625) for number in range(80)]
    else:
        assert clocks == [None] * 80


def test_lines_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_text("# a comment\n\nLD 0x1f41\nST 128\n0x40 R\n0x80 W\n0x40 READ 5\n0x40 WRITE 6\n")
    assert list(read_trace(path, 64)) == [
        Access(0x1F40, 64, False),
        Access(128, 64, True),
        Access(0x40, 64, False),
        Access(0x80, 64, True),
        Access(0x40, 64, False),
        Access(0x40, 64, True),
    ]


@pytest.mark.parametrize(
    "line", ["LD", "LD x", "0x40 MOVE 3", "0x40", "0x40 READ soon", "0x40 READ 1 2", "LD -4"]
)
def test_wrong_lines_are_named(line: str, tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_text(f"LD 0x0\n{line}\n")
    with pytest.raises(InputError) as caught:
        list(read_trace(path, 64))
    assert (caught.value.file, caught.value.line) == (str(path), 2)


def test_missing_file_and_format(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such"):
        list(read_trace(tmp_path / "none", 64))
    with pytest.raises(InputError, match="format"):
        write_trace(tmp_path / "x", "vcd", [], DDR4)


def test_a_channel_records_its_requests(tmp_path: Path) -> None:
    env = simpy.Environment(initial_time=0)
    channel = DramChannel(env, "dram", standard=DDR4)
    path = tmp_path / "t"
    with path.open("w") as stream:
        channel.recorder = TraceWriter(stream, "dramsim3", DDR4)
        channel.submit(100, 64, True, lambda end: None)
        env.run()
    assert path.read_text() == "0x40 WRITE 0\n0x80 WRITE 0\n"
