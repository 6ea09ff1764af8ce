"""Trace folders of DNNsim: what their numbers mean, and what is wrong with broken ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dpred_sim.errors import InputError
from dpred_sim.simulation.engine import Simulation
from dpred_sim.simulation.systems import load_topology
from dpred_sim.simulation.verify import convolve
from dpred_sim.workload.load import load_workload

MODEL = "conv1,conv,1,1\nblock/conv2,conv,2,0\nfc3,fc,1,0\nlstm4,lstm,1,0\n"
PRECISION = "magnitude;fraction\n6;5;4;3;\n2;3;4;5;\n3;3;3;3;\n6;7;8;9;\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two convolutions with a pooling between, a fully connected layer, an LSTM that reads something else."""
    rng = np.random.default_rng(7)
    path = tmp_path / "net"
    path.mkdir()
    (path / "model.csv").write_text(MODEL)
    (path / "precision.txt").write_text(PRECISION)

    def save(name: str, array: np.ndarray) -> None:
        np.save(path / f"{name}.npy", array.astype(np.float32))

    save("act-conv1-0", np.abs(rng.normal(0, 6, (2, 3, 12, 10))))
    save("wgt-conv1", rng.normal(0, 1, (8, 3, 3, 3)))
    save("act-block-conv2-0", np.maximum(rng.normal(0, 4, (2, 8, 6, 5)), 0))
    save("wgt-block-conv2", rng.normal(0, 1, (6, 4, 2, 3)))  # two groups
    save("act-fc3-0", rng.normal(0, 2, (2, 6 * 3 * 2)))
    save("wgt-fc3", rng.normal(0, 1, (5, 6 * 3 * 2)))
    save("act-lstm4-0", rng.normal(0, 1, (7, 2, 9)))
    save("wgt-lstm4", rng.normal(0, 1, (16, 9)))
    return path


def real(folder: Path, name: str) -> np.ndarray:
    return np.load(folder / f"{name}.npy").astype(np.float64)


def test_layers_and_edges(folder: Path) -> None:
    found = load_workload(folder)
    nodes = list(found.network)
    assert [node.name for node in nodes] == ["conv1", "block-conv2", "fc3", "lstm4"]
    assert (found.name, found.bits, found.synthetic) == ("net", 16, False)
    assert "profiled precisions" in found.source and "sample 0" in found.source
    conv1, conv2, fc3, lstm4 = (node.layer for node in nodes)
    assert conv1.activations.shape == (12, 10, 3) and conv1.padding == (1, 1, 1, 1)
    assert conv1.pool is not None and conv1.outputs is conv2.activations  # 12 x 10 becomes 6 x 5
    assert (conv2.groups, conv2.stride, conv2.output_shape) == (2, (2, 2), (3, 2, 6))
    # Nobody says that 36 values are 3 x 2 positions of 6 channels.
    assert conv2.outputs is None and nodes[2].reads == "fc3.activations"
    assert fc3.activations.shape == (1, 36) and lstm4.activations.shape == (7, 9)
    assert [node.layer.macs for node in nodes] == [12 * 10 * 8 * 27, 3 * 2 * 6 * 4 * 6, 5 * 36, 7 * 16 * 9]


def test_values_are_fixed_point_with_the_stated_fraction(folder: Path) -> None:
    conv1, conv2, *_ = (node.layer for node in load_workload(folder).network)
    acts = real(folder, "act-conv1-0")[0].transpose(1, 2, 0)
    # Magnitude 6 with the sign, fraction 2: steps of 1/4 up to 31.75; 7 bits without a sign.
    assert np.array_equal(conv1.activations.load().values, np.minimum(np.floor(acts * 4 + 0.5), 127))
    assert (conv1.activations.precision, conv1.activations.signed) == (7, False)
    weights = real(folder, "wgt-block-conv2").transpose(0, 2, 3, 1)
    assert conv2.weights is not None and conv2.weights.precision == 10
    assert np.array_equal(conv2.weights.load().values, np.clip(np.floor(weights * 128 + 0.5), -512, 511))


def test_channel_first_operands_give_the_same_sums(folder: Path) -> None:
    """An image that is flattened channel first meets weights flattened alike."""
    flat = real(folder, "act-fc3-0").reshape(2, 6, 3, 2)
    np.save(folder / "act-fc3-0.npy", flat)
    nodes = {node.name: node for node in load_workload(folder).network}
    layer = nodes["fc3"].layer
    assert nodes["fc3"].reads == "block-conv2" and layer.activations.shape == (3, 2, 6)
    assert layer.weights is not None
    acts, weights = layer.activations.load().values, layer.weights.load().values
    sums = convolve(layer, acts.astype(np.int64), weights.astype(np.int64))
    plain = np.clip(np.floor(flat[0].reshape(-1) * 16 + 0.5), -128, 127)
    kernel = np.clip(np.floor(real(folder, "wgt-fc3") * 256 + 0.5), -1024, 1023)
    assert np.array_equal(sums.reshape(-1), kernel @ plain)


