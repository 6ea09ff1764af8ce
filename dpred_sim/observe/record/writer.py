"""Write the record of a run while it goes on, in constant memory."""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.cache import AtomicFile
from dpred_sim.components.probe import NO_SPAN, STATES, NullProbe
from dpred_sim.errors import InputError
from dpred_sim.observe.record.format import (
    CHUNK_ROWS,
    ENDING,
    SCHEMA,
    TABLES,
    TIMES,
    encode,
    vocabulary,
)
from dpred_sim.observe.record.tracks import track_rows
from dpred_sim.simulation.engine import Simulation, run_configuration
from dpred_sim.simulation.result import TRAFFIC_KINDS, RunResult
from dpred_sim.simulation.widths import layer_widths

LEVEL = 1
"""Of deflate: higher ones take several times as long for a tenth less."""
WRITTEN = (1980, 1, 1, 0, 0, 0)
"""Date of every member: the same run makes the same bytes."""


class Recorder(NullProbe):
    """A probe that writes what it hears to a file; the file appears at `path` when it is closed.

    `begin` must be called before the run starts and `finish` or `discard` at its end. Raises InputError
    for a path that cannot be written, or that exists unless `force`.
    """

    active = True
    guards_itself = True
    """Whatever goes wrong is kept for `finish` to tell: a wrapper would cost a tenth of a run's time."""

    def __init__(self, path: Path, force: bool = False) -> None:
        check_target(path, force)
        self.path = path
        self._file = AtomicFile(path)
        self._zip = zipfile.ZipFile(self._file.stream, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL)
        self._rows: dict[str, list[Any]] = {table: [] for table in TABLES}
        self._spans = self._rows["spans"]
        self._counters = self._rows["counters"]
        self._limits = {table: CHUNK_ROWS * len(names) for table, names in TABLES.items()}
        # Tiles do the same together: one row stands for a group until the chunk is written. Codes from
        # the number of tracks on are groups.
        self._groups: dict[tuple[str, ...], int] = {}
        self._members: list[NDArray[np.int64]] = []
        self._written = dict.fromkeys(TABLES, 0)
        self._index: dict[str, list[dict[str, Any]]] = {table: [] for table in TABLES}
        self._tracks: dict[str, int] = {}
        self._layers: dict[str, int] = {}
        self._names: dict[str, int] = {}
        self._states = {state: code for code, state in enumerate(STATES)}
        self._whats = {what: code for code, what in enumerate(TRAFFIC_KINDS)}
        self._span_count = 0
        self._transfer_count = 0
        self.error: Exception | None = None

    def begin(self, simulation: Simulation) -> None:
        """Write what is known before time starts."""
        tracks = track_rows(simulation)
        self._tracks = {row["name"]: code for code, row in enumerate(tracks)}
        self._members = [np.array([code]) for code in range(len(tracks))]
        self._layers = {name: code for code, name in enumerate(simulation.layer_names)}
        workload, topology = simulation.workload, simulation.topology
        work = simulation.layer_work
        head = {
            "schema": SCHEMA,
            "workload": workload.name,
            "source": workload.source,
            "synthetic": workload.synthetic,
            "topology": topology.name,
            "bits": workload.bits,
            "seed": simulation.seed,
            "batch": simulation.batch,
            "core_hz": topology.clocks["core"],
            "peak_bytes_per_second": simulation.peak_bytes_per_second,
            "tracks": tracks,
            "layers": [
                {"name": name, "work_cycles": work[code]} for code, name in enumerate(simulation.layer_names)
            ],
            **vocabulary(),
            "configuration": run_configuration(simulation),
        }
        self._member("head.json", _json(head))

    def span(
        self,
        component: str,
        state: str,
        start_ps: int,
        end_ps: int,
        layer: str,
        transfer: int = NO_SPAN,
        cause: int = NO_SPAN,
        bits: int = 0,
    ) -> int:
        """Record a span."""
        number = self._span_count
        try:
            rows = self._spans
            rows += (
                self._tracks[component],
                self._states[state],
                start_ps,
                end_ps,
                self._layers.get(layer, NO_SPAN),
                transfer,
                cause,
                bits,
            )
            self._span_count = number + 1
            if number - self._written["spans"] >= CHUNK_ROWS:
                self._flush("spans")
        except Exception as error:
            self._fail(error)
        return number

    def span_group(
        self, components: Sequence[str], state: str, start_ps: int, end_ps: int, layer: str, cause: int
    ) -> None:
        """Record what several components do together."""
        try:
            code = self._group_code(tuple(components))
            number = self._layers.get(layer, NO_SPAN)
            self._spans += (code, self._states[state], start_ps, end_ps, number, NO_SPAN, cause, 0)
            self._span_count += len(components)
            if self._span_count - self._written["spans"] > CHUNK_ROWS:
                self._flush("spans")
        except Exception as error:
            self._fail(error)

    def counter(self, component: str, name: str, time_ps: int, value: float) -> None:
        """Record a value."""
        try:
            code = self._names.get(name)
            if code is None:
                code = self._names[name] = len(self._names)
            rows = self._counters
            rows += (self._tracks[component], code, time_ps, value)
            if len(rows) >= self._limits["counters"]:
                self._flush("counters")
        except Exception as error:
            self._fail(error)

    def transfer(
        self,
        engine: str,
        what: str,
        layer: str,
        write: bool,
        address: int,
        size_bytes: int,
        raw_bits: int,
        time_ps: int,
        cause: int = NO_SPAN,
    ) -> int:
        """Record a transfer."""
        number = self._transfer_count
        self._transfer_count = number + 1
        try:
            rows = self._rows["transfers"]
            track, kind, place = self._tracks[engine], self._whats[what], self._layers[layer]
            rows += (track, kind, place, write, address, size_bytes, raw_bits, time_ps, cause)
            if len(rows) >= self._limits["transfers"]:
                self._flush("transfers")
        except Exception as error:
            self._fail(error)
        return number

    def use(self, transfers: Sequence[int], span: int) -> None:
        """Record that a pass needs transfers."""
        try:
            rows = self._rows["uses"]
            for transfer in transfers:
                rows += (transfer, span)
            if len(rows) >= self._limits["uses"]:
                self._flush("uses")
        except Exception as error:
            self._fail(error)

    def finish(self, simulation: Simulation, result: RunResult, failed: str | None = None) -> int:
        """Write what is left, with the result so far, and put the file in its place; returns its bytes.

        `failed` says why the simulation failed, if it did. Raises InputError when the file could not be
        written.
        """
        if self.error is not None:
            self.discard()
            raise InputError(
                f"the record could not be written ({self.error})", file=self.path
            ) from self.error
        end = {
            "complete": result.complete,
            "failed": failed,
            "time_ps": result.time_ps,
            "counters": list(self._names),
            "widths": [layer_widths(simulation, index) for index in range(len(result.layers))],
        }
        try:
            for table in TABLES:
                self._flush(table)
            self._member("run.json", result.to_json().encode())
            self._member("end.json", _json({**end, "rows": self._written, "chunks": self._index}))
            self._zip.close()
            return self._file.commit()
        except OSError as problem:
            self.discard()
            raise InputError(f"the record could not be written ({problem})", file=self.path) from problem

    def discard(self) -> None:
        """Leave nothing behind."""
        with contextlib.suppress(OSError, ValueError):  # it wants to write its directory all the same
            self._zip.close()
        self._file.discard()

    def _fail(self, error: Exception) -> None:
        """Hear no more: what comes is dropped, so that nothing piles up."""
        self.error = self.error or error
        self.active = False
        # Every row is a full chunk from now on, and thrown away.
        self._limits = dict.fromkeys(TABLES, 0)
        self._written["spans"] = -(1 << 62)
        for rows in self._rows.values():
            rows.clear()

    def _flush(self, table: str) -> None:
        rows, names = self._rows[table], TABLES[table]
        if not rows or self.error is not None:
            rows.clear()
            return
        kind = np.float64 if table == "counters" else np.int64
        array = np.array(rows, dtype=kind).reshape(-1, len(names))
        rows.clear()
        if table == "spans":
            array = self._one_by_one(array)
        index: dict[str, Any] = {"rows": len(array)}
        if table in TIMES:
            first, last = (names.index(name) for name in TIMES[table])
            index |= {"first_ps": int(array[:, first].min()), "last_ps": int(array[:, last].max())}
        stream = io.BytesIO()
        np.save(stream, encode(table, array), allow_pickle=False)
        self._member(f"{table}/{len(self._index[table]):06d}.npy", stream.getvalue())
        self._index[table].append(index)
        self._written[table] += len(array)

    def _group_code(self, group: tuple[str, ...]) -> int:
        code = self._groups.get(group)
        if code is None:
            code = self._groups[group] = len(self._members)
            self._members.append(np.array([self._tracks[component] for component in group]))
        return code

    def _one_by_one(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Rows of groups as a row for each of their members."""
        codes = rows[:, 0]
        if not len(codes) or codes.max() < len(self._tracks):
            return rows
        members = [self._members[code] for code in codes.tolist()]
        rows = np.repeat(rows, [len(some) for some in members], axis=0)
        rows[:, 0] = np.concatenate(members)
        return rows

    def _member(self, name: str, content: bytes) -> None:
        info = zipfile.ZipInfo(name, WRITTEN)
        info.external_attr = 0o644 << 16
        self._zip.writestr(info, content, zipfile.ZIP_DEFLATED, LEVEL)


def check_target(path: Path, force: bool) -> None:
    """Refuse, before anything is run, a place where no record can be written."""
    if path.suffix != ENDING:
        raise InputError("not a kind of trace file", field="--trace", found=path.name, allowed=f"*{ENDING}")
    if path.is_dir():
        raise InputError("a folder is in the place of the record", file=path)
    if path.exists() and not force:
        raise InputError("the file exists; --force replaces it", file=path)


def _json(document: dict[str, Any]) -> bytes:
    return (json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n").encode()
