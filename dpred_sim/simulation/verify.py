"""Verification: containers are really packed and unpacked, outputs really computed.

Every container of a workload is packed in the codecs of the system and unpacked again, and its length
compared with the size that the simulation charged. Every layer's outputs are computed the way the
design does, from the bits that enter its units, and compared with a plain integer convolution. Tensors
are captured, not propagated: this checks layers, not the network.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dpred_sim.codecs.base import Codec, Role
from dpred_sim.designs.base import Design
from dpred_sim.errors import InvariantBroken
from dpred_sim.simulation.build import activation_buffer, stored_codec, tile_design, weight_buffers
from dpred_sim.topology.graph import DRAM, Topology
from dpred_sim.values.tensor import Tensor, TensorSource
from dpred_sim.workload.layer import Layer
from dpred_sim.workload.workload import Workload

Integers = NDArray[np.int64]


def verify_workload(workload: Workload, topology: Topology) -> dict[str, int]:
    """Verify all containers and layers; returns how many of each. Raises InvariantBroken."""
    design = tile_design(topology)
    offchip = stored_codec(topology.of_kind(DRAM)[0])
    activations = stored_codec(activation_buffer(topology))
    weights = stored_codec(weight_buffers(topology, topology.clusters[0].tiles)[0])
    containers = 0
    seen: set[int] = set()
    for node in workload.network:
        layer = node.layer
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
                containers += 1
        verify_layer(layer, design)
    return {"containers": containers, "layers": len(workload.network)}


def verify_container(name: str, tensor: Tensor, codec: Codec) -> None:
    """Pack and unpack one tensor; raises InvariantBroken when it comes back changed, or another size."""
    encoded = codec.encode(tensor)
    if encoded.size_bits != codec.size_bits(tensor):
        raise InvariantBroken(
            f"layer {name!r}: a container is {encoded.size_bits} bit long, charged {codec.size_bits(tensor)}"
        )
    if not np.array_equal(codec.decode(encoded).values, tensor.values):
        raise InvariantBroken(f"layer {name!r}: a container of {codec} comes back changed")


def verify_layer(layer: Layer, design: Design) -> None:
    """Compute one layer both ways; raises InvariantBroken when a single output differs."""
    if layer.weights is None:
        return
    activations = layer.activations.load()
    values = activations.values.astype(np.int64)
    weights = layer.weights.load().values.astype(np.int64)
    expected = convolve(layer, values, weights)
    widths = design.entering_bits(layer)
    if widths is None:
        return
    outputs = np.zeros_like(expected)
    for bit in range(int(widths.max())):
        plane = (values >> bit) & 1
        # Two's complement: the top bit of what enters counts negative in a signed tensor.
        weight = np.where(widths == bit + 1, -1, 1) if activations.signed else 1
        plane = np.where(widths > bit, plane * weight, 0)
        if plane.any():
            outputs += convolve(layer, plane, weights) << bit
    if not np.array_equal(outputs, expected):
        wrong = np.count_nonzero(outputs != expected)
        raise InvariantBroken(f"layer {layer.name!r}: {wrong} outputs computed bit by bit differ")


def convolve(layer: Layer, activations: Integers, weights: Integers) -> Integers:
    """Plain integer convolution (or matrix product), before bias and activation, (windows, K).

    Products and sums run in float64 for its matrix multiplication, and are exact: 16-bit operands and
    fewer than 2^21 products a sum stay below 2^53.
    """
    if layer.kind == "linear":
        flat = activations.reshape(layer.height, layer.channels).astype(np.float64)
        return (flat @ weights.T.astype(np.float64)).astype(np.int64)
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
