"""What every component of a running simulation does now."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dpred_sim.simulation.snapshot import ComponentState

if TYPE_CHECKING:
    from dpred_sim.components.cluster import Cluster
    from dpred_sim.simulation.engine import Simulation

IDLE = "layer_barrier"
"""State of what nobody asks for anything."""
WAITS_ON = {
    "activations": "activation_dma",
    "weights": "weight_dma",
    "dram": "activation_dma",
    "output": "write_dma",
}
"""The component that can end a wait, by its reason; a wait for room names its buffer itself."""


def component_states(simulation: Simulation, now: int) -> Iterator[ComponentState]:
    """DRAM channels, engines, buffers, dispatchers with their tiles, converters and links, in this order."""
    yield from _memory(simulation, now)
    for cluster in simulation.system.machine.clusters:
        yield from _cluster(cluster, now)
    elapsed = max(1, now)
    for unit in simulation.system.converters:
        state = "busy" if unit.free_ps > now else IDLE
        yield ComponentState(unit.name, "converter", state, min(1.0, unit.busy_ps / elapsed))
    for link in simulation.system.links.values():
        state = "busy" if link.free_ps > now else IDLE
        yield ComponentState(link.name, link.medium, state, min(1.0, link.busy_ps / elapsed), link.bits)


def _memory(simulation: Simulation, now: int) -> Iterator[ComponentState]:
    machine, elapsed = simulation.system.machine, max(1, now)
    for channel in simulation.system.channels:
        statistics = channel.statistics(now)
        moved = (statistics.read_bytes + statistics.write_bytes) * 8
        busy = channel.breakdown(now)["busy_ps"]
        state = "busy" if channel.pending else IDLE
        yield ComponentState(channel.name, "dram_channel", state, busy / elapsed, moved)
    for engine in (machine.activation_dma, machine.weight_dma):
        blocked = engine.blocked_on
        state = "busy" if engine.in_flight else "room" if blocked else IDLE
        yield ComponentState(
            engine.name,
            "dma",
            state,
            0.0,
            engine.bytes * 8,
            waits_on=blocked or "",
            waits_ps={"room": engine.room_wait_ps},
            in_flight_bytes=engine.in_flight,
        )
    writer = machine.write_dma
    state = "busy" if writer.in_flight else IDLE
    yield ComponentState(writer.name, "dma", state, 0.0, writer.bytes * 8, in_flight_bytes=writer.in_flight)
    for buffer in dict.fromkeys((machine.activations, *machine.weights)):
        yield ComponentState(
            buffer.name,
            "buffer",
            "busy" if buffer.level_bits else IDLE,
            0.0,
            buffer.read_bits + buffer.write_bits,
            buffer.level_bits,
            buffer.capacity_bits,
        )


def _cluster(cluster: Cluster, now: int) -> Iterator[ComponentState]:
    elapsed, state = max(1, now), cluster.state
    since = max(0, now - cluster.since_ps)
    busy_now = since if state == "busy" else 0
    waits = dict(cluster.waits_ps)
    if state != "busy":
        waits[state] = waits.get(state, 0) + since
    waits_on = WAITS_ON.get(state, "")
    yield ComponentState(
        cluster.name,
        "dispatcher" if cluster.tiles else "post_processing",
        state,
        (cluster.busy_ps + busy_now) / elapsed,
        cluster.read_bits,
        waits_on=waits_on,
        waits_ps=waits,
    )
    for place, tile in enumerate(cluster.tiles):
        works = place < cluster.tiles_busy
        busy = sum(cluster.busy_by_tiles[place + 1 :]) + (busy_now if works else 0)
        idle = sum(cluster.busy_by_tiles[: place + 1]) + (0 if works else busy_now)
        own = dict(waits) if not idle else waits | {"no_filters": waits.get("no_filters", 0) + idle}
        shown = state if works or state != "busy" else "no_filters"
        yield ComponentState(tile, "tile", shown, busy / elapsed, waits_on=waits_on, waits_ps=own)
