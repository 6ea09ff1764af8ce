"""TensorFlow.js layers models: files plain and wrapped, every layer against plain numpy, and refusals."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpred_sim.errors import InputError
from dpred_sim.workload.trained.tfjs_files import read_tfjs
from dpred_sim.workload.trained.tfjs_layers import convert_tfjs
from tests.workload.keras_oracle import forward

HEAD = "!function(e){'object'==typeof exports&&(module.exports=e())}(function(){return({1:[function(e,t,n){"


class Net:
    """A layers model, put together layer by layer with random weights."""

    def __init__(self, shape: tuple[int, int, int], seed: int = 0, quantised: str = "") -> None:
        self.rng = np.random.default_rng(seed)
        self.quantised = quantised
        self.layers: list[dict[str, Any]] = []
        self.weights: dict[str, Any] = {}
        self.stored: dict[str, tuple[Any, dict[str, Any] | None]] = {}
        self.add("InputLayer", "x", [], batch_input_shape=[None, *shape])

    def add(self, kind: str, name: str, reads: list[str], **config: Any) -> str:
        nodes = [[[read, 0, 0, {}] for read in reads]] if reads else []
        self.layers.append(
            {"class_name": kind, "name": name, "config": {"name": name, **config}, "inbound_nodes": nodes}
        )
        return name

    def weight(self, name: str, *shape: int, low: float = -1.0) -> None:
        values = self.rng.uniform(low, 1, shape).astype(np.float32)
        if self.quantised:
            scale = 2 / (np.iinfo(self.quantised).max)
            integers = np.round((values - low) / scale).astype(self.quantised)
            about = {"min": low, "scale": scale, "dtype": self.quantised}
            self.stored[name] = (integers, about)
            values = (integers * np.float32(scale) + np.float32(low)).astype(np.float32)
        else:
            self.stored[name] = (values, None)
        self.weights[name] = values

    def conv(self, name: str, read: str, channels: int, filters: int, size: int = 3, **rest: Any) -> str:
        config = {
            "strides": [1, 1],
            "padding": "same",
            "use_bias": True,
            "activation": "linear",
            "dilation_rate": [1, 1],
            "kernel_size": [size, size],
            "data_format": "channels_last",
            **rest,
        }
        self.weight(f"{name}/kernel", size, size, channels, filters)
        if config["use_bias"]:
            self.weight(f"{name}/bias", filters)
        return self.add("Conv2D", name, [read], **config)

    def norm(self, name: str, read: str, channels: int, **rest: Any) -> str:
        config = {"scale": True, "center": True, "epsilon": 0.001, **rest}
        for part in ("gamma", "beta", "moving_mean", "moving_variance"):
            self.weight(f"{name}/{part}", channels, low=-1 if part == "moving_mean" else 0.1)
        return self.add("BatchNormalization", name, [read], **config)

    def document(self) -> dict[str, Any]:
        entries = []
        for name, (values, about) in self.stored.items():
            entry = {"name": name, "shape": list(values.shape), "dtype": "float32"}
            entries.append(entry | ({"quantization": about} if about else {}))
        config = {"name": "net", "layers": self.layers, "output_layers": [[self.layers[-1]["name"], 0, 0]]}
        return {
            "modelTopology": {"model_config": {"class_name": "Model", "config": config}},
            "weightsManifest": [{"paths": ["a", "b"], "weights": entries}],
        }

    def data(self) -> bytes:
        return b"".join(values.tobytes() for values, _ in self.stored.values())

    def save(self, folder: Path) -> list[Path]:
        data = self.data()
        (folder / "model.json").write_text(json.dumps(self.document()))
        (folder / "a.bin").write_bytes(data[: len(data) // 3])
        (folder / "b.bin").write_bytes(data[len(data) // 3 :])
        return [folder / "model.json", folder / "a.bin", folder / "b.bin"]


def run(proto: Any, x: Any) -> Any:
    """The first output for an input (H, W, C), channel last again."""
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(proto.SerializeToString())
    feed = {session.get_inputs()[0].name: x.transpose(2, 0, 1)[None].astype(np.float32)}
    (out,) = session.run(None, feed)
    return out[0].transpose(1, 2, 0) if out.ndim == 4 else out[0]


def check(net: Net, folder: Path, shape: tuple[int, int, int]) -> None:
    x = np.random.default_rng(9).normal(size=shape)
    found = run(convert_tfjs(net.save(folder)), x)
    wanted = forward(net.layers, net.weights, x)
    assert found.shape == wanted.shape
    assert np.allclose(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("quantised", ["", "uint8", "uint16"])
def test_a_net_of_every_layer(tmp_path: Path, quantised: str) -> None:
    net = Net((13, 10, 3), quantised=quantised)
    pad = net.add("ZeroPadding2D", "pad", ["x"], padding=[[0, 1], [2, 1]])
    a = net.conv("a", pad, 3, 8, padding="valid", strides=[2, 2], use_bias=False)
    a = net.norm("a_bn", a, 8)
    a = net.add("ReLU", "a_relu", [a], max_value=6.0, negative_slope=0.0, threshold=0.0)
    b = net.conv("b", a, 8, 8, activation="relu", dilation_rate=[2, 2])
    net.weight("d/depthwise_kernel", 3, 3, 8, 1)
    d = net.add(
        "DepthwiseConv2D", "d", [b], strides=[1, 1], padding="same", use_bias=False,
        activation="relu6", kernel_size=[3, 3], dilation_rate=[1, 1],
    )  # fmt: skip
    total = net.add("Add", "sum", [a, b, d])
    pooled = [
        net.add("MaxPooling2D", "most", [total], pool_size=[3, 3], strides=[2, 2], padding="same"),
        net.add("AveragePooling2D", "mean", [total], pool_size=[3, 3], strides=[2, 2], padding="same"),
        net.conv("s", total, 8, 5, 1, strides=[2, 2], activation="tanh"),
    ]
    both = net.add("Concatenate", "both", pooled, axis=-1)
    both = net.add("Dropout", "drop", [net.norm("bn", both, 21, scale=False)], rate=0.5)
    flat = net.add("Flatten", "flat", [both])
    net.weight("fc/kernel", 3 * 3 * 21, 7)
    net.weight("fc/bias", 7)
    net.add("Dense", "fc", [flat], use_bias=True, activation="softmax")
    check(net, tmp_path, (13, 10, 3))


def test_padding_that_a_pooling_reads_is_a_node(tmp_path: Path) -> None:
    net = Net((6, 7, 2))
    pad = net.add("ZeroPadding2D", "pad", ["x"], padding=[[1, 0], [1, 2]])
    net.add("MaxPooling2D", "most", [pad], pool_size=[2, 2], strides=[2, 2], padding="valid")
    check(net, tmp_path, (6, 7, 2))


def test_padding_that_two_layers_read(tmp_path: Path) -> None:
    net = Net((6, 7, 2))
    pad = net.add("ZeroPadding2D", "pad", ["x"], padding=[[1, 1], [1, 1]])
    a = net.conv("a", pad, 2, 4, padding="valid")
    b = net.conv("b", pad, 2, 4, padding="same")
    c = net.add("MaxPooling2D", "c", [b], pool_size=[3, 3], strides=[1, 1], padding="valid")
    net.add("Add", "sum", [a, c])
    check(net, tmp_path, (6, 7, 2))


def test_upsampling_and_a_mean(tmp_path: Path) -> None:
    net = Net((3, 4, 2))
    up = net.add("UpSampling2D", "up", ["x"], size=[2, 3], interpolation="nearest")
    act = net.add("Activation", "act", [up], activation="sigmoid")
    net.add("GlobalAveragePooling2D", "mean", [net.conv("c", act, 2, 5)])
    check(net, tmp_path, (3, 4, 2))


def wrapped(value: str) -> str:
    return HEAD + f"n.exports={value}" + "},{}]},{},[1])(1)});"


def minified(value: Any) -> str:
    """JSON as a minifier writes it: bare keys, !0, numbers without a leading zero."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{_key(k)}:{minified(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(minified, value)) + "]"
    if isinstance(value, bool):
        return "!0" if value else "!1"
    text = json.dumps(value)
    return text.replace("0.", ".", 1) if isinstance(value, float) and abs(value) < 1 else text


