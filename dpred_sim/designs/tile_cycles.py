"""Cycles of single tiles: running sums of what each step costs each tile."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dpred_sim.designs.base import Block

Integers = NDArray[np.int64]


class TileCycles:
    """Cycles by (step, tile) where steps are additive.

    `costs` is (regions, filter blocks or 1, window groups, parts or 1, sets, inner), parts as in
    `Block.tile_filters`; each region has `repeats` blocks, all of them `groups` window groups.
    """

    def __init__(
        self, blocks: tuple[Block, ...], groups: int, repeats: int, costs: NDArray[np.integer]
    ) -> None:
        flat = costs.reshape(*costs.shape[:4], -1)
        self._sums = np.zeros((*flat.shape[:4], flat.shape[4] + 1), dtype=np.int64)
        np.cumsum(flat, axis=4, out=self._sums[..., 1:])
        self._groups = groups
        self._parts = np.array([len(block.tile_filters) // groups for block in blocks])
        self._region, repeat = np.divmod(np.arange(len(blocks)), repeats)
        self._repeat = np.minimum(repeat, flat.shape[1] - 1)

    def cycles(self, start: Integers, stop: Integers, tile: int) -> Integers:
        """Cycles of the steps [start, stop) of the tile at this place of each block, 0 without it."""
        group, part = np.divmod(tile, self._parts)
        works = group < self._groups
        last = self._sums.shape[3] - 1
        held = (self._region, self._repeat, np.where(works, group, 0), np.minimum(part, last))
        before = np.concatenate([[0], np.cumsum(np.where(works, self._sums[held][:, -1], 0))])

        def finish(done: Integers) -> Integers:
            block, step = np.divmod(done, self._sums.shape[4] - 1)
            place = np.minimum(block, len(works) - 1)
            within = self._sums[(*(axis[place] for axis in held), step)]
            finished: Integers = before[block] + np.where(works[place], within, 0)
            return finished

        return finish(stop) - finish(start)
