"""From a topology and a workload to the components that run it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from simpy import Environment

from dpred_sim.codecs.base import Codec, codec
from dpred_sim.components.buffer import Buffer, BufferParameters
from dpred_sim.components.cluster import Cluster
from dpred_sim.components.dma import Port, ReadDma, TrafficLedger, TransferSettings, WriteDma
from dpred_sim.components.dram.channel import DramChannel
from dpred_sim.components.layer_streams import ACTIVATION_QUEUES
from dpred_sim.components.link import Converters, Link, Path
from dpred_sim.components.machine import (
    JoinedState,
    LayerTensors,
    Machine,
    RowState,
    SlabState,
    StackState,
    TensorState,
)
from dpred_sim.components.memory import Memory
from dpred_sim.components.probe import Probe
from dpred_sim.components.sequencer import Sequencer
from dpred_sim.designs.base import DESIGNS, Design, design
from dpred_sim.errors import InputError
from dpred_sim.registry import parameter_names
from dpred_sim.schedule.job import LayerJob, MemoryFormat, prepare
from dpred_sim.schedule.passes import PassLimits
from dpred_sim.schedule.placement import StoredTensor, UnknownTensor
from dpred_sim.topology.graph import BUFFER, DISPATCHER, DRAM, Topology
from dpred_sim.topology.graph import Node as Component
from dpred_sim.values.tensor import TensorSource
from dpred_sim.workload.network import Network
from dpred_sim.workload.workload import Workload


@dataclass(frozen=True, slots=True)
class Settings:
    """Granularity of the simulation; a test bounds its effect on results."""

    transfers: TransferSettings = field(default_factory=TransferSettings)
    limits: PassLimits = field(default_factory=PassLimits)


@dataclass(eq=False)
class System:
    """A topology's components, wired."""

    topology: Topology
    env: Environment
    design: Design
    machine: Machine
    format: MemoryFormat
    links: dict[str, Link]
    converters: list[Converters]
    channels: list[DramChannel]
    activation_buffer: Component
    weight_buffers: list[tuple[Component, ...]]
    """By cluster: the instances that stand behind its weight buffer."""


def stored_codec(node: Component) -> Codec:
    """The codec in which a memory node stores."""
    stores = node.parameters.stores  # type: ignore[attr-defined]
    return codec(stores.codec, **stores.options)


def tile_design(topology: Topology) -> Design:
    """The design of all tiles; raises InputError when clusters differ."""
    clusters = topology.clusters
    nodes = [topology.node(cluster.tiles[0]) for cluster in clusters]
    first = nodes[0].parameters
    counts = {len(cluster.tiles) for cluster in clusters}
    if any(node.parameters != first for node in nodes) or len(counts) != 1:
        raise InputError(
            "all clusters must have the same tiles",
            file=topology.file or None,
            field="nodes",
            found=", ".join(
                f"{c.dispatcher}: {len(c.tiles)} x {topology.node(c.tiles[0]).group}" for c in clusters
            ),
        )
    name: str = first.design  # type: ignore[attr-defined]
    if "tiles" not in parameter_names(DESIGNS.get(name)):
        raise InputError(
            "this design has no tiles that a dispatcher feeds: it is compared by its cycles, not in a system",
            file=topology.file or None,
            field=f"nodes.{nodes[0].group}.design",
            found=name,
            allowed=[one for one in DESIGNS.names() if "tiles" in parameter_names(DESIGNS.get(one))],
        )
    try:
        return design(name, tiles=counts.pop(), **first.options)  # type: ignore[attr-defined]
    except InputError as error:
        raise InputError(
            error.message,
            file=topology.file or None,
            field=f"nodes.{nodes[0].group}.{'count' if error.field == 'tiles' else error.field}",
            found=error.found,
            allowed=error.allowed,
        ) from None