def _key(key: str) -> str:
    return key if key.isidentifier() else json.dumps(key)


def test_files_wrapped_in_javascript_hold_the_same(tmp_path: Path) -> None:
    net = Net((5, 5, 3), quantised="uint8")
    net.conv("a/b", "x", 3, 4)
    plain = net.save(tmp_path)
    paths = [tmp_path / name for name in ("model.min.js", "a.min.js", "b.min.js")]
    paths[0].write_text(wrapped(minified(net.document())))
    for path, shard in zip(paths[1:], plain[1:], strict=True):
        path.write_text(wrapped(json.dumps(base64.b64encode(shard.read_bytes()).decode())))
    topology, weights = read_tfjs(paths)
    expected_topology, expected = read_tfjs(plain)
    assert topology == expected_topology and set(weights) == set(expected) == set(net.weights)
    for name, values in net.weights.items():
        assert np.array_equal(weights[name], values) and np.array_equal(expected[name], values)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "nothing is exported"),
        (wrapped("{a:process.exit()}"), "unexpected 'process'"),
        (wrapped("{a:[1"), "neither JSON nor a JavaScript object"),
        (wrapped("{modelTopology:{}}"), "not a TensorFlow.js layers model; found \"'weightsManifest'\""),
        ("[1]", "nothing is exported"),
        ('{"weightsManifest": 3, "modelTopology": {}}', "not a TensorFlow.js layers model"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "model.min.js").write_text(text)
    with pytest.raises(InputError) as caught:
        convert_tfjs([tmp_path / "model.min.js"])
    assert said in str(caught.value)


