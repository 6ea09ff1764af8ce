"""One frame of the view: a snapshot as lines of text that fit a terminal.

By importance: heading and progress, bandwidth and widths, a line a component, links by use, then as many of
the last events as the height leaves room for. Terminals from 120 columns on show widths and DRAM time as
charts beside the components. Every frame of one terminal size has the same height.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.text import Text

from dpred_sim.observe.groups import Group, fold, state_style, state_text, waits_text
from dpred_sim.observe.history import History
from dpred_sim.observe.panels import (
    chart_lines,
    event_lines,
    heading_lines,
    help_lines,
    key_line,
    loss_line,
    progress_lines,
    traffic_lines,
    widths_line,
)
from dpred_sim.observe.pen import DIM, Pen, Size, beside
from dpred_sim.observe.status import Heading, Status
from dpred_sim.simulation.snapshot import Snapshot
from dpred_sim.units import format_bytes

LEAST_EVENTS = 3
"""Events shown before components are left out."""
WIDE = 120
"""Columns from which on charts stand beside the components."""
CHART = 42
"""Columns of the charts."""


@dataclass(slots=True)
class Look:
    """What the person who looks has chosen."""

    selected: str | None = None
    """Name of a group."""
    expanded: set[str] = field(default_factory=set)
    help: bool = False


class Frames:
    """Makes frames; remembers what it has seen to tell what moved since."""

    def __init__(self, heading: Heading) -> None:
        self.heading = heading
        self.look = Look()
        self.groups: list[Group] = []
        """Of the last frame, in the order shown."""
        self._history = History()

    def frame(self, snapshot: Snapshot, status: Status, size: Size) -> Text:
        """Lines of exactly `size.width` characters, `size.height` of them."""
        pen = Pen(size)
        self.groups = fold(snapshot.components)
        self._remember(snapshot)
        lines = self._lines(pen, snapshot, status)
        lines = lines[: size.height] + [pen.line()] * (size.height - len(lines))
        if status.keys and size.height > 6:
            lines[-1] = key_line(pen, status)
        return Text("\n", no_wrap=True, overflow="crop", end="").join(lines)

    @property
    def chosen(self) -> tuple[str, ...]:
        """Names of the selected components."""
        return tuple(
            member.name
            for group in self.groups
            if group.name == self.look.selected
            for member in group.members
        )

    def key(self, key: str) -> bool:
        """Choose and expand components, open and close the help; False for any other key."""
        look, names = self.look, [group.name for group in self.groups]
        if key in ("?", "h"):
            look.help = not look.help
        elif key == "escape":
            look.help, look.selected = False, None
        elif key in ("up", "k", "down", "j") and names:
            step = 1 if key in ("down", "j") else -1
            place = names.index(look.selected) + step if look.selected in names else 0
            look.selected = names[place % len(names)]
        elif key == "enter" and names:
            if look.selected not in names:
                look.selected = next((g.name for g in self.groups if g.kind == "tile"), names[0])
            look.expanded ^= {look.selected}
        else:
            return False
        return True

    def _lines(self, pen: Pen, snapshot: Snapshot, status: Status) -> list[Text]:
        size = pen.size
        rows = size.height - (1 if status.keys else 0)
        wide = size.width >= WIDE and rows >= 30
        lines = [
            *heading_lines(pen, self.heading, status),
            *progress_lines(pen, snapshot, status),
            *traffic_lines(pen, snapshot, self._history),
        ]
        if not wide:
            lines += [loss_line(pen, snapshot), widths_line(pen, snapshot)]
        room = rows - len(lines)
        if self.look.help:
            return lines + help_lines(pen, status, room)
        if room <= 0:
            return lines
        least = min(LEAST_EVENTS + 1, room // 3)
        table = self._table(pen, snapshot, room - least, size.width - (CHART + 2 if wide else 0))
        if wide:
            charts = [
                pen.line(("  ", ""), width=2).append_text(line) for line in chart_lines(pen, snapshot, CHART)
            ]
            table = beside(table, charts[: room - least], pen, size.width - CHART - 2)
        lines += table
        return lines + event_lines(pen, snapshot.events, rows - len(lines), status.following)

    def _remember(self, snapshot: Snapshot) -> None:
        time_ps = snapshot.time_ps
        # A buffer's level is no sum; made one, its growth is the mean level.
        sums = {group.name: group.share * time_ps for group in self.groups if group.level_bits is None}
        last = self._history.last
        for group in self.groups:
            if group.level_bits is not None:
                before_ps, before = last(group.name, time_ps)
                sums[group.name] = before + group.share * (time_ps - before_ps)
        sums["offchip"] = float(snapshot.offchip_bytes)
        self._history.add(time_ps, sums)

    # components

    def _table(self, pen: Pen, snapshot: Snapshot, rows: int, width: int) -> list[Text]:
        """Components, then links by use, in at most so many rows of `width` characters."""
        if rows < 2:
            return []
        links = [group for group in self.groups if group.is_link]
        parts = [group for group in self.groups if not group.is_link]
        columns = _Columns.for_width(width, [*parts, *links])
        shown = [self._rows(pen, group, columns, snapshot.time_ps) for group in parts]
        # One row a link where there is room for at least three, else all of them in one row.
        free = rows - 1 - sum(len(block) for block in shown)
        blocks = shown
        tail: list[Text] = []
        if links and (free >= min(3, len(links)) + 1 or self.look.selected in {g.name for g in links}):
            blocks = shown + [self._rows(pen, group, columns, snapshot.time_ps) for group in links]
        elif links:
            tail = [_links_line(pen, links, width)]
        lines = [pen.line((columns.header(pen), "underline"), width=width)]
        return lines + self._fit(pen, blocks, rows - 1 - len(tail), width) + tail

    def _fit(self, pen: Pen, blocks: Sequence[list[Text]], rows: int, width: int) -> list[Text]:
        """The rows that fit, around the selected component; the last one says how many do not."""
        lines = [line for block in blocks for line in block]
        if len(lines) <= rows:
            return lines
        names = [group.name for group in self.groups]
        selected = names.index(self.look.selected) if self.look.selected in names else 0
        before = sum(len(block) for block in blocks[:selected])
        height = len(blocks[selected]) if selected < len(blocks) else 1
        rows -= 1
        first = max(0, min(before, before + height - rows)) if before + height > rows else 0
        first = min(first, max(0, len(lines) - rows))
        hidden = len(lines) - max(0, rows)
        return [
            *lines[first : first + max(0, rows)],
            pen.line((f"{pen.dots} {hidden} more rows", DIM), width=width),
        ]

    def _rows(self, pen: Pen, group: Group, columns: _Columns, time_ps: int) -> list[Text]:
        """A group's row, and what it is made of when it is expanded."""
        style = "reverse" if group.name == self.look.selected else ""
        colour = "blue" if group.level_bits is not None else "cyan" if group.is_link else "green"
        spark = pen.spark(self._history.rates(group.name, columns.spark))
        if group.in_flight_bytes is None:
            use = [
                *pen.bar(group.share, columns.bar, colour),
                (f"{group.share:5.0%} ", colour),
                (spark, colour),
            ]
        else:
            # Engines are no resource of their own: what counts is what they moved, and what kept them.
            moved = format_bytes(sum(member.bits_moved for member in group.members) / 8)
            share = group.waits_ps["room"] / max(1, time_ps)
            use = [(f"{moved} moved" + (f", {share:.0%} of the time no room" if share >= 0.005 else ""), DIM)]
        line = pen.line(
            (pen.cell(group.name, columns.name), style or ""),
            (" ", ""),
            (pen.cell(state_text(group), columns.state) + " ", state_style(group)),
            *use,
            width=columns.width,
        )
        if group.name not in self.look.expanded:
            return [line]
        return [line, *_members(pen, group, columns, time_ps)]


