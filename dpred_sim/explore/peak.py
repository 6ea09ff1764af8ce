"""Peak of a system: multiply-accumulates a cycle on values of full width.

Designs of different peak must not be compared without dividing by it. The peak is measured, not declared: the
design itself is asked for the cycles of a dense convolution that fills every lane, row, column and tile with
values that need all their bits.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from dpred_sim.workload.layer import Layer

if TYPE_CHECKING:
    from dpred_sim.designs.base import Design
    from dpred_sim.topology.graph import Topology

CHUNKS = 16
"""Channel chunks of the convolution: enough to make start-up of run-ahead designs negligible."""


def peak_macs_per_cycle(topology: Topology, bits: int) -> float:
    """Sum over the clusters of what their designs do on `bits`-wide values, per cycle of the core clock."""
    peak = 0.0
    for cluster in topology.clusters:
        parameters: Any = topology.node(cluster.tiles[0]).parameters
        options = tuple(sorted(parameters.options.items()))
        peak += _peak(parameters.design, len(cluster.tiles), options, bits)
    return peak


@cache
def _peak(name: str, tiles: int, options: tuple[tuple[str, Any], ...], bits: int) -> float:
    from dpred_sim.designs.base import design

    return design_peak(design(name, tiles=tiles, **dict(options)), bits)


def design_peak(design: Design, bits: int) -> float:
    """Multiply-accumulates a cycle of one design on values that need all of `bits`.

    The slower of two kinds of them: some designs pay for the highest and lowest bit of a value, others for
    every bit that is set.
    """
    top = (1 << bits) - 1
    half = 1 << (bits - 1)
    return min(_rate(design, bits, (half + 1, top), (half - 1, -half)), _rate(design, bits, (top,), (top,)))


def _rate(design: Design, bits: int, activations: tuple[int, ...], weights: tuple[int, ...]) -> float:
    """Multiply-accumulates a cycle when these values take turns over the channels."""
    from dpred_sim.values.tensor import Tensor

    height, width, channels, filters = design.filling()
    channels *= CHUNKS
    x = np.broadcast_to(np.resize(activations, channels), (height, width, channels))
    w = np.broadcast_to(np.resize(weights, channels), (filters, 1, 1, channels))
    layer = Layer.conv2d("peak", Tensor(x, bits), Tensor(w, bits))
    cycles = design.layer_cycles(layer)
    return cycles.macs / cycles.total
