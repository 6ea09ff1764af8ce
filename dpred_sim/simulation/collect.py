"""Collect what a run found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dpred_sim.components.layer_run import LayerRun
from dpred_sim.simulation.result import LayerResult, RunResult, Statistic
from dpred_sim.simulation.widths import mean_width

if TYPE_CHECKING:
    from dpred_sim.simulation.engine import Simulation

STALL_SHARE = 0.1
"""A layer whose waits take less than this share is called bound by compute."""
DRAM_SHARE = 0.5
"""A layer that waits for data is bound by DRAM when its data bus is busy for at least this share."""


def layer_result(simulation: Simulation, work: LayerRun) -> LayerResult:
    """One layer, as it ends."""
    machine = simulation.system.machine
    job = work.job
    period = simulation.topology.period_ps()
    clusters = [c for c in machine.clusters if work.passes[c.index]]
    busiest = max(clusters, key=lambda c: c.layer_busy_ps)
    previous = simulation.layers[-1].end_ps if simulation.layers else 0
    waits = {reason: ps // period for reason, ps in busiest.layer_waits_ps.items()}
    tail = work.end_ps - busiest.since_ps
    waits["output"] = waits.get("output", 0) + max(0, tail) // period
    bound_by = _bound_by(simulation, work, waits, period, previous)
    for dma in (machine.weight_dma, machine.activation_dma):
        simulation.room_wait_ps[dma.name] = dma.room_wait_ps
    return LayerResult(
        index=work.index,
        name=simulation.layer_names[work.index],
        kind=job.layer.kind if job.layer.second is None else "matmul",
        start_ps=previous,
        end_ps=work.end_ps,
        cycles=work.end_ps // period - previous // period,
        compute_cycles=max((sum(item.cycles for item in own) for own in work.passes), default=0),
        ideal_cycles=job.ideal_cycles,
        stall_cycles={reason: count for reason, count in sorted(waits.items()) if count},
        bound_by=bound_by,
        macs=work.macs_done,
        passes=sum(len(own) for own in work.passes),
        loop_order=work.plan.order if job.blocks else "memory",
        traffic={},
        mean_width_activations=mean_width(job.layer.activations),
        mean_width_weights=mean_width(job.layer.weights),
        family=job.node.family,
    )


def _bound_by(
    simulation: Simulation, work: LayerRun, waits: dict[str, int], period: int, previous: int
) -> str:
    """What limited a layer: its longest kind of delay, once delays take a tenth of it."""
    channels = simulation.system.channels
    busy = sum(channel.breakdown(work.end_ps)["busy_ps"] for channel in channels)
    dram_share = (busy - simulation.dram_busy_ps) / max(1, work.end_ps - previous) / len(channels)
    simulation.dram_busy_ps = busy
    total = max(1, (work.end_ps - previous) // period)
    worst_wait = max(waits.values(), default=0)
    delays = {name: ps // period for name, ps in work.path_extra_ps.items()}
    for reason, count in waits.items():
        if reason not in ("layer_barrier", "no_filters", "finished"):
            name = "output bus" if reason == "bus" else "dram"
            delays[name] = delays.get(name, 0) + count
    name, worst = max(delays.items(), key=lambda pair: pair[1], default=("compute", 0))
    if work.job.blocks and worst < STALL_SHARE * total:
        return "compute"
    if name != "dram" or dram_share >= DRAM_SHARE:
        return name
    # Data came late and yet DRAM was mostly idle: there was no room for it, or the layer is so short
    # that its fill and drain are all there is.
    machine = simulation.system.machine
    for dma, buffer, reason in (
        (machine.weight_dma, machine.weights[0], "weights"),
        (machine.activation_dma, machine.activations, "activations"),
    ):
        waited = dma.room_wait_ps - simulation.room_wait_ps.get(dma.name, 0)
        if waits.get(reason, 0) == worst_wait and waited >= STALL_SHARE * total * period:
            return f"room in {buffer.name}"
    return "start-up"


def collect(simulation: Simulation, complete: bool) -> RunResult:
    """Totals, layers and component statistics of a run."""
    from dpred_sim.simulation.engine import run_configuration
    from dpred_sim.simulation.paper_traffic import paper_traffic

    workload, topology = simulation.workload, simulation.topology
    now = simulation.layers[-1].end_ps if complete else int(simulation.env.now)
    for layer in simulation.layers:
        layer.traffic = simulation.ledger.traffic(layer.index)
    return RunResult(
        workload=workload.name,
        source=workload.source,
        synthetic=workload.synthetic,
        topology=topology.name,
        bits=workload.bits,
        seed=simulation.seed,
        batch=simulation.batch,
        core_hz=topology.clocks["core"],
        time_ps=now,
        total_cycles=now // topology.period_ps(),
        layers=list(simulation.layers),
        components=_statistics(simulation, now),
        traffic={
            "paper_traffic": paper_traffic(simulation),
            "system_traffic": _system_traffic(simulation),
        },
        peak_bytes_per_second=simulation.peak_bytes_per_second,
        configuration=run_configuration(simulation),
        provenance=dict(workload.provenance),
        complete=complete,
    )


def _system_traffic(simulation: Simulation) -> dict[str, int]:
    totals: dict[str, int] = {"stored_bytes": 0, "raw_bytes": 0}
    for index in range(len(simulation.layer_names)):
        for kind, traffic in simulation.ledger.traffic(index).items():
            for key, value in (
                ("stored_bytes", traffic.stored),
                ("raw_bytes", traffic.raw),
                (f"{kind}_read_bytes", traffic.read_bytes),
                (f"{kind}_write_bytes", traffic.write_bytes),
            ):
                totals[key] = totals.get(key, 0) + value
    return totals


def _statistics(simulation: Simulation, now: int) -> list[Statistic]:
    rows: list[Statistic] = []
    machine = simulation.system.machine

    def add(component: str, kind: str, unit: str, **values: float | int) -> None:
        rows.extend(Statistic(component, kind, name, unit, value) for name, value in values.items())

    for channel in simulation.system.channels:
        for name, value in channel.statistics(now).to_dict().items():
            add(channel.name, "dram_channel", _unit(name), **{name: value})
        for name, value in channel.breakdown(now).items():
            add(channel.name, "dram_channel", "ps", **{f"time_{name}": value})
    for link in simulation.system.links.values():
        add(link.name, link.medium, "bit", moved_bits=link.bits)
        add(link.name, link.medium, "1", transfers=link.transfers)
        add(link.name, link.medium, "ps", busy_ps=link.busy_ps)
    for converter in simulation.system.converters:
        add(converter.name, "converter", "1", groups=converter.groups)
        add(converter.name, "converter", "ps", busy_ps=converter.busy_ps)
    for buffer in (machine.activations, *machine.weights):
        add(
            buffer.name,
            "buffer",
            "bit",
            read_bits=buffer.read_bits,
            write_bits=buffer.write_bits,
            peak_bits=buffer.peak_bits,
            capacity_bits=buffer.capacity_bits,
        )
    for cluster in machine.clusters:
        kind = "dispatcher" if cluster.tiles else "post_processing"
        add(cluster.name, kind, "bit", read_bits=cluster.read_bits)
        add(cluster.name, kind, "1", passes=cluster.passes)
        for place, tile in enumerate(cluster.tiles):
            busy = sum(cluster.busy_by_tiles[place + 1 :])
            idle = sum(cluster.busy_by_tiles[: place + 1])
            waits = dict(cluster.waits_ps)
            waits["no_filters"] = waits.get("no_filters", 0) + idle
            add(tile, "tile", "ps", busy_ps=busy)
            add(tile, "tile", "ps", **{f"wait_{reason}_ps": ps for reason, ps in sorted(waits.items())})
    return rows


def _unit(name: str) -> str:
    for suffix, unit in (("_bytes", "byte"), ("_ps", "ps"), ("_bits", "bit")):
        if name.endswith(suffix):
            return unit
    return "1"
