"""The checked system: components, links, and the ways between them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from dpred_sim.errors import InputError, nearest
from dpred_sim.topology.schema import (
    SCHEMA,
    UNLIMITED,
    Medium,
    Parameters,
    format_cycles,
    format_hertz,
    format_width,
)
from dpred_sim.units import period_ps

if TYPE_CHECKING:
    from networkx import MultiDiGraph

DRAM = "dram_channel"
BUFFER = "buffer"
DISPATCHER = "dispatcher"
TILE = "tile"
"""Kinds that every system is made of."""

DATA = ("weights", "activations", "outputs")
"""What a buffer can hold."""


@dataclass(frozen=True, slots=True)
class Node:
    """One component instance. `id` is `group.index` where the file says `count`, else the group."""

    id: str
    group: str
    index: int
    kind: str
    parameters: Parameters


@dataclass(frozen=True, slots=True)
class Link:
    """One link with one arbiter, whatever the number of its ends.

    `point` joins one source to one target; on a `bus` one transfer at a time goes from one of the
    sources to one of the targets; a `broadcast` takes each transfer to all targets at once.
    `width_bits` enter a cycle of `clock` (None: unlimited), and arrive `latency_cycles` later.
    `group` is the link's name in the file, shared by all links of a `[i]` declaration.
    """

    name: str
    medium: Medium
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    width_bits: int | None
    latency_cycles: int
    clock: str
    group: str = field(compare=False, default="")


@dataclass(frozen=True, slots=True)
class Cluster:
    """A dispatcher and the tiles that it feeds in lockstep, as instance ids in file order."""

    dispatcher: str
    tiles: tuple[str, ...]


class Source(Protocol):
    """Where a topology came from, able to build it again with changes."""

    def build(self, set: Iterable[str]) -> Topology:
        """The topology with further overrides."""

    def with_kind_value(self, kind: str, key: str, value: Any) -> Source:
        """A source in which one key of all nodes of a kind has another value."""

    def with_link_value(self, names: Iterable[str], key: str, value: Any) -> Source:
        """A source in which one key of the links of these names (`Link.group`) has another value."""

    def resolved(self) -> dict[str, Any]:
        """The file with every default filled in, quantities as text, JSON-ready."""


@dataclass(frozen=True)
class Topology:
    """A checked system. Never changed: `with_...` returns another one.

    `nodes` and `links` are in file order; `clocks` maps a clock's name to Hz; `named_routes` are
    those that the file fixes. `file` and `description` (the leading comment of the file) do not take
    part in comparison.
    """

    name: str
    clocks: Mapping[str, int]
    nodes: Mapping[str, Node]
    links: tuple[Link, ...]
    named_routes: Mapping[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    file: str = field(default="", compare=False)
    description: str = field(default="", compare=False)
    source: Source | None = field(default=None, compare=False, repr=False)
    _trees: dict[str, dict[str, tuple[str, str]]] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    # looking things up

    def node(self, id: str) -> Node:
        """The instance called `id`; raises InputError with the nearest name."""
        try:
            return self.nodes[id]
        except KeyError:
            raise InputError(
                f"{self.name} has no such component{nearest(id, self.nodes)}",
                found=id,
                allowed=list(self.nodes),
            ) from None

    def link(self, name: str) -> Link:
        """The link called `name`; raises InputError with the nearest name."""
        try:
            return self._by_name[name]
        except KeyError:
            raise InputError(
                f"{self.name} has no such link{nearest(name, self._by_name)}",
                found=name,
                allowed=list(self._by_name),
            ) from None

    def of_kind(self, kind: str) -> tuple[Node, ...]:
        """Instances of one kind, in file order."""
        return tuple(node for node in self.nodes.values() if node.kind == kind)

    def buffers(self, what: str) -> tuple[Node, ...]:
        """Buffers that hold `weights`, `activations` or `outputs`, in file order."""
        return tuple(n for n in self.of_kind(BUFFER) if what in getattr(n.parameters, "holds", ()))

    def period_ps(self, clock: str = "core") -> int:
        """Period of a clock, rounded once to whole picoseconds."""
        return period_ps(self.clocks[clock])

    @cached_property
    def clusters(self) -> tuple[Cluster, ...]:
        """Each dispatcher with the tiles that it reaches, in file order."""
        order = {node.id: place for place, node in enumerate(self.of_kind(TILE))}
        return tuple(
            Cluster(
                d.id, tuple(sorted((id for id in self.reached(d.id) if id in order), key=order.__getitem__))
            )
            for d in self.of_kind(DISPATCHER)
        )

    # ways

    def reaches(self, source: str, target: str) -> bool:
        """Whether data can go from `source` to `target` (see `routes`)."""
        return target in self._tree(source) or (source, target) in self.named_routes

    def reached(self, source: str) -> tuple[str, ...]:
        """All components that data can go to from `source`, nearest first."""
        tree = self._tree(source)
        named = (end for start, end in self.named_routes if start == source and end not in tree)
        return (*tree, *named)

    def routes(self, source: str, target: str) -> tuple[str, ...]:
        """Names of the links from `source` to `target`: the file's route, else the fewest links.

        Only components that forward (`Parameters.forwards`) are passed through; of equally short
        ways the one whose links come first in the file is taken. Raises InputError without a way.
        """
        named = self.named_routes.get((source, target))
        if named is not None:
            return named
        tree = self._tree(source)
        if target not in tree:
            self.node(target)
            raise InputError(f"{self.name} has no way from {source!r} to {target!r}", file=self.file or None)
        way: list[str] = []
        while target != source:
            target, link = tree[target]
            way.append(link)
        return tuple(reversed(way))

    def readable(self, buffer: str) -> tuple[str, ...]:
        """Memories that the buffer can be filled from, in file order."""
        return tuple(n.id for n in self.of_kind(DRAM) if self.reaches(n.id, buffer))

    def writable(self, buffer: str) -> tuple[str, ...]:
        """Memories that the buffer can be emptied to, in file order."""
        reached = set(self.reached(buffer))
        return tuple(n.id for n in self.of_kind(DRAM) if n.id in reached)

    @cached_property
    def _by_name(self) -> dict[str, Link]:
        return {link.name: link for link in self.links}

    @cached_property
    def _leaving(self) -> dict[str, list[Link]]:
        leaving: dict[str, list[Link]] = {id: [] for id in self.nodes}
        for link in self.links:
            for source in link.sources:
                leaving[source].append(link)
        return leaving

    def _tree(self, source: str) -> dict[str, tuple[str, str]]:
        """For each node that `source` reaches: the node before it and the link from there."""
        tree = self._trees.get(source)
        if tree is not None:
            return tree
        self.node(source)
        tree = {}
        taken: set[str] = set()
        waiting = deque([source])
        while waiting:
            here = waiting.popleft()
            if here != source and not self.nodes[here].parameters.forwards:
                continue
            for link in self._leaving[here]:
                if link.name in taken:
                    continue
                taken.add(link.name)
                for target in link.targets:
                    if target not in tree and target != source:
                        tree[target] = (here, link.name)
                        waiting.append(target)
        self._trees[source] = tree
        return tree

    @cached_property
    def graph(self) -> MultiDiGraph:
        """The system as a networkx graph with scalar attributes; see `convert.to_graph`."""
        from dpred_sim.topology.convert import to_graph

        return to_graph(self)

    # other systems made from this one

    def with_set(self, set: Iterable[str]) -> Topology:
        """The system with overrides such as "nodes.tile.count=8"; raises InputError."""
        return self._source.build(set)

    def with_ideal_memory(self) -> Topology:
        """The system with DRAM that always answers at once, and unlimited links at DRAM."""
        channels = {node.id for node in self.of_kind(DRAM)}
        at_dram = {n.group for n in self.links if channels & {*n.sources, *n.targets}}
        source = self._source.with_kind_value(DRAM, "level", "ideal")
        return source.with_link_value(at_dram, "width", UNLIMITED).build(())

    def with_stores(self, codec: str, **options: Any) -> Topology:
        """The system whose DRAM stores with another codec; raises InputError for an unknown one."""
        stores = {"codec": codec, **options}
        return self._source.with_kind_value(DRAM, "stores", stores).build(())

    @property
    def _source(self) -> Source:
        if self.source is None:
            raise InputError("this topology was not loaded and cannot be changed", field=self.name)
        return self.source

    # telling others

    def to_dict(self, expanded: bool = False) -> dict[str, Any]:
        """The system as a document that loads to an equal one, JSON-ready, all defaults filled.

        As declared, with `count` and `[i]`; `expanded` lists each instance and each link by itself.
        """
        if self.source is not None and not expanded:
            return self.source.resolved()
        document: dict[str, Any] = {
            "schema": SCHEMA,
            "name": self.name,
            "clocks": {name: format_hertz(hertz) for name, hertz in self.clocks.items()},
            "nodes": {
                n.id: {"kind": n.kind, **n.parameters.model_dump(mode="json")} for n in self.nodes.values()
            },
            "links": [link_dict(link) for link in self.links],
        }
        if self.named_routes:
            document["routes"] = routes_list(self.named_routes)
        return document


def routes_list(routes: Mapping[tuple[str, str], tuple[str, ...]]) -> list[dict[str, Any]]:
    """Named routes as a file declares them."""
    return [{"from": source, "to": target, "via": list(via)} for (source, target), via in routes.items()]


def link_dict(link: Link) -> dict[str, Any]:
    """One link as a file declares it."""
    return {
        "name": link.name,
        "from": _ends(link.sources),
        "to": _ends(link.targets),
        "medium": link.medium,
        "width": format_width(link.width_bits),
        "latency": format_cycles(link.latency_cycles),
        "clock": link.clock,
    }


def _ends(ids: tuple[str, ...]) -> str | list[str]:
    return ids[0] if len(ids) == 1 else list(ids)
