"""Why compute cycles differ from published figures: the same layers with one assumption changed at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.designs.base import DESIGNS, ComparisonPoint, Design
from dpred_sim.errors import InputError
from dpred_sim.values.tensor import Tensor, TensorSource
from dpred_sim.workload.layer import Layer
from dpred_sim.workload.workload import Workload

PRUNED_WEIGHTS = {"conv1": 0.84, "conv2": 0.38, "conv3": 0.35, "conv4": 0.37, "conv5": 0.37}
"""Share of AlexNet's weights left by magnitude pruning: Han et al., NIPS'15, table 4 (recalled)."""
PRUNED_ACTIVATIONS = {"conv1": 1.0, "conv2": 0.88, "conv3": 0.52, "conv4": 0.37, "conv5": 0.40}
"""Share of the activations that each layer reads that are not zero in the same table."""
RESNET_DENSITY = 0.35
"""For a network without a published pruning (assumption: as most convolutions of AlexNet)."""
SEED = 0

Variant = tuple[str, Sequence[Layer], dict[str, Any]]


def convolutions(workload: Workload) -> list[Layer]:
    """The convolutions of a workload, in order."""
    return [node.layer for node in workload.network if node.layer.kind == "conv"]


def point(name: str, bits: int, label: str) -> ComparisonPoint:
    """One point of comparison of a design."""
    (found,) = [p for p in DESIGNS.get(name).equal_peak(bits) if p.label == label]
    return found


def speedup(layers: Iterable[Layer], found: ComparisonPoint, **changes: Any) -> float:
    """Cycles of the baseline over those of the design, with some of its parameters changed."""
    design = replace(found.design, **changes)  # type: ignore[type-var]
    pairs = [(_cycles(found.baseline, layer), _cycles(design, layer)) for layer in layers]
    return sum(a for a, _ in pairs) / sum(b for _, b in pairs)


def _cycles(design: Design, layer: Layer) -> int:
    return design.layer_cycles(layer).total


def pruned(source: TensorSource, density: float) -> Tensor:
    """The values of largest magnitude, the others zero: at most `density` of all is left."""
    tensor = source.load()
    values = tensor.values.reshape(-1).copy()
    order = np.argsort(np.abs(values.astype(np.int64)), kind="stable")
    values[order[: len(values) - round(density * len(values))]] = 0
    return _like(tensor, values.reshape(tensor.shape))


def _like(tensor: Tensor, values: NDArray[Any], precision: int | None = None) -> Tensor:
    return Tensor(values, tensor.bits, tensor.signed, precision or tensor.precision)


def at_precision(source: TensorSource, precision: int) -> Tensor:
    """The same values with bits added or taken away at the low end."""
    tensor = source.load()
    shift = precision - tensor.precision
    values = tensor.values.astype(np.int64)
    return _like(tensor, values << shift if shift > 0 else values >> -shift, precision)


def with_low_bits(source: TensorSource, extra: int) -> Tensor:
    """The same values with `extra` random bits below those that are there; zeros stay zero."""
    tensor = source.load()
    extra = min(extra, tensor.bits - tensor.precision)
    values = tensor.values.astype(np.int64)
    low = np.random.default_rng(SEED).integers(0, 1 << extra, values.shape)
    return _like(tensor, np.where(values != 0, (values << extra) + low, 0), tensor.precision + extra)


def dense(layer: Layer) -> Layer:
    """The layer with ones everywhere: no zero to skip, no two products of a block in a bank."""
    acts, weights = layer.activations.load(), layer.weights.load()  # type: ignore[union-attr]
    return replace(
        layer,
        activations=_like(acts, np.ones(acts.shape, np.int64)),
        weights=_like(weights, np.ones(weights.shape, np.int64)),
    )


def prune_layer(layer: Layer, weights: float, activations: float = 1.0) -> Layer:
    """A layer whose operands are pruned by magnitude."""
    if layer.weights is None:
        raise InputError("nothing to prune", field=f"layer {layer.name!r}")
    kept = layer.activations if activations == 1 else pruned(layer.activations, activations)
    return replace(layer, weights=pruned(layer.weights, weights), activations=kept)


def scnn_variants(workload: Workload) -> list[Variant]:
    """The layers as they are, pruned, and pruned on a grid that waits less."""
    layers = convolutions(workload)
    queue: dict[str, Any] = {"conflicts": False}
    free = queue | {"barrier": "pass"}
    if workload.name != "alexnet":
        light = [prune_layer(layer, RESNET_DENSITY) for layer in layers]
        return [
            ("as they are", layers, {}),
            ("as they are, products queue and units wait a pass", layers, free),
            (f"weights pruned to {RESNET_DENSITY:.0%}", light, {}),
            ("the same, products queue", light, queue),
            ("the same, and units wait for each other once a pass", light, free),
        ]
    light = [prune_layer(layer, PRUNED_WEIGHTS[layer.name]) for layer in layers]
    both = [
        prune_layer(layer, PRUNED_WEIGHTS[layer.name], PRUNED_ACTIVATIONS[layer.name]) for layer in layers
    ]
    return [
        ("as they are", layers, {}),
        ("as they are, 6144 accumulators", layers, {"accumulators": 6144}),
        ("as they are, products queue and units wait a pass", layers, free),
        ("weights pruned", light, {}),
        ("weights and activations pruned", both, {}),
        ("the same, 6144 accumulators", both, {"accumulators": 6144}),
        ("the same, 1024 accumulators, products queue", both, queue),
        ("the same, and units wait for each other once a pass", both, free),
    ]


def scnn_rows(workload: Workload) -> list[list[str]]:
    """Name, times over the dense machine, times over the same grid with dense values, ideal."""
    found = point("scnn", workload.bits, "1024 MACs")
    grid = sum(_cycles(found.design, dense(layer)) for layer in convolutions(workload))
    machine = sum(_cycles(found.baseline, layer) for layer in convolutions(workload))
    rows = [["all values dense", f"{machine / grid:.2f}", "1.00", "1.00"]]
    for name, layers, changes in scnn_variants(workload):
        times = speedup(layers, found, **changes)
        work = sum(found.design.work_bits(layer) for layer in layers)  # type: ignore[attr-defined]
        every = sum(layer.macs for layer in layers)
        rows.append([name, f"{times:.2f}", f"{times * grid / machine:.2f}", f"{every / work:.2f}"])
    return rows


def loom_rows(workload: Workload) -> list[list[str]]:
    """Convolutions at the published point by the precision of the weights."""
    rows = []
    for bits in (8, 9, 10, 11, 12):
        layers = [
            replace(layer, weights=at_precision(layer.weights, bits))  # type: ignore[arg-type]
            for layer in convolutions(workload)
        ]
        times = [speedup(layers, point(name, 16, "128 MACs")) for name in ("loom", "dpred_loom")]
        rows.append([str(bits), *(f"{x:.2f}" for x in times)])
    return rows


def loom_idle_rows(workload: Workload) -> list[list[str]]:
    """The same point over the layers that fill the 128 rows, and over the others."""
    found = point("loom", workload.bits, "128 MACs")
    layers = convolutions(workload)
    kinds = (
        ("at least 128 filters", [layer for layer in layers if layer.filters // layer.groups >= 128]),
        ("fewer", [layer for layer in layers if layer.filters // layer.groups < 128]),
    )
    return [[name, str(len(own)), f"{speedup(own, found):.2f}"] for name, own in kinds if own]


def fully_connected_rows(workload: Workload) -> list[list[str]]:
    """Each fully connected layer on both Looms at both points."""
    points = [
        point(name, workload.bits, label)
        for label in ("equal peak", "128 MACs")
        for name in ("loom", "dpred_loom")
    ]
    layers = [node.layer for node in workload.network if node.layer.kind == "linear"]
    rows = [
        [layer.name, str(layer.filters), *(f"{speedup([layer], found):.2f}" for found in points)]
        for layer in layers
    ]
    return [*rows, ["together", "", *(f"{speedup(layers, found):.2f}" for found in points)]]


def pragmatic_rows(workload: Workload) -> list[list[str]]:
    """Lockstep, one register, and recoded: by options, then by bits below the profiled precision."""
    still, ahead = point("pragmatic", 16, "equal peak"), point("pragmatic", 16, "run-ahead 1")
    layers = convolutions(workload)

    def row(name: str, own: Sequence[Layer], **changes: Any) -> list[str]:
        return [name, *(f"{speedup(own, found, **changes):.2f}" for found in (still, ahead))]

    rows = [row("as they are", layers)]
    rows += [row(f"first stage of {b} bit{'s' * (b != 1)}", layers, first_stage_bits=b) for b in (0, 1, 4)]
    rows.append(row("recoding", layers, recoding=True))
    for extra in (1, 2, 3, 4, 16):
        own = [replace(layer, activations=with_low_bits(layer.activations, extra)) for layer in layers]
        name = f"{extra} random bit{'s' * (extra > 1)} below" if extra < 16 else "random bits below, to 16"
        rows.append(row(name, own))
    return rows


def bit_fusion_rows(workload: Workload) -> list[list[str]]:
    """Over Stripes, each at its own peak, by the precision of both operands; with and without conv1."""
    fusion, stripes = point("bit_fusion", 8, "per MAC"), point("stripes", 8, "equal peak")
    rows = []
    for acts, weights in ((8, 8), (8, 4), (4, 4), (4, 2), (2, 2)):
        layers = [
            replace(
                layer,
                activations=at_precision(layer.activations, min(acts, layer.activations.precision)),
                weights=at_precision(layer.weights, weights),  # type: ignore[arg-type]
            )
            for layer in convolutions(workload)
        ]
        cells = []
        for own in (layers, layers[1:]):
            a, b = speedup(own, fusion), speedup(own, stripes)
            cells += [f"{a:.2f}", f"{b:.2f}", f"{a / b:.2f}"]
        rows.append([f"{acts}, {weights}", *cells])
    return rows
