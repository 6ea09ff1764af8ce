"""DPRed Loom: both operands enter bit by bit, each as many bits as its group needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpred_sim.designs.base import register
from dpred_sim.designs.bricks import own_bits
from dpred_sim.designs.entering import bit_serial, lows_of_rows, of_rows
from dpred_sim.designs.filters import row_costs, tile_row_costs
from dpred_sim.designs.functional import Lanes, nest_outputs
from dpred_sim.designs.loom import BothSerial, activation_bits
from dpred_sim.designs.loop_nest import FinishSchedule, Nest, kept, running
from dpred_sim.designs.run_ahead import round_robin
from dpred_sim.designs.work import total_work
from dpred_sim.workload.layer import Layer


@register("dpred_loom")
@dataclass(frozen=True, kw_only=True)
class DpredLoom(BothSerial):
    """Both operands bit-serial with a width per group of activations and of weights (arXiv 1804.06732).

    A step costs the largest ceil(width_a / serial_bits) x width_w over the groups that meet in a tile,
    and the slowest tile counts. See `BothSerial` for the parameters.
    """

    def of_nest(self, nest: Nest) -> FinishSchedule:
        """Steps of a layer."""
        key = (
            *("dpred_loom", nest.layer.weights, nest.blocks_per_region, nest.rows, nest.filter_tiles),
            *(nest.wgt_blocks, self.group_rows, self.serial_bits, self.group_columns, self.both_ends),
            *(self.fc_issue,),
        )
        finish = kept(nest, key, lambda: self._finish(nest))
        return FinishSchedule(nest, finish, (lambda: self._by_tile(nest)) if nest.window_parallel else None)

    def _by_tile(self, nest: Nest) -> NDArray[np.integer]:
        """Cost of each step for each tile: (regions, blocks, window groups, parts, sets, inner)."""
        turns = self.tile_turns(nest)[:, None]
        planes = tile_row_costs(nest, self.group_rows, self.both_ends).astype(np.uint16)
        costs: NDArray[np.integer] = turns * planes[:, :, None, :, None]
        return costs

    def _finish(self, nest: Nest) -> NDArray[np.integer]:
        turns = self.activation_turns(nest)
        planes = row_costs(nest, self.group_rows, self.both_ends).astype(np.uint16)
        costs = np.zeros((nest.regions, nest.blocks_per_region, nest.sets, nest.inner), dtype=np.uint16)
        for tile in range(nest.channel_tiles):
            np.maximum(costs, turns[:, None, tile] * planes[:, :, tile, None], out=costs)
        if nest.window_parallel:
            return running(costs)
        issue = 1 if self.fc_issue == "step" else planes[:, :, 0].reshape(-1)
        return round_robin(costs.reshape(-1), nest.columns, issue)

    def compute(self, layer: Layer, split: int | None = None) -> NDArray[np.int64]:
        """Outputs from products of bit planes, both operands with group widths; see `Design.compute`."""
        schedule = self.schedule(layer, split=split)
        nest = schedule.nest
        planes = row_costs(nest, self.group_rows, self.both_ends).astype(np.int64)
        turns = self.activation_turns(nest).astype(np.int64)
        spent = (turns[:, None] * planes[:, :, :, None]).max(axis=2)
        self.check(schedule, nest, spent, planes[0, :, 0])
        lows = lows_of_rows(self.group_rows) if self.both_ends else None
        return nest_outputs(Lanes(nest), self.entering(nest), bit_serial(of_rows(planes), lows))

    def work_bits(self, layer: Layer) -> int:
        """Product of the bits that both values need by themselves, summed over all products."""
        signed = layer.weights is not None and layer.weights.signed
        return total_work(
            layer,
            activations=activation_bits(self, layer),
            weights=lambda values: own_bits(values, signed, self.both_ends),
        )
