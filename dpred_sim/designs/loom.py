"""Loom: activations and weights both enter bit by bit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dpred_sim.designs.base import ComparisonPoint, register
from dpred_sim.designs.bricks import (
    chunk_costs,
    group_costs,
    own_bits,
    plain_bricks,
    tile_costs,
    tile_maximum,
)
from dpred_sim.designs.charged import check_columns, check_steps
from dpred_sim.designs.dadiannao import bit_parallel, with_auto
from dpred_sim.designs.entering import always, bit_serial, lows_of_chunks, lows_of_columns, of_steps
from dpred_sim.designs.functional import Enter, Lanes, nest_outputs
from dpred_sim.designs.loop_nest import (
    FinishSchedule,
    Nest,
    NestDesign,
    NestSchedule,
    PrefixSchedule,
    check_choice,
    check_counts,
    check_flags,
    kept,
    prefix_sums,
)
from dpred_sim.designs.run_ahead import round_robin
from dpred_sim.designs.work import total_work
from dpred_sim.workload.layer import Layer

Issue = Literal["step", "plane"]


@dataclass(frozen=True, kw_only=True)
class BothSerial(NestDesign):
    """Parameters of designs in which both operands enter bit by bit.

    `serial_bits` activation bits enter a cycle. A group of activations is the bricks of `group_columns`
    neighbouring columns, one of weights those of `group_rows` neighbouring rows. `both_ends`: zero bits
    at the bottom of a group are skipped too. `fc_issue`: fully connected steps are issued one a cycle
    (`step`), or as fast as weights enter by bit plane (`plane`). The rest is in `NestDesign`.
    Raises InputError for a value that is not allowed.
    """

    serial_bits: int = 1
    group_columns: int = 1
    group_rows: int = 1
    fc_issue: Issue = "plane"
    both_ends: bool = False

    def __post_init__(self) -> None:
        NestDesign.__post_init__(self)
        check_counts(self, "serial_bits", high=16)
        check_counts(self, "group_columns", "group_rows")
        check_choice(self, "fc_issue", get_args(Issue))
        check_flags(self, "both_ends")

    @classmethod
    def equal_peak(cls, bits: int) -> tuple[ComparisonPoint, ...]:
        """4096 multiply-accumulates a cycle as `bits` x `bits` one-bit products, and the published 128.

        With 32 tiles of so many rows few layers have filters for more than one: the tiles take windows, and
        those of the baseline too.
        """
        units = {"columns": bits, "rows": 8 * bits, "pe_width": bits}
        large = cls(**units, tiles=32, tile_split="windows")  # type: ignore[arg-type]
        small = cls(**units, tiles=1)  # type: ignore[arg-type]
        baseline = bit_parallel(4096, bits, tile_split="windows")
        return (
            *with_auto(ComparisonPoint("equal peak", large, baseline, 4096, bits * bits)),
            ComparisonPoint("128 MACs", small, bit_parallel(128, bits), 128, bits * bits, "published point"),
        )

    def entering(self, nest: Nest) -> Enter:
        """How activations enter: `serial_bits` at a time, for as many turns as are charged."""
        lows = None
        if self.both_ends:
            lows = (lows_of_columns if nest.window_parallel else lows_of_chunks)(self.group_columns)
        bits = self.activation_turns(nest).astype(np.int64) * self.serial_bits
        return bit_serial(of_steps(bits), lows, self.serial_bits)

    def check(
        self, schedule: NestSchedule, nest: Nest, spent: NDArray[Any], planes: NDArray[Any] | int
    ) -> None:
        """Raises InvariantBroken when `spent` (regions, blocks, sets, inner) takes more than is charged."""
        if nest.window_parallel:
            return check_steps(schedule, nest, spent)
        shape = (nest.blocks_per_region, nest.inner)
        issue = np.broadcast_to(planes, shape).reshape(-1) if self.fc_issue == "plane" else 1
        return check_columns(schedule, nest, np.broadcast_to(spent[0, :, 0], shape).reshape(-1), issue)

    def activation_turns(self, nest: Nest) -> NDArray[np.uint16]:
        """Cycles a weight bit of each step: (regions, channel tiles, sets, inner)."""
        turns: NDArray[np.uint16] = self.tile_turns(nest).max(axis=1)
        return turns

    def tile_turns(self, nest: Nest) -> NDArray[np.uint16]:
        """The same for each tile: (regions, window groups, channel tiles, sets, inner)."""
        if not nest.window_parallel:
            costs = chunk_costs(nest, self.group_columns, self.both_ends)[None, None, None, None]
        elif self.both_ends:
            planes = (plain_bricks(nest, lows=True),)
            costs = tile_costs(nest, group_costs(nest, planes, self.group_columns, both_ends=True))
        else:
            costs = tile_maximum(nest, plain_bricks(nest).tops)
        return -(-costs.astype(np.int16) // self.serial_bits).astype(np.uint16)


@register("loom")
@dataclass(frozen=True, kw_only=True)
class Loom(BothSerial):
    """Both operands bit-serial: groups of activations, one precision for all weights (DAC'18).

    A step costs ceil(width of its widest group / serial_bits) x precision of the weights. `group_rows`
    makes no difference here. See `BothSerial` for the parameters.
    """

    def of_nest(self, nest: Nest) -> NestSchedule:
        """Steps of a layer."""
        planes = self._planes(nest)
        options = (planes, self.serial_bits, self.group_columns, self.both_ends)
        if nest.window_parallel:
            sums = kept(nest, ("loom", *options), lambda: prefix_sums(self._costs(nest, planes)))
            by_tile = lambda: (self.tile_turns(nest) * np.uint16(planes))[:, None]  # noqa: E731
            return PrefixSchedule(nest, sums, by_tile)
        key = ("loom turns", nest.steps, self.fc_issue, *options)
        return FinishSchedule(nest, kept(nest, key, lambda: self._finish(nest, planes)))

    def _planes(self, nest: Nest) -> int:
        assert nest.layer.weights is not None
        return min(nest.layer.weights.precision, self.pe_width)

    def _costs(self, nest: Nest, planes: int) -> NDArray[np.uint16]:
        costs: NDArray[np.uint16] = self.activation_turns(nest).max(axis=1) * np.uint16(planes)
        return costs

    def _finish(self, nest: Nest, planes: int) -> NDArray[np.int64]:
        costs = np.tile(self._costs(nest, planes).reshape(-1), nest.blocks_per_region)
        return round_robin(costs, nest.columns, 1 if self.fc_issue == "step" else planes)

    def compute(self, layer: Layer, split: int | None = None) -> NDArray[np.int64]:
        """Outputs from products of one bit plane of each operand; see `Design.compute`."""
        schedule = self.schedule(layer, split=split)
        nest, planes = schedule.nest, self._planes(schedule.nest)
        self.check(schedule, nest, self._costs(nest, planes)[:, None].astype(np.int64), planes)
        return nest_outputs(Lanes(nest), self.entering(nest), bit_serial(always(planes)))

    def work_bits(self, layer: Layer) -> int:
        """Bits that each activation needs by itself x precision of the weights, over all products."""
        precision = layer.weights.precision if layer.weights else 0
        return precision * total_work(layer, activations=activation_bits(self, layer))


def activation_bits(design: BothSerial, layer: Layer) -> Any:
    """Bits that each activation needs by itself, as a function of an array."""
    return lambda values: own_bits(values, layer.activations.signed, design.both_ends)
