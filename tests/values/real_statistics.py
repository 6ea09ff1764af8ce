"""What the tensors of a real network are like: counted once, kept in tests/data/resnet50_thin.

Run by itself (with the model in the cache, or a package registry) it counts them again.
"""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any

from dpred_sim.codecs.base import codec
from dpred_sim.designs.base import design
from dpred_sim.values.tensor import TensorSource
from dpred_sim.values.widths import group_stats, layout
from dpred_sim.workload.layer import Layer
from dpred_sim.workload.load import load_workload

FILE = Path(__file__).parent.parent / "data" / "resnet50_thin" / "statistics.json"
STRIPES = design("dpred_stripes", lanes=16, columns=16, rows=16, tiles=16)


def of_tensor(x: TensorSource) -> dict[str, float]:
    """Widths of groups, zeros and sizes of one tensor."""
    stats = group_stats(x, 16, layout(tuple(x.shape), 16))
    values = prod(x.shape)
    return {
        "width": float(stats.widths.mean()),
        "width_256": float(group_stats(x, 256, layout(tuple(x.shape), 256)).widths.mean()),
        "zeros": 1 - int(stats.nonzeros.sum(dtype=int)) / values,
        "plain": codec("dpred", mode="plain").size_bits(x) / (values * x.bits),
        "flagged": codec("dpred", mode="zeros").size_bits(x) / (values * x.bits),
        "apack": codec("apack").size_bits(x) / (values * x.bits),
    }


def step_cycles(layer: Layer, activations: TensorSource) -> int:
    """Cycles of a layer on serial activations: they depend on the widths of pallets alone."""
    assert layer.weights is not None
    options: dict[str, Any] = {"stride": layer.stride, "padding": layer.padding, "groups": layer.groups}
    return STRIPES.layer_cycles(Layer.conv2d(layer.name, activations, layer.weights, **options)).total


def count() -> list[dict[str, Any]]:
    """A row a tensor: weights, and activations behind a ReLU."""
    rows = []
    for bits in (16, 8):
        seen: set[int] = set()
        for node in load_workload("resnet50_thin", bits=bits).network:
            layer = node.layer
            for kind, x in (("weights", layer.weights), ("activations", layer.activations)):
                if x is None or id(x) in seen or (kind == "activations" and x.signed):
                    continue
                seen.add(id(x))
                row = {"layer": node.name, "kind": kind, "bits": bits, "shape": list(x.shape)}
                row |= {"precision": x.precision, **{k: round(v, 5) for k, v in of_tensor(x).items()}}
                if kind == "activations" and layer.kind == "conv" and layer.weights is not None:
                    row |= {"cycles": step_cycles(layer, x), "stride": layer.stride[0]}
                    row |= {"padding": layer.padding[0], "kernel": list(layer.weights.shape)}
                rows.append(row)
    return rows


if __name__ == "__main__":
    found = count()
    FILE.write_text("[\n" + ",\n".join(json.dumps(row) for row in found) + "\n]\n")
    print(len(found), "tensors")
