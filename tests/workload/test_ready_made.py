"""The ready-made layer tables against what is published of the networks."""

from __future__ import annotations

import ast
from math import prod

import numpy as np
import pytest

from dpred_sim.locate import ready_made, ready_made_names
from dpred_sim.values.tensor import LazyTensor
from dpred_sim.workload.load import load_workload
from dpred_sim.workload.network import Network
from dpred_sim.workload.workload import Workload

TABLES = ("alexnet", "vgg19", "resnet50")
VGG19 = [9, 9, 9, 8, 12, 10, 10, 12, 13, 11, 12, 13, 13, 13, 13, 13]


def weights(network: Network) -> int:
    return sum(prod(node.layer.weights.shape) for node in network if node.layer.weights is not None)


def by_name(found: Workload) -> dict[str, int]:
    return {node.name: node.layer.macs for node in found.network}


def precisions(found: Workload, kind: str) -> list[int]:
    return [node.layer.activations.precision for node in found.network if node.layer.kind == kind]


@pytest.mark.parametrize(
    ("name", "layers", "macs", "weight_values"),
    [
        # Convolutions and fully connected layers, biases and batch norm apart.
        ("alexnet", 8, 724_406_816, 60_954_656),
        ("vgg19", 19, 19_632_062_464, 143_652_544),
        ("resnet50", 54, 3_857_973_248, 25_502_912),
    ],
)
def test_totals_are_the_known_ones(name: str, layers: int, macs: int, weight_values: int) -> None:
    found = load_workload(name)
    assert (len(found.network), found.macs, weights(found.network)) == (layers, macs, weight_values)


def test_alexnet_layer_by_layer() -> None:
    found = load_workload("alexnet")
    assert by_name(found) == {
        "conv1": 55 * 55 * 96 * 11 * 11 * 3,
        "conv2": 27 * 27 * 256 * 5 * 5 * 48,
        "conv3": 13 * 13 * 384 * 3 * 3 * 256,
        "conv4": 13 * 13 * 384 * 3 * 3 * 192,
        "conv5": 13 * 13 * 256 * 3 * 3 * 192,
        "fc6": 6 * 6 * 256 * 4096,
        "fc7": 4096 * 4096,
        "fc8": 4096 * 1000,
    }
    stored = [node.layer.output_shape for node in found.network]
    assert stored[:5] == [(27, 27, 96), (13, 13, 256), (13, 13, 384), (13, 13, 384), (6, 6, 256)]


def test_vgg19_halves_the_plane_after_each_stage() -> None:
    found = load_workload("vgg19")
    sides = [node.layer.output_shape[0] for node in found.network if node.layer.pool]
    assert sides == [112, 56, 28, 14, 7]
    assert [node.layer.kernel for node in found.network][:16] == [(3, 3)] * 16


def test_resnet50_is_the_original_one() -> None:
    network = load_workload("resnet50").network
    layers = {node.name: node.layer for node in network}
    assert layers["conv1"].output_shape == (56, 56, 64)
    for stage in (3, 4, 5):
        assert layers[f"res{stage}a_branch1"].stride == (2, 2)
        assert layers[f"res{stage}a_branch2a"].stride == (2, 2)
        assert layers[f"res{stage}a_branch2b"].stride == (1, 1)
    assert layers["res2a_branch1"].stride == (1, 1)
    last = layers["res5c_branch2c"]
    assert (last.conv_height, last.conv_width, last.output_shape) == (7, 7, (1, 1, 2048))


def test_resnet50_adds_the_shortcut_of_each_block() -> None:
    network = load_workload("resnet50").network
    adds = {node.name: node.shortcut for node in network if node.shortcut}
    assert len(adds) == 3 + 4 + 6 + 3
    assert adds["res2a_branch2c"] == "res2a_branch1"
    assert adds["res2b_branch2c"] == "res2a_branch2c"
    assert adds["res5c_branch2c"] == "res5b_branch2c"
    assert [name for name in adds if "a_" in name] == [f"res{stage}a_branch2c" for stage in (2, 3, 4, 5)]


