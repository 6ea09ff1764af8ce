"""DMA engines: they keep a bounded number of bytes in flight between DRAM and the buffers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from simpy import Environment, Event

from dpred_sim.components.events import at
from dpred_sim.components.link import Converters, Path
from dpred_sim.components.memory import Memory
from dpred_sim.components.probe import NO_SPAN, Tag
from dpred_sim.components.stream import ReadStream

REQUEST_BYTES = 4096
"""Largest request, aligned to its size."""
IN_FLIGHT_BYTES = 32 * 1024
"""Bytes that one engine has under way at least."""
REQUESTS_A_CHANNEL = 2
"""Requests an engine has under way with every channel at least (assumption): while the bits of one cross
the data bus, the other opens its row."""


@dataclass(frozen=True, slots=True)
class TransferSettings:
    """Granularity of off-chip transfers."""

    request_bytes: int = REQUEST_BYTES
    in_flight_bytes: int = IN_FLIGHT_BYTES

    def in_flight(self, channels: int) -> int:
        """Bytes that one engine has under way with so many channels."""
        return max(self.in_flight_bytes, REQUESTS_A_CHANNEL * self.request_bytes * channels)


class TrafficLedger(Protocol):
    """Who is told of each off-chip transfer."""

    def sent(
        self,
        layer: int,
        what: str,
        write: bool,
        address: int,
        stored: int,
        raw_bits: int,
        engine: str,
        cause: int = NO_SPAN,
    ) -> Tag | None:
        """A request is sent; returns what goes with it, None when nobody listens."""

    def moved(
        self, layer: int, what: str, write: bool, stored: int, raw_bits: int, engine: str, tag: Tag | None
    ) -> int:
        """A request completed; returns the number of its span."""

    def waited(self, layer: int, engine: str, start_ps: int, end_ps: int) -> None:
        """An engine had nothing under way for a time, because what came next had no room."""


@dataclass(frozen=True, slots=True)
class Port:
    """The way between each DRAM channel and a buffer, and the converters at its receiving end."""

    paths: tuple[Path, ...]
    converters: Converters | None
    group_bits: int
    """Raw bits of one group, to count what the converters do."""
    carries_stored: bool = True
    """Bits cross the links as stored off chip; else as raw values (a buffer that stores raw)."""

    def carry(
        self, channel: int, first_ps: int, last_ps: int, bits: int, raw_bits: int, tag: Tag | None = None
    ) -> int:
        """When bits that come between two times have arrived and are converted."""
        end = self.paths[channel].send(first_ps, last_ps, bits, tag)
        if self.converters is not None:
            end = self.converters.convert(first_ps, end, -(-raw_bits // self.group_bits), tag, raw_bits)
        return end


class ReadRequest:
    """One request of a stream on its way in."""

    __slots__ = ("channel", "dma", "index", "raw_bits", "size", "stream", "tag")

    def __init__(
        self,
        dma: ReadDma,
        stream: ReadStream,
        index: int,
        channel: int,
        size: int,
        raw_bits: int,
        tag: Tag | None,
    ) -> None:
        self.dma = dma
        self.stream = stream
        self.index = index
        self.channel = channel
        self.size = size
        self.raw_bits = raw_bits
        self.tag = tag

    def carry(self, end_ps: int) -> int:
        """When it is in the buffer: its last bit leaves DRAM at `end_ps`, then come the links."""
        dma, size, tag = self.dma, self.size, self.tag
        first_ps = end_ps - dma.memory.transfer_ps(self.channel, size)
        if tag is not None:
            tag.busy(dma.memory.channels[self.channel].name, first_ps, end_ps, size * 8)
        return dma.port.carry(self.channel, first_ps, end_ps, size * 8, self.raw_bits, tag)

    def arrived(self) -> None:
        """It is in the buffer."""
        dma, stream, size, tag = self.dma, self.stream, self.size, self.tag
        buffer = stream.room.buffer
        dma.in_flight -= size
        dma.bytes += size
        buffer.write_bits += self.raw_bits
        span = dma.ledger.moved(stream.layer, stream.what, False, size, self.raw_bits, dma.name, tag)
        if tag is not None:
            buffer.tell_level(tag.probe, int(dma.env.now))
        stream.arrived(self.index, span)
        dma.pump()


class ReadDma:
    """Fetches streams into a buffer.

    Streams of one queue go strictly one after another; several queues take turns, request by request.
    A request is sent when its room is free and fewer than `in_flight_bytes` are under way.
    """

    def __init__(
        self,
        env: Environment,
        name: str,
        memory: Memory,
        port: Port,
        ledger: TrafficLedger,
        settings: TransferSettings,
        queues: int = 1,
    ) -> None:
        self.env = env
        self.name = name
        self.memory = memory
        self.port = port
        self.ledger = ledger
        self._limit = settings.in_flight(len(memory.channels))
        self.in_flight = 0
        self.bytes = 0
        self.refill: Callable[[], ReadStream | None] | None = None
        """Asked for the next stream when a queue is empty."""
        self._queues: list[deque[ReadStream]] = [deque() for _ in range(queues)]
        self.room_wait_ps = 0
        """Time with nothing under way because what comes next had no room."""
        self._turn = 0
        self._pumping = False
        self._no_room_since = -1
        self._last_layer = 0

    def add(self, stream: ReadStream, queue: int = 0) -> None:
        """Append a stream to a queue."""
        if stream.requests:
            self._queues[queue].append(stream)
            self.pump()

    def pump(self) -> None:
        """Send whatever can be sent now."""
        if self._pumping or self.in_flight >= self._limit:
            return
        self._pumping = True
        idle = 0
        queues = self._queues
        while idle < len(queues):
            if self._send_from(queues[self._turn]):
                idle = 0
            else:
                idle += 1
            self._turn = (self._turn + 1) % len(queues)
        self._pumping = False
        if self.in_flight:
            if self._no_room_since >= 0:
                now = int(self.env.now)
                self.room_wait_ps += now - self._no_room_since
                self.ledger.waited(self._last_layer, self.name, self._no_room_since, now)
                self._no_room_since = -1
        elif self._no_room_since < 0 and any(queues):
            self._no_room_since = int(self.env.now)

    @property
    def blocked_on(self) -> str | None:
        """The buffer without room for what comes next, while nothing is under way."""
        if self._no_room_since < 0:
            return None
        return next((queue[0].room.buffer.name for queue in self._queues if queue), None)

    def waiting_for(self) -> str | None:
        """What the head of the first blocked queue waits for, in words."""
        for queue in self._queues:
            if queue:
                stream = queue[0]
                need = stream.rooms[stream.issued + 1] - stream.rooms[stream.issued]
                room = stream.room
                if not room.fits(need):
                    free = room.capacity_bits - room.level_bits
                    return f"{need} bit of room for {stream.what} in {room.buffer.name} ({free} free)"
        return None

    def _send_from(self, queue: deque[ReadStream]) -> bool:
        if not queue:
            stream = self.refill() if self.refill is not None else None
            if stream is None:
                return False
            queue.append(stream)
        stream = queue[0]
        index = stream.issued
        first = stream.bounds[index]
        size = stream.bounds[index + 1] - first
        if self.in_flight and self.in_flight + size > self._limit:
            return False
        room_bits = stream.rooms[index + 1] - stream.rooms[index]
        room = stream.room
        if room.level_bits + room_bits > room.capacity_bits:
            return False
        room.take(room_bits)
        stream.issued = index + 1
        if stream.issued == stream.requests:
            queue.popleft()
        self.in_flight += size
        self._last_layer = stream.layer
        address = stream.address + first
        raw_bits = stream.values[index + 1] - stream.values[index]
        memory = self.memory
        tag = self.ledger.sent(stream.layer, stream.what, False, address, size, raw_bits, self.name)
        if tag is not None:
            stream.transfers[index] = tag.transfer
            tag.probe.counter(self.name, "in_flight_bytes", tag.start_ps, self.in_flight)
        request = ReadRequest(self, stream, index, memory.channel_of(address), size, raw_bits, tag)
        memory.read(address, request, stream.layer if stream.what == "weights" else None)
        return True


@dataclass(slots=True)
class WriteRequest:
    """Bytes on their way out of a buffer."""

    what: str
    layer: int
    address: int
    size: int
    raw_bits: int
    done: Callable[[], None]
    urgent: bool = False
    """Somebody waits for it."""
    cause: int = NO_SPAN
    """Span of the pass that completed it."""


class WriteDma:
    """Writes what leaves the chip, in order, with a bounded number of bytes in flight."""

    def __init__(
        self,
        env: Environment,
        name: str,
        memory: Memory,
        port: Port,
        ledger: TrafficLedger,
        settings: TransferSettings,
    ) -> None:
        self.env = env
        self.name = name
        self.memory = memory
        self.port = port
        self.ledger = ledger
        self._limit = settings.in_flight(len(memory.channels))
        self.in_flight = 0
        self.bytes = 0
        self._queue: deque[WriteRequest] = deque()

    @property
    def idle(self) -> bool:
        """Nothing queued and nothing under way."""
        return not self._queue and self.in_flight == 0

    def add(self, request: WriteRequest) -> None:
        """Queue a request."""
        self._queue.append(request)
        self._pump()

    def _pump(self) -> None:
        while self._queue:
            request = self._queue[0]
            if self.in_flight and self.in_flight + request.size > self._limit:
                return
            self._queue.popleft()
            self._send(request)

    def _send(self, request: WriteRequest) -> None:
        self.in_flight += request.size
        channel = self.memory.channel_of(request.address)
        now = int(self.env.now)
        bits = request.size * 8 if self.port.carries_stored else request.raw_bits
        size, raw_bits = request.size, request.raw_bits
        what, layer = request.what, request.layer
        tag = self.ledger.sent(layer, what, True, request.address, size, raw_bits, self.name, request.cause)
        if tag is not None:
            tag.probe.counter(self.name, "in_flight_bytes", now, self.in_flight)
        arrival = self.port.carry(channel, now, now, bits, raw_bits, tag)

        def submit(_: Event) -> None:
            self.memory.write(request.address, size, done)
            if request.urgent:
                self.memory.hurry_writes()

        def done(end_ps: int) -> None:
            self.in_flight -= size
            self.bytes += size
            if tag is not None:
                start_ps = end_ps - self.memory.transfer_ps(channel, size)
                tag.busy(self.memory.channels[channel].name, start_ps, end_ps, size * 8)
            self.ledger.moved(layer, what, True, size, raw_bits, self.name, tag)
            request.done()
            self._pump()

        at(self.env, arrival, submit)
