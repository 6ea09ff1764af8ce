"""Request traces in the formats of two public simulators, in and out.

    ramulator   "LD 0x1f40" and "ST 0x1f40" (load-store trace of Ramulator 2); "0x1f40 R" and "0x1f40 W"
                (DRAM trace of Ramulator 1) are read too
    dramsim3    "0x1f40 READ 120" and "0x1f40 WRITE 124": address, kind, clock of arrival

A line is one burst. Blank lines and lines that begin with # are passed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import IO

from dpred_sim.cache import write_atomic
from dpred_sim.components.dram.patterns import Access
from dpred_sim.components.dram.standard import Standard
from dpred_sim.errors import InputError, nearest

FORMATS = ("ramulator", "dramsim3")
_KINDS = {
    "LD": False,
    "ST": True,
    "R": False,
    "W": True,
    "READ": False,
    "WRITE": True,
    "P_MEM_RD": False,
    "P_MEM_WR": True,
}


def read_trace(path: Path, burst_bytes: int) -> Iterator[Access]:
    """The bursts of a trace in any of the formats, one request each.

    Raises InputError with file and line for what is no line of a trace.
    """
    for _, access in read_timed_trace(path, burst_bytes):
        yield access


def read_timed_trace(path: Path, burst_bytes: int) -> Iterator[tuple[int | None, Access]]:
    """As `read_trace`, with the clock of arrival where the line gives one."""
    if not path.is_file():
        raise InputError("no such trace file", file=path)
    try:
        with path.open(encoding="utf-8") as stream:
            for number, line in enumerate(stream, 1):
                words = line.split()
                if words and not words[0].startswith("#"):
                    yield _line(words, path, number, burst_bytes)
    except UnicodeDecodeError:
        raise InputError("not a text file", file=path) from None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=path) from None


def _line(words: list[str], path: Path, number: int, burst_bytes: int) -> tuple[int | None, Access]:
    if words[0].upper() in ("LD", "ST"):
        words = [words[1] if len(words) > 1 else "", words[0], *words[2:]]
    try:
        write = _KINDS[words[1].upper()]
        address = int(words[0], 16 if words[0].lower().startswith("0x") else 10)
        clock = int(words[2]) if len(words) > 2 else None
        if len(words) > 3 or address < 0:
            raise ValueError
    except (KeyError, IndexError, ValueError):
        raise InputError(
            "not a request",
            file=path,
            line=number,
            found=" ".join(words)[:80],
            allowed="'LD 0x40', 'ST 0x40', '0x40 R', '0x40 W', '0x40 READ 120' or '0x40 WRITE 120'",
        ) from None
    return clock, Access(address // burst_bytes * burst_bytes, burst_bytes, write)


def check_format(form: str) -> None:
    """Raises InputError for a format that is not one of FORMATS."""
    if form not in FORMATS:
        raise InputError(
            f"unknown trace format{nearest(form, FORMATS)}", field="format", found=form, allowed=FORMATS
        )


class TraceWriter:
    """Writes requests as they are handed in, burst by burst. Times are integer picoseconds."""

    def __init__(self, stream: IO[str], form: str, standard: Standard, bus_bits: int | None = None) -> None:
        check_format(form)
        self._stream = stream
        self._clocks = form == "dramsim3"
        self._burst_bytes = standard.burst_bytes(bus_bits)
        self._tck = standard.tck_ps

    def __call__(self, now_ps: int, address: int, size_bytes: int, write: bool) -> None:
        """Enter one request."""
        burst = self._burst_bytes
        write_line = self._stream.write
        clock = -(-now_ps * self._tck.denominator // self._tck.numerator) if self._clocks else 0
        for place in range(address // burst * burst, address + size_bytes, burst):
            if self._clocks:
                write_line(f"0x{place:x} {'WRITE' if write else 'READ'} {clock}\n")
            else:
                write_line(f"{'ST' if write else 'LD'} 0x{place:x}\n")


def write_trace(
    path: Path,
    form: str,
    requests: Iterable[tuple[int, Access]],
    standard: Standard,
    bus_bits: int | None = None,
) -> None:
    """Write requests with their arrival in picoseconds to a file, all of it or nothing.

    Raises InputError for an unknown format and a file that cannot be written.
    """

    def write(stream: IO[bytes]) -> None:
        text = TextIOWrapper(stream, encoding="utf-8", newline="\n")
        enter = TraceWriter(text, form, standard, bus_bits)
        for arrival, access in requests:
            enter(arrival, *access)
        text.flush()
        text.detach()

    try:
        write_atomic(path, write)
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", file=path) from None
