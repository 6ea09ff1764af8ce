"""Group widths of a layer's tensors, for people: means and counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dpred_sim.values.tensor import TensorSource

if TYPE_CHECKING:
    from dpred_sim.simulation.engine import Simulation

WIDTH_GROUP = 16
"""Group size of the widths in reports."""


def mean_width(source: TensorSource | None) -> float | None:
    """Mean width a value is charged in groups of 16 along the channels, None where nothing is known."""
    if source is None or not hasattr(source, "memo"):
        return None
    known: dict[object, float] = source.memo
    key = ("mean_width", WIDTH_GROUP)
    if key not in known:
        from dpred_sim.values.widths import group_widths

        widths = group_widths(source, WIDTH_GROUP)
        depth = source.shape[-1]
        sizes = np.minimum(WIDTH_GROUP, depth - np.arange(widths.shape[-1]) * WIDTH_GROUP)
        total = float((widths.reshape(-1, len(sizes)).sum(axis=0, dtype=np.int64) * sizes).sum())
        count = widths.reshape(-1, len(sizes)).shape[0] * depth
        known[key] = total / count
    return known[key]


def width_counts(source: TensorSource | None) -> tuple[int, ...]:
    """Groups of 16 along the channels by their width, from 0 bits on; empty where nothing is known."""
    if source is None or not hasattr(source, "memo"):
        return ()
    known: dict[object, tuple[int, ...]] = source.memo
    key = ("width_counts", WIDTH_GROUP)
    if key not in known:
        from dpred_sim.values.widths import group_widths

        widths = group_widths(source, WIDTH_GROUP).reshape(-1)
        known[key] = tuple(np.bincount(widths, minlength=source.bits + 1).tolist())
    return known[key]


def layer_widths(simulation: Simulation, index: int) -> dict[str, Any]:
    """Means and counts of the widths of a layer's activations and weights, JSON-ready."""
    layer = simulation.jobs[index % len(simulation.jobs)].layer
    return {
        "mean_activations": mean_width(layer.activations),
        "mean_weights": mean_width(layer.weights),
        "activations": list(width_counts(layer.activations)),
        "weights": list(width_counts(layer.weights)),
    }
