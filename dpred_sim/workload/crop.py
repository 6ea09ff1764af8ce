"""A few consecutive layers of a captured network, on a part of the plane: a small piece with real values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from dpred_sim.errors import InputError
from dpred_sim.workload.capture import Arrays
from dpred_sim.workload.network import INPUT


def cropped(
    found: Arrays, names: Sequence[str], rows: slice, columns: slice
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Description and arrays of the layers `names`, rows and columns of their activations cut.

    All of them must keep the size of the plane. What they read from outside is one tensor, which
    becomes the network's input. Values at the edges of the cut were computed with neighbours that are
    no longer there. Raises InputError for layers that cannot be cut so.
    """
    description = found.description
    layers = [dict(layer) for layer in description["layers"] if layer["name"] in names]
    if [layer["name"] for layer in layers] != list(names):
        raise InputError("not layers in the order of the network", found=list(names))
    written = set(names)
    reads: set[str] = {layer[key] for layer in layers for key in ("reads", "shortcut") if key in layer}
    outside = reads - written
    if len(outside) != 1:
        raise InputError("the layers must read one tensor from outside", found=sorted(outside))
    (source,) = outside
    kept = {source: INPUT, **{name: name for name in names}}
    plane = description["activations"][source]["shape"][:2]
    for name in names:
        shape = description["activations"][name]["shape"]
        if len(shape) != 3 or shape[:2] != plane:
            raise InputError("a layer changes the size of the plane", field=name, found=shape, allowed=plane)
    for layer in layers:
        layer["reads"] = kept[layer["reads"]]
        if "shortcut" in layer:
            layer["shortcut"] = kept[layer["shortcut"]]
    arrays: dict[str, NDArray[Any]] = {}
    activations = {}
    for old, new in kept.items():
        array = arrays[f"activations/{new}"] = found.read(f"activations/{old}")[rows, columns]
        activations[new] = {**description["activations"][old], "shape": list(array.shape)}
    weights = {name: about for name, about in description["weights"].items() if name in written}
    arrays.update((f"weights/{name}", found.read(f"weights/{name}")) for name in weights)
    about = {
        "of": {
            "layers": list(names),
            "rows": [rows.start, rows.stop],
            "columns": [columns.start, columns.stop],
        },
        "layers": layers,
        "activations": activations,
        "weights": weights,
        "outputs": [names[-1]],
        "files": [],
        **{key: description[key] for key in ("bits", "rule", "versions")},
    }
    return about, arrays
