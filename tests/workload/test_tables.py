"""Layer tables: how rows become tensors."""

from __future__ import annotations

import pytest

from dpred_sim.errors import InputError
from dpred_sim.workload.layer import Pool
from dpred_sim.workload.network import INPUT
from dpred_sim.workload.tables import SyntheticNetwork


def table(bits: int = 16) -> SyntheticNetwork:
    return SyntheticNetwork((8, 8, 3), bits=bits, seed=3, weight_precision=10)


def test_a_tensor_has_the_widest_precision_that_its_readers_state() -> None:
    net = table()
    net.conv2d("a", 4, 3, precision=5)
    net.conv2d("b", 4, 1, precision=6)
    net.conv2d("c", 4, 1, precision=9, reads="a")
    network = net.workload("net", "drawn").network
    stored = {name: network.tensor(name) for name in (INPUT, "a", "b", "c")}
    assert {name: tensor.precision for name, tensor in stored.items() if tensor} == {
        INPUT: 5,
        "a": 9,  # read by b and c
        "b": 6,  # read by nobody: as the layer that writes it
        "c": 9,
    }


def test_a_shortcut_that_nobody_else_reads_has_the_precision_of_the_layer_that_adds_it() -> None:
    net = table()
    net.conv2d("trunk", 4, 1, precision=5)
    net.conv2d("project", 4, 1, precision=8, reads="trunk", relu=False)
    net.conv2d("join", 4, 1, precision=7, reads="trunk", shortcut="project")
    network = net.workload("net", "drawn").network
    project = network.tensor("project")
    assert project is not None and (project.precision, project.signed) == (7, True)
    assert network.nodes[-1].shortcut == "project"


def test_precisions_stop_at_the_width() -> None:
    net = table(bits=8)
    net.conv2d("a", 4, 3, precision=11)
    found = net.workload("net", "drawn")
    layer = found.network.nodes[0].layer
    assert layer.weights is not None
    assert (layer.activations.precision, layer.weights.precision) == (8, 8)
    assert found.provenance == {
        "seed": 3,
        "activation_precision_bits": {"a": 8},
        "weight_precision_bits": 8,
    }


def test_options_reach_the_layers() -> None:
    net = table()
    pool = Pool("max", (2, 2), (2, 2))
    net.conv2d("a", 4, 3, precision=8, stride=2, padding=1, pool=pool)
    net.conv2d("b", 8, 1, precision=8, groups=2)
    net.linear("c", 10, precision=8)
    first, second, third = (node.layer for node in net.workload("net", "drawn").network)
    assert (first.stride, first.padding, first.pool) == ((2, 2), (1, 1, 1, 1), pool)
    assert first.output_shape == second.activations.shape == (2, 2, 4)
    assert second.weights is not None and second.weights.shape == (8, 1, 1, 2)
    assert third.weights is not None and third.weights.shape == (10, 2 * 2 * 8)
    assert third.outputs is not None and third.outputs.shape == (1, 10)


def test_an_edge_to_nowhere_is_named() -> None:
    net = table()
    net.conv2d("a", 4, 3, precision=8)
    net.conv2d("b", 4, 1, precision=8, reads="aa")
    with pytest.raises(InputError, match="layer 'b'") as caught:
        net.workload("net", "drawn")
    assert caught.value.found == "aa"


def test_a_shortcut_of_another_shape_is_refused() -> None:
    net = table()
    net.conv2d("a", 4, 3, precision=8)
    net.conv2d("b", 6, 1, precision=8)
    net.conv2d("c", 4, 1, precision=8, shortcut="b")
    with pytest.raises(InputError, match="another shape"):
        net.workload("net", "drawn")


def test_a_table_without_rows_is_no_workload() -> None:
    with pytest.raises(InputError, match="no layers"):
        table().workload("net", "drawn")


def test_branches_side_by_side_share_the_precision_that_their_readers_state() -> None:
    net = table()
    stem = net.conv2d("stem", 16, 3, precision=5, padding=1)
    left = net.conv2d("left", 8, 1, precision=6)
    right = net.conv2d("right", 16, (1, 3), precision=7, padding=(0, 1, 0, 1), reads=stem)
    net.concat("both", [left, right])
    net.conv2d("top", 4, 3, precision=9, dilation=2, padding=2)
    network = net.workload("net", "drawn").network
    layers = {node.name: node.layer for node in network}
    whole = layers["top"].activations
    assert whole is network.tensor("both") and whole.shape == (8, 8, 24)
    assert [part.precision for part in (layers["left"].outputs, layers["right"].outputs) if part] == [9, 9]
    assert layers["left"].activations.precision == 7  # the stem, which both read
    assert (layers["top"].dilation, layers["top"].output_shape) == ((2, 2), (8, 8, 4))
    assert layers["right"].kernel == (1, 3)


def test_sequences_given_tensors_and_memory_layers() -> None:
    net = SyntheticNetwork((6, 20), bits=16, seed=0, weight_precision=8, signed=True)
    net.lstm("lstm", 8, precision=7)
    words = net.given("words", (4, 20), relu=False)
    net.linear("each", 5, precision=9, reads=words)
    net.rearranged("turned", (5, 4), lambda values: values.T, precision=6)
    found = net.workload("net", "drawn")
    nodes = {node.name: node for node in found.network}
    assert nodes["lstm.x"].layer.activations.signed and nodes["lstm.x"].layer.output_shape == (6, 32)
    assert nodes["lstm.h[5]"].family == "lstm.h"
    states = found.network.tensor("lstm")
    assert states is not None and (states.shape, states.precision, states.signed) == ((6, 8), 7, True)
    each, turned = nodes["each"].layer, nodes["turned"].layer
    assert (each.activations.shape, each.activations.precision, each.output_shape) == ((4, 20), 9, (4, 5))
    assert turned.activations is each.outputs and turned.outputs is not None
    assert (turned.outputs.load().values == turned.activations.load().values.T).all()
    assert found.provenance["activation_precision_bits"] == {"lstm": 7, "each": 9, "turned": 6}


def test_a_pooling_that_stands_alone() -> None:
    net = table()
    net.conv2d("a", 4, 3, precision=8, padding=1, relu=False)
    net.pooling("pool", Pool("max", (2, 2), (2, 2)), precision=5)
    net.conv2d("b", 4, 1, precision=6)
    layers = [node.layer for node in net.workload("net", "drawn").network]
    assert [layer.kind for layer in layers] == ["conv", "pool", "conv"]
    pooled = layers[1].outputs
    assert pooled is layers[2].activations and (pooled.precision, pooled.signed) == (6, True)
    assert layers[1].activations.precision == 5


def test_pruned_weights_are_zero() -> None:
    net = SyntheticNetwork((8, 8, 16), bits=16, seed=3, weight_precision=10, sparsity=0.75)
    net.conv2d("a", 64, 3, precision=8)
    net.conv2d("b", 64, 3, precision=8, sparsity=0.0)
    found = net.workload("net", "drawn")
    shares = [
        float((node.layer.weights.load().values == 0).mean())
        for node in found.network
        if node.layer.weights is not None
    ]
    assert shares[0] == pytest.approx(0.75, abs=0.01) and shares[1] < 0.05
    assert found.provenance["weight_sparsity"] == {"a": 0.75}
    with pytest.raises(InputError, match="sparsity"):
        bad = table()
        bad.conv2d("a", 4, 3, precision=8, sparsity=1.5)
        bad.workload("net", "drawn")
