"""Does a system carry what its tiles ask for? Demand and capacity of every link and port, by layer.

The demand is what passes would move if the tiles worked through a layer without ever waiting. Passes
are those of the simulator, so a path that is marked as limiting does make a run slower.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from math import prod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from dpred_sim.schedule.passes import PassLimits, build_passes
from dpred_sim.schedule.placement import StoredTensor

if TYPE_CHECKING:
    from dpred_sim.codecs.base import Codec
    from dpred_sim.schedule.job import LayerJob
    from dpred_sim.simulation.build import System
    from dpred_sim.topology.graph import Cluster, Link, Topology
    from dpred_sim.values.tensor import TensorSource
    from dpred_sim.workload.workload import Workload

TOLERANCE = 0.01
"""A path that makes a layer slower by less than this does not limit it."""

Kind = Literal["link", "port", "memory", "converter"]
Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Demand:
    """What one layer asks of one link, port, converter or of DRAM, in `unit`s of the core clock.

    `demand` is the average over the layer's compute cycles; `slowdown` how much longer the layer would
    take if this were all that limits it. Between buffers and tiles it is found pass by pass. Off chip
    each tensor counts once, as if nothing were on chip at the start and everything left at the end;
    what goes along with DRAM (its links, converters) has the pace of DRAM's peak where that is slower.
    """

    layer: str
    where: str
    kind: Kind
    what: str
    demand: float
    capacity: float | None
    slowdown: float
    unit: str = "bit/cycle"

    @property
    def utilisation(self) -> float:
        """Demand over capacity; 0 where the capacity is unlimited."""
        return 0.0 if self.capacity is None else self.demand / self.capacity

    @property
    def limits(self) -> bool:
        """Whether the layer is slower for it."""
        return self.slowdown > TOLERANCE

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**asdict(self), "utilisation": self.utilisation, "limits": self.limits}


def balance(workload: Workload, topology: Topology) -> list[Demand]:
    """Demand and capacity by layer, in network order; layers without products ask nothing of the tiles.

    Raises InputError for a workload that cannot run on the system.
    """
    from dpred_sim.components.probe import NULL_PROBE
    from dpred_sim.simulation.build import Settings, build_system, prepare_jobs
    from dpred_sim.simulation.ledger import Ledger

    ledger = Ledger([node.name for node in workload.network], NULL_PROBE)
    system = build_system(topology, workload.bits, Settings(), ledger, NULL_PROBE)
    paths = _Paths(topology, system)
    demands: list[Demand] = []
    for job in prepare_jobs(workload, system):
        if job.blocks:
            demands += _of_tiles(job, paths, workload.bits)
            demands += _of_memory(job, paths, system, workload.bits)
    return demands


@dataclass(slots=True)
class _Load:
    """Bits that one cluster's passes put on one link or port."""

    where: str
    kind: Kind
    what: str
    capacity: float | None
    bits: Numbers


