"""One layer on one system, before time starts: its schedule, its weight blocks, its sizes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dpred_sim.codecs.base import Codec
from dpred_sim.designs.base import Block, Design, Range, Schedule
from dpred_sim.errors import InputError
from dpred_sim.schedule.geometry import SetGeometry, set_geometry
from dpred_sim.schedule.passes import LayerWork
from dpred_sim.schedule.placement import (
    StoredTensor,
    WeightBlock,
    image_shape,
    tile_parts,
    tile_step_bits,
    weight_blocks,
)
from dpred_sim.workload.layer import Layer
from dpred_sim.workload.network import Node


@dataclass(frozen=True, slots=True)
class MemoryFormat:
    """How the memories of a system store, and what a cluster's weight buffers can hold."""

    offchip: Codec
    activations: Codec
    weights: Codec
    weight_room: int
    """Bits of one weight buffer."""
    weights_shared: bool
    """One weight buffer serves all tiles of a cluster."""
    burst_bytes: int
    activation_room: int | None = None
    """Bits of the activation buffer; None: as many as a layer asks for."""
    reuse: bool = True
    """Each distinct brick of a window set is read once; else every step reads its bricks anew."""


SLAB_SHARE = 8
"""Activations that are read by channels are cut into slabs of at most one part in this many of their buffer,
so that a slab, the next one, outputs and what stays for other layers fit together (assumption)."""


