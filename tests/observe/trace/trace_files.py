"""Read trace files back with the tools of each format, into the same plain form."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SCALE = 1000
"""Picoseconds of the run in a microsecond of a Chrome trace."""


@dataclass
class Told:
    """What a trace file tells. A slice is (component, name, category, start, end, more)."""

    slices: list[tuple[str, str, str, int, int, tuple[tuple[str, Any], ...]]] = field(default_factory=list)
    counters: dict[tuple[str, str], list[tuple[int, float]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    flows: dict[int, list[tuple[int, str, str]]] = field(default_factory=lambda: defaultdict(list))
    """By transfer: (time, component, step) with step `s` or `f` (an end)."""
    paths: dict[str, tuple[str, ...]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    lanes: Counter[str] = field(default_factory=Counter)

    def busy(self) -> dict[str, int]:
        """Busy time by component."""
        found: dict[str, int] = defaultdict(int)
        for component, _, category, start, end, _ in self.slices:
            if category == "busy":
                found[component] += end - start
        return dict(found)


def read_perfetto(path: Path) -> Told:
    """Parse with the official classes; checks that slices nest on each track."""
    from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as protos

    trace = protos.Trace()
    trace.ParseFromString(path.read_bytes())
    told = Told()
    words: dict[str, dict[int, str]] = defaultdict(dict)
    tracks: dict[int, Any] = {}
    open_slices: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
    now: dict[int, int] = {}
    for packet in trace.packet:
        assert packet.trusted_packet_sequence_id == 1
        for attribute in packet.trace_attributes.attribute:
            value = attribute.string_value or attribute.long_value
            told.facts[attribute.key.removeprefix("dpred_sim.")] = value
        for kind, entries in packet.interned_data.ListFields():
            for entry in entries:
                assert entry.iid not in words[kind.name]
                words[kind.name][entry.iid] = getattr(entry, "name", None) or entry.str.decode()
        if packet.HasField("track_descriptor"):
            descriptor = packet.track_descriptor
            assert descriptor.uuid not in tracks
            assert descriptor.parent_uuid in tracks or not tracks
            tracks[descriptor.uuid] = descriptor
            if not descriptor.HasField("counter"):
                told.lanes[descriptor.name] += 1
            continue
        if not packet.HasField("track_event"):
            continue
        event = packet.track_event
        track = tracks[event.track_uuid]
        if event.type == event.TYPE_COUNTER:
            assert track.HasField("counter")
            component = tracks[track.parent_uuid].name
            integer = event.HasField("counter_value")
            value = event.counter_value if integer else event.double_counter_value
            told.counters[component, track.name].append((packet.timestamp, float(value)))
            continue
        assert packet.timestamp >= now.get(event.track_uuid, 0), "packets of a track are in order of time"
        now[event.track_uuid] = packet.timestamp
        if event.type == event.TYPE_SLICE_BEGIN:
            assert not track.HasField("counter")
            notes = []
            for note in event.debug_annotations:
                key = words["debug_annotation_names"][note.name_iid]
                if note.HasField("int_value"):
                    notes.append((key, note.int_value))
                else:
                    notes.append((key, words["debug_annotation_string_values"][note.string_value_iid]))
            (category,) = event.category_iids
            begun = (
                words["event_names"][event.name_iid],
                words["event_categories"][category],
                packet.timestamp,
                tuple(notes),
            )
            open_slices[event.track_uuid].append(begun)
            for step, ids in (("s", event.flow_ids), ("f", event.terminating_flow_ids)):
                for flow in ids:
                    told.flows[flow - 1].append((packet.timestamp, track.name, step))
        else:
            assert event.type == event.TYPE_SLICE_END
            name, category, start, notes = open_slices[event.track_uuid].pop()
            assert not open_slices[event.track_uuid], "one slice at a time on a track"
            told.slices.append((track.name, name, category, start, packet.timestamp, notes))
    assert not any(open_slices.values())
    for descriptor in tracks.values():
        told.paths[descriptor.name] = _path(descriptor, tracks)
    return told


def _path(descriptor: Any, tracks: dict[int, Any]) -> tuple[str, ...]:
    names = []
    while descriptor.parent_uuid:
        names.append(descriptor.name)
        descriptor = tracks[descriptor.parent_uuid]
    return tuple(reversed(names))


def read_chrome(path: Path) -> Told:
    """Parse the JSON; checks that events of a thread do not overlap."""
    document = json.loads(path.read_text(encoding="utf-8"))
    told = Told(facts=document["otherData"])
    assert document["displayTimeUnit"] == "ns"
    processes: dict[int, str] = {}
    threads: dict[tuple[int, int], str] = {}
    last: dict[tuple[int, int], int] = {}
    for event in document["traceEvents"]:
        place = (event["pid"], event.get("tid", -1))
        if event["ph"] == "M":
            if event["name"] == "process_name":
                processes[event["pid"]] = event["args"]["name"]
            elif event["name"] == "thread_name":
                threads[place] = event["args"]["name"]
                parts = tuple(event["args"]["name"].split(" / "))
                told.paths[parts[-1]] = parts if parts == ("layers",) else (processes[event["pid"]], *parts)
                told.lanes[parts[-1]] += 1
            continue
        start = round(event["ts"] * SCALE)
        assert event["pid"] in processes
        if event["ph"] == "C":
            component, name = event["name"].rsplit(" ", 1)
            (value,) = event["args"].values()
            told.counters[component, name].append((start, float(value)))
            continue
        component = threads[place].split(" / ")[-1]
        if event["ph"] == "X":
            end = start + round(event["dur"] * SCALE)
            assert start >= last.get(place, 0)
            last[place] = end
            notes = tuple(event["args"].items())
            told.slices.append((component, event["name"], event["cat"], start, end, notes))
        else:
            assert event["ph"] in "stf"
            known = told.flows[event["id"] - 1]
            if event["ph"] == "s":
                assert not known
            told.flows[event["id"] - 1].append((start, component, "f" if event["ph"] == "f" else "s"))
    return told


def read_parquet(path: Path) -> Told:
    """Read the table; flows follow from its columns."""
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    metadata = table.schema.metadata
    facts = {k.decode().removeprefix("dpred_sim."): v.decode() for k, v in metadata.items() if b"dpred" in k}
    told = Told(facts=facts)
    needed: set[int] = set()
    for row in table.to_pylist():
        parts = tuple(row["track"].split(" / "))
        if row["row"] == "counter":
            told.counters[row["component"], row["name"]].append((row["start_ps"], row["value"]))
            continue
        told.paths[parts[-1]] = parts
        category = row["state"] if row["state"] in ("busy", "layer") else "wait"
        notes = {}
        if row["layer"] not in (None, row["name"]):
            notes["layer"] = row["layer"]
        for key in ("transfer", "bits", "ended_by_transfer", "bytes", "raw_bits", "address", "write"):
            if row[key] is not None and (key != "bits" or row[key]):
                notes[key] = row[key]
        if row["row"] == "layer":
            notes = {}
        told.slices.append(
            (parts[-1], row["name"], category, row["start_ps"], row["end_ps"], tuple(notes.items()))
        )
        for transfer in row["makes"] or ():
            told.flows[transfer].append((row["start_ps"], parts[-1], "s"))
        for transfer in row["needs"] or ():
            if transfer not in needed:  # by the pass of another cluster
                needed.add(transfer)
                told.flows[transfer].append((row["start_ps"], parts[-1], "f"))
        if row["transfer"] is not None and row["kind"] != "dma":
            told.flows[row["transfer"]].append((row["start_ps"], parts[-1], "s"))
    return told


READERS = {".pftrace": read_perfetto, ".json": read_chrome, ".parquet": read_parquet}
