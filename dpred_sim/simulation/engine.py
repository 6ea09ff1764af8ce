"""Run a workload on a topology."""

from __future__ import annotations

from typing import Any

from simpy.core import EmptySchedule

from dpred_sim.components.layer_run import LayerRun
from dpred_sim.components.probe import NULL_PROBE, Probe
from dpred_sim.errors import Deadlock, InputError
from dpred_sim.simulation.build import (
    Settings,
    build_sequencer,
    build_system,
    prepare_jobs,
)
from dpred_sim.simulation.checks import check_run
from dpred_sim.simulation.collect import collect, layer_result
from dpred_sim.simulation.ledger import Ledger
from dpred_sim.simulation.result import LayerResult, RunResult
from dpred_sim.simulation.safe_probe import guarded
from dpred_sim.simulation.snapshot import LayerState, LayerWidths, Snapshot
from dpred_sim.simulation.states import component_states
from dpred_sim.simulation.widths import mean_width, width_counts
from dpred_sim.topology.graph import Topology
from dpred_sim.workload.workload import Workload


class Simulation:
    """A run that its caller drives with `advance` and looks at with `snapshot`.

    Nothing that looks at it changes its result. Raises InputError for a workload that the topology
    cannot run, before time starts.
    """

    def __init__(
        self,
        workload: Workload,
        topology: Topology,
        seed: int = 0,
        batch: int = 1,
        probe: Probe | None = None,
        settings: Settings | None = None,
    ) -> None:
        if batch < 1:
            raise InputError("the batch has at least one input", field="batch", found=batch, allowed=">= 1")
        self.workload = workload
        self.topology = topology
        self.seed = seed
        self.batch = batch
        self.settings = settings or Settings()
        self.probe: Probe = NULL_PROBE if probe is None else guarded(probe)
        names = _layer_names(workload, batch)
        self.ledger = Ledger(names, self.probe)
        self.system = build_system(topology, workload.bits, self.settings, self.ledger, self.probe)
        self.env = self.ledger.env = self.system.env
        self.jobs = prepare_jobs(workload, self.system)
        self.layer_names = names
        self.layers: list[LayerResult] = []
        self.work_total = batch * sum(max(1, job.schedule.total) for job in self.jobs)
        self._work_behind = 0
        self.layer_work = [max(1, job.schedule.total) for job in self.jobs] * batch
        self._finished = False
        self.dram_busy_ps = 0
        self.room_wait_ps: dict[str, int] = {}
        self.sequencer = build_sequencer(workload, self.system, self.jobs, batch, names, self._layer_ended)

    def advance(self, max_events: int = 10_000) -> bool:
        """Process up to `max_events` events; True while work is left.

        Raises Deadlock when events run out before the work does.
        """
        step = self.env.step
        try:
            for _ in range(max_events):
                step()
                if self.sequencer.done == len(self.layer_names):
                    self._finished = True
                    return False
        except EmptySchedule:
            raise Deadlock(self._who_waits()) from None
        return True

    def run(self) -> RunResult:
        """Run to the end and return the result."""
        while self.advance(1_000_000):
            pass
        return self.result()

    def result(self) -> RunResult:
        """The result so far: checked and complete when the run is over."""
        result = collect(self, complete=self._finished)
        if self._finished:
            check_run(self, result)
        return result

    def snapshot(self) -> Snapshot:
        """The system now."""
        now = int(self.env.now)
        done = len(self.layers)
        current = self.sequencer.current
        in_layer = 0 if current is None or done > current.index else current.compute_done
        layers = [LayerState(layer.name, 1.0, layer.start_ps, layer.end_ps) for layer in self.layers]
        for index in range(done, len(self.layer_names)):
            active = current is not None and current.index == index
            share = in_layer / self.layer_work[index] if active else 0.0
            start = current.start_ps if active and current is not None else None
            layers.append(LayerState(self.layer_names[index], min(1.0, share), start, None))
        index = min(done, len(self.layer_names) - 1)
        layer = self.jobs[index % len(self.jobs)].layer
        dram: dict[str, int] = {}
        for channel in self.system.channels:
            for name, value in channel.breakdown(now).items():
                dram[name] = dram.get(name, 0) + value
        return Snapshot(
            time_ps=now,
            finished=self._finished,
            work_done=self.work_done,
            work_total=self.work_total,
            layer_index=index,
            layers=tuple(layers),
            components=tuple(component_states(self, now)),
            offchip_bytes=self.ledger.stored_bytes,
            offchip_bytes_raw=-(-self.ledger.stored_raw_bits // 8),
            peak_bytes_per_second=self.peak_bytes_per_second,
            widths=LayerWidths(
                mean_width(layer.activations),
                mean_width(layer.weights),
                width_counts(layer.activations),
                width_counts(layer.weights),
            ),
            dram_ps=dram,
        )

    @property
    def work_done(self) -> int:
        """Compute cycles done, of `work_total`."""
        current = self.sequencer.current
        in_layer = 0 if current is None or len(self.layers) > current.index else current.compute_done
        return min(self.work_total, self._work_behind + in_layer)

    @property
    def peak_bytes_per_second(self) -> float:
        """Of all DRAM channels together."""
        return sum(channel.model.peak_bits_per_second / 8 for channel in self.system.channels)

    def _layer_ended(self, work: LayerRun) -> None:
        self.layers.append(layer_result(self, work))
        self._work_behind += self.layer_work[work.index]

    def _who_waits(self) -> str:
        machine, now = self.system.machine, int(self.env.now)
        done = self.sequencer.done
        lines = [f"nothing can happen any more at {now} ps in layer {self.layer_names[done]!r}"]
        for cluster in machine.clusters:
            if self.sequencer.current and self.sequencer.current.passes[cluster.index]:
                lines.append(f"{cluster.name} waits for {cluster.state} since {cluster.since_ps} ps")
        for dma in (machine.activation_dma, machine.weight_dma):
            waits = dma.waiting_for()
            if waits:
                lines.append(f"{dma.name} waits for {waits}")
        return "; ".join(lines)


def simulate(
    workload: Workload,
    topology: Topology,
    seed: int = 0,
    batch: int = 1,
    verify: bool = False,
    probe: Probe | None = None,
) -> RunResult:
    """Simulate a workload on a topology.

    `verify` also packs and unpacks every container and recomputes every layer's outputs. Raises
    InputError (bad input), Deadlock or InvariantBroken (the simulation failed).
    """
    if verify:
        from dpred_sim.simulation.verify import verify_workload

        verify_workload(workload, topology)
    return Simulation(workload, topology, seed, batch, probe).run()


def _layer_names(workload: Workload, batch: int) -> list[str]:
    names = [node.name for node in workload.network]
    if batch == 1:
        return names
    return [f"{name}#{item}" for item in range(batch) for name in names]


def run_configuration(simulation: Simulation) -> dict[str, Any]:
    """What was run, JSON-ready."""
    settings = simulation.settings
    return {
        "topology": simulation.topology.to_dict(),
        "workload": {
            "name": simulation.workload.name,
            "bits": simulation.workload.bits,
            "source": simulation.workload.source,
            "synthetic": simulation.workload.synthetic,
            "layers": len(simulation.workload.network),
            "macs": simulation.workload.macs,
        },
        "seed": simulation.seed,
        "batch": simulation.batch,
        "settings": {
            "request_bytes": settings.transfers.request_bytes,
            "in_flight_bytes": settings.transfers.in_flight_bytes,
            "pass_cycles": settings.limits.cycles,
            "passes_per_block": settings.limits.passes_per_block,
        },
    }
