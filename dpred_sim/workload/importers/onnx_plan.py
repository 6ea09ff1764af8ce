"""What a graph becomes: layers to be, their weights, and which ONNX tensor holds what is stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.workload.importers.onnx_native import Native
from dpred_sim.workload.importers.onnx_views import Positions

Renames = Sequence[tuple[str, str]]
"""Pairs (regular expression, replacement) that make layer names of the names in the file."""


@dataclass(frozen=True)
class Weights:
    """Weights of a layer: `factor` times the constant `source` of the graph, which `make` brings into order.

    They are made when they are looked at, so that they are not in memory twice.
    """

    make: Callable[[NDArray[np.float32]], NDArray[np.float32]]
    constant: Callable[[], NDArray[np.float32]]
    source: str
    factor: float = 1.0
    native: Native | None = None

    @property
    def values(self) -> NDArray[np.float32]:
        """The weights, channel last."""
        return self.make(self.constant())


@dataclass(frozen=True)
class Derived:
    """Values that the model computes inside an operator: `make` of the ONNX tensors `sources`."""

    sources: tuple[str, ...]
    make: Callable[..., NDArray[np.float32]]


@dataclass(frozen=True)
class Planned:
    """A layer to be, or a tensor that is there at the start (kind `given`; the input has no settings).

    The ONNX tensor `tensor` holds what the layer stores, a tensor of `shape`: value i of it lies at
    `positions[i]`, or where there is `gather`, stored value j comes from `gather[j]` (-1: zero). A
    `derived` tensor is none of the model's, but computed from some.
    `settings` is JSON-ready: kind, operator, reads, and shortcut, stride, padding, dilation, groups,
    pool, parts where they apply.
    """

    name: str
    settings: dict[str, Any]
    shape: tuple[int, ...]
    tensor: str
    positions: Positions
    weights: Weights | None = None
    gather: Positions | None = None
    native: Native | None = None
    derived: Derived | None = None

    @property
    def is_stored(self) -> bool:
        """Whether it has values of its own; what several layers write side by side has not."""
        return self.settings.get("kind") != "concat"

    @property
    def sources(self) -> tuple[str, ...]:
        """The ONNX tensors that its values are made of."""
        return (self.tensor,) if self.derived is None else self.derived.sources

    def arrange(self, *values: NDArray[Any]) -> NDArray[np.float32]:
        """The stored tensor, given its sources."""
        if self.derived is not None:
            return self.derived.make(*values)
        (value,) = values
        flat = value.reshape(-1)
        if self.gather is not None:
            kept = np.where(self.gather < 0, 0, flat[self.gather]).astype(np.float32, copy=False)
            return kept.reshape(self.shape)
        stored = np.zeros(prod(self.shape), dtype=np.float32)
        stored[self.positions.reshape(-1)] = flat
        return stored.reshape(self.shape)


@dataclass(frozen=True)
class Plan:
    """The network's input and its layers in execution order.

    `outputs` names the stored tensors that the network returns, those before a final softmax; `origins`
    the node of the file that each layer is of.
    """

    layers: list[Planned]
    outputs: list[str]
    origins: Mapping[str, str]

    @property
    def stored(self) -> list[Planned]:
        """Those layers that have values of their own."""
        return [layer for layer in self.layers if layer.is_stored]


def planned_macs(plan: Plan, weights: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[str, int]]:
    """Operator and multiply-accumulates of what each node with products became, by the node's name.

    `weights` are the shapes of the layers' weights.
    """
    shapes = {layer.name: layer.shape for layer in plan.layers}
    found: dict[str, tuple[str, int]] = {}
    for layer in plan.layers:
        macs = _macs(layer, shapes, weights.get(layer.name, ()))
        if macs:
            name = plan.origins.get(layer.name, layer.name)
            found[name] = (str(layer.settings["operator"]), found.get(name, ("", 0))[1] + macs)
    return found


def _macs(layer: Planned, shapes: Mapping[str, tuple[int, ...]], weights: tuple[int, ...]) -> int:
    settings, kind = layer.settings, layer.settings.get("kind")
    if kind in ("recurrence", "reset"):
        # Once a step.
        return layer.shape[0] * prod(weights)
    if kind not in ("conv", "linear", "matmul"):
        return 0
    reads = settings["reads"]
    # One state of a recurrence is a row of all of them.
    shape = shapes[reads] if reads in shapes else (1, *shapes[reads.rsplit(".h[", 1)[0]][1:])
    if kind == "matmul":
        return prod(layer.shape) * (shape[-1] // int(settings["groups"]))
    if kind == "linear":
        return prod(shape) // weights[1] * prod(weights)
    (top, left, bottom, right), positions = settings["padding"], 1
    for axis, around in enumerate((top + bottom, left + right)):
        span = (weights[1 + axis] - 1) * settings["dilation"][axis] + 1
        positions *= (shape[axis] + around - span) // settings["stride"][axis] + 1
    return positions * prod(weights)
