"""`dpred-sim design`: what designs there are, and what each does with a workload."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dpred_sim.explore.design_points import DesignComparison


def add_to(app: typer.Typer) -> None:
    """Register `design list` and `design compare`."""
    nouns = typer.Typer(
        help="Designs: how a tile spends cycles.", epilog="Example:  dpred-sim design compare alexnet"
    )
    nouns.command("list", epilog="Example:  dpred-sim design list --json")(list_designs)
    nouns.command("compare", epilog="Example:  dpred-sim design compare alexnet --bits 8 --plot designs.png")(
        compare_all
    )
    nouns.callback()(_designs)
    app.add_typer(nouns, name="design")


def _designs() -> None:
    """Designs: how a tile spends cycles."""


def list_designs(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List the designs with their parameters and defaults."""
    from dpred_sim.cli._plugins import described, listing
    from dpred_sim.designs.base import DESIGNS

    rows = [described(name, DESIGNS.get(name)) for name in DESIGNS.names()]
    if as_json:
        import json

        print(json.dumps({"designs": rows}, indent=2))
    else:
        print(listing(rows))


def compare_all(
    workload: Annotated[
        str, typer.Argument(metavar="WORKLOAD", help="A script, an .onnx model, or a ready-made name.")
    ],
    bits: Annotated[int, typer.Option(metavar="N", help="Bits of an uncompressed value, 8 or 16.")] = 16,
    designs: Annotated[
        str | None, typer.Option(metavar="A,B", help="Only these designs. Default: all.")
    ] = None,
    quantise: Annotated[
        str, typer.Option(metavar="Q", help="How real numbers become integers.")
    ] = "profiled",
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="FILE", help="What the network is fed with; repeat for several."),
    ] = None,
    unequal: Annotated[
        bool,
        typer.Option("--unequal", help="Compare where peak or mapping differ; each row says what does."),
    ] = False,
    seed: Annotated[int, typer.Option(metavar="N", help="Draws synthetic values.")] = 0,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the speed-ups into this .png or .svg.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print comma-separated values, a line a layer.")
    ] = False,
) -> None:
    """Compute cycles of a workload on every design, each over a baseline of equal peak, memory perfect."""
    import sys
    from contextlib import nullcontext, redirect_stdout

    from dpred_sim.errors import InputError
    from dpred_sim.explore.design_points import compare_designs
    from dpred_sim.explore.design_tables import design_csv, design_table
    from dpred_sim.workload.load import load_workload

    if as_json and as_csv:
        raise InputError("one format at a time", field="--csv", found="--json --csv")
    if plot is not None:
        from dpred_sim.observe.plots import check_plot_path

        check_plot_path(plot)  # before the work is done
    # Whatever a workload script prints must not get into the one document.
    with redirect_stdout(sys.stderr) if (as_json or as_csv) and sys.stderr else nullcontext():
        loaded = load_workload(workload, bits=bits, quantise=quantise, inputs=inputs or (), seed=seed)
        comparison = compare_designs(loaded, None if designs is None else _names(designs), unequal=unequal)
        if plot is not None:
            _draw(comparison, plot)
    if as_json:
        import json

        print(json.dumps({"seed": seed, **comparison.to_dict()}, indent=2))
    elif as_csv:
        print(design_csv(comparison), end="")
    else:
        print(design_table(comparison))


def _names(text: str) -> list[str]:
    from dpred_sim.errors import InputError

    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise InputError(
            "a name is empty", field="--designs", found=text, allowed="names with commas between"
        )
    return names


def _draw(comparison: DesignComparison, path: Path) -> None:
    from dpred_sim.explore.design_points import KINDS, Kind
    from dpred_sim.observe.plots import grouped_bars

    columns: dict[str, Kind | None] = {KINDS[kind]: kind for kind in comparison.kinds()}
    columns["whole network"] = None
    points = [point for point in comparison.points if point.peak is not None]
    sums = {title: [point.summary(kind) for point in points] for title, kind in columns.items()}
    values = "synthetic values" if comparison.synthetic else "real values"
    grouped_bars(
        path,
        f"{comparison.workload}, {comparison.bits} bit, {values}: compute only, over equal peak",
        [f"{point.name}\n{point.label}" for point in points],
        {title: [summary.speedup for summary in row] for title, row in sums.items()},
        {title: [summary.ideal_speedup for summary in row] for title, row in sums.items()},
        axis="times as fast",
        mark_label="ideal: own work only",
    )
