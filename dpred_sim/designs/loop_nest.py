"""The output-stationary loop nest that most designs share.

A step is one (kernel y, kernel x, channel chunk) of one set of windows and one block of filters.
Values wider than `pe_width` are split spatially: each `pe_width`-bit block of a value has a column
(activations) or a row (weights) of its own, so fewer windows and filters run at a time.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Hashable, Iterator
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpred_sim.designs.base import Block, Depthwise, Design, Range, Schedule, TileSplit
from dpred_sim.designs.space_to_depth import SpaceToDepth, rearranged
from dpred_sim.designs.tile_cycles import TileCycles
from dpred_sim.errors import InputError
from dpred_sim.values.tensor import TensorSource
from dpred_sim.workload.layer import Layer

R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class NestDesign(Design):
    """Parameters of the loop nest.

    A tile has `rows` (filters) x `columns` (windows) units of `lanes` products; `pe_width` is the bits
    that a unit takes of a value. `tile_split`: tiles take different filters of the same windows, or
    different windows of the same filters, or (`auto`) form Tw groups of Tf tiles, Tw x Tf = tiles: groups
    take different windows, tiles of a group different filters, with the Tw that suits a layer. `depthwise`:
    groups of channels are spread over the tiles, or one tile does them all. `space_to_depth`: strided layers
    with fewer channels than lanes are rearranged first where that leaves fewer steps; `images`: all strided
    layers of 3 channels are, and no others.
    Raises InputError for a value that is not allowed.
    """

    lanes: int = 16
    columns: int = 16
    rows: int = 16
    tiles: int = 16
    pe_width: int = 16
    tile_split: TileSplit = "filters"
    depthwise: Depthwise = "spread"
    space_to_depth: SpaceToDepth = True

    def __post_init__(self) -> None:
        check_counts(self, "lanes", "columns", "rows", "tiles")
        check_counts(self, "pe_width", high=16)
        check_choice(self, "tile_split", get_args(TileSplit))
        check_choice(self, "depthwise", get_args(Depthwise))
        check_choice(self, "space_to_depth", (False, True, "images"))

    @property
    def mapping(self) -> dict[str, object]:
        """The parameters that say which units a layer keeps busy, whatever its values."""
        return {name: getattr(self, name) for name in ("tile_split", "depthwise", "space_to_depth")}

    def splits(self, layer: Layer) -> tuple[int, ...]:
        """Divisors of the tiles at `auto`, else one; layers with one window, or for one tile, have only 1."""
        one_tile = layer.is_depthwise and self.depthwise == "one_tile"
        if self.tile_split == "filters" or one_tile or not takes_windows(layer):
            return (1,)
        if self.tile_split == "windows":
            return (self.tiles,)
        return tuple(n for n in range(1, self.tiles + 1) if self.tiles % n == 0)

    def nest(self, layer: Layer, rows: int | None = None, split: int | None = None) -> Nest:
        """The loop nest of a layer on this design; raises InputError for a layer that cannot run."""
        return Nest(self, layer, rows, split)

    def schedule(self, layer: Layer, rows: int | None = None, split: int | None = None) -> NestSchedule:
        """Steps of a layer, see `Design.schedule`; of splits with equal cycles the one of fewest groups."""
        if split is not None:
            return self.of_nest(self.nest(layer, rows, split))
        nests = [self.nest(layer, rows, choice) for choice in self.splits(layer)]
        # Groups beyond those that have windows would only take tiles from the filters.
        useful = [nest for nest in nests if not any(nest.wastes_groups_of(other) for other in nests)]
        return min(map(self.of_nest, useful), key=lambda schedule: schedule.total)

    @abstractmethod
    def of_nest(self, nest: Nest) -> NestSchedule:
        """Steps of a nest; raises InputError for a layer that the hardware cannot run."""


@dataclass(init=False)
class Nest:
    """Sizes of the loops of one layer.

    A *region* is a run of blocks that read the same channels: a conv group, or for depthwise layers the
    channel groups that run at a time. Filter blocks of a region cost the same wherever cost depends on
    activations only.
    """

    original: Layer
    layer: Layer
    lanes: int
    """Lanes in use: for depthwise min(lanes, rows) channels, each with its own filter."""
    columns: int
    """Windows of one tile and set."""
    rows: int
    """Filters of one tile and block."""
    act_blocks: int
    """`pe_width`-bit blocks of an activation, each in a column of its own."""
    wgt_blocks: int
    """`pe_width`-bit blocks of a weight, each in a row of its own."""
    depthwise: bool
    window_parallel: bool
    split: int
    """Groups that the tiles form to take different windows."""
    window_tiles: int
    """Those of them that have windows."""
    channel_tiles: int
    """Tiles that take different channel groups (depthwise)."""
    filter_tiles: int
    """Tiles that take different filters."""
    regions: int
    blocks_per_region: int
    chunks: int
    """Channel chunks of a region and tile."""
    sets: int
    inner: int
    pe_width: int = field(repr=False)

    def __init__(
        self,
        design: NestDesign,
        layer: Layer,
        rows: int | None = None,
        split: int | None = None,
        fused: int | None = None,
    ) -> None:
        """`fused`: units take values of any precision and this many products a lane at a time, and
        depthwise layers are conv groups like any other."""
        require_products(layer)
        self.original = layer
        lanes = design.lanes * (fused or 1)
        self.layer = rearranged(layer, design.space_to_depth, lanes)
        self.pe_width = design.pe_width
        self.act_blocks = 1 if fused else split_blocks(layer, "activations", design)
        self.wgt_blocks = 1 if fused else split_blocks(layer, "weights", design)
        self.columns = design.columns // self.act_blocks
        self.rows = limited_rows(design.rows // self.wgt_blocks, rows)
        self.depthwise = layer.is_depthwise and not fused
        self.window_parallel = takes_windows(layer)
        self.split = allowed_split(design, layer, split)
        self.window_tiles = min(self.split, -(-layer.windows // self.columns))
        one_tile = self.depthwise and design.depthwise == "one_tile"
        tiles = 1 if one_tile else design.tiles // self.split
        self.channel_tiles = tiles if self.depthwise else 1
        self.filter_tiles = 1 if self.depthwise else tiles
        self._size_loops(lanes)

    def wastes_groups_of(self, other: Nest) -> bool:
        """True where `other` has room for as many windows in a multiple of the tiles for filters."""
        enough = other.window_tiles == self.window_tiles and other.split < self.split
        return enough and self.split % other.split == 0

    def _size_loops(self, lanes: int) -> None:
        layer = self.layer
        ky, kx = layer.kernel
        if self.depthwise:
            self.lanes = self.rows = min(lanes, self.rows)
            self.regions = -(-layer.filters // (self.lanes * self.channel_tiles))
            self.blocks_per_region, self.chunks = 1, 1
        else:
            self.lanes = lanes
            self.regions = layer.groups
            filters = layer.filters // layer.groups
            self.blocks_per_region = -(-filters // (self.rows * self.filter_tiles))
            self.chunks = -(-(layer.channels // layer.groups) // self.lanes)
        self.sets = -(-layer.windows // self.windows_per_set) if self.window_parallel else 1
        self.inner = ky * kx * self.chunks

    @property
    def windows_per_set(self) -> int:
        """Windows of a set, all tiles together (1 for the fully connected nest)."""
        return self.columns * self.window_tiles if self.window_parallel else 1

    @property
    def steps(self) -> int:
        """Number of steps of the layer."""
        return self.regions * self.blocks_per_region * self.sets * self.inner

    @property
    def activation_key(self) -> tuple[Hashable, ...]:
        """What the costs of steps that depend on activations depend on, filter blocks and options apart."""
        layer = self.layer
        return (
            *(layer.kind, layer.kernel, layer.stride, layer.padding, layer.dilation, layer.groups),
            *(self.depthwise and self.multiplier, self.regions, self.lanes, self.columns),
            *(self.window_tiles, self.channel_tiles, self.act_blocks, self.pe_width),
        )

    @property
    def multiplier(self) -> int:
        """Filters a channel (depthwise)."""
        return self.layer.filters // self.layer.channels

    def with_weights(self, weights: TensorSource) -> Nest:
        """The same loops with other values of the weights."""
        other = copy(self)
        other.layer = replace(self.layer, weights=weights)
        return other

    def by_lane(self) -> Nest:
        """The same loops with every lane of a chunk as a chunk of its own."""
        finer = copy(self)
        finer.chunks, finer.inner = self.chunks * self.lanes, self.inner * self.lanes
        return finer

    def blocks(self) -> tuple[Block, ...]:
        """The filter blocks in counting order."""
        return tuple(self._depthwise_blocks() if self.depthwise else self._filter_blocks())

    def _filter_blocks(self) -> Iterator[Block]:
        filters = self.layer.filters // self.layer.groups
        channels = self.layer.channels // self.layer.groups
        for group in range(self.regions):
            end = (group + 1) * filters
            for first in range(group * filters, end, self.rows * self.filter_tiles):
                last = min(first + self.rows * self.filter_tiles, end)
                yield Block(
                    (first, last),
                    cut(first, last, self.rows) * self.window_tiles,
                    (group * channels, (group + 1) * channels),
                )

    def _depthwise_blocks(self) -> Iterator[Block]:
        size = self.lanes * self.channel_tiles
        for first in range(0, self.layer.filters, size):
            last = min(first + size, self.layer.filters)
            channels = (first // self.multiplier, (last - 1) // self.multiplier + 1)
            yield Block((first, last), cut(first, last, self.lanes) * self.window_tiles, channels)

    def inner_channels(self) -> NDArray[np.int32]:
        """(inner, 2) first and last + 1 channel of each inner step, relative to the block's channels."""
        if self.depthwise:
            most = max(last - first for first, last in (block.channels for block in self.blocks()))
            return np.tile(np.array([[0, most]], dtype=np.int32), (self.inner, 1))
        first = np.arange(self.chunks, dtype=np.int32) * self.lanes
        last = np.minimum(first + self.lanes, self.layer.channels // self.layer.groups)
        return np.tile(np.stack([first, last], axis=1), (self.inner // self.chunks, 1)).astype(np.int32)


class NestSchedule(Schedule):
    """A schedule whose steps are those of a nest.

    `by_tile` makes the cost of each step for each tile, where steps are additive: (regions, filter blocks
    or 1, window groups, parts or 1, sets, inner), parts as in `Block.tile_filters`.
    """

    def __init__(self, nest: Nest, by_tile: Callable[[], NDArray[np.integer]] | None = None) -> None:
        self.nest = nest
        self.window_groups = nest.window_tiles
        self._by_tile = by_tile
        self._tiles: TileCycles | None = None
        self.original = nest.original
        self.layer = nest.layer
        self.blocks = nest.blocks()
        self.sets = nest.sets
        self.inner = nest.inner
        self.windows_per_set = nest.windows_per_set
        self.inner_channels = nest.inner_channels()
        self.window_parallel = nest.window_parallel

    def tile_cycles(self, start: ArrayLike, stop: ArrayLike, tile: int) -> NDArray[np.int64]:
        """Cycles of one tile, see `Schedule.tile_cycles`; costs by tile are made at the first call."""
        if self._by_tile is None:
            return self.cycles(start, stop)
        if self._tiles is None:
            nest = self.nest
            self._tiles = TileCycles(self.blocks, nest.window_tiles, nest.blocks_per_region, self._by_tile())
        return self._tiles.cycles(np.asarray(start, np.int64), np.asarray(stop, np.int64), tile)


class ConstantSchedule(NestSchedule):
    """Every step costs the same: closed form.

    In the fully connected nest step n starts at (n div columns) * max(cost, columns) + n mod columns.
    """

    def __init__(self, nest: Nest, cost: int) -> None:
        super().__init__(nest)
        self.cost = cost
        self.columns = nest.columns

    def cycles(self, start: ArrayLike, stop: ArrayLike) -> NDArray[np.int64]:
        """Cycles of the steps [start, stop)."""
        return self._finish(np.asarray(stop, np.int64)) - self._finish(np.asarray(start, np.int64))

    def _finish(self, done: NDArray[np.int64]) -> NDArray[np.int64]:
        if self.window_parallel:
            return done * self.cost
        last = np.maximum(done - 1, 0)
        begun = last // self.columns * max(self.cost, self.columns) + last % self.columns
        return np.where(done > 0, begun + self.cost, 0)


class PrefixSchedule(NestSchedule):
    """Additive steps whose cost is the same for all filter blocks of a region.

    `prefix` is (regions, sets * inner + 1): cycles of the first n steps of one block.
    """

    def __init__(
        self,
        nest: Nest,
        prefix: NDArray[np.integer],
        by_tile: Callable[[], NDArray[np.integer]] | None = None,
    ) -> None:
        super().__init__(nest, by_tile)
        self._prefix = prefix
        self._block_steps = nest.sets * nest.inner
        self._repeats = nest.blocks_per_region
        region = prefix[:, -1].astype(np.int64)
        self._before = np.concatenate([[0], np.cumsum(region * self._repeats)])
        self._region = np.append(region, 0)

    def cycles(self, start: ArrayLike, stop: ArrayLike) -> NDArray[np.int64]:
        """Cycles of the steps [start, stop)."""
        return self._finish(np.asarray(stop, np.int64)) - self._finish(np.asarray(start, np.int64))

    def _finish(self, done: NDArray[np.int64]) -> NDArray[np.int64]:
        block, step = np.divmod(done, self._block_steps)
        region, repeat = np.divmod(block, self._repeats)
        within = self._prefix[np.minimum(region, len(self._prefix) - 1), step]
        finished: NDArray[np.int64] = self._before[region] + repeat * self._region[region] + within
        return finished


class FinishSchedule(NestSchedule):
    """Any steps: `finish` is (steps + 1,), the time when the first n steps are done.

    For steps that overlap, and for additive ones that differ from filter block to filter block.
    """

    def __init__(
        self,
        nest: Nest,
        finish: NDArray[np.integer],
        by_tile: Callable[[], NDArray[np.integer]] | None = None,
    ) -> None:
        super().__init__(nest, by_tile)
        self._finish = finish

    def cycles(self, start: ArrayLike, stop: ArrayLike) -> NDArray[np.int64]:
        """Cycles of the steps [start, stop): distance of the finish times."""
        distance = self._finish[np.asarray(stop)] - self._finish[np.asarray(start)]
        return np.asarray(distance, np.int64)


def kept(nest: Nest, key: tuple[Any, ...], compute: Callable[[], R]) -> R:
    """`compute()`, done once for the activations of the nest, its `activation_key` and `key`."""
    memo = nest.layer.activations.memo
    whole = ("designs", nest.activation_key, key)
    if whole not in memo:
        memo[whole] = compute()
    result: R = memo[whole]
    return result


def running(costs: NDArray[np.integer]) -> NDArray[np.integer]:
    """Running sum of costs in step order with a leading zero, shape (steps + 1,)."""
    sums: NDArray[np.integer] = prefix_sums(costs.reshape(1, -1))[0]
    return sums


def prefix_sums(costs: NDArray[np.integer]) -> NDArray[np.integer]:
    """Running sums of (regions, ...) costs, shape (regions, n + 1) with a leading zero."""
    flat = costs.reshape(len(costs), -1)
    peak = int(flat.max(initial=0)) * flat.shape[1]
    sums = np.zeros((len(flat), flat.shape[1] + 1), dtype=np.int32 if peak < 2**31 else np.int64)
    np.cumsum(flat, axis=1, out=sums[:, 1:])
    return sums


def takes_windows(layer: Layer) -> bool:
    """False for the fully connected nest: one window, steps dealt over the columns."""
    return layer.kind == "conv" or layer.windows > 1


def allowed_split(design: Design, layer: Layer, split: int | None) -> int:
    """`split`, or the only one or the least that the design has; raises InputError for another."""
    allowed = design.splits(layer)
    if split is None:
        return allowed[0]
    if split not in allowed:
        raise InputError(
            "groups of tiles with different windows",
            field=f"layer {layer.name!r}: split",
            found=split,
            allowed=allowed,
        )
    return split


def cut(first: int, last: int, size: int) -> tuple[Range, ...]:
    """[first, last) in pieces of `size`."""
    return tuple((at, min(at + size, last)) for at in range(first, last, size))


def limited_rows(available: int, limit: int | None) -> int:
    """Filters of a tile when a caller allows only `limit` of them; raises InputError below 1."""
    if limit is None:
        return available
    if limit < 1:
        raise InputError("rows in use", field="rows", found=limit, allowed=f"1..{available}")
    return min(available, limit)


def split_blocks(layer: Layer, operand: str, design: Design) -> int:
    """`pe_width`-bit blocks of a value of an operand; raises InputError when they need too many units."""
    tensor = layer.activations if operand == "activations" else layer.weights
    assert tensor is not None
    blocks = -(-tensor.precision // design.pe_width)
    units, what = (design.columns, "columns") if operand == "activations" else (design.rows, "rows")
    if blocks > units:
        raise InputError(
            f"{operand} of {tensor.precision} bits need {blocks} {what} of {design.pe_width} bits each",
            field=f"layer {layer.name!r}: {what}",
            found=units,
            allowed=f">= {blocks}",
        )
    return blocks


def require_whole(nest: Nest, why: str) -> None:
    """Raises InputError where values of a layer are wider than the units."""
    for operand, tensor in (("activations", nest.layer.activations), ("weights", nest.layer.weights)):
        if tensor is not None and tensor.precision > nest.pe_width:
            raise InputError(
                why,
                field=f"layer {nest.layer.name!r}: pe_width",
                found=nest.pe_width,
                allowed=f">= {tensor.precision}, the precision of the {operand}",
            )


def require_products(layer: Layer) -> None:
    """Raises InputError for a memory layer: a design has nothing to compute in it."""
    if layer.kind not in ("conv", "linear") or layer.weights is None:
        raise InputError(
            "a layer without products runs on no design",
            field=f"layer {layer.name!r}: kind",
            found=layer.kind,
            allowed=("conv", "linear"),
        )


def check_counts(design: Design, *names: str, low: int = 1, high: int | None = None) -> None:
    """Raises InputError unless the named parameters are integers in [low, high]."""
    for name in names:
        value = getattr(design, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < low or value > (high or value):
            allowed = f"integers {low}..{high}" if high is not None else f"integers >= {low}"
            raise InputError("bad design parameter", field=name, found=repr(value), allowed=allowed)


def check_flags(design: Design, *names: str) -> None:
    """Raises InputError unless the named parameters are booleans."""
    for name in names:
        check_choice(design, name, (False, True))


def check_choice(design: Design, name: str, allowed: tuple[object, ...]) -> None:
    """Raises InputError unless the parameter is one of `allowed`."""
    value = getattr(design, name)
    if not any(value is choice or (isinstance(value, str) and value == choice) for choice in allowed):
        raise InputError("bad design parameter", field=name, found=repr(value), allowed=allowed)
