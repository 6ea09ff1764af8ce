"""Verification finds a container or an output that is wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dpred_sim.codecs.base import codec
from dpred_sim.designs.base import design
from dpred_sim.errors import InvariantBroken
from dpred_sim.simulation.systems import load_topology
from dpred_sim.simulation.verify import convolve, verify_container, verify_layer, verify_workload
from dpred_sim.workload.layer import Layer
from tests.networks import random_workload, spiky


def slow(layer: Layer) -> np.ndarray:
    """One product after another."""
    acts, weights = layer.activations.values.astype(int), layer.weights.values.astype(int)
    depth, filters = layer.channels // layer.groups, layer.filters // layer.groups
    out = np.zeros((layer.windows, layer.filters), dtype=np.int64)
    for window in range(layer.windows):
        oy, ox = divmod(window, layer.conv_width)
        for k in range(layer.filters):
            first = k // filters * depth
            for ky in range(layer.kernel[0]):
                for kx in range(layer.kernel[1]):
                    y = oy * layer.stride[0] - layer.padding[0] + ky * layer.dilation[0]
                    x = ox * layer.stride[1] - layer.padding[1] + kx * layer.dilation[1]
                    if 0 <= y < layer.height and 0 <= x < layer.width:
                        out[window, k] += int(acts[y, x, first : first + depth] @ weights[k, ky, kx])
    return out


CASES = {
    "plain": ((6, 7, 8), (5, 3, 3, 8), {"padding": 1}),
    "uneven": ((7, 6, 4), (3, 2, 3, 4), {"padding": (1, 0, 2, 1), "stride": (2, 1), "dilation": (1, 2)}),
    "groups": ((5, 5, 8), (6, 3, 3, 4), {"groups": 2}),
    "depthwise": ((5, 5, 6), (6, 3, 3, 1), {"groups": 6, "padding": 1}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("signed", [False, True])
def test_convolution_and_bit_serial_outputs(case, signed):
    acts, weights, options = CASES[case]
    rng = np.random.default_rng(3)
    layer = Layer.conv2d("l", spiky(rng, acts, 16, signed), spiky(rng, weights, 16, True), **options)
    expected = slow(layer)
    values, filters = layer.activations.values.astype(np.int64), layer.weights.values.astype(np.int64)
    assert np.array_equal(convolve(layer, values, filters), expected)
    for name in ("dadiannao", "stripes", "dpred_stripes"):
        verify_layer(layer, design(name))


@pytest.mark.parametrize("topology", ["dpred_stripes_ddr4", "dadiannao_ddr4", "stripes_ddr4"])
def test_whole_workloads(topology):
    counts = verify_workload(random_workload(7, layers=5), load_topology(topology))
    assert counts["layers"] == 5 and counts["containers"] >= 10


def test_too_few_bits_are_noticed(monkeypatch):
    rng = np.random.default_rng(4)
    layer = Layer.conv2d("l", spiky(rng, (5, 5, 32), 16, True), spiky(rng, (4, 3, 3, 32), 16, True))
    made = design("dpred_stripes")
    honest = type(made).entering_bits
    monkeypatch.setattr(type(made), "entering_bits", lambda self, layer: honest(self, layer) - 1)
    with pytest.raises(InvariantBroken, match="differ"):
        verify_layer(layer, made)


def test_a_container_that_changes_is_noticed(monkeypatch):
    tensor = spiky(np.random.default_rng(5), (4, 4, 32), 16, False)
    made = codec("raw")
    honest = type(made).encode
    monkeypatch.setattr(
        type(made),
        "encode",
        lambda self, x: replace(honest(self, x), payload=bytes(len(honest(self, x).payload))),
    )
    with pytest.raises(InvariantBroken, match="changed"):
        verify_container("l", tensor, made)
