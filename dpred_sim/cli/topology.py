"""`dpred-sim topology`: the ready-made systems; check, show, draw and convert any system."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from dpred_sim.explore.balance import Demand
    from dpred_sim.topology.graph import Topology

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document, nothing else.")]
Reference = Annotated[str, typer.Argument(metavar="TOPOLOGY", help="A ready-made name or a file.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="K=V", help="Change one value, as nodes.tile.count=8; repeat for several."),
]


def add_to(app: typer.Typer) -> None:
    """Register `topology list`, `check`, `show`, `draw`, `convert` and `schema`."""
    group = typer.Typer(no_args_is_help=True)
    group.command("list", epilog="Example:  dpred-sim topology list")(list_topologies)
    group.command("check", epilog="Example:  dpred-sim topology check dpred_stripes_ddr4 --workload alexnet")(
        check
    )
    group.command("show", epilog="Example:  dpred-sim topology show dpred_stripes_ddr4 --expanded")(show)
    group.command("draw", epilog="Example:  dpred-sim topology draw dpred_stripes_ddr4 --out system.svg")(
        draw
    )
    group.command("convert", epilog="Example:  dpred-sim topology convert dpred_stripes_ddr4 s.graphml")(
        convert
    )
    group.command("schema", epilog="Example:  dpred-sim topology schema > topology.schema.json")(schema)
    app.add_typer(
        group,
        name="topology",
        help="List the ready-made systems; check, show, draw and convert any system.",
        epilog="Example:  dpred-sim topology check dpred_stripes_ddr4",
    )


def list_topologies(as_json: AsJson = False) -> None:
    """List the ready-made systems and say what each of them is."""
    from dpred_sim.locate import ready_made, ready_made_names
    from dpred_sim.topology.document import leading_comment

    found = []
    for name in ready_made_names("topologies", ".yaml"):
        text = (ready_made("topologies") / f"{name}.yaml").read_text(encoding="utf-8")
        found.append({"name": name, "description": leading_comment(text)})
    if as_json:
        _print_json({"topologies": found})
        return
    from dpred_sim.observe.tables import Column, text_table

    rows = [[entry["name"], entry["description"].partition("\n")[0]] for entry in found]
    print("\n".join(text_table([Column("topology", left=True), Column("what it is", left=True)], rows)))


def check(
    topology: Reference,
    workload: Annotated[
        str | None,
        typer.Option(metavar="W", help="Also compare what its layers demand with what links and ports give."),
    ] = None,
    bits: Annotated[int, typer.Option(metavar="N", help="Bits of an uncompressed value, 8 or 16.")] = 16,
    seed: Annotated[int, typer.Option(metavar="N", help="Draws synthetic values.")] = 0,
    every: Annotated[bool, typer.Option("--all", help="Show every link and port of every layer.")] = False,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Check that a system can work and, with a workload, which links and ports would limit it.

    A demand is what a link or port must carry while the tiles work through a layer without waiting, on
    average and in bits a cycle. It is marked where it is more than the capacity.
    """
    from dpred_sim.simulation.systems import load_topology

    system = load_topology(topology, settings or ())
    demands: list[Demand] | None = None
    if workload is not None:
        from dpred_sim.explore.balance import balance
        from dpred_sim.workload.load import load_workload

        demands = balance(load_workload(workload, bits=bits, seed=seed), system)
    if as_json:
        document: dict[str, Any] = _summary(system, bits)
        if demands is not None:
            document["workload"] = workload
            document["demands"] = [demand.to_dict() for demand in demands]
        _print_json(document)
        return
    print(_summary_text(system, bits))
    if demands is not None:
        print(f"\n{_demand_table(demands, every)}")


