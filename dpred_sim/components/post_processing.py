"""Post-processing: from the tiles' accumulators to the buffer, and off chip what does not fit there.

Bias, activation, pooling, residual add and width detection are on the way and take no time of their
own (assumption: they keep the pace of the tiles' output bus). Output registers hold one pass: a pass
cannot end before the outputs of the one before have left.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from simpy import Environment, Event

from dpred_sim.components.buffer import Buffer, Room
from dpred_sim.components.dma import WriteDma, WriteRequest
from dpred_sim.components.events import Signal, at
from dpred_sim.components.link import Path
from dpred_sim.components.probe import NO_SPAN, NULL_PROBE, Probe, Tag
from dpred_sim.schedule.passes import Pass

PARTIAL_SUM_BITS = 32
"""Width of a partial sum that leaves the chip."""


@dataclass(slots=True)
class OutputStream:
    """One container on its way out: its bytes in order, and what is still to come.

    `byte_ends` and `value_bits` are prefix sums over stored positions (in bytes and raw bits);
    `staged` lists, by stored byte, the staging room that is freed once that byte is written.
    """

    what: str
    address: int
    byte_ends: NDArray[np.int64]
    value_bits: NDArray[np.int64]
    ready: int = 0
    issued: int = 0
    written: int = 0
    sent_bits: int = 0
    """Raw bits of the values sent so far."""
    cause: int = NO_SPAN
    """Span of the pass whose outputs came last."""
    staged: deque[tuple[int, int]] = field(default_factory=deque)


class OutputWriter:
    """What happens to the outputs of one layer."""

    def __init__(
        self,
        env: Environment,
        layer: int,
        buffer: Buffer,
        dma: WriteDma,
        staging: Room,
        paths: list[Path],
        value_bits: int,
        kept_positions: int,
        request_bytes: int,
        burst_bytes: int,
        progress: Signal,
        layer_name: str = "",
        probe: Probe = NULL_PROBE,
    ) -> None:
        self.env = env
        self.layer_name = layer_name
        self.probe = probe
        self.layer = layer
        self.buffer = buffer
        self.dma = dma
        self.staging = staging
        self.paths = paths
        self.value_bits = value_bits
        self.kept_positions = kept_positions
        self.request_bytes = request_bytes
        self.burst_bytes = burst_bytes
        self.drained = [0] * len(paths)
        self.room_freed = Signal(env)
        self.progress = progress
        self.unwritten = 0
        self.pending = 0
        """Passes whose outputs are on the way to the buffer."""
        staging.on_give = self.room_freed.fire

    def room_needed(self, item: Pass, filters: int) -> int:
        """Staging room that a pass takes before it starts."""
        if not item.last_chunk:
            return item.windows * filters * PARTIAL_SUM_BITS
        spilled = item.outputs_last - max(item.outputs_first, self.kept_positions)
        return max(0, spilled) * filters * self.value_bits

    def accept(
        self,
        cluster: int,
        item: Pass,
        filters: int,
        room: int,
        stream: OutputStream | None,
        ready: int,
        final: bool,
        span: int = NO_SPAN,
    ) -> None:
        """A pass ends now: send its outputs to the buffer, and off chip up to byte `ready` of `stream`.

        `final` flushes the stream: nothing follows. `span` is the number of the pass.
        """
        now = int(self.env.now)
        if item.last_chunk:
            bits = (item.outputs_last - item.outputs_first) * filters * self.value_bits
        else:
            bits = item.windows * filters * PARTIAL_SUM_BITS
        self.buffer.write_bits += bits
        tag = Tag(self.probe, self.layer_name, now, NO_SPAN, span) if self.probe.active else None
        end = self.paths[cluster].send(now, now, bits, tag) if bits else now
        self.drained[cluster] = end
        if stream is None:
            return
        self.pending += 1

        def stored(_: Event) -> None:
            self.pending -= 1
            stream.cause = span
            if room:
                stream.staged.append((ready if ready > stream.ready else stream.ready, room))
            stream.ready = max(stream.ready, ready)
            self._issue(stream, flush=final)
            self._free(stream)
            self.progress.fire()

        at(self.env, end, stored)

    def flush(self, stream: OutputStream) -> None:
        """Somebody waits for staging room: send whole bursts without waiting for a whole request."""
        self._issue(stream, flush=False, burst=True)
        self.dma.memory.hurry_writes()

    @property
    def idle(self) -> bool:
        """Nothing is on its way any more."""
        return self.pending == 0 and self.unwritten == 0

    def _issue(self, stream: OutputStream, flush: bool, burst: bool = False) -> None:
        unit = self.burst_bytes if burst or flush else self.request_bytes
        while stream.issued < stream.ready:
            start = stream.address + stream.issued
            stop = (start // self.request_bytes + 1) * self.request_bytes
            limit = stream.address + stream.ready
            if stop > limit:
                stop = limit if flush else limit // unit * unit
            if stop <= start:
                return
            self._write(stream, stream.issued, stop - stream.address, burst or flush)

    def _write(self, stream: OutputStream, first: int, last: int, urgent: bool) -> None:
        stream.issued = last
        size = last - first
        # Values count with the request that completes their position.
        done_bits = int(stream.value_bits[np.searchsorted(stream.byte_ends, last, side="right") - 1])
        raw_bits = done_bits - stream.sent_bits
        stream.sent_bits = done_bits
        self.unwritten += 1

        def done() -> None:
            self.unwritten -= 1
            stream.written = max(stream.written, last)
            self._free(stream)
            self.progress.fire()

        address, cause = stream.address + first, stream.cause
        request = WriteRequest(stream.what, self.layer, address, size, raw_bits, done, urgent, cause)
        self.dma.add(request)

    def _free(self, stream: OutputStream) -> None:
        """Free the room of what is written; less than a burst waits in a register beside the buffer."""
        staged = stream.staged
        freed = 0
        while staged and staged[0][0] // self.burst_bytes * self.burst_bytes <= stream.written:
            freed += staged.popleft()[1]
        self.staging.give(freed)
