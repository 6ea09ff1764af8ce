"""A comparison of designs as text: a table, and comma-separated values."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from dpred_sim.explore.design_points import KINDS, DesignComparison, DesignPoint, Kind, Summary
from dpred_sim.observe.tables import Column, text_table, wrapped

if TYPE_CHECKING:
    from collections.abc import Sequence

HEADS: dict[Kind, str] = {
    "conv": "conv",
    "depthwise": "depthwise",
    "fc": "fully conn.",
    "recurrent": "recurrent",
    "matmul": "matmul",
}
FIELDS = (
    *("design", "configuration", "peak_macs_per_cycle", "scope", "name", "kind", "macs"),
    *("baseline_cycles", "cycles", "speedup", "ideal_cycles", "ideal_speedup", "refused"),
)
WIDTH = 120


def design_table(comparison: DesignComparison, width: int | None = WIDTH) -> str:
    """Speed-up over the baseline of equal peak, by kind of layer and in total, with the ideal beside it.

    Where that is wider than `width`, kinds go without their ideals.
    """
    lines = _table(comparison, ideals=True)
    left_out = width is not None and max(map(len, lines)) > width
    if left_out:
        lines = _table(comparison, ideals=False)
    values = (
        f"SYNTHETIC values: {comparison.source}" if comparison.synthetic else f"values: {comparison.source}"
    )
    title = [
        f"{comparison.workload} on {len(comparison.points)} designs, {comparison.bits} bit, compute only"
    ]
    more = ["the ideal of each kind of layer is in --json and --csv"] if left_out else []
    return "\n".join(
        [*wrapped([*title, values], width), "", *lines, "", *wrapped([*notes(comparison), *more], width)]
    )


def _table(comparison: DesignComparison, *, ideals: bool) -> list[str]:
    kinds = comparison.kinds()
    columns = [Column("design", left=True), Column("configuration", left=True), Column("peak", "MAC/cyc")]
    for kind in kinds:
        columns += [Column(HEADS[kind], "times"), Column("ideal", "times")][: 1 + ideals]
    columns += [
        Column("all", "times"),
        Column("ideal", "times"),
        Column("design", "cycles"),
        Column("baseline", "cycles"),
    ]
    refusing = any(point.refusals() for point in comparison.points)
    if refusing:
        columns.append(Column("re-", "fused"))
    rows = []
    for point in comparison.points:
        row = [point.name, point.label, "-" if point.peak is None else f"{point.peak:,}"]
        for kind in kinds:
            row += _pair(point.summary(kind))[: 1 + ideals]
        total = point.summary()
        row += [*_pair(total), f"{total.cycles:,}", f"{total.baseline_cycles:,}" if point.peak else "-"]
        if refusing:
            row.append(str(total.refused or "-"))
        rows.append(row)
    return text_table(columns, rows, gap=" " if len(kinds) > 2 else "  ")


def notes(comparison: DesignComparison) -> list[str]:
    """What the numbers mean, how the odd designs are normalised, and what was refused."""
    lines = [
        "times: cycles of the bit-parallel baseline of equal peak over those of the design, perfect memory",
        "ideal: the same if each product cost its own work only (docs/designs.md)",
    ]
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
        own = [point.name, point.label, point.peak]
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
