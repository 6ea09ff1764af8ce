"""A slow, obvious model of the loop nest: one value after the other, in plain Python integers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from dpred_sim.values.tensor import Tensor
from dpred_sim.workload.layer import Layer

Column = list[tuple[int, bool]]
"""The values that a column takes in a step, each with "is signed"."""


def width(value: int, signed: bool) -> int:
    bits = max(1, (value if value >= 0 else ~value).bit_length())
    return bits + 1 if signed else bits


def lowest_bit(value: int) -> int:
    return (value & -value).bit_length() - 1


def group_cost(values: Column, both_ends: bool) -> int:
    cost = max(width(value, signed) for value, signed in values)
    if both_ends:
        cost -= min((lowest_bit(value) for value, _ in values if value), default=0)
    return cost


@dataclass
class Step:
    region: int
    block: int
    window_set: int
    inner: int
    tiles: list[list[Column]]
    """tile, column; idle columns are empty."""


def ceil(a: int, b: int) -> int:
    return -(-a // b)


def activation(layer: Layer, y: int, x: int, channel: int) -> int:
    """A value of the activations, zero outside."""
    values = layer.activations.load().values.reshape(layer.height, layer.width, layer.channels)
    inside = 0 <= y < layer.height and 0 <= x < layer.width
    return int(values[y, x, channel]) if inside else 0


def split(value: int, signed: bool, blocks: int, size: int) -> list[tuple[int, bool]]:
    """`size`-bit blocks of a value, lowest first."""
    parts = [((value >> (size * b)) & ((1 << size) - 1), False) for b in range(blocks - 1)]
    return [*parts, (value >> (size * (blocks - 1)), signed)]


class Nest:
    """The loops of a layer on a design, as one reads them in a paper.

    The tiles form `split` groups that take different windows; where a design may choose, one of its choices.
    """

    def __init__(self, design: Any, layer: Layer, rows: int | None = None, split: int | None = None) -> None:
        self.design, self.layer = design, layer
        assert layer.weights is not None
        self.blocks_a = ceil(layer.activations.precision, design.pe_width)
        self.columns = design.columns // self.blocks_a
        self.rows = design.rows // ceil(layer.weights.precision, design.pe_width)
        if rows is not None:
            self.rows = min(rows, self.rows)
        self.fc = layer.kind == "linear" and layer.windows == 1
        self.tiles = 1 if layer.is_depthwise and design.depthwise == "one_tile" else design.tiles
        self.split = self.chosen() if split is None else split
        self.each = self.tiles // self.split  # tiles of a group
        self.folded = self.rearranges()

    def rearranges(self) -> bool:
        """True where space to depth is wanted, possible, and of use (or taken for images of any use)."""
        layer, rule, (sy, sx) = self.layer, self.design.space_to_depth, self.layer.stride
        if not rule or layer.kind != "conv" or layer.stride == (1, 1):
            return False
        if layer.dilation != (1, 1) or layer.groups > 1:
            return False
        if rule == "images":
            return layer.channels == 3
        (ky, kx), lanes = layer.kernel, self.design.lanes
        before = ky * kx * ceil(layer.channels, lanes)
        after = ceil(ky, sy) * ceil(kx, sx) * ceil(sy * sx * layer.channels, lanes)
        return layer.channels < lanes and after < before

    def chosen(self) -> int:
        """Any of the groups that the design allows, another one for another layer."""
        if self.fc or self.design.tile_split == "filters":
            return 1
        if self.design.tile_split == "windows":
            return self.tiles
        groups = [n for n in range(1, self.tiles + 1) if self.tiles % n == 0]
        return groups[(self.layer.windows + self.layer.filters + self.layer.height) % len(groups)]

    def taps(self) -> list[tuple[int, int]]:
        ky, kx = self.layer.kernel
        if self.folded:
            ky, kx = ceil(ky, self.layer.stride[0]), ceil(kx, self.layer.stride[1])
        return [(y, x) for y in range(ky) for x in range(kx)]

    def lane_channels(self) -> list[list[list[list[int]]]]:
        """[region][tile][chunk] -> channels (for depthwise one a filter)."""
        layer, design = self.layer, self.design
        if layer.is_depthwise:
            lanes = min(design.lanes, self.rows)
            spread = self.each
            each = layer.filters // layer.channels
            filters = list(range(layer.filters))
            packs = [filters[i : i + lanes] for i in range(0, layer.filters, lanes)]
            return [
                [[[k // each for k in pack]] for pack in packs[i : i + spread]]
                for i in range(0, len(packs), spread)
            ]
        channels = layer.channels * (layer.stride[0] * layer.stride[1] if self.folded else 1) // layer.groups
        chunks = [list(range(channels))[i : i + design.lanes] for i in range(0, channels, design.lanes)]
        return [[[[g * channels + c for c in chunk] for chunk in chunks]] for g in range(layer.groups)]

    def blocks(self) -> int:
        """Filter blocks of a region."""
        if self.layer.is_depthwise:
            return 1
        return ceil(self.layer.filters // self.layer.groups, self.rows * self.each)

    def value(self, window: tuple[int, int], tap: tuple[int, int], channel: int) -> int:
        layer = self.layer
        (top, left), (sy, sx), (dy, dx) = layer.padding[:2], layer.stride, layer.dilation
        if self.folded:
            phase, channel = divmod(channel, layer.channels)
            y = (window[0] + tap[0]) * sy + phase // sx
            x = (window[1] + tap[1]) * sx + phase % sx
        else:
            y, x = window[0] * sy + tap[0] * dy, window[1] * sx + tap[1] * dx
        return activation(layer, y - top, x - left, channel)

    def column(self, window: tuple[int, int], tap: tuple[int, int], channels: list[int]) -> list[Column]:
        """The columns (one a value block) that a window takes in a step."""
        signed = self.layer.activations.signed
        values = [self.value(window, tap, c) for c in channels]
        if getattr(self.design, "diffy", False) and self.layer.kind == "conv":
            signed = True
            if window[1] > 0:
                before = (window[0], window[1] - 1)
                values = [v - self.value(before, tap, c) for v, c in zip(values, channels, strict=True)]
        parts = [split(v, signed, self.blocks_a, self.design.pe_width) for v in values]
        return [list(column) for column in zip(*parts, strict=True)]

    def steps(self) -> Iterator[Step]:
        """All steps in counting order: group, window set, filter block, inner step."""
        layer = self.layer
        height, wide = layer.conv_height, layer.conv_width
        windows = [(y, x) for y in range(height) for x in range(wide)]
        size = 1 if self.fc else self.columns * self.split
        sets = [windows[i : i + size] for i in range(0, len(windows), size)]
        for region, tiles in enumerate(self.lane_channels()):
            for window_set, taken in enumerate(sets):
                for block in range(self.blocks()):
                    inner = 0
                    for tap in self.taps():
                        for chunk in range(len(tiles[0])):
                            held = []
                            for w in range(self.split):
                                own = taken[w * self.columns : (w + 1) * self.columns]
                                for tile in tiles:
                                    held.append([c for p in own for c in self.column(p, tap, tile[chunk])])
                            yield Step(region, block, window_set, inner, held)
                            inner += 1

    def meetings(self, step: Step) -> list[tuple[list[Column], list[list[int]]]]:
        """Pairs of columns and rows that meet in a tile; a row holds the weight of each lane.

        For depthwise, row r works on lane r alone and holds one weight.
        """
        layer = self.layer
        tiles = self.lane_channels()[step.region]
        tap, chunk = self.taps()[step.inner // len(tiles[0])], step.inner % len(tiles[0])
        if layer.is_depthwise:
            lanes = min(self.design.lanes, self.rows)
            first = step.region * lanes * self.each
            packs = []
            for tile in tiles:
                packs.append([[self.weight(first + r, tap, 0)] for r in range(len(tile[0]))])
                first += lanes
            return [(columns, packs[n % len(packs)]) for n, columns in enumerate(step.tiles)]
        filters = layer.filters // layer.groups
        size = self.rows * self.each
        taken = range(step.block * size, min((step.block + 1) * size, filters))
        start = tiles[0][0][0]
        rows = [
            [self.weight(step.region * filters + k, tap, c - start) for c in tiles[0][chunk]] for k in taken
        ]
        parts = [rows[i : i + self.rows] for i in range(0, len(rows), self.rows)]
        return [(columns, part) for columns in step.tiles for part in parts]

    def weight(self, k: int, tap: tuple[int, int], channel: int) -> int:
        layer = self.layer
        assert layer.weights is not None
        values = layer.weights.load().values.reshape(layer.filters, *layer.kernel, -1)
        y, x = tap
        if self.folded:
            (sy, sx), (phase, channel) = layer.stride, divmod(channel, layer.channels)
            y, x = y * sy + phase // sx, x * sx + phase % sx
        return int(values[k, y, x, channel]) if y < layer.kernel[0] and x < layer.kernel[1] else 0


def column_groups(step: Step, columns: int, tile_columns: int) -> list[list[Column]]:
    """Groups of neighbouring columns; a group ends with its tile; idle ones are empty."""
    return [group for tile in step.tiles for group in tile_groups(tile, columns, tile_columns)]


def tile_groups(tile: list[Column], columns: int, tile_columns: int) -> list[list[Column]]:
    padded: list[Column] = tile + [[] for _ in range(tile_columns - len(tile))]
    return [padded[i : i + columns] for i in range(0, tile_columns, columns)]


Grown = dict[tuple[int, int, int, int], int]
"""By how much each step moves the finish time, by (region, block, window set, inner step)."""


def waiting(steps: Iterable[Step], costs: Callable[[Step], list[int]], registers: int = 0) -> Grown:
    """Every column waits for the slowest, or runs ahead by as many steps as there are registers."""
    grown = {}
    busy: list[int] = []
    done, ready, index, history = 0, 0, 0, [0] * registers
    for step in steps:
        cost = costs(step)
        busy += [0] * (len(cost) - len(busy))
        cost += [0] * (len(busy) - len(cost))
        if registers:
            busy = [max(b, ready) + c for b, c in zip(busy, cost, strict=True)]
            ready, history[index] = history[index], max(busy)
            index = (index + 1) % registers
        else:
            busy = [done + max(cost)] * len(busy)
        grown[step.region, step.block, step.window_set, step.inner] = max(busy) - done
        done = max(busy)
    return grown


def in_turn(
    steps: Iterable[Step], columns: int, cost: Callable[[Step], int], issue: Callable[[Step], int]
) -> Grown:
    """The fully connected nest: steps dealt over the columns."""
    grown = {}
    free, clock, done = [0] * columns, 0, 0
    for number, step in enumerate(steps):
        column = number % columns
        start = max(clock, free[column])
        free[column] = start + cost(step)
        clock = start + issue(step)
        grown[step.region, step.block, step.window_set, step.inner] = max(free) - done
        done = max(free)
    return grown


def shared_chunk(steps: list[Step], step: Step, columns: int, block: int) -> Column:
    """What the value block of a fully connected step shares a width with."""
    first = step.inner - step.inner % columns
    group = [s for s in steps if s.block == 0 and first <= s.inner < first + columns]
    return [pair for s in group for pair in s.tiles[0][block]]


def check(schedule: Any, nest: Nest, grown: Grown) -> None:
    """Every step of a schedule costs what the slow model says."""
    expected = np.full(schedule.steps, -1)
    for (region, block, window_set, inner), cost in grown.items():
        number = ((region * nest.blocks() + block) * schedule.sets + window_set) * schedule.inner + inner
        expected[number] = cost
    at = np.arange(schedule.steps)
    assert schedule.cycles(at, at + 1).tolist() == expected.tolist()
    assert schedule.total == expected.sum()
    split = len(at) // 3
    parts = schedule.cycles(0, split) + schedule.cycles(split, len(at))
    assert parts == schedule.total
    assert sum(int(schedule.set_cycles(n).sum()) for n in range(len(schedule.blocks))) == schedule.total


def spiky(rng: np.random.Generator, shape: tuple[int, ...], bits: int, signed: bool) -> Any:
    """Mostly small values, some zeros, a few large ones."""
    top = bits - 1 if signed else bits
    values = rng.integers(0, 1 << rng.integers(0, top + 1, shape))
    values[rng.random(shape) < 0.3] = 0
    if signed:
        values = np.where(rng.random(shape) < 0.5, -values - (rng.random(shape) < 0.2), values)
        values = np.maximum(values, -(1 << (bits - 1)))
    return values.astype(np.int64)


def tensor(
    rng: np.random.Generator, shape: tuple[int, ...], bits: int, signed: bool, precision: int | None = None
) -> Tensor:
    return Tensor(spiky(rng, shape, precision or bits, signed), bits, signed, precision)


@st.composite
def layers(
    draw: Any, kinds: tuple[str, ...] = ("conv", "image", "groups", "depthwise", "linear", "fc")
) -> Layer:
    """Small random layers of all sorts."""
    kind = draw(st.sampled_from(kinds))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    small = lambda low, high: draw(st.integers(low, high))  # noqa: E731
    bits = draw(st.sampled_from([8, 16]))
    signs = [draw(st.booleans()), draw(st.booleans())]
    precision = [bits if draw(st.booleans()) else small(2, bits) for _ in range(2)]

    def made(which: int, shape: tuple[int, ...]) -> Tensor:
        return tensor(rng, shape, bits, signs[which], precision[which])

    if kind in ("linear", "fc"):
        channels = small(1, 40)
        positions = small(2, 7) if kind == "linear" else 1
        return Layer.linear(kind, made(0, (positions, channels)), made(1, (small(1, 20), channels)))
    groups = {"groups": small(2, 3), "depthwise": small(2, 9)}.get(kind, 1)
    channels = {"image": small(1, 4), "depthwise": groups}.get(kind) or groups * small(1, 7)
    filters = groups * small(1, 3 if kind != "conv" else 9)
    kernel = (small(1, 3), small(1, 4))
    dilation = (small(1, 2), small(1, 2)) if kind != "image" else (1, 1)
    padding = tuple(small(0, 2) for _ in range(4))
    span = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    size = (span[0] + small(0, 4), span[1] + small(0, 5))
    return Layer.conv2d(
        kind,
        made(0, (*size, channels)),
        made(1, (filters, *kernel, channels // groups)),
        stride=(small(1, 3), small(1, 3)),
        padding=padding,
        dilation=dilation,
        groups=groups,
    )


@st.composite
def nest_parameters(draw: Any) -> dict[str, Any]:
    """Small sizes of the loop nest, so that every loop has several turns and a remainder."""
    pe_width = draw(st.sampled_from([16, 8, 5]))
    least = 4 if pe_width == 5 else 2
    return {
        "lanes": draw(st.sampled_from([1, 2, 3, 4, 5, 12])),
        "columns": draw(st.integers(least, 6)),
        "rows": draw(st.integers(least, 5)),
        "tiles": draw(st.sampled_from([1, 2, 3, 4, 6])),
        "pe_width": pe_width,
        "tile_split": draw(st.sampled_from(["filters", "windows", "auto"])),
        "depthwise": draw(st.sampled_from(["spread", "one_tile"])),
        "space_to_depth": draw(st.sampled_from([False, True, "images"])),
    }
