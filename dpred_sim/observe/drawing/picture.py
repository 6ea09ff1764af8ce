"""A drawing as SVG or PNG, with matplotlib (the extra `plots`). Same input, same bytes."""

from __future__ import annotations

import io
from itertools import pairwise
from typing import Any

from dpred_sim.errors import MissingExtra
from dpred_sim.observe.drawing.networks import Fabric, Strand, course
from dpred_sim.observe.drawing.placing import Drawing, Rectangle, Route, cell_frame
from dpred_sim.observe.drawing.sizes import (
    box_text,
    cell_grid,
    cell_text,
    fabric_heading,
    letters,
    wrapped,
)
from dpred_sim.observe.drawing.text import MEDIA
from dpred_sim.topology.graph import BUFFER, DISPATCHER, DRAM, TILE

CELL = (0.088, 0.185)
"""Width and height of a character cell in inches: wider than characters of SMALL are on average."""
SMALL, TITLE = 7.5, 9.0
WIDTH = 110
"""Character cells that a picture is wide at most, where it can be."""
FILLS = {DRAM: "#d6e6f4", BUFFER: "#dff0d8", DISPATCHER: "#fdebd0", TILE: "#ece2f4"}
OTHER_FILL = "#eeeeee"
FABRIC_FILL = "#f8f8f8"
CELL_FILL = "#9b7fb8"
INK = "#333333"
MEDIUM_COLOURS = {"point": "#4d4d4d", "bus": "#0072b2", "broadcast": "#c45100"}
MEDIUM_WIDTHS = {"point": 1.3, "bus": 3.4, "broadcast": 2.6}
SCALE = ((0.0, "#8fb3d9"), (0.5, "#f0b429"), (1.0, "#c81d25"))
"""Colours of a utilisation: idle, half of the time, always."""
Point = tuple[float, float]


def utilisation_colour(share: float) -> str:
    """The colour of a link that is busy for this share (0..1) of the time."""
    share = min(1.0, max(0.0, share))
    for (low, first), (high, second) in pairwise(SCALE):
        if share <= high:
            part = (share - low) / (high - low)
            mixed = [
                round(int(first[n : n + 2], 16) * (1 - part) + int(second[n : n + 2], 16) * part)
                for n in (1, 3, 5)
            ]
            return "#" + "".join(f"{value:02x}" for value in mixed)
    return SCALE[-1][1]


def draw_picture(drawing: Drawing, kind: str) -> bytes:
    """The picture as a file of `kind` "svg" or "png"; raises MissingExtra without matplotlib."""
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra("plots", "drawing a picture") from None

    top = len(drawing.scene.notes) + 2.6
    below = _legend_rows(drawing)
    rows = drawing.height + top + below
    settings = {"svg.hashsalt": "dpred_sim", "svg.fonttype": "none", "font.family": "DejaVu Sans"}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=((drawing.width + 2) * CELL[0], rows * CELL[1]), facecolor="white")
        FigureCanvasAgg(figure)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_xlim(-1, drawing.width + 1)
        axes.set_ylim(drawing.height + below, -top)
        axes.axis("off")
        _Picture(axes, drawing).draw()
        target = io.BytesIO()
        metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
        figure.savefig(target, format=kind, dpi=150, metadata=metadata)
    return target.getvalue()


