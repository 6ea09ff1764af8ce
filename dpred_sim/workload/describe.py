"""A workload in numbers: its layers, and what their values are like."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Any

import numpy as np

from dpred_sim.values.tensor import TensorSource
from dpred_sim.values.widths import group_stats, layout
from dpred_sim.workload.network import Network, Node
from dpred_sim.workload.workload import Workload

KINDS = ("weights", "activations", "outputs")


def describe(workload: Workload, group_size: int | None = None) -> dict[str, Any]:
    """The workload's layer table, JSON-ready. Precisions are in bits, shapes channel last.

    With `group_size` the values are made and looked at: `values` of a layer and of the whole network
    are those of `statistics`, by kind. Weights that several layers share count once in the network's.
    Raises InputError for a group size below 1.
    """
    network = workload.network
    layers = [_describe_layer(node, network) for node in network]
    document: dict[str, Any] = {
        "name": workload.name,
        "bits": workload.bits,
        "source": workload.source,
        "synthetic": workload.synthetic,
        "macs": workload.macs,
        "weight_values": _distinct_weights(network),
        "layers": layers,
    }
    if group_size is None:
        return document
    everything: dict[str, dict[int, dict[str, Any]]] = {kind: {} for kind in KINDS}
    for node, layer in zip(network, layers, strict=True):
        layer["values"] = {}
        for kind in KINDS:
            source = operand(node, kind)
            if source is not None:
                layer["values"][kind] = statistics(source, group_size)
                # Activations and outputs are one layer's each; weights may be several layers'.
                key = id(source) if kind == "weights" else len(everything[kind])
                everything[kind][key] = layer["values"][kind]
    document["group_size"] = group_size
    document["values"] = {kind: summed(found.values()) for kind, found in everything.items() if found}
    return document


def kind_of(node: Node) -> str:
    """What a layer is by name: its kind, `matmul`, `recurrent` or `depthwise`."""
    if node.layer.second is not None:
        return "matmul"
    if node.family:
        return "recurrent"
    return "depthwise" if node.layer.is_depthwise else node.layer.kind


def operand(node: Node, kind: str) -> TensorSource | None:
    """A layer's weights (the second operand of a product, as it is stored), activations or outputs."""
    if kind == "weights" and node.layer.second is not None:
        return node.layer.second
    source: TensorSource | None = getattr(node.layer, kind)
    return source


def statistics(source: TensorSource, group_size: int) -> dict[str, Any]:
    """Numbers of values, zeros and groups of each width, precision, sign; groups as in containers."""
    stats = group_stats(source, group_size, layout(tuple(source.shape), group_size))
    values = prod(source.shape)
    counts = np.bincount(stats.widths.reshape(-1), minlength=source.bits + 1)
    return {
        "values": values,
        "zeros": values - int(stats.nonzeros.sum(dtype=np.int64)),
        "precision_bits": source.precision,
        "signed": source.signed,
        "groups_by_width": {width: n for width, n in enumerate(counts.tolist()) if n},
    }


def summed(found: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Several tensors as one: counts added, precision as the mean over values."""
    values = zeros = weighted = 0
    groups: dict[int, int] = {}
    for one in found:
        values += one["values"]
        zeros += one["zeros"]
        weighted += one["precision_bits"] * one["values"]
        for width, count in one["groups_by_width"].items():
            groups[width] = groups.get(width, 0) + count
    return {
        "values": values,
        "zeros": zeros,
        "precision_bits": round(weighted / values, 3),
        "groups_by_width": dict(sorted(groups.items())),
    }


def mean_width(found: dict[str, Any]) -> float:
    """Mean width of the groups of `statistics`."""
    groups = found["groups_by_width"]
    return float(sum(width * count for width, count in groups.items()) / sum(groups.values()))


def _distinct_weights(network: Network) -> int:
    found = {id(n.layer.weights): n.layer.weights for n in network if n.layer.second is None}
    return sum(prod(weights.shape) for weights in found.values() if weights is not None)


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
        "kind": kind_of(node),
        "reads": node.reads,
        "shortcut": node.shortcut,
        "second": node.second,
        "family": node.family or None,
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
        "weight_values": 0 if weights is None or layer.second is not None else prod(weights.shape),
        "activations_precision_bits": layer.activations.precision,
        "activations_signed": layer.activations.signed,
        "weights_precision_bits": None if weights is None else weights.precision,
        "outputs_precision_bits": None if outputs is None else outputs.precision,
        "outputs_signed": None if outputs is None else outputs.signed,
    }
