"""Outer products of non-zeros, added up by coordinates, and the cycles that they need at least."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.designs.base import Range
from dpred_sim.designs.scnn_folded import FOLD, folded
from dpred_sim.designs.scnn_grid import Grid
from dpred_sim.workload.layer import Layer

Integers = NDArray[np.int64]
SLAB_WEIGHTS = 1 << 22
DENSE = 2
"""Filters are added up as whole rows when at least one in this many has a weight."""


def outer_products(layer: Layer, activations: Integers, weights: NDArray[Any]) -> Integers:
    """Outputs (windows, filters) of a convolution, channel by channel and weight position by position.

    The non-zeros of a channel, with their coordinates, all meet the non-zero weights of the channel; a
    product goes to the output that the difference of coordinates says. Those outside the plane are dropped.
    """
    values = activations.reshape(layer.height, layer.width, layer.channels)
    kernels = weights.reshape(layer.filters, *layer.kernel, -1)
    group, depth = layer.filters // layer.groups, kernels.shape[3]
    outputs = np.zeros((layer.windows, layer.filters), dtype=np.int64)
    for channel in range(layer.channels):
        y, x = np.nonzero(values[:, :, channel])
        compressed = values[y, x, channel]
        first = channel // depth * group
        mine = kernels[first : first + group, :, :, channel % depth]
        for ky, kx in np.ndindex(*layer.kernel):
            filters = np.flatnonzero(mine[:, ky, kx])
            at, inside = _outputs_of(layer, y, x, ky, kx)
            if not len(filters) or not len(at):
                continue
            taken = mine[filters, ky, kx].astype(np.int64)
            if len(filters) * DENSE >= group:
                row = np.zeros(group, dtype=np.int64)
                row[filters] = taken
                outputs[at, first : first + group] += compressed[inside][:, None] * row
            else:
                outputs[at[:, None], first + filters] += compressed[inside][:, None] * taken
    return outputs


def _outputs_of(layer: Layer, y: Integers, x: Integers, ky: int, kx: int) -> tuple[Integers, NDArray[Any]]:
    """Windows that activations at (y, x) belong to through one weight position, and which of them do."""
    from_y = y + layer.padding[0] - ky * layer.dilation[0]
    from_x = x + layer.padding[1] - kx * layer.dilation[1]
    (oy, off_y), (ox, off_x) = np.divmod(from_y, layer.stride[0]), np.divmod(from_x, layer.stride[1])
    inside = (off_y == 0) & (off_x == 0) & (oy >= 0) & (ox >= 0)
    inside &= (oy < layer.conv_height) & (ox < layer.conv_width)
    return (oy * layer.conv_width + ox)[inside], inside


def matched_products(layer: Layer, activations: Integers, weights: NDArray[Any]) -> Integers:
    """Outputs (1, filters) of a fully connected layer: non-zero weights meet the activation of their channel.

    Sums run in float64 and are exact: 16-bit operands and fewer than 2^21 products stay below 2^53.
    """
    vector = activations.reshape(-1)
    present = vector != 0
    outputs = np.zeros((1, layer.filters), dtype=np.int64)
    step = max(1, SLAB_WEIGHTS // layer.channels)
    for first in range(0, layer.filters, step):
        part = weights[first : first + step]
        filters, channels = np.nonzero(part)
        met = present[channels]
        filters, channels = filters[met], channels[met]
        products = part[filters, channels].astype(np.float64) * vector[channels]
        outputs[0, first : first + len(part)] = np.bincount(filters, products, len(part)).astype(np.int64)
    return outputs


def least_cycles(
    layer: Layer,
    turns: NDArray[Any],
    weights: NDArray[Any],
    passes: list[Range],
    grid: Grid,
    rows: slice,
) -> Integers:
    """Cycles that each channel of each pass takes at least: (passes, channels of a group, units).

    A unit's blocks of activations x blocks of weights, in each phase; `turns` are the cycles that
    a non-zero activation takes to enter, 0 for a zero. The grid is on some `rows` of the padded plane.
    """
    entering = _turns_of_units(layer, turns, grid, rows)
    kernels = np.not_equal(weights, 0).reshape(layer.filters, *layer.kernel, -1)
    depth, group = kernels.shape[3], layer.filters // layer.groups
    counts = np.add.reduceat(kernels, [first for first, _ in passes], axis=0, dtype=np.int64)
    ky, kx = (np.arange(size) for size in layer.kernel)
    phase_y = (ky * grid.y.dilation + grid.y.padding) % grid.y.stride
    phase_x = (kx * grid.x.dilation + grid.x.padding) % grid.x.stride
    phases = phase_y[:, None] * grid.x.stride + phase_x
    channels = np.array([first // group * depth for first, _ in passes])[:, None] + np.arange(depth)
    least = np.zeros((len(entering), len(passes), depth), dtype=np.int64)
    for phase in range(grid.x.stride * grid.y.stride):
        blocks = -(-counts[:, phases == phase].sum(axis=1) // grid.wgt_inputs)
        waits = -(-entering[:, phase] // grid.act_inputs)
        least += waits[:, channels] * blocks
    return least.transpose(1, 2, 0)


def _turns_of_units(layer: Layer, turns: NDArray[Any], grid: Grid, rows: slice) -> Integers:
    """Turns of the non-zeros of each unit, phase and channel, padding included in the positions."""
    y, x = np.arange(layer.height) + grid.y.padding, np.arange(layer.width) + grid.x.padding
    inside = (y >= rows.start) & (y < rows.stop)
    plane = turns.reshape(layer.height, layer.width, layer.channels)[inside]
    y = y[inside] - rows.start
    unit = (y // grid.y.tile)[:, None] * grid.x.units + x // grid.x.tile
    phases = grid.x.stride * grid.y.stride
    cell = unit * phases + (y % grid.y.stride)[:, None] * grid.x.stride + x % grid.x.stride
    sums = np.zeros((grid.x.units * grid.y.units * phases, layer.channels), dtype=np.int64)
    np.add.at(sums, cell.reshape(-1), plane.reshape(-1, layer.channels).astype(np.int64))
    return sums.reshape(-1, phases, layer.channels)


def least_folded(
    turns: NDArray[Any], weights: NDArray[Any], passes: list[Range], grid: Grid, owner: NDArray[Any]
) -> Integers:
    """The same for fully connected layers: (passes, folds, units). `owner`: unit of a channel of a fold."""
    entering = folded(turns.reshape(-1)).astype(np.int64)
    units = np.zeros((int(owner.max()) + 1, len(entering)), dtype=np.int64)
    np.add.at(units, owner, entering.T)
    waits = -(-units.T // grid.act_inputs)
    counts = np.add.reduceat(
        np.not_equal(weights, 0), np.arange(0, weights.shape[1], FOLD), axis=1, dtype=np.int64
    )
    held = np.add.reduceat(counts, [first for first, _ in passes], axis=0)
    blocks: Integers = -(-held // grid.wgt_inputs)
    return blocks[:, :, None] * waits
