"""Trace files in the Chrome trace event format: JSON, a line an event."""

from __future__ import annotations

import json
from typing import IO, Any

from dpred_sim.observe.record.reader import Record
from dpred_sim.observe.trace.story import (
    LAYER,
    ORDER,
    Slice,
    Track,
    branch_of,
    category_of,
    facts,
    path_of,
    told_of,
)

TIME = "ts and dur are microseconds: 1 ns here is 1 ps of the run"


class ChromeSink:
    """Writes events as they come. Branches of the tree are processes, tracks their threads."""

    def __init__(self, stream: IO[bytes], record: Record) -> None:
        self._stream = stream
        self._begun: set[int] = set()
        head = {"displayTimeUnit": "ns", "otherData": {**facts(record), "time": TIME}}
        stream.write(_json(head)[:-1] + b',"traceEvents":[\n')
        self._first = True

    def track(self, track: Track) -> None:
        """Name a process or a thread, and give it its place."""
        if track.unit is not None:
            return  # counters show under their process by their names
        if track.parent is None:
            pid = ORDER.index(track.name) + 1
            self._event(ph="M", pid=pid, name="process_name", args={"name": track.name})
            self._event(ph="M", pid=pid, name="process_sort_index", args={"sort_index": pid})
            if track.kind != LAYER:
                return
        name = " / ".join([*path_of(track)][1:]) or track.name
        ids = self._ids(track)
        self._event(ph="M", **ids, name="thread_name", args={"name": name})
        self._event(ph="M", **ids, name="thread_sort_index", args={"sort_index": track.rank})

    def slice(self, slice: Slice) -> None:
        """A complete event, and the ends of the arrows that touch it."""
        ids = self._ids(slice.track)
        start = _us(slice.start_ps)
        self._event(
            ph="X",
            cat=category_of(slice),
            name=slice.name,
            ts=start,
            dur=_us(slice.end_ps - slice.start_ps),
            **ids,
            args=told_of(slice),
        )
        for transfer in slice.flow_ends:
            self._event(ph="f", bp="e", cat="transfer", name="transfer", id=transfer + 1, ts=start, **ids)
            self._begun.discard(transfer)
        for transfer in slice.flows:
            step = "t" if transfer in self._begun else "s"
            self._begun.add(transfer)
            self._event(ph=step, cat="transfer", name="transfer", id=transfer + 1, ts=start, **ids)

    def counter(self, track: Track, time_ps: int, value: float) -> None:
        """A value of a counter."""
        name = f"{track.component} {track.name}"
        shown = int(value) if float(value).is_integer() else value
        pid = ORDER.index(branch_of(track).name) + 1
        self._event(ph="C", pid=pid, name=name, ts=_us(time_ps), args={track.unit or "count": shown})

    def finish(self) -> None:
        """Close the list."""
        self._stream.write(b"\n]}\n")

    def abandon(self) -> None:
        """Nothing is kept open."""

    def _ids(self, track: Track) -> dict[str, int]:
        return {"pid": ORDER.index(branch_of(track).name) + 1, "tid": track.number + 1}

    def _event(self, **event: Any) -> None:
        self._stream.write((b"" if self._first else b",\n") + _json(event))
        self._first = False


def _us(ps: int) -> float:
    """Picoseconds as microseconds of a trace in which each is a nanosecond."""
    return ps / 1000 if ps % 1000 else ps // 1000


def _json(event: dict[str, Any]) -> bytes:
    return json.dumps(event, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