class _Picture:
    """Draws on matplotlib axes whose unit is a character cell, y downwards."""

    def __init__(self, axes: Any, drawing: Drawing) -> None:
        self.axes, self.drawing = axes, drawing

    def draw(self) -> None:
        """Everything."""
        scene = self.drawing.scene
        self._text(0.5, -len(scene.notes) - 1.5, scene.title, TITLE + 2, "left", weight="bold")
        for number, note in enumerate(scene.notes):
            self._text(0.5, number - len(scene.notes), note, SMALL, "left")
        for route in self.drawing.routes:
            self._wire(route)
        for box, frame in zip(scene.boxes, self.drawing.rectangles, strict=True):
            if box.fabric is not None:
                self._frame(frame, FABRIC_FILL, order=1)
                self._fabric(box.fabric, frame)
                continue
            self._frame(frame, FILLS.get(box.kind, OTHER_FILL))
            lines = box_text(box, self.drawing.sizes)
            columns, rows = cell_grid(len(box.cells)) if box.cells else (0, 0)
            y = frame.y + (frame.height - len(lines) - (rows + 1 if rows else 0)) / 2
            titles = len(wrapped(box.title, self.drawing.sizes.text))
            for number, line in enumerate(lines):
                title = number < titles
                self._text(
                    frame.x + frame.width / 2,
                    y + number + 0.5,
                    line,
                    TITLE if title else SMALL,
                    weight="bold" if title else "normal",
                )
            self._cells(box.cells, columns, frame, y + len(lines) + 1)
        self._legend()

    def _text(self, x: float, y: float, words: str, size: float, align: str = "center", **more: Any) -> None:
        self.axes.text(x, y, words, fontsize=size, ha=align, va="center", color=INK, **more)

    def _frame(
        self, frame: Rectangle, fill: str, *, edge: str = INK, width: float = 1.0, order: float = 3
    ) -> None:
        from matplotlib.patches import FancyBboxPatch

        self.axes.add_patch(
            FancyBboxPatch(
                (frame.x + 0.5, frame.y + 0.5),
                frame.width - 1,
                frame.height - 1,
                boxstyle="round,pad=0,rounding_size=0.4",
                facecolor=fill,
                edgecolor=edge,
                linewidth=width,
                zorder=order,
            )
        )

    def _cells(self, shares: tuple[float | None, ...], columns: int, frame: Rectangle, top: float) -> None:
        from matplotlib.patches import Rectangle as Patch

        left = frame.x + frame.width / 2 - columns + 0.2
        for number, share in enumerate(shares):
            x, y = left + 2 * (number % columns), top + number // columns + 0.1
            fill = CELL_FILL if share is None else utilisation_colour(share)
            self.axes.add_patch(Patch((x, y), 1.6, 0.8, facecolor=fill, edgecolor="white", lw=0.4, zorder=4))

    # wires

    def _line(self, parts: list[list[Point]], colour: str, medium: str, curve: float = 0.0) -> None:
        """Lines through the points of each part, on a white edge that shows at crossings; a bus is hollow."""
        from matplotlib.patches import FancyArrowPatch, PathPatch
        from matplotlib.path import Path

        if curve:
            style = f"arc3,rad={curve}"
            start, end = parts[0]
            patch = FancyArrowPatch(start, end, arrowstyle="-", connectionstyle=style, zorder=1.5)
            patch.set(color=colour, linewidth=MEDIUM_WIDTHS[medium])
            self.axes.add_patch(patch)
            return
        path = Path.make_compound_path(*(Path(points) for points in parts))
        width = MEDIUM_WIDTHS[medium]
        for wide, shade, order in ((width + 2.4, "white", 1.8), (width, colour, 2.0), (1.2, "white", 2.1)):
            if order < 2.1 or medium == "bus":
                self.axes.add_patch(
                    PathPatch(path, fill=False, edgecolor=shade, linewidth=wide, zorder=order)
                )

    def _arrow(self, x: float, y: float, way: tuple[int, int], colour: str) -> None:
        """An arrowhead whose tip is at (x, y)."""
        from matplotlib.patches import Polygon

        long, wide = (1.5, 0.32) if way[0] else (0.7, 0.68)
        back = (x - way[0] * long, y - way[1] * long)
        side = (abs(way[1]) * wide, abs(way[0]) * wide)
        corners = [(x, y), (back[0] + side[0], back[1] + side[1]), (back[0] - side[0], back[1] - side[1])]
        self.axes.add_patch(Polygon(corners, closed=True, facecolor=colour, edgecolor="none", zorder=2.6))

    def _colour(self, medium: str, utilisation: float | None) -> str:
        return MEDIUM_COLOURS[medium] if utilisation is None else utilisation_colour(utilisation)

    def _wire(self, route: Route) -> None:
        wire = self.drawing.scene.wires[route.wire]
        colour = self._colour(wire.medium, wire.utilisation)
        parts = [[(p.x1 + 0.5, p.y1 + 0.5), (p.x2 + 0.5, p.y2 + 0.5)] for p in route.segments]
        for tip in route.tips:
            frame = tip.x + tip.way + 0.5
            end = frame - tip.way * (1.2 if tip.arrow else 0)
            parts.append([(tip.x + 0.5 - tip.way * 0.2, tip.y + 0.5), (end, tip.y + 0.5)])
            if tip.arrow:
                self._arrow(frame, tip.y + 0.5, (tip.way, 0), colour)
        self._line(parts, colour, wire.medium)
        for number, words in enumerate(route.label):
            y = route.label_y - len(route.label) + 1.6 + number
            self._text(route.label_x + 0.5, y, words, SMALL, zorder=5)

    # networks

    def _fabric(self, fabric: Fabric, frame: Rectangle) -> None:
        for number, words in enumerate(fabric_heading(fabric)):
            size, weight = (TITLE, "bold") if number == 0 else (SMALL, "normal")
            self._text(frame.x + 2, frame.y + 1.5 + number, words, size, "left", weight=weight, zorder=5)
        frames = [cell_frame(fabric, cell, frame, self.drawing) for cell in fabric.cells]
        for strand in fabric.strands:
            self._strand(fabric, strand, frames)
        for cell, own in zip(fabric.cells, frames, strict=True):
            kinds = [self.drawing.scene.kinds[id] for id in cell.attached]
            edge = INK if cell.utilisation is None else utilisation_colour(cell.utilisation)
            fill = FILLS.get(kinds[0], OTHER_FILL) if kinds else OTHER_FILL
            self._frame(own, fill, edge=edge, width=1.0 if cell.utilisation is None else 2.2)
            for number, words in enumerate(cell_text(fabric, cell, self.drawing.sizes)):
                weight = "bold" if number == 0 else "normal"
                x, y = own.x + own.width / 2, own.y + 1.5 + number
                self._text(x, y, words, SMALL, weight=weight, zorder=5)

    def _strand(self, fabric: Fabric, strand: Strand, frames: list[Rectangle]) -> None:
        colour = self._colour("point", strand.utilisation)
        first, second = frames[strand.first], frames[strand.second]
        places = course(fabric, strand)
        if places is None:
            self._line([[_middle(first), _middle(second)]], colour, "point", curve=0.3)
            return
        points = [_middle(first), _middle(second)]
        if len(places) == 3:
            down_first = places[0][0] == places[1][0]
            corner = (points[0][0], points[1][1]) if down_first else (points[1][0], points[0][1])
            points.insert(1, corner)
        self._line([points], colour, "point")
        for frame, way in ((second, _way(points[-2], points[-1])), (first, _way(points[1], points[0]))):
            if frame is second or strand.both:
                x, y = _middle(frame)
                edge = ((frame.width - 1) / 2 * way[0], (frame.height - 1) / 2 * way[1])
                self._arrow(x - edge[0], y - edge[1], way, colour)

    # what explains it

    def _legend(self) -> None:
        from matplotlib.patches import Rectangle as Patch

        scene, y = self.drawing.scene, self.drawing.height + 1.2
        x = 0.5
        for medium in _media(self.drawing):
            colour = MEDIUM_COLOURS[medium] if scene.usage is None else "#777777"
            self._line([[(x, y), (x + 4, y)]], colour, medium)
            self._text(x + 5, y, MEDIA[medium], SMALL, "left")
            x += 8 + 0.75 * len(MEDIA[medium])
        y += 1.5 if x > 1 else 0
        if scene.usage is not None:
            self._text(0.5, y, "links and tiles, busy 0 %", SMALL, "left")
            for step in range(40):
                fill = utilisation_colour((step + 0.5) / 40)
                self.axes.add_patch(
                    Patch((20 + step / 2, y - 0.4), 0.52, 0.8, facecolor=fill, edgecolor="none")
                )
            self._text(41, y, "100 % of the time", SMALL, "left")
            y += 1.5
        for words in _letters(self.drawing):
            self._text(0.5, y, words, SMALL, "left")
            y += 1.5


def _media(drawing: Drawing) -> list[str]:
    return [medium for medium in MEDIA if any(wire.medium == medium for wire in drawing.scene.wires)]


def _letters(drawing: Drawing) -> list[str]:
    fabrics = [box.fabric for box in drawing.scene.boxes if box.fabric is not None]
    return [
        ", ".join(f"{letter} {group}" for group, letter in letters(fabric).items())
        for fabric in fabrics
        if drawing.sizes.letters
    ]


def _legend_rows(drawing: Drawing) -> float:
    lines = bool(_media(drawing)) + (drawing.scene.usage is not None) + len(_letters(drawing))
    return 0.8 + 1.5 * lines


def _middle(frame: Rectangle) -> tuple[float, float]:
    return frame.x + frame.width / 2, frame.y + frame.height / 2


def _way(start: tuple[float, float], end: tuple[float, float]) -> tuple[int, int]:
    across, down = end[0] - start[0], end[1] - start[1]
    return (1 if across > 0 else -1, 0) if abs(across) > abs(down) else (0, 1 if down > 0 else -1)
