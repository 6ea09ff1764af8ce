"""Passes: runs of whole steps that a cluster executes without asking for anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.designs.base import Schedule
from dpred_sim.schedule.geometry import SetGeometry
from dpred_sim.schedule.placement import WeightBlock
from dpred_sim.schedule.residency import LoopOrder


@dataclass(slots=True)
class Pass:
    """One pass: `weights` indexes the layer's weight blocks, `sweep` counts a cluster's sweeps.

    Rows are inclusive. `weight_bytes` of the block's stream must have arrived; the room of the block is
    released up to `weight_release` bits when the pass ends. `run` numbers what is assembled before it
    is stored: outputs positions [outputs_first, outputs_last) are complete when all passes of it are.
    """

    weights: int
    sweep: int
    cycles: int
    macs: int
    first_row: int
    last_row: int
    next_row: int
    """First row that a later pass of this sweep needs: rows before it are released."""
    brick_bits: int
    weight_bits: int
    """Bits that the busiest tile reads of weights."""
    all_weight_bits: int
    """Bits that all tiles together read of weights."""
    weight_bytes: int
    weight_release: int
    window_rows: tuple[int, int]
    windows: int
    outputs_first: int
    outputs_last: int
    run: int
    tiles: int
    """Tiles that have filters; the others idle."""
    shortcut_next: int = 0
    """First shortcut row that a later pass of this sweep needs."""
    last_of_sweep: bool = False
    weights_done: bool = False
    """No later pass uses this fetch of the weight block."""
    weight_round: int = 0
    """Which fetch of the weight block: 0 unless weights come anew for each run."""
    chunk: int = 0
    """Channel chunk of a block that is cut; its partial sums leave the chip unless it is the last."""
    last_chunk: bool = True
    slab: int = 0
    """Which slab of the activations' channels it reads, where not all of them stay on chip."""


@dataclass(frozen=True, slots=True)
class PassLimits:
    """Bounds of a pass."""

    cycles: int = 1024
    """Longest pass; one window set may be longer."""
    passes_per_block: int = 16
    """A block is cut into at least this many passes where it has the window sets for it."""
    rows: int | None = None
    """Most activation rows of a pass (streamed activations must fit their window)."""
    window_rows: int | None = None
    """Most rows of windows (streamed shortcut rows must fit theirs)."""
    outputs: int | None = None
    """Most stored positions of a pass (they must fit the staging room)."""
    windows: int | None = None
    """Most windows of a pass (partial sums must fit the staging room)."""
    weight_room: int | None = None
    """Most bits of weights, in one buffer, of a fully connected pass."""


@dataclass(frozen=True, eq=False)
class LayerWork:
    """What all passes of a layer are cut from."""

    schedule: Schedule
    geometry: SetGeometry
    blocks: Sequence[WeightBlock]
    chunks: int
    slab_steps: Sequence[int]
    """Inner steps at which the slabs of a block begin (where it is cut by channels), and its last end."""
    brick_bits: NDArray[np.int64]
    """Bits of one distinct position of each weight block's channels, as the buffer stores it."""
    tile_weight_bits: NDArray[np.int64]
    """Bits that the busiest tile reads for one window set (all inner steps), by weight block."""
    all_weight_bits: NDArray[np.int64]
    """The same of all tiles together: what a shared buffer or bus carries."""


