"""Trace files for Perfetto, with the classes of its own package (the extra `trace`)."""

from __future__ import annotations

from typing import IO, Any

from dpred_sim.errors import MissingExtra
from dpred_sim.observe.record.reader import Record
from dpred_sim.observe.trace.story import Slice, Track, category_of, facts, title, told_of

SEQUENCE = 1
TIME = "1 ns here is 1 ps of the run"
UUID = 1000
"""Of the root; tracks count on from it."""


class PerfettoSink:
    """Writes packets as they come. Names are written once and referred to by number."""

    def __init__(self, stream: IO[bytes], record: Record) -> None:
        try:
            from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as protos
            from perfetto.trace_builder.proto_builder import StreamingTraceProtoBuilder
        except ImportError:
            raise MissingExtra("trace", "writing a .pftrace") from None
        self._protos = protos
        self._builder = StreamingTraceProtoBuilder(stream)
        self._interned: dict[str, dict[str, int]] = {}
        event = protos.TrackEvent
        self._begin, self._end, self._value = (
            event.TYPE_SLICE_BEGIN,
            event.TYPE_SLICE_END,
            event.TYPE_COUNTER,
        )
        packet = protos.TracePacket(trusted_packet_sequence_id=SEQUENCE)
        for key, value in {**facts(record), "time": TIME}.items():
            attribute = packet.trace_attributes.attribute.add(key=f"dpred_sim.{key}")
            if isinstance(value, str):
                attribute.string_value = value
            else:
                attribute.long_value = value
        self._builder.write_packet(packet)
        packet = self._packet()
        packet.sequence_flags = protos.TracePacket.SEQ_INCREMENTAL_STATE_CLEARED
        packet.track_descriptor.uuid = UUID
        packet.track_descriptor.name = f"{title(record)} ({TIME})"
        packet.track_descriptor.description = f"values: {record.head['source']}; {TIME}"
        packet.track_descriptor.child_ordering = protos.TrackDescriptor.EXPLICIT
        self._builder.write_packet(packet)

    def track(self, track: Track) -> None:
        """Describe a track."""
        packet = self._packet()
        described = packet.track_descriptor
        described.uuid = _uuid(track)
        described.parent_uuid = UUID if track.parent is None else _uuid(track.parent)
        described.name = track.name
        described.child_ordering = self._protos.TrackDescriptor.EXPLICIT
        described.sibling_order_rank = track.rank
        if track.unit is not None:
            counter = described.counter
            if track.unit == "bytes":
                counter.unit = self._protos.CounterDescriptor.UNIT_SIZE_BYTES
            elif track.unit:
                counter.unit_name = track.unit
            else:
                counter.unit = self._protos.CounterDescriptor.UNIT_COUNT
        self._builder.write_packet(packet)

    def slice(self, slice: Slice) -> None:
        """Begin and end of a slice, with what is known of it at its begin."""
        packet = self._packet()
        packet.timestamp = slice.start_ps
        event = packet.track_event
        event.type = self._begin
        event.track_uuid = _uuid(slice.track)
        event.name_iid = self._intern(packet, "event_names", slice.name)
        event.category_iids.append(self._intern(packet, "event_categories", category_of(slice)))
        event.flow_ids.extend(transfer + 1 for transfer in slice.flows)
        event.terminating_flow_ids.extend(transfer + 1 for transfer in slice.flow_ends)
        for key, value in told_of(slice).items():
            note = event.debug_annotations.add()
            note.name_iid = self._intern(packet, "debug_annotation_names", key)
            if isinstance(value, str):
                note.string_value_iid = self._intern(packet, "debug_annotation_string_values", value)
            else:
                note.int_value = value
        self._builder.write_packet(packet)
        packet = self._packet()
        packet.timestamp = slice.end_ps
        packet.track_event.type = self._end
        packet.track_event.track_uuid = _uuid(slice.track)
        self._builder.write_packet(packet)

    def counter(self, track: Track, time_ps: int, value: float) -> None:
        """A value of a counter."""
        packet = self._packet()
        packet.timestamp = time_ps
        event = packet.track_event
        event.type = self._value
        event.track_uuid = _uuid(track)
        if float(value).is_integer():
            event.counter_value = int(value)
        else:
            event.double_counter_value = value
        self._builder.write_packet(packet)

    def finish(self) -> None:
        """Nothing is left to write."""

    def abandon(self) -> None:
        """Nothing is kept open."""

    def _packet(self) -> Any:
        packet = self._builder.create_packet()
        packet.trusted_packet_sequence_id = SEQUENCE
        packet.sequence_flags = self._protos.TracePacket.SEQ_NEEDS_INCREMENTAL_STATE
        return packet

    def _intern(self, packet: Any, kind: str, text: str) -> int:
        """The number of a text; a new one is written into the packet that uses it first."""
        known = self._interned.setdefault(kind, {})
        number = known.get(text)
        if number is None:
            number = known[text] = len(known) + 1
            entry = getattr(packet.interned_data, kind).add()
            entry.iid = number
            if kind == "debug_annotation_string_values":
                entry.str = text.encode()
            else:
                entry.name = text
        return number


def _uuid(track: Track) -> int:
    return UUID + 1 + track.number
