"""What every run must guarantee, checked at its end. A result that fails a check is never shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dpred_sim.errors import InvariantBroken
from dpred_sim.simulation.result import RunResult

if TYPE_CHECKING:
    from dpred_sim.simulation.engine import Simulation

UNLOADED_PS = 200_000
"""More than an isolated access takes on any DRAM standard (row conflict, column access, burst)."""


def check_run(simulation: Simulation, result: RunResult) -> None:
    """Raise InvariantBroken unless all guarantees hold."""
    _check_work(simulation)
    _check_bytes(simulation, result)
    _check_buffers(simulation)
    _check_bounds(simulation, result)
    _check_tiles(simulation, result)


def _fail(what: str, found: object, expected: object) -> None:
    raise InvariantBroken(f"{what}: {found}, expected {expected}; the result cannot be trusted")


def _check_work(simulation: Simulation) -> None:
    """Every multiply-accumulate done once."""
    for layer in simulation.layers:
        node = simulation.jobs[layer.index % len(simulation.jobs)]
        expected = node.schedule.layer.macs if node.blocks else 0
        if layer.macs != expected:
            _fail(f"multiply-accumulates of layer {layer.name!r}", layer.macs, expected)


def _check_bytes(simulation: Simulation, result: RunResult) -> None:
    """Bytes that leave a component enter the next; what must reach DRAM does."""
    machine, system = simulation.system.machine, simulation.system
    dram_reads = sum(channel.statistics(result.time_ps).read_bytes for channel in system.channels)
    dram_writes = sum(channel.statistics(result.time_ps).write_bytes for channel in system.channels)
    engines = machine.activation_dma.bytes + machine.weight_dma.bytes
    if dram_reads != engines:
        _fail("bytes read from DRAM against bytes that arrived", engines, dram_reads)
    if dram_writes != machine.write_dma.bytes:
        _fail("bytes sent against bytes written to DRAM", machine.write_dma.bytes, dram_writes)
    if simulation.ledger.stored_bytes != dram_reads + dram_writes:
        _fail(
            "bytes by layer against bytes of DRAM", simulation.ledger.stored_bytes, dram_reads + dram_writes
        )
    if machine.weight_dma.in_flight or machine.activation_dma.in_flight or not machine.write_dma.idle:
        _fail("bytes still under way at the end", "some", "none")
    feed = simulation.sequencer.weights
    for index in range(len(simulation.layer_names)):
        traffic = simulation.ledger.traffic(index)
        # Each fetch once, none where the weights of the layer before stayed.
        expected = feed.fetches(index) * feed.fetch_bytes(index)
        if traffic["weights"].read_bytes != expected:
            _fail(
                f"weight bytes of layer {simulation.layer_names[index]!r}",
                traffic["weights"].read_bytes,
                expected,
            )
        written = simulation.sequencer.tensors[index].writes
        if not written.readers:
            values = written.offchip.shape[0] * written.offchip.shape[1] * written.offchip.shape[2]
            raw = -(-values * simulation.workload.bits // 8)
            if traffic["outputs"].raw_write_bytes != raw:
                _fail(f"bytes of the last outputs {written.name!r}", traffic["outputs"].raw_write_bytes, raw)


def _check_buffers(simulation: Simulation) -> None:
    """Nothing stays behind in a buffer."""
    machine = simulation.system.machine
    for buffer in (machine.activations, *machine.weights):
        if buffer.level_bits:
            _fail(f"bits left in {buffer.name}", buffer.level_bits, 0)


def _check_bounds(simulation: Simulation, result: RunResult) -> None:
    """Never faster than the slowest part alone, never slower than all parts one after the other."""
    system = simulation.system
    period = simulation.topology.period_ps()
    compute = max(cluster.busy_ps for cluster in simulation.system.machine.clusters)
    if result.time_ps < compute:
        _fail("run time against the busiest cluster alone (ps)", result.time_ps, f"at least {compute}")
    slowest_compute = sum(layer.compute_cycles for layer in simulation.layers) * period
    if result.time_ps < slowest_compute:
        _fail("run time against the layers' compute (ps)", result.time_ps, f"at least {slowest_compute}")
    for channel in system.channels:
        busy = channel.breakdown(result.time_ps)["busy_ps"]
        if busy > result.time_ps:
            _fail(f"busy time of {channel.name} (ps)", busy, f"at most {result.time_ps}")
    for link in system.links.values():
        if link.busy_ps > result.time_ps:
            _fail(f"busy time of link {link.name} (ps)", link.busy_ps, f"at most {result.time_ps}")
    serial = _serial_ps(simulation, result)
    if result.time_ps > serial:
        _fail("run time against everything one after the other (ps)", result.time_ps, f"at most {serial}")


def _serial_ps(simulation: Simulation, result: RunResult) -> int:
    """Time if nothing overlapped: all compute, all transfers on all their parts, all latencies."""
    system = simulation.system
    machine = system.machine
    time = sum(cluster.busy_ps for cluster in machine.clusters)
    requests = 0
    for channel in system.channels:
        parts = channel.breakdown(result.time_ps)
        time += result.time_ps - parts["idle_ps"]
        statistics = channel.statistics(result.time_ps)
        requests += statistics.read_requests + statistics.write_requests
    time += sum(link.busy_ps for link in system.links.values())
    time += sum(converter.busy_ps for converter in system.converters)
    latency = sum(link.latency_ps for link in system.links.values())
    latency += sum(converter.latency_ps for converter in system.converters)
    layers = len(simulation.layers)
    fill = max(max((p.latency_ps for p in c.activation_paths), default=0) for c in machine.clusters)
    return time + requests * (latency + UNLOADED_PS) + layers * (fill + latency)


def _check_tiles(simulation: Simulation, result: RunResult) -> None:
    """For every tile, busy time and waits by reason add up to the run."""
    sums: dict[str, int] = {}
    for row in result.components:
        if row.kind == "tile":
            sums[row.component] = sums.get(row.component, 0) + int(row.value)
    for tile, total in sums.items():
        if total != result.time_ps:
            _fail(f"busy and waiting time of {tile} (ps)", total, result.time_ps)
