"""The sequencer: order of layers, residency, completion.

Layers run one after another, in the order of the network (of each input of a batch in turn): a layer
starts when everything before it is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

from simpy import Event

from dpred_sim.components.buffer import Room
from dpred_sim.components.cluster import Cluster
from dpred_sim.components.events import Signal
from dpred_sim.components.layer_run import LayerRun
from dpred_sim.components.layer_streams import activation_rows, output_streams, partial_sums, shortcut_rows
from dpred_sim.components.machine import JoinedState, LayerTensors, Machine, TensorState
from dpred_sim.components.planning import layer_needs, pass_limits, reserve_bits
from dpred_sim.components.post_processing import OutputWriter
from dpred_sim.components.weight_feed import WeightFeed
from dpred_sim.schedule.job import LayerJob
from dpred_sim.schedule.passes import Pass, PassLimits, build_passes, memory_passes
from dpred_sim.schedule.residency import LayerNeeds, LayerPlan, plan_layer


class Sequencer:
    """Runs the layers `jobs` on a machine; `tensors` and `names` go with them, layer by layer.

    Raises InputError, before time starts, when a layer cannot run whatever is on chip.
    """

    def __init__(
        self,
        machine: Machine,
        jobs: Sequence[LayerJob],
        tensors: Sequence[LayerTensors],
        names: Sequence[str],
        on_layer_end: Callable[[LayerRun], None],
    ) -> None:
        self.machine = machine
        self.env = machine.env
        self.jobs = jobs
        self.tensors = tensors
        self.names = names
        self.on_layer_end = on_layer_end
        self.current: LayerRun | None = None
        self.done = 0
        self.progress = Signal(self.env)
        self.weights = WeightFeed(machine, jobs, tensors)
        self._keep = machine.activations.capacity_bits - reserve_bits(machine, jobs, tensors)
        self.env.process(self._run())

    def _run(self) -> Generator[Event, Any, None]:
        machine = self.machine
        machine.weight_dma.pump()
        for index in range(len(self.jobs)):
            machine.memory.current_layer = index
            work = self._begin(index)
            self.current = work
            for cluster in machine.clusters:
                cluster.start(work)
            while work.remaining or not work.writer.idle:
                yield self.progress.wait()
            late = max(work.writer.drained) - int(self.env.now)
            if late > 0:
                yield self.env.timeout(late)
            self._finish(work)
        for cluster in machine.clusters:
            cluster.stop()

    def _begin(self, index: int) -> LayerRun:
        machine, job = self.machine, self.jobs[index]
        tensors = self.tensors[index]
        reads, adds, writes = tensors.reads, tensors.adds, tensors.writes
        needs = self._needs(index)
        plan = plan_layer(needs)
        passes = self._passes(job, plan, needs, pass_limits(machine, job, plan, needs))
        rounds = 1 + max((item.weight_round for own in passes for item in own), default=0)
        staging_bits = plan.staging_room // 2 if job.chunks > 1 else plan.staging_room
        staging = Room(machine.activations, staging_bits, lambda: None)
        writer = OutputWriter(
            machine.env,
            index,
            machine.activations,
            machine.write_dma,
            staging,
            machine.output_paths,
            machine.value_bits,
            plan.output_rows_kept * writes.offchip.shape[1],
            machine.settings.request_bytes,
            machine.memory.burst_bytes,
            self.progress,
            self.names[index],
            machine.probe,
        )
        readers = [self.jobs[r] for r in writes.readers if writes in _read_alone(self.tensors[r].reads)]
        second_readers = [
            self.jobs[r] for r in writes.readers if writes in getattr(self.tensors[r].second, "pieces", ())
        ]
        work = LayerRun(
            index=index,
            name=self.names[index],
            job=job,
            plan=plan,
            passes=passes,
            activations=activation_rows(machine, index, job, reads, plan, passes),
            shortcut=None if adds is None else shortcut_rows(machine, index, job, adds, plan, passes),
            writer=writer,
            weight_stream=lambda block, turn: self.weights.stream(index, block, turn),
            output_streams=output_streams(machine, job, plan, writes, readers, second_readers),
            partial_sums=partial_sums(machine, index, job, plan) if job.chunks > 1 else None,
            start_ps=int(self.env.now),
            latency_ps=[_latency(cluster) for cluster in machine.clusters],
            keeps_weights=self.weights.keeps(index),
        )
        reserved = int(writes.row_room_raw(machine.value_bits)[: plan.output_rows_kept].sum())
        machine.activations.take(reserved)
        writes.held_bits = reserved
        writes.resident_rows = plan.output_rows_kept
        self.weights.started(index, rounds)
        return work

    def _passes(
        self, job: LayerJob, plan: LayerPlan, needs: LayerNeeds, limits: PassLimits
    ) -> list[list[Pass]]:
        """Passes by cluster; those of a memory layer belong to post-processing, the last one."""
        clusters = self.machine.cluster_count
        if not job.blocks:
            return [[] for _ in range(clusters)] + [memory_passes(job.work)]
        several = len(job.blocks) > 1 or job.bands > 1
        refetch = plan.order == "windows" and not needs.weights_fit and several
        passes = [
            build_passes(job.work, share, plan.order, plan.run_rows, limits, refetch)
            for share in job.shares(clusters)
        ]
        return [*passes, []]

    def _finish(self, work: LayerRun) -> None:
        work.end_ps = int(self.env.now)
        work.activations.finish()
        if work.shortcut is not None:
            work.shortcut.finish()
        buffer = self.machine.activations
        tensors = self.tensors[work.index]
        writes = tensors.writes
        # Outputs reserved raw room; the excess is free now that their size is known.
        actual = int(writes.row_room()[: writes.resident_rows].sum())
        buffer.give(writes.held_bits - actual)
        writes.held_bits = actual
        for tensor in (tensors.reads, tensors.adds):
            for piece in () if tensor is None else tensor.pieces:
                if max(piece.readers) == work.index and piece.held_bits:
                    buffer.give(piece.held_bits)
                    piece.held_bits = piece.resident_rows = 0
        self.weights.finished(work.index)
        self.done += 1
        if self.machine.probe.active:
            buffer.tell_level(self.machine.probe, work.end_ps)
        self.on_layer_end(work)

    def _needs(self, index: int) -> LayerNeeds:
        machine, job = self.machine, self.jobs[index]
        writes = self.tensors[index].writes
        stay = sum(
            tensor.held_bits
            for tensor in self._held(index)
            if tensor is not writes and max(tensor.readers, default=-1) > index
        )
        above = writes.above
        # The last outputs leave the chip, and so do second operands, which come back regrouped. Rows of a
        # stack stay from the top.
        leaves = not writes.readers or writes.is_second or (above is not None and not above.resident_rows)
        return layer_needs(
            machine,
            job,
            self.tensors[index],
            self.weights.fits(job),
            machine.activations.capacity_bits - machine.activations.level_bits,
            0 if leaves else max(0, self._keep - stay),
            weight_bytes=self.weights.fetch_bytes(index),
        )

    def _held(self, index: int) -> Iterator[TensorState]:
        seen: set[int] = set()
        for layer in self.tensors[: index + 1]:
            for tensor in layer:
                for piece in () if tensor is None else tensor.pieces:
                    if piece.held_bits and id(piece) not in seen:
                        seen.add(id(piece))
                        yield piece


def _read_alone(reads: TensorState) -> Sequence[TensorState]:
    """The tensors that a layer reads parts of; the rows of a stack are read as one."""
    return [state for state, _, _ in reads.parts] if isinstance(reads, JoinedState) else [reads]


def _latency(cluster: Cluster) -> int:
    return max((path.latency_ps for path in cluster.activation_paths), default=0)
