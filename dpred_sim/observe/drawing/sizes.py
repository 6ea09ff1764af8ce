"""How large labels and boxes are, from wide to narrow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, isqrt, sqrt
from string import ascii_letters, digits

from dpred_sim.observe.drawing.networks import Cell, Fabric
from dpred_sim.observe.drawing.scene import Box

FRAME = 2
"""Rows, and columns, that the frame of a box takes."""
SPLIT, NUMBERS = 1, 2


@dataclass(frozen=True, slots=True)
class Sizes:
    """`narrow` 0: labels on one line; 1: a word a line; 2: numbers, explained below the drawing.

    Words in boxes are cut into lines of `text` characters at most, cells of networks are `cell` wide, and
    with `letters` show one letter a component.
    """

    narrow: int
    text: int
    cell: int
    letters: bool = False

    @staticmethod
    def from_wide_to_narrow() -> Iterator[Sizes]:
        """What to try one after the other."""
        yield Sizes(0, 16, 14)
        yield Sizes(SPLIT, 16, 12)
        yield Sizes(SPLIT, 13, 10)
        yield Sizes(SPLIT, 11, 10)
        yield Sizes(NUMBERS, 13, 8)
        yield Sizes(NUMBERS, 9, 6)
        yield Sizes(NUMBERS, 7, 3, letters=True)

    def label(self, number: int, words: tuple[str, ...]) -> tuple[str, ...]:
        """The label of a wire as lines."""
        if self.narrow == 0:
            joined = " ".join(words[:-1]) if words[-1].endswith("%") else " ".join(words)
            return (joined, words[-1]) if words[-1].endswith("%") else (joined,)
        return words if self.narrow == SPLIT else (f"({number + 1})",)

    @property
    def cell_gap(self) -> int:
        """Columns between the cells of a network."""
        return 2 if self.letters or self.cell < 8 else 4


def wrapped(words: str, width: int) -> list[str]:
    """Text in lines of a width, cut behind underscores where a word is too long, else anywhere."""
    lines: list[str] = []
    for word in words.split(" "):
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
            continue
        while len(word) > width:
            cut = word.rfind("_", 0, width) + 1 or width
            lines.append(word[:cut])
            word = word[cut:]
        lines.append(word)
    return lines


def box_text(box: Box, sizes: Sizes) -> list[str]:
    """Title and lines of a box, as they stand in it."""
    return [part for words in (box.title, *box.lines) for part in wrapped(words, sizes.text)]


def cell_grid(count: int) -> tuple[int, int]:
    """Columns and rows in which a box shows its instances."""
    columns = isqrt(count)
    while count % columns:
        columns -= 1
    if columns < sqrt(count) / 2:  # no square to speak of: the last row stays short
        columns = ceil(sqrt(count))
    return columns, ceil(count / columns)


def box_size(box: Box, sizes: Sizes) -> tuple[int, int]:
    """Width and height of a box with its frame."""
    if box.fabric is not None:
        return fabric_size(box.fabric, sizes)
    text = box_text(box, sizes)
    width, height = max(map(len, text)), len(text)
    if box.cells:
        columns, rows = cell_grid(len(box.cells))
        width, height = max(width, 2 * columns - 1), height + rows + 1
    return width + FRAME, height + FRAME


def cell_text(fabric: Fabric, cell: Cell, sizes: Sizes) -> list[str]:
    """What stands in one cell of a network."""
    if sizes.letters:
        return [letters(fabric)[_shown(cell)]]
    lines = [cell.router]
    if len(cell.attached) > 2:
        lines += [cell.attached[0], f"to {cell.attached[-1]}"]
    else:
        lines += cell.attached
    return [part for words in lines for part in wrapped(words, sizes.cell)]


def letters(fabric: Fabric) -> dict[str, str]:
    """A letter for each group of components of a network, in their order: the first that is free."""
    found: dict[str, str] = {}
    for group in dict.fromkeys(_shown(cell) for cell in fabric.cells):
        wanted = [*group.upper(), *group, *ascii_letters, *digits]
        found[group] = next((c for c in wanted if c.isalnum() and c not in found.values()), "?")
    return found


def _shown(cell: Cell) -> str:
    """Group of the component that a letter stands for."""
    return (cell.attached or (cell.router,))[0].partition(".")[0]


def cell_size(fabric: Fabric, sizes: Sizes) -> tuple[int, int]:
    """Width and height of every cell of a network with its frame."""
    texts = [cell_text(fabric, cell, sizes) for cell in fabric.cells]
    return max(len(line) for text in texts for line in text) + FRAME, max(map(len, texts)) + FRAME


def fabric_heading(fabric: Fabric) -> list[str]:
    """Lines above the cells of a network."""
    return [fabric.title, *fabric.lines]


def fabric_size(fabric: Fabric, sizes: Sizes) -> tuple[int, int]:
    """Width and height of a network with its frame and heading."""
    wide, tall = cell_size(fabric, sizes)
    columns = max(cell.column for cell in fabric.cells) + 1
    rows = max(cell.row for cell in fabric.cells) + 1
    width = columns * wide + (columns - 1) * sizes.cell_gap
    heading = fabric_heading(fabric)
    return (
        max(width, *map(len, heading)) + FRAME + 2,
        rows * tall + (rows - 1) * 2 + len(heading) + FRAME + 1,
    )


def cell_origin(fabric: Fabric, cell: Cell, sizes: Sizes) -> tuple[int, int]:
    """Where a cell's frame starts, from the upper left corner of the network's frame."""
    wide, tall = cell_size(fabric, sizes)
    top = 1 + len(fabric_heading(fabric))
    return 2 + cell.column * (wide + sizes.cell_gap), top + cell.row * (tall + 2)
