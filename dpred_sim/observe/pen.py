"""The means to draw with: lines of styled text that fit a terminal, bars, sparklines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

Part = tuple[str, str]
"""Text and its style."""

DIM = "bright_black"
_BLOCKS = " ▁▂▃▄▅▆▇█"
_ASCII_BLOCKS = " .:-=+*%#"


@dataclass(frozen=True, slots=True)
class Size:
    """What the terminal offers: characters a row, rows, and whether it shows only ASCII."""

    width: int
    height: int
    ascii_only: bool = False


class Pen:
    """Makes lines that are exactly as wide as the terminal, so that each overwrites the one before."""

    def __init__(self, size: Size) -> None:
        self.size = size
        self.full, self.empty = ("#", ".") if size.ascii_only else ("━", "─")
        self.dots = "..." if size.ascii_only else "…"
        self.blocks = _ASCII_BLOCKS if size.ascii_only else _BLOCKS

    def line(self, *parts: Part, width: int | None = None) -> Text:
        """A line of parts, cut or filled to `width` (default: the terminal's)."""
        width = self.size.width if width is None else width
        line = Text(no_wrap=True, overflow="crop", end="")
        for text, style in parts:
            line.append(printable(text, self.size.ascii_only), style or None)
        line.truncate(width, overflow="crop" if self.size.ascii_only else "ellipsis", pad=True)
        return line

    def spread(self, left: Sequence[Part], right: Sequence[Part]) -> Text:
        """A line with something at both ends; what is on the right stays whole."""
        taken, wanted = (sum(len(text) for text, _ in parts) for parts in (right, left))
        if taken + min(wanted, 20) > self.size.width:
            return self.line(*left)
        line = self.line(*left, width=self.size.width - taken)
        line.append_text(self.line(*right, width=taken))
        return line

    def cell(self, text: str, width: int) -> str:
        """Exactly `width` characters, cut with dots where needed."""
        if len(text) > width:
            text = text[: max(0, width - len(self.dots))] + self.dots[:width]
        return text.ljust(width)

    def bar(self, fraction: float, width: int, style: str) -> list[Part]:
        """A bar of `width` characters."""
        full = round(min(1.0, max(0.0, fraction)) * width)
        return [(self.full * full, style), (self.empty * (width - full), DIM)]

    def spark(self, values: Sequence[float], top: float = 1.0) -> str:
        """A character for each value, as high as it is of `top`; what is not zero is always seen."""
        steps = len(self.blocks) - 1
        text = ""
        for value in values:
            level = round(min(1.0, max(0.0, value / top if top else 0.0)) * steps)
            text += self.blocks[max(level, 1) if value > 0 else 0]
        return text

    def columns(self, values: Sequence[float], rows: int, top: float) -> list[str]:
        """Columns `rows` characters high, the highest row first."""
        steps = len(self.blocks) - 1
        levels = [round(value / top * rows * steps) if top else 0 for value in values]
        levels = [max(level, 1) if value > 0 else 0 for level, value in zip(levels, values, strict=True)]
        return [
            "".join(self.blocks[min(steps, max(0, level - row * steps))] for level in levels)
            for row in reversed(range(rows))
        ]


def beside(left: Sequence[Text], right: Sequence[Text], pen: Pen, left_width: int) -> list[Text]:
    """Two blocks of lines side by side; `left` lines are `left_width` wide."""
    lines = []
    for place in range(max(len(left), len(right))):
        line = left[place].copy() if place < len(left) else pen.line(width=left_width)
        blank = pen.line(width=pen.size.width - left_width)
        lines.append(line.append_text(right[place] if place < len(right) else blank))
    return lines


def printable(text: str, ascii_only: bool) -> str:
    """Text without control characters, and without what the terminal cannot show."""
    text = "".join(char if char.isprintable() else "?" for char in text)
    return text.encode("ascii", "replace").decode() if ascii_only else text


def clock(seconds: float | None) -> str:
    """Wall time as 1:23 or 1:02:03; -:-- for unknown."""
    if seconds is None:
        return "-:--"
    hours, rest = divmod(round(seconds), 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
