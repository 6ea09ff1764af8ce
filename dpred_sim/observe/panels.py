"""The parts of a frame that are not the table of components."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from dpred_sim.observe.events import event_text
from dpred_sim.observe.history import History
from dpred_sim.observe.pen import DIM, Pen, clock
from dpred_sim.observe.status import Heading, Status
from dpred_sim.observe.tables import short_name
from dpred_sim.simulation.snapshot import Event, LayerWidths, Snapshot
from dpred_sim.units import format_bytes, format_time

LABEL = 8
"""Columns of the labels on the left."""
WINDOW = 4
"""Looks over which bandwidth is measured."""
LOSSES = {
    "row_misses_ps": "row misses",
    "activate_windows_ps": "activate windows",
    "column_spacing_ps": "column spacing",
    "turns_ps": "turns",
    "refresh_ps": "refresh",
    "idle_ps": "idle",
}
"""Where the time of a data bus goes that moves no data."""
KEYS = (
    ("space", "pause, go on"),
    ("e p l", "step to the next event, pass, layer"),
    ("E P L", "step back to the event, pass, layer before"),
    ("n right", "next layer"),
    ("b left", "layer before"),
    ("+ -", "faster, slower"),
    ("0", "full speed"),
    ("up down", "choose a component"),
    ("enter", "expand it: where its time went, each instance"),
    ("f", "follow its events; again: those asked for at the start"),
    ("q", "leave the view; the run goes on to its end at full speed"),
    ("Ctrl-C", "stop the run; what is done so far is kept"),
    ("?", "close this help"),
)
BACK_ONLY = ("E P L", "b left")
"""Keys that need a record."""


def heading_lines(pen: Pen, heading: Heading, status: Status) -> list[Text]:
    """What runs, how it is played, and where its values come from."""
    label = "SYNTHETIC values: " if heading.synthetic else "values: "
    play, pause = (">", "||") if pen.size.ascii_only else ("▶", "⏸")
    state = [(f"{play} {status.speed}", "green")] if status.playing else [(f"{pause} paused", "bold yellow")]
    if status.back:
        state = [("replay  ", "bold cyan"), *state]
    return [
        pen.spread(
            [
                (heading.workload, "bold"),
                (" on ", ""),
                (heading.topology, "bold"),
                (f", {heading.bits} bit", ""),
            ],
            [*state, (" ", "")],
        ),
        pen.line((label, "bold yellow" if heading.synthetic else "green"), (heading.source, DIM)),
    ]


def progress_lines(pen: Pen, snapshot: Snapshot, status: Status) -> list[Text]:
    """How far the run and its layer are, by work done."""
    done = snapshot.work_done / snapshot.work_total if snapshot.work_total else 0.0
    layer = snapshot.layers[snapshot.layer_index]
    bar = max(4, min(30, pen.size.width // 4))
    count, index = len(snapshot.layers), snapshot.layer_index + 1
    left = "" if snapshot.finished else f", {clock(status.left_s)} left"
    return [
        pen.line(
            ("run".ljust(LABEL), "bold"),
            *pen.bar(done, bar, "cyan"),
            (f" {done:4.0%}", "bold"),
            (f"  {format_time(snapshot.time_ps)} simulated", ""),
            (f"  {clock(status.elapsed_s)}{left}", DIM),
        ),
        pen.line(
            ("layer".ljust(LABEL), "bold"),
            *pen.bar(layer.done, bar, "cyan"),
            (f" {layer.done:4.0%}", "bold"),
            (f"  {index} of {count}  ", ""),
            (short_name(layer.name, max(8, pen.size.width - bar - LABEL - 22)), ""),
        ),
    ]


def traffic_lines(pen: Pen, snapshot: Snapshot, history: History) -> list[Text]:
    """Bandwidth now and over time, and what was moved against the same values uncompressed."""
    peak = snapshot.peak_bytes_per_second
    now = min(history.last_rate("offchip", WINDOW) * 1e12, peak)
    share = now / peak if peak else 0.0
    bar = max(4, min(30, pen.size.width // 4))
    text = f"  {now / 1e9:.1f} of {peak / 1e9:.1f} GB/s now  "
    columns = max(0, min(40, pen.size.width - LABEL - bar - 5 - len(text)))
    rates = [rate * 1e12 for rate in history.rates("offchip", columns)]
    stored, raw = snapshot.offchip_bytes, snapshot.offchip_bytes_raw
    ratio = f" = {stored / raw:.3f}" if raw else ""
    return [
        pen.line(
            ("DRAM".ljust(LABEL), "bold"),
            *pen.bar(share, bar, "magenta"),
            (f" {share:4.0%}", "bold"),
            (text, ""),
            (pen.spark(rates, peak), "magenta"),
        ),
        pen.line(
            ("bytes".ljust(LABEL), "bold"),
            *pen.bar(stored / raw if raw else 0.0, bar, "green"),
            (f"  {format_bytes(stored)} stored of {format_bytes(raw)} raw", ""),
            (ratio, "bold green"),
        ),
    ]


def dram_shares(snapshot: Snapshot) -> list[tuple[str, float]]:
    """Shares of the data buses' time, what moves data first, then the largest loss."""
    total = max(1, sum(snapshot.dram_ps.values()))
    losses = [(text, snapshot.dram_ps.get(name, 0) / total) for name, text in LOSSES.items()]
    losses.sort(key=lambda pair: -pair[1])
    return [("data", snapshot.dram_ps.get("busy_ps", 0) / total), *losses]


