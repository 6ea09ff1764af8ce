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