def build_passes(
    work: LayerWork,
    mine: Sequence[int],
    order: LoopOrder,
    run_rows: int,
    limits: PassLimits,
    refetch: bool = False,
) -> list[Pass]:
    """Passes of one cluster, which works on the weight blocks `mine`, in order.

    Order `filters`: a sweep over all window sets for each block. Order `windows`: all blocks for each
    run of window sets of about `run_rows` activation rows; `refetch` says that the weights come anew
    for each run. Blocks that are cut by channels run one after another, or all on one band of the plane
    after another, as their schedule says.
    """
    if work.schedule.by_channels:
        if work.schedule.sets > 1:
            return _band_passes(work, mine, limits, refetch)
        return [
            made
            for sweep, index in enumerate(mine)
            for made in _channel_passes(work, index, sweep, 0, limits)
        ]
    passes: list[Pass] = []
    prefixes = {index: _prefix(work, index) for index in mine}
    stops = {
        index: _stops(work.geometry, prefixes[index], work.schedule.windows_per_set, limits) for index in mine
    }
    if order == "filters":
        for sweep, index in enumerate(mine):
            cut = _cut(stops[index], 0, work.schedule.sets)
            passes += _set_passes(work, index, sweep, prefixes[index], cut, run=sweep)
            passes[-1].last_of_sweep = passes[-1].weights_done = True
        return passes
    runs = list(_runs(work.geometry, run_rows, limits))
    for run, (first, last) in enumerate(runs):
        for index in mine:
            made = _set_passes(work, index, 0, prefixes[index], _cut(stops[index], first, last), run=run)
            for item in made:
                item.weight_round = run if refetch else 0
                item.next_row = item.shortcut_next = 0
            made[-1].weights_done = refetch or run == len(runs) - 1
            passes += made
        if last < work.schedule.sets:
            passes[-1].next_row = int(work.geometry.first_row[last])
            passes[-1].shortcut_next = int(work.geometry.first_window_row[last])
        else:
            passes[-1].next_row = passes[-1].last_row + 1
            passes[-1].shortcut_next = passes[-1].window_rows[1] + 1
            passes[-1].last_of_sweep = True
    return passes


def _prefix(work: LayerWork, index: int) -> NDArray[np.int64]:
    """Prefix sums of cycles over the window sets of one weight block."""
    schedule, block = work.schedule, work.blocks[index]
    if work.chunks == 1:
        cycles = schedule.set_cycles(block.block)
    else:
        base = (block.block * schedule.sets + np.arange(schedule.sets, dtype=np.int64)) * schedule.inner
        starts = base[:, None] + block.steps[None, :]
        cycles = schedule.cycles(starts, starts + 1).sum(axis=1)
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(cycles)])


def _runs(geometry: SetGeometry, run_rows: int, limits: PassLimits) -> Iterator[tuple[int, int]]:
    """Runs of window sets that read at most `run_rows` rows, and stay within the room of the others.

    What a run reads and completes stays until its last block is done: shortcut rows and outputs too.
    """
    sets = len(geometry.first_row)
    first = 0
    while first < sets:
        last = int(np.searchsorted(geometry.last_row, geometry.first_row[first] + run_rows, side="left"))
        if limits.window_rows is not None:
            bound = geometry.first_window_row[first] + limits.window_rows
            last = min(last, int(np.searchsorted(geometry.last_window_row, bound, side="left")))
        if limits.outputs is not None:
            room = geometry.outputs[first] + limits.outputs
            last = min(last, int(np.searchsorted(geometry.outputs, room, side="right")) - 1)
        last = min(max(last, first + 1), sets)
        yield first, last
        first = last


