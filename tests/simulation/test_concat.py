"""Tensors whose channels several layers write: nothing moves, readers fetch what parts have off chip."""

from __future__ import annotations

import numpy as np
import pytest

from dpred_sim.codecs.base import codec
from dpred_sim.errors import InputError
from dpred_sim.simulation.engine import Simulation
from dpred_sim.simulation.systems import load_topology
from dpred_sim.simulation.verify import verify_workload
from dpred_sim.values.tensor import Tensor
from dpred_sim.workload.layer import Layer, Pool
from dpred_sim.workload.network import Network
from dpred_sim.workload.views import Join
from dpred_sim.workload.workload import Workload
from tests.networks import spiky

DEPTHS = (48, 16, 32)


def branches(groups: int = 1) -> Workload:
    """Three branches of one image, read together twice."""
    rng = np.random.default_rng(5)
    image = spiky(rng, (24, 20, 16), 16, False)
    network = Network()
    outputs = []
    for index, depth in enumerate(DEPTHS):
        out = spiky(rng, (24, 20, depth), 16, False)
        weights = spiky(rng, (depth, 3, 3, 16), 16, True)
        network.add(Layer.conv2d(f"branch{index}", image, weights, out, padding=1), "input")
        outputs.append(out)
    together = Join(outputs)
    name = network.concat("together", [f"branch{index}" for index in range(len(DEPTHS))])
    assert network.tensor_shape(name) == (24, 20, sum(DEPTHS))
    kernel = spiky(rng, (40, 3, 3, sum(DEPTHS) // groups), 16, True)
    network.add(
        Layer.conv2d("join", together, kernel, spiky(rng, (24, 20, 40), 16, True), padding=1, groups=groups),
        name,
    )
    network.add(Layer.pooling("pool", together, Pool("max", (2, 2), (2, 2)), None), name)
    return Workload("branches", network, 16, "random")


def run(found: Workload, size: str, codec_name: str = "dpred"):
    system = load_topology(
        "dpred_stripes_ddr4",
        set=[f"nodes.activations.size={size}", f"nodes.dram.stores.codec={codec_name}"],
    )
    return Simulation(found, system).run()


def read_bytes(result, layer: str) -> int:
    found = next(one for one in result.layers if one.name == layer)
    return found.traffic["activations"].read_bytes


def test_nothing_moves_where_everything_fits() -> None:
    result = run(branches(), "4 MiB")
    assert [layer.name for layer in result.layers] == ["branch0", "branch1", "branch2", "join", "pool"]
    assert read_bytes(result, "join") == read_bytes(result, "pool") == 0
    assert sum(layer.traffic["outputs"].write_bytes for layer in result.layers[:3]) == 0


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("codec_name", ["dpred", "raw"])
@pytest.mark.parametrize("size", ["48 KiB", "64 KiB", "100 KiB", "128 KiB", "160 KiB", "200 KiB"])
def test_what_was_written_of_each_part_is_read(size: str, codec_name: str, groups: int) -> None:
    """The run itself checks that bytes are conserved; here: as much comes back as left."""
    found = branches(groups)
    result = run(found, size, codec_name)
    assert result.complete
    written = sum(layer.traffic["outputs"].write_bytes for layer in result.layers[:3])
    made = codec(codec_name)
    whole = sum(
        made.chosen_for(node.layer.outputs, "activations").size_bits(node.layer.outputs) // 8
        for node in found.network.nodes[:3]
        if node.layer.outputs is not None
    )
    rows = 24 * len(DEPTHS)
    # A pointer a row, and padding of each part's stream to bursts and pages.
    assert read_bytes(result, "pool") <= whole + rows * 4 + 3 * 64
    assert written - 3 * 64 <= read_bytes(result, "pool") <= written + 3 * 64
    if groups == 1:
        assert written - 3 * 64 <= read_bytes(result, "join")


def test_values_are_those_of_the_parts() -> None:
    found = branches()
    whole = found.network.tensor("together")
    assert whole is not None and whole.shape == (24, 20, 96)
    parts = [node.layer.outputs.load().values for node in found.network.nodes[:3]]
    assert np.array_equal(whole.load().values, np.concatenate(parts, axis=-1))
    assert verify_workload(found, load_topology("dpred_stripes_ddr4"))["layers"] == 4


def test_a_signed_part_makes_the_whole_signed() -> None:
    one = Tensor(np.array([[3, 4]]), 16, False, 5)
    other = Tensor(np.array([[-3, 4]]), 16, True, 5)
    whole = Join([one, other])
    assert (whole.signed, whole.precision, whole.shape) == (True, 6, (1, 4))
    assert whole.load().values.tolist() == [[3, 4, -3, 4]]


def test_concatenations_can_be_concatenated() -> None:
    network = branches().network
    rng = np.random.default_rng(1)
    image = network.nodes[0].layer.activations
    late = Layer.conv2d(
        "late", image, spiky(rng, (8, 1, 1, 16), 16, True), spiky(rng, (24, 20, 8), 16, False)
    )
    network.add(late, "input")
    network.concat("more", ["together", "late"])
    assert network.joins["more"] == ("branch0", "branch1", "branch2", "late")
    assert network.tensor_shape("more") == (24, 20, 104)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (["branch0", "pool"], "not tensors of one plane"),
        (["branch0", "brunch1"], "no layer before writes"),
        (["branch0", "branch0"], "each part is one tensor"),
        ([], "not tensors of one plane"),
    ],
)
def test_what_is_refused(parts: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        branches().network.concat("again", parts)
