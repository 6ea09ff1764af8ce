"""What a drawing of a topology shows: boxes for components, wires for links.

Instances of one group with equal parameters share a box ("tile x16"), and equal links between the same boxes
share a wire. Components that forward, three or more of them joined together, are a network:
each is a box of its own there, with whatever hangs at it alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dpred_sim.observe.drawing.networks import Fabric, find_fabrics
from dpred_sim.observe.drawing.usage import Usage, percent
from dpred_sim.topology.graph import BUFFER, DISPATCHER, DRAM, TILE, Link, Node, Topology
from dpred_sim.topology.schema import format_bits, format_hertz, format_width

CORE = "core"
MOST_LINES = 6
"""Lines of parameters that a box shows at most."""
MOST_CELLS = 64
"""Instances that a box shows one by one, as cells."""
LEVELS = {DRAM: 0.0, BUFFER: 2.0, DISPATCHER: 4.0, TILE: 6.0}
"""From left to right: the way of the data. Other kinds stand between those that they are linked to."""


@dataclass(frozen=True, slots=True)
class Box:
    """Instances drawn as one. `lines` say what they are; `cells` are the busy shares of tiles, one each."""

    title: str
    ids: tuple[str, ...]
    kind: str
    lines: tuple[str, ...]
    level: float
    cells: tuple[float | None, ...] = ()
    fabric: Fabric | None = None


@dataclass(frozen=True, slots=True)
class Wire:
    """Links drawn as one, from boxes to boxes (numbers of `Scene.boxes`).

    `utilisation` is that of the busiest of its links, None without a run.
    """

    links: tuple[str, ...]
    medium: str
    sources: tuple[int, ...]
    targets: tuple[int, ...]
    label: tuple[str, ...]
    utilisation: float | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that is drawn. Links inside a fabric are in its `Fabric`, not among the wires."""

    title: str
    notes: tuple[str, ...]
    boxes: tuple[Box, ...]
    wires: tuple[Wire, ...]
    kinds: Mapping[str, str]
    """Kind of every component."""
    usage: Usage | None = field(default=None, compare=False)


def make_scene(topology: Topology, usage: Usage | None = None) -> Scene:
    """The boxes and wires of a topology, in file order; with the numbers of a run where `usage` is given."""
    fabrics = find_fabrics(topology, usage)
    inside = {id: fabric for fabric in fabrics for id in fabric.ids}
    groups: dict[tuple[Any, ...], list[Node]] = {}
    for node in topology.nodes.values():
        if node.id not in inside:
            key = (node.group, node.kind, node.parameters.model_dump_json())
            groups.setdefault(key, []).append(node)
    members = [tuple(node.id for node in nodes) for nodes in groups.values()]
    members += [fabric.ids for fabric in fabrics]
    place = {id: number for number, ids in enumerate(members) for id in ids}
    levels = _levels(topology, place, len(members))
    boxes = [_box(nodes, levels[number], usage) for number, nodes in enumerate(groups.values())]
    for number, fabric in enumerate(fabrics, len(boxes)):
        boxes.append(Box(fabric.title, fabric.ids, "network", fabric.lines, levels[number], (), fabric))
    drawn_inside = {name for fabric in fabrics for name in fabric.links}
    wires = _wires([link for link in topology.links if link.name not in drawn_inside], place, topology, usage)
    clocks = ", ".join(f"{name} {format_hertz(hertz)}" for name, hertz in topology.clocks.items())
    notes = [f"clocks: {clocks}" if len(topology.clocks) > 1 else f"clock {clocks}"]
    if usage is not None:
        notes.append(usage.title)
    kinds = {node.id: node.kind for node in topology.nodes.values()}
    return Scene(topology.name, tuple(notes), tuple(boxes), tuple(wires), kinds, usage)