def _stops(
    geometry: SetGeometry, prefix: NDArray[np.int64], windows_per_set: int, limits: PassLimits
) -> list[int]:
    """For each window set, where a pass that starts there ends: within the limits, one set at least."""
    longest = min(limits.cycles, max(1, int(prefix[-1]) // limits.passes_per_block))
    ends = np.searchsorted(prefix, prefix[:-1] + longest, side="right") - 1
    if limits.rows is not None:
        bound = geometry.first_row + limits.rows
        ends = np.minimum(ends, np.searchsorted(geometry.last_row, bound, side="left"))
    if limits.window_rows is not None:
        bound = geometry.first_window_row + limits.window_rows
        ends = np.minimum(ends, np.searchsorted(geometry.last_window_row, bound, side="left"))
    if limits.outputs is not None:
        bound = geometry.outputs[:-1] + limits.outputs
        ends = np.minimum(ends, np.searchsorted(geometry.outputs, bound, side="right") - 1)
    if limits.windows is not None:
        ends = np.minimum(ends, np.arange(len(ends)) + limits.windows // windows_per_set)
    stops: list[int] = np.maximum(ends, np.arange(len(ends)) + 1).tolist()
    return stops


def _cut(stops: list[int], first: int, last: int) -> list[tuple[int, int]]:
    """Cut window sets [first, last) into passes."""
    pieces: list[tuple[int, int]] = []
    while first < last:
        stop = min(stops[first], last)
        pieces.append((first, stop))
        first = stop
    return pieces


def _set_passes(
    work: LayerWork,
    index: int,
    sweep: int,
    prefix: NDArray[np.int64],
    cut: list[tuple[int, int]],
    run: int,
) -> list[Pass]:
    schedule, geometry, block = work.schedule, work.geometry, work.blocks[index]
    firsts = np.array([first for first, _ in cut])
    lasts = np.array([last for _, last in cut])
    bricks = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(geometry.bricks)])
    last_rows = geometry.last_row[lasts - 1]
    ended, following = lasts >= schedule.sets, np.minimum(lasts, schedule.sets - 1)
    windows_done = np.minimum(lasts * schedule.windows_per_set, schedule.original.windows)
    windows = windows_done - firsts * schedule.windows_per_set
    window_rows = zip(
        geometry.first_window_row[firsts].tolist(),
        geometry.last_window_row[lasts - 1].tolist(),
        strict=True,
    )
    after_last = geometry.last_window_row[-1] + 1
    columns: dict[str, list[Any]] = {
        "cycles": (prefix[lasts] - prefix[firsts]).tolist(),
        "macs": (windows * int(block.values[-1])).tolist(),
        "first_row": geometry.first_row[firsts].tolist(),
        "last_row": last_rows.tolist(),
        "next_row": np.where(ended, last_rows + 1, geometry.first_row[following]).tolist(),
        "brick_bits": ((bricks[lasts] - bricks[firsts]) * int(work.brick_bits[index])).tolist(),
        "weight_bits": ((lasts - firsts) * int(work.tile_weight_bits[index])).tolist(),
        "all_weight_bits": ((lasts - firsts) * int(work.all_weight_bits[index])).tolist(),
        "window_rows": list(window_rows),
        "windows": windows.tolist(),
        "outputs_first": geometry.outputs[firsts].tolist(),
        "outputs_last": geometry.outputs[lasts].tolist(),
        "shortcut_next": np.where(ended, after_last, geometry.first_window_row[following]).tolist(),
    }
    chunk = index % work.chunks
    same: dict[str, Any] = {
        "weights": index,
        "sweep": sweep,
        "weight_bytes": block.stored_bytes,
        "weight_release": 0,
        "run": run,
        "tiles": len(schedule.blocks[block.block].tile_filters),
        "chunk": chunk,
        "last_chunk": chunk == work.chunks - 1,
    }
    rows = zip(*columns.values(), strict=True)
    return [Pass(**same, **dict(zip(columns, row, strict=True))) for row in rows]


def _band_passes(work: LayerWork, mine: Sequence[int], limits: PassLimits, refetch: bool) -> list[Pass]:
    """All blocks on one band after another. A band's rows stay until its last block is done.

    Weights stay for the next band, or come anew for it (`refetch`).
    """
    geometry, bands = work.geometry, work.schedule.sets
    passes: list[Pass] = []
    for band in range(bands):
        last_band = band == bands - 1
        for index in mine:
            for made in _channel_passes(work, index, 0, band, limits):
                made.run, made.weight_round = band, band if refetch else 0
                made.next_row = made.shortcut_next = 0
                made.last_of_sweep = False
                if not (refetch or last_band):
                    made.weight_release, made.weights_done = 0, False
                passes.append(made)
        if not mine:
            continue
        end = passes[-1]
        if last_band:
            end.next_row, end.shortcut_next = end.last_row + 1, end.window_rows[1] + 1
            end.last_of_sweep = True
        else:
            end.next_row = int(geometry.first_row[band + 1])
            end.shortcut_next = int(geometry.first_window_row[band + 1])
    return passes


def _channel_passes(work: LayerWork, index: int, sweep: int, band: int, limits: PassLimits) -> Iterator[Pass]:
    """Passes of one block on one band of the plane, which may be all of it.

    A pass is a run of inner steps, whose weights are used once; outputs are complete with the last one.
    """
    schedule, geometry, block = work.schedule, work.geometry, work.blocks[index]
    inner, slabs = schedule.inner, list(work.slab_steps)
    last_row = int(geometry.last_row[band])
    window_rows = int(geometry.first_window_row[band]), int(geometry.last_window_row[band])
    outputs = int(geometry.outputs[band]), int(geometry.outputs[band + 1])
    before = band * schedule.windows_per_set
    windows = min(schedule.windows_per_set, schedule.original.windows - before)
    base = (block.block * schedule.sets + band) * inner
    prefix = schedule.cycles(base, base + np.arange(inner + 1, dtype=np.int64))
    longest = min(limits.cycles, max(1, int(prefix[-1]) // limits.passes_per_block))
    bricks = int(work.brick_bits[index]) * int(geometry.bricks[band])
    first = slab = 0
    while first < inner:
        last = int(np.searchsorted(prefix, prefix[first] + longest, side="right")) - 1
        if limits.weight_room is not None:
            room = block.room[first] + limits.weight_room
            last = min(last, int(np.searchsorted(block.room, room, side="right")) - 1)
        last = min(max(last, first + 1), slabs[slab + 1])
        read, ends = last == slabs[slab + 1], last == inner
        yield Pass(
            weights=index,
            sweep=sweep,
            cycles=int(prefix[last] - prefix[first]),
            macs=int(block.values[last] - block.values[first]) * windows,
            first_row=int(geometry.first_row[band]),
            last_row=last_row,
            next_row=last_row + 1 if read else 0,
            brick_bits=bricks * (last - first) // inner,
            weight_bits=int(work.tile_weight_bits[index]) * (last - first) // inner,
            all_weight_bits=int(work.all_weight_bits[index]) * (last - first) // inner,
            weight_bytes=int(block.ends[last]),
            weight_release=int(block.room[last]),
            window_rows=window_rows if ends else (window_rows[0], window_rows[0]),
            windows=windows if ends else 0,
            outputs_first=outputs[0],
            outputs_last=outputs[1] if ends else outputs[0],
            run=sweep,
            tiles=len(schedule.blocks[block.block].tile_filters),
            shortcut_next=window_rows[1] + 1 if ends else 0,
            last_of_sweep=ends,
            weights_done=ends,
            slab=slab,
        )
        first, slab = last, slab + read


def memory_passes(work: LayerWork) -> list[Pass]:
    """Passes of a memory layer: a row of positions each, without compute."""
    geometry, layer = work.geometry, work.schedule.original
    rows, rows_read = len(geometry.first_row), int(geometry.last_row[-1]) + 1
    return [
        Pass(
            weights=0,
            sweep=0,
            cycles=0,
            macs=0,
            first_row=int(geometry.first_row[row]),
            last_row=int(geometry.last_row[row]),
            next_row=rows_read if row == rows - 1 else int(geometry.first_row[row + 1]),
            brick_bits=int(geometry.bricks[row] * work.brick_bits[0]),
            weight_bits=0,
            all_weight_bits=0,
            weight_bytes=0,
            weight_release=0,
            window_rows=(row, row),
            windows=layer.conv_width,
            outputs_first=int(geometry.outputs[row]),
            outputs_last=int(geometry.outputs[row + 1]),
            run=row,
            tiles=0,
            shortcut_next=row + 1,
            last_of_sweep=row == rows - 1,
        )
        for row in range(rows)
    ]
