"""Read a record: tables chunk by chunk, filtered by component, layer and time."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dpred_sim.errors import InputError
from dpred_sim.observe.record.format import CODES, SCHEMA, TABLES, TIMES, Columns, decode
from dpred_sim.observe.record.selection import Selection

EVERYTHING = Selection()
KEPT_CHUNKS = 8
"""Chunks kept decoded, about a megabyte each."""


class Span(NamedTuple):
    """What one component did for a time (see `components.probe.Probe.span`)."""

    number: int
    component: str
    state: str
    start_ps: int
    end_ps: int
    layer: str | None
    transfer: int
    """Number of the transfer that it belongs to, -1 for none."""
    cause: int
    """Number of the span that ended a wait, or that a busy span is a part of; -1 for none."""
    bits: int


class TransferRow(NamedTuple):
    """One off-chip request. It ends with the span of its engine that names it."""

    number: int
    engine: str
    what: str
    layer: str
    write: bool
    address: int
    size_bytes: int
    raw_bits: int
    sent_ps: int
    cause: int
    """Span of the pass that made what is written, -1 for reads."""


class CounterRow(NamedTuple):
    """A quantity of a component has a new value."""

    component: str
    name: str
    time_ps: int
    value: float


class Use(NamedTuple):
    """A transfer, and the pass (a span of a dispatcher) that is the first to need it."""

    transfer: int
    span: int


class Record:
    """An opened record; close it, or use it as a context manager.

    `head` is what was known before time started, `run` the result document (as `run.json` of a result
    folder), `tracks` and `layers` their rows in the order of their codes. Raises InputError for a file
    that is no record, is cut short or damaged; reading a damaged chunk does so later.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        with self._reading("the file"):
            self._zip = zipfile.ZipFile(self.path)
        # Layers are shorter than chunks: who goes through them, forward and back, reads a chunk many times.
        self._recent = lru_cache(maxsize=KEPT_CHUNKS)(self._chunk)
        try:
            self.head = self._document("head.json")
            self._check_schema()
            self.run = self._document("run.json")
            self._end = self._document("end.json")
            with self._reading("head.json"):
                self.tracks: list[dict[str, Any]] = list(self.head["tracks"])
                self.layers: list[str] = [row["name"] for row in self.head["layers"]]
                self.complete = bool(self._end["complete"])
                self.failed: str | None = self._end["failed"]
                self.time_ps = int(self._end["time_ps"])
                self.rows: dict[str, int] = {table: int(self._end["rows"][table]) for table in TABLES}
                self.widths: list[dict[str, Any]] = self._end["widths"]
                self._chunks: dict[str, list[dict[str, int]]] = self._end["chunks"]
                self._lists: dict[str, list[str]] = {
                    "tracks": [row["name"] for row in self.tracks],
                    "layers": self.layers,
                    "states": self.head["states"],
                    "whats": self.head["whats"],
                    "counters": self._end["counters"],
                }
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> Record:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._zip.close()

    # layers

    @cached_property
    def layer_windows(self) -> list[tuple[int, int]]:
        """(start, end) in picoseconds of each layer that has begun; the last one may not have ended."""
        with self._reading("run.json"):
            windows = [(int(row["start_ps"]), int(row["end_ps"])) for row in self.run["layers"]]
        end = windows[-1][1] if windows else 0
        if len(windows) < len(self.layers) and (self.time_ps > end or not windows):
            windows.append((end, max(end, self.time_ps)))
        return windows

    def layer_at(self, time_ps: int) -> int:
        """Index of the layer that runs at a time."""
        ends = [end for _, end in self.layer_windows]
        return min(int(np.searchsorted(ends, time_ps, side="right")), len(ends) - 1)

    # tables

    def names(self, column: str) -> list[str]:
        """What the codes of a column (`track`, `layer`, `state`, `what`, `name`) stand for."""
        return self._lists[CODES[column]]

    def chunks(self, table: str, selection: Selection = EVERYTHING) -> Iterator[Columns]:
        """The selected rows, chunk by chunk, as arrays by column; `number` is the row's number.

        Chunks and rows come in the order in which they were told, which is not that of their times:
        what is known to happen later may be told before.
        """
        tracks, layers = self._codes(table, selection)
        first = 0
        for place, entry in enumerate(self._chunks[table]):
            rows = entry["rows"]
            if not _outside(entry, selection):
                columns = dict(self._recent(table, place, rows))
                columns["number"] = np.arange(first, first + rows, dtype=np.int64)
                keep = _keep(table, columns, selection, tracks, layers)
                if keep is None:
                    yield columns
                elif keep.any():
                    yield {name: column[keep] for name, column in columns.items()}
            first += rows

    def chunk_count(self, table: str) -> int:
        """How many chunks a table has."""
        return len(self._chunks[table])

    def chunk_rows(self, table: str, place: int) -> int:
        """How many rows one chunk has."""
        return self._chunks[table][place]["rows"]

    def chunk(self, table: str, place: int) -> Columns:
        """All rows of one chunk, as `chunks` yields them."""
        entries = self._chunks[table]
        columns = self._chunk(table, place, entries[place]["rows"])
        first = sum(entry["rows"] for entry in entries[:place])
        columns["number"] = np.arange(first, first + entries[place]["rows"], dtype=np.int64)
        return columns

    def spans(self, selection: Selection = EVERYTHING) -> Iterator[Span]:
        """Selected spans in the order of their numbers."""
        tracks, states = self.names("track"), self.names("state")
        layers = [*self.layers, None]  # code -1
        for c in self.chunks("spans", selection):
            for number, track, state, start, end, layer, transfer, cause, bits in _rows(c, "spans"):
                yield Span(
                    number, tracks[track], states[state], start, end, layers[layer], transfer, cause, bits
                )

    def transfers(self, selection: Selection = EVERYTHING) -> Iterator[TransferRow]:
        """Selected transfers in the order of their numbers; a time window is about when they were sent."""
        tracks, whats, layers = self.names("track"), self.names("what"), self.layers
        for c in self.chunks("transfers", selection):
            for number, track, what, layer, write, address, size, raw, sent, cause in _rows(c, "transfers"):
                yield TransferRow(
                    number,
                    tracks[track],
                    whats[what],
                    layers[layer],
                    bool(write),
                    address,
                    size,
                    raw,
                    sent,
                    cause,
                )

    def counters(self, selection: Selection = EVERYTHING) -> Iterator[CounterRow]:
        """Selected counters in the order of time (they have no layer: a selected one is its time)."""
        tracks, names = self.names("track"), self.names("name")
        for c in self.chunks("counters", selection):
            for _, track, name, time, value in _rows(c, "counters"):
                yield CounterRow(tracks[track], names[name], time, value)

    def uses(self) -> Iterator[Use]:
        """Which pass needs which transfer first, in the order of the passes' starts."""
        for c in self.chunks("uses"):
            for _, transfer, span in _rows(c, "uses"):
                yield Use(transfer, span)

    def bandwidth(self, bin_ps: int, selection: Selection = EVERYTHING) -> Iterator[CounterRow]:
        """Bytes a second that crossed each DRAM channel's data bus, in bins of `bin_ps`, as counters.

        A value holds from its time until the next one of the channel.
        """
        channels = {
            code: row["name"] for code, row in enumerate(self.tracks) if row["kind"] == "dram_channel"
        }
        bits: dict[int, dict[int, float]] = {code: {} for code in channels}
        for c in self.chunks("spans", selection):
            for code, bins in bits.items():
                keep = c["track"] == code
                _spread(bins, c["start_ps"][keep], c["end_ps"][keep], c["bits"][keep], bin_ps)
        for code, bins in bits.items():
            last = -1
            for place in sorted(bins):
                if place > last + 1:
                    yield CounterRow(channels[code], "bytes_per_second", (last + 1) * bin_ps, 0.0)
                rate = bins[place] / 8 / bin_ps * 1e12
                yield CounterRow(channels[code], "bytes_per_second", place * bin_ps, rate)
                last = place
            yield CounterRow(channels[code], "bytes_per_second", (last + 1) * bin_ps, 0.0)

    # reading

    def _codes(
        self, table: str, selection: Selection
    ) -> tuple[NDArray[np.bool_] | None, NDArray[np.bool_] | None]:
        columns = TABLES[table]
        tracks = selection.tracks(self.tracks, self.path) if "track" in columns else None
        layers = selection.layer_codes(self.layers, self.path) if "layer" in columns else None
        return tracks, layers

    def _chunk(self, table: str, place: int, rows: int) -> Columns:
        member = f"{table}/{place:06d}.npy"
        with self._reading(member):
            data = self._zip.read(member)
            columns = decode(table, np.load(io.BytesIO(data), allow_pickle=False))
            for name, column in columns.items():
                if len(column) != rows:
                    raise ValueError(f"{len(column)} rows instead of {rows}")
                lowest = -1 if name == "layer" else 0
                if name in CODES and not (
                    lowest <= column.min() and column.max() < len(self._lists[CODES[name]])
                ):
                    raise ValueError(f"a {name} that is not listed")
        return columns

    def _document(self, member: str) -> dict[str, Any]:
        with self._reading(member):
            document = json.loads(self._zip.read(member))
            if not isinstance(document, dict):
                raise ValueError("not an object")
        return document

    def _check_schema(self) -> None:
        found = self.head.get("schema")
        if found != SCHEMA:
            raise InputError(
                "not a record of this kind", file=self.path, field="schema", found=found, allowed=SCHEMA
            )

    @contextmanager
    def _reading(self, part: str) -> Iterator[None]:
        """What goes wrong with a part of the file is the file's fault."""
        try:
            yield
        except FileNotFoundError:
            raise InputError("no such record", file=self.path) from None
        except zipfile.BadZipFile as error:
            reason = "not a record, or cut short" if part == "the file" else f"{part} is damaged"
            raise InputError(f"{reason} ({error})", file=self.path) from error
        except OSError as error:
            raise InputError(f"cannot read {part} ({error})", file=self.path) from error
        except KeyError as error:
            raise InputError(f"not a record: no {error.args[0]}", file=self.path) from error
        except _DAMAGE as error:
            raise InputError(f"{part} is damaged ({error})", file=self.path) from error


