"""Networks on chip inside a topology: components that forward, recognised as mesh, ring, line or neither."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isqrt

from dpred_sim.observe.drawing.usage import Usage
from dpred_sim.topology.graph import Link, Topology
from dpred_sim.topology.schema import format_width

LEAST = 3
"""Joined components that forward and are fewer than this are drawn as ordinary boxes."""
MOST_SEARCHED = 64
"""Above this many routers a mesh is recognised only when they are declared row by row."""

Grid = dict[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Cell:
    """One router and the components that hang at it alone, at a place of the grid."""

    router: str
    attached: tuple[str, ...]
    column: int
    row: int
    links: tuple[str, ...]
    utilisation: float | None


@dataclass(frozen=True, slots=True)
class Strand:
    """The links between two routers (numbers of cells); `both` directions or only from `first`."""

    links: tuple[str, ...]
    first: int
    second: int
    both: bool
    utilisation: float | None


@dataclass(frozen=True, slots=True)
class Fabric:
    """A network: cells on a grid, strands between them."""

    title: str
    lines: tuple[str, ...]
    cells: tuple[Cell, ...]
    strands: tuple[Strand, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        """All components in it."""
        return tuple(id for cell in self.cells for id in (cell.router, *cell.attached))

    @property
    def links(self) -> tuple[str, ...]:
        """Names of all links in it."""
        hanging = [name for cell in self.cells for name in cell.links]
        return (*hanging, *(name for strand in self.strands for name in strand.links))


def course(fabric: Fabric, strand: Strand) -> list[tuple[int, int]] | None:
    """Places (column, row) that a strand goes through, ends included; None where other cells are in its way.

    A line between neighbours, or one corner where there is no cell.
    """
    ends = [fabric.cells[number] for number in (strand.first, strand.second)]
    (x1, y1), (x2, y2) = ((cell.column, cell.row) for cell in ends)
    if abs(x1 - x2) + abs(y1 - y2) == 1:
        return [(x1, y1), (x2, y2)]
    if abs(x1 - x2) == abs(y1 - y2) == 1:
        taken = {(cell.column, cell.row) for cell in fabric.cells}
        for corner in ((x1, y2), (x2, y1)):
            if corner not in taken:
                return [(x1, y1), corner, (x2, y2)]
    return None


def find_fabrics(topology: Topology, usage: Usage | None = None) -> list[Fabric]:
    """The networks of a topology, in file order."""
    import networkx as nx

    routers = [node.id for node in topology.nodes.values() if node.parameters.forwards]
    joined = nx.Graph()
    joined.add_nodes_from(routers)
    between: dict[tuple[str, str], list[Link]] = {}
    order = {id: number for number, id in enumerate(routers)}
    for link in topology.links:
        ends = (*link.sources, *link.targets)
        if len(ends) == 2 and ends[0] != ends[1] and all(end in order for end in ends):
            first, second = sorted(ends, key=order.__getitem__)
            between.setdefault((first, second), []).append(link)
            joined.add_edge(first, second)
    fabrics = []
    for part in nx.connected_components(joined):
        own = sorted(part, key=order.__getitem__)
        if len(own) >= LEAST:
            pairs = {pair: links for pair, links in between.items() if pair[0] in part}
            fabrics.append(_fabric(topology, own, pairs, usage))
    return sorted(fabrics, key=lambda fabric: order[fabric.cells[0].router])


def _fabric(
    topology: Topology, routers: list[str], pairs: Mapping[tuple[str, str], list[Link]], usage: Usage | None
) -> Fabric:
    shape, grid = arrange(routers, list(pairs))
    attached, stubs = _attached(topology, routers)
    cells = []
    for router in routers:
        names = tuple(stubs[router])
        used = usage.of_links(names) if usage is not None and names else None
        cells.append(Cell(router, tuple(attached[router]), *grid[router], names, used))
    number = {router: place for place, router in enumerate(routers)}
    strands = []
    for (first, second), links in pairs.items():
        senders = {link.sources[0] for link in links}
        if senders == {second}:
            first, second = second, first
        names = tuple(link.name for link in links)
        used = None if usage is None else usage.of_links(names)
        strands.append(Strand(names, number[first], number[second], len(senders) == 2, used))
    lines = [f"links {width}" for width in _widths(link for links in pairs.values() for link in links)]
    by_name = {link.name: link for link in topology.links}
    hanging = _widths(by_name[name] for names in stubs.values() for name in names)
    lines += [f"components at {width}" for width in hanging]
    return Fabric(
        f"{topology.nodes[routers[0]].group} x{len(routers)}: {shape}",
        tuple(lines),
        tuple(cells),
        tuple(strands),
    )


def _widths(links: Iterable[Link]) -> list[str]:
    found = list(dict.fromkeys(format_width(link.width_bits) for link in links))
    return [", ".join(found)] if found else []


def _attached(topology: Topology, routers: list[str]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Components that are linked to one router and nothing else, and the links between the two."""
    near: dict[str, set[str]] = {id: set() for id in topology.nodes}
    for link in topology.links:
        for source in link.sources:
            near[source].update(link.targets)
        for target in link.targets:
            near[target].update(link.sources)
    home = {id: router for router in routers for id in near if near[id] == {router} and id not in routers}
    attached: dict[str, list[str]] = {router: [] for router in routers}
    for id in topology.nodes:
        if id in home:
            attached[home[id]].append(id)
    stubs: dict[str, list[str]] = {router: [] for router in routers}
    for link in topology.links:
        places = {home.get(end, end) for end in (*link.sources, *link.targets)}
        if len(places) == 1 and places <= stubs.keys():
            stubs[places.pop()].append(link.name)
    return attached, stubs


