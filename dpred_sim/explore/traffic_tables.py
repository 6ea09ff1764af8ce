"""Traffic as text: a table a workload, means over workloads, layers, and comma-separated values."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from dpred_sim.explore.traffic import DEFAULT_GROUP_SIZE, TOTAL, Traffic, arithmetic_mean, geometric_mean
from dpred_sim.observe.tables import Column, short_name, text_table, wrapped
from dpred_sim.simulation.paper_traffic import KINDS

WIDTH = 120
FIELDS = (
    *("workload", "bits", "values", "input", "layer", "kind", "codec", "group_size"),
    *("stored_bits", "raw_bits", "ratio"),
)


def traffic_table(traffic: Traffic, width: int | None = WIDTH) -> str:
    """A row a form: ratios of weights, activations, outputs and all, and how far inputs are apart."""
    spread = len(traffic.samples) > 1
    columns = [Column("codec", left=True), Column("group"), *(Column(kind) for kind in KINDS), Column(TOTAL)]
    columns.append(Column("mean", "bit a value"))
    if spread:
        columns.append(Column("total", "over inputs"))
    rows = []
    for index, form in enumerate(traffic.forms):
        total = traffic.mean(index)
        row = [form.label, str(form.group_size or ""), *(_ratio(traffic.mean(index, kind)) for kind in KINDS)]
        row += [_ratio(total), f"{(total or 0) * traffic.bits:.2f}"]
        if spread:
            found = traffic.ratios(index)
            row.append(f"{min(found):.3f}..{max(found):.3f}")
        if index in traffic.hindsight:
            row[0] += " *"
        rows.append(row)
    return "\n".join([*wrapped(_title(traffic), width), "", *text_table(columns, rows), *_notes([traffic])])


def layer_table(traffic: Traffic, width: int | None = WIDTH) -> str:
    """A row a layer: how much of its raw traffic each form leaves, at one group size."""
    shown = shown_forms(traffic)
    columns = [Column("layer", left=True), Column("raw", "KiB")]
    columns += [Column(*_heads(traffic.forms[index].label)) for index in shown]
    rows = []
    for name in [*traffic.layers, None]:
        raw = [e.raw_bits for e in traffic.samples[0].entries if name in (None, e.layer)]
        ratios = [_ratio(traffic.mean(index, TOTAL, name)) for index in shown]
        label = "network" if name is None else short_name(name, 30)
        rows.append([label, f"{sum(raw) / 8192:.1f}", *ratios])
    size = f"group size {DEFAULT_GROUP_SIZE} where not stated otherwise"
    return "\n".join(
        [
            *wrapped([*_title(traffic), size], width),
            "",
            *text_table(columns, rows, totals=1),
            *_notes([traffic]),
        ]
    )


def means_table(traffics: Sequence[Traffic], width: int | None = WIDTH) -> str:
    """A row a workload with its total in each form at one group size, and their means."""
    shown = shown_forms(traffics[0])
    columns = [Column("workload", left=True)]
    columns += [Column(*_heads(traffics[0].forms[index].label)) for index in shown]
    rows = []
    for traffic in traffics:
        mark = " (synthetic)" if traffic.synthetic else ""
        rows.append([traffic.workload + mark, *(_ratio(traffic.mean(index)) for index in shown)])
    totals = [[traffic.mean(index) or 0.0 for traffic in traffics] for index in shown]
    rows.append(["arithmetic mean", *(_ratio(arithmetic_mean(found)) for found in totals)])
    rows.append(["geometric mean", *(_ratio(geometric_mean(found)) for found in totals)])
    title = (
        f"{len(traffics)} workloads, {traffics[0].bits} bit: total traffic as a share of uncompressed values"
    )
    return "\n".join([*wrapped([title], width), "", *text_table(columns, rows, totals=2), *_notes(traffics)])


def traffic_csv(traffics: Sequence[Traffic]) -> str:
    """A line a tensor and form; the lines of layer `*` sum an input up."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(FIELDS)
    for traffic in traffics:
        values = "synthetic" if traffic.synthetic else "real"
        for sample in traffic.samples:
            head = [traffic.workload, traffic.bits, values, sample.name]
            for index, form in enumerate(traffic.forms):
                sums = {kind: [0, 0] for kind in (*KINDS, TOTAL)}
                for entry in sample.entries:
                    stored = entry.stored_bits[index]
                    for kind in (entry.kind, TOTAL):
                        sums[kind][0] += stored
                        sums[kind][1] += entry.raw_bits
                    writer.writerow(
                        _line(
                            head, entry.layer, entry.kind, form.label, form.group_size, stored, entry.raw_bits
                        )
                    )
                for kind, (stored, raw) in sums.items():
                    if raw:
                        writer.writerow(_line(head, "*", kind, form.label, form.group_size, stored, raw))
    return text.getvalue()


def _line(
    head: list[object], layer: str, kind: str, label: str, group: int | None, stored: int, raw: int
) -> list[object]:
    return [*head, layer, kind, label, group, stored, raw, round(stored / raw, 6)]


def _title(traffic: Traffic) -> list[str]:
    samples = traffic.samples
    values = "SYNTHETIC values" if traffic.synthetic else "values"
    lines = [f"{traffic.workload}, {traffic.bits} bit: size in each codec, as a share of uncompressed values"]
    if len(samples) == 1:
        return [*lines, f"{values}: {samples[0].source}"]
    names = ", ".join(sample.name for sample in samples)
    return [
        *lines,
        f"{values} of the first input: {samples[0].source}",
        f"mean over {len(samples)} inputs: {names}",
    ]


def _notes(traffics: Sequence[Traffic]) -> list[str]:
    if any(traffic.hindsight for traffic in traffics):
        return [
            "",
            "* activations with tables made on themselves (hindsight); with several inputs, on the others",
        ]
    return []


def shown_forms(traffic: Traffic) -> list[int]:
    """The forms at one group size, `raw` apart: it is 1."""
    sizes = [form.group_size for form in traffic.forms if form.group_size]
    size = DEFAULT_GROUP_SIZE if DEFAULT_GROUP_SIZE in sizes or not sizes else sizes[0]
    return [
        index
        for index, form in enumerate(traffic.forms)
        if form.group_size in (None, size) and form.codec.rank > 0
    ]


def _heads(label: str) -> tuple[str, str]:
    name, _, word = label.partition(" ")
    return name, word


def _ratio(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.3f}"
