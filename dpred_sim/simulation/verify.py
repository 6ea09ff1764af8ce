"""Verification: containers are really packed and unpacked, outputs really computed.

Every container of a workload is packed in the codecs of the system and unpacked again, and its length
compared with the size that the simulation charged. Every layer's outputs are computed the way the
design does, from what its units process in the cycles that they are charged, and compared with a plain
integer convolution. Tensors are captured, not propagated: this checks layers, not the network.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from dpred_sim.codecs.base import Codec, Role
from dpred_sim.designs.base import Design, Schedule
from dpred_sim.errors import InputError, InvariantBroken
from dpred_sim.simulation.build import activation_buffer, stored_codec, tile_design, weight_buffers
from dpred_sim.topology.graph import DRAM, Topology
from dpred_sim.values.tensor import Tensor, TensorSource
from dpred_sim.workload.layer import Layer
from dpred_sim.workload.workload import Workload

Integers = NDArray[np.int64]


SLAB_VALUES = 1 << 22
"""Weights that a plain matrix product takes in one go."""
EXACT = 1 << 53
"""Integers below this one are exact in float64."""


def verify_workload(workload: Workload, topology: Topology, layers: str | None = None) -> dict[str, int]:
    """Verify layers and their containers: all, or those whose name matches `layers`, as "conv*".

    Returns how many containers came back, of how many layers outputs were computed, and how many output
    values were equal. Raises InvariantBroken when something is wrong, InputError when no name matches or
    the hardware could not compute with the values.
    """
    nodes = [node for node in workload.network if layers is None or fnmatchcase(node.name, layers)]
    if not nodes:
        raise InputError(
            "no layer has such a name",
            field="--layers",
            found=layers,
            allowed=", ".join(node.name for node in workload.network),
        )
    design = tile_design(topology)
    offchip = stored_codec(topology.of_kind(DRAM)[0])
    activations = stored_codec(activation_buffer(topology))
    weights = stored_codec(weight_buffers(topology, topology.clusters[0].tiles)[0])
    verified = {"containers": 0, "layers": 0, "values": 0}
    seen: set[int] = set()
    for layer in (node.layer for node in nodes):
        operands: tuple[tuple[TensorSource | None, Role, Codec], ...] = (
            (layer.activations, "activations", activations),
            (layer.weights, "weights", weights),
            (layer.outputs, "activations", activations),
        )
        for source, role, onchip in operands:
            if source is None or id(source) in seen:
                continue
            seen.add(id(source))
            for one in dict.fromkeys((offchip, onchip)):
                verify_container(layer.name, source.load(), one.chosen_for(source, role))
                verified["containers"] += 1
        values = verify_layer(layer, design)
        verified["layers"] += values > 0
        verified["values"] += values
    return verified


def verify_container(name: str, tensor: Tensor, codec: Codec) -> None:
    """Pack and unpack one tensor; raises InvariantBroken when it comes back changed, or another size."""
    encoded = codec.encode(tensor)
    if encoded.size_bits != codec.size_bits(tensor):
        raise InvariantBroken(
            f"layer {name!r}: a container is {encoded.size_bits} bit long, charged {codec.size_bits(tensor)}"
        )
    if not np.array_equal(codec.decode(encoded).values, tensor.values):
        raise InvariantBroken(f"layer {name!r}: a container of {codec} comes back changed")


def verify_layer(layer: Layer, design: Design) -> int:
    """Compute one layer both ways; returns how many outputs are equal: all, or 0 of a memory layer.

    A design that does not say how it computes gives 0 too. Raises InvariantBroken when a single output
    differs, when a product belongs to no step or to several, or when units would need more cycles than
    they are charged.
    """
    if layer.weights is None:
        return 0
    outputs = design.compute(layer)
    if outputs is None:
        return 0
    verify_steps(design.schedule(layer))
    values = layer.activations.load().values.astype(np.int64)
    expected = convolve(layer, values, layer.weights.load().values.astype(np.int64))
    if outputs.shape != expected.shape or not np.array_equal(outputs, expected):
        wrong = np.count_nonzero(outputs != expected) if outputs.shape == expected.shape else expected.size
        raise InvariantBroken(f"layer {layer.name!r}: {wrong} of {expected.size} outputs differ")
    return expected.size


def verify_steps(schedule: Schedule) -> None:
    """Every filter belongs to one block, and a block's chunks are the channels that its filters read.

    Raises InvariantBroken.
    """
    layer, name = schedule.layer, schedule.original.name
    ends = [0, *(block.filters[1] for block in schedule.blocks)]
    if [block.filters[0] for block in schedule.blocks] != ends[:-1] or ends[-1] != layer.filters:
        raise InvariantBroken(f"layer {name!r}: filters are in no block or in several")
    group, depth = layer.filters // layer.groups, layer.channels // layer.groups
    for block in schedule.blocks:
        read = block.filters[0] // group * depth, ((block.filters[1] - 1) // group + 1) * depth
        chunks = np.clip(schedule.inner_channels + block.channels[0], None, block.channels[1])
        if block.channels != read or chunks.min() != read[0] or chunks.max() != read[1]:
            raise InvariantBroken(
                f"layer {name!r}: filters {block.filters} do not meet the channels they read"
            )
    if schedule.sets * schedule.windows_per_set < layer.windows:
        raise InvariantBroken(f"layer {name!r}: windows are in no set")


def convolve(layer: Layer, activations: Integers, weights: Integers) -> Integers:
    """Plain integer convolution (or matrix product), before bias and activation, (windows, filters).

    Products and sums run in float64 for its matrix multiplication where they are exact: 16-bit operands
    and fewer than 2^21 products a sum stay below 2^53. Raises OverflowError where they might not be.
    """
    peaks = int(np.abs(activations).max()) * int(np.abs(weights).max())
    if peaks * (weights.size // layer.filters) >= EXACT:
        raise OverflowError(f"layer {layer.name!r}: sums need more than 53 bits")
    if layer.kind == "linear":
        flat = activations.reshape(layer.height, layer.channels).astype(np.float64)
        step = max(1, SLAB_VALUES // layer.channels)
        found = [flat @ weights[at : at + step].T.astype(np.float64) for at in range(0, len(weights), step)]
        return np.concatenate(found, axis=1).astype(np.int64)
    top, left, bottom, right = layer.padding
    padded = np.pad(activations, ((top, bottom), (left, right), (0, 0))).astype(np.float64)
    height, width = layer.conv_height, layer.conv_width
    depth, filters = layer.channels // layer.groups, layer.filters // layer.groups
    outputs = np.zeros((layer.groups, height * width, filters))
    operands = weights.astype(np.float64).reshape(layer.groups, filters, *layer.kernel, depth)
    for ky in range(layer.kernel[0]):
        for kx in range(layer.kernel[1]):
            y, x = ky * layer.dilation[0], kx * layer.dilation[1]
            rows = slice(y, y + (height - 1) * layer.stride[0] + 1, layer.stride[0])
            columns = slice(x, x + (width - 1) * layer.stride[1] + 1, layer.stride[1])
            window = padded[rows, columns].reshape(height * width, layer.groups, depth).transpose(1, 0, 2)
            outputs += window @ operands[:, :, ky, kx].transpose(0, 2, 1)
    return outputs.transpose(1, 0, 2).reshape(height * width, layer.filters).astype(np.int64)
