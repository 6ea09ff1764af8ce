"""`dpred-sim design`: what designs there are."""

from __future__ import annotations

from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Register `design list`."""
    nouns = typer.Typer(help="Designs: how a tile spends cycles.", epilog="Example:  dpred-sim design list")
    nouns.command("list", epilog="Example:  dpred-sim design list --json")(list_designs)
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
