"""What the weights of each step cost: the row side of the loop nest."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.designs.bricks import NO_BIT, Bytes, group_lows, group_tops, value_blocks
from dpred_sim.designs.loop_nest import Nest
from dpred_sim.values.widths import group_widths


def row_costs(nest: Nest, rows: int, both_ends: bool) -> Bytes:
    """Widest group of weights in each step: (regions, filter blocks, channel tiles, inner).

    A group is what `rows` neighbouring rows of a tile, (filter, value block) each, take in a step. Tiles
    that share channels are joined. With `both_ends` a group is charged from its highest to its lowest
    set bit.
    """
    costs = tile_row_costs(nest, rows, both_ends)
    shape = (*costs.shape[:2], nest.channel_tiles, nest.filter_tiles, -1)
    joined: Bytes = costs.reshape(shape).max(axis=3)
    return joined


def tile_row_costs(nest: Nest, rows: int, both_ends: bool) -> Bytes:
    """The same for each tile: (regions, filter blocks, channel or filter tiles, inner)."""
    tiles = (nest.regions, nest.blocks_per_region, nest.channel_tiles * nest.filter_tiles, -1)
    source = nest.layer.weights
    assert source is not None
    if nest.wgt_blocks == 1 and not both_ends:
        lanes = 1 if nest.depthwise else nest.lanes
        widths = group_widths(source, lanes).reshape(nest.layer.filters, 1, -1)
        widest: Bytes = by_tile(nest, widths, 0).max(axis=4)
        return widest.reshape(tiles)
    tensor = source.load()
    size = 1 if nest.depthwise else nest.lanes
    values = tensor.values.reshape(nest.layer.filters, *nest.layer.kernel, -1)
    blocks = list(value_blocks(values, tensor.signed, nest.wgt_blocks, nest.pe_width))
    tops = np.stack([group_tops(part, size, s).reshape(nest.layer.filters, -1) for part, s in blocks], axis=1)
    starts = np.arange(0, nest.rows * nest.wgt_blocks, rows)
    cost = np.maximum.reduceat(by_tile(nest, tops, 0), starts, axis=4)
    if both_ends:
        lows = np.stack(
            [group_lows(part, size).reshape(nest.layer.filters, -1) for part, _ in blocks], axis=1
        )
        lowest = np.minimum.reduceat(by_tile(nest, lows, NO_BIT), starts, axis=4)
        cost = cost - np.where(lowest == NO_BIT, np.uint8(0), lowest)
    most: Bytes = cost.max(axis=4)
    return most.reshape(tiles)


def by_tile(nest: Nest, values: NDArray[Any], idle: int) -> NDArray[Any]:
    """(filters, value blocks, ...) to (regions, blocks, channel tiles, filter tiles, rows, ...).

    The rows of a tile are (filter, value block); rows without a filter hold `idle`.
    """
    filters = nest.layer.filters // (1 if nest.depthwise else nest.layer.groups)
    groups = len(values) // filters
    size = (
        nest.regions // groups * nest.blocks_per_region * nest.channel_tiles * nest.filter_tiles * nest.rows
    )
    rest = values.shape[2:]
    grouped = values.reshape(groups, filters, values.shape[1], *rest)
    if size > filters:
        missing = ((0, 0), (0, size - filters)) + ((0, 0),) * (grouped.ndim - 2)
        grouped = np.pad(grouped, missing, constant_values=idle)
    tiles = (nest.regions, nest.blocks_per_region, nest.channel_tiles, nest.filter_tiles)
    return grouped.reshape(*tiles, nest.rows * nest.wgt_blocks, *rest)
