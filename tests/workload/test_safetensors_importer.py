"""Weights from .safetensors files: whose they are, which layer gets which, and broken files."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from dpred_sim.errors import InputError, MissingExtra
from dpred_sim.simulation.engine import Simulation
from dpred_sim.simulation.systems import load_topology
from dpred_sim.workload.load import load_workload

numpy_files = pytest.importorskip("safetensors.numpy")

SCRIPT = """
import dpred_sim as dp
from dpred_sim.workload.tables import SyntheticNetwork


def workload(*, bits, seed):
    net = SyntheticNetwork((6, 6, 4), bits=bits, seed=seed, weight_precision=10)
    net.conv2d("conv1", 8, 3, precision=7, padding=1)
    net.conv2d("conv2", 8, 3, precision=7, padding=1, groups=2, pool=dp.Pool("max", (3, 3), (3, 3)))
    net.linear("fc", 5, precision=7)
    return net.workload("small", "drawn")
"""


@pytest.fixture
def weights() -> dict[str, np.ndarray]:
    """As PyTorch keeps them; the fully connected layer is flattened channel first."""
    rng = np.random.default_rng(2)
    shapes = {"conv1": (8, 4, 3, 3), "conv2": (8, 4, 3, 3), "fc": (5, 8 * 2 * 2)}
    return {f"{name}.weight": rng.normal(0, 1, shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "small.py"
    path.write_text(SCRIPT)
    return path


def save(folder: Path, tensors: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> Path:
    path = folder / "trained.safetensors"
    numpy_files.save_file(tensors, path, metadata)
    return path


def layers(workload) -> dict:
    return {node.name: node.layer for node in workload.network}


def test_weights_replace_those_of_the_script(tmp_path, script, weights) -> None:
    extra = {"conv1.bias": np.zeros(8, np.float32)}
    path = save(tmp_path, {**weights, **extra}, {"workload": "small.py"})
    found, base = load_workload(path), load_workload(script)
    assert (found.name, found.synthetic) == ("small", True)
    assert "trained.safetensors" in found.source and "activations: drawn" in found.source
    conv = layers(found)["conv1"]
    real = weights["conv1.weight"].transpose(0, 2, 3, 1)
    step = 2.0 ** (9 - int(np.ceil(np.log2(np.abs(real).max()))))
    assert conv.weights.precision == 10
    assert np.abs(conv.weights.load().values / step - real).max() <= 0.5 / step
    # Activations are those of the script, and still the same tensor where layers meet.
    assert conv.outputs is layers(found)["conv2"].activations
    before = layers(base)["conv1"]
    assert np.array_equal(conv.activations.load().values, before.activations.load().values)
    # (6 x 6 x 8 pooled to 2 x 2): channel first in the file, last in the container.
    linear = layers(found)["fc"].weights.load().values.reshape(5, 2, 2, 8)
    flat = weights["fc.weight"].reshape(5, 8, 2, 2).transpose(0, 2, 3, 1)
    assert np.corrcoef(linear.ravel(), flat.ravel())[0, 1] > 0.999
    assert Simulation(found, load_topology("dpred_stripes_ddr4")).run().complete


def test_the_network_is_named_by_input_metadata_or_file(tmp_path, script, weights) -> None:
    assert load_workload(save(tmp_path, weights), inputs=[script]).name == "small"
    named = tmp_path / "alexnet.safetensors"
    numpy_files.save_file(weights, named)
    with pytest.raises(InputError, match=r"another shape than the layer 'conv1' has.*\(96, 3, 11, 11\)"):
        load_workload(named)
    with pytest.raises(InputError, match=r"whose weights are these\? unknown workload.*--input SCRIPT"):
        load_workload(save(tmp_path, weights))


def test_tensors_without_layers_names_are_matched_by_order(tmp_path, script, weights) -> None:
    renamed = {f"features.{index}.w": array for index, array in enumerate(weights.values())}
    (tmp_path / "other").mkdir()
    found = load_workload(save(tmp_path / "other", renamed), inputs=[script])
    named = load_workload(save(tmp_path, weights), inputs=[script])
    for name, layer in layers(found).items():
        assert np.array_equal(layer.weights.load().values, layers(named)[name].weights.load().values)


def test_a_fully_connected_layer_may_be_a_1_x_1_convolution(tmp_path, script, weights) -> None:
    weights["fc.weight"] = weights["fc.weight"].reshape(5, 32, 1, 1)
    assert load_workload(save(tmp_path, weights), inputs=[script]).network.nodes[2].layer.weights.load()


def test_rules(tmp_path, script, weights) -> None:
    path = save(tmp_path, weights)

    def values(**options) -> np.ndarray:
        return layers(load_workload(path, inputs=[script], **options))["conv1"].weights.load().values

    assert int(np.abs(values(quantise="full_range").astype(int)).max()) > 16384
    assert np.abs(values(bits=8).astype(int)).max() == 127
    rows = np.abs(values(bits=8, quantise="profiled,per_channel").astype(int)).max(axis=(1, 2, 3))
    assert rows.tolist() == [127] * 8
    assert (values(quantise="profiled,prune=0.75") == 0).mean() == pytest.approx(0.75, abs=0.01)
    with pytest.raises(InputError, match="scales by channel are for 8 bits"):
        values(quantise="profiled,per_channel")
    with pytest.raises(InputError, match="unknown quantisation"):
        values(quantise="common")


def test_other_kinds_of_numbers(tmp_path, script, weights) -> None:
    pytest.importorskip("ml_dtypes")
    import ml_dtypes

    reference = layers(load_workload(save(tmp_path, weights), inputs=[script]))["fc"].weights.load().values
    for dtype in (np.float64, np.float16, ml_dtypes.bfloat16):
        path = save(tmp_path, {name: array.astype(dtype) for name, array in weights.items()})
        found = layers(load_workload(path, inputs=[script]))["fc"].weights.load().values
        assert np.abs(found.astype(int) - reference).max() <= 4
    path = save(tmp_path, {name: array.astype(np.int64) for name, array in weights.items()})
    with pytest.raises(InputError, match="kind of numbers; found 'I64'"):
        load_workload(path, inputs=[script])


def test_tensors_that_do_not_match(tmp_path, script, weights) -> None:
    fewer = {name: array for name, array in weights.items() if name != "fc.weight"}
    with pytest.raises(InputError, match=r"fc: no weights for the layer.*allowed: fc\.weight"):
        load_workload(save(tmp_path, fewer), inputs=[script])
    with pytest.raises(InputError, match="not as many as layers; found '1 tensors with two axes"):
        load_workload(save(tmp_path, {"a": np.ones((2, 2), np.float32)}), inputs=[script])
    with pytest.raises(InputError, match="one network; found 2"):
        load_workload(save(tmp_path, weights), inputs=[script, script])
    with pytest.raises(InputError, match="recurrent layers"):
        load_workload(save(tmp_path, weights, {"workload": "seq2seq"}))


def test_values_that_are_not_finite_are_named_when_they_are_looked_at(tmp_path, script, weights) -> None:
    weights["conv2.weight"][0, 0, 0, 0] = np.inf
    found = load_workload(save(tmp_path, weights), inputs=[script])
    with pytest.raises(InputError, match=r"trained\.safetensors: conv2\.weight: values that are not finite"):
        layers(found)["conv2"].weights.load()


def test_a_file_that_changes_under_a_workload(tmp_path, script, weights) -> None:
    found = load_workload(save(tmp_path, weights), inputs=[script])
    save(tmp_path, {"other": np.ones((2, 2), np.float32)})
    with pytest.raises(InputError, match=r"trained\.safetensors: fc\.weight: cannot be read"):
        layers(found)["fc"].weights.load()


HEADER = json.dumps({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01\x02",
        struct.pack("<Q", 10**12) + b"{}",
        struct.pack("<Q", 5) + b"{{{{{",
        struct.pack("<Q", len(HEADER)) + HEADER + bytes(8),
        struct.pack("<Q", len(HEADER)) + HEADER + bytes(32),
    ],
)
def test_damaged_files(tmp_path, script, data: bytes) -> None:
    path = tmp_path / "broken.safetensors"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"broken\.safetensors: not a \.safetensors file"):
        load_workload(path, inputs=[script])


def test_without_the_extra(tmp_path, script, weights, monkeypatch) -> None:
    path = save(tmp_path, weights)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(MissingExtra, match=r"dpred-sim\[safetensors\]"):
        load_workload(path, inputs=[script])