_DAMAGE = (
    ValueError,
    TypeError,
    IndexError,
    AttributeError,
    EOFError,
    RuntimeError,  # zipfile: encrypted, or a kind of compression that is not there
    OverflowError,
    SyntaxError,  # numpy: the header of an array
    struct.error,
    zlib.error,
)


def _outside(entry: dict[str, int], selection: Selection) -> bool:
    if "first_ps" not in entry:
        return False
    return entry["last_ps"] < selection.start_ps or entry["first_ps"] >= selection.end_ps


def _keep(
    table: str,
    columns: Columns,
    selection: Selection,
    tracks: NDArray[np.bool_] | None,
    layers: NDArray[np.bool_] | None,
) -> NDArray[np.bool_] | None:
    """Which rows are selected; None for all."""
    masks: list[NDArray[np.bool_]] = []
    if tracks is not None:
        masks.append(tracks[columns["track"]])
    if layers is not None:
        masks.append(layers[columns["layer"]])
    if table in TIMES and selection.has_window:
        first, last = (columns[name] for name in TIMES[table])
        masks.append((last >= selection.start_ps) & (first < selection.end_ps))
    return np.logical_and.reduce(masks) if masks else None


def _rows(columns: Columns, table: str) -> Iterator[Sequence[Any]]:
    return zip(columns["number"].tolist(), *(columns[name].tolist() for name in TABLES[table]), strict=True)


def _spread(
    bins: dict[int, float],
    start: NDArray[np.int64],
    end: NDArray[np.int64],
    bits: NDArray[np.int64],
    bin_ps: int,
) -> None:
    """Add bits to the bins between their start and end, evenly."""
    for first, last, count in zip(start.tolist(), end.tolist(), bits.tolist(), strict=True):
        length = max(1, last - first)
        place = first // bin_ps
        while place * bin_ps < first + length:
            share = min(first + length, (place + 1) * bin_ps) - max(first, place * bin_ps)
            bins[place] = bins.get(place, 0.0) + count * share / length
            place += 1
