"""A comparison of designs as text: a table, and comma-separated values."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from dpred_sim.explore.design_points import KINDS, DesignComparison, DesignPoint, Kind, Summary
from dpred_sim.observe.tables import Column, text_table, wrapped

if TYPE_CHECKING:
    from collections.abc import Sequence

HEADS: dict[Kind, str] = {"conv": "conv", "depthwise": "dw", "fc": "fc", "recurrent": "rnn", "matmul": "mm"}
FIELDS = (
    *("design", "configuration", "peak_macs_per_cycle", "measured_peak_macs_per_cycle", "unequal"),
    *("scope", "name", "kind", "macs", "baseline_cycles", "cycles", "speedup"),
    *("ideal_cycles", "ideal_speedup", "refused"),
)
WIDTH = 80
PARTS = ("the ideal of each kind of layer", "cycles", "the ideal of the whole")
"""What a table goes without where it is too wide, in this order."""
KILO = 1_000_000
"""Cycles from which on they are counted in thousands."""


def design_table(comparison: DesignComparison, width: int | None = WIDTH) -> str:
    """Speed-up over the baseline of equal peak, by kind of layer and in total, with the ideal beside it.

    Where that is wider than `width`, it goes without some of `PARTS`.
    """
    lines, left_out = _table(comparison, 0), 0
    while width is not None and max(map(len, lines)) > width and left_out < len(PARTS):
        left_out += 1
        lines = _table(comparison, left_out)
    values = (
        f"SYNTHETIC values: {comparison.source}" if comparison.synthetic else f"values: {comparison.source}"
    )
    title = [
        f"{comparison.workload} on {len(comparison.points)} designs, {comparison.bits} bit, compute only"
    ]
    more = [f"in --json and --csv only: {', '.join(PARTS[:left_out])}"] if left_out else []
    return "\n".join(
        [*wrapped([*title, values], width), "", *lines, "", *wrapped([*notes(comparison), *more], width)]
    )


def _table(comparison: DesignComparison, left_out: int) -> list[str]:
    """The table without the first `left_out` of `PARTS`."""
    kinds = comparison.kinds()
    kilo = any(point.summary().cycles >= KILO for point in comparison.points)
    columns = [Column("design", left=True), Column("configuration", left=True), Column("peak", "MACs")]
    for kind in kinds:
        columns += [Column(HEADS[kind], "times"), Column("ideal", "times")][: 1 + (left_out < 1)]
    columns += [Column("all", "times"), Column("ideal", "times")][: 1 + (left_out < 3)]
    if left_out < 2:
        unit = "kcycles" if kilo else "cycles"
        columns += [Column("design", unit), Column("base", unit)]
    refusing = any(point.refusals() for point in comparison.points)
    unequal = any(point.unequal for point in comparison.points)
    columns += [Column("ref-", "used")] * refusing + [Column("unequal", left=True)] * unequal
    rows = []
    for point in comparison.points:
        row = [point.name, point.label, f"{point.measured_peak:.0f}"]
        for kind in kinds:
            row += _pair(point.summary(kind))[: 1 + (left_out < 1)]
        total = point.summary()
        row += _pair(total)[: 1 + (left_out < 3)]
        if left_out < 2:
            row += [_count(total.cycles, kilo), _count(total.baseline_cycles, kilo) if point.peak else "-"]
        row += [str(total.refused or "-")] * refusing + [" ".join(point.unequal)] * unequal
        rows.append(row)
    return text_table(columns, rows, gap="  " if len(kinds) == 1 else " ")


def _count(cycles: int, kilo: bool) -> str:
    return f"{cycles / 1000:,.0f}" if kilo else f"{cycles:,}"


def notes(comparison: DesignComparison) -> list[str]:
    """What the numbers mean, how the odd designs are normalised, and what was refused."""
    lines = [
        "times: cycles of the bit-parallel baseline of equal peak over those of the design, perfect memory",
        "peak: measured, multiply-accumulates a cycle",
        "auto: tiles of design and baseline split over windows and filters as suits each layer",
        "ideal: the same if each product cost its own work only (docs/designs.md)",
        ", ".join(f"{HEADS[kind]}: {KINDS[kind]}" for kind in comparison.kinds()),
    ]
    for point in comparison.points:
        if point.unequal:
            how = "; ".join(f"{key} {what}" for key, what in point.unequal.items())
            lines.append(f"UNEQUAL: {point.name}, {point.label}: {how}")
    if comparison.skipped:
        lines.append(f"{comparison.skipped} layers without products are left out")
    told: dict[str, list[str]] = {}
    for point in comparison.points:
        if point.note:
            told.setdefault(point.note, []).append(f"{point.name}, {point.label}")
    lines += [f"{'; '.join(names)}: {note}" for note, names in told.items()]
    for point in comparison.points:
        lines += [
            f"{point.name}, {point.label}, refuses {layer}: {reason}" for layer, reason in point.refusals()
        ]
    return lines


def design_csv(comparison: DesignComparison) -> str:
    """A line a design and layer (steps of a recurrence together), kind of layer, and total."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(FIELDS)
    for point in comparison.points:
        unequal = "; ".join(f"{key} {what}" for key, what in point.unequal.items()) or None
        own = [point.name, point.label, point.peak, round(point.measured_peak, 1), unequal]
        for layer in point.lines():
            alone = Summary(
                1, 0, layer.macs, layer.baseline_cycles or 0, layer.cycles or 0, layer.ideal_cycles
            )
            scope = ["layer", layer.layer, layer.kind]
            writer.writerow([*own, *scope, *_numbers(alone, layer.cycles is None), layer.refused])
        for kind in comparison.kinds():
            writer.writerow([*own, "kind", KINDS[kind], kind, *_of_summary(point, kind)])
        writer.writerow([*own, "total", "total", None, *_of_summary(point, None)])
    return text.getvalue()


def _of_summary(point: DesignPoint, kind: Kind | None) -> Sequence[object]:
    summary = point.summary(kind)
    refused = f"{summary.refused} of {summary.layers} layers" if summary.refused else None
    return [*_numbers(summary, summary.refused == summary.layers), refused]


def _numbers(summary: Summary, nothing: bool) -> list[object]:
    if nothing:
        return [summary.macs, None, None, None, None, None]
    ideal = None if summary.ideal_cycles is None else round(summary.ideal_cycles, 1)
    return [
        summary.macs,
        summary.baseline_cycles or None,
        summary.cycles,
        _rounded(summary.speedup),
        ideal,
        _rounded(summary.ideal_speedup),
    ]


def _rounded(ratio: float | None) -> float | None:
    return None if ratio is None else round(ratio, 4)


def _pair(summary: Summary) -> list[str]:
    return [_times(summary.speedup), _times(summary.ideal_speedup)]


def _times(ratio: float | None) -> str:
    if ratio is None:
        return "-"
    if ratio >= 0.1:
        return f"{ratio:.2f}"
    return f"{ratio:.3f}" if ratio >= 0.001 else f"{ratio:.1g}"
