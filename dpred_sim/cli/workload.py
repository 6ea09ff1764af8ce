"""`dpred-sim workload`: the ready-made workloads, and the layer table of any workload."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from dpred_sim.workload.network import Network, Node
    from dpred_sim.workload.workload import Workload

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
    as_json: AsJson = False,
) -> None:
    """Show the layers of a workload: shapes, multiply-accumulates, weights, precisions, edges."""
    from dpred_sim.workload.load import load_workload

    loaded = load_workload(workload, bits=bits, quantise=quantise, inputs=inputs or ())
    document = describe(loaded)
    if as_json:
        _print_json(document)
        return
    print(f"{loaded.name}, {loaded.bits} bit: {loaded.source}\n")
    print(_layer_table(document))
    print(
        f"\n{len(loaded.network)} layers, {_count(document['macs'])} multiply-accumulates, "
        f"{_count(document['weight_values'])} weights"
    )


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


def describe(workload: Workload) -> dict[str, Any]:
    """The workload's layer table, JSON-ready. Precisions are in bits, shapes channel last."""
    layers = [_describe_layer(node, workload.network) for node in workload.network]
    return {
        "name": workload.name,
        "bits": workload.bits,
        "source": workload.source,
        "synthetic": workload.synthetic,
        "macs": workload.macs,
        "weight_values": sum(layer["weight_values"] for layer in layers),
        "layers": layers,
    }


def _describe_layer(node: Node, network: Network) -> dict[str, Any]:
    layer, weights, outputs = node.layer, node.layer.weights, node.layer.outputs
    pool = layer.pool and {
        "mode": layer.pool.mode,
        "size": list(layer.pool.size),
        "stride": list(layer.pool.stride),
        "padding": list(layer.pool.padding),
    }
    return {
        "name": layer.name,
        "kind": layer.kind,
        "reads": node.reads,
        "shortcut": node.shortcut,
        "read_by": [network.nodes[index].name for index in network.readers(layer.name)],
        "activations_shape": list(layer.activations.shape),
        "weights_shape": None if weights is None else list(weights.shape),
        "outputs_shape": list(layer.output_shape),
        "stride": list(layer.stride),
        "padding": list(layer.padding),
        "dilation": list(layer.dilation),
        "groups": layer.groups,
        "pool": pool,
        "macs": layer.macs,
        "weight_values": 0 if weights is None else prod(weights.shape),
        "activations_precision_bits": layer.activations.precision,
        "activations_signed": layer.activations.signed,
        "weights_precision_bits": None if weights is None else weights.precision,
        "outputs_precision_bits": None if outputs is None else outputs.precision,
        "outputs_signed": None if outputs is None else outputs.signed,
    }


def _layer_table(document: dict[str, Any]) -> str:
    from dpred_sim.observe.tables import Column, text_table

    columns = [
        Column("layer", left=True),
        Column("kind", left=True),
        Column("reads", "+ shortcut", left=True),
        Column("activations", "HxWxC", left=True),
        Column("bits", "(s: signed)"),
        Column("weights", "KxYxXxC /stride", left=True),
        Column("bits"),
        Column("pooling", "size /stride", left=True),
        Column("outputs", "HxWxC", left=True),
        Column("MACs"),
        Column("weights", "values"),
    ]
    return "\n".join(text_table(columns, [_row(layer) for layer in document["layers"]]))


def _row(layer: dict[str, Any]) -> list[str]:
    return [
        layer["name"],
        layer["kind"],
        layer["reads"] + (f" + {layer['shortcut']}" if layer["shortcut"] else ""),
        _shape(layer["activations_shape"]),
        f"{layer['activations_precision_bits']}{'s' if layer['activations_signed'] else ''}",
        _weights(layer),
        str(layer["weights_precision_bits"] or ""),
        _pool(layer["pool"]),
        _shape(layer["outputs_shape"]),
        _count(layer["macs"]),
        _count(layer["weight_values"]),
    ]


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
