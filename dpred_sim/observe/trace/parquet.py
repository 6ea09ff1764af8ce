"""A run as one long Parquet table, with pyarrow (the extra `tables`)."""

from __future__ import annotations

from typing import IO, Any

from dpred_sim.errors import MissingExtra
from dpred_sim.observe.record.reader import Record
from dpred_sim.observe.trace.story import LAYER, Slice, Track, facts, path_of

BATCH_ROWS = 1 << 16
WORDS = ("row", "track", "component", "kind", "name", "state", "layer", "what", "unit")
NUMBERS = ("start_ps", "end_ps", "number", "transfer", "bits", "part_of", "ended_by_transfer")
TRANSFER = ("bytes", "raw_bits", "address", "write")
LISTS = ("needs", "makes")
"""Columns of text, of integers, of integers of a transfer's row, and of lists of transfers."""


class ParquetSink:
    """Collects rows of a row group and writes it. `value` is a counter's; numbers of nothing are null."""

    def __init__(self, stream: IO[bytes], record: Record) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise MissingExtra("tables", "writing a .parquet") from None
        self._arrow = pyarrow
        text = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
        whole = pyarrow.int64()
        fields = [(name, text) for name in WORDS]
        fields += [(name, whole) for name in (*NUMBERS, *TRANSFER)]
        fields += [(name, pyarrow.list_(whole)) for name in LISTS]
        fields.append(("value", pyarrow.float64()))
        notes = {f"dpred_sim.{key}": str(value) for key, value in facts(record).items()}
        notes["dpred_sim.time"] = "start_ps and end_ps are picoseconds of the run"
        self._schema = pyarrow.schema(fields, metadata=notes)
        self._writer = pyarrow.parquet.ParquetWriter(stream, self._schema, compression="zstd")
        self._columns: dict[str, list[Any]] = {name: [] for name in self._schema.names}
        self._paths: dict[int, str] = {}

    def track(self, track: Track) -> None:
        """Remember what a track is called."""
        self._paths[track.number] = " / ".join(path_of(track))

    def slice(self, slice: Slice) -> None:
        """A row `span`, or `layer`."""
        row: dict[str, Any] = {}
        row |= {name: _known(getattr(slice, name)) for name in ("number", "transfer", "part_of")}
        row |= {"start_ps": slice.start_ps, "end_ps": slice.end_ps, "layer": slice.layer, "what": slice.what}
        row |= {"name": slice.name, "state": slice.state, "bits": slice.bits}
        row["ended_by_transfer"] = _known(slice.ended_by)
        row |= {name: slice.more.get(name) for name in TRANSFER}
        row |= {"needs": slice.needs or None, "makes": slice.makes or None}
        self._add(slice.track, row, LAYER if slice.state == LAYER else "span")

    def counter(self, track: Track, time_ps: int, value: float) -> None:
        """A row `counter`: the value holds from `start_ps` until the next one of its track."""
        row = {"start_ps": time_ps, "end_ps": time_ps, "name": track.name, "value": value}
        self._add(track, {**row, "unit": track.unit or None}, "counter")

    def finish(self) -> None:
        """Write what is left."""
        self._flush()
        self._writer.close()

    def abandon(self) -> None:
        """Forget the file: a writer that is thrown away must not write its end into it."""
        self._writer.is_open = False

    def _add(self, track: Track, row: dict[str, Any], kind: str) -> None:
        row |= {"row": kind, "track": self._paths[track.number], "kind": track.kind}
        row["component"] = track.component or None
        for name, column in self._columns.items():
            column.append(row.get(name))
        if len(self._columns["row"]) >= BATCH_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._columns["row"]:
            self._writer.write_table(self._arrow.table(self._columns, schema=self._schema))
        for column in self._columns.values():
            column.clear()


def _known(number: int) -> int | None:
    return None if number < 0 else number
