"""One layer while it runs: its passes, the streams they wait for, the room they take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from simpy import Event

from dpred_sim.components.buffer import Room
from dpred_sim.components.post_processing import PARTIAL_SUM_BITS, OutputStream, OutputWriter
from dpred_sim.components.probe import NO_SPAN
from dpred_sim.components.rows import RowSource
from dpred_sim.components.stream import ReadStream
from dpred_sim.schedule.job import LayerJob
from dpred_sim.schedule.passes import Pass
from dpred_sim.schedule.residency import LayerPlan


@dataclass(eq=False)
class PartialSums:
    """Partial sums of a layer whose blocks are cut into channel chunks, a region for each cluster."""

    addresses: list[int]
    room: Room
    make_stream: Callable[[int, int], ReadStream]
    """(cluster, bytes) -> the stream that reads them back."""
    written: dict[int, OutputStream] = field(default_factory=dict)
    reading: dict[int, ReadStream] = field(default_factory=dict)
    sweep: dict[int, int] = field(default_factory=dict)
    """Sweep of each cluster whose partial sums are being written."""
    position: dict[int, int] = field(default_factory=dict)
    """Bytes of the current chunk behind each cluster's passes, written."""
    used: dict[int, int] = field(default_factory=dict)
    """The same, read back."""