def loss_line(pen: Pen, snapshot: Snapshot) -> Text:
    """Where the time of the data buses went so far, in one row."""
    parts = [(" " * LABEL, "")]
    for text, share in dram_shares(snapshot):
        if share >= 0.005 or text == "data":
            parts += [(f"{text} ", DIM), (f"{share:.0%}  ", "magenta" if text == "data" else "")]
    return pen.line(*parts)


def widths_line(pen: Pen, snapshot: Snapshot) -> Text:
    """Groups of the current layer by width, in one row: a column a width from 1 bit on."""
    parts = [("widths".ljust(LABEL), "bold")]
    for name, mean, counts in _width_rows(snapshot.widths):
        top = max(counts, default=0)
        parts += [
            (f"{name} ", DIM),
            (pen.spark(counts, top), "green"),
            (f" {mean:.2f} bit   " if mean is not None else " -   ", ""),
        ]
    return pen.line(*parts)


def _width_rows(widths: LayerWidths) -> list[tuple[str, float | None, tuple[int, ...]]]:
    """Name, mean and counts from 1 bit on, of what the layer has."""
    rows = [
        ("act.", widths.mean_activations, widths.activations[1:]),
        ("wgt.", widths.mean_weights, widths.weights[1:]),
    ]
    return [row for row in rows if row[1] is not None]


def chart_lines(pen: Pen, snapshot: Snapshot, width: int) -> list[Text]:
    """Widths and DRAM time as charts, `width` characters wide."""
    lines = []
    rows = _width_rows(snapshot.widths)
    half = width // 2
    lines.append(pen.line(("groups of 16 values by width in bit", "underline"), width=width))
    high = 5
    blocks = []
    for name, mean, counts in rows:
        top = max(counts, default=0)
        block = [
            pen.line((f"{name} mean {mean:.2f}" if mean is not None else name, "bold"), width=half),
            *(pen.line((text, "green"), width=half) for text in pen.columns(counts, high, top)),
            pen.line((_scale(len(counts)), DIM), width=half),
        ]
        blocks.append(block)
    for place in range(high + 2):
        line = Text(no_wrap=True, overflow="crop", end="")
        for block in blocks:
            line.append_text(block[place])
        line.append_text(pen.line(width=width - half * len(blocks)))
        lines.append(line)
    lines.append(pen.line(width=width))
    lines.append(pen.line(("time of the DRAM data buses", "underline"), width=width))
    for text, share in dram_shares(snapshot):
        if share >= 0.0005 or text == "data":
            colour = "magenta" if text == "data" else "yellow" if text != "idle" else DIM
            lines.append(
                pen.line(
                    (f"{text:<17}", ""),
                    *pen.bar(share, width - 24, colour),
                    (f"{share:6.1%}", ""),
                    width=width,
                )
            )
    return lines


def _scale(count: int) -> str:
    """Marks below the columns of widths 1 to `count`."""
    marks = ["1", *(str(width) if width % 4 == 0 else "" for width in range(2, count + 1))]
    text = ""
    for place, mark in enumerate(marks):
        if mark:
            text = text.ljust(place + 1 - len(mark) if place else 0)[: place + 1 - len(mark)] + mark
    return text


def event_lines(pen: Pen, events: Sequence[Event], rows: int, following: str) -> list[Text]:
    """The last events, the newest at the bottom."""
    if rows < 2:
        return []
    width = pen.size.width
    shown = events[-(rows - 1) :]
    name = max([10, *(len(event.component) for event in shown)])
    name = min(name, 26, max(10, width // 4))
    time = max([13 if width >= 100 else 10, *(len(_micro(event.end_ps)) for event in shown)])
    layer = max(0, min(26, width - time - name - 45))
    header = f"{'time':>{time}}  {'component':<{name}} " + (f"{'layer':<{layer}} " if layer > 5 else "")
    lines = [pen.spread([(header + "what", "underline")], [(f"{following} ", DIM)] if width >= 100 else [])]
    for event in shown:
        named = pen.cell(short_name(event.layer, layer), layer) + " " if layer > 5 else ""
        lines.append(
            pen.line(
                (f"{_micro(event.end_ps):>{time}}  ", DIM),
                (pen.cell(event.component, name) + " ", ""),
                (named, DIM),
                (event_text(event), "" if event.state == "busy" else "yellow"),
            )
        )
    return lines


def _micro(ps: int) -> str:
    """Simulated time to the nanosecond: events are tens of them apart."""
    return f"{ps / 1e6:,.3f} us"


def key_line(pen: Pen, status: Status) -> Text:
    """What can be pressed."""
    if status.note:
        return pen.line((" " + status.note, "bold"))
    play = "pause" if status.playing else "go on"
    wide = pen.size.width >= 100
    step = [("e", "event"), ("p", "pass"), ("l", "layer")] if wide else [("e p l", "step")]
    hints = [("space", play), *step, ("+ -", "speed"), ("n", "next layer" if wide else "next")]
    hints += [("b", "layer before" if wide else "back")] if status.back else []
    hints += [("enter", "expand"), *([("f", "follow")] if wide else []), ("?", "help"), ("q", "quit")]
    parts = [(" ", "")]
    for key, text in hints:
        parts += [(key, "bold"), (f" {text}  ", DIM)]
    return pen.line(*parts)


def help_lines(pen: Pen, status: Status, rows: int) -> list[Text]:
    """All keys."""
    lines = [pen.line(("keys", "underline"))]
    for key, text in KEYS:
        if key in BACK_ONLY and not status.back:
            continue
        if status.back and key in ("q", "Ctrl-C"):
            text = "quit"
        lines.append(pen.line((f"  {key:<9}", "bold"), (text, "")))
    return lines[:rows]