def build_system(
    topology: Topology, bits: int, settings: Settings, ledger: TrafficLedger, probe: Probe
) -> System:
    """Make and wire the components of a topology. Raises InputError for what it cannot be."""
    env = Environment(initial_time=0)
    made = tile_design(topology)
    links = {link.name: Link(link, topology.period_ps(link.clock)) for link in topology.links}
    folder = FilePath(topology.file).parent if topology.file else None
    channels = [
        DramChannel.from_parameters(env, node.id, node.parameters, folder)  # type: ignore[arg-type]
        for node in topology.of_kind(DRAM)
    ]
    for channel in channels:
        channel.probe = probe
    memory = Memory(channels, settings.transfers.request_bytes)
    activations = activation_buffer(topology)
    weight_nodes = [weight_buffers(topology, cluster.tiles) for cluster in topology.clusters]
    formats = _memory_format(topology, activations, weight_nodes, memory.burst_bytes)
    act_buffer = _buffer(topology, activations)
    made_buffers = [_buffer(topology, nodes[0], shared=len(nodes) == 1) for nodes in weight_nodes]
    converters: list[Converters] = []
    ports = _ports(topology, links, activations, weight_nodes, formats, bits, converters)
    clusters = _clusters(topology, env, links, activations, act_buffer, weight_nodes, made_buffers, probe)
    outputs = [
        Path([links[n] for n in topology.routes(cluster.tiles[0], activations.id)])
        for cluster in topology.clusters
    ]
    transfers = settings.transfers
    read, weight, write = ports
    machine = Machine(
        env,
        memory,
        act_buffer,
        made_buffers,
        clusters,
        [*outputs, Path([])],
        ReadDma(env, "activation_dma", memory, read, ledger, transfers, queues=ACTIVATION_QUEUES),
        ReadDma(env, "weight_dma", memory, weight, ledger, transfers),
        WriteDma(env, "write_dma", memory, write, ledger, transfers),
        transfers,
        settings.limits,
        bits,
        probe,
    )
    return System(
        topology, env, made, machine, formats, links, converters, channels, activations, weight_nodes
    )


def _clusters(
    topology: Topology,
    env: Environment,
    links: dict[str, Link],
    activations: Component,
    act_buffer: Buffer,
    weight_nodes: list[tuple[Component, ...]],
    made_buffers: list[Buffer],
    probe: Probe,
) -> list[Cluster]:
    """A cluster for each dispatcher, and post-processing, which runs the memory layers."""
    core = topology.period_ps()
    clusters: list[Cluster] = []
    for index, described in enumerate(topology.clusters):
        to_dispatcher = Path([links[n] for n in topology.routes(activations.id, described.dispatcher)])
        to_tile = Path([links[n] for n in topology.routes(described.dispatcher, described.tiles[0])])
        # Detection and both ways are pipelined: their latency is charged once a layer.
        dispatcher = topology.node(described.dispatcher).parameters
        to_tile.latency_ps += to_dispatcher.latency_ps + dispatcher.latency * core  # type: ignore[attr-defined]
        weight_way = Path([links[n] for n in topology.routes(weight_nodes[index][0].id, described.tiles[0])])
        clusters.append(
            Cluster(
                env,
                index,
                described.dispatcher,
                described.tiles,
                core,
                act_buffer,
                made_buffers[index],
                (to_dispatcher, to_tile),
                weight_way,
                len(weight_nodes[index]) == 1 and len(described.tiles) > 1,
                probe,
            )
        )
    clusters.append(
        Cluster(env, len(clusters), "post_processing", (), core, act_buffer, None, (), Path([]), False, probe)
    )
    return clusters


def activation_buffer(topology: Topology) -> Component:
    """The one buffer that holds activations and outputs, and that every cluster uses."""
    holders = [n for n in topology.of_kind(BUFFER) if {"activations", "outputs"} & set(_holds(n))]
    if len(holders) != 1 or not {"activations", "outputs"} <= set(_holds(holders[0])):
        raise InputError(
            "one buffer must hold both activations and outputs",
            file=topology.file or None,
            field="nodes",
            found=", ".join(f"{n.id} holds {', '.join(_holds(n))}" for n in holders),
            allowed="a single buffer with holds: [activations, outputs]",
        )
    buffer = holders[0]
    channels = {n.id for n in topology.of_kind(DRAM)}
    for ends, word in ((topology.readable(buffer.id), "from"), (topology.writable(buffer.id), "to")):
        if set(ends) != channels:
            missing = ", ".join(sorted(channels - set(ends)))
            raise InputError(
                f"channels interleave: {buffer.id} needs a way {word} every DRAM channel",
                file=topology.file or None,
                field="links",
                found=f"no way {word} {missing}",
            )
    return buffer


