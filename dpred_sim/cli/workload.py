"""`dpred-sim workload`: the ready-made workloads, and the layer table of any workload."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document, nothing else.")]


def add_to(app: typer.Typer) -> None:
    """Register `workload list` and `workload show`."""
    group = typer.Typer(no_args_is_help=True)
    group.command("list", epilog="Example:  dpred-sim workload list")(list_workloads)
    group.command("show", epilog="Example:  dpred-sim workload show alexnet --bits 8")(show)
    app.add_typer(
        group,
        name="workload",
        help="List the ready-made workloads, or show the layers of one.",
        epilog="Example:  dpred-sim workload show resnet50",
    )


def list_workloads(as_json: AsJson = False) -> None:
    """List the ready-made workloads, and say whose values are drawn and whose are real."""
    found = ready_made_workloads()
    if as_json:
        _print_json({"workloads": found})
        return
    from dpred_sim.observe.tables import Column, text_table

    columns = [Column(head, left=True) for head in ("workload", "values", "what it is")]
    rows = [[entry["name"], entry["values"], entry["description"]] for entry in found]
    print("\n".join(line for line in text_table(columns, rows) if line))


def show(
    workload: Annotated[
        str, typer.Argument(metavar="WORKLOAD", help="A ready-made name, a script, or an .onnx file.")
    ],
    bits: Annotated[int, typer.Option(metavar="N", help="Bits of an uncompressed value, 8 or 16.")] = 16,
    quantise: Annotated[
        str, typer.Option(metavar="Q", help="How real numbers become integers.")
    ] = "profiled",
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="FILE", help="What the network is fed with; repeat for several."),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Draws synthetic values.")] = 0,
    values: Annotated[
        bool, typer.Option("--values/--no-values", help="Look at the values: zeros and group widths.")
    ] = True,
    group_size: Annotated[int, typer.Option(metavar="N", help="Values a group.")] = 16,
    as_json: AsJson = False,
) -> None:
    """Show the layers of a workload, and how many bits the groups of its values need."""
    import sys
    from contextlib import nullcontext, redirect_stdout

    from dpred_sim.workload.describe import describe
    from dpred_sim.workload.load import load_workload

    # Whatever a workload script prints must not get into the one document.
    with redirect_stdout(sys.stderr) if as_json and sys.stderr else nullcontext():
        loaded = load_workload(workload, bits=bits, quantise=quantise, inputs=inputs or (), seed=seed)
        document = describe(loaded, group_size if values else None)
    if as_json:
        _print_json(document)
        return
    kind = "SYNTHETIC " if loaded.synthetic and "synthetic" not in loaded.source.lower() else ""
    print(f"{loaded.name}, {loaded.bits} bit: {kind}{loaded.source}\n")
    print(_layer_table(document))
    print(
        f"\n{len(loaded.network)} layers, {_count(document['macs'])} multiply-accumulates, "
        f"{_count(document['weight_values'])} weights"
    )
    if values:
        print(f"\n{_value_table(document)}")


def ready_made_workloads() -> list[dict[str, str]]:
    """Name, file, first line of the docstring and kind of values of each ready-made workload.

    `values` is `synthetic` or `real` after the line "Values: ..." of the script's docstring, else
    `not stated`: the scripts are read, not run.
    """
    from dpred_sim.locate import ready_made, ready_made_names

    found = []
    for name in ready_made_names("workloads", ".py"):
        path = ready_made("workloads") / f"{name}.py"
        description, values = _docstring(path)
        found.append({"name": name, "values": values, "description": description, "file": str(path)})
    return found


def _docstring(path: Path) -> tuple[str, str]:
    import ast

    try:
        lines = (ast.get_docstring(ast.parse(path.read_bytes())) or "").splitlines()
    except (SyntaxError, ValueError):
        return "(not a script that Python can read)", "not stated"
    values = "not stated"
    for line in lines:
        if line.startswith("Values: "):
            word = line.removeprefix("Values: ").split()[0].strip(",;.")
            values = word if word in ("synthetic", "real") else values
    return (lines[0] if lines else ""), values


def _layer_table(document: dict[str, Any]) -> str:
    from dpred_sim.observe.tables import Column, text_table

    with_values = "values" in document
    columns = [
        Column("layer", left=True),
        Column("kind", left=True),
        Column("reads", "+ shortcut, x second", left=True),
        Column("activations", "HxWxC", left=True),
        Column("bits", "(s: signed)"),
        *([Column("zeros", "%"), Column("width", "mean")] if with_values else []),
        Column("weights", "KxYxXxC /stride", left=True),
        Column("bits"),
        *([Column("zeros", "%"), Column("width", "mean")] if with_values else []),
        Column("pooling", "size /stride", left=True),
        Column("outputs", "HxWxC", left=True),
        Column("MACs"),
        Column("weights", "values"),
    ]
    return "\n".join(text_table(columns, [_row(layers) for layers in _together(document["layers"])]))


def _together(layers: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Layers by line: the steps of a recurrence share one."""
    lines: list[list[dict[str, Any]]] = []
    for layer in layers:
        if lines and layer["family"] and lines[-1][0]["family"] == layer["family"]:
            lines[-1].append(layer)
        else:
            lines.append([layer])
    return lines