def show(
    topology: Reference,
    expanded: Annotated[
        bool, typer.Option("--expanded", help="One entry for each instance and each link.")
    ] = False,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Show a system with every default filled in, in the format of its file."""
    from dpred_sim.simulation.systems import load_topology
    from dpred_sim.topology.convert import to_yaml

    system = load_topology(topology, settings or ())
    if as_json:
        _print_json(system.to_dict(expanded))
    else:
        print(to_yaml(system, expanded), end="")


def draw(
    topology: Reference,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="NAME.svg, NAME.png or NAME.txt. Default: text on stdout."),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of a run on this system: links show how busy they were."),
    ] = None,
    ascii_only: Annotated[bool, typer.Option("--ascii", help="Draw text in plain ASCII.")] = False,
    settings: Settings = None,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it exists.")] = False,
) -> None:
    """Draw a system: memories on the left, then buffers, dispatchers and tiles, with the links between.

    Equal components share a box, equal links a line; a line shows how busy the busiest of them was.
    """
    from dpred_sim.errors import InputError
    from dpred_sim.observe.drawing.draw import check_target, draw_file, text_drawing
    from dpred_sim.observe.drawing.usage import read_usage
    from dpred_sim.simulation.systems import load_topology

    if force and out is None:
        raise InputError(
            "--force says what to do with an existing --out FILE; there is none", field="--force"
        )
    if out is not None:
        check_target(out, force=force)
    system = load_topology(topology, settings or ())
    usage = None if run is None else read_usage(run, system)
    if out is None:
        print(text_drawing(system, usage, ascii_only=ascii_only or not _prints_boxes()), end="")
    else:
        draw_file(system, out, usage, ascii_only=ascii_only)
        print(f"wrote {out}")


def _prints_boxes() -> bool:
    """Whether stdout can take the characters that drawings are made of."""
    import sys

    from dpred_sim.observe.drawing.text import UNICODE

    try:
        "".join((*UNICODE.lines["bus"].values(), *UNICODE.arrows.values(), UNICODE.shades)).encode(
            getattr(sys.stdout, "encoding", None) or "ascii"
        )
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def convert(
    topology: Reference,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="NAME.json (node-link) or NAME.graphml.")],
    settings: Settings = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it exists.")] = False,
) -> None:
    """Write a system as node-link JSON, which loads again, or as GraphML for graph viewers."""
    from dpred_sim.errors import InputError
    from dpred_sim.simulation.systems import load_topology
    from dpred_sim.topology import convert as forms

    system = load_topology(topology, settings or ())
    if out.exists() and not force:
        raise InputError("is there already: --force replaces it", file=out)
    forms.convert(system, out)
    print(f"wrote {out}")


def schema() -> None:
    """Print the JSON Schema of topology files, for completion and checks in editors.

    Point an editor at it by a first line "# yaml-language-server: $schema=topology.schema.json".
    """
    from dpred_sim.components.base import kinds
    from dpred_sim.topology.convert import json_schema

    _print_json(json_schema(kinds()))


def _summary(system: Topology, bits: int) -> dict[str, Any]:
    from dpred_sim.explore.peak import peak_macs_per_cycle

    clusters = [
        {"dispatcher": c.dispatcher, "tiles": len(c.tiles), "design": _design(system, c.tiles[0])}
        for c in system.clusters
    ]
    return {
        "topology": system.name,
        "file": system.file,
        "components": len(system.nodes),
        "links": len(system.links),
        "clusters": clusters,
        "bits": bits,
        "peak_macs_per_cycle": peak_macs_per_cycle(system, bits),
    }


def _design(system: Topology, tile: str) -> str:
    return str(getattr(system.node(tile).parameters, "design", ""))


def _summary_text(system: Topology, bits: int) -> str:
    told = _summary(system, bits)
    lines = [f"{system.name}: no mistakes, every kind of data has a place and a way"]
    lines.append(f"{told['components']} components, {told['links']} links ({system.file})")
    for cluster in told["clusters"]:
        lines.append(f"{cluster['dispatcher']} feeds {cluster['tiles']} tiles of design {cluster['design']}")
    lines.append(f"peak: {told['peak_macs_per_cycle']:,.0f} {bits}-bit multiply-accumulates a cycle")
    return "\n".join(lines)


def _demand_table(demands: list[Demand], every: bool) -> str:
    from dpred_sim.observe.tables import Column, text_table

    columns = [
        Column("layer", left=True),
        Column("link or port", left=True),
        Column("carries", left=True),
        Column("demand", "a cycle"),
        Column("capacity", "a cycle"),
        Column("", "of", left=True),
        Column("used", "%"),
        Column("", left=True),
    ]
    rows = []
    for demand in demands if every else _tightest(demands):
        rows.append(
            [
                demand.layer,
                demand.where if demand.kind in ("link", "memory") else f"{demand.where} {demand.kind}",
                demand.what,
                f"{demand.demand:,.1f}",
                "unlimited" if demand.capacity is None else f"{demand.capacity:,.1f}",
                demand.unit.partition("/")[0],
                f"{100 * demand.utilisation:,.0f}",
                "LIMITS" if demand.limits else "",
            ]
        )
    limiting = sorted({demand.where for demand in demands if demand.limits})
    verdict = (
        f"limited in some layer by: {', '.join(limiting)}" if limiting else "no link or port limits any layer"
    )
    note = (
        "dram: as if nothing stayed on chip between layers and no weights came ahead of their layer;\n"
        "a run keeps what fits and fetches weights early, so it may wait for less"
    )
    notes = [note] if any(demand.kind == "memory" and demand.limits for demand in demands) else []
    return "\n".join([*text_table(columns, rows), "", verdict, *notes])


def _tightest(demands: list[Demand]) -> list[Demand]:
    """Per layer all that limit, and at least the tightest one."""
    shown = []
    for layer in dict.fromkeys(demand.layer for demand in demands):
        own = sorted((d for d in demands if d.layer == layer), key=lambda d: -d.utilisation)
        limiting = [demand for demand in own if demand.limits]
        shown += limiting or own[:1]
    return shown


def _print_json(document: object) -> None:
    import json

    print(json.dumps(document, indent=2))
