"""Where everything of a scene stands, in character cells: the same places for the text and the picture.

Columns of boxes follow the way of the data. A wire leaves a box, goes right or left in a row, and changes
the row only in a gap between columns and only where a straight line is not to be had.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dpred_sim.observe.drawing.constraints import Line
from dpred_sim.observe.drawing.layers import Item, Layers, Net, make_layers
from dpred_sim.observe.drawing.networks import Cell, Fabric
from dpred_sim.observe.drawing.scene import Scene
from dpred_sim.observe.drawing.sizes import Sizes, box_size, cell_origin, cell_size

APART = 2
"""Rows between the frames of boxes that stand below each other."""
ARROW = 2
"""Cells of a wire beside its label: where it leaves, and its arrowhead."""


@dataclass(frozen=True, slots=True)
class Rectangle:
    """A frame; its last column and row belong to it."""

    x: int
    y: int
    width: int
    height: int

    @property
    def right(self) -> int:
        """Its last column."""
        return self.x + self.width - 1

    @property
    def bottom(self) -> int:
        """Its last row."""
        return self.y + self.height - 1


@dataclass(frozen=True, slots=True)
class Segment:
    """A straight part of a wire, ends included: (x1, y1) is left of or above (x2, y2)."""

    x1: int
    y1: int
    x2: int
    y2: int


@dataclass(frozen=True, slots=True)
class Tip:
    """Where a wire meets the frame of a box: the cell beside it, and the way towards the box (-1: left)."""

    x: int
    y: int
    way: int
    arrow: bool


@dataclass(frozen=True, slots=True)
class Route:
    """A placed wire. `label` lines are centred at x `label_x`, the last of them in row `label_y`."""

    wire: int
    segments: tuple[Segment, ...]
    tips: tuple[Tip, ...]
    label: tuple[str, ...]
    label_x: float
    label_y: int


@dataclass(frozen=True, slots=True)
class Drawing:
    """A scene with all its places; `width` and `height` in cells."""

    scene: Scene
    sizes: Sizes
    rectangles: tuple[Rectangle, ...]
    routes: tuple[Route, ...]
    width: int
    height: int


def place(scene: Scene, width: int) -> Drawing:
    """Place a scene in `width` columns of characters, or in as few more as it needs."""
    layers = make_layers(scene)
    drawing = None
    for sizes in Sizes.from_wide_to_narrow():
        drawing = _Placing(scene, layers, sizes).drawing()
        if drawing.width <= width:
            break
    assert drawing is not None
    return drawing


class _Placing:
    """One try, with given sizes of labels and boxes."""

    def __init__(self, scene: Scene, layers: Layers, sizes: Sizes) -> None:
        self.scene, self.layers, self.sizes = scene, layers, sizes
        self.labels = [sizes.label(number, wire.label) for number, wire in enumerate(scene.wires)]
        self.box_sizes = [box_size(box, sizes) for box in scene.boxes]
        self.nets_at: dict[tuple[Item, int], list[Net]] = {}
        for net in layers.nets:
            for side, items in ((1, net.left), (-1, net.right)):
                for item in items:
                    self.nets_at.setdefault((item, side), []).append(net)
        self.row_of = {item: at for column in layers.columns for at, item in enumerate(column)}

    def drawing(self) -> Drawing:
        """Rows first, as the gaps hold what changes its row; then columns."""
        self._rows()
        self._tracks()
        self._columns()
        rectangles = []
        for number in range(len(self.scene.boxes)):
            x = self.column_x[self.column_of[number]]
            wide = self.column_width[self.column_of[number]]
            top, bottom = self.tops[number], self.bottoms[number]
            rectangles.append(Rectangle(x, top, wide, bottom - top + 1))
        routes = tuple(self._route(number) for number in range(len(self.scene.wires)))
        width = max(self.end_x, *(rectangle.right + 1 for rectangle in rectangles))
        height = max(rectangle.bottom + 1 for rectangle in rectangles)
        height = max([height, *(part.y2 + 1 for route in routes for part in route.segments)])
        return Drawing(self.scene, self.sizes, tuple(rectangles), routes, width, height)

    # rows

    def _rows(self) -> None:
        line = Line()
        self.pins: dict[tuple[int, Item, int], int] = {}
        edges: dict[int, tuple[int, int]] = {}
        for column in self.layers.columns:
            self._stack(line, column, edges)
        for net in sorted(self.layers.nets, key=lambda net: len(net.left) + len(net.right)):
            if net.left and net.right:
                line.join(self._pin(net, net.left[0], 1), self._pin(net, net.right[0], -1))
        at = line.solve()
        self.at = {key: at[variable] for key, variable in self.pins.items()}
        self.tops = {number: at[top] for number, (top, _) in edges.items()}
        self.bottoms = {number: at[bottom] for number, (_, bottom) in edges.items()}
        self._stretch()

    def _pin(self, net: Net, item: Item, side: int) -> int:
        key = (net.wire, item, 0 if item.box is None else side)
        return self.pins[key]

    def _stack(self, line: Line, column: list[Item], edges: dict[int, tuple[int, int]]) -> None:
        """Demands within one column: the order of items, of the pins on each side, and room for labels."""
        before: int | None = None
        last: dict[int, int] = {}
        for item in column:
            if item.box is None:
                assert item.wire is not None
                tall = len(self.labels[item.wire])
                pin = line.new(tall)
                self.pins[item.wire, item, 0] = pin
                if before is not None:
                    line.behind(before, pin, tall + 1)
                for side in (-1, 1):
                    if side in last:
                        line.behind(last[side], pin, tall + 1)
                last = {-1: pin, 1: pin}
                before = pin
                continue
            top, bottom = line.new(), line.new()
            edges[item.box] = (top, bottom)
            line.behind(top, bottom, self.box_sizes[item.box][1] - 1)
            if before is not None:
                line.behind(before, top, APART)
            for side in (-1, 1):
                for net in self._sorted_nets(item, side):
                    tall = len(self.labels[net.wire])
                    pin = line.new(tall)
                    self.pins[net.wire, item, side] = pin
                    line.behind(top, pin, 1)
                    line.behind(pin, bottom, 1)
                    if side in last:
                        line.behind(last[side], pin, tall + 1)
                    last[side] = pin
            before = bottom

    def _sorted_nets(self, item: Item, side: int) -> list[Net]:
        """The nets at one side of a box, in the order of what they lead to."""

        def far(net: Net) -> tuple[float, int]:
            others = [self.row_of[o] for o in (net.right if side > 0 else net.left) if o is not item]
            mine = self.row_of[item]
            return (sum(others) / len(others) if others else mine, net.wire)

        return sorted(self.nets_at.get((item, side), []), key=far)

    def _stretch(self) -> None:
        """Bring the frame of each box to its pins, and make boxes at both ends as tall as the drawing."""
        for number, box in enumerate(self.scene.boxes):
            rows = [row for (_, item, _), row in self.at.items() if item.box == number]
            if not rows or box.fabric is not None:
                continue
            tall = self.box_sizes[number][1]
            spare = (self.bottoms[number] - self.tops[number] + 1) - tall
            middle = (min(rows) + max(rows)) / 2
            if spare > 0:
                top = min(min(rows) - 1, round(middle - (tall - 1) / 2), self.bottoms[number] - tall + 1)
                self.tops[number] = max(self.tops[number], top)
                self.bottoms[number] = max(max(rows) + 1, self.tops[number] + tall - 1)
        lowest, highest = min(self.tops.values()), max(self.bottoms.values())
        for column in (self.layers.columns[0], self.layers.columns[-1]):
            if len(column) == 1 and column[0].box is not None and len(self.layers.columns) > 1:
                number = column[0].box
                if self.scene.boxes[number].fabric is None:
                    self.tops[number], self.bottoms[number] = lowest, highest

    # columns

    def _tracks(self) -> None:
        """A track in its gap for every net that changes the row; crossing ones side by side."""
        self.track: dict[tuple[int, int], int] = {}
        self.tracks = [0] * len(self.layers.columns)
        for gap in range(len(self.layers.columns)):
            turning = [
                net for net in self.layers.nets if net.gap == gap and len(set(self._net_rows(net))) > 1
            ]
            taken: list[list[tuple[int, int]]] = []
            for net, least in self._from_left_to_right(turning):
                rows = self._net_rows(net)
                span = (min(rows), max(rows))
                taken += [[] for _ in range(least - len(taken))]
                free = (
                    n
                    for n, own in enumerate(taken)
                    if n >= least and all(span[1] < a or b < span[0] for a, b in own)
                )
                track = next(free, len(taken))
                if track == len(taken):
                    taken.append([])
                taken[track].append(span)
                self.track[net.wire, gap] = track
            self.tracks[gap] = len(taken)

    def _from_left_to_right(self, nets: list[Net]) -> Iterator[tuple[Net, int]]:
        """Nets of a gap, each with the first track that it may have.

        Where one comes from the left in the row in which another leaves to the right, it turns further left:
        else both would lie on one line. Demands that go round in a circle are left open.
        """
        waiting = list(nets)
        while waiting:
            free = [net for net in waiting if not any(self._before(other, net) for other in waiting)]
            net = (free or waiting)[0]
            waiting.remove(net)
            done = [self.track[o.wire, o.gap] for o in nets if o not in waiting and self._before(o, net)]
            yield net, max(done, default=-1) + 1

    def _before(self, net: Net, other: Net) -> bool:
        if net is other:
            return False
        left, right = self._net_rows(net)[: len(net.left)], self._net_rows(other)[len(other.left) :]
        return not set(left).isdisjoint(right)

    def _net_rows(self, net: Net) -> list[int]:
        left = [self.at[net.wire, item, 1 if item.box is not None else 0] for item in net.left]
        return left + [self.at[net.wire, item, -1 if item.box is not None else 0] for item in net.right]

    def _columns(self) -> None:
        columns = self.layers.columns
        self.column_of = {i.box: n for n, column in enumerate(columns) for i in column if i.box is not None}
        self.column_width = [
            max(self.box_sizes[item.box][0] for item in column if item.box is not None) for column in columns
        ]
        rooms = [self._room(gap) for gap in range(len(columns))]
        for wire, first, last in self._straight_runs():
            room = sum(rooms[first : last + 1]) + sum(self.column_width[first + 1 : last + 1])
            missing = max(map(len, self.labels[wire]), default=0) + ARROW - room
            rooms[last] += max(0, missing)
        self.column_x, x = [], 0
        self.label_room = rooms
        for width, room, tracks in zip(self.column_width, rooms, self.tracks, strict=True):
            self.column_x.append(x)
            x += width + room + (2 * tracks if tracks else 0)
        self.end_x = x

    def _room(self, gap: int) -> int:
        """Cells that the labels of wires that are only in this gap need."""
        need = 0
        for net in self.layers.nets:
            if net.gap == gap:
                own = (net.wire, gap, gap) in self._straight_runs() or (net.wire, gap) in self.track
                wide = max(map(len, self.labels[net.wire]), default=0) if own else 1
                need = max(need, wide + ARROW)
        return need

    def _straight_runs(self) -> list[tuple[int, int, int]]:
        """Wires that keep their row, with their first and last gap."""
        found = []
        for wire in range(len(self.scene.wires)):
            gaps = [net.gap for net in self.layers.nets if net.wire == wire]
            if not any((wire, gap) in self.track for gap in gaps):
                found.append((wire, min(gaps), max(gaps)))
        return found

    # wires

    def _route(self, wire: int) -> Route:
        targets = self.scene.wires[wire].targets
        segments: list[Segment] = []
        tips: list[Tip] = []
        for net in (net for net in self.layers.nets if net.wire == wire):
            start = self.column_x[net.gap] + self.column_width[net.gap]
            if net.right:
                end = self.column_x[net.gap + 1] - 1
            else:
                end = start + self.label_room[net.gap] + 2 * self.tracks[net.gap] - 1
            track = self.track.get((wire, net.gap))
            turn = None if track is None else start + self.label_room[net.gap] + 2 * track
            for side, items in ((1, net.left), (-1, net.right)):
                for item in items:
                    row = self.at[wire, item, side if item.box is not None else 0]
                    outer = start if side > 0 else end
                    if item.box is None:  # through the column, from its other side
                        outer = start - self.column_width[net.gap] if side > 0 else end
                    else:
                        tips.append(Tip(outer, row, -side, item.box in targets))
                    x1, x2 = (outer, turn or end) if side > 0 else (turn or start, outer)
                    segments.append(Segment(min(x1, x2), row, max(x1, x2), row))
            if turn is not None:
                rows = self._net_rows(net)
                segments.append(Segment(turn, min(rows), turn, max(rows)))
        return self._labelled(wire, _merged(segments), tuple(tips))

    def _labelled(self, wire: int, segments: tuple[Segment, ...], tips: tuple[Tip, ...]) -> Route:
        nets = [net for net in self.layers.nets if net.wire == wire]
        first = min(nets, key=lambda net: net.gap)
        if any((wire, net.gap) in self.track for net in nets):
            first = max(nets, key=lambda net: self.label_room[net.gap])
            left = self.column_x[first.gap] + self.column_width[first.gap]
            right = left + self.label_room[first.gap] - 1
        else:
            left = min(part.x1 for part in segments)
            right = max(part.x2 for part in segments)
        item = first.left[0]
        row = self.at[wire, item, 1 if item.box is not None else 0]
        return Route(wire, segments, tips, self.labels[wire], (left + right) / 2, row - 1)


def _merged(segments: list[Segment]) -> tuple[Segment, ...]:
    """Segments across that touch or overlap made one, as those of one wire do in a row."""
    across = [part for part in segments if part.y1 == part.y2]
    found: list[Segment] = []
    for part in sorted(across, key=lambda part: (part.y1, part.x1)):
        last = found[-1] if found else None
        if last and last.y1 == part.y1 and part.x1 <= last.x2 + 1:
            found[-1] = Segment(last.x1, last.y1, max(last.x2, part.x2), last.y2)
        else:
            found.append(part)
    return (*found, *(part for part in segments if part.y1 != part.y2))


def cell_frame(fabric: Fabric, cell: Cell, frame: Rectangle, drawing: Drawing) -> Rectangle:
    """The frame of one cell of a network."""
    x, y = cell_origin(fabric, cell, drawing.sizes)
    return Rectangle(frame.x + x, frame.y + y, *cell_size(fabric, drawing.sizes))
