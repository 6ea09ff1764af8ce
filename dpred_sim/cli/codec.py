"""`dpred-sim codec`: what codecs there are, and what they make of a tensor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from dpred_sim.codecs.base import Role
    from dpred_sim.values.tensor import Tensor


def add_to(app: typer.Typer) -> None:
    """Register `codec list`."""
    nouns = typer.Typer(help="Codecs: how values become bits.", epilog="Example:  dpred-sim codec list")
    nouns.command("list", epilog="Example:  dpred-sim codec list --tensor weights.npy --bits 8")(list_codecs)
    nouns.callback()(_codecs)
    app.add_typer(nouns, name="codec")


def _codecs() -> None:
    """Codecs: how values become bits."""


def list_codecs(
    tensor: Annotated[
        Path | None,
        typer.Option(metavar="X.npy", help="Integers, channel last: print their size in each codec."),
    ] = None,
    bits: Annotated[int, typer.Option(metavar="N", help="Bits of an uncompressed value, 8 or 16.")] = 16,
    precision: Annotated[
        int | None, typer.Option(metavar="N", help="Bits that the tensor's format allows. Default: --bits.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List the codecs with their parameters and defaults, or the sizes of a tensor in each of them."""
    import json

    from dpred_sim.cli._plugins import described, listing
    from dpred_sim.codecs.base import CODECS

    if tensor is None:
        rows = [described(name, CODECS.get(name)) for name in CODECS.names()]
        print(json.dumps({"codecs": rows}, indent=2) if as_json else listing(rows))
        return
    from dpred_sim.cli._arrays import read_tensor

    x = read_tensor(tensor, bits, precision)
    sizes = codec_sizes(x)
    if as_json:
        format_ = {"shape": list(x.shape), "bits": x.bits, "signed": x.signed, "precision": x.precision}
        print(json.dumps({"tensor": str(tensor), **format_, "codecs": sizes}, indent=2))
        return
    from dpred_sim.observe.tables import Column, text_table

    columns = [
        Column("codec", left=True),
        Column("size", "bit"),
        Column("of raw"),
        Column("mean", "bit a value"),
    ]
    lines = [f"{tensor}: {x!r}", ""]
    lines += text_table(
        columns,
        [
            [s["codec"], f"{s['size_bits']:,}", f"{s['of_raw']:.3f}", f"{s['bits_per_value']:.2f}"]
            for s in sizes
        ],
    )
    print("\n".join(lines))


def codec_sizes(x: Tensor, role: Role = "weights") -> list[dict[str, Any]]:
    """Size of a tensor in every codec, in each of its modes."""
    from dpred_sim.codecs.base import CODECS, codec

    raw = x.values.size * x.bits
    rows = []
    for name in CODECS.names():
        for options in _modes(CODECS.get(name)):
            size = codec(name, **options).chosen_for(x, role).size_bits(x)
            label = " ".join([name, *(f"{key}={value}" for key, value in options.items())])
            rows.append(
                {
                    "codec": label,
                    "size_bits": size,
                    "of_raw": round(size / raw, 6),
                    "bits_per_value": round(size / x.values.size, 6),
                }
            )
    return rows


def _modes(cls: Any) -> list[dict[str, Any]]:
    """Every value of a parameter `mode` that is a choice of words, else the defaults alone."""
    from typing import get_args, get_type_hints

    choices = get_args(get_type_hints(cls).get("mode"))
    return [{"mode": choice} for choice in choices if isinstance(choice, str)] or [{}]
