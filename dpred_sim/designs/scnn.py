"""SCNN: a grid of units that multiply non-zero activations with non-zero weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpred_sim.designs.base import Block, ComparisonPoint, Design, Range, Schedule, register
from dpred_sim.designs.dadiannao import bit_parallel, with_auto
from dpred_sim.designs.loop_nest import (
    allowed_split,
    check_choice,
    check_counts,
    check_flags,
    limited_rows,
    require_products,
    running,
    takes_windows,
)
from dpred_sim.designs.scnn_dealt import DealtGrid
from dpred_sim.designs.scnn_folded import FOLD, SIDE, FoldedGrid, folded
from dpred_sim.designs.scnn_grid import Axis, Barrier, Grid, in_step, unit_cycles
from dpred_sim.designs.scnn_products import least_cycles, least_folded, matched_products, outer_products
from dpred_sim.designs.work import total_work
from dpred_sim.errors import InputError, InvariantBroken
from dpred_sim.workload.layer import Layer

GroupPasses = Literal["joined", "separate"]
FullyConnected = Literal["dealt", "folded"]


class Cut(NamedTuple):
    """How a layer is cut to fit the accumulators."""

    passes: list[Range]
    """Filters of each pass."""
    bands: list[Range]
    """Rows of outputs of each band of the plane, from the top; all but the last are as high."""


class ScnnSchedule(Schedule):
    """A block is the filters of a pass, an inner step one channel (a fold of 256 where fully connected).

    Each of the `units` that own a part of the plane is a tile; all take the same weights. Outputs stay with
    them while the channels pass by. A set is a band of rows of the plane, nearly always all of them.
    """

    def __init__(
        self,
        layer: Layer,
        cut: Cut,
        inner: int,
        finish: NDArray[np.integer],
        units: int,
    ) -> None:
        passes, bands = cut
        self.original = self.layer = layer
        filters, channels = layer.filters // layer.groups, layer.channels // layer.groups
        spans = [(first // filters, (last - 1) // filters + 1) for first, last in passes]
        self.blocks = tuple(
            Block(taken, (taken,) * units, (span[0] * channels, span[1] * channels))
            for taken, span in zip(passes, spans, strict=True)
        )
        self.sets = len(bands)
        self.inner = inner
        self.window_parallel = takes_windows(layer)
        self.windows_per_set = (bands[0][1] - bands[0][0]) * layer.conv_width
        widest = max(last - first for first, last in (block.channels for block in self.blocks))
        size = FOLD if not self.window_parallel else -(-widest // inner)
        first = np.arange(inner, dtype=np.int32) * size
        self.inner_channels = np.stack([first, np.minimum(first + size, widest)], axis=1).astype(np.int32)
        self._finish = finish

    @property
    def by_channels(self) -> bool:
        """Always: accumulators keep the outputs of a pass for all of its channels."""
        return True

    def weight_steps(self) -> NDArray[np.int64]:
        """(kernel positions, channels of a filter): the channel, or its fold, is the step."""
        weights = self.layer.weights
        assert weights is not None
        ky, kx = self.layer.kernel
        steps = np.arange(weights.shape[-1], dtype=np.int64) // (1 if self.window_parallel else FOLD)
        return np.broadcast_to(steps, (ky * kx, len(steps)))

    def cycles(self, start: ArrayLike, stop: ArrayLike) -> NDArray[np.int64]:
        """Cycles of the steps [start, stop); the halo exchange falls on the last step of a pass and band."""
        distance = self._finish[np.asarray(stop)] - self._finish[np.asarray(start)]
        return np.asarray(distance, np.int64)


@register("scnn")
@dataclass(frozen=True, kw_only=True)
class Scnn(Design):
    """Cartesian products of non-zeros on a grid of units (Parashar et al., ISCA'17).

    `grid_x` x `grid_y` units own a tile of the plane each and multiply blocks of `act_inputs` activations
    x `wgt_inputs` weights, at most `pe_width` bits each, into `accumulators` entries in `banks` banks; a
    plane that they do not hold is cut into bands of rows. In a system each unit is one of its `tiles`.
    `group_passes`: a pass takes as many filters as fit whatever their conv group, and is timed on the
    channels that its first filter reads (`joined`, as DNNsim does; depthwise layers apart), or ends with its
    group (`separate`). `barrier`: units wait for each other after every channel, as in DNNsim, or after a
    pass. Without `conflicts` products queue before the banks of their accumulators, and nobody waits for the
    fullest one. `fully_connected`: channels are `dealt` over the units, whose sums are added up at no cost,
    or 256 at a time `folded` to a plane as of a convolution, halo exchange included, as in DNNsim.
    Raises InputError for a value that is not allowed.
    """

    grid_x: int = 8
    grid_y: int = 8
    act_inputs: int = 4
    wgt_inputs: int = 4
    accumulators: int = 1024
    banks: int = 32
    group_passes: GroupPasses = "joined"
    barrier: Barrier = "channel"
    conflicts: bool = True
    fully_connected: FullyConnected = "dealt"
    pe_width: int = 16
    tiles: int = 0
    """Units of the grid; 0 stands for as many as it has."""
    lanes: int = field(init=False, default=1)
    columns: int = field(init=False, default=4)
    rows: int = field(init=False, default=4)

    def __post_init__(self) -> None:
        check_counts(self, "grid_x", "grid_y", "act_inputs", "wgt_inputs", "accumulators", "banks")
        check_counts(self, "pe_width", high=16)
        check_choice(self, "group_passes", get_args(GroupPasses))
        check_choice(self, "barrier", get_args(Barrier))
        check_choice(self, "fully_connected", get_args(FullyConnected))
        check_flags(self, "conflicts")
        if self.tiles not in (0, self.units):
            raise InputError(
                f"each unit of the {self.grid_x} x {self.grid_y} grid is a tile",
                field="tiles",
                found=self.tiles,
                allowed=self.units,
            )
        object.__setattr__(self, "columns", self.act_inputs)
        object.__setattr__(self, "rows", self.wgt_inputs)

    @property
    def units(self) -> int:
        """Units of the grid."""
        return self.grid_x * self.grid_y

    def turns(self, values: NDArray[Any], signed: bool) -> NDArray[np.uint8] | None:
        """Cycles that each activation takes to enter; None where all take one."""
        return None

    @classmethod
    def equal_peak(cls, bits: int) -> tuple[ComparisonPoint, ...]:
        """The published 1024 multipliers against a dense machine of as many."""
        note = "1024 multipliers against a dense machine of 1024"
        made = cls(group_passes="separate", pe_width=bits, tiles=64)
        return with_auto(ComparisonPoint("1024 MACs", made, bit_parallel(1024, bits), 1024, 1, note))

    def schedule(self, layer: Layer, rows: int | None = None, split: int | None = None) -> ScnnSchedule:
        """Steps of a layer, `rows` limits the filters of a pass.

        Raises InputError for a layer that cannot run, or of which not even one row of outputs fits the units.
        """
        require_products(layer)
        allowed_split(self, layer, split)
        self._check_widths(layer)
        cut = self._cut(layer, rows)
        geometry = layer.stride, layer.padding, layer.dilation
        key = ("designs", self, layer.weights, *geometry, tuple(cut.passes), tuple(cut.bands))
        memo = layer.activations.memo
        if key not in memo:
            single = self._dealt_costs if self.fully_connected == "dealt" else self._folded_costs
            costs = self._costs(layer, cut) if takes_windows(layer) else single(layer, cut.passes)
            memo[key] = costs.shape[-1], running(costs)
        inner, finish = memo[key]
        grid = self._grid(layer, cut.bands[0])
        units = -(-grid.x.size // grid.x.tile) * -(-grid.y.size // grid.y.tile)
        if self.fully_connected == "dealt" and not takes_windows(layer):
            units = min(self.units, layer.channels)
        return ScnnSchedule(layer, cut, inner, finish, units)

    def _check_widths(self, layer: Layer) -> None:
        for operand, tensor in (("activations", layer.activations), ("weights", layer.weights)):
            if tensor is not None and tensor.precision > self.pe_width:
                raise InputError(
                    f"{operand} of {tensor.precision} bits do not fit multipliers of {self.pe_width} bits",
                    field=f"layer {layer.name!r}: {operand}",
                    found=tensor.precision,
                    allowed=f"<= {self.pe_width}",
                )

    def filling(self) -> tuple[int, int, int, int]:
        """A plane with 2 x 2 positions a unit, so that no two products of a block meet in a bank."""
        filters = max(1, self.accumulators // 4 // self.wgt_inputs) * self.wgt_inputs
        return 2 * self.grid_y, 2 * self.grid_x, 1, filters

    def _cut(self, layer: Layer, rows: int | None) -> Cut:
        """The whole plane, or the bands of it that let fewest activations enter, counting every pass.

        A pass takes as many filters as fit: lower bands mean fewer passes, but each reads its halo anew.
        """
        height, width = (layer.conv_height, layer.conv_width) if takes_windows(layer) else (1, 1)
        wide = -(-width // self.grid_x)
        high = -(-height // self.grid_y)
        if wide * high <= self.accumulators:
            return Cut(self._passes(layer, wide * high, rows), [(0, height)])
        if wide > self.accumulators:
            raise InputError(
                f"a unit's part of a row of outputs, {wide} of them, does not fit its accumulators",
                field=f"layer {layer.name!r}: accumulators",
                found=self.accumulators,
                allowed=f">= {wide}",
            )
        cuts = []
        for each in range(self.accumulators // wide, 0, -1):
            step = each * self.grid_y
            bands = [(top, min(top + step, height)) for top in range(0, height, step)]
            cuts.append(Cut(self._passes(layer, wide * each, rows), bands))
        return min(cuts, key=lambda cut: len(cut.passes) * sum(_rows_read(layer, band) for band in cut.bands))

    def _passes(self, layer: Layer, held: int, rows: int | None) -> list[Range]:
        """Filters of each pass where a unit holds `held` outputs of each."""
        most = limited_rows(self.accumulators // held, rows)
        group = layer.filters // layer.groups
        if self.group_passes == "joined" and not layer.is_depthwise:
            group = layer.filters
        return [
            (first, min(first + most, start + group))
            for start in range(0, layer.filters, group)
            for first in range(start, start + group, most)
        ]

    def _grid(self, layer: Layer, band: Range) -> Grid:
        """The grid on one band of the plane: positions count from the first row that the band reads."""
        if not takes_windows(layer):
            x = Axis(SIDE, 1, SIDE, 1, 1, 0, self.grid_x)
            y = Axis(SIDE, 1, SIDE, 1, 1, 0, self.grid_y)
        else:
            (top, left, _, right), (ky, kx) = layer.padding, layer.kernel
            (sy, sx), (dy, dx) = layer.stride, layer.dilation
            x = Axis(layer.width + left + right, layer.conv_width, kx, sx, dx, left, self.grid_x)
            y = Axis(_rows_read(layer, band), band[1] - band[0], ky, sy, dy, top, self.grid_y)
        return Grid(x, y, self.act_inputs, self.wgt_inputs, self.banks, self.conflicts)

    def _costs(self, layer: Layer, cut: Cut) -> NDArray[np.int64]:
        """(passes, bands, channels of a group) cycles of a convolution."""
        assert layer.weights is not None
        passes = cut.passes
        tensor = layer.activations.load()
        values = tensor.values.reshape(layer.height, layer.width, layer.channels)
        top, left, bottom, right = layer.padding
        padded = np.pad(values, ((top, bottom), (left, right), (0, 0)))
        turns = self.turns(padded, tensor.signed)
        weights = layer.weights.load().values
        weights = weights.reshape(layer.filters, *layer.kernel, -1)
        channels, group = weights.shape[3], layer.filters // layer.groups
        each = _passes_of_group(passes, group)
        grid = self._grid(layer, cut.bands[0])  # blocks of weights are alike in all bands
        rounds = []
        if each:  # the n-th passes of all groups together
            for number in range(each):
                taken = passes[number::each]
                stacked = np.stack([weights[first:last] for first, last in taken])
                columns = grid.weight_columns(stacked, np.array([first for first, _ in taken]))
                rounds.append((columns, range(layer.channels)))
        else:
            for first, last in passes:
                columns = grid.weight_columns(weights[None, first:last], np.array([first]))
                start = first // group * channels
                rounds.append((columns, range(start, start + channels)))
        found = []
        # All bands but the last are alike: they are counted together, side by side as channels.
        for bands in (cut.bands[:-1], cut.bands[-1:]) if len(cut.bands) > 1 else (cut.bands,):
            grid, at = self._grid(layer, bands[0]), [_positions(layer, band) for band in bands]
            planes = np.concatenate([padded[rows] for rows in at], axis=2)
            waits = None if turns is None else np.concatenate([turns[rows] for rows in at], axis=2)
            blocks = grid.activation_blocks(planes, waits)
            spent = np.stack(unit_cycles(grid, blocks, rounds, layer.channels, len(bands)))
            spent = spent.reshape(each or len(passes), len(bands), -1, channels, self.units)
            # (number of the pass, band, group) to (pass, band)
            costs = in_step(spent, self.barrier).transpose(2, 0, 1, 3).reshape(-1, len(bands), channels)
            costs[:, :, -1] += self._halo(grid, passes)[:, None]
            found.append(costs)
        return np.concatenate(found, axis=1)

    def _folded_costs(self, layer: Layer, passes: list[Range]) -> NDArray[np.int64]:
        """(passes, folds) cycles of a fully connected layer."""
        assert layer.weights is not None
        tensor = layer.activations.load()
        values = folded(tensor.values.reshape(-1))
        turns = self.turns(values, tensor.signed)
        weights = layer.weights.load().values
        turns = np.ones(values.shape, np.uint8) if turns is None else turns
        units = self.grid_x, self.grid_y
        sizes = FoldedGrid(units, self.act_inputs, self.wgt_inputs, self.banks, self.conflicts)
        costs = in_step(sizes.cycles(values, turns, weights, passes), self.barrier)
        costs[:, -1] += self._halo(self._grid(layer, (0, 1)), passes)
        return costs

    def _dealt_costs(self, layer: Layer, passes: list[Range]) -> NDArray[np.int64]:
        """(passes, runs of 256 channels) cycles of a fully connected layer."""
        assert layer.weights is not None
        tensor = layer.activations.load()
        values = tensor.values.reshape(-1)
        turns = self.turns(values, tensor.signed)
        busy = (values != 0) * (1 if turns is None else turns)
        spent = self._dealt().cycles(busy, layer.weights.load().values, passes)
        return in_step(spent, self.barrier)

    def _dealt(self) -> DealtGrid:
        return DealtGrid(self.units, self.wgt_inputs, self.banks, self.conflicts)

    def _halo(self, grid: Grid, passes: list[Range]) -> NDArray[np.int64]:
        """Cycles of the exchange of partial sums after each pass: the largest of the 8 neighbours' shares."""
        share = np.outer(grid.x.halo(), grid.y.halo())
        share[1, 1] = 0
        return int(share.max()) * np.array([last - first for first, last in passes], dtype=np.int64)

    def compute(self, layer: Layer, split: int | None = None) -> NDArray[np.int64]:
        """Outputs from outer products of non-zeros, added up by coordinates; see `Design.compute`."""
        schedule = self.schedule(layer, split=split)
        tensor = layer.activations.load()
        assert layer.weights is not None
        weights = layer.weights.load().values
        values = tensor.values
        turns = self.turns(values, tensor.signed)
        turns = np.ones(values.shape, np.uint8) if turns is None else turns
        entered = self.entered(values.astype(np.int64), tensor.signed)
        passes, bands = self._cut(layer, None)
        busy = (values != 0) * turns
        if not takes_windows(layer) and self.fully_connected == "dealt":
            least = self._dealt().least(busy.reshape(-1), weights, passes)[:, None]
        elif not takes_windows(layer):
            owner = FoldedGrid((self.grid_x, self.grid_y), 1, 1, 1).owner()
            least = least_folded(busy, weights, passes, self._grid(layer, bands[0]), owner)[:, None]
        else:
            by_band = [
                least_cycles(layer, busy, weights, passes, self._grid(layer, band), _positions(layer, band))
                for band in bands
            ]
            least = np.stack(by_band, axis=1)
        steps = np.arange(schedule.steps)
        charged = schedule.cycles(steps, steps + 1).reshape(len(passes), len(bands), -1)
        needed = in_step(least, self.barrier)
        if self.barrier == "pass":  # units are ahead or behind within one
            charged, needed = charged.cumsum(axis=-1), needed.cumsum(axis=-1)
        if (charged < needed).any():
            raise InvariantBroken(
                f"layer {layer.name!r}: a channel of a pass is charged fewer cycles than it has blocks"
            )
        return (outer_products if takes_windows(layer) else matched_products)(layer, entered, weights)

    def entered(self, values: NDArray[np.int64], signed: bool) -> NDArray[np.int64]:
        """What multipliers see of the activations."""
        return values

    def work_bits(self, layer: Layer) -> int:
        """Multiply-accumulates with both values non-zero."""
        return total_work(layer, activations=_nonzero, weights=_nonzero)


def _nonzero(values: NDArray[Any]) -> NDArray[np.bool_]:
    occupied: NDArray[np.bool_] = np.not_equal(values, 0)
    return occupied


def _passes_of_group(passes: list[Range], group: int) -> int:
    """Passes of each conv group where all groups are cut alike, 0 where passes cross groups."""
    starts = [first % group for first, _ in passes]
    each = starts.index(0, 1) if 0 in starts[1:] else len(starts)
    crossing = any(first // group != (last - 1) // group for first, last in passes)
    return 0 if crossing or starts != starts[:each] * (len(starts) // each) else each


def _positions(layer: Layer, band: Range) -> slice:
    """Rows of the padded plane that a band reads: those its windows cover, the last one all that follow."""
    first = band[0] * layer.stride[0]
    if band[1] == layer.conv_height:
        return slice(first, layer.height + layer.padding[0] + layer.padding[2])
    return slice(first, (band[1] - 1) * layer.stride[0] + (layer.kernel[0] - 1) * layer.dilation[0] + 1)


def _rows_read(layer: Layer, band: Range) -> int:
    taken = _positions(layer, band)
    return int(taken.stop - taken.start)
