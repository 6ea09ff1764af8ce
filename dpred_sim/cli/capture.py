"""`dpred-sim capture`: the values of every tensor of a model on some inputs, as a trace folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from dpred_sim.workload.traces import TraceFolder

EXAMPLE = "Example:  dpred-sim capture net.onnx --input cat.png --input dog.png --out traces/net"


def add_to(app: typer.Typer) -> None:
    """Register `capture`."""
    app.command(epilog=EXAMPLE)(capture)


def capture(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="An .onnx file.")],
    inputs: Annotated[
        list[Path],
        typer.Option(
            "--input",
            metavar="FILE",
            help="A photo, .wav, token ids (.json, .txt), .npy or .npz; repeat for several.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="TRACE", help="The trace folder to write.")],
    preprocess: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help="How photos and sounds become inputs. Default: MODEL.preprocessing.json beside the model.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace TRACE if it exists.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Run a model on inputs and keep every tensor, float32 and channel last, for any later format."""
    from dpred_sim.workload.capture import file_subject
    from dpred_sim.workload.images import preprocessing_beside, read_preprocessing
    from dpred_sim.workload.traces import check_place, write_trace

    check_place(out, force)
    check_files("--input", inputs)
    settings = preprocessing_beside(model) if preprocess is None else read_preprocessing(preprocess)
    trace = write_trace(file_subject(model, inputs, settings), out, force)
    document = describe(trace)
    if as_json:
        import json

        print(json.dumps(document, indent=2))
        return
    print(
        f"{out}: {document['layers']} layers, {document['weight_values']:,} weights, "
        f"{document['activation_values']:,} activations an input, {len(document['inputs'])} input(s)"
    )
    print(f"next: dpred-sim run {out}")


def check_files(option: str, paths: list[Path]) -> None:
    """Raise InputError when one of the files of an option is not there."""
    from dpred_sim.errors import InputError

    for path in paths:
        if not path.is_file():
            raise InputError("no such file", file=path, field=option)


def describe(trace: TraceFolder) -> dict[str, Any]:
    """What a trace folder holds, JSON-ready."""
    from math import prod

    found = trace.description
    return {
        "trace": str(trace.path),
        "model_sha256": found["model"]["sha256"],
        "inputs": trace.inputs,
        "layers": sum(layer["kind"] != "given" for layer in found["layers"]),
        "weight_values": sum(prod(about["shape"]) for about in found["weights"].values()),
        "activation_values": sum(prod(about["shape"]) for about in found["activations"].values()),
        "outputs": found["outputs"],
    }
