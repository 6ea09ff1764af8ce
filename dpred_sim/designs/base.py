"""The design contract: how a tile spends cycles on a layer.

A design owns its loop nest and hands out a `Schedule`; nothing else in the package knows a design by
name. A schedule is a list of *steps* in counting order (block, window set, inner step), where a
*block* is one filter block of one group, and an *inner step* one (kernel y, kernel x, channel chunk).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpred_sim.registry import Registry
from dpred_sim.workload.layer import Layer

Range = tuple[int, int]
"""Half open [start, stop)."""


@dataclass(frozen=True, slots=True)
class Block:
    """One filter block of one group: what all tiles of the design work on at a time.

    `filters` is the range of output channels, `tile_filters` its part for each tile that has work,
    `channels` the range of activation channels that it reads. With P parts and the window groups of its
    schedule, entry w * P + f is the filters of part f: group after group holds the same parts.
    """

    filters: Range
    tile_filters: tuple[Range, ...]
    channels: Range


class Schedule(ABC):
    """The steps of a layer on a design.

    The layer may be a rearranged one (space to depth): sizes of weights follow `layer`, sizes of
    activations and outputs the layer that was asked for, `original`.
    Step s = (block * sets + window_set) * inner + inner_step; every block has the same number of each.
    """

    original: Layer
    layer: Layer
    blocks: tuple[Block, ...]
    sets: int
    """Window sets a block."""
    inner: int
    """Inner steps of one window set and block."""
    windows_per_set: int
    """Windows of a set, in raster order; the last set may be short."""
    window_groups: int = 1
    """Groups of tiles that take different windows: group w takes windows [w * n, (w + 1) * n) of a set,
    n = windows_per_set / window_groups. Groups that would have no windows in any set are not counted."""
    inner_channels: NDArray[np.int32]
    """(inner, 2): first and last + 1 channel of the chunk, relative to the block's channels."""
    window_parallel: bool
    """False for the fully connected nest: one window, steps dealt over the columns."""

    @property
    def by_channels(self) -> bool:
        """Tiles keep the outputs of a window set until all its inner steps are done, mostly of all windows.

        Such a set is cut into passes by inner steps, which go through the channels once: weights are not
        needed again after their step, nor, in this block, activations. Where there are several sets, bands of
        rows of the plane, all blocks work on one before the next begins.
        """
        return not self.window_parallel

    def weight_steps(self) -> NDArray[np.int64]:
        """(kernel positions in raster order, channels of a filter): the inner step that uses each weight."""
        if self.layer.weights is None:
            raise ValueError("a layer without weights uses none")
        ky, kx = self.layer.kernel
        chunks = self.inner // (ky * kx)
        lanes = int(self.inner_channels[0, 1] - self.inner_channels[0, 0])
        chunk = np.minimum(np.arange(self.layer.weights.shape[-1]) // lanes, chunks - 1)
        return np.arange(ky * kx, dtype=np.int64)[:, None] * chunks + chunk

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(self.blocks) * self.sets * self.inner

    @abstractmethod
    def cycles(self, start: ArrayLike, stop: ArrayLike) -> NDArray[np.int64]:
        """Cycles of the steps [start, stop): an O(1) look-up an element, vectorised over both.

        Additive: cycles(a, b) + cycles(b, c) == cycles(a, c). Where steps overlap (run-ahead, round
        robin) this is the distance of the finish times, so history is carried.
        """

    def tile_cycles(self, start: ArrayLike, stop: ArrayLike, tile: int) -> NDArray[np.int64]:
        """Cycles that one tile alone spends on the steps [start, stop), never more than `cycles`.

        `tile` is a place in `Block.tile_filters`; in blocks without this place the tile idles, which takes
        no cycles. Where a design does not tell its tiles apart, those of all tiles together.
        """
        return self.cycles(start, stop)

    @property
    def total(self) -> int:
        """Compute cycles of the layer with perfect memory."""
        return int(self.cycles(0, self.steps))

    def set_cycles(self, block: int, inner: Range | None = None) -> NDArray[np.int64]:
        """Cycles of each window set of one block (of a range of its inner steps), shape (sets,)."""
        first, last = (0, self.inner) if inner is None else inner
        base = (block * self.sets + np.arange(self.sets, dtype=np.int64)) * self.inner
        return self.cycles(base + first, base + last)


@dataclass(frozen=True, slots=True)
class LayerCycles:
    """Compute cycles of one layer with perfect memory."""

    total: int
    steps: int
    macs: int


@dataclass(frozen=True, slots=True)
class ComparisonPoint:
    """A configuration at which a design is compared, with a baseline of the same peak.

    `peak` is the multiply-accumulates that the baseline does a cycle, and the design with values that need
    all their bits. `full_work` is what `work_bits` counts for one product of such values, so that
    work_bits / (full_work * macs) is the share of the design's worst case that the values ask for.
    `label` tells the points of a design apart, `note` says how it is normalised where that needs saying.
    """

    label: str
    design: Design
    baseline: Design
    peak: int
    full_work: int
    note: str = ""


class Design(ABC):
    """Base of all designs. Subclasses are frozen dataclasses whose fields are the parameters."""

    lanes: int
    columns: int
    rows: int
    tiles: int
    pe_width: int

    @property
    def mapping(self) -> dict[str, object]:
        """How layers are laid out over the tiles, by parameter; empty where the dataflow leaves no choice."""
        return {}

    @abstractmethod
    def schedule(self, layer: Layer, rows: int | None = None, split: int | None = None) -> Schedule:
        """Steps of a layer; `rows` limits how many rows (filters) of a tile are used.

        `split` is the number of groups that the tiles form to take different windows, one of `splits`.
        Without it the design takes the one with fewest cycles. Raises InputError for a layer that the
        hardware could not run, or another split.
        """

    def splits(self, layer: Layer) -> tuple[int, ...]:
        """Numbers of window groups that the tiles may form on a layer, in rising order."""
        return (1,)

    def layer_cycles(self, layer: Layer) -> LayerCycles:
        """Compute cycles of one layer, memory ignored."""
        schedule = self.schedule(layer)
        return LayerCycles(schedule.total, schedule.steps, layer.macs)

    def filling(self) -> tuple[int, int, int, int]:
        """(height, width, channels, filters) of a 1 x 1 convolution that leaves no unit idle in a step."""
        return self.columns * self.tiles, 1, self.lanes, self.rows * self.tiles

    @classmethod
    def equal_peak(cls, bits: int) -> tuple[ComparisonPoint, ...]:
        """Where the design is compared on models of `bits`-bit values, 8 or 16; none unless it says so."""
        return ()

    def compute(self, layer: Layer, split: int | None = None) -> NDArray[np.int64] | None:
        """Outputs before bias and activation, (windows, filters), from exactly what the hardware processes.

        `--verify` compares them with a plain convolution. None: the design does not say how it computes.
        `split` as in `schedule`.
        Raises InputError for values that the hardware could not compute with, and InvariantBroken when
        they would take more cycles than the schedule charges.
        """
        return None


DESIGNS: Registry[type[Design]] = Registry("design", "dpred_sim.designs", "dpred_sim.designs")
register = DESIGNS.register

TileSplit = Literal["filters", "windows", "auto"]
Depthwise = Literal["one_tile", "spread"]


def design(name: str, **parameters: Any) -> Design:
    """A design by name, such as `design("dpred_stripes", lanes=16, columns=16, rows=16, tiles=16)`.

    Raises InputError for an unknown name or parameter, or a value that is not allowed.
    """
    made: Design = DESIGNS.create(name, parameters)
    return made