def test_shards_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    net = Net((5, 5, 3))
    net.conv("a", "x", 3, 4)
    paths = net.save(tmp_path)
    with pytest.raises(InputError, match=r"another number of shards; found 1; allowed: 2"):
        convert_tfjs(paths[:2])
    data = paths[2].read_bytes()
    paths[2].write_bytes(data[:-4])
    with pytest.raises(InputError, match="a tensor cannot be read"):
        convert_tfjs(paths)
    paths[2].write_bytes(data + b"1234")
    with pytest.raises(InputError, match="another number of bytes"):
        convert_tfjs(paths)
    js = tmp_path / "b.min.js"
    js.write_text(wrapped('"not base64!"'))
    with pytest.raises(InputError, match="not a string in base64"):
        convert_tfjs([*paths[:2], js])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda net: net.add("LSTM", "l", ["x"]), "layer 'l': a layer that is not converted; found 'LSTM'"),
        (lambda net: net.conv("c", "x", 3, 4, activation="swish"), "the activation 'swish' of c"),
        (lambda net: net.conv("c", "x", 3, 4, data_format="channels_first"), "only channels_last"),
        (lambda net: net.add("Activation", "a", ["y"], activation="relu"), "KeyError: 'y'"),
        (lambda net: net.add("Dense", "d", ["x"], use_bias=False, activation="relu"), "KeyError: 'd/kernel'"),
        (lambda net: net.add("ReLU", "r", ["x"], max_value=3.0), "only a maximum of 6"),
        (lambda net: net.add("Concatenate", "k", ["x", "x"], axis=1), "only channels are concatenated"),
    ],
)
def test_what_cannot_be_converted_is_named(tmp_path: Path, change: Any, said: str) -> None:
    pytest.importorskip("onnxruntime")
    net = Net((5, 5, 3))
    net.conv("first", "x", 3, 3)
    change(net)
    with pytest.raises(InputError) as caught:
        convert_tfjs(net.save(tmp_path))
    assert said in str(caught.value) and caught.value.exit_code == 2
