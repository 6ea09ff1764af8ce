"""Verification finds a container or an output that is wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dpred_sim.codecs.base import codec
from dpred_sim.designs.base import DESIGNS, design
from dpred_sim.errors import InputError, InvariantBroken
from dpred_sim.simulation import verify
from dpred_sim.simulation.systems import load_topology
from dpred_sim.simulation.verify import (
    convolve,
    verify_container,
    verify_layer,
    verify_steps,
    verify_workload,
)
from dpred_sim.workload.layer import Layer
from tests.networks import random_workload, spiky

RNG = np.random.default_rng(9)


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
    for name in DESIGNS.names():
        assert verify_layer(layer, design(name)) == expected.size


def test_a_linear_layer_looked_at_piece_by_piece(monkeypatch):
    rng = np.random.default_rng(8)
    layer = Layer.linear("l", spiky(rng, (3, 20), 16, True), spiky(rng, (11, 20), 16, True))
    values, weights = (x.values.astype(np.int64) for x in (layer.activations, layer.weights))
    monkeypatch.setattr(verify, "SLAB_VALUES", 60)
    assert np.array_equal(convolve(layer, values, weights), values @ weights.T)


def test_sums_that_are_not_exact_are_refused():
    layer = Layer.conv2d("l", spiky(RNG, (3, 3, 2), 8, True), spiky(RNG, (2, 1, 1, 2), 8, True))
    values, weights = (np.full(x.shape, 1 << 26, np.int64) for x in (layer.activations, layer.weights))
    with pytest.raises(OverflowError, match="53 bits"):
        convolve(layer, values, weights)


@pytest.mark.parametrize("topology", ["dpred_stripes_ddr4", "dadiannao_ddr4", "stripes_ddr4"])
def test_whole_workloads(topology):
    workload = random_workload(7, layers=5)
    counts = verify_workload(workload, load_topology(topology))
    computed = [node.layer for node in workload.network if node.layer.weights is not None]
    assert 0 < len(computed) < len(workload.network)  # a memory layer has containers only
    assert counts["layers"] == len(computed)
    assert counts["values"] == sum(layer.windows * layer.filters for layer in computed)
    assert counts["containers"] >= 10


def test_only_the_layers_asked_for():
    workload, topology = random_workload(7, layers=5), load_topology("stripes_ddr4")
    names = [node.name for node in workload.network]
    parts = [verify_workload(workload, topology, name) for name in names]
    whole = verify_workload(workload, topology, "layer*")
    assert {key: sum(part[key] for part in parts) for key in ("layers", "values")} == {
        key: whole[key] for key in ("layers", "values")
    }
    assert whole == verify_workload(workload, topology)
    with pytest.raises(InputError) as error:
        verify_workload(workload, topology, "conv*")
    assert error.value.field == "--layers" and names[0] in str(error.value)


def patched(monkeypatch, design_name, change):
    made = design(design_name)
    honest = type(made).compute
    monkeypatch.setattr(type(made), "compute", lambda self, layer: change(honest(self, layer)))
    return made


def test_a_single_wrong_output_is_noticed(monkeypatch):
    layer = Layer.conv2d("l", spiky(RNG, (5, 5, 32), 16, True), spiky(RNG, (4, 3, 3, 32), 16, True))
    one_off = np.zeros((9, 4), dtype=np.int64)
    one_off[8, 3] = 1
    with pytest.raises(InvariantBroken, match="1 of 36 outputs differ"):
        verify_layer(layer, patched(monkeypatch, "dpred_stripes", lambda outputs: outputs + one_off))
    with pytest.raises(InvariantBroken, match="36 of 36 outputs differ"):
        verify_layer(layer, patched(monkeypatch, "stripes", lambda outputs: outputs[:8]))


def test_a_design_that_does_not_say_how_it_computes(monkeypatch):
    layer = Layer.conv2d("l", spiky(RNG, (4, 4, 2), 8, True), spiky(RNG, (2, 1, 1, 2), 8, True))
    assert verify_layer(layer, patched(monkeypatch, "stripes", lambda outputs: None)) == 0


@pytest.mark.parametrize("what", ["lost filter", "lost channels", "lost windows"])
def test_steps_that_miss_products_are_noticed(what):
    layer = Layer.conv2d("l", spiky(RNG, (5, 5, 40), 8, True), spiky(RNG, (20, 1, 1, 40), 8, True))
    schedule = design("stripes", rows=4, tiles=2).schedule(layer)
    verify_steps(schedule)
    if what == "lost filter":
        schedule.blocks = (*schedule.blocks[:-1], replace(schedule.blocks[-1], filters=(16, 19)))
    elif what == "lost channels":
        schedule.inner_channels = schedule.inner_channels[:-1]
    else:
        schedule.sets -= 1
    with pytest.raises(InvariantBroken, match=what.split()[1]):
        verify_steps(schedule)


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