def test_a_flat_square_image_is_told_by_the_convolution_before(folder: Path) -> None:
    (folder / "model.csv").write_text("conv1,conv,1,1\nfc3,fc,1,0\n")
    (folder / "precision.txt").unlink()
    rng = np.random.default_rng(1)
    image = rng.integers(0, 9, (1, 8, 4, 4))
    np.save(folder / "act-fc3-0.npy", image.reshape(1, -1))
    np.save(folder / "wgt-fc3.npy", rng.integers(-9, 9, (5, 128)))
    np.save(folder / "act-conv1-0.npy", rng.integers(0, 9, (1, 3, 8, 8)))
    np.save(folder / "wgt-conv1.npy", rng.integers(-9, 9, (8, 3, 3, 3)))
    found = load_workload(folder, bits=8)
    conv1, fc3 = (node.layer for node in found.network)
    assert conv1.pool is not None and conv1.outputs is fc3.activations
    assert np.array_equal(fc3.activations.load().values, image[0].transpose(1, 2, 0))
    assert (fc3.activations.precision, conv1.weights and conv1.weights.precision) == (4, 5)
    assert "full range" in found.source


def test_8_bits_take_the_range_of_each_tensor(folder: Path) -> None:
    for node in load_workload(folder, bits=8).network:
        for tensor in (node.layer.activations, node.layer.weights):
            assert tensor is not None and (tensor.bits, tensor.precision) == (8, 8)
            assert int(np.abs(tensor.load().values.astype(int)).max()) in (127, 255)


def test_arrays_beside_the_models_as_the_tool_keeps_them(folder: Path, tmp_path: Path) -> None:
    models, traces = tmp_path / "models" / "net", tmp_path / "net_traces" / "net"
    models.mkdir(parents=True)
    traces.mkdir(parents=True)
    for file in folder.iterdir():
        file.rename((traces if file.suffix == ".npy" else models) / file.name)
    assert len(load_workload(models).network) == 4


def test_it_runs(folder: Path) -> None:
    result = Simulation(load_workload(folder), load_topology("dpred_stripes_ddr4")).run()
    assert result.complete


def rewrite(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text) and None


def save(name: str, array: object) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / name, np.array(array))


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (rewrite("model.csv", "\n"), r"model\.csv: no layers"),
    "fields": (
        rewrite("model.csv", "conv1,conv,1,1\nfc3,fc,1\n"),
        r"model\.csv:2: not a layer; found 'fc3,fc,1'",
    ),
    "kind": (
        rewrite("model.csv", "conv1,pool,1,1\n"),
        r"model\.csv:1: type of layer; found 'pool'; allowed: conv",
    ),
    "stride": (rewrite("model.csv", "conv1,conv,0,1\n"), r"model\.csv:1: stride: not a number; found '0'"),
    "padding": (rewrite("model.csv", "conv1,conv,1,-1\n"), r"padding: not a number; found '-1'"),
    "twice": (rewrite("model.csv", "fc3,fc,1,0\nfc3,fc,1,0\n"), r"model\.csv:2: a layer's name"),
    "lines": (rewrite("precision.txt", "head\n1;1;1;1\n"), r"precision\.txt: too few lines"),
    "count": (
        rewrite("precision.txt", PRECISION.replace("2;3;4;5", "2;3;4")),
        r"precision\.txt:3: not a number for",
    ),
    "words": (
        rewrite("precision.txt", PRECISION.replace("2;3", "2;x")),
        r"precision\.txt:3: not whole numbers",
    ),
    "sum": (
        rewrite("precision.txt", PRECISION.replace("6;5", "60;5")),
        r"layer 'conv1': precision of activations",
    ),
    "missing": (lambda folder: (folder / "wgt-fc3.npy").unlink(), r"wgt-fc3\.npy: no such array"),
    "no npy": (rewrite("act-fc3-0.npy", "hello"), r"act-fc3-0\.npy: not a \.npy array"),
    "pickle": (save("wgt-fc3.npy", [{}]), r"wgt-fc3\.npy: not a \.npy array"),
    "text": (save("wgt-fc3.npy", ["a"]), r"wgt-fc3\.npy: not an array of numbers"),
    "axes": (
        save("wgt-conv1.npy", np.ones((8, 27))),
        r"wgt-conv1\.npy: an array of a conv layer; found 'shape",
    ),
    "channels": (
        save("wgt-conv1.npy", np.ones((8, 5, 3, 3))),
        r"wgt-conv1\.npy: layer 'conv1': weights: shapes do not",
    ),
    "size": (save("wgt-fc3.npy", np.ones((5, 35))), r"wgt-fc3\.npy: layer 'fc3': weights: shapes do not fit"),
    "nan": (
        save("wgt-fc3.npy", np.full((5, 36), np.nan)),
        r"wgt-fc3\.npy: values that are not finite; found '180 of",
    ),
    "none": (save("wgt-fc3.npy", np.ones((0, 36))), r"wgt-fc3\.npy: no values"),
    "range": (save("wgt-fc3.npy", np.full((5, 36), 70000)), r"wgt-fc3\.npy: values out of the range"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_wrong_is_named(folder: Path, case: str) -> None:
    damage, message = BROKEN[case]
    damage(folder)
    with pytest.raises(InputError, match=message):
        load_workload(folder)


def test_options_that_a_trace_folder_does_not_take(folder: Path) -> None:
    with pytest.raises(InputError, match="its own precisions; found 'common'; allowed: profiled"):
        load_workload(folder, quantise="common")
    with pytest.raises(InputError, match="its own activations"):
        load_workload(folder, inputs=[folder / "model.csv"])
