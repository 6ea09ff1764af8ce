"""From the state of the machine to what `schedule.residency` decides from, and back to limits of passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dpred_sim.components.machine import LayerTensors, Machine, TensorState
from dpred_sim.components.post_processing import PARTIAL_SUM_BITS
from dpred_sim.designs.base import Range
from dpred_sim.errors import InputError
from dpred_sim.schedule.job import LayerJob
from dpred_sim.schedule.passes import PassLimits
from dpred_sim.schedule.residency import LayerNeeds, LayerPlan, StreamNeeds, minimum_room


def layer_needs(
    machine: Machine,
    job: LayerJob,
    tensors: LayerTensors,
    weights_fit: bool,
    free_room: int,
    keep_room: int,
    *,
    weight_bytes: int | None = None,
    empty: bool = False,
) -> LayerNeeds:
    """What a layer needs now; `empty` asks for the worst case, nothing on chip.

    `weight_bytes` are what one fetch of all weights moves off chip, where it is not their blocks' size.
    """
    reads, adds, writes = tensors.reads, tensors.adds, tensors.writes
    if weight_bytes is None:
        weight_bytes = sum(block.stored_bytes for block in job.blocks)
    geometry = job.geometry
    by_channels = job.schedule.by_channels and job.schedule.window_parallel and job.bands == 1
    of_block = max(last - first for first, last in map(job.outputs, range(max(1, len(job.blocks)))))
    produced = of_block if by_channels else job.layer.output_channels
    set_room = geometry.output_span * produced * machine.value_bits
    block_room = geometry.output_span * of_block * machine.value_bits
    if job.chunks > 1:
        set_room = job.schedule.windows_per_set * job.largest_block * 2 * PARTIAL_SUM_BITS
        # Partial sums come back in bursts, which need not end where a window set does.
        set_room += 4 * 8 * machine.memory.burst_bytes
        block_room = set_room
    shortcut = None
    if adds is not None:
        rows = adds.offchip.shape[0]
        sweeps = job.sweeps(machine.cluster_count, job.filters) if by_channels else []
        span = geometry.window_row_span
        shortcut = _stream_needs(machine, adds, rows, span, sweeps, empty, by_channels)
    sweeps = job.readings(machine.cluster_count) if job.blocks else []
    span = geometry.row_span
    return LayerNeeds(
        name=job.layer.name,
        activations=_stream_needs(machine, reads, job.needed_rows, span, sweeps, empty, by_channels),
        shortcut=shortcut,
        output_row_room=writes.row_room_raw(machine.value_bits),
        output_readers=len(writes.readers),
        set_output_room=set_room,
        block_output_room=block_room,
        weight_bytes=weight_bytes,
        weight_blocks=len(job.blocks),
        weights_fit=weights_fit,
        chunked=job.chunks > 1,
        by_channels=by_channels,
        block_after_block=job.schedule.by_channels and job.bands == 1,
        bands=job.bands,
        free_room=free_room,
        keep_room=keep_room,
    )


def _stream_needs(
    machine: Machine,
    tensor: TensorState,
    rows: int,
    span: int,
    sweeps: list[Range],
    empty: bool,
    by_channels: bool,
) -> StreamNeeds:
    resident = 0 if empty else min(tensor.resident_rows, rows)
    burst = machine.memory.burst_bytes
    depth = tensor.offchip.shape[2]
    whole = int(tensor.ends((0, depth), resident, rows, burst)[-1])
    slab_room = None
    if by_channels:
        prefixes = [tensor.room_prefix(part) for part in set(sweeps)]
        slab_room = max(int(prefix[rows] - prefix[resident]) for prefix in prefixes)
    parts = {part: int(tensor.ends(part, resident, rows, burst)[-1]) for part in set(sweeps)}
    return StreamNeeds(
        row_room=tensor.row_room()[:rows],
        span=span,
        resident=resident,
        stored_bytes=whole,
        sweep_bytes=max(whole, sum(parts[part] for part in sweeps)),
        slab_room=slab_room,
    )


def reserve_bits(machine: Machine, jobs: Sequence[LayerJob], tensors: Sequence[LayerTensors]) -> int:
    """Room that is never given to tensors that stay: with it every layer can run, whatever is kept.

    Raises InputError when the buffer is too small for one window set of some layer.
    """
    worst, what, name = 0, "", ""
    for job, layer_tensors in zip(jobs, tensors, strict=True):
        needs = layer_needs(machine, job, layer_tensors, True, 0, 0, empty=True)
        if (need := minimum_room(needs)) > worst:
            worst, what, name = need, needs.unit, job.layer.name
    capacity = machine.activations.capacity_bits
    if worst > capacity:
        raise InputError(
            f"buffer {machine.activations.name!r} is too small for {what} and its outputs",
            field=f"layer {name!r}",
            found=f"{capacity} bit",
            allowed=f"at least {worst} bit",
        )
    return worst


def pass_limits(machine: Machine, job: LayerJob, plan: LayerPlan, needs: LayerNeeds) -> PassLimits:
    """Bounds that keep a pass's rows, outputs and weights within the room the plan gives them.

    Half of each room is for one pass, so that the next one's data can come meanwhile.
    """
    rows = window_rows = outputs = windows = None
    acts, shortcut = needs.activations, needs.shortcut
    if acts.resident < len(acts.row_room) and not plan.hold_activations:
        widest = max(1, int(acts.row_room[acts.resident :].max()))
        rows = max(acts.span, plan.activation_room // 2 // widest)
    if shortcut is not None and plan.shortcut_room < shortcut.streamed_room:
        widest = max(1, int(shortcut.row_room.max()))
        window_rows = max(shortcut.span, plan.shortcut_room // 2 // widest)
    if plan.output_rows_kept < len(needs.output_row_room):
        position = job.layer.output_channels * machine.value_bits
        outputs = max(job.geometry.output_span, plan.staging_room // 2 // position)
    if job.chunks > 1:
        window = job.largest_block * PARTIAL_SUM_BITS
        windows = max(job.schedule.windows_per_set, plan.staging_room // 4 // window)
    return replace(
        machine.limits,
        rows=rows,
        window_rows=window_rows,
        outputs=outputs,
        windows=windows,
        weight_room=min(buffer.capacity_bits for buffer in machine.weights) // 4,
    )