@dataclass(eq=False)
class LayerRun:
    """State shared by the clusters, the post-processing and the sequencer while a layer runs."""

    index: int
    """Place in the order of execution (counts on over the inputs of a batch)."""
    name: str
    job: LayerJob
    plan: LayerPlan
    passes: list[list[Pass]]
    activations: RowSource
    shortcut: RowSource | None
    writer: OutputWriter
    weight_stream: Callable[[int, int], ReadStream]
    """(weight block, round) -> its stream."""
    output_streams: dict[int, OutputStream]
    """By weight block for order `filters`; 0 holds the one stream of order `windows`."""
    partial_sums: PartialSums | None
    start_ps: int
    latency_ps: list[int]
    """By cluster: from the buffer to the tiles, charged once a layer."""
    remaining: int = 0
    compute_done: int = 0
    macs_done: int = 0
    path_extra_ps: dict[str, int] = field(default_factory=dict)
    end_ps: int = 0
    run_left: dict[int, int] = field(default_factory=dict)
    run_room: dict[int, int] = field(default_factory=dict)
    weight_freed: dict[tuple[int, int], int] = field(default_factory=dict)
    keeps_weights: bool = False
    """The next layer uses the same weights, and they stay where they are."""

    def __post_init__(self) -> None:
        self.remaining = sum(len(mine) for mine in self.passes)
        if self.plan.order == "windows":
            for mine in self.passes:
                for item in mine:
                    self.run_left[item.run] = self.run_left.get(item.run, 0) + 1

    def reading(self, item: Pass) -> int:
        """Which of the activation streams a pass needs, where they come anew for every sweep and slab."""
        return item.sweep * self.job.slabs + item.slab

    def filters(self, item: Pass) -> int:
        """Output channels that a pass works on."""
        first, last = self.job.filters(item.weights)
        return last - first

    def stored(self, item: Pass) -> int:
        """Channels that a pass sends to the buffer: filters of partial sums, else output channels."""
        if not item.last_chunk:
            return self.filters(item)
        first, last = self.job.outputs(item.weights)
        return last - first

    def weight_bytes(self, item: Pass, stream: ReadStream) -> int:
        """Bytes of a weight stream that a pass waits for; a regrouped operand has to be there whole."""
        return item.weight_bytes if self.job.layer.second is None else stream.bounds[-1]

    def needed(self, cluster: int, item: Pass) -> list[int]:
        """Transfers that a pass of a cluster is the first to need; called once a pass, in order."""
        found = self.activations.needed(item.sweep, item.last_row, cluster)
        if self.shortcut is not None:
            found += self.shortcut.needed(item.sweep, item.window_rows[1], cluster)
        if self.job.blocks:
            stream = self.weight_stream(item.weights, item.weight_round)
            found += stream.needed(cluster, self.weight_bytes(item, stream))
        sums = self.partial_sums
        if sums is not None and item.chunk:
            size = item.windows * self.filters(item) * PARTIAL_SUM_BITS // 8
            found += sums.reading[cluster].needed(cluster, sums.used[cluster] + size)
        return found

    def release(self, cluster: int, item: Pass) -> None:
        """A pass is over: free the rows and the weights that no later pass needs."""
        self.activations.release(self.reading(item), cluster, item.next_row)
        if self.shortcut is not None:
            self.shortcut.release(item.sweep, cluster, item.shortcut_next)
        if not self.job.blocks or self.keeps_weights:
            return
        key = (item.weights, item.weight_round)
        stream = self.weight_stream(*key)
        freed = self.weight_freed.get(key, 0)
        upto = stream.rooms[-1] if item.weights_done else item.weight_release
        if upto > freed:
            self.weight_freed[key] = upto
            stream.room.give(upto - freed)

    def store(self, cluster: int, item: Pass, room: int, span: int = NO_SPAN) -> None:
        """A pass is over: hand its outputs to post-processing; `span` is its number."""
        filters = self.stored(item)
        if not item.last_chunk:
            self._store_partial(cluster, item, filters, room, span)
            return
        stream: OutputStream | None
        ready, final = 0, False
        if self.plan.order == "windows":
            stream = self.output_streams.get(0)
            self.run_left[item.run] -= 1
            room += self.run_room.pop(item.run, 0)
            if self.run_left[item.run]:
                # The outputs of a run are assembled before their widths are known.
                self.run_room[item.run] = room
                room = 0
                self.writer.accept(cluster, item, filters, 0, None, 0, False, span)
                return
        else:
            stream = self.output_streams.get(item.weights)
        if stream is not None:
            ready = int(stream.byte_ends[item.outputs_last])
            final = item.outputs_last == len(stream.byte_ends) - 1
        self.writer.accept(cluster, item, filters, room, stream, ready, final, span)

    def _store_partial(self, cluster: int, item: Pass, filters: int, room: int, span: int) -> None:
        sums = self.partial_sums
        if sums is None:
            raise ValueError("a cut block needs a place for its partial sums")
        total = self.job.layer.windows * filters * PARTIAL_SUM_BITS // 8
        stream = sums.written.get(cluster)
        if stream is None or sums.sweep.get(cluster) != item.sweep:
            sums.sweep[cluster] = item.sweep
            ends = np.array([0, total], dtype=np.int64)
            stream = OutputStream("partial_sums", sums.addresses[cluster], ends, ends * 8)
            sums.written[cluster] = stream
            sums.position[cluster] = 0
        sums.position[cluster] += item.windows * filters * PARTIAL_SUM_BITS // 8
        done = sums.position[cluster]
        self.writer.accept(cluster, item, filters, room, stream, done, done == total, span)

    def partial_sums_ready(self, cluster: int, item: Pass) -> Event | None:
        """For a pass that goes on with partial sums: an event for "they are back", or None."""
        sums = self.partial_sums
        if sums is None or item.chunk == 0:
            return None
        total = self.job.layer.windows * self.filters(item) * PARTIAL_SUM_BITS // 8
        reading = sums.reading.get(cluster)
        if reading is None:
            if sums.written[cluster].written < total:
                return self.writer.progress.wait()
            reading = sums.make_stream(cluster, total)
            sums.reading[cluster] = reading
            sums.used[cluster] = 0
        need = sums.used[cluster] + item.windows * self.filters(item) * PARTIAL_SUM_BITS // 8
        return reading.wait(need)

    def partial_sums_used(self, cluster: int, item: Pass) -> None:
        """A pass has taken its partial sums in."""
        sums = self.partial_sums
        if sums is None or item.chunk == 0:
            return
        size = item.windows * self.filters(item) * PARTIAL_SUM_BITS // 8
        sums.used[cluster] += size
        sums.room.give(size * 8)
        if item.last_of_sweep:
            del sums.reading[cluster]
