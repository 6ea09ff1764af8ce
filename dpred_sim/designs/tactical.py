"""Bit-Tactical: weights are promoted into slots of earlier zero weights, offline (ASPLOS'19).

A filter is `inner` lines of `lanes` weights, in step order. Line by line, a zero slot takes a weight from a
few lines ahead, of its own lane or a near one, and lines that are zero in all filters of a tile are skipped.
A promoted weight meets the activation of its own place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dpred_sim.designs.base import ComparisonPoint, register
from dpred_sim.designs.bricks import Bricks, Bytes, group_costs, lane_values, own_bits, set_maximum
from dpred_sim.designs.charged import check_steps
from dpred_sim.designs.dadiannao import bit_parallel, with_auto
from dpred_sim.designs.entering import whole
from dpred_sim.designs.functional import Lanes, nest_outputs
from dpred_sim.designs.loop_nest import (
    FinishSchedule,
    Nest,
    NestDesign,
    check_choice,
    check_counts,
    check_flags,
    kept,
    require_whole,
)
from dpred_sim.designs.promotion import Promoted, offsets, promoted
from dpred_sim.designs.run_ahead import round_robin, run_ahead
from dpred_sim.designs.work import total_work
from dpred_sim.values.tensor import Tensor
from dpred_sim.workload.layer import Layer

Back = Literal["parallel", "serial"]
Shape = Literal["T", "L"]
SLAB_BYTES = 1 << 24
"""Widths that are looked at in one go."""


@register("tactical")
@dataclass(frozen=True, kw_only=True)
class Tactical(NestDesign):
    """Zero weights skipped by promotion, in front of bit-parallel units or those of dpred_stripes.

    `shape` is that of the places that a slot looks at: `L`, `lookahead` lines of its lane and `lookaside`
    lanes below it one line ahead, or `T`, seven places, with 2 and 5 only. `back`: a step costs 1
    (`parallel`) or the widest activation of its slots (`serial`), with `group_columns` and `run_ahead` as in
    dpred_stripes. A zero weight that nothing could be promoted to still takes its activation, unless
    `gate_zeros`. The rest is in `NestDesign`. Raises InputError for a value that is not allowed.
    """

    columns: int = 1
    back: Back = "parallel"
    lookahead: int = 2
    lookaside: int = 5
    shape: Shape = "T"
    group_columns: int = 1
    run_ahead: int = 0
    gate_zeros: bool = False

    def __post_init__(self) -> None:
        NestDesign.__post_init__(self)
        check_counts(self, "lanes", high=63)
        check_counts(self, "lookahead", "group_columns")
        check_counts(self, "lookaside", "run_ahead", low=0)
        check_choice(self, "back", get_args(Back))
        check_choice(self, "shape", get_args(Shape))
        check_flags(self, "gate_zeros")
        if self.shape == "T":
            check_choice(self, "lookahead", (2,))
            check_choice(self, "lookaside", (5,))

    @classmethod
    def equal_peak(cls, bits: int) -> tuple[ComparisonPoint, ...]:
        """4096 multiply-accumulates a cycle when no weight is zero, with both kinds of units."""
        baseline = bit_parallel(4096, bits)
        serial = cls(back="serial", columns=bits, pe_width=bits)
        return (
            *with_auto(ComparisonPoint("equal peak", cls(pe_width=bits), baseline, 4096, 1)),
            *with_auto(ComparisonPoint("serial", serial, baseline, 4096, bits)),
        )

    def of_nest(self, nest: Nest) -> FinishSchedule:
        """Steps of a layer: step n of a block is each tile's n-th executed line, those that are left cost 0.

        Raises InputError for values wider than the units.
        """
        require_whole(nest, "weights are promoted whole, with their activations")
        key = (
            *(self.back, self.lookahead, self.lookaside, self.shape, self.group_columns, self.run_ahead),
            *(self.gate_zeros, nest.layer.weights, nest.rows, nest.filter_tiles),
        )
        return FinishSchedule(nest, kept(nest, ("tactical", *key), lambda: self._finish(nest)))

    def promoted(self, nest: Nest) -> Promoted:
        """The executed lines of each tile's filters, kept with the weights."""
        weights = nest.layer.weights
        assert weights is not None
        places = offsets(self.shape, self.lookahead, self.lookaside, nest.lanes)
        key = ("tactical", places, self.lookahead, nest.lanes, nest.rows, nest.layer.kernel, nest.regions)
        if key not in weights.memo:
            weights.memo[key] = promoted(nest, places, self.lookahead)
        found: Promoted = weights.memo[key]
        return found

    def _finish(self, nest: Nest) -> NDArray[np.int64]:
        """Finish times of all steps; those that overlap do so in the order region, set, block, step."""
        shape = (nest.regions, nest.blocks_per_region, nest.sets, nest.inner)
        grown = np.zeros(shape, dtype=np.int64)
        costs = list(self._costs(nest))
        if not nest.window_parallel:
            done = round_robin(np.concatenate([part[0].max(axis=1) for part in costs]), nest.columns)
            spent = np.split(np.diff(done), np.cumsum([part.shape[1] for part in costs]))
            for place, part in enumerate(spent[: len(costs)]):
                grown[0, place, 0, : len(part)] = part
        elif self.run_ahead and self.back == "serial":
            regions = [costs[at : at + shape[1]] for at in range(0, len(costs), shape[1])]
            joined = [np.concatenate(blocks, axis=1) for blocks in regions]
            flat = run_ahead(np.concatenate([j.reshape(-1, j.shape[2]) for j in joined]), self.run_ahead)
            ends = np.cumsum([j.shape[0] * j.shape[1] for j in joined])[:-1]
            for region, part in enumerate(np.split(flat, ends)):
                by_set = part.reshape(nest.sets, -1)
                cuts = np.cumsum([block.shape[1] for block in regions[region]])[:-1]
                for place, block in enumerate(np.split(by_set, cuts, axis=1)):
                    grown[region, place, :, : block.shape[1]] = block
        else:
            for number, part in enumerate(costs):
                grown[(*divmod(number, shape[1]), slice(None), slice(part.shape[1]))] = part.max(axis=2)
        finish = np.zeros(grown.size + 1, dtype=np.int64)
        np.cumsum(grown.reshape(-1), out=finish[1:])
        return finish

    def _costs(self, nest: Nest) -> Iterator[NDArray[Any]]:
        """Cost of each executed step of each block, in order: (sets, steps, column groups)."""
        found = self.promoted(nest)
        tiles = nest.channel_tiles
        counts = found.counts(nest)
        if self.back == "parallel":
            yield from (np.ones((nest.sets, count.max(), 1), dtype=np.uint8) for count in counts)
            return
        widths = self._widths(nest)
        steps, places, starts = found.taken(nest, self.gate_zeros)
        for number, count in enumerate(counts):
            parts = np.zeros((nest.sets, count.max(), tiles, widths.shape[-1]), dtype=np.uint8)
            region = number // nest.blocks_per_region
            for tile in range(tiles):
                mine = slice(starts[number * tiles + tile], starts[number * tiles + tile + 1])
                own = widths[region, tile]
                parts[:, : count[tile], tile] = own.any(axis=1)[:, None]  # 1 where there are windows
                if mine.start < mine.stop:
                    present, first = np.unique(steps[mine], return_index=True)
                    parts[:, present, tile] = _widest(own, places[mine], first)
            yield parts.reshape(nest.sets, count.max(), tiles * widths.shape[-1])

    def _widths(self, nest: Nest) -> Bytes:
        """Widest activation of each column group: (regions, channel tiles, sets, line and lane, groups)."""
        tensor = nest.layer.activations.load()
        plane = lane_values(nest, own_bits(tensor.values, tensor.signed))
        present = lane_values(nest, np.ones(tensor.values.shape, dtype=np.uint8))
        inside = present[nest.layer.padding[0], nest.layer.padding[1]] > 0
        # Zeros around the plane have a width, idle lanes have none.
        plane[:, :, inside] = np.maximum(plane[:, :, inside], 1 + tensor.signed)
        if not (self.run_ahead and nest.window_parallel):
            return set_maximum(nest.by_lane(), plane[:, :, None], by_tile=True)[..., None]
        bricks = (Bricks(plane[:, :, None], None),)
        costs = group_costs(nest.by_lane(), bricks, self.group_columns, both_ends=False)
        by_tile = costs.reshape(*costs.shape[:3], nest.channel_tiles, -1)
        return np.ascontiguousarray(np.moveaxis(by_tile, 3, 1))

    def compute(self, layer: Layer, split: int | None = None) -> NDArray[np.int64]:
        """Outputs from the weights of the executed lines, each with the activation of its own place.

        See `Design.compute`.
        """
        schedule = self.schedule(layer, split=split)
        nest = schedule.nest
        if nest.window_parallel and not self.run_ahead:
            least = replace(self, gate_zeros=True).of_nest(nest)
            steps = np.arange(least.steps)
            shape = (nest.regions, nest.blocks_per_region, nest.sets, nest.inner)
            check_steps(schedule, nest, least.cycles(steps, steps + 1).reshape(shape))
        source = nest.layer.weights
        assert source is not None
        tensor = source.load()
        executed = tensor.values * self.promoted(nest).executions(nest)
        weights = Tensor(executed, bits=tensor.bits, signed=tensor.signed, precision=tensor.precision)
        return nest_outputs(Lanes(nest.with_weights(weights)), whole, whole)

    def work_bits(self, layer: Layer) -> int:
        """Multiply-accumulates whose weight is not zero, in bits of the activation with serial units."""
        signed = layer.activations.signed
        serial = (lambda values: own_bits(values, signed)) if self.back == "serial" else None
        return total_work(layer, activations=serial, weights=lambda values: np.not_equal(values, 0))


def _widest(widths: Bytes, places: NDArray[np.int64], first: NDArray[np.int64]) -> Bytes:
    """Largest of the places of each step: (sets, steps, groups)."""
    slab = max(1, SLAB_BYTES // (len(places) * widths.shape[2]))
    found = np.empty((len(widths), len(first), widths.shape[2]), dtype=np.uint8)
    for at in range(0, len(widths), slab):
        taken = widths[at : at + slab][:, places]
        found[at : at + slab] = np.maximum.reduceat(taken, first, axis=1)
    return found
