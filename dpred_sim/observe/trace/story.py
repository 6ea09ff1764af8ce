"""What every trace file tells: tracks in a tree, slices on them, counters; taken from a record.

Formats differ in how they write it only. Memory does not grow with the record: rows come chunk by chunk, and
what they refer to is looked up a few chunks at a time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from dpred_sim.components.probe import NO_SPAN
from dpred_sim.errors import InputError
from dpred_sim.observe.record.format import TABLES
from dpred_sim.observe.record.reader import EVERYTHING, CounterRow, Record
from dpred_sim.observe.record.selection import Selection
from dpred_sim.observe.trace.pages import Pages

BUSY = "busy"
LAYER = "layer"
"""State of the slices on the track of layers."""
SECTIONS = {
    "dram_channel": "DRAM",
    "converter": "DRAM",
    "buffer": "buffers",
    "dispatcher": "compute",
    "tile": "compute",
    "post_processing": "compute",
    "dma": "transfer engines",
    "point": "links",
    "bus": "links",
    "broadcast": "links",
}
"""Branch of the tree for tracks that are below no other one, by kind; everything else is in `OTHERS`."""
LAYERS, OTHERS = "layers", "others"
ORDER = (LAYERS, "DRAM", "links", "buffers", "compute", "transfer engines", OTHERS)
SAMPLES = 1000
"""Bins of the DRAM bandwidth over the whole run."""
LEAST_BIN_PS = 1_000_000
REMEMBERED = 1 << 15
"""Transfers that are known to have been needed by some cluster."""
UNITS = {"bytes_per_second": "bytes/s", "bytes": "bytes", "bits": "bits", "ps": "ps", "cycles": "cycles"}
"""Unit of a counter by the end of its name; others are counts."""


@dataclass(slots=True, eq=False)
class Track:
    """A line of a trace, below `parent`. Slices of one track never overlap; lines of one component that do
    are tracks of the same name and parent."""

    number: int
    name: str
    parent: Track | None
    rank: int
    component: str = ""
    kind: str = ""
    unit: str | None = None
    """Of a counter; None for a track of slices."""


@dataclass(slots=True)
class Slice:
    """What a component did for a time. Numbers are those of the record, -1 for none."""

    track: Track
    name: str
    state: str
    start_ps: int
    end_ps: int
    layer: str | None = None
    number: int = NO_SPAN
    transfer: int = NO_SPAN
    what: str | None = None
    bits: int = 0
    part_of: int = NO_SPAN
    """Pass (a dispatcher's span) that this is a part of."""
    ended_by: int = NO_SPAN
    """Transfer that ended this wait."""
    needs: tuple[int, ...] = ()
    """Transfers that this pass is the first of its cluster to need."""
    arrives: tuple[int, ...] = ()
    """Those of `needs` that no other cluster's pass before this one needs too: their way ends here."""
    makes: tuple[int, ...] = ()
    """Transfers that this pass makes."""
    last: bool = False
    """Whether a transfer ends here."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Of the span of a transfer's engine: `bytes`, `raw_bits`, `address`, `write`; of a layer: totals."""

    @property
    def flows(self) -> tuple[int, ...]:
        """Transfers that pass through this slice on their way, without those that end here."""
        own = (self.transfer,) if self.transfer >= 0 and self.on_the_way and not self.last else ()
        return (*own, *self.makes)

    @property
    def flow_ends(self) -> tuple[int, ...]:
        """Transfers whose way ends here."""
        return (self.transfer, *self.arrives) if self.last and self.on_the_way else self.arrives

    @property
    def on_the_way(self) -> bool:
        """Whether this is a part of the way; the time that an engine waits for an answer is not."""
        return self.track.kind != "dma"


class Sink(Protocol):
    """A format. `track` is called before anything is on a track, and after its parent."""

    def track(self, track: Track) -> None:
        """A new track."""

    def slice(self, slice: Slice) -> None:
        """A slice."""

    def counter(self, track: Track, time_ps: int, value: float) -> None:
        """A new value of a counter."""


def title(record: Record) -> str:
    """What was run."""
    head = record.head
    values = ", SYNTHETIC values" if head["synthetic"] else ""
    part = "" if record.complete else ", not complete"
    return f"{head['workload']} on {head['topology']}, {head['bits']} bit{values}{part}"


def facts(record: Record) -> dict[str, str | int]:
    """What a trace says of itself, by name."""
    head = record.head
    return {
        "run": title(record),
        "workload": head["workload"],
        "source": head["source"],
        "synthetic": int(head["synthetic"]),
        "topology": head["topology"],
        "bits": head["bits"],
        "seed": head["seed"],
        "batch": head["batch"],
        "core_hz": head["core_hz"],
        "time_ps": record.time_ps,
        "complete": int(record.complete),
    }


def tell(record: Record, selection: Selection, sink: Sink) -> None:
    """Tell a sink all that is selected: layers, then spans, then counters, each in the record's order."""
    _Teller(record, selection, sink).tell()


class _Teller:
    def __init__(self, record: Record, selection: Selection, sink: Sink) -> None:
        self.record, self.selection, self.sink = record, selection, sink
        self.pages = Pages(record)
        self.rows = {row["name"]: row for row in record.tracks}
        self.ranks = {row["name"]: rank for rank, row in enumerate(record.tracks)}
        self.count = 0
        self.branches: dict[str, Track] = {}
        self.main: dict[str, Track] = {}
        self.lanes: dict[str, list[tuple[Track, int]]] = {}
        self.counters: dict[tuple[str, str], Track] = {}
        self.needed: OrderedDict[int, None] = OrderedDict()

    def tell(self) -> None:
        self._layers()
        for columns in self.record.chunks("spans", self.selection):
            self._spans(columns)
        windows = self._windows()
        for counter in self.record.counters(self.selection):
            if windows is None or any(start <= counter.time_ps < end for start, end in windows):
                self._counter(counter)
        bin_ps = max(LEAST_BIN_PS, -(-self.record.time_ps // SAMPLES))
        for counter in self.record.bandwidth(bin_ps, self.selection):
            row = self.rows[counter.component]
            if self.selection.takes_component(row["name"], row["group"], row["kind"]):
                self._counter(counter)

    # tracks

    def _new(self, name: str, parent: Track | None, rank: int, **more: Any) -> Track:
        track = Track(self.count, name, parent, rank, **more)
        self.count += 1
        self.sink.track(track)
        return track

    def _branch(self, name: str) -> Track:
        if name not in self.branches:
            self.branches[name] = self._new(name, None, ORDER.index(name))
        return self.branches[name]

    def _track(self, component: str) -> Track:
        """The first track of a component, below its parent's."""
        track = self.main.get(component)
        if track is None:
            row = self.rows[component]
            above = row["parent"] or (row["group"] if row["group"] != component else None)
            if above is not None and above in self.rows:
                parent = self._track(above)
            else:
                parent = self._branch(SECTIONS.get(row["kind"], OTHERS))
                if above is not None:
                    parent = self._group(above, parent, row)
            track = self._new(component, parent, self.ranks[component], component=component, kind=row["kind"])
            self.main[component] = track
            self.lanes[component] = [(track, 0)]
        return track

    def _group(self, name: str, parent: Track, row: Mapping[str, Any]) -> Track:
        """A line that only holds the instances of a group, such as links of one declaration."""
        if name not in self.main:
            self.main[name] = self._new(name, parent, self.ranks[row["name"]])
        return self.main[name]

    def _lane(self, component: str, start_ps: int, end_ps: int) -> Track:
        """The track of a component for a span: the first one that is free from its start on."""
        first = self._track(component)
        lanes = self.lanes[component]
        for place, (track, until) in enumerate(lanes):
            if until <= start_ps:
                lanes[place] = (track, end_ps)
                return track
        track = self._new(first.name, first.parent, first.rank, component=component, kind=first.kind)
        lanes.append((track, end_ps))
        return track

    # slices

    def _layers(self) -> None:
        done = self.record.run.get("layers", [])
        for index, (start, end) in enumerate(self.record.layer_windows):
            name = self.record.layers[index]
            touches = start < self.selection.end_ps and end >= self.selection.start_ps
            if not touches or not self.selection.takes_layer(name):
                continue
            row = done[index] if index < len(done) else {}
            more = {key: row[key] for key in ("bound_by", "cycles", "compute_cycles", "macs") if key in row}
            track = self.main.get(LAYERS) or self._new(LAYERS, None, 0, kind=LAYER)
            self.main[LAYERS] = track
            self.sink.slice(Slice(track, name, LAYER, start, end, name, more=more))
            if index < len(self.record.widths):
                widths = self.record.widths[index]
                for key in ("activations", "weights"):
                    value = widths.get(f"mean_{key}")
                    counter = self._counter_track(LAYERS, f"mean_width_{key}_bits", track)
                    self.sink.counter(counter, start, 0.0 if value is None else value)

    def _spans(self, columns: Mapping[str, Any]) -> None:
        numbers = columns["number"]
        between = (int(numbers[0]), int(numbers[-1]))
        needs = self.pages.naming("uses", "span", "transfer", between)
        makes = self.pages.naming("transfers", "cause", "number", between)
        tracks, states = self.record.names("track"), self.record.names("state")
        layers: list[str | None] = [*self.record.layers, None]  # code -1
        lists = (columns[name].tolist() for name in ("number", *TABLES["spans"]))
        for number, track, state, start, end, layer, transfer, cause, bits in zip(*lists, strict=True):
            component = tracks[track]
            told = Slice(
                self._lane(component, start, end),
                layers[layer] or states[state],
                states[state],
                start,
                end,
                layers[layer],
                number,
                transfer,
                bits=bits,
            )
            if told.state != BUSY:
                told.name = f"wait {told.state}"
                told.ended_by = self._transfer_of(cause)
            else:
                told.part_of = cause
            if transfer >= 0:
                self._add_transfer(told)
            if number in needs:
                told.needs = tuple(needs[number])
                told.arrives = tuple(transfer for transfer in told.needs if self._first_need(transfer))
            if number in makes:
                told.makes = tuple(makes[number])
            self.sink.slice(told)

    def _first_need(self, transfer: int) -> bool:
        """Whether this is the first pass of any cluster to need it; clusters follow each other closely."""
        if transfer in self.needed:
            return False
        self.needed[transfer] = None
        if len(self.needed) > REMEMBERED:
            self.needed.popitem(last=False)
        return True

    def _add_transfer(self, told: Slice) -> None:
        row = dict(zip(TABLES["transfers"], self._row("transfers", told.transfer), strict=True))
        told.what = told.name = self.record.names("what")[row["what"]]
        told.last = bool(row["write"]) and told.track.kind == "dram_channel"
        if told.track.kind == "dma":
            told.more = {
                "bytes": row["bytes"],
                "raw_bits": row["raw_bits"],
                "address": row["address"],
                "write": row["write"],
            }

    def _transfer_of(self, span: int) -> int:
        if span < 0:
            return NO_SPAN
        return int(self._row("spans", span)[TABLES["spans"].index("transfer")])

    def _row(self, table: str, number: int) -> tuple[Any, ...]:
        try:
            return self.pages.row(table, number)
        except IndexError:
            raise InputError(
                f"a span names a row of {table} that is not there", file=self.record.path
            ) from None

    # counters

    def _windows(self) -> list[tuple[int, int]] | None:
        """Times of the selected layers; None when all are."""
        if not self.selection.layers:
            return None
        windows = zip(self.record.layers, self.record.layer_windows, strict=False)
        return [window for name, window in windows if self.selection.takes_layer(name)]

    def _counter(self, counter: CounterRow) -> None:
        parent = self._track(counter.component)
        track = self._counter_track(counter.component, counter.name, parent)
        self.sink.counter(track, counter.time_ps, counter.value)

    def _counter_track(self, component: str, name: str, parent: Track) -> Track:
        key = (component, name)
        if key not in self.counters:
            unit = next((unit for end, unit in UNITS.items() if name.endswith(f"_{end}") or name == end), "")
            self.counters[key] = self._new(
                name, parent, len(self.counters), component=component, kind="counter", unit=unit
            )
        return self.counters[key]


def counted(record: Record, selection: Selection = EVERYTHING) -> tuple[int, int]:
    """How many spans and counter values are selected."""
    spans = sum(len(columns["number"]) for columns in record.chunks("spans", selection))
    return spans, sum(len(columns["number"]) for columns in record.chunks("counters", selection))


def told_of(slice: Slice) -> dict[str, Any]:
    """What a viewer shows of a slice besides its name and times."""
    found: dict[str, Any] = {}
    if slice.layer is not None and slice.layer != slice.name:
        found["layer"] = slice.layer
    if slice.transfer >= 0:
        found["transfer"] = slice.transfer
    if slice.bits:
        found["bits"] = slice.bits
    if slice.ended_by >= 0:
        found["ended_by_transfer"] = slice.ended_by
    return {**found, **slice.more}


def category_of(slice: Slice) -> str:
    """`busy`, `wait` or `layer`."""
    return slice.state if slice.state in (BUSY, LAYER) else "wait"


def branch_of(track: Track) -> Track:
    """The top of the tree above a track."""
    while track.parent is not None:
        track = track.parent
    return track


def path_of(track: Track) -> Iterable[str]:
    """Names from the top of the tree down to a track."""
    names: list[str] = []
    here: Track | None = track
    while here is not None:
        names.append(here.name)
        here = here.parent
    return reversed(names)