def _row(layers: list[dict[str, Any]]) -> list[str]:
    layer = layers[0]
    name, macs = layer["name"], sum(step["macs"] for step in layers)
    if len(layers) > 1:
        name = f"{layer['family']}[0..{len(layers) - 1}]"
    edges = layer["reads"]
    for sign, key in (("+", "shortcut"), ("x", "second")):
        edges += f" {sign} {layer[key]}" if layer[key] else ""
    return [
        name,
        layer["kind"],
        edges,
        _shape(layer["activations_shape"]),
        f"{layer['activations_precision_bits']}{'s' if layer['activations_signed'] else ''}",
        *_zeros_and_width(layers, "activations"),
        _weights(layer),
        str(layer["weights_precision_bits"] or ""),
        *_zeros_and_width(layers[:1], "weights"),
        _pool(layer["pool"]),
        _shape(layer["outputs_shape"]),
        _count(macs),
        _count(layer["weight_values"]),
    ]


def _zeros_and_width(layers: list[dict[str, Any]], kind: str) -> list[str]:
    from dpred_sim.workload.describe import mean_width, summed

    if "values" not in layers[0]:
        return []
    found = [layer["values"][kind] for layer in layers if kind in layer["values"]]
    if not found:
        return ["", ""]
    together = summed(found)
    return [f"{100 * together['zeros'] / together['values']:.1f}", f"{mean_width(together):.2f}"]


def _value_table(document: dict[str, Any]) -> str:
    """A row a kind: values, zeros, and how many of a hundred groups have each width."""
    from dpred_sim.observe.tables import Column, text_table
    from dpred_sim.workload.describe import mean_width

    widths = range(1, document["bits"] + 1)
    columns = [
        Column(f"groups of {document['group_size']}", left=True),
        Column("values"),
        Column("zeros", "%"),
        Column("precision", "mean bit"),
        Column("width", "mean bit"),
        *(Column(str(width), "%" if width == 1 else "") for width in widths),
    ]
    rows = []
    for kind, found in document["values"].items():
        groups = found["groups_by_width"]
        total = sum(groups.values())
        shares = [100 * groups.get(width, 0) / total for width in widths]
        rows.append(
            [
                kind,
                _count(found["values"]),
                f"{100 * found['zeros'] / found['values']:.1f}",
                f"{found['precision_bits']:.2f}",
                f"{mean_width(found):.2f}",
                *(f"{share:.1f}" if share >= 0.05 else "." for share in shares),
            ]
        )
    return "\n".join(text_table(columns, rows))


def _shape(shape: list[int] | None) -> str:
    return "" if shape is None else "x".join(str(size) for size in shape)


def _weights(layer: dict[str, Any]) -> str:
    """Shape of the weights, and what is not plain about the convolution: "96x11x11x3 /4"."""
    text = _shape(layer["weights_shape"])
    if layer["stride"] != [1, 1]:
        text += f" /{'x'.join(str(step) for step in dict.fromkeys(layer['stride']))}"
    if layer["groups"] > 1:
        text += f" g{layer['groups']}"
    return text


def _pool(pool: dict[str, Any] | None) -> str:
    if pool is None:
        return ""
    mode = "avg" if pool["mode"] == "average" else pool["mode"]
    step = "x".join(str(step) for step in dict.fromkeys(pool["stride"]))
    return f"{mode} {_shape(pool['size'])} /{step}"


def _count(number: int) -> str:
    """A count for people: "105.4 M"."""
    for unit, factor in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= factor:
            return f"{number / factor:.1f} {unit}"
    return str(number)


def _print_json(document: dict[str, Any]) -> None:
    import json

    print(json.dumps(document, indent=2))
