"""`dpred-sim trace`: what a record holds, and trace files for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from dpred_sim.observe.record.reader import Record
    from dpred_sim.observe.record.selection import Selection

RecordFile = Annotated[
    Path, typer.Argument(metavar="RECORD", help="A file that `run --trace FILE.dpred` wrote.")
]
Components = Annotated[
    list[str] | None,
    typer.Option(
        "--component", metavar="GLOB", help="Only these: a name, a group or a kind; repeat for several."
    ),
]
Layers = Annotated[
    list[str] | None,
    typer.Option("--layer", metavar="GLOB", help="Only what was done for such layers; repeat for several."),
]
From = Annotated[
    str | None, typer.Option("--from", metavar="T", help="Only what touches T, as 20us, or later.")
]
To = Annotated[str | None, typer.Option("--to", metavar="T", help="Only what is before T, as 1.5ms.")]


def add_to(app: typer.Typer) -> None:
    """Register `trace convert` and `trace show`."""
    group = typer.Typer(no_args_is_help=True)
    group.command(
        "convert", epilog="Example:  dpred-sim trace convert run.dpred run.pftrace --layer 'conv1*' --to 50us"
    )(convert)
    group.command("show", epilog="Example:  dpred-sim trace show run.dpred")(show)
    app.add_typer(
        group,
        name="trace",
        help="Say what a record holds; make trace files of it for other tools.",
        epilog="Example:  dpred-sim trace convert run.dpred run.pftrace",
    )


def convert(
    record: RecordFile,
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", help="NAME.pftrace (Perfetto), NAME.json (Chrome) or NAME.parquet (a table)."
        ),
    ],
    components: Components = None,
    layers: Layers = None,
    start: From = None,
    end: To = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it exists.")] = False,
) -> None:
    """Make a trace file of a record: all of it, or some components, layers and times.

    A span is taken whole when a part of it lies in the window. Of counters, which have no layer, those in the
    time of the selected layers are taken.
    """
    import sys

    from dpred_sim.observe.record.reader import Record
    from dpred_sim.observe.trace.export import check_export, expected_bytes, export
    from dpred_sim.units import format_bytes

    made = check_export(out, force, "OUT")
    selection = _selection(components, layers, start, end)
    with Record(record) as opened:
        expected = format_bytes(expected_bytes(opened, made, selection))
        if sys.stderr is not None:
            print(f"{out}: about {expected} expected", file=sys.stderr)
        size = export(opened, out, selection, force=force)
    print(f"wrote {out}: {made.what}, {format_bytes(size)}")


def show(
    record: RecordFile,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document, nothing else.")] = False,
) -> None:
    """Say what a record holds: the run, its layers and components, and how large trace files would be."""
    import json

    from dpred_sim.observe.record.reader import Record

    with Record(record) as opened:
        told = _told(opened)
    print(json.dumps(told, indent=1) if as_json else _text(told))


def _told(record: Record) -> dict[str, Any]:
    from dpred_sim.observe.trace.export import FORMATS, expected_bytes
    from dpred_sim.observe.trace.story import title

    kinds: dict[str, list[str]] = {}
    for row in record.tracks:
        kinds.setdefault(row["kind"], []).append(row["name"])
    windows = [list(window) for window in record.layer_windows]
    return {
        "record": str(record.path),
        "run": title(record),
        "source": record.head["source"],
        "complete": record.complete,
        "failed": record.failed,
        "time_ps": record.time_ps,
        "rows": record.rows,
        "layers": dict(zip(record.layers, windows, strict=False)),
        "layers_not_begun": record.layers[len(windows) :],
        "components": kinds,
        "expected_bytes": {ending: expected_bytes(record, made) for ending, made in FORMATS.items()},
    }


def _text(told: dict[str, Any]) -> str:
    import textwrap

    from dpred_sim.observe.tables import Column, text_table
    from dpred_sim.units import format_bytes, format_time

    state = "complete" if told["complete"] else told["failed"] or "stopped before its end"
    rows = ", ".join(f"{count:,} {table}" for table, count in told["rows"].items())
    lines = [told["run"], f"values: {told['source']}", f"{format_time(told['time_ps'])}, {state}", rows, ""]
    for kind, names in told["components"].items():
        shown = ", ".join(names[:3]) + (f" ... {names[-1]} ({len(names)})" if len(names) > 3 else "")
        lines += textwrap.wrap(f"{kind}: {shown}", 80, subsequent_indent="    ", break_on_hyphens=False)
    columns = [Column("layer", left=True), Column("from"), Column("to"), Column("", left=True)]
    table = [
        [name, format_time(start), format_time(end), ""] for name, (start, end) in told["layers"].items()
    ]
    table += [[name, "", "", "not begun"] for name in told["layers_not_begun"]]
    lines += ["", *text_table(columns, table), ""]
    sizes = ", ".join(f"{ending} {format_bytes(size)}" for ending, size in told["expected_bytes"].items())
    lines.append(f"as a trace file, about: {sizes}")
    return "\n".join(lines)


def _selection(
    components: list[str] | None, layers: list[str] | None, start: str | None, end: str | None
) -> Selection:
    from dpred_sim.errors import InputError
    from dpred_sim.observe.record.selection import FOREVER, Selection

    first, last = _time(start, "--from", 0), _time(end, "--to", FOREVER)
    if first >= last:
        raise InputError(
            "an empty window of time", field="--to", found=end, allowed=f"later than {start or 0}"
        )
    return Selection(tuple(components or ()), tuple(layers or ()), first, last)


def _time(text: str | None, field: str, default: int) -> int:
    from dpred_sim.errors import InputError
    from dpred_sim.units import parse_time_ps

    if text is None:
        return default
    try:
        return parse_time_ps(text)
    except InputError as error:
        raise InputError(
            error.message, field=field, found=text, allowed="a time such as 20us, 1.5 ms or 300 ns"
        ) from None