def arrange(routers: list[str], pairs: list[tuple[str, str]]) -> tuple[str, Grid]:
    """What shape a network has, and a place (column, row) for each router."""
    import networkx as nx

    graph = nx.Graph(pairs)
    count = len(routers)
    edges = {frozenset(pair) for pair in pairs}
    for rows in range(1, isqrt(count) + 1):
        if count % rows:
            continue
        for columns, lines in ((count // rows, rows), (rows, count // rows)):
            grid = {id: (place % columns, place // columns) for place, id in enumerate(routers)}
            if edges == _grid_edges(routers, columns, lines):
                return _grid_name(columns, lines), grid
    if all(graph.degree[id] == 2 for id in routers):
        return "ring", _loop(_around(routers[0], pairs))
    for rows in range(isqrt(count), 0, -1):
        columns = count // rows
        if columns * rows != count or count > MOST_SEARCHED:
            continue
        found = _same_as_grid(graph, columns, rows)
        if found is not None:
            return _grid_name(columns, rows), found
    columns = isqrt(count - 1) + 1
    return "network", {id: (n % columns, n // columns) for n, id in enumerate(routers)}


def _grid_name(columns: int, rows: int) -> str:
    return "line" if 1 in (columns, rows) else f"{columns} x {rows} mesh"


def _grid_edges(routers: list[str], columns: int, rows: int) -> set[frozenset[str]]:
    edges = set()
    for place, id in enumerate(routers):
        if place % columns < columns - 1:
            edges.add(frozenset((id, routers[place + 1])))
        if place // columns < rows - 1:
            edges.add(frozenset((id, routers[place + columns])))
    return edges


def _same_as_grid(graph: object, columns: int, rows: int) -> Grid | None:
    import networkx as nx

    wanted = nx.grid_2d_graph(columns, rows)
    matcher = nx.isomorphism.GraphMatcher(graph, wanted)
    return dict(matcher.mapping) if matcher.is_isomorphic() else None


def _around(start: str, pairs: list[tuple[str, str]]) -> list[str]:
    """The routers of a ring in the order of one turn, towards the neighbour that is declared first."""
    near: dict[str, list[str]] = {}
    for first, second in pairs:
        near.setdefault(first, []).append(second)
        near.setdefault(second, []).append(first)
    turn = [start, near[start][0]]
    while len(turn) < len(near):
        turn.append(next(id for id in near[turn[-1]] if id != turn[-2]))
    return turn


def _loop(turn: list[str]) -> Grid:
    """A ring as two lines of a grid: there along the upper one, back along the lower one."""
    upper = (len(turn) + 1) // 2
    grid = {id: (n, 0) for n, id in enumerate(turn[:upper])}
    grid.update({id: (upper - 1 - n, 1) for n, id in enumerate(turn[upper:])})
    return grid