class _Paths:
    """Links and ports that each kind of data takes, with capacities in bits a core cycle."""

    def __init__(self, topology: Topology, system: System) -> None:
        self.topology = topology
        self.activations = system.activation_buffer.id
        self.weight_buffers = [[node.id for node in nodes] for nodes in system.weight_buffers]
        self.channels = [node.id for node in topology.of_kind("dram_channel")]
        seconds = Fraction(1, topology.clocks["core"])
        self.peak = float(sum(Fraction(c.model.peak_bits_per_second) for c in system.channels) * seconds)

    def width(self, link: Link) -> float | None:
        """Bits a core cycle."""
        return None if link.width_bits is None else self._scaled(link.width_bits, link.clock)

    def port(self, id: str) -> float:
        """Bits a core cycle, each way."""
        parameters: Any = self.topology.node(id).parameters
        return self._scaled(parameters.port, parameters.clock)

    def converter(self, id: str) -> float:
        """Groups a core cycle of one instance."""
        parameters: Any = self.topology.node(id).parameters
        return self._scaled(parameters.converter.groups * parameters.converter.units, parameters.clock)

    def _scaled(self, amount: int, clock: str) -> float:
        clocks = self.topology.clocks
        return float(Fraction(amount * clocks[clock], clocks["core"]))

    def feeding(self, index: int, cluster: Cluster) -> list[tuple[str, str]]:
        """The weight buffer of each tile of a cluster."""
        buffers = self.weight_buffers[index]
        return [(next(b for b in buffers if self.topology.reaches(b, tile)), tile) for tile in cluster.tiles]

    def uses(self, ways: Iterable[tuple[str, str]]) -> dict[str, tuple[float | None, int]]:
        """Links on these ways by group: capacity, and how many ways share the busiest link.

        A broadcast carries one transfer for all.
        """
        counts = Counter(name for source, target in ways for name in self.topology.routes(source, target))
        found: dict[str, tuple[float | None, int]] = {}
        for name, count in counts.items():
            link = self.topology.link(name)
            shared = 1 if link.medium == "broadcast" else count
            if found.get(link.group, (None, 0))[1] < shared:
                found[link.group] = (self.width(link), shared)
        return found

    def together(self, ways: Iterable[tuple[str, str]]) -> dict[str, float | None]:
        """Links on these ways by group, with the width that interleaved transfers find in all of them."""
        names = dict.fromkeys(
            name for source, target in ways for name in self.topology.routes(source, target)
        )
        found: dict[str, float | None] = {}
        for link in map(self.topology.link, names):
            width, known = self.width(link), found.get(link.group, 0.0)
            found[link.group] = None if width is None or known is None else known + width
        return found


def _of_tiles(job: LayerJob, paths: _Paths, bits: int) -> list[Demand]:
    """Demands between buffers and tiles."""
    clusters = paths.topology.clusters
    loads: dict[tuple[str, str], list[tuple[_Load, Numbers]]] = {}
    for index, cluster in enumerate(clusters):
        mine = list(range(len(job.blocks)))[index :: len(clusters)]
        if not mine:
            continue
        passes = build_passes(job.work, mine, "filters", job.needed_rows, PassLimits())
        cycles = np.array([item.cycles for item in passes], dtype=np.float64)
        weights = np.array([[item.weight_bits, item.all_weight_bits] for item in passes], dtype=np.float64)
        filters = [job.filters(item.weights) for item in passes]
        outputs = np.array(
            [
                (p.outputs_last - p.outputs_first) * (b - a) * bits
                for p, (a, b) in zip(passes, filters, strict=True)
            ],
            dtype=np.float64,
        )
        bricks = np.array([item.brick_bits for item in passes], dtype=np.float64)
        if getattr(paths.topology.node(cluster.dispatcher).parameters, "reuse", "window") == "none":
            bricks = _read_anew(job, passes)
        if not job.schedule.window_parallel:
            # Steps start one a cycle and end out of step: the distance of two ends says nothing about pace.
            cycles, bricks, weights, outputs = (
                part.sum(axis=0, keepdims=True) for part in (cycles, bricks, weights, outputs)
            )
        for load in _cluster_loads(paths, index, cluster, bricks, weights, outputs):
            loads.setdefault((load.where, load.what), []).append((load, cycles))
    return [_demand(job.layer.name, own) for own in loads.values()]


def _read_anew(job: LayerJob, passes: list[Any]) -> Numbers:
    """Bits of the bricks when every step reads its own."""
    kernel = job.layer.kernel[0] * job.layer.kernel[1]
    if not job.schedule.window_parallel:
        return np.array([item.brick_bits for item in passes], dtype=np.float64)
    per_position = job.work.brick_bits
    return np.array(
        [item.windows * kernel * int(per_position[item.weights]) for item in passes], dtype=np.float64
    )