def weight_buffers(topology: Topology, tiles: tuple[str, ...]) -> tuple[Component, ...]:
    """Weight buffers of one cluster: one for all tiles, or one for each tile."""
    nodes = [n for n in topology.buffers("weights") if any(topology.reaches(n.id, tile) for tile in tiles)]
    channels = {n.id for n in topology.of_kind(DRAM)}
    for node in nodes:
        if set(topology.readable(node.id)) != channels:
            raise InputError(
                f"channels interleave: {node.id} needs a way from every DRAM channel",
                file=topology.file or None,
                field="links",
            )
    if "activations" in _holds(nodes[0]) or "outputs" in _holds(nodes[0]):
        raise InputError(
            "weights need a buffer of their own: prefetched weights would take the room of activations",
            file=topology.file or None,
            field=f"nodes.{nodes[0].group}.holds",
            found=", ".join(_holds(nodes[0])),
            allowed="weights",
        )
    if len(nodes) not in (1, len(tiles)):
        raise InputError(
            "a cluster has one weight buffer, or one for each tile",
            file=topology.file or None,
            field="nodes",
            found=f"{len(nodes)} weight buffers for {len(tiles)} tiles",
        )
    return tuple(nodes)


def _holds(node: Component) -> tuple[str, ...]:
    holds: tuple[str, ...] = node.parameters.holds  # type: ignore[attr-defined]
    return holds


def _memory_format(
    topology: Topology, activations: Component, weights: list[tuple[Component, ...]], burst_bytes: int
) -> MemoryFormat:
    offchip = [stored_codec(node) for node in topology.of_kind(DRAM)]
    if any(one != offchip[0] for one in offchip):
        raise InputError(
            "DRAM channels interleave, so they store alike", file=topology.file or None, field="nodes"
        )
    first = weights[0][0].parameters
    shared = len(weights[0]) == 1 and len(topology.clusters[0].tiles) > 1
    return MemoryFormat(
        offchip=offchip[0],
        activations=stored_codec(activations),
        weights=stored_codec(weights[0][0]),
        weight_room=first.size,  # type: ignore[attr-defined]
        weights_shared=shared,
        burst_bytes=burst_bytes,
        activation_room=activations.parameters.size,  # type: ignore[attr-defined]
        reuse=all(node.parameters.reuse == "window" for node in topology.of_kind(DISPATCHER)),  # type: ignore[attr-defined]
    )


def _buffer(topology: Topology, node: Component, shared: bool = True) -> Buffer:
    parameters = node.parameters
    if not isinstance(parameters, BufferParameters):
        raise InputError("not a buffer", field=node.id)
    name = node.id if shared else node.group
    return Buffer(name, parameters, topology.period_ps(parameters.clock))


