"""One frame of the live view: a snapshot as lines of text that fit a terminal.

Rows by importance: heading and progress, a line a component, bandwidth and widths, then as many of the
last transfers as the height leaves room for. Every frame of one terminal size has the same height.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from dpred_sim.observe.tables import short_name
from dpred_sim.simulation.snapshot import ComponentState, Snapshot, Transfer
from dpred_sim.units import format_bytes

MAX_ROWS = 30
WINDOW = 4
"""Frames over which bandwidth is measured."""
LEAST_TRACE = 3
"""Transfers shown before components are left out."""
_INSTANCE = re.compile(r"\.\d+(?=$|\.|->)")
_LINKS = ("point", "bus", "broadcast")
_PASSIVE = (*_LINKS, "dram_channel", "buffer")
"""Kinds that wait for nothing: somebody asks them, or nobody does."""

_WAITS = {
    "busy": "busy",
    "output": "waits for output room",
    "layer_barrier": "waits for next layer",
    "no_filters": "idle: no filters",
    "finished": "finished",
}


@dataclass(frozen=True, slots=True)
class Heading:
    """What is shown above all frames of a run."""

    workload: str
    source: str
    synthetic: bool
    topology: str
    bits: int


@dataclass(frozen=True, slots=True)
class Size:
    """What the terminal offers: characters a row, rows, and whether it shows only ASCII."""

    width: int
    height: int
    ascii_only: bool = False

    @property
    def rows(self) -> int:
        """Rows that a frame takes: the last row of the terminal stays free, so nothing scrolls."""
        return max(1, min(self.height - 1, MAX_ROWS))


@dataclass(frozen=True, slots=True)
class Group:
    """Identical instances as one line."""

    name: str
    kind: str
    states: Counter[str]
    busy_fraction: float
    level_bits: int | None
    capacity_bits: int | None


class Frames:
    """Makes frames; remembers the last few snapshots to tell what moved since."""

    def __init__(self, heading: Heading) -> None:
        self.heading = heading
        self._seen: deque[tuple[int, int]] = deque([(0, 0)], maxlen=WINDOW + 1)

    def frame(self, snapshot: Snapshot, elapsed_s: float, size: Size) -> Text:
        """Lines of at most `size.width` characters, `size.rows` of them."""
        bandwidth = self._bandwidth(snapshot)
        pen = _Pen(size)
        head = [
            *_heading_lines(pen, self.heading),
            *_progress_lines(pen, snapshot, elapsed_s),
            *_traffic_lines(pen, snapshot, bandwidth),
        ]
        groups = fold(snapshot.components)
        room = size.rows - len(head) - 2
        lines = head
        if room > 0:
            shown = _fit(groups, room - min(LEAST_TRACE, room // 3))
            lines += _component_lines(pen, shown, len(groups) - len(shown))
            lines += _trace_lines(pen, snapshot.recent, size.rows - len(lines))
        lines = lines[: size.rows]
        lines += [pen.line()] * (size.rows - len(lines))
        return Text("\n", no_wrap=True, overflow="crop", end="").join(lines)

    def _bandwidth(self, snapshot: Snapshot) -> float:
        """Bytes a second of simulated time that moved since a few frames ago.

        Requests count when they complete, so a short window can seem faster than the memory is.
        """
        if snapshot.time_ps > self._seen[-1][0]:
            self._seen.append((snapshot.time_ps, snapshot.offchip_bytes))
        (start_ps, start_bytes), (end_ps, end_bytes) = self._seen[0], self._seen[-1]
        if end_ps == start_ps:
            return 0.0
        return min((end_bytes - start_bytes) * 1e12 / (end_ps - start_ps), snapshot.peak_bytes_per_second)


def fold(components: Sequence[ComponentState]) -> list[Group]:
    """Instances that differ only in their numbers as one group each; links come last."""
    members: dict[tuple[str, str], list[ComponentState]] = {}
    for component in components:
        members.setdefault((_INSTANCE.sub("[*]", component.name), component.kind), []).append(component)
    groups = []
    for (pattern, kind), found in members.items():
        levels = [c.level_bits for c in found if c.level_bits is not None]
        capacities = [c.capacity_bits for c in found if c.capacity_bits is not None]
        groups.append(
            Group(
                name=found[0].name if len(found) == 1 else f"{pattern} x{len(found)}",
                kind=kind,
                states=Counter(c.state for c in found),
                busy_fraction=sum(c.busy_fraction for c in found) / len(found),
                level_bits=sum(levels) if levels else None,
                capacity_bits=sum(capacities) if capacities else None,
            )
        )
    return sorted(groups, key=lambda group: group.kind in _LINKS)


def state_text(states: Counter[str], kind: str = "tile") -> str:
    """`busy`, `waits for weights`, or for several instances `12 busy, 4 wait for weights`."""
    ordered = sorted(states.items(), key=lambda item: (-item[1], item[0]))
    if len(ordered) == 1:
        return _state(ordered[0][0], kind)
    texts = [(count, _state(state, kind)) for state, count in ordered]
    return ", ".join(
        f"{count} {text.replace('waits', 'wait') if count > 1 else text}" for count, text in texts
    )


def _state(state: str, kind: str) -> str:
    if kind in _PASSIVE and state not in ("busy", "finished"):
        return "idle"
    return _WAITS.get(state, f"waits for {state.replace('_', ' ')}")


def _fit(groups: list[Group], rows: int) -> list[Group]:
    """The groups that fit in so many rows; when some do not, one row says how many."""
    if len(groups) <= rows:
        return groups
    return groups[: max(0, rows - 1)]


class _Pen:
    """Makes lines that are never wider than the terminal."""

    def __init__(self, size: Size) -> None:
        self.size = size
        self.full, self.empty = ("#", ".") if size.ascii_only else ("━", "─")
        self.dots = "..." if size.ascii_only else "…"

    def line(self, *parts: tuple[str, str]) -> Text:
        """A line of (text, style) parts."""
        line = Text(no_wrap=True, overflow="crop", end="")
        for text, style in parts:
            line.append(_printable(text, self.size.ascii_only), style or None)
        line.truncate(self.size.width, overflow="crop" if self.size.ascii_only else "ellipsis")
        return line

    def cell(self, text: str, width: int) -> str:
        """Exactly `width` characters, cut with dots where needed."""
        if len(text) > width:
            text = text[: max(0, width - len(self.dots))] + self.dots[:width]
        return text.ljust(width)

    def bar(self, fraction: float, width: int, style: str) -> list[tuple[str, str]]:
        """A bar of `width` characters."""
        full = round(min(1.0, max(0.0, fraction)) * width)
        return [(self.full * full, style), (self.empty * (width - full), "bright_black")]


def _printable(text: str, ascii_only: bool) -> str:
    text = "".join(char if char.isprintable() else "?" for char in text)
    return text.encode("ascii", "replace").decode() if ascii_only else text


def _heading_lines(pen: _Pen, heading: Heading) -> list[Text]:
    label = "SYNTHETIC values: " if heading.synthetic else "values: "
    style = "bold yellow" if heading.synthetic else "green"
    return [
        pen.line(
            (heading.workload, "bold"),
            (" on ", ""),
            (heading.topology, "bold"),
            (f", {heading.bits} bit", ""),
        ),
        pen.line((label, style), (heading.source, "")),
    ]


def _progress_lines(pen: _Pen, snapshot: Snapshot, elapsed_s: float) -> list[Text]:
    done = 1.0 if snapshot.finished else _fraction(snapshot.work_done, snapshot.work_total)
    layers = snapshot.layers
    index = min(snapshot.layer_index, len(layers) - 1) if layers else 0
    left = "" if snapshot.finished else f", {_clock(_left(elapsed_s, done))} left"
    bar = max(6, min(30, pen.size.width - 50))
    lines = [
        pen.line(
            ("run    ", "bold"),
            *pen.bar(done, bar, "cyan"),
            (f" {done:4.0%}", "bold"),
            (f"  {_clock(elapsed_s)}{left}", ""),
            (f"  t = {_micro(snapshot.time_ps)}", "bright_black"),
        )
    ]
    if layers:
        layer = layers[index]
        name = short_name(layer.name, max(8, pen.size.width - bar - 29))
        lines.append(
            pen.line(
                ("layer  ", "bold"),
                *pen.bar(layer.done, bar, "cyan"),
                (f" {layer.done:4.0%}", "bold"),
                (f"  {index + 1} of {len(layers)}  ", ""),
                (name, "bold"),
            )
        )
    return lines


def _traffic_lines(pen: _Pen, snapshot: Snapshot, bandwidth: float) -> list[Text]:
    peak = snapshot.peak_bytes_per_second
    share = min(1.0, bandwidth / peak) if peak else 0.0
    bar = max(6, min(30, pen.size.width - 50))
    stored, raw = snapshot.offchip_bytes, snapshot.offchip_bytes_raw
    ratio = f" = {stored / raw:.3f}" if raw else ""
    widths = [
        f"{name} {mean:.2f}"
        for name, mean in (
            ("act.", snapshot.mean_width_activations),
            ("wgt.", snapshot.mean_width_weights),
        )
        if mean is not None
    ]
    moved = [(f"{format_bytes(stored)} stored of {format_bytes(raw)} raw", ""), (ratio, "bold green")]
    mean = [(f"{', '.join(widths)} bit" if widths else "-", "")]
    lines = [
        pen.line(
            ("DRAM   ", "bold"),
            *pen.bar(share, bar, "magenta"),
            (f" {share:4.0%}", "bold"),
            (f"  {bandwidth / 1e9:.1f} of {peak / 1e9:.1f} GB/s now", ""),
        )
    ]
    if pen.size.width < 90:
        return [
            *lines,
            pen.line(("bytes  ", "bold"), *moved),
            pen.line(("width  ", "bold"), *mean, (" mean now", "")),
        ]
    return [*lines, pen.line(("bytes  ", "bold"), *moved, ("   mean width now ", ""), *mean)]


def _component_lines(pen: _Pen, groups: Sequence[Group], left_out: int) -> list[Text]:
    width = pen.size.width
    longest = max((len(group.name) for group in groups), default=9)
    name_width = max(9, min(longest, 30, width // 3))
    bar = max(5, min(20, (width - name_width) // 4))
    state_width = max(8, min(40, width - name_width - bar - 8))
    header = f"{'component':<{name_width}} {'state':<{state_width}} busy so far, or full"
    lines = [pen.line((header, "underline"))]
    for group in groups:
        level, capacity = group.level_bits, group.capacity_bits
        if level is not None and capacity:
            text, style = f"holds {format_bytes(level / 8)} of {format_bytes(capacity / 8)}", ""
            share, colour = level / capacity, "blue"
        else:
            text, style = state_text(group.states, group.kind), _style(group)
            share, colour = group.busy_fraction, "green"
        lines.append(
            pen.line(
                (pen.cell(group.name, name_width) + " ", ""),
                (pen.cell(text, state_width) + " ", style),
                *pen.bar(share, bar, colour),
                (f"{share:5.0%}", colour),
            )
        )
    if left_out:
        lines.append(pen.line((f"and {left_out} more", "bright_black")))
    return lines


def _style(group: Group) -> str:
    state = group.states.most_common(1)[0][0]
    if state == "busy":
        return "green"
    waits = state not in ("finished", "no_filters") and group.kind not in _PASSIVE
    return "yellow" if waits else "bright_black"


def _trace_lines(pen: _Pen, transfers: Sequence[Transfer], rows: int) -> list[Text]:
    """The last transfers, the newest at the bottom."""
    if rows < 2:
        return []
    width = pen.size.width
    way = max(12, min(30, (width - 29) // 2))
    time, what, sizes = 14, 12, 16
    layer = width - time - way - what - sizes - 4
    columns = f"{'time':<{time}} {'from -> to':<{way}} {'what':<{what}} "
    columns += f"{'layer':<{layer}} " if layer >= 6 else ""
    lines = [pen.line((columns + "stored of raw", "underline"))]
    for transfer in transfers[-(rows - 1) :]:
        route = f"{transfer.source} -> {transfer.target}"
        named = short_name(transfer.layer, layer).ljust(layer) + " " if layer >= 6 else ""
        lines.append(
            pen.line(
                (pen.cell(_micro(transfer.time_ps), time) + " ", "bright_black"),
                (pen.cell(route, way) + " ", ""),
                (pen.cell(transfer.what.replace("_", " "), what) + " ", "magenta"),
                (named, ""),
                (f"{transfer.stored_bytes:,} of {transfer.raw_bytes:,} B", ""),
            )
        )
    return lines


def _micro(ps: int) -> str:
    """Simulated time to the nanosecond: transfers are tens of them apart."""
    return f"{ps / 1e6:,.3f} us"


def _fraction(done: float, total: float) -> float:
    return min(1.0, max(0.0, done / total)) if total else 0.0


def _left(elapsed_s: float, done: float) -> float | None:
    return elapsed_s * (1 - done) / done if done > 0.005 and elapsed_s > 0.2 else None


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return "-:--"
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