class MemorySchedule(Schedule):
    """Steps of a memory layer: one a row of positions, without compute cycles."""

    def __init__(self, layer: Layer) -> None:
        self.original = self.layer = layer
        self.sets = layer.conv_height
        self.windows_per_set = layer.conv_width
        self.inner = 1
        self.blocks = (Block((0, layer.filters), (), (0, layer.channels)),)
        self.inner_channels = np.array([[0, layer.channels]], dtype=np.int32)
        self.window_parallel = True

    def cycles(self, start: object, stop: object) -> NDArray[np.int64]:
        """None: what a memory layer takes is the time of its transfers."""
        return np.zeros(np.broadcast(np.asarray(start), np.asarray(stop)).shape, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class LayerJob:
    """A layer ready to run: everything that does not depend on what is on chip at the time."""

    node: Node
    schedule: Schedule
    blocks: list[WeightBlock]
    chunks: int
    ideal_cycles: int
    work: LayerWork

    @property
    def bands(self) -> int:
        """Bands of the plane that blocks which go through the channels take one after the other; else 1."""
        return self.schedule.sets if self.schedule.by_channels else 1

    @property
    def slabs(self) -> int:
        """Parts along the channels that one block reads one after the other, where not all stay on chip."""
        return len(self.work.slab_steps) - 1

    @property
    def layer(self) -> Layer:
        """The layer itself."""
        return self.node.layer

    @property
    def geometry(self) -> SetGeometry:
        """Window sets."""
        return self.work.geometry

    def channels(self, index: int) -> Range:
        """Activation channels that weight block `index` reads; memory layers read all."""
        if not self.blocks:
            return (0, image_shape(tuple(self.layer.activations.shape))[2])
        block = self.blocks[index]
        first, last = self.schedule.blocks[block.block].channels
        if not self.schedule.window_parallel or self.schedule.layer is not self.schedule.original:
            return (0, image_shape(tuple(self.layer.activations.shape))[2])
        if self.chunks > 1:
            spans = self.schedule.inner_channels[block.steps]
            return (first + int(spans[:, 0].min()), min(last, first + int(spans[:, 1].max())))
        return (first, last)

    def slab(self, index: int, number: int) -> Range:
        """Activation channels of one slab of weight block `index`."""
        if self.slabs == 1:
            return self.channels(index)
        first, last = self.schedule.blocks[self.blocks[index].block].channels
        low, high = self.work.slab_steps[number : number + 2]
        spans = self.schedule.inner_channels[low:high]
        return (first + int(spans[0, 0]), min(last, first + int(spans[-1, 1])))

    def filters(self, index: int) -> Range:
        """Output channels of weight block `index`; all for memory layers."""
        if not self.blocks:
            return (0, self.layer.filters)
        return self.schedule.blocks[self.blocks[index].block].filters

    def outputs(self, index: int) -> Range:
        """Stored output channels that weight block `index` completes; all for memory layers."""
        first, last = self.filters(index)
        return first // self.layer.gates, last // self.layer.gates

    def second_part(self, index: int) -> tuple[Range, Range]:
        """Rows and channels of the second operand that weight block `index` is made of."""
        layer = self.layer
        if layer.second is None:
            raise ValueError("only a product of two activations has a second operand")
        first, last = self.filters(index)
        kernels, depth = layer.filters // layer.groups, layer.channels // layer.groups
        groups = first // kernels, (last - 1) // kernels
        low, high = self.channels(index) if self.chunks > 1 else (groups[0] * depth, (groups[1] + 1) * depth)
        if layer.transposed:
            within = (
                (low - groups[0] * depth, high - groups[0] * depth) if groups[0] == groups[1] else (0, depth)
            )
            return within, (first, last)
        rows = (first - groups[0] * kernels, last - groups[0] * kernels)
        return rows if groups[0] == groups[1] else (0, kernels), (low, high)

    @cached_property
    def second_cuts(self) -> list[int]:
        """Channels at which the second operand should be cut so that blocks can read their parts."""
        parts = [self.second_part(index)[1] for index in range(len(self.blocks))]
        return sorted({edge for part in parts for edge in part})

    def same_weights(self, other: LayerJob) -> bool:
        """Whether the other layer uses the same weights in the same blocks."""
        if self.layer.weights is None or self.layer.weights is not other.layer.weights:
            return False
        blocks = [(b.block, b.stored_bytes, int(b.room[-1])) for b in self.blocks]
        others = [(b.block, b.stored_bytes, int(b.room[-1])) for b in other.blocks]
        return (
            blocks == others
            and self.chunks == other.chunks
            and self.schedule.blocks == other.schedule.blocks
            and self.schedule.by_channels == other.schedule.by_channels
        )

    def shares(self, clusters: int) -> list[list[int]]:
        """Weight blocks of each cluster, in order: blocks are dealt round robin, chunks stay together."""
        count = len(self.blocks) // self.chunks
        return [
            [
                block * self.chunks + chunk
                for block in range(c, count, clusters)
                for chunk in range(self.chunks)
            ]
            for c in range(clusters)
        ]

    def sweeps(self, clusters: int, of: Callable[[int], Range]) -> list[Range]:
        """By sweep, the union of `of(weight block)` over the blocks that the clusters work on together."""
        shares = self.shares(clusters)
        parts = [[of(share[turn]) for share in shares if turn < len(share)] for turn in range(len(shares[0]))]
        return [(min(a for a, _ in part), max(b for _, b in part)) for part in parts]

    def readings(self, clusters: int) -> list[Range]:
        """Channels that each sweep reads, slab by slab."""
        by_slab = [
            self.sweeps(clusters, lambda index, number=number: self.slab(index, number))  # type: ignore[misc]
            for number in range(self.slabs)
        ]
        return [part for sweep in zip(*by_slab, strict=True) for part in sweep]

    @property
    def largest_block(self) -> int:
        """Most filters of a weight block; all for memory layers."""
        sizes = (last - first for first, last in map(self.filters, range(max(1, len(self.blocks)))))
        return max(sizes)

    @cached_property
    def needed_rows(self) -> int:
        """Rows of the activations that are read at all."""
        return int(self.geometry.last_row.max()) + 1

    def cuts_of(self, name: str) -> list[int]:
        """Channels at which the stored tensor `name` should be cut: this layer reads parts of it."""
        if self.node.parts:
            return sorted({edge for part in self.node.parts if part.name == name for edge in part.channels})
        return self.channel_cuts if name == self.node.reads else []

    @cached_property
    def channel_cuts(self) -> list[int]:
        """Channels at which the activations should be cut so that blocks can read parts of them."""
        if self.layer.kind != "conv":
            return []
        parts = (self.slab(index, n) for index in range(len(self.blocks)) for n in range(self.slabs))
        return sorted({edge for part in parts for edge in part})


def prepare(node: Node, design: Design, clusters: int, memory: MemoryFormat) -> LayerJob:
    """Everything about a layer that is known before time starts.

    A block too big for the weight buffer is cut to fewer filters a tile, then to channel chunks; of one that
    is cut by channels a step has to fit, of a second operand all. Raises InputError when a single filter's
    chunk or step does not fit, or the design cannot run the layer.
    """
    layer = node.layer
    if layer.weights is None:
        schedule: Schedule = MemorySchedule(layer)
        return LayerJob(node, schedule, [], 1, 0, _work(schedule, [], 1, memory))
    schedule, chunks = _fitted(layer, design, memory)
    stored = memory.offchip.chosen_for(schedule.layer.weights or layer.weights, "weights")
    blocks = weight_blocks(
        schedule,
        stored,
        memory.weights,
        shared=memory.weights_shared,
        burst_bytes=memory.burst_bytes,
        chunks=chunks,
    )
    ideal = schedule if schedule.total == 0 or chunks > 1 else design.schedule(layer)
    return LayerJob(
        node,
        schedule,
        blocks,
        chunks,
        _shared_cycles(ideal, clusters),
        _work(schedule, blocks, chunks, memory),
    )


def _fitted(layer: Layer, design: Design, memory: MemoryFormat) -> tuple[Schedule, int]:
    """The schedule with as many rows as fit the weight buffer, and the number of channel chunks."""
    schedule = design.schedule(layer)
    streams = schedule.by_channels and layer.second is None
    while (room := _block_room(schedule, memory, streams)) > memory.weight_room:
        rows = max(last - first for block in schedule.blocks for first, last in block.tile_filters)
        if rows == 1:
            break
        schedule = design.schedule(layer, max(1, min(rows - 1, rows * memory.weight_room // room)))
    else:
        return schedule, 1
    most = 1 if schedule.by_channels else len(np.unique(schedule.inner_channels[:, 0]))
    for chunks in range(2, most + 1):
        cut = weight_blocks(
            schedule,
            memory.weights,
            memory.weights,
            shared=memory.weights_shared,
            burst_bytes=1,
            chunks=chunks,
        )
        if max(int(block.room[-1]) for block in cut) <= memory.weight_room:
            return schedule, chunks
    what = "one channel chunk of one filter a tile does"
    if streams:
        what = "the weights of one step, with as many that come meanwhile, do"
    elif schedule.by_channels:
        what = "the second operand of one filter a tile, which has to be there as a whole, does"
    raise InputError(
        f"{what} not fit the weight buffer",
        field=f"layer {layer.name!r}",
        found=f"{memory.weight_room} bit a weight buffer",
        allowed=f"at least {-(-room // most)} bit",
    )


def _block_room(schedule: Schedule, memory: MemoryFormat, streams: bool) -> int:
    """Bits of a weight buffer that the largest block needs: all of it, or a step and as much in flight."""
    bits = tile_step_bits(schedule, memory.weights)
    if not streams:
        bits = bits.sum(axis=1, keepdims=True)
    if memory.weights_shared:  # tiles that take the same filters share one copy
        row = {part: place for place, part in enumerate(tile_parts(schedule))}
        shares = ([row[part] for part in dict.fromkeys(block.tile_filters)] for block in schedule.blocks)
        bits = np.stack([bits[rows].sum(axis=0) for rows in shares])
    return int(bits.max()) * (2 if streams else 1)


def _slab_steps(schedule: Schedule, stored: StoredTensor, memory: MemoryFormat) -> list[int]:
    """Inner steps at which the slabs of a block begin, and where the last one ends.

    Slabs hold whole groups of the codecs; their size follows from that of the whole tensor.
    """
    whole = [0, schedule.inner]
    if not (schedule.by_channels and schedule.window_parallel and memory.activation_room):
        return whole
    if schedule.sets > 1:
        return whole  # a band holds all channels, for all blocks
    count = -(-stored.total_bits * SLAB_SHARE // memory.activation_room)
    group = math.lcm(memory.activations.group_size, memory.offchip.group_size)
    first, last = schedule.inner_channels[:, 0], int(schedule.inner_channels[-1, 1])
    channels = max(1, stored.shape[2] // count // group) * group
    steps = np.searchsorted(first, np.arange(0, last, channels))
    return [*dict.fromkeys(steps.tolist()), schedule.inner]


def _shared_cycles(schedule: Schedule, clusters: int) -> int:
    """Compute cycles when the blocks are dealt over the clusters."""
    if clusters == 1:
        return schedule.total
    blocks = [int(schedule.set_cycles(b).sum()) for b in range(len(schedule.blocks))]
    return max(sum(blocks[c::clusters]) for c in range(clusters))


def _work(schedule: Schedule, blocks: list[WeightBlock], chunks: int, memory: MemoryFormat) -> LayerWork:
    stored = StoredTensor(schedule.original.activations, memory.activations)
    slabs = _slab_steps(schedule, stored, memory) if blocks else [0, schedule.inner]
    height, width, depth = stored.shape
    geometry = set_geometry(schedule)
    if not memory.reuse and not schedule.by_channels:
        windows = np.minimum(
            schedule.windows_per_set,
            schedule.original.windows - np.arange(schedule.sets) * schedule.windows_per_set,
        )
        kernel = schedule.original.kernel
        geometry = replace(geometry, bricks=windows * (kernel[0] * kernel[1]))
    if schedule.original.kind == "move":
        moved = [StoredTensor(x, memory.activations).total_bits for x in schedule.original.more]
        bricks = np.array([-(-(stored.total_bits + sum(moved)) // schedule.sets)], dtype=np.int64)
        none = np.zeros(1, dtype=np.int64)
        return LayerWork(schedule, geometry, blocks, chunks, slabs, bricks, none, none)
    positions = height * width if schedule.window_parallel else 1
    per_position = -(-stored.total_bits // positions)
    if not blocks:
        bricks = np.array([per_position], dtype=np.int64)
        none = np.zeros(1, dtype=np.int64)
        return LayerWork(schedule, geometry, blocks, chunks, slabs, bricks, none, none)
    whole = schedule.layer is not schedule.original or not schedule.window_parallel
    bricks = np.full(len(blocks), per_position, dtype=np.int64)
    if not whole:
        for place, block in enumerate(blocks):
            first, last = schedule.blocks[block.block].channels
            channels = last - first
            if chunks > 1:
                spans = schedule.inner_channels[block.steps]
                channels = min(channels, int(spans[:, 1].max())) - int(spans[:, 0].min())
            bricks[place] = -(-per_position * channels // depth)
    tile_bits = np.array([int(block.busiest_tile_bits) for block in blocks], dtype=np.int64)
    all_bits = np.array([int(block.all_tiles_bits) for block in blocks], dtype=np.int64)
    return LayerWork(schedule, geometry, blocks, chunks, slabs, bricks, tile_bits, all_bits)
