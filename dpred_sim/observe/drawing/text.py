"""A drawing as text, with box characters or in plain ASCII."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from itertools import pairwise

from dpred_sim.observe.drawing.networks import Fabric, Strand, course
from dpred_sim.observe.drawing.placing import Drawing, Rectangle, Route, cell_frame
from dpred_sim.observe.drawing.sizes import (
    NUMBERS,
    box_text,
    cell_grid,
    cell_text,
    fabric_heading,
    letters,
)
from dpred_sim.observe.drawing.usage import percent


@dataclass(frozen=True, slots=True)
class Style:
    """Characters of a drawing. Lines: across, down, then the corners by their open sides."""

    lines: dict[str, dict[str, str]]
    leaves: dict[str, tuple[str, str]]
    """What stands in the frame where a wire leaves it, to the right and to the left."""
    arrows: dict[tuple[int, int], str]
    shades: str
    """How busy a tile is, from not at all to always; the last one also stands for "a tile"."""


def _line(characters: str) -> dict[str, str]:
    keys = ("EW", "NS", "ES", "SW", "EN", "NW", "ENS", "NSW", "ESW", "ENW", "ENSW")
    return dict(zip(keys, characters, strict=True))


UNICODE = Style(
    {"point": _line("─│┌┐└┘├┤┬┴┼"), "bus": _line("═║╔╗╚╝╠╣╦╩╬"), "broadcast": _line("━┃┏┓┗┛┣┫┳┻╋")},
    {"point": ("├", "┤"), "bus": ("╞", "╡"), "broadcast": ("┝", "┥")},
    {(1, 0): "▶", (-1, 0): "◀", (0, 1): "▼", (0, -1): "▲"},
    "·░▒▓█",
)
ASCII = Style(
    {"point": _line("-|+++++++++"), "bus": _line("=|+++++++++"), "broadcast": _line("~|+++++++++")},
    {"point": ("|", "|"), "bus": ("|", "|"), "broadcast": ("|", "|")},
    {(1, 0): ">", (-1, 0): "<", (0, 1): "v", (0, -1): "^"},
    ".:+*#",
)
MEDIA = {
    "point": "point to point",
    "bus": "bus, one at a time",
    "broadcast": "broadcast, to all at once",
}
FRAME = "point"
LINE = 80
"""Columns that a drawing takes where it can."""


def draw_text(drawing: Drawing, *, ascii_only: bool = False) -> str:
    """The drawing, with what it cannot show below it."""
    style = ASCII if ascii_only else UNICODE
    canvas = [[" "] * drawing.width for _ in range(drawing.height)]
    for route in drawing.routes:
        _draw_wire(canvas, drawing, route, style)
    for box, rectangle in zip(drawing.scene.boxes, drawing.rectangles, strict=True):
        _draw_frame(canvas, rectangle, style)
        if box.fabric is not None:
            _draw_fabric(canvas, box.fabric, rectangle, drawing, style)
            continue
        lines = box_text(box, drawing.sizes)
        if box.cells:
            lines += ["", *_cells(box.cells, style)]
        top = rectangle.y + (rectangle.height - len(lines)) // 2
        for number, line in enumerate(lines):
            _write(canvas, rectangle.x + 1, top + number, line.center(rectangle.width - 2))
    for route in drawing.routes:
        _leave(canvas, drawing, route, style)
    picture = ["".join(row).rstrip() for row in canvas]
    below = _below(drawing, style)
    words = [part for line in below for part in textwrap.wrap(line, LINE, subsequent_indent="    ") or [line]]
    return "\n".join([*_heading(drawing), "", *picture, *([""] if words else []), *words]) + "\n"


def _heading(drawing: Drawing) -> list[str]:
    return [
        part for line in (drawing.scene.title, *drawing.scene.notes) for part in textwrap.wrap(line, LINE)
    ]


def _below(drawing: Drawing, style: Style) -> list[str]:
    """The meaning of line styles, and whatever the drawing has no room for."""
    scene = drawing.scene
    media = dict.fromkeys(wire.medium for wire in scene.wires)
    lines = [f"{style.lines[medium]['EW'] * 3} {MEDIA[medium]}" for medium in MEDIA if medium in media]
    if lines and len("   ".join(lines)) <= LINE:
        lines = ["   ".join(lines)]
    if any(share is not None for box in scene.boxes for share in box.cells):
        lines.append(f"tiles: busy {style.shades[0]} 0 % ... {style.shades[-1]} 100 % of the time")
    for fabric in (box.fabric for box in scene.boxes if box.fabric is not None):
        for strand in (strand for strand in fabric.strands if course(fabric, strand) is None):
            ends = [fabric.cells[n].router for n in (strand.first, strand.second)]
            share = "" if strand.utilisation is None else f", busy {percent(strand.utilisation)}"
            lines.append(f"{' and '.join(ends) if strand.both else ' to '.join(ends)} are linked{share}")
        if drawing.sizes.letters:
            lines.append(", ".join(f"{letter} {group}" for group, letter in letters(fabric).items()))
    if drawing.sizes.narrow == NUMBERS:
        for number, wire in enumerate(scene.wires):
            ends = [", ".join(scene.boxes[n].title for n in side) for side in (wire.sources, wire.targets)]
            lines.append(f"({number + 1}) {' '.join(wire.label)}: {ends[0]} to {ends[1]}")
    return lines


def _write(canvas: list[list[str]], x: int, y: int, text: str) -> None:
    for place, character in enumerate(text):
        if character != " ":
            canvas[y][x + place] = character


def _draw_frame(canvas: list[list[str]], r: Rectangle, style: Style) -> None:
    line = style.lines[FRAME]
    for y in range(r.y, r.bottom + 1):
        for x in range(r.x, r.right + 1):
            across, down = y in (r.y, r.bottom), x in (r.x, r.right)
            if across and down:
                sides = ("E" if x == r.x else "") + ("N" if y == r.bottom else "S")
                canvas[y][x] = line[sides + ("W" if x == r.right else "")]
            else:
                canvas[y][x] = line["EW"] if across else line["NS"] if down else " "


def _cells(shares: tuple[float | None, ...], style: Style) -> list[str]:
    columns, _ = cell_grid(len(shares))
    marks = [
        style.shades[-1] if share is None else style.shades[round(share * (len(style.shades) - 1))]
        for share in shares
    ]
    return [" ".join(marks[n : n + columns]).ljust(2 * columns - 1) for n in range(0, len(marks), columns)]


def _draw_wire(canvas: list[list[str]], drawing: Drawing, route: Route, style: Style) -> None:
    """Lines of one wire. Where another wire is crossed, the one across is on top."""
    line = style.lines[drawing.scene.wires[route.wire].medium]
    open_sides: dict[tuple[int, int], set[str]] = {}
    for part in route.segments:
        for x in range(part.x1, part.x2 + 1):
            for y in range(part.y1, part.y2 + 1):
                sides = open_sides.setdefault((x, y), set())
                sides |= {"W"} if x > part.x1 else set()
                sides |= {"E"} if x < part.x2 else set()
                sides |= {"N"} if y > part.y1 else set()
                sides |= {"S"} if y < part.y2 else set()
    for tip in route.tips:
        open_sides[tip.x, tip.y].add("W" if tip.way < 0 else "E")
    for (x, y), sides in open_sides.items():
        crossed = canvas[y][x] != " "
        across = bool(sides & {"E", "W"})
        if not crossed or across:
            canvas[y][x] = line.get("".join(sorted(sides)), line["EW" if across else "NS"])


def _leave(canvas: list[list[str]], drawing: Drawing, route: Route, style: Style) -> None:
    """Arrowheads, the places where wires leave frames, and labels."""
    medium = drawing.scene.wires[route.wire].medium
    for tip in route.tips:
        if tip.arrow:
            canvas[tip.y][tip.x] = style.arrows[tip.way, 0]
        else:
            canvas[tip.y][tip.x + tip.way] = style.leaves[medium][0 if tip.way < 0 else 1]
    for number, words in enumerate(route.label):
        x = max(0, round(route.label_x - (len(words) - 1) / 2))
        _write(canvas, x, route.label_y - len(route.label) + 1 + number, words)


def _draw_fabric(
    canvas: list[list[str]], fabric: Fabric, frame: Rectangle, drawing: Drawing, style: Style
) -> None:
    for number, words in enumerate(fabric_heading(fabric)):
        _write(canvas, frame.x + 2, frame.y + 1 + number, words)
    frames = [cell_frame(fabric, cell, frame, drawing) for cell in fabric.cells]
    for strand in fabric.strands:
        _draw_strand(canvas, fabric, strand, frames, style)
    for cell, own in zip(fabric.cells, frames, strict=True):
        _draw_frame(canvas, own, style)
        for number, words in enumerate(cell_text(fabric, cell, drawing.sizes)):
            _write(canvas, own.x + 1, own.y + 1 + number, words)


def _draw_strand(
    canvas: list[list[str]], fabric: Fabric, strand: Strand, frames: list[Rectangle], style: Style
) -> None:
    """A line between two cells; one that other cells are in the way of is told in words."""
    places = course(fabric, strand)
    if places is None:
        return
    line = style.lines[FRAME]
    cells, (start, end) = strand_cells(places, frames[strand.first], frames[strand.second])
    for before, (x, y), after in zip([None, *cells], cells, [*cells[1:], None], strict=False):
        sides = {_side((x, y), other) for other in (before, after) if other is not None}
        sides |= {_side(other, (x, y)) for other in (before, after) if other is not None and len(sides) == 1}
        canvas[y][x] = line.get("".join(sorted(sides)), line["EW" if sides & {"E", "W"} else "NS"])
    for (x, y), way in ((cells[-1], end), *(((cells[0], start),) if strand.both else ())):
        canvas[y][x] = style.arrows[way]
    share = "" if strand.utilisation is None else percent(strand.utilisation).replace(" ", "")
    (x, y), across = min(cells), cells[0][1] == cells[-1][1]
    if not across:
        _write(canvas, x + 2, min(y for _, y in cells), share)
    elif len(share) <= len(cells):
        _write(canvas, x, y - 1, share)


def _side(here: tuple[int, int], there: tuple[int, int]) -> str:
    if here[1] == there[1]:
        return "E" if there[0] > here[0] else "W"
    return "S" if there[1] > here[1] else "N"


def strand_cells(
    places: list[tuple[int, int]], first: Rectangle, second: Rectangle
) -> tuple[list[tuple[int, int]], tuple[tuple[int, int], tuple[int, int]]]:
    """Cells of the canvas between two frames, and the ways (x, y) towards the first and the second frame."""
    middles = [(frame.x + frame.width // 2, frame.y + frame.height // 2) for frame in (first, second)]
    turns = [middles[0], *([_corner(places, middles)] if len(places) == 3 else []), middles[1]]
    cells: list[tuple[int, int]] = []
    for (x1, y1), (x2, y2) in pairwise(turns):
        for step in range(max(abs(x2 - x1), abs(y2 - y1)) + 1):
            cell = (x1 + step * ((x2 > x1) - (x2 < x1)), y1 + step * ((y2 > y1) - (y2 < y1)))
            if cell not in cells[-1:]:
                cells.append(cell)
    free = [cell for cell in cells if not any(_within(cell, frame) for frame in (first, second))]
    ways = []
    for inner, outer in (
        (cells[cells.index(free[0]) - 1], free[0]),
        (cells[cells.index(free[-1]) + 1], free[-1]),
    ):
        ways.append((inner[0] - outer[0], inner[1] - outer[1]))
    return free, (ways[0], ways[1])


def _corner(places: list[tuple[int, int]], middles: list[tuple[int, int]]) -> tuple[int, int]:
    down_first = places[0][0] == places[1][0]
    return (middles[0][0], middles[1][1]) if down_first else (middles[1][0], middles[0][1])


def _within(cell: tuple[int, int], frame: Rectangle) -> bool:
    return frame.x <= cell[0] <= frame.right and frame.y <= cell[1] <= frame.bottom
