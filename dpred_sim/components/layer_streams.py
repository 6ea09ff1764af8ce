"""The streams of one layer: rows that come in, outputs that leave, partial sums that do both."""

from __future__ import annotations

import itertools

import numpy as np

from dpred_sim.components.buffer import Room
from dpred_sim.components.layer_run import PartialSums
from dpred_sim.components.machine import Machine, TensorState
from dpred_sim.components.post_processing import PARTIAL_SUM_BITS, OutputStream
from dpred_sim.components.rows import RowSource
from dpred_sim.components.stream import ReadStream
from dpred_sim.designs.base import Range
from dpred_sim.schedule.job import LayerJob
from dpred_sim.schedule.passes import Pass
from dpred_sim.schedule.placement import position_ends
from dpred_sim.schedule.residency import LayerPlan

ACTIVATION_QUEUE, SHORTCUT_QUEUE, PARTIAL_SUM_QUEUE = range(3)
"""Queues of the activation DMA; they take turns."""
ACTIVATION_QUEUES = 3


def activation_rows(
    machine: Machine,
    index: int,
    job: LayerJob,
    tensor: TensorState,
    plan: LayerPlan,
    passes: list[list[Pass]],
) -> RowSource:
    """The rows that a layer convolves."""
    held = plan.hold_activations
    parts = [(0, tensor.offchip.shape[2])]
    if plan.order == "filters" and not held and job.blocks:
        parts = job.readings(machine.cluster_count)
    span = job.geometry.row_span
    room = Room(machine.activations, plan.activation_room, machine.activation_dma.pump)
    last = [max((item.sweep * job.slabs + item.slab for item in own), default=-1) for own in passes]
    source, streams = _rows(
        machine, index, "activations", tensor, job.needed_rows, span, room, held, parts, last
    )
    for stream in streams:
        machine.activation_dma.add(stream, ACTIVATION_QUEUE)
    return source


def shortcut_rows(
    machine: Machine,
    index: int,
    job: LayerJob,
    tensor: TensorState,
    plan: LayerPlan,
    passes: list[list[Pass]],
) -> RowSource:
    """The rows that a layer adds."""
    streamed = int(tensor.row_room()[tensor.resident_rows :].sum())
    held = plan.shortcut_room >= streamed
    parts = [(0, tensor.offchip.shape[2])]
    if plan.order == "filters" and not held and job.blocks:
        parts = job.sweeps(machine.cluster_count, job.filters)
    room = Room(machine.activations, plan.shortcut_room, machine.activation_dma.pump)
    span, rows = job.geometry.window_row_span, tensor.offchip.shape[0]
    last = [max((item.sweep for item in own), default=-1) for own in passes]
    source, streams = _rows(machine, index, "shortcut", tensor, rows, span, room, held, parts, last)
    for stream in streams:
        machine.activation_dma.add(stream, SHORTCUT_QUEUE)
    return source


def _rows(
    machine: Machine,
    index: int,
    what: str,
    tensor: TensorState,
    rows: int,
    span: int,
    room: Room,
    held: bool,
    parts: list[Range],
    last: list[int],
) -> tuple[RowSource, list[ReadStream]]:
    resident = min(tensor.resident_rows, rows)
    streams, all_ends, prefixes = [], [], []
    burst = machine.memory.burst_bytes
    for part in parts if resident < rows else []:
        ends = tensor.ends(part, resident, rows, burst)
        prefix = tensor.room_prefix(part)[: rows + 1]
        spare = None
        if not held:
            rooms = np.diff(prefix)[resident:]
            # Rows of one pass take half of the room, or what one window set needs; a request the rest.
            set_room = int(rooms.sum()) if span >= len(rooms) else span * int(rooms.max())
            needed = max(room.capacity_bits // 2, set_room)
            spare = max(1, room.capacity_bits - needed)
        values = tensor.value_prefix(part, machine.value_bits)[resident : rows + 1]
        streams.append(
            ReadStream(
                machine.env,
                what,
                index,
                tensor.address,
                ends[resident:],
                prefix[resident:],
                values - values[0],
                room,
                machine.settings.request_bytes,
                burst,
                spare_room=spare,
            )
        )
        all_ends.append(ends)
        prefixes.append(prefix)
    return RowSource(resident, streams, all_ends, prefixes, held, last), streams


def output_streams(
    machine: Machine,
    job: LayerJob,
    plan: LayerPlan,
    writes: TensorState,
    readers: list[LayerJob],
    second_readers: list[LayerJob],
) -> dict[int, OutputStream]:
    """Containers of the output rows that leave the chip, by weight block; also sets their slabs.

    Slabs are what is produced at a time (the filters of a block, when blocks go outermost), cut where a
    reader reads parts of the channels.
    """
    height, width, depth = writes.offchip.shape
    last_chunks = [b for b in range(len(job.blocks)) if (b + 1) % job.chunks == 0]
    by_block = plan.order == "filters" and len(last_chunks) > 1
    edges = {0, depth}
    if by_block:
        edges |= {edge for b in last_chunks for edge in job.outputs(b)}
    for reader in readers:
        edges |= {cut for cut in reader.cuts_of(writes.name) if cut <= depth}
    for reader in second_readers:
        edges |= set(reader.second_cuts)
    cuts = sorted(edges)
    writes.slabs = tuple(itertools.pairwise(cuts))
    kept = plan.output_rows_kept
    if kept >= height:
        return {}
    parts = [job.outputs(b) for b in last_chunks] if by_block else [(0, depth)]
    keys = last_chunks if by_block else [last_chunks[0] if plan.order == "filters" and last_chunks else 0]
    spilled = np.maximum(np.arange(height * width + 1) - kept * width, 0)
    streams: dict[int, OutputStream] = {}
    address = writes.address
    for key, part in zip(keys, parts, strict=True):
        ends = position_ends(writes.offchip, writes.slabs, part, kept, machine.memory.burst_bytes)
        streams[key] = OutputStream(
            "outputs", address, ends, spilled * ((part[1] - part[0]) * machine.value_bits)
        )
        page = machine.settings.request_bytes
        address += -(-int(ends[-1]) // page) * page
    return streams


def partial_sums(machine: Machine, index: int, job: LayerJob, plan: LayerPlan) -> PartialSums:
    """Where the partial sums of a cut layer go, and how they come back."""
    size = job.layer.windows * job.largest_block * PARTIAL_SUM_BITS // 8
    addresses = [machine.memory.allocate(size) for _ in range(machine.cluster_count)]
    room = Room(machine.activations, plan.staging_room // 2, machine.activation_dma.pump)

    def make(cluster: int, size: int) -> ReadStream:
        marks = np.array([0, size], dtype=np.int64)
        stream = ReadStream(
            machine.env,
            "partial_sums",
            index,
            addresses[cluster],
            marks,
            marks * 8,
            marks * 8,
            room,
            machine.settings.request_bytes,
            machine.memory.burst_bytes,
            spare_room=room.capacity_bits // 4,
        )
        machine.activation_dma.add(stream, PARTIAL_SUM_QUEUE)
        return stream

    return PartialSums(addresses, room, make)
