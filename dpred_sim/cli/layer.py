"""`dpred-sim layer`: compute cycles of one layer on one design, memory perfect."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from dpred_sim.designs.base import Design
    from dpred_sim.values.tensor import Tensor
    from dpred_sim.workload.layer import Layer


def add_to(app: typer.Typer) -> None:
    """Register `layer`."""
    app.command(
        epilog="Example:  dpred-sim layer --design dpred_stripes --activations a.npy --weights w.npy"
    )(layer)


def layer(
    design: Annotated[str, typer.Option(metavar="D", help="Name of a design; see: dpred-sim design list.")],
    activations: Annotated[
        Path, typer.Option(metavar="A.npy", help="Integers (H, W, C) for a convolution, (T, C) or (C,) else.")
    ],
    weights: Annotated[Path, typer.Option(metavar="W.npy", help="Integers (K, Ky, Kx, C) or (K, C).")],
    stride: Annotated[str, typer.Option(metavar="N", help="One number or y,x.")] = "1",
    padding: Annotated[str, typer.Option(metavar="N", help="One number or top,left,bottom,right.")] = "0",
    dilation: Annotated[str, typer.Option(metavar="N", help="One number or y,x.")] = "1",
    groups: Annotated[int, typer.Option(metavar="N", help="Groups of the convolution.")] = 1,
    bits: Annotated[int, typer.Option(metavar="N", help="Bits of an uncompressed value, 8 or 16.")] = 16,
    precision_activations: Annotated[
        int | None, typer.Option(metavar="N", help="Bits that their format allows. Default: --bits.")
    ] = None,
    precision_weights: Annotated[
        int | None, typer.Option(metavar="N", help="Bits that their format allows. Default: --bits.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="K=V", help="A parameter of the design, as columns=8; repeat for several."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Compute cycles of one layer on a design with perfect memory, and the sizes of its tensors."""
    from dpred_sim.cli._arrays import read_tensor
    from dpred_sim.cli._plugins import parse_settings
    from dpred_sim.designs.base import design as make_design

    made = make_design(design, **parse_settings(settings or ()))
    geometry = {
        "stride": _numbers("--stride", stride, (1, 2)),
        "padding": _numbers("--padding", padding, (1, 4)),
        "dilation": _numbers("--dilation", dilation, (1, 2)),
        "groups": groups,
    }
    a = read_tensor(activations, bits, precision_activations)
    w = read_tensor(weights, bits, precision_weights)
    report = _measure(design, made, _layer(a, w, geometry), a, w)
    if as_json:
        import json

        print(json.dumps(report, indent=2))
    else:
        print(_text(report))


def _layer(activations: Tensor, weights: Tensor, geometry: dict[str, Any]) -> Layer:
    """A convolution for 4 axes of weights, a fully connected layer for 2."""
    from dpred_sim.errors import InputError
    from dpred_sim.workload.layer import Layer

    if len(weights.shape) == 4:
        return Layer.conv2d("layer", activations, weights, **geometry)
    if len(weights.shape) != 2:
        raise InputError(
            "no shape of weights",
            field="--weights",
            found=str(weights.shape),
            allowed="(K, Ky, Kx, C), (K, C)",
        )
    for name, default in (("stride", 1), ("padding", 0), ("dilation", 1), ("groups", 1)):
        if geometry[name] != default:
            raise InputError("a fully connected layer has none", field=f"--{name}", found=str(geometry[name]))
    return Layer.linear("layer", activations, weights)


def _numbers(option: str, text: str, counts: tuple[int, int]) -> int | tuple[int, ...]:
    """One number, or as many as the larger of `counts`, separated by commas."""
    from dpred_sim.errors import InputError

    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) not in counts:
        raise InputError(
            "not numbers", field=option, found=text, allowed=f"N, or {counts[1]} numbers: N,N,..."
        )
    return numbers[0] if len(numbers) == 1 else numbers


def _measure(name: str, made: Design, one: Layer, activations: Tensor, weights: Tensor) -> dict[str, Any]:
    """Everything the command prints, JSON-ready."""
    from dataclasses import asdict, is_dataclass

    from dpred_sim.cli.codec import codec_sizes

    cycles = made.layer_cycles(one)
    return {
        "kind": one.kind,
        "bits": activations.bits,
        "activations": _described(activations),
        "weights": _described(weights),
        "output_shape": list(one.output_shape),
        "design": name,
        "parameters": asdict(made) if is_dataclass(made) else {},
        "cycles": cycles.total,
        "steps": cycles.steps,
        "macs": cycles.macs,
        "macs_per_cycle": round(cycles.macs / cycles.total, 3) if cycles.total else None,
        "codecs": {
            "activations": codec_sizes(activations, "activations"),
            "weights": codec_sizes(weights, "weights"),
        },
    }


def _described(x: Tensor) -> dict[str, Any]:
    return {
        "shape": list(x.shape),
        "signed": x.signed,
        "precision": x.precision,
        "mean_width": round(_mean_width(x), 4),
    }


def _mean_width(x: Tensor) -> float:
    """Mean over the groups of 16."""
    from dpred_sim.values.widths import group_widths

    return float(group_widths(x).mean())


def _text(report: dict[str, Any]) -> str:
    from dpred_sim.cli._plugins import shown
    from dpred_sim.observe.tables import Column, text_table

    activations, weights = report["activations"], report["weights"]
    lines = [
        f"{report['kind']} layer, {report['bits']} bit: activations {_axes(activations['shape'])}, "
        f"weights {_axes(weights['shape'])}, outputs {_axes(report['output_shape'])}",
        f"design       {report['design']} {shown(report['parameters'])}",
        f"cycles       {report['cycles']:,}",
        f"steps        {report['steps']:,}",
        f"MACs         {report['macs']:,}, {report['macs_per_cycle']:,} a cycle",
        f"mean width   activations {activations['mean_width']:.2f} bit, "
        f"weights {weights['mean_width']:.2f} bit",
        "",
    ]
    columns = [
        Column("codec", left=True),
        Column("activations", "bit"),
        Column("activations", "of raw"),
        Column("weights", "bit"),
        Column("weights", "of raw"),
    ]
    pairs = zip(report["codecs"]["activations"], report["codecs"]["weights"], strict=True)
    rows = [
        [a["codec"], f"{a['size_bits']:,}", f"{a['of_raw']:.3f}", f"{w['size_bits']:,}", f"{w['of_raw']:.3f}"]
        for a, w in pairs
    ]
    return "\n".join([*lines, *text_table(columns, rows)])


def _axes(shape: list[int]) -> str:
    return "x".join(str(size) for size in shape)
