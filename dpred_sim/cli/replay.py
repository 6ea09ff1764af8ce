"""`dpred-sim replay`: see the record of a run again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpred_sim.cli._play import REPLAY_PACE

if TYPE_CHECKING:
    from dpred_sim.observe.record.reader import Record
    from dpred_sim.observe.replay import ReplaySource


def add_to(app: typer.Typer) -> None:
    """Register `replay`."""
    app.command(epilog="Example:  dpred-sim replay run.dpred --pace 30s --follow dram,tile.3")(replay)


def replay(
    record: Annotated[Path, typer.Argument(metavar="RECORD", help="What `run --trace FILE.dpred` wrote.")],
    pace: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Wall time of the run, as 15s, or how many times slower than the machine, as 1000x; "
            f"0: full speed. Default: {REPLAY_PACE}.",
        ),
    ] = None,
    follow: Annotated[
        list[str] | None,
        typer.Option(metavar="NAMES", help="Show events of these components, as dram,tile.3 or 'weights*'."),
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Show events of the layers with such a name, as 'conv4*'."),
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar="LAYER", help="Begin at this layer: a name or a number.")
    ] = None,
    text: Annotated[
        bool, typer.Option("--text", help="Print the events as lines on stdout, as without a terminal.")
    ] = False,
) -> None:
    """Show the record of a run in the live view: at any speed, forward and back."""
    from dpred_sim.cli._play import is_screen, note, play_record, selection_of
    from dpred_sim.observe.pace import parse_pace
    from dpred_sim.observe.record.reader import Record
    from dpred_sim.observe.record.selection import Selection
    from dpred_sim.observe.replay import ReplaySource, heading_of_record

    chosen = None if pace is None else parse_pace(pace)
    selection = selection_of(follow, layer) or Selection()
    with Record(record) as opened:
        source = ReplaySource(opened)
        source.follow(selection)
        first = 0 if start is None else _layer_index(opened, start)
        source.go_to_layer(first)
        if not opened.complete:
            note(f"this run did not end: {opened.failed or 'somebody stopped it'}")
        if text or not is_screen():
            _print_events(source)
        elif not play_record(source, heading_of_record(opened), chosen):
            raise KeyboardInterrupt("interrupted")


def _layer_index(record: Record, wanted: str) -> int:
    """Place of a layer given by its name, a pattern, or its number from 1 on."""
    from dpred_sim.errors import InputError, nearest
    from dpred_sim.observe.record.selection import Selection

    recorded = record.layers[: len(record.layer_windows)]
    if wanted in recorded:
        return recorded.index(wanted)
    if wanted.isdecimal() and 1 <= int(wanted) <= len(recorded):
        return int(wanted) - 1
    found = [index for index, name in enumerate(recorded) if Selection(layers=(wanted,)).takes_layer(name)]
    if not found:
        raise InputError(
            f"no recorded layer has such a name{nearest(wanted, recorded)}",
            file=record.path,
            field="--from",
            found=wanted,
            allowed=f"a name, or a number from 1 to {len(recorded)}",
        )
    return found[0]


def _print_events(source: ReplaySource) -> None:
    """Followed events from where the source is, a line each."""
    from dpred_sim.observe.events import event_line

    for event in source.events():
        print(event_line(event))
