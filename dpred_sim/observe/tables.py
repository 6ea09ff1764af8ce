"""Tables of results as plain text: right-aligned numbers, units in the headers, no terminal needed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from dpred_sim.observe.comparison import COMPUTES, MEMORIES, STORAGES, Comparison, Memory, Storage
from dpred_sim.simulation.result import LayerResult, RunResult, Traffic
from dpred_sim.units import format_time

GAP = "  "
BOUND_MOST = 10
NAME_LEAST = 10
"""Layer names are never cut below this many characters."""


@dataclass(frozen=True, slots=True)
class Column:
    """Two lines of header; numbers to the right, `left` for names."""

    head: str
    unit: str = ""
    left: bool = False


def text_table(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], totals: int = 0, gap: str = GAP
) -> list[str]:
    """Lines of a table; the last `totals` rows stand below a rule."""
    heads = [[column.head for column in columns], [column.unit for column in columns]]
    table = [*heads, *rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(columns))]

    def line(row: Sequence[str]) -> str:
        cells = (
            cell.ljust(width) if column.left else cell.rjust(width)
            for cell, width, column in zip(row, widths, columns, strict=True)
        )
        return gap.join(cells).rstrip()

    rule = "-" * (sum(widths) + len(gap) * (len(columns) - 1))
    body = [line(row) for row in rows]
    cut = len(body) - totals
    below = [rule, *body[cut:]] if totals else []
    head = [line(row) for row in heads if any(row)]
    return [*head, rule, *body[:cut], *below]


def run_title(result: RunResult) -> list[str]:
    """What ran on what, and where the values come from; synthetic values say so first."""
    values = f"SYNTHETIC values: {result.source}" if result.synthetic else f"values: {result.source}"
    title = (
        f"{result.workload} on {result.topology}, {result.bits} bit, batch {result.batch}, seed {result.seed}"
    )
    lines = [title, values]
    if not result.complete:
        lines.append("INCOMPLETE: the run was stopped; the numbers count what was done until then")
    return lines


def layer_table(result: RunResult, width: int | None = None) -> str:
    """The table of a run, a line a layer and the total; steps of one recurrence share a line.

    `width` is what the terminal offers: a table that is wider counts in kcycles and MiB, then cuts layer
    names in the middle. None means no limit.
    """
    lines = _layer_lines(result, kilo=False, name_width=40)
    if width is not None and _widest(lines) > width:
        lines = _layer_lines(result, kilo=True, name_width=40)
        excess = _widest(lines) - width
        if excess > 0:
            longest = max((len(short_name(layer.name, 40)) for layer in folded(result.layers)), default=0)
            lines = _layer_lines(result, kilo=True, name_width=max(NAME_LEAST, longest - excess))
    title, totals = wrapped(run_title(result), width), wrapped(totals_lines(result), width)
    return "\n".join([*title, "", *lines, "", *totals])


def _widest(lines: Sequence[str]) -> int:
    return max(len(line) for line in lines)


def _layer_lines(result: RunResult, *, kilo: bool, name_width: int) -> list[str]:
    cycles, size = ("kcycles", "MiB") if kilo else ("cycles", "KiB")
    columns = [
        Column("layer", left=True),
        Column("total", cycles),
        Column("compute", cycles),
        Column("stall", cycles),
        Column("bound by", left=True),
        Column("raw", size),
        Column("stored", size),
        Column("stored", "of raw"),
        Column("act.", "bit"),
        Column("wgt.", "bit"),
    ]
    rows = [_layer_row(layer, kilo=kilo, name_width=name_width) for layer in folded(result.layers)]
    return text_table(columns, [*rows, _total_row(result, kilo=kilo)], 1, " " if kilo else GAP)


def folded(layers: Sequence[LayerResult]) -> list[LayerResult]:
    """The layers, with the steps of each recurrence added up to one called "name[0..n]".

    Mean widths are weighted by multiply-accumulates; what limits most of the cycles limits them all.
    """
    lines: list[LayerResult] = []
    for (family, item), members in groupby(layers, key=lambda layer: (layer.family, layer.item)):
        steps = list(members)
        if not family or len(steps) == 1:
            lines += steps
            continue
        waits: dict[str, int] = {}
        traffic: dict[str, Traffic] = {}
        for step in steps:
            for reason, count in step.stall_cycles.items():
                waits[reason] = waits.get(reason, 0) + count
            for kind, moved in step.traffic.items():
                traffic[kind] = traffic.get(kind, Traffic()) + moved
        lines.append(
            replace(
                steps[0],
                name=f"{family}[0..{len(steps) - 1}]" + (f"#{item}" if item else ""),
                end_ps=steps[-1].end_ps,
                cycles=sum(step.cycles for step in steps),
                compute_cycles=sum(step.compute_cycles for step in steps),
                ideal_cycles=sum(step.ideal_cycles for step in steps),
                stall_cycles=waits,
                bound_by=_limits(steps)[0][0],
                macs=sum(step.macs for step in steps),
                passes=sum(step.passes for step in steps),
                traffic=traffic,
                mean_width_activations=_mean_by_macs([(s.mean_width_activations, s.macs) for s in steps]),
                mean_width_weights=_mean_by_macs([(s.mean_width_weights, s.macs) for s in steps]),
            )
        )
    return lines


def _layer_row(layer: LayerResult, *, kilo: bool, name_width: int) -> list[str]:
    raw, stored = layer.offchip_bytes_raw, layer.offchip_bytes
    return [
        short_name(layer.name, name_width),
        _cycles(layer.cycles, kilo),
        _cycles(layer.compute_cycles, kilo),
        _cycles(stall_cycles(layer), kilo),
        short_name(layer.bound_by, BOUND_MOST) if kilo else layer.bound_by,
        _size(raw, kilo),
        _size(stored, kilo),
        _ratio(stored, raw),
        _width(layer.mean_width_activations),
        _width(layer.mean_width_weights),
    ]


def _total_row(result: RunResult, *, kilo: bool) -> list[str]:
    layers = result.layers
    raw = sum(layer.offchip_bytes_raw for layer in layers)
    stored = sum(layer.offchip_bytes for layer in layers)
    limits = limits_by_cycles(result)
    return [
        f"total of {len(layers)}",
        _cycles(result.total_cycles, kilo),
        _cycles(sum(layer.compute_cycles for layer in layers), kilo),
        _cycles(sum(stall_cycles(layer) for layer in layers), kilo),
        (short_name(limits[0][0], BOUND_MOST) if kilo else limits[0][0]) if limits else "-",
        _size(raw, kilo),
        _size(stored, kilo),
        _ratio(stored, raw),
        _width(_mean_by_macs([(layer.mean_width_activations, layer.macs) for layer in layers])),
        _width(_mean_by_macs([(layer.mean_width_weights, layer.macs) for layer in layers])),
    ]


def totals_lines(result: RunResult) -> list[str]:
    """Time, bandwidth and the two traffic figures, which are never mixed."""
    lines = [
        f"time     {format_time(result.time_ps)}, {result.total_cycles:,} cycles at {_hertz(result.core_hz)}"
    ]
    system = result.traffic.get("system_traffic", {})
    moved = system.get("stored_bytes", 0)
    if result.time_ps and result.peak_bytes_per_second:
        achieved = moved * 1e12 / result.time_ps
        peak = result.peak_bytes_per_second
        lines.append(
            f"off-chip {achieved / 1e9:.1f} of {peak / 1e9:.1f} GB/s ({100 * achieved / peak:.0f} % of peak)"
        )
    meanings = {
        "system_traffic": "what the run moved",
        "paper_traffic": "weights, activations and outputs of every layer once",
    }
    for key, meaning in meanings.items():
        figure = result.traffic.get(key)
        if figure and "stored_bytes" in figure:
            stored, raw = figure["stored_bytes"], figure["raw_bytes"]
            share = f"{stored / 2**20:.2f} MiB of {raw / 2**20:.2f} MiB raw ({_ratio(stored, raw)})"
            lines.append(f"{key} {share}: {meaning}")
    lines.append("mean widths of the total are weighted by multiply-accumulates")
    return lines


def comparison_table(comparison: Comparison, width: int | None = None) -> str:
    """The 2 x 2 with real and ideal memory: convolutions apart from the whole network.

    `width` wraps the lines around the table.
    """
    sides: list[tuple[Storage, Memory]] = [(storage, memory) for storage in STORAGES for memory in MEMORIES]
    names = {"raw": "raw", "compressed": comparison.storage}
    columns = [Column("stored:", "memory:", left=True)]
    columns += [Column(names[storage], memory) for storage, memory in sides]
    topologies = {"baseline": comparison.baseline, "design": comparison.design}
    rows: list[list[str]] = []
    for what, conv in (("convolutions", True), ("whole network", False)):
        rows.append([f"{what}, cycles", *[""] * len(sides)])
        for compute in COMPUTES:
            cells = [comparison.cell(compute, storage, memory) for storage, memory in sides]
            numbers = [f"{(cell.conv_cycles if conv else cell.cycles):,}" for cell in cells]
            rows.append([f"  {topologies[compute]}", *numbers])
        rows.append([f"{what}, times as fast", *[""] * len(sides)])
        for compute in COMPUTES:
            ratios = [comparison.speedup(compute, storage, memory, conv=conv) for storage, memory in sides]
            rows.append([f"  {topologies[compute]}", *[_times(ratio) for ratio in ratios]])
    rows.append(["off-chip, MiB", *[""] * len(sides)])
    for compute in COMPUTES:
        cells = [comparison.cell(compute, storage, memory) for storage, memory in sides]
        rows.append([f"  {topologies[compute]}", *[f"{cell.offchip_bytes / 2**20:.2f}" for cell in cells]])
    title = f"{comparison.workload}: {comparison.design} against {comparison.baseline}, {comparison.bits} bit"
    if comparison.synthetic:
        title += ", SYNTHETIC values"
    note = f"times as fast: against {comparison.baseline} with raw storage on the same memory"
    notes = [note, *(f"warning: {line}" for line in comparison.warnings)]
    return "\n".join([title, "", *text_table(columns, rows), "", *wrapped(notes, width)])


def stall_cycles(layer: LayerResult) -> int:
    """Waits of the busiest cluster while the layer ran, all reasons together."""
    return sum(layer.stall_cycles.values())


def limits_by_cycles(result: RunResult) -> list[tuple[str, int, int]]:
    """(what limits, layers, cycles) by falling cycles."""
    return _limits(result.layers)


def _limits(layers: Sequence[LayerResult]) -> list[tuple[str, int, int]]:
    found: dict[str, list[int]] = {}
    for layer in layers:
        entry = found.setdefault(layer.bound_by, [0, 0])
        entry[0] += 1
        entry[1] += layer.cycles
    return sorted(
        ((name, layers, cycles) for name, (layers, cycles) in found.items()),
        key=lambda item: (-item[2], item[0]),
    )


def short_name(name: str, width: int) -> str:
    """A name of at most `width` characters.

    Words lose their last letters before numbers go, as numbers tell layers apart:
    `stage3_block1_branch2b` becomes `st3_bl1_br2b`. Where that is not enough the middle goes.
    """
    if len(name) <= width:
        return name
    for letters in range(8, 0, -1):
        shorter = re.sub(rf"([^\W\d_]{{{letters}}})[^\W\d_]+", r"\1", name)
        if len(shorter) <= width:
            return shorter
    head = max(0, (width - 2) // 3)
    return f"{name[:head]}..{name[len(name) - max(0, width - 2 - head) :]}"[:width]


def wrapped(lines: Sequence[str], width: int | None) -> list[str]:
    """Lines of text broken between words where they are wider than `width`."""
    if width is None or all(len(line) <= width for line in lines):
        return list(lines)
    import textwrap

    parts = [textwrap.wrap(line, max(20, width), break_long_words=False) or [""] for line in lines]
    return [part for found in parts for part in found]


def _mean_by_macs(pairs: Sequence[tuple[float | None, int]]) -> float | None:
    known = [(width, macs) for width, macs in pairs if width is not None and macs > 0]
    macs = sum(count for _, count in known)
    return sum(width * count for width, count in known) / macs if macs else None


def _cycles(count: int, kilo: bool) -> str:
    return f"{count / 1000:,.1f}" if kilo else f"{count:,}"


def _size(count: int, kilo: bool) -> str:
    return f"{count / 2**20:,.3f}" if kilo else f"{count / 1024:,.1f}"


def _ratio(stored: float, raw: float) -> str:
    return f"{stored / raw:.3f}" if raw else "-"


def _width(width: float | None) -> str:
    return "-" if width is None else f"{width:.2f}"


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}x"


def _hertz(hertz: int) -> str:
    return f"{hertz / 1e9:g} GHz" if hertz >= 10**9 else f"{hertz / 1e6:g} MHz"
