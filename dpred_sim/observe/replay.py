"""A record played again: the system at any moment of a past run, as a function of time.

One layer of the record is in memory at a time, with the sums of everything before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.errors import InputError
from dpred_sim.observe.events import Followed
from dpred_sim.observe.record.format import Columns
from dpred_sim.observe.record.reader import Record
from dpred_sim.observe.record.selection import Selection
from dpred_sim.observe.source import Unit
from dpred_sim.observe.status import Heading
from dpred_sim.simulation.snapshot import ComponentState, Event, LayerState, LayerWidths, Snapshot
from dpred_sim.simulation.states import IDLE, WAITS_ON

EVENTS_SHOWN = 128
SHOWN_KINDS = (
    "dram_channel",
    "dma",
    "buffer",
    "dispatcher",
    "tile",
    "post_processing",
    "converter",
    "point",
    "bus",
    "broadcast",
)
"""Kinds that have something to show."""

Ints = NDArray[np.int64]


@dataclass(slots=True)
class _Sums:
    """What was until the beginning of a layer."""

    state_ps: Ints
    """By track and state."""
    bits: Ints
    """Moved, by track."""
    stored_bytes: int
    raw_bits: int
    counters: dict[tuple[int, int], float]
    """Last value by track and name."""


@dataclass(slots=True)
class _Layer:
    """The rows of one layer: spans by their end, counters by their time."""

    index: int
    start_ps: int
    end_ps: int
    spans: Columns
    ends: Ints
    """Ends of the spans that end in the layer, the first `len(ends)` of `spans`."""
    counters: Columns
    before: _Sums


class ReplaySource:
    """Plays a record; see `source.Source`."""

    reversible = True

    def __init__(self, record: Record) -> None:
        self.record = record
        self._tracks = [row["name"] for row in record.tracks]
        self._kinds = [row["kind"] for row in record.tracks]
        self._states = record.names("state")
        self._busy = self._states.index("busy")
        self._names = {name: code for code, name in enumerate(record.names("name"))}
        self._engines = np.array([kind == "dma" for kind in self._kinds])
        self._work = [int(row["work_cycles"]) for row in record.head["layers"]]
        self._work_before = np.concatenate([[0], np.cumsum(self._work)])
        self._transfers = self._load_transfers()
        self._selection = Selection()
        self._followed = Followed(record.tracks, self._selection)
        self._sums: list[_Sums] = [self._nothing()]
        self.time_ps = 0
        self._layer = self._load(0)
        self._mask: NDArray[np.bool_] | None = None
        self._carried: list[Event] = []
        """Events of the layers before."""

    def follow(self, selection: Selection) -> None:
        """Show events of these components and layers; raises InputError for a name of nothing."""
        selection.layer_codes(self.record.layers, self.record.path)
        self._followed = Followed(self.record.tracks, selection)
        self._selection = selection
        self._mask = None
        self._carried = []

    @property
    def selection(self) -> Selection:
        """Whose events are followed."""
        return self._selection

    def listen(self, on: bool) -> None:
        """Events are at hand in any case."""

    def progress(self) -> tuple[int, float]:
        """Of the recorded run."""
        return self.time_ps, self._work_done() / max(1, int(self._work_before[-1]))

    def advance(self, events: int) -> bool:
        """Go to the end of the span that ends so many spans later."""
        layer = self._layer
        place = int(np.searchsorted(layer.ends, self.time_ps, side="right")) + events - 1
        if place >= len(layer.ends):
            return self._enter_next()
        self._go(int(layer.ends[place]))
        return True

    def step(self, unit: Unit, back: bool = False) -> bool:
        """Go to the next or last event that is followed, end of a pass, or beginning of a layer."""
        if unit == "layer":
            return self._step_layer(back)
        while True:
            layer = self._layer
            ends = layer.ends[self._passes() if unit == "pass" else self._shown()]
            if back:
                place = int(np.searchsorted(ends, self.time_ps, side="left")) - 1
                if place >= 0:
                    self._go(int(ends[place]))
                    return True
                if layer.index == 0:
                    self._go(0)
                    return True
                self._enter(layer.index - 1)
                continue
            place = int(np.searchsorted(ends, self.time_ps, side="right"))
            if place < len(ends):
                self._go(int(ends[place]))
                return self.time_ps < self.record.time_ps
            if not self._enter_next():
                return False

    def go_to_layer(self, index: int) -> None:
        """Go to the beginning of a layer."""
        last = len(self.record.layer_windows) - 1
        if not 0 <= index <= last:
            raise InputError(
                "the record has no such layer", file=self.record.path, found=index, allowed=f"0 to {last}"
            )
        self._enter(index)
        self._go(self._layer.start_ps)

    def snapshot(self) -> Snapshot:
        """The system now."""
        layer, record = self._layer, self.record
        now, sums, active = self._at(self.time_ps)
        finished = record.complete and self.time_ps >= record.time_ps
        widths = record.widths[layer.index] if layer.index < len(record.widths) else {}
        return Snapshot(
            time_ps=self.time_ps,
            finished=finished,
            work_done=self._work_done(),
            work_total=int(self._work_before[-1]),
            layer_index=layer.index,
            layers=self._layer_states(),
            components=tuple(self._components(sums, active, finished)),
            offchip_bytes=sums.stored_bytes,
            offchip_bytes_raw=-(-sums.raw_bits // 8),
            peak_bytes_per_second=record.head["peak_bytes_per_second"],
            widths=LayerWidths(
                widths.get("mean_activations"),
                widths.get("mean_weights"),
                tuple(widths.get("activations", ())),
                tuple(widths.get("weights", ())),
            ),
            dram_ps=self._dram(sums),
            events=(*self._carried, *self._events(now))[-EVENTS_SHOWN:],
        )

    def events(self) -> Iterator[Event]:
        """Followed events that end from now on, to the end of the record."""
        now = int(np.searchsorted(self._layer.ends, self.time_ps, side="right")) if self.time_ps else 0
        while True:
            shown = np.flatnonzero(self._shown())
            yield from self._made(shown[shown >= now])
            if not self._enter_next():
                return
            now = 0

    # time

    def _go(self, time_ps: int) -> None:
        self.time_ps = time_ps

    def _enter_next(self) -> bool:
        """Go to the end of the layer, where the next one begins; False at the end of the record."""
        layer = self._layer
        self._go(layer.end_ps)
        if layer.index + 1 >= len(self.record.layer_windows):
            return False
        events = [*self._carried, *self._events(len(layer.ends))]
        self._enter(layer.index + 1)
        self._carried = events[-EVENTS_SHOWN:]
        return True

    def _enter(self, index: int) -> None:
        self._layer = self._load(index)
        self._mask = None
        self._carried = []

    def _step_layer(self, back: bool) -> bool:
        if not back:
            return self._enter_next()
        layer = self._layer
        # As with music: first to the beginning of this one.
        index = layer.index if self.time_ps > layer.start_ps else max(0, layer.index - 1)
        self.go_to_layer(index)
        return True

    # the present

    def _at(self, time_ps: int) -> tuple[int, _Sums, NDArray[np.bool_]]:
        """Spans that have ended, sums so far, and which spans go on."""
        layer = self._layer
        spans, before = layer.spans, layer.before
        start, end = spans["start_ps"], spans["end_ps"]
        began = start < time_ps
        sums = self._add(before, spans, began, layer.start_ps, time_ps)
        now = int(np.searchsorted(layer.ends, time_ps, side="right"))
        last = int(np.searchsorted(layer.counters["time_ps"], time_ps, side="right"))
        _last_values(sums.counters, layer.counters, last)
        return now, sums, (start <= time_ps) & (end > time_ps)

    def _add(
        self, before: _Sums, spans: Columns, rows: NDArray[np.bool_], start_ps: int, end_ps: int
    ) -> _Sums:
        """Sums at `end_ps`: those at `start_ps` and the spans in between."""
        states = len(self._states)
        track, state = spans["track"][rows], spans["state"][rows]
        start, end = spans["start_ps"][rows], spans["end_ps"][rows]
        inside = np.minimum(end, end_ps) - np.maximum(start, start_ps)
        weights = np.maximum(inside, 0)
        size = len(self._tracks) * states
        spent = np.bincount(track * states + state, weights=weights, minlength=size).astype(np.int64)
        fresh = start >= start_ps
        moved = np.bincount(track[fresh], weights=spans["bits"][rows][fresh], minlength=len(self._tracks))
        arrived = self._engines[track] & (state == self._busy) & (end > start_ps) & (end <= end_ps)
        numbers = spans["transfer"][rows][arrived]
        return _Sums(
            before.state_ps + spent.reshape(-1, states),
            before.bits + moved.astype(np.int64),
            before.stored_bytes + int(self._transfers["bytes"][numbers].sum()),
            before.raw_bits + int(self._transfers["raw_bits"][numbers].sum()),
            dict(before.counters),
        )

    def _work_done(self) -> int:
        layer = self._layer
        counters = layer.counters
        code = self._names.get("work_cycles", -1)
        last = int(np.searchsorted(counters["time_ps"], self.time_ps, side="right"))
        values = counters["value"][:last][counters["name"][:last] == code]
        done = int(values.max()) if len(values) else 0
        if self.time_ps >= layer.end_ps and (self.record.complete or layer.index < len(self.record.widths)):
            done = self._work[layer.index]
        return int(self._work_before[layer.index]) + min(done, self._work[layer.index])

    def _layer_states(self) -> tuple[LayerState, ...]:
        windows = self.record.layer_windows
        current = self._layer.index
        in_layer = (self._work_done() - int(self._work_before[current])) / max(1, self._work[current])
        states = []
        for index, name in enumerate(self.record.layers):
            start, end = windows[index] if index < len(windows) else (None, None)
            if index < current:
                states.append(LayerState(name, 1.0, start, end))
            elif index == current:
                over = self.time_ps >= self._layer.end_ps
                states.append(LayerState(name, min(1.0, in_layer), start, end if over else None))
            else:
                states.append(LayerState(name, 0.0, None, None))
        return tuple(states)

    def _components(self, sums: _Sums, active: NDArray[np.bool_], finished: bool) -> Iterator[ComponentState]:
        spans = self._layer.spans
        present = np.full(len(self._tracks), -1, dtype=np.int64)
        present[spans["track"][active]] = spans["state"][active]
        flights = self._engines[spans["track"]] & active & (spans["state"] == self._busy)
        in_flight = np.bincount(
            spans["track"][flights], weights=spans["bits"][flights] / 8, minlength=len(self._tracks)
        )
        elapsed = max(1, self.time_ps)
        for code, row in enumerate(self.record.tracks):
            kind = row["kind"]
            if kind not in SHOWN_KINDS or (kind == "buffer" and "capacity_bits" not in row):
                continue
            state = self._states[present[code]] if present[code] >= 0 else IDLE
            if finished and kind in ("tile", "dispatcher", "post_processing"):
                state = "finished"
            engine = kind == "dma"
            level = None
            if kind == "buffer":
                level = int(self._value(sums, code, "level_bits"))
                state = "busy" if level else IDLE
            elif kind == "dram_channel":
                state = "busy" if self._value(sums, code, "pending_requests") else IDLE
            spent = sums.state_ps[code]
            busy = 0 if engine else int(spent[self._busy])
            yield ComponentState(
                self._tracks[code],
                kind,
                state,
                min(1.0, busy / elapsed),
                int(sums.bits[code]),
                level,
                row.get("capacity_bits"),
                waits_on=row.get("buffer", "") if state == "room" else WAITS_ON.get(state, ""),
                waits_ps={
                    self._states[place]: int(spent[place])
                    for place in np.flatnonzero(spent)
                    if place != self._busy
                },
                in_flight_bytes=int(in_flight[code]) if engine else None,
            )

    def _value(self, sums: _Sums, track: int, name: str) -> float:
        return sums.counters.get((track, self._names.get(name, -1)), 0.0)

    def _dram(self, sums: _Sums) -> dict[str, int]:
        """Losses as of the last samples: every so many requests a channel tells where its time went."""
        names = [name for name in self._names if name.endswith("_ps")]
        channels = [code for code, kind in enumerate(self._kinds) if kind == "dram_channel"]
        spent = {name: int(sum(self._value(sums, code, name) for code in channels)) for name in names}
        spent["busy_ps"] = sum(int(sums.state_ps[code][self._busy]) for code in channels)
        spent["idle_ps"] = 0
        spent["idle_ps"] = max(0, self.time_ps * len(channels) - sum(spent.values()))
        return spent

    # events

    def _shown(self) -> NDArray[np.bool_]:
        """Which spans that end in this layer are followed."""
        if self._mask is None:
            spans, count = self._layer.spans, len(self._layer.ends)
            chosen = self._followed
            tracks = np.array([name in chosen.kinds for name in self._tracks])
            layers = np.array([*(self._selection.takes_layer(name) for name in self.record.layers), False])
            states = np.array([state not in chosen.hidden for state in self._states])
            rows = {name: spans[name][:count] for name in ("track", "layer", "state")}
            self._mask = tracks[rows["track"]] & layers[rows["layer"]] & states[rows["state"]]
        return self._mask

    def _passes(self) -> NDArray[np.bool_]:
        spans, count = self._layer.spans, len(self._layer.ends)
        works = np.array([kind in ("dispatcher", "post_processing") for kind in self._kinds])
        of_works: NDArray[np.bool_] = works[spans["track"][:count]] & (spans["state"][:count] == self._busy)
        return of_works

    def _events(self, ended: int) -> Iterator[Event]:
        """The last followed ones of the first `ended` spans of the layer."""
        return self._made(np.flatnonzero(self._shown()[:ended])[-EVENTS_SHOWN:])

    def _made(self, places: Ints) -> Iterator[Event]:
        spans = self._layer.spans
        whats, transfers = self.record.names("what"), self._transfers
        for place in places.tolist():
            row: dict[str, Any] = {name: int(column[place]) for name, column in spans.items()}
            number, layer = row["transfer"], row["layer"]
            of_transfer = number >= 0
            yield Event(
                self._tracks[row["track"]],
                self._kinds[row["track"]],
                self._states[row["state"]],
                row["start_ps"],
                row["end_ps"],
                self.record.layers[layer] if layer >= 0 else "",
                row["bits"],
                whats[int(transfers["what"][number])] if of_transfer else "",
                bool(transfers["write"][number]) if of_transfer else False,
                int(transfers["bytes"][number]) if of_transfer else 0,
                int(transfers["raw_bits"][number]) if of_transfer else 0,
            )

    # loading

    def _nothing(self) -> _Sums:
        tracks = len(self._tracks)
        shape = (tracks, len(self._states))
        return _Sums(np.zeros(shape, dtype=np.int64), np.zeros(tracks, dtype=np.int64), 0, 0, {})

    def _load_transfers(self) -> Columns:
        """What each transfer carries: a few bytes a transfer."""
        kinds = {"what": np.int8, "write": np.bool_, "bytes": np.int32, "raw_bits": np.int64}
        parts: dict[str, list[NDArray[Any]]] = {name: [np.empty(0, kind)] for name, kind in kinds.items()}
        for columns in self.record.chunks("transfers"):
            for name, kind in kinds.items():
                parts[name].append(columns[name].astype(kind))
        return {name: np.concatenate(found) for name, found in parts.items()}

    def _load(self, index: int) -> _Layer:
        """A layer's rows; sums of the layers before it are made on the way and kept."""
        while len(self._sums) <= index:
            layer = self._rows(len(self._sums) - 1)
            everything = np.ones(len(layer.spans["track"]), dtype=np.bool_)
            sums = self._add(layer.before, layer.spans, everything, layer.start_ps, layer.end_ps)
            _last_values(sums.counters, layer.counters, len(layer.counters["time_ps"]))
            self._sums.append(sums)
        return self._rows(index)

    def _rows(self, index: int) -> _Layer:
        windows = self.record.layer_windows
        start, end = windows[index]
        selection = Selection(start_ps=start, end_ps=end + 1)
        spans = _joined(self.record.chunks("spans", selection))
        # What happens when a layer ends belongs to it, what begins then to the next one.
        inside = (spans["end_ps"] > start) | (start == 0)
        inside &= (spans["start_ps"] < end) | (spans["end_ps"] == end)
        spans = {name: column[inside] for name, column in spans.items()}
        order = np.argsort(spans["end_ps"], kind="stable")
        spans = {name: column[order] for name, column in spans.items()}
        counters = _joined(self.record.chunks("counters", selection))
        keep = (counters["time_ps"] <= end) & ((counters["time_ps"] > start) | (start == 0))
        counters = {name: column[keep] for name, column in counters.items()}
        stop = int(np.searchsorted(spans["end_ps"], end, side="right"))
        return _Layer(index, start, end, spans, spans["end_ps"][:stop], counters, self._sums[index])


def _joined(chunks: Iterator[Columns]) -> Columns:
    found = list(chunks)
    if not found:
        raise InputError("the record has no rows where it should have some")
    return {name: np.concatenate([columns[name] for columns in found]) for name in found[0]}


def _last_values(values: dict[tuple[int, int], float], counters: Columns, count: int) -> None:
    """The last of the first `count` counters of each track and name."""
    track, name = counters["track"][:count], counters["name"][:count]
    keys = track << 32 | name
    _, places = np.unique(keys[::-1], return_index=True)
    for place in (count - 1 - places).tolist():
        values[int(track[place]), int(name[place])] = float(counters["value"][place])


def heading_of_record(record: Record) -> Heading:
    """What is shown above the frames of a record."""
    head = record.head
    return Heading(head["workload"], head["source"], head["synthetic"], head["topology"], head["bits"])