@pytest.mark.parametrize(("bits", "expected"), [(16, [9, 7, 4, 5, 7]), (8, [8, 7, 4, 5, 7])])
def test_alexnet_reads_its_published_precisions(bits: int, expected: list[int]) -> None:
    assert precisions(load_workload("alexnet", bits=bits), "conv") == expected


@pytest.mark.parametrize(("bits", "expected"), [(16, VGG19), (8, [8] * 16)])
def test_vgg19_reads_its_published_precisions(bits: int, expected: list[int]) -> None:
    assert precisions(load_workload("vgg19", bits=bits), "conv") == expected


def test_resnet50_has_one_precision() -> None:
    found = load_workload("resnet50")
    assert {node.layer.activations.precision for node in found.network} == {9}
    assert {node.layer.outputs.precision for node in found.network if node.layer.outputs} == {9}


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("name", TABLES)
def test_what_is_stored_is_what_is_computed_on(name: str, bits: int) -> None:
    found = load_workload(name, bits=bits)
    assert (found.bits, found.synthetic) == (bits, True)
    for node in found.network:
        layer = node.layer
        assert layer.activations is found.network.tensor(node.reads)
        assert layer.outputs is not None and layer.weights is not None
        assert {t.bits for t in (layer.activations, layer.weights, layer.outputs)} == {bits}
        assert layer.weights.precision == min(11, bits)


@pytest.mark.parametrize("name", TABLES)
def test_only_what_no_relu_follows_is_signed(name: str) -> None:
    found = load_workload(name)
    last = found.network.nodes[-1].name
    signed = {node.name for node in found.network if node.layer.outputs and node.layer.outputs.signed}
    projections = {f"res{stage}a_branch1" for stage in (2, 3, 4, 5)} if name == "resnet50" else set()
    assert signed == {last} | projections
    assert all(node.layer.weights and node.layer.weights.signed for node in found.network)
    assert not found.network.nodes[0].layer.activations.signed


@pytest.mark.parametrize("name", TABLES)
def test_building_a_workload_makes_no_values(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(self: LazyTensor) -> None:
        raise AssertionError("values were made")

    monkeypatch.setattr(LazyTensor, "load", load)
    assert load_workload(name).macs > 0


def test_values_keep_to_their_format_and_follow_the_seed() -> None:
    drawn = []
    for seed in (0, 0, 1):
        network = load_workload("alexnet", bits=16, seed=seed).network
        layers = {node.name: node.layer for node in network}
        hidden, logits = layers["conv3"].activations, layers["fc8"].outputs
        assert logits is not None
        values = hidden.load().values
        assert values.min() >= 0 and int(values.max()).bit_length() <= 4
        assert logits.load().values.min() < 0
        drawn.append(values.copy())
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


def test_a_tensor_is_not_drawn_like_its_neighbour() -> None:
    network = load_workload("alexnet").network
    layers = {node.name: node.layer for node in network}
    one, other = layers["conv4"].activations.load().values, layers["conv5"].activations.load().values
    assert one.shape == other.shape and not np.array_equal(one > 0, other > 0)


@pytest.mark.parametrize("name", ready_made_names("workloads", ".py"))
def test_each_script_says_what_it_is_and_runs_by_itself(name: str) -> None:
    text = (ready_made("workloads") / f"{name}.py").read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(text)) or ""
    first, empty, second = docstring.splitlines()[:3]
    assert first.endswith(".") and not empty
    assert second.split()[:2] in (["Values:", "synthetic,"], ["Values:", "real,"])
    assert (name in TABLES) <= ("synthetic" in second)
    assert text.endswith('\n\nif __name__ == "__main__":\n    dp.run_script(__file__)\n')
