"""Links and routes of a document: references resolved, `[i]` declarations taken apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dpred_sim.errors import InputError, nearest
from dpred_sim.topology.document import Document, Path_
from dpred_sim.topology.graph import Link, Node
from dpred_sim.topology.override import declared_name
from dpred_sim.topology.references import Groups, pairing, resolve
from dpred_sim.topology.schema import LinkDeclaration, RouteDeclaration
from dpred_sim.topology.validate import validated

MAX_ENDS = 1 << 18
"""Most ends that the links of a system have together."""


def check_clock(document: Document, name: str, clocks: Iterable[str], path: Path_) -> None:
    """Raise InputError unless the part at `path` names one of the clocks."""
    if name not in clocks:
        raise document.error(
            f"no such clock{nearest(name, clocks)}", (*path, "clock"), found=name, allowed=list(clocks)
        )


class Wiring:
    """Reads `links` and `routes`; `declared`, `links` and `named_routes` are what it finds."""

    def __init__(
        self, document: Document, clocks: Mapping[str, int], groups: Groups, nodes: Mapping[str, Node]
    ) -> None:
        self.document = document
        self.clocks = clocks
        self.groups = groups
        self.nodes = nodes
        self.declared: list[LinkDeclaration] = []
        self.links: dict[str, Link] = {}
        self.named_routes: dict[tuple[str, str], tuple[str, ...]] = {}

    def read_links(self, raw_links: list[Any]) -> None:
        """Fill `declared` and `links`."""
        ends = 0
        for index, raw in enumerate(raw_links):
            path: Path_ = ("links", index)
            if declared_name(raw):
                self.document.labels[path] = f"links.{declared_name(raw)}"
            declared = self._declaration(raw, path)
            check_clock(self.document, declared.clock, self.clocks, path)
            for link in self._expand(declared, declared_name(raw), path):
                if link.name in self.links:
                    raise self.document.error(
                        f"two links are called {link.name!r}: give one a name",
                        path,
                        key=True,
                        found=link.name,
                    )
                self.links[link.name] = link
                ends += len(link.sources) + len(link.targets)
            if ends > MAX_ENDS:
                raise self.document.error("the links have too many ends", path, allowed=f"at most {MAX_ENDS}")
            self.declared.append(declared)

    def _declaration(self, raw: Any, path: Path_) -> LinkDeclaration:
        known = ("from", "to", "between", "medium", "width", "latency", "clock", "name")
        if not isinstance(raw, dict):
            raise self.document.error("a link is a mapping", path, found=raw, allowed=known)
        if "between" in raw:
            both = [key for key in ("from", "to") if key in raw]
            problem = (
                f"a link has between, or from and to: not also {both[0]!r}" if both else "not a pair of nodes"
            )
            raise self.document.error(
                problem, (*path, both[0] if both else "between"), found=raw["between"], allowed="[node, node]"
            )
        declared: LinkDeclaration = validated(LinkDeclaration, raw, self.document, path, known=("between",))
        return declared

    def _expand(self, declared: LinkDeclaration, name: str, path: Path_) -> list[Link]:
        sides = []
        for key, texts in (("from", declared.sources), ("to", declared.targets)):
            found = []
            for text in texts:
                try:
                    found.append(resolve(text, self.groups))
                except InputError as error:
                    raise self.document.error(
                        error.message, (*path, key), found=error.found, allowed=error.allowed
                    ) from None
            sides.append(found)
        sources, targets = sides
        try:
            times = pairing(sources + targets)
        except InputError as error:
            raise self.document.error(error.message, path, found=error.found) from None
        links = []
        for index in range(1 if times is None else times):
            start = tuple(id for reference in sources for id in reference.at(index))
            end = tuple(id for reference in targets for id in reference.at(index))
            self._check_ends(declared, start, end, path)
            own = name if times is None else _indexed(declared, name, index)
            links.append(
                Link(
                    own,
                    declared.medium,
                    start,
                    end,
                    declared.width,
                    declared.latency,
                    declared.clock,
                    name,
                )
            )
        return links

    def _check_ends(
        self, declared: LinkDeclaration, sources: tuple[str, ...], targets: tuple[str, ...], path: Path_
    ) -> None:
        both = [id for id in sources if id in targets]
        if both:
            raise self.document.error("a link from a component to itself", path, found=both[0])
        for key, ids in (("from", sources), ("to", targets)):
            if len(frozenset(ids)) != len(ids):
                twice = next(id for id in ids if ids.count(id) > 1)
                raise self.document.error("the same component twice", (*path, key), found=twice)
        if declared.medium == "point" and (len(sources) > 1 or len(targets) > 1):
            raise self.document.error(
                f"a point link joins one component to one, not {len(sources)} to {len(targets)}",
                path,
                allowed="medium: bus, medium: broadcast, or [i]",
            )
        if declared.medium == "broadcast" and len(sources) > 1:
            raise self.document.error(
                "a broadcast has one sender", (*path, "from"), found=len(sources), allowed="medium: bus"
            )

    def read_routes(self, raw: object) -> None:
        """Fill `named_routes`; the links must be there."""
        if not isinstance(raw, list):
            raise self.document.error("not a list of routes", ("routes",), found=raw)
        for index, item in enumerate(raw):
            path: Path_ = ("routes", index)
            if not isinstance(item, dict):
                raise self.document.error("a route is a mapping", path, found=item, allowed="from, to, via")
            route = validated(RouteDeclaration, item, self.document, path)
            for key, id in (("from", route.source), ("to", route.target)):
                if id not in self.nodes:
                    raise self.document.error(
                        f"no such component{nearest(id, self.nodes)}",
                        (*path, key),
                        found=id,
                        allowed=list(self.nodes),
                    )
            self._walk(route, path)
            if (route.source, route.target) in self.named_routes:
                raise self.document.error("this route is there already", path, found=route.target)
            self.named_routes[route.source, route.target] = tuple(route.via)

    def _walk(self, route: RouteDeclaration, path: Path_) -> None:
        """Follow a route: each link must leave where the one before arrives."""
        here = frozenset([route.source])
        for step, name in enumerate(route.via):
            link = self.links.get(name)
            if link is None:
                raise self.document.error(
                    f"no such link{nearest(name, self.links)}",
                    (*path, "via", step),
                    found=name,
                    allowed=list(self.links),
                )
            between = here if step == 0 else frozenset(n for n in here if self.nodes[n].parameters.forwards)
            if not between & frozenset(link.sources):
                raise self.document.error(
                    "this link does not go on where the one before ends",
                    (*path, "via", step),
                    found=name,
                    allowed=f"a link from {', '.join(sorted(here))} (only kinds that forward are passed)",
                )
            here = frozenset(link.targets)
        if route.target not in here:
            raise self.document.error("the route does not end there", (*path, "to"), found=route.target)


def _indexed(declared: LinkDeclaration, name: str, index: int) -> str:
    """Name of one link of a `[i]` declaration: "weights.3->tile.3", or "given_name.3"."""
    return name.replace("[i]", f".{index}") if declared.name is None else f"{name}.{index}"