def _cluster_loads(
    paths: _Paths, index: int, cluster: Cluster, bricks: Numbers, weights: Numbers, outputs: Numbers
) -> Iterator[_Load]:
    """`weights` are those of the busiest tile and of all tiles, what several share counted once."""
    topology, buffer, tiles = paths.topology, paths.activations, cluster.tiles
    yield _Load(buffer, "port", "activations", paths.port(buffer), bricks)
    for name, (width, _) in paths.uses([(buffer, cluster.dispatcher)]).items():
        yield _Load(name, "link", "activations", width, bricks)
    for name, (width, shared) in paths.uses((cluster.dispatcher, tile) for tile in tiles).items():
        yield _Load(name, "link", "activations", width, bricks * shared)
    feeding = paths.feeding(index, cluster)
    busiest, fed = Counter(source for source, _ in feeding).most_common(1)[0]
    group = topology.node(busiest).group
    yield _Load(group, "port", "weights", paths.port(busiest), weights[:, int(fed > 1)])
    for name, width in paths.together(feeding[:1]).items():
        several = any(len(link.targets) > 1 for link in topology.links if link.group == name)
        yield _Load(name, "link", "weights", width, weights[:, int(several)])
    for name, (width, shared) in paths.uses((tile, buffer) for tile in tiles).items():
        yield _Load(name, "link", "outputs", width, outputs * shared / len(tiles))
    yield _Load(buffer, "port", "outputs", paths.port(buffer), outputs)


def _demand(layer: str, loads: list[tuple[_Load, Numbers]]) -> Demand:
    """One row from what the clusters that share the link or port put on it."""
    first = loads[0][0]
    longest = max(float(cycles.sum()) for _, cycles in loads)
    demand = sum(float(load.bits.sum()) for load, _ in loads) / longest
    slowdown = 0.0
    if first.capacity is not None:
        slowdown = max(
            float(np.maximum(cycles, load.bits / first.capacity).sum()) / float(cycles.sum()) - 1
            for load, cycles in loads
        )
        slowdown = max(slowdown, demand / first.capacity - 1)
    return Demand(layer, first.where, first.kind, first.what, demand, first.capacity, slowdown)


def _of_memory(job: LayerJob, paths: _Paths, system: System, bits: int) -> list[Demand]:
    """Demands on DRAM, the links at it and the converters, each tensor moved once."""
    layer, formats = job.layer, system.format
    cycles = max(1, job.ideal_cycles)
    buffer, first, channels = paths.activations, paths.weight_buffers[0][0], paths.channels
    size = formats.offchip.group_size
    raw = prod(layer.output_shape) * bits
    repacked = formats.activations != formats.offchip
    weights = 8 * sum(block.stored_bytes for block in job.blocks)
    read = _stored_bits(layer.activations, formats.offchip)
    written = raw if layer.outputs is None else _stored_bits(layer.outputs, formats.offchip)
    values = 0 if layer.weights is None else prod(layer.weights.shape)
    rows: list[Demand] = []

    def add(where: str, kind: Kind, what: str, moved: float, stored: int, capacity: float | None) -> None:
        """A row of what moves with `stored` bits: at the pace of the tiles, or of DRAM if that is less."""
        demand = moved / max(cycles, 0 if kind == "memory" else stored / paths.peak)
        slowdown = 0.0 if capacity is None else max(0.0, demand / capacity - 1)
        unit = "group/cycle" if kind == "converter" else "bit/cycle"
        rows.append(Demand(layer.name, where, kind, what, demand, capacity, slowdown, unit))

    def group(id: str) -> str:
        return paths.topology.node(id).group

    everything = weights + read + written
    add(group(channels[0]), "memory", "all", everything, everything, paths.peak)
    for what, stored, moved, ways in (
        ("weights", weights, weights, [(channel, first) for channel in channels]),
        ("activations", read, read, [(channel, buffer) for channel in channels]),
        ("outputs", written, raw if repacked else written, [(buffer, channel) for channel in channels]),
    ):
        for name, width in paths.together(ways).items():
            add(name, "link", what, moved, stored, width)
    if formats.weights != formats.offchip:
        add(group(first), "converter", "weights", values / size, weights, paths.converter(first))
    if repacked:
        packers = len(channels) * paths.converter(channels[0])
        add(
            group(buffer),
            "converter",
            "activations",
            _groups(layer.activations.shape, size),
            read,
            paths.converter(buffer),
        )
        add(group(channels[0]), "converter", "outputs", _groups(layer.output_shape, size), written, packers)
    return rows


def _groups(shape: tuple[int, ...], size: int) -> float:
    return prod(shape) / size


def _stored_bits(tensor: TensorSource, codec: Codec) -> int:
    return StoredTensor(tensor, codec.chosen_for(tensor, "activations")).total_bits