def _levels(topology: Topology, place: Mapping[str, int], count: int) -> list[float]:
    """Where each box stands from left to right: by its kind, else between its neighbours."""
    known: dict[int, float] = {}
    for id, number in place.items():
        level = LEVELS.get(topology.nodes[id].kind)
        own = [other for other, at in place.items() if at == number]
        if level is not None and all(topology.nodes[other].kind == topology.nodes[id].kind for other in own):
            known[number] = level
    fixed = dict(known)
    for _ in range(count):
        for number in (number for number in range(count) if number not in fixed):
            near = sorted({known[other] for other in _neighbours(topology, place, number) if other in known})
            if near:
                known[number] = (near[0] + near[-1]) / 2
    return [known.get(number, LEVELS[BUFFER]) for number in range(count)]


def _neighbours(topology: Topology, place: Mapping[str, int], number: int) -> set[int]:
    near: set[int] = set()
    for link in topology.links:
        ends = {place[id] for id in (*link.sources, *link.targets)}
        if number in ends:
            near |= ends - {number}
    return near


def _box(nodes: Sequence[Node], level: float, usage: Usage | None) -> Box:
    first = nodes[0]
    ids = tuple(node.id for node in nodes)
    title = first.id if len(nodes) == 1 else f"{first.group} x{len(nodes)}"
    lines = describe(first)
    cells: tuple[float | None, ...] = ()
    if first.kind == TILE and 1 < len(nodes) <= MOST_CELLS:
        cells = tuple(usage.busy(id) if usage is not None else None for id in ids)
    if usage is not None:
        lines = (*lines, *usage.lines(first.group, ids))
    return Box(title, ids, first.kind, lines, level, cells)


def describe(node: Node) -> tuple[str, ...]:
    """What a box says of its components, a line each: sizes, standard, design and shape."""
    p: Any = node.parameters
    lines: list[str] = []
    if node.kind == DRAM:
        lines = [str(p.standard)]
        if getattr(p, "bus", None):
            lines.append(f"{format_bits(p.bus)} bus")
    elif node.kind == BUFFER:
        lines = [format_bits(p.size), f"port {format_width(p.port)}"]
        if p.banks > 1:
            lines.append(f"{p.banks} banks")
    elif node.kind == TILE:
        lines = [p.design, *(f"{key} {value}" for key, value in p.options.items())]
    elif node.kind != DISPATCHER:
        told = p.model_dump(mode="json", exclude_defaults=True, exclude={"clock"})
        lines = [f"{key} {value}" for key, value in told.items() if isinstance(value, str | int | float)]
    codec = getattr(getattr(p, "stores", None), "codec", None)
    if codec is not None:
        lines.append(f"stores {codec}")
    if len(lines) > MOST_LINES:
        lines = [*lines[: MOST_LINES - 1], f"{len(lines) - MOST_LINES + 1} more"]
    if p.clock != CORE:
        lines.append(f"clock {p.clock}")
    return tuple(lines)


def _wires(
    links: Iterable[Link], place: Mapping[str, int], topology: Topology, usage: Usage | None
) -> list[Wire]:
    groups: dict[tuple[Any, ...], list[Link]] = {}
    for link in links:
        sources = tuple(dict.fromkeys(place[id] for id in link.sources))
        targets = tuple(dict.fromkeys(place[id] for id in link.targets))
        shape = (link.medium, link.width_bits, link.latency_cycles, link.clock)
        groups.setdefault((*shape, sources, targets), []).append(link)
    wires = []
    for (*_, sources, targets), same in groups.items():
        names = tuple(link.name for link in same)
        utilisation = None if usage is None else usage.of_links(names)
        label = wire_label(same[0], len(same), topology)
        if utilisation is not None:
            label = (*label, percent(utilisation))
        wires.append(Wire(names, same[0].medium, sources, targets, label, utilisation))
    return wires


def wire_label(link: Link, count: int, topology: Topology) -> tuple[str, ...]:
    """Words that may be set on one line or below each other: number, width, and a clock of its own."""
    words = [f"{count} x"] if count > 1 else []
    words.append(format_width(link.width_bits))
    if link.clock != CORE:
        words.append(f"at {format_hertz(topology.clocks[link.clock])}")
    return tuple(words)
