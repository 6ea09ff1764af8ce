"""Work in bits: what a design would do without any loss of balance or synchronisation.

The sum over all multiply-accumulates of a per-value amount of work; products with padding zeros count.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.workload.layer import Layer

Amount = Callable[[NDArray[Any]], NDArray[Any]]
"""Work of each value of an array, same shape."""


def total_work(layer: Layer, activations: Amount | None = None, weights: Amount | None = None) -> int:
    """Sum over the multiply-accumulates of activations(a) * weights(w); an operand left out counts 1."""
    by_tap = _activation_sums(layer, activations)
    per_filter = _weight_sums(layer, weights)
    return int((by_tap * per_filter).sum())


def _activation_sums(layer: Layer, amount: Amount | None) -> NDArray[np.int64]:
    """Work of the activations that meet each (ky, kx, channel), summed over the windows."""
    (ky, kx), (sy, sx), (dy, dx) = layer.kernel, layer.stride, layer.dilation
    height, width = layer.conv_height, layer.conv_width
    if amount is None:
        return np.full((ky, kx, layer.channels), height * width, dtype=np.int64)
    values = layer.activations.load().values.reshape(layer.height, layer.width, layer.channels)
    top, left, bottom, right = layer.padding
    work = amount(np.pad(values, ((top, bottom), (left, right), (0, 0))))
    sums = np.empty((ky, kx, layer.channels), dtype=np.int64)
    for row in range(ky):
        rows = work[row * dy :][: (height - 1) * sy + 1 : sy]
        for column in range(kx):
            met = rows[:, column * dx :][:, : (width - 1) * sx + 1 : sx]
            sums[row, column] = met.sum(axis=(0, 1), dtype=np.int64)
    return sums


def _weight_sums(layer: Layer, amount: Amount | None) -> NDArray[np.int64]:
    """Work of the weights at each (ky, kx, channel), summed over the filters that read the channel."""
    (ky, kx), groups = layer.kernel, layer.groups
    filters = layer.filters // groups
    if amount is None or layer.weights is None:
        return np.full((ky, kx, layer.channels), filters, dtype=np.int64)
    work = amount(layer.weights.load().values).reshape(groups, filters, ky, kx, -1)
    summed: NDArray[np.int64] = work.sum(axis=1, dtype=np.int64)
    return summed.transpose(1, 2, 0, 3).reshape(ky, kx, layer.channels)