@dataclass(frozen=True, slots=True)
class _Columns:
    """Widths of the table's columns."""

    width: int
    name: int
    state: int
    bar: int
    spark: int

    @classmethod
    def for_width(cls, width: int, groups: Sequence[Group]) -> _Columns:
        longest = max((len(group.name) for group in groups), default=9)
        name = max(9, min(longest, 26, width // 4))
        state = max(8, min(36, (width - name) // 2 - 4))
        rest = max(0, width - name - state - 8)
        bar = max(4, rest // 3)
        return cls(width, name, state, bar, max(0, rest - bar))

    def header(self, pen: Pen) -> str:
        use = "busy, or full".ljust(self.bar + 7)
        return (
            f"{'component':<{self.name}} {'state':<{self.state}} {use}{'over time' if self.spark > 8 else ''}"
        )


def _members(pen: Pen, group: Group, columns: _Columns, time_ps: int) -> list[Text]:
    """Where a group's time went, and each of its members."""
    lines = []
    waits = waits_text(group, time_ps)
    if group.level_bits is None:
        text = f"busy {group.busy_fraction:.0%}" if group.in_flight_bytes is None else ""
        if waits:
            text += ("; " if text else "") + f"waited for {waits}"
        moved = sum(member.bits_moved for member in group.members)
        if moved:
            text += ("; " if text else "") + f"{format_bytes(moved / 8)} moved"
        lines.append(pen.line(("  " + text, ""), width=columns.width))
    if len(group.members) == 1:
        return lines
    longest = max(len(member.name) for member in group.members)
    cell = longest + 14
    across = max(1, (columns.width - 2) // cell)
    for first in range(0, len(group.members), across):
        parts = [("  ", "")]
        for member in group.members[first : first + across]:
            style = state_style(Group(member.name, group.kind, (member,)))
            parts.append((f"{member.name:<{longest}} ", style))
            level, capacity = member.level_bits, member.capacity_bits
            share = level / capacity if level is not None and capacity else member.busy_fraction
            parts += [*pen.bar(share, 6, "green"), (f"{share:5.0%}  ", "")]
        lines.append(pen.line(*parts, width=columns.width))
    return lines


def _links_line(pen: Pen, links: Sequence[Group], width: int) -> Text:
    """All links in one row, the busiest first."""
    parts = [("links  ", "bold")]
    for group in links:
        parts += [(f"{group.name} ", ""), (f"{group.busy_fraction:.0%}", "cyan"), ("  ", "")]
    return pen.line(*parts, width=width)
