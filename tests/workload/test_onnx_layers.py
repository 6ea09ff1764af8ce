"""Layers of imported ONNX models, recomputed with numpy from the captured tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpred_sim.errors import InputError
from dpred_sim.workload.layer import Layer
from dpred_sim.workload.network import INPUT
from dpred_sim.workload.workload import Workload
from tests.workload.onnx_models import (
    ModelBuilder,
    captured,
    conv,
    list_constants_as_inputs,
    loaded,
    pooled,
    save_input,
)

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPRED_SIM_CACHE", str(tmp_path / "cache"))


def layers(found: Workload) -> dict[str, Layer]:
    return {node.name: node.layer for node in found.network}


def close(found: Any, wanted: Any) -> bool:
    return found.shape == wanted.shape and np.allclose(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"strides": [2, 1], "pads": [1, 0, 2, 3]},
        {"dilations": [2, 3], "pads": [2, 3, 2, 3]},
        {"group": 2, "pads": [1, 1, 1, 1]},
        {"group": 4, "pads": [0, 1, 1, 0], "strides": [2, 2]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
        {"auto_pad": "VALID", "strides": [2, 3]},
    ],
)
def test_a_convolution_is_what_the_layer_says(tmp_path: Path, attributes: dict[str, Any]) -> None:
    model = ModelBuilder((1, 4, 9, 11 if "auto_pad" not in attributes else 10))
    model.node("Relu", [model.conv("x", "c", 8, 4, **attributes)], "out")
    path = model.save(tmp_path / "m.onnx")
    image = save_input(tmp_path / "x.npy", model.shape)  # type: ignore[arg-type]
    found, _ = loaded(path, image)
    floats = captured(path, image)
    layer = layers(found)["n_c"]
    assert (layer.kind, layer.groups) == ("conv", attributes.get("group", 1))
    x, w = floats.read("activations/input"), floats.read("weights/n_c")
    assert close(x, np.load(image)[0].transpose(1, 2, 0))
    assert close(w, model.constants["w_c"].transpose(0, 2, 3, 1))
    wanted = np.maximum(conv(layer, x, w) + model.constants["b_c"], 0)
    assert close(floats.read("activations/n_c"), wanted)
    assert layer.output_shape == wanted.shape


def test_integers_are_the_captured_values_rounded(tmp_path: Path) -> None:
    model = ModelBuilder((1, 4, 6, 6))
    model.conv("x", "c", 8, 4)
    path, image = model.save(tmp_path / "m.onnx"), save_input(tmp_path / "x.npy", (1, 4, 6, 6))
    floats = captured(path, image)
    for bits in (8, 16):
        found, record = loaded(path, image, bits=bits)
        layer = layers(found)["n_c"]
        tensors = {
            "activations/input": layer.activations,
            "weights/n_c": layer.weights,
            "activations/n_c": layer.outputs,
        }
        for key, tensor in tensors.items():
            kind, name = key.split("/")
            about = record.description[kind][name]
            assert tensor is not None
            values, wanted = tensor.load().values, floats.read(key)
            assert np.abs(values * about["scale"] - wanted).max() <= about["scale"] * 0.5001
            assert tensor.signed == bool(wanted.min() < 0) == about["signed"]
            # Full range: the largest magnitude needs the top bit of the precision.
            magnitude = int(np.abs(values.astype(int)).max())
            assert tensor.precision == bits and magnitude.bit_length() == bits - tensor.signed


@pytest.mark.parametrize("listed", [False, True])
def test_batch_norm_goes_into_the_weights(tmp_path: Path, listed: bool) -> None:
    model = ModelBuilder((1, 3, 6, 6))
    conv_out = model.conv("x", "c", 5, 3)
    statistics = [model.constant(f"bn{i}", np.abs(model.rng.normal(1, 0.3, 5))) for i in range(4)]
    model.node("Relu", [model.node("BatchNormalization", [conv_out, *statistics], "b", epsilon=1e-3)], "out")
    path, image = model.save(tmp_path / "m.onnx"), save_input(tmp_path / "x.npy", (1, 3, 6, 6))
    if listed:
        list_constants_as_inputs(path)
    floats = captured(path, image)
    assert len(floats.description["layers"]) == 1
    gain, shift, mean, variance = (model.constants[name] for name in statistics)
    factor = gain / np.sqrt(variance + 1e-3)
    (name,) = floats.description["weights"]
    w = floats.read(f"weights/{name}")
    assert close(w, (model.constants["w_c"] * factor[:, None, None, None]).transpose(0, 2, 3, 1))
    layer = layers(loaded(path, image)[0])[name]
    bias = (model.constants["b_c"] - mean) * factor + shift
    wanted = np.maximum(conv(layer, floats.read("activations/input"), w) + bias, 0)
    assert close(floats.read(f"activations/{name}"), wanted)


def residual_block(tmp_path: Path, projection: bool, late: bool = False) -> tuple[ModelBuilder, Path]:
    """A residual block; `late` puts the projection behind the other branch."""
    model = ModelBuilder((1, 4, 6, 6))
    model.node("Relu", [model.conv("x", "a", 8, 4, pads=[1, 1, 1, 1])], "ra")
    if projection and not late:
        model.conv("ra", "p", 8, 8, kernel=1)
    model.conv("ra", "b", 8, 8, pads=[1, 1, 1, 1])
    if projection and late:
        model.conv("ra", "p", 8, 8, kernel=1)
    model.node("Add", ["b", "p" if projection else "ra"], "sum")
    model.node("Relu", ["sum"], "out")
    return model, model.save(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("projection", "late", "adds", "shortcut"),
    [(False, False, "n_b", "n_a"), (True, False, "n_b", "n_p"), (True, True, "n_p", "n_b")],
)
def test_the_branch_that_runs_last_adds_the_other(
    tmp_path: Path, projection: bool, late: bool, adds: str, shortcut: str
) -> None:
    model, path = residual_block(tmp_path, projection, late)
    image = save_input(tmp_path / "x.npy", (1, 4, 6, 6))
    found, _ = loaded(path, image)
    floats = captured(path, image)
    assert {node.name: node.shortcut for node in found.network if node.shortcut} == {adds: shortcut}
    assert {node.layer.kind for node in found.network} == {"conv"}
    layer = layers(found)[adds]
    source = next(node.reads for node in found.network if node.name == adds)
    x, w = floats.read(f"activations/{source}"), floats.read(f"weights/{adds}")
    bias = model.constants[f"b_{adds.removeprefix('n_')}"]
    wanted = np.maximum(conv(layer, x, w) + bias + floats.read(f"activations/{shortcut}"), 0)
    assert close(floats.read(f"activations/{adds}"), wanted)
    if projection:
        # What no activation follows is stored with its sign.
        assert layers(found)[shortcut].outputs.signed  # type: ignore[union-attr]


def test_tensors_are_shared_by_writer_and_readers(tmp_path: Path) -> None:
    _, path = residual_block(tmp_path, True)
    found, _ = loaded(path, save_input(tmp_path / "x.npy", (1, 4, 6, 6)))
    for node in found.network:
        assert node.layer.activations is found.network.tensor(node.reads)
    by_name = layers(found)
    assert by_name["n_b"].activations is by_name["n_p"].activations is by_name["n_a"].outputs


POOLS: list[tuple[str, dict[str, Any]]] = [
    ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 1]}),
    ("MaxPool", {"kernel_shape": [2, 3], "strides": [3, 2], "ceil_mode": 1}),
    ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    ("AveragePool", {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]}),
    ("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    ("GlobalAveragePool", {}),
    ("GlobalMaxPool", {}),
    ("ReduceMean", {"axes": [2, 3]}),
    ("ReduceMean", {"axes": [-1, -2], "keepdims": 0}),
]


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(("kind", "attributes"), POOLS)
def test_pooling(tmp_path: Path, kind: str, attributes: dict[str, Any], fused: bool) -> None:
    model = ModelBuilder((1, 3, 8, 10))
    model.node("Relu", [model.conv("x", "c", 6, 3)], "r")
    model.node(kind, ["r"], "pooled", **attributes)
    outputs = ["pooled"]
    if not fused:
        outputs.append(model.conv("r", "other", 2, 6))
    path = model.save(tmp_path / "m.onnx", outputs)
    image = save_input(tmp_path / "x.npy", (1, 3, 8, 10))
    found, _ = loaded(path, image)
    floats = captured(path, image)
    by_name = layers(found)
    before = np.maximum(
        conv(by_name["n_c"], floats.read("activations/input"), floats.read("weights/n_c"))
        + model.constants["b_c"],
        0,
    )
    name = "n_c" if fused else "n_pooled"
    pool = by_name[name].pool
    assert pool is not None and by_name[name].kind == ("conv" if fused else "pool")
    wanted = pooled(pool, before, count_padding="count_include_pad" in attributes)
    assert close(floats.read(f"activations/{name}"), wanted)
    assert by_name[name].output_shape == wanted.shape
    if not fused:
        assert by_name["n_c"].pool is None and close(floats.read("activations/n_c"), before)


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_a_flattened_image_meets_permuted_weights(tmp_path: Path, transposed: int, scale: float) -> None:
    model = ModelBuilder((1, 3, 5, 4))
    model.node("Relu", [model.conv("x", "c", 6, 3)], "r")
    model.node("Flatten", ["r"], "flat")
    size = 6 * 3 * 2
    model.random("w", *((7, size) if transposed else (size, 7)))
    model.random("b", 7)
    model.node("Gemm", ["flat", "w", "b"], "g", transB=transposed, alpha=scale, beta=0.5)
    model.node("Softmax", ["g"], "out", axis=1)
    path, image = model.save(tmp_path / "m.onnx"), save_input(tmp_path / "x.npy", (1, 3, 5, 4))
    found, _ = loaded(path, image)
    floats = captured(path, image)
    layer = layers(found)["n_g"]
    assert (layer.kind, layer.activations.shape, layer.weights.shape) == ("linear", (3, 2, 6), (7, size))  # type: ignore[union-attr]
    assert layer.activations is layers(found)["n_c"].outputs
    x, w = floats.read("activations/n_c"), floats.read("weights/n_g")
    wanted = w @ x.ravel() + 0.5 * model.constants["b"]
    assert close(floats.read("activations/n_g"), wanted[None])


@pytest.mark.parametrize("rows", [1, 5])
def test_matrix_products_with_constants_are_linear_layers(tmp_path: Path, rows: int) -> None:
    model = ModelBuilder((1, rows, 12))
    model.node("MatMul", ["x", model.random("w1", 12, 8)], "a")
    model.node("Tanh", [model.node("Add", ["a", model.random("b1", 8)], "a2")], "t")
    model.node("MatMul", ["t", model.random("w2", 8, 4)], "out")
    path, image = model.save(tmp_path / "m.onnx"), save_input(tmp_path / "x.npy", (1, rows, 12))
    found, _ = loaded(path, image)
    floats = captured(path, image)
    assert [(node.layer.kind, node.layer.output_shape) for node in found.network] == [
        ("linear", (rows, 8)),
        ("linear", (rows, 4)),
    ]
    first, second = (node.name for node in found.network)
    x = floats.read("activations/input")
    wanted = np.tanh(x @ floats.read(f"weights/{first}").T + model.constants["b1"])
    assert close(floats.read(f"activations/{first}"), wanted)
    assert close(floats.read(f"activations/{second}"), wanted @ floats.read(f"weights/{second}").T)


def test_channel_last_models_are_stored_as_they_are(tmp_path: Path) -> None:
    model = ModelBuilder((1, 6, 5, 3))
    model.node("Transpose", ["x"], "nchw", perm=[0, 3, 1, 2])
    model.conv("nchw", "c", 8, 3)
    model.node("Relu", [model.node("Transpose", ["c"], "nhwc", perm=[0, 2, 3, 1])], "r")
    model.node("Flatten", ["r"], "flat")
    model.node("MatMul", ["flat", model.random("w", 8 * 4 * 3, 4)], "out")
    path, image = model.save(tmp_path / "m.onnx"), save_input(tmp_path / "x.npy", (1, 6, 5, 3))
    found, _ = loaded(path, image)
    floats = captured(path, image)
    assert close(floats.read("activations/input"), np.load(image)[0])
    x, first = floats.read("activations/input"), found.network.nodes[0]
    wanted = np.maximum(conv(first.layer, x, floats.read("weights/n_c")) + model.constants["b_c"], 0)
    assert close(floats.read("activations/n_c"), wanted)
    second = found.network.nodes[1].name
    assert close(floats.read(f"weights/{second}"), model.constants["w"].T)
    assert close(floats.read(f"activations/{second}"), (wanted.ravel() @ model.constants["w"])[None])


def test_preprocessing_in_the_graph_comes_before_the_input(tmp_path: Path) -> None:
    model = ModelBuilder((1, 3, 6, 6))
    model.node("Sub", ["x", model.constant("mean", [[[[0.5]], [[0.2]], [[0.1]]]])], "s")
    model.node("Div", ["s", model.constant("deviation", 0.25)], "d")
    model.conv("d", "c", 4, 3)
    path, image = model.save(tmp_path / "m.onnx"), save_input(tmp_path / "x.npy", (1, 3, 6, 6))
    floats = captured(path, image)
    assert [layer["reads"] for layer in floats.description["layers"]] == [INPUT]
    wanted = (np.load(image)[0].transpose(1, 2, 0) - [0.5, 0.2, 0.1]) / 0.25
    assert close(floats.read("activations/input"), wanted.astype(np.float32))


@pytest.mark.parametrize(
    ("kind", "attributes", "signed"),
    [
        ("LeakyRelu", {"alpha": 0.1}, True),
        ("Relu", {}, False),
        ("HardSwish", {}, True),
        ("Sigmoid", {}, False),
    ],
)
def test_the_sign_is_that_of_what_the_activation_leaves(
    tmp_path: Path, kind: str, attributes: dict[str, Any], signed: bool
) -> None:
    model = ModelBuilder((1, 3, 6, 6))
    model.node(kind, [model.conv("x", "c", 4, 3)], "out", **attributes)
    found, _ = loaded(model.save(tmp_path / "m.onnx"), save_input(tmp_path / "x.npy", (1, 3, 6, 6)))
    outputs = layers(found)["n_c"].outputs
    assert outputs is not None and outputs.signed is signed
    assert bool(outputs.load().values.min() < 0) is signed


def test_an_activation_of_several_operators_is_fused(tmp_path: Path) -> None:
    model = ModelBuilder((1, 3, 6, 6))
    model.conv("x", "c", 4, 3)
    model.node("Mul", ["c", model.node("Sigmoid", ["c"], "s")], "silu")
    model.conv("silu", "d", 4, 4)
    path, image = model.save(tmp_path / "m.onnx"), save_input(tmp_path / "x.npy", (1, 3, 6, 6))
    found, _ = loaded(path, image)
    floats = captured(path, image)
    assert [node.layer.kind for node in found.network] == ["conv", "conv"]
    raw = conv(layers(found)["n_c"], floats.read("activations/input"), floats.read("weights/n_c"))
    raw = raw + model.constants["b_c"]
    assert close(floats.read("activations/n_c"), raw / (1 + np.exp(-raw)))


def test_what_several_layers_read_before_its_activation_is_a_memory_layer(tmp_path: Path) -> None:
    # A block whose activation comes first: the sum is read twice, raw and through the ReLU.
    model = ModelBuilder((1, 4, 6, 6))
    model.conv("x", "a", 4, 4, pads=[1, 1, 1, 1])
    model.node("Relu", ["a"], "r")
    model.conv("r", "b", 4, 4, pads=[1, 1, 1, 1])
    model.node("Add", ["b", "a"], "out")
    path, image = model.save(tmp_path / "m.onnx"), save_input(tmp_path / "x.npy", (1, 4, 6, 6))
    found, _ = loaded(path, image)
    floats = captured(path, image)
    assert [(n.name, n.layer.kind, n.reads, n.shortcut) for n in found.network] == [
        ("n_a", "conv", INPUT, None),
        ("n_r", "add", "n_a", None),
        ("n_b", "conv", "n_r", "n_a"),
    ]
    a = floats.read("activations/n_a")
    assert a.min() < 0 and close(floats.read("activations/n_r"), np.maximum(a, 0))


def test_a_sum_that_no_layer_can_fuse_is_a_memory_layer(tmp_path: Path) -> None:
    # Both operands are read by somebody else as well.
    model = ModelBuilder((1, 3, 6, 6))
    model.conv("x", "a", 4, 3)
    model.conv("x", "b", 4, 3)
    model.node("Relu", [model.node("Add", ["a", "b"], "s")], "rs")
    model.conv("a", "c", 2, 4)
    model.conv("b", "d", 2, 4)
    path = model.save(tmp_path / "m.onnx", ["rs", "c", "d"])
    image = save_input(tmp_path / "x.npy", (1, 3, 6, 6))
    found, _ = loaded(path, image)
    floats = captured(path, image)
    node = next(n for n in found.network if n.layer.kind == "add")
    assert {node.reads, node.shortcut} == {"n_a", "n_b"}
    wanted = np.maximum(floats.read("activations/n_a") + floats.read("activations/n_b"), 0)
    assert close(floats.read(f"activations/{node.name}"), wanted)


@pytest.mark.parametrize(
    ("build", "operator", "said"),
    [
        (lambda m: m.node("Conv", ["c", m.node("Reshape", ["c", "to"], "w")], "out"), "Conv", "not constant"),
        (
            lambda m: m.node(
                "ConvTranspose", [m.node("Unsqueeze", ["c", "five"], "u"), m.random("v", 4, 2, 1, 1, 1)], "o"
            ),
            "ConvTranspose",
            "one or two axes",
        ),
    ],
)
def test_what_cannot_be_modelled_is_named(tmp_path: Path, build: Any, operator: str, said: str) -> None:
    model = ModelBuilder((1, 3, 4, 4))
    model.conv("x", "c", 4, 3)
    model.constant("to", [4, 4, 1, 1], np.int64)
    model.constant("five", [4], np.int64)
    build(model)
    path = model.save(tmp_path / "m.onnx")
    with pytest.raises(InputError) as caught:
        captured(path, save_input(tmp_path / "x.npy", (1, 3, 4, 4)))
    error = caught.value
    assert error.file == str(path)
    assert error.found == operator and "n_" in str(error.field)
    assert said in str(error)
