"""Clusters: a dispatcher and the tiles that it feeds in lockstep.

Tiles of a cluster advance together, one pass at a time, so one process stands for all of them. For
every tile, busy time and waits by reason add up to the whole run.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from simpy import Environment, Event

from dpred_sim.components.buffer import Buffer
from dpred_sim.components.events import Signal
from dpred_sim.components.layer_run import LayerRun
from dpred_sim.components.link import Path
from dpred_sim.components.probe import NO_SPAN, Probe, Tag
from dpred_sim.schedule.passes import Pass

Process = Generator[Event, Any, None]


class Cluster:
    """One dispatcher with its tiles.

    `activation_paths` lead from the activation buffer over the dispatcher to the tiles, and
    `weight_path` from a weight buffer to its tile; passes read over them cut-through. `weights_shared`:
    one buffer feeds all tiles. A link that ends at several tiles carries the weights of all of them.
    """

    def __init__(
        self,
        env: Environment,
        index: int,
        name: str,
        tiles: Sequence[str],
        period_ps: int,
        activations: Buffer,
        weights: Buffer | None,
        activation_paths: Sequence[Path],
        weight_path: Path,
        weights_shared: bool,
        probe: Probe,
    ) -> None:
        self.env = env
        self.index = index
        self.name = name
        self.tiles = tuple(tiles)
        self._all = (name, *tiles)
        self.period_ps = period_ps
        self.activations = activations
        self.weights = weights
        self.activation_paths = tuple(activation_paths)
        self.weight_path = weight_path
        self.weights_shared = weights_shared
        self.probe = probe
        self.state = "layer_barrier"
        self.since_ps = 0
        self.waits_ps: dict[str, int] = {}
        self.busy_ps = 0
        self.busy_by_tiles = [0] * (len(self.tiles) + 1)
        """Busy time by the number of tiles that had filters."""
        self.tiles_busy = len(self.tiles)
        """Tiles that have filters in the present pass, or had in the last one."""
        self.layer_waits_ps: dict[str, int] = {}
        self.layer_busy_ps = 0
        self.read_bits = 0
        self.passes = 0
        self.work: LayerRun | None = None
        self.wake = Signal(env)
        self._layer_name = ""
        env.process(self._run())

    def start(self, work: LayerRun) -> None:
        """Begin a layer."""
        self.work = work
        self.wake.fire()

    def stop(self) -> None:
        """Nothing follows."""
        self._leave(NO_SPAN)
        self.state = "finished"

    def _run(self) -> Process:
        while True:
            yield self.wake.wait()
            work = self.work
            if work is None:
                continue
            self._leave(NO_SPAN)
            self._layer_name = work.name
            self.layer_waits_ps = {}
            self.layer_busy_ps = 0
            mine = work.passes[self.index]
            if not mine:
                self.state = "no_filters" if work.job.blocks and self.tiles else "layer_barrier"
                continue
            first = True
            for item in mine:
                yield from self._pass(work, item, first)
                first = False
            self.state = "layer_barrier"

    def _pass(self, work: LayerRun, item: Pass, first: bool) -> Process:
        env, rows, reading = self.env, work.activations, work.reading(item)
        event = rows.wait(reading, item.last_row)
        if event is not None:
            yield from self._wait("activations", event)
            self._leave(rows.cause(reading))
        if work.shortcut is not None:
            event = work.shortcut.wait(item.sweep, item.window_rows[1])
            if event is not None:
                yield from self._wait("activations", event)
                self._leave(work.shortcut.cause(item.sweep))
        while (event := work.partial_sums_ready(self.index, item)) is not None:
            yield from self._wait("dram", event)
        if work.job.blocks:
            stream = work.weight_stream(item.weights, item.weight_round)
            event = stream.wait(work.weight_bytes(item, stream))
            if event is not None:
                yield from self._wait("weights", event)
                self._leave(stream.cause)
        room = work.writer.room_needed(item, work.stored(item))
        while room and not work.writer.staging.fits(room):
            for output in (*work.output_streams.values(), *self._partial_outputs(work)):
                work.writer.flush(output)
            if work.writer.staging.fits(room):
                break
            yield from self._wait("output", work.writer.room_freed.wait())
        if room:
            work.writer.staging.take(room)
        if first:
            yield from self._wait("activations", env.timeout(work.latency_ps[self.index]))
        duration = self._charge(work, item)
        self._leave(NO_SPAN)
        self.state = "busy"
        self.tiles_busy = item.tiles
        span = self._tell_pass(work, item, duration) if self.probe.active else NO_SPAN
        yield env.timeout(duration)
        self._end_busy(item, duration, span)
        late = work.writer.drained[self.index] - int(env.now)
        if late > 0:
            yield from self._wait("bus", env.timeout(late))
        self._leave(NO_SPAN)
        self.passes += 1
        work.partial_sums_used(self.index, item)
        work.store(self.index, item, room, span)
        work.release(self.index, item)
        work.compute_done += item.cycles
        if self.probe.active:
            self._tell_levels(work)
        work.macs_done += item.macs
        work.remaining -= 1
        if work.remaining == 0:
            work.writer.progress.fire()

    def _partial_outputs(self, work: LayerRun) -> list[Any]:
        return [] if work.partial_sums is None else list(work.partial_sums.written.values())

    def _charge(self, work: LayerRun, item: Pass) -> int:
        """Duration of a pass: the longest of tiles, activation reads and weight reads."""
        compute = item.cycles * self.period_ps
        bits = item.brick_bits
        read = self.activations.duration_ps(bits)
        for path in self.activation_paths:
            read = max(read, path.duration_ps(bits))
            path.occupy(bits)
        self.activations.read_bits += bits
        self.read_bits += bits
        if not self.tiles:
            # A memory layer writes as it reads, through the same port.
            written = (item.outputs_last - item.outputs_first) * work.filters(item) * work.writer.value_bits
            return max(read, self.activations.duration_ps(written))
        weights = self._read_weights(item)
        duration = max(compute, read, weights)
        if duration > compute:
            name = "activation path" if read >= weights else "weight path"
            work.path_extra_ps[name] = work.path_extra_ps.get(name, 0) + duration - compute
        return duration

    def _read_weights(self, item: Pass) -> int:
        """Count the weights that a pass reads; returns the time of the narrowest part of their way."""
        longest = 0
        for link in self.weight_path.links:
            bits = item.all_weight_bits if len(link.targets) > 1 else item.weight_bits
            longest = max(longest, link.duration_ps(bits))
            link.occupy(bits)
        if self.weights is not None:
            bits = item.all_weight_bits if self.weights_shared else item.weight_bits
            longest = max(longest, self.weights.duration_ps(bits))
            self.weights.read_bits += bits
        return longest

    def _wait(self, reason: str, event: Event) -> Process:
        if self.state != reason:
            self._leave(NO_SPAN)
            self.state = reason
        yield event

    def _leave(self, cause: int) -> None:
        """Close the current wait, if it took time."""
        now = int(self.env.now)
        duration = now - self.since_ps
        if duration > 0:
            reason = self.state
            self.waits_ps[reason] = self.waits_ps.get(reason, 0) + duration
            self.layer_waits_ps[reason] = self.layer_waits_ps.get(reason, 0) + duration
            if self.probe.active:
                self.probe.span_group(self._all, reason, self.since_ps, now, self._layer_name, cause)
        self.since_ps = now

    def _tell_pass(self, work: LayerRun, item: Pass, duration: int) -> int:
        """Tell of a pass that begins: the dispatcher, the links that it reads over, and what it needs.

        Returns the number of the dispatcher's span, which stands for the pass.
        """
        now = int(self.env.now)
        name, probe, bits = self._layer_name, self.probe, item.brick_bits
        span = probe.span(self.name, "busy", now, now + duration, name, NO_SPAN, NO_SPAN, bits)
        tag = Tag(probe, name, now, NO_SPAN, span)
        for path in self.activation_paths:
            for link in path.links:
                tag.busy(link.name, now, now + link.duration_ps(bits), bits)
        for link in self.weight_path.links if self.tiles else ():
            bits = item.all_weight_bits if len(link.targets) > 1 else item.weight_bits
            tag.busy(link.name, now, now + link.duration_ps(bits), bits)
        transfers = work.needed(self.index, item)
        if transfers:
            probe.use(transfers, span)
        return span

    def _tell_levels(self, work: LayerRun) -> None:
        now = int(self.env.now)
        self.probe.counter(self.name, "work_cycles", now, work.compute_done)
        self.activations.tell_level(self.probe, now)
        if self.weights is not None:
            self.weights.tell_level(self.probe, now)

    def _end_busy(self, item: Pass, duration: int, span: int) -> None:
        now = int(self.env.now)
        self.busy_ps += duration
        self.layer_busy_ps += duration
        self.busy_by_tiles[item.tiles] += duration
        if duration and self.probe.active:
            tiles, count = self.tiles, item.tiles
            for state, some in (("busy", tiles[:count]), ("no_filters", tiles[count:])):
                if some:
                    self.probe.span_group(some, state, self.since_ps, now, self._layer_name, span)
        self.since_ps = now
        self.state = "layer_barrier"