def _ports(
    topology: Topology,
    links: dict[str, Link],
    activations: Component,
    weights: list[tuple[Component, ...]],
    formats: MemoryFormat,
    bits: int,
    made: list[Converters],
) -> tuple[Port, Port, Port]:
    """Ways between DRAM and the buffers, with converters where the encodings differ."""
    channels = topology.of_kind(DRAM)
    group = formats.offchip.group_size * bits

    def converter(node: Component, name: str, instances: int) -> Converters:
        described = getattr(node.parameters, "converter", None)
        groups = 16 if described is None else described.groups * described.units
        latency = 4 if described is None else described.latency
        clock = topology.period_ps(node.parameters.clock)
        made.append(Converters(name, groups * instances, latency, clock))
        return made[-1]

    def way(source: str, target: str) -> Path:
        return Path([links[name] for name in topology.routes(source, target)])

    differs = formats.activations != formats.offchip
    first = weights[0][0]
    instances = sum(len(nodes) for nodes in weights)
    read = Port(
        tuple(way(c.id, activations.id) for c in channels),
        converter(activations, f"{activations.id}.unpack", 1) if differs else None,
        group,
    )
    weight = Port(
        tuple(way(c.id, first.id) for c in channels),
        converter(first, f"{first.group}.unpack", instances) if formats.weights != formats.offchip else None,
        group,
    )
    write = Port(
        tuple(way(activations.id, c.id) for c in channels),
        converter(activations, f"{channels[0].group}.pack", len(channels)) if differs else None,
        group,
        carries_stored=not differs,
    )
    return read, weight, write


# the workload


def prepare_jobs(workload: Workload, system: System) -> list[LayerJob]:
    """All layers of the network, ready for the system. Raises InputError for what cannot run."""
    clusters = len(system.topology.clusters)
    return [prepare(node, system.design, clusters, system.format) for node in workload.network]


def tensor_states(workload: Workload, system: System, batch: int) -> list[LayerTensors]:
    """What each layer reads, adds and writes, for every input of the batch."""
    network = workload.network
    rows: list[LayerTensors] = []
    count = len(network)
    for item in range(batch):
        known: dict[str, TensorState] = {}

        def state(name: str, base: int, known: dict[str, TensorState] = known) -> TensorState:
            if name not in known:
                made = _tensor_state(network, name, base, workload.bits, system)
                if name in network.stacks:
                    parts = [state(part, base) for part in network.stacks[name]]
                    for upper, lower in itertools.pairwise(parts):
                        lower.above = upper
                    made = StackState(name, made.offchip, made.onchip, parts)
                elif name in network.joins:
                    parts = [state(part, base) for part in network.joins[name]]
                    made = SlabState(name, made.offchip, made.onchip, made.readers, parts)
                known[name] = made
            return known[name]

        base = item * count
        for name in (*network.stacks, *network.joins):
            state(name, base)
        for node in network:
            reads = state(node.reads, base)
            if node.parts:
                reads = JoinedState([(state(p.name, base), p.rows, p.channels) for p in node.parts])
            adds = None if node.shortcut is None else state(node.shortcut, base)
            if adds is not None and node.shortcut_row is not None:
                adds = RowState(adds, node.shortcut_row, system.machine.memory.burst_bytes)
            second = None if node.second is None else state(node.second, base)
            for piece in () if second is None else second.pieces:
                piece.is_second = True
            rows.append(LayerTensors(reads, adds, state(node.name, base), second))
    return rows


def _tensor_state(network: Network, name: str, base: int, bits: int, system: System) -> TensorState:
    source: TensorSource | None = network.tensor(name)
    offchip, onchip = system.format.offchip, system.format.activations
    if source is None:
        source = UnknownTensor(network.tensor_shape(name), bits)
        offchip = onchip = codec("raw")
    else:
        offchip = offchip.chosen_for(source, "activations")
        onchip = onchip.chosen_for(source, "activations")
    stored = StoredTensor(source, offchip)
    height, width, depth = stored.shape
    size = height * (width * depth * bits // 8 + 64 * (1 + depth // 16))
    slabs: tuple[tuple[int, int], ...] = ((0, depth),)
    return TensorState(
        name,
        stored,
        StoredTensor(source, onchip),
        system.machine.memory.allocate(size * 5 // 4),
        [base + i for i in network.readers(name)],
        slabs,
    )


def build_sequencer(
    workload: Workload,
    system: System,
    jobs: list[LayerJob],
    batch: int,
    names: list[str],
    on_layer_end: Any,
) -> Sequencer:
    """The sequencer of one run, whose layers have `names`."""
    tensors = tensor_states(workload, system, batch)
    return Sequencer(system.machine, jobs * batch, tensors, names, on_layer_end)
