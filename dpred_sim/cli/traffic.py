"""`dpred-sim traffic`: what each codec makes of the values of one or several workloads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dpred_sim.explore.traffic import Form, Traffic

EXAMPLE = "Example:  dpred-sim traffic resnet50_thin alexnet --bits 16,8"


def add_to(app: typer.Typer) -> None:
    """Register `traffic`."""
    app.command("traffic", epilog=EXAMPLE)(traffic)


def traffic(
    workloads: Annotated[
        list[str], typer.Argument(metavar="WORKLOAD...", help="Scripts, .onnx models, or ready-made names.")
    ],
    bits: Annotated[
        str, typer.Option(metavar="N[,N]", help="Bits of an uncompressed value: 16, 8 or both.")
    ] = "16",
    codecs: Annotated[
        str | None, typer.Option("--codecs", metavar="A,B", help="Only these codecs. Default: all.")
    ] = None,
    group_sizes: Annotated[
        str, typer.Option(metavar="N,N", help="Values a group, where sizes are compared.")
    ] = "8,16,32,64,128,256",
    quantise: Annotated[
        str, typer.Option(metavar="Q", help="How real numbers become integers.")
    ] = "profiled",
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="FILE[,FILE]",
            help="One input of the network, a file or several; repeat to see how far inputs differ.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Draws synthetic values.")] = 0,
    layers: Annotated[bool, typer.Option("--layers", help="Show a line a layer as well.")] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the ratios into this .png or .svg.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print comma-separated values, a line a tensor and codec.")
    ] = False,
) -> None:
    """What each codec makes of a network: weights, activations and outputs of every layer once.

    Sizes are shares of the same values uncompressed, at the same width. Several workloads also give
    arithmetic and geometric means.
    """
    import sys
    from contextlib import nullcontext, redirect_stdout

    from dpred_sim.errors import InputError
    from dpred_sim.explore.traffic import forms

    if as_json and as_csv:
        raise InputError("one format at a time", field="--csv", found="--json --csv")
    if inputs and len(workloads) > 1:
        raise InputError("inputs belong to one network", field="--input", found=f"{len(workloads)} workloads")
    if plot is not None:
        from dpred_sim.observe.plots import check_plot_path

        check_plot_path(plot)  # before the work is done
    names = None if codecs is None else _words(codecs, "--codecs")
    wanted = forms(names, _numbers(group_sizes, "--group-sizes"))
    with redirect_stdout(sys.stderr) if (as_json or as_csv) and sys.stderr else nullcontext():
        found = [
            _measured(workload, width, quantise, inputs or (), seed, wanted)
            for width in dict.fromkeys(_numbers(bits, "--bits"))
            for workload in workloads
        ]
        if plot is not None:
            _draw(found, plot)
    if as_json:
        print(_document(found, seed))
    elif as_csv:
        from dpred_sim.explore.traffic_tables import traffic_csv

        print(traffic_csv(found), end="")
    else:
        print(_text(found, layers))


def _measured(
    workload: str, bits: int, quantise: str, inputs: Sequence[str], seed: int, wanted: Sequence[Form]
) -> Traffic:
    from dpred_sim.explore.traffic import measure
    from dpred_sim.workload.load import load_workload

    samples = [tuple(_words(text, "--input")) for text in inputs] or [()]
    return measure(
        [
            (
                ", ".join(Path(file).name for file in files),
                load_workload(workload, bits=bits, quantise=quantise, inputs=files, seed=seed),
            )
            for files in samples
        ],
        wanted,
    )


def _by_width(found: Sequence[Traffic]) -> list[list[Traffic]]:
    widths = dict.fromkeys(traffic.bits for traffic in found)
    return [[traffic for traffic in found if traffic.bits == width] for width in widths]


def _document(found: Sequence[Traffic], seed: int) -> str:
    import json

    from dpred_sim.explore.traffic import means

    together = [
        {"bits": some[0].bits, "workloads": len(some), "codecs": means(some)} for some in _by_width(found)
    ]
    return json.dumps(
        {"seed": seed, "workloads": [traffic.to_dict() for traffic in found], "means": together}, indent=2
    )


def _text(found: Sequence[Traffic], layers: bool) -> str:
    from dpred_sim.explore.traffic_tables import layer_table, means_table, traffic_table

    parts = []
    for some in _by_width(found):
        for traffic in some:
            parts.append(traffic_table(traffic))
            if layers:
                parts.append(layer_table(traffic))
        if len(some) > 1:
            parts.append(means_table(some))
    return "\n\n\n".join(parts)


def _draw(found: Sequence[Traffic], path: Path) -> None:
    from dpred_sim.explore.traffic import TOTAL, arithmetic_mean
    from dpred_sim.explore.traffic_tables import shown_forms
    from dpred_sim.observe.plots import grouped_bars
    from dpred_sim.simulation.paper_traffic import KINDS

    groups: list[str] = []
    series: dict[str, list[float | None]] = {kind: [] for kind in (*KINDS, TOTAL)}
    for some in _by_width(found):
        for index in shown_forms(some[0]):
            groups.append(f"{some[0].forms[index].title}\n{some[0].bits} bit")
            for kind, values in series.items():
                ratios = [traffic.mean(index, kind) for traffic in some]
                values.append(arithmetic_mean(ratio for ratio in ratios if ratio is not None))
    names = list(dict.fromkeys(traffic.workload for traffic in found))
    title = names[0] if len(names) == 1 else f"mean of {len(names)} workloads"
    synthetic = [traffic.workload for traffic in found if traffic.synthetic]
    notes = [f"SYNTHETIC values: {', '.join(dict.fromkeys(synthetic))}"] if synthetic else []
    notes += [", ".join(names)] if len(names) > 1 else []
    grouped_bars(
        path,
        f"{title}: traffic as a share of uncompressed values",
        groups,
        series,
        {},
        axis="ratio",
        mark_label="",
        notes=notes,
    )


def _words(text: str, option: str) -> list[str]:
    from dpred_sim.errors import InputError

    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise InputError("a name is empty", field=option, found=text, allowed="names with commas between")
    return words


def _numbers(text: str, option: str) -> list[int]:
    from dpred_sim.errors import InputError

    words = _words(text, option)
    if not all(word.isascii() and word.isdigit() for word in words):
        raise InputError("not numbers", field=option, found=text, allowed="numbers with commas between")
    return [int(word) for word in words]
