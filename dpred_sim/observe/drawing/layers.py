"""Boxes in columns and the order within each column, so that few wires cross.

A wire that passes a column has a place of its own there. A wire is cut into nets, one in each gap
between neighbouring columns, with pins at what stands left and right of the gap.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dpred_sim.observe.drawing.scene import Scene

SWEEPS = 12


@dataclass(frozen=True, slots=True)
class Item:
    """What stands in a column: a box, or (`box` None) a wire that passes through that column."""

    box: int | None
    wire: int | None = None
    column: int | None = None


@dataclass(slots=True)
class Net:
    """A wire in the gap right of column `gap`: items of that column and of the next one that it joins."""

    wire: int
    gap: int
    left: list[Item] = field(default_factory=list)
    right: list[Item] = field(default_factory=list)


@dataclass(slots=True)
class Layers:
    """Items of each column from top to bottom, and the nets of all wires."""

    columns: list[list[Item]]
    nets: list[Net]


def make_layers(scene: Scene) -> Layers:
    """Columns by level, nets of all wires, and the order with the fewest crossings that sweeping finds."""
    levels = sorted({box.level for box in scene.boxes})
    column_of = {number: levels.index(box.level) for number, box in enumerate(scene.boxes)}
    columns: list[list[Item]] = [[] for _ in levels]
    for number in range(len(scene.boxes)):
        columns[column_of[number]].append(Item(number))
    nets: list[Net] = []
    for number, wire in enumerate(scene.wires):
        ends = list(dict.fromkeys((*wire.sources, *wire.targets)))
        nets += _nets(number, ends, [column_of[end] for end in wire.sources], column_of, columns)
    best = [list(column) for column in columns]
    least = _crossings(best, nets)
    for sweep in range(SWEEPS):
        if not least:
            break
        _sort(columns, nets, forwards=sweep % 2 == 0)
        crossings = _crossings(columns, nets)
        if crossings < least:
            best, least = [list(column) for column in columns], crossings
    return Layers(best, nets)


def _nets(
    wire: int, ends: list[int], sources: list[int], column_of: dict[int, int], columns: list[list[Item]]
) -> list[Net]:
    """Cut a wire into nets; where it joins more than two boxes, all meet in one gap."""
    places = [column_of[end] for end in ends]
    lowest, highest = min(places), max(places)
    meet = lowest if lowest == highest else min(max(sources), highest - 1)
    nets = {gap: Net(wire, gap) for gap in range(lowest, max(highest, lowest + 1))}
    for column in range(lowest, highest + 1):
        left, right = nets.get(column - 1), nets.get(column)
        here = [Item(end) for end in ends if column_of[end] == column]
        if column <= meet and right is not None:
            right.left += here
        elif left is not None:
            left.right += here
        if lowest < column < highest and left is not None and right is not None:
            through = Item(None, wire, column)
            columns[column].append(through)
            left.right.append(through)
            right.left.append(through)
    return list(nets.values())


def _crossings(columns: list[list[Item]], nets: list[Net]) -> int:
    place = {item: at for column in columns for at, item in enumerate(column)}
    count = 0
    for gap in range(len(columns)):
        lines = [(place[a], place[b]) for net in nets if net.gap == gap for a in net.left for b in net.right]
        count += sum((a - c) * (b - d) < 0 for n, (a, b) in enumerate(lines) for c, d in lines[:n])
    return count


def _sort(columns: list[list[Item]], nets: list[Net], *, forwards: bool) -> None:
    """Order each column by the mean place of what its items are joined to on one side."""
    numbers = range(1, len(columns)) if forwards else range(len(columns) - 2, -1, -1)
    for number in numbers:
        other = columns[number - 1 if forwards else number + 1]
        place = {item: at for at, item in enumerate(other)}
        means = {}
        for at, item in enumerate(columns[number]):
            near = [
                place[far]
                for net in nets
                if net.gap == (number - 1 if forwards else number)
                for far in (net.left if forwards else net.right)
                if item in (net.right if forwards else net.left)
            ]
            means[item] = sum(near) / len(near) if near else at * len(other) / len(columns[number])
        columns[number].sort(key=means.__getitem__)
