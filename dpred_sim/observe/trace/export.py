"""Make a trace file from a record, in the format that its ending names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Protocol

from dpred_sim.cache import AtomicFile
from dpred_sim.errors import InputError, MissingExtra
from dpred_sim.observe.record.format import ENDING
from dpred_sim.observe.record.reader import EVERYTHING, Record
from dpred_sim.observe.record.selection import Selection
from dpred_sim.observe.trace.chrome import ChromeSink
from dpred_sim.observe.trace.parquet import ParquetSink
from dpred_sim.observe.trace.perfetto import PerfettoSink
from dpred_sim.observe.trace.story import Sink, counted, tell


class Writer(Sink, Protocol):
    """A sink that writes a file."""

    def finish(self) -> None:
        """Write what is left; the file is whole then."""

    def abandon(self) -> None:
        """The file will not be finished."""


class MakesWriter(Protocol):
    """How a format is begun: on an open file, for a record."""

    def __call__(self, stream: IO[bytes], record: Record) -> Writer:
        """Raises MissingExtra when its library is not installed."""


@dataclass(frozen=True, slots=True)
class Format:
    """A format; a file is about `span_bytes` a span and `counter_bytes` a counter value large.

    Measured on the records of four networks, which they meet within 2 %; flows are in the bytes of counters,
    as both follow the number of transfers.
    """

    what: str
    make: MakesWriter
    span_bytes: float
    counter_bytes: float
    needs: tuple[str, str] | None = None
    """The package that it needs, and the extra that brings it."""


FORMATS: Mapping[str, Format] = {
    ".pftrace": Format("Perfetto", PerfettoSink, 42, 55, ("perfetto", "trace")),
    ".json": Format("Chrome trace events", ChromeSink, 112, 187),
    ".parquet": Format("Parquet table", ParquetSink, 5.6, 14, ("pyarrow", "tables")),
}


def check_export(path: Path, force: bool, field: str) -> Format:
    """The format for a path; refuses, before anything is done, what could not be written.

    Raises InputError for an unknown ending, a folder, an existing file without `force`, and MissingExtra.
    """
    found = FORMATS.get(path.suffix.lower())
    if found is None:
        endings = (*FORMATS, ENDING) if field == "--trace" else FORMATS
        allowed = ", ".join(f"*{ending}" for ending in endings)
        raise InputError("not a kind of trace file", field=field, found=path.name, allowed=allowed)
    if path.is_dir():
        raise InputError("a folder is in the place of the trace", file=path)
    if path.exists() and not force:
        raise InputError("the file exists; --force replaces it", file=path)
    if found.needs is not None and not _installed(found.needs[0]):
        raise MissingExtra(found.needs[1], f"writing a {path.suffix}")
    return found


def expected_bytes(record: Record, made: Format, selection: Selection = EVERYTHING) -> int:
    """About how large a file of what is selected becomes."""
    spans, counters = counted(record, selection)
    return round(spans * made.span_bytes + counters * made.counter_bytes)


def export(record: Record, path: Path, selection: Selection = EVERYTHING, *, force: bool = False) -> int:
    """Write what is selected; returns the size in bytes. The file appears at its place when it is whole.

    Raises InputError as `check_export` does, for a damaged record, and when the file cannot be written.
    """
    made = check_export(path, force, "OUT")
    try:
        file = AtomicFile(path)
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", file=path) from None
    try:
        writer = made.make(file.stream, record)
        try:
            tell(record, selection, writer)
            writer.finish()
        except BaseException:
            writer.abandon()
            raise
        return file.commit()
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror or error}", file=path) from None
    finally:
        file.discard()


def _installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):
        return False
