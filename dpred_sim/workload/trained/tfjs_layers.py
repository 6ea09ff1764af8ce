"""TensorFlow.js layers models (Keras JSON) as ONNX.

Tensors are channel first here, as ONNX has them; what a Flatten makes of that, the columns of the Dense
layer behind it are put in order for. One node becomes one ONNX node, so nothing is fused or folded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.errors import InputError
from dpred_sim.workload.trained.graph_builder import GraphBuilder
from dpred_sim.workload.trained.tfjs_files import read_tfjs

Config = Mapping[str, Any]

ACTIVATIONS = {"relu": "Relu", "sigmoid": "Sigmoid", "softmax": "Softmax", "tanh": "Tanh"}


def convert_tfjs(paths: Sequence[Path]) -> Any:
    """The ONNX model of a layers model: `paths` are its JSON, then its shards in order.

    Raises InputError for damaged files, and for a layer or setting that is not converted.
    """
    topology, weights = read_tfjs(paths)
    try:
        config = topology["model_config"]["config"]
        return _Converter(paths[0], config, weights).convert()
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise InputError(
            f"a damaged layers model ({type(error).__name__}: {error})", file=paths[0]
        ) from error


class _Converter:
    def __init__(self, path: Path, config: Config, weights: Mapping[str, NDArray[np.float32]]) -> None:
        self.path = path
        self.layers = config["layers"]
        self.outputs = [output[0] for output in config.get("output_layers") or [[self.layers[-1]["name"]]]]
        self.weights = weights
        source = self.layers[0]
        if source["class_name"] != "InputLayer":
            self.refuse(source, "the first layer must be the input")
        _, height, width, channels = source["config"]["batch_input_shape"]
        self.graph = GraphBuilder(
            config["name"], [1, channels, height or "height", width or "width"], source["name"]
        )
        self.padded: dict[str, tuple[str, list[int]]] = {}
        self.kinds: dict[str, Callable[[str, Config, list[str]], str]] = {
            "Activation": lambda name, c, x: self.activation(x[0], c["activation"], name),
            "Add": lambda name, c, x: self.sum(name, x),
            "AveragePooling2D": self.average_pool,
            "BatchNormalization": self.batch_norm,
            "Concatenate": self.concatenate,
            "Conv2D": self.conv,
            "Dense": self.dense,
            "DepthwiseConv2D": self.depthwise,
            "Dropout": lambda name, c, x: x[0],
            "Flatten": self.flatten,
            "GlobalAveragePooling2D": self.global_average,
            "MaxPooling2D": self.max_pool,
            "ReLU": self.relu,
            "UpSampling2D": self.upsample,
            "ZeroPadding2D": self.zero_pad,
        }

    def convert(self) -> Any:
        made = {self.layers[0]["name"]: self.graph.source}
        for layer in self.layers[1:]:
            name, kind = layer["name"], layer["class_name"]
            # A functional model names what each layer reads; in a sequential one that is the layer before.
            nodes = layer.get("inbound_nodes") or [[[list(made)[-1]]]]
            if len(nodes) != 1 or any(tensor[1:2] not in ([], [0]) for tensor in nodes[0]):
                self.refuse(layer, "used more than once, or one of several outputs")
            if kind not in self.kinds:
                self.refuse(layer, "a layer that is not converted")
            read = [made[tensor[0]] for tensor in nodes[0]]
            if kind not in ("Conv2D", "DepthwiseConv2D"):
                read = [self.pad(x) for x in read]
            made[name] = self.kinds[kind](name, layer["config"], read)
        return self.graph.model(*(made[name] for name in self.outputs))

    def refuse(self, layer: Config, reason: str) -> None:
        raise InputError(
            reason,
            file=self.path,
            field=f"layer {layer['name']!r}",
            found=layer["class_name"],
            allowed=sorted(getattr(self, "kinds", ("InputLayer",))),
        )

    def tensor(self, layer: str, part: str) -> NDArray[np.float32]:
        return self.weights[f"{layer}/{part}"]

    # Layers with weights

    def conv(self, name: str, config: Config, x: list[str]) -> str:
        bias = self.tensor(name, "bias") if config["use_bias"] else None
        values = self.tensor(name, "kernel").transpose(3, 2, 0, 1)
        source, geometry = self.conv_geometry(config, x[0])
        out = self.graph.conv(source, name, values, bias, **geometry)
        return self.activation(out, config["activation"], f"{name}_{config['activation']}")

    def depthwise(self, name: str, config: Config, x: list[str]) -> str:
        bias = self.tensor(name, "bias") if config["use_bias"] else None
        kernel = self.tensor(name, "depthwise_kernel")
        height, width, channels, times = kernel.shape
        values = kernel.transpose(2, 3, 0, 1).reshape(channels * times, 1, height, width)
        source, geometry = self.conv_geometry(config, x[0])
        out = self.graph.conv(source, name, values, bias, group=channels, **geometry)
        return self.activation(out, config["activation"], f"{name}_{config['activation']}")

    def dense(self, name: str, config: Config, x: list[str]) -> str:
        values = self.tensor(name, "kernel").T
        bias = self.tensor(name, "bias") if config["use_bias"] else None
        out = self.graph.linear(x[0], name, values, bias)
        return self.activation(out, config["activation"], f"{name}_{config['activation']}")

    def batch_norm(self, name: str, config: Config, x: list[str]) -> str:
        mean, variance = self.tensor(name, "moving_mean"), self.tensor(name, "moving_variance")
        gamma = self.tensor(name, "gamma") if config["scale"] else np.ones_like(mean)
        beta = self.tensor(name, "beta") if config["center"] else np.zeros_like(mean)
        parts = {"gamma": gamma, "beta": beta, "mean": mean, "variance": variance}
        names = [self.graph.constant(f"{name}.{key}", values) for key, values in parts.items()]
        return self.graph.node("BatchNormalization", [x[0], *names], name, epsilon=config["epsilon"])

    # Layers without

    def activation(self, x: str, kind: str, name: str) -> str:
        if kind == "linear":
            return x
        if kind == "relu6":
            return self.graph.relu6(x, name)
        if kind not in ACTIVATIONS:
            raise ValueError(f"the activation {kind!r} of {name} is not converted")
        return self.graph.node(ACTIVATIONS[kind], [x], name)

    def relu(self, name: str, config: Config, x: list[str]) -> str:
        if config.get("negative_slope") or config.get("threshold"):
            raise ValueError(f"{name}: only a plain ReLU is converted")
        most = config.get("max_value")
        if most not in (None, 6):
            raise ValueError(f"{name}: only a maximum of 6 is converted")
        return self.activation(x[0], "relu" if most is None else "relu6", name)

    def sum(self, name: str, x: list[str]) -> str:
        for i, other in enumerate(x[1:-1], 1):
            x = [self.graph.node("Add", [x[0], other], f"{name}_{i}"), *x[1:]]
        return self.graph.node("Add", [x[0], x[-1]], name)

    def concatenate(self, name: str, config: Config, x: list[str]) -> str:
        if config["axis"] not in (3, -1):
            raise ValueError(f"{name}: only channels are concatenated")
        return self.graph.node("Concat", x, name, axis=1)

    def flatten(self, name: str, config: Config, x: list[str]) -> str:
        """Channel last, as Keras flattens: the order in which the Dense layer behind it counts."""
        moved = self.graph.node("Transpose", x, f"{name}_order", perm=[0, 2, 3, 1])
        return self.graph.node("Flatten", [moved], name)

    def max_pool(self, name: str, config: Config, x: list[str]) -> str:
        return self.graph.node("MaxPool", x, name, **self.geometry(config, "pool_size"))

    def average_pool(self, name: str, config: Config, x: list[str]) -> str:
        return self.graph.node("AveragePool", x, name, **self.geometry(config, "pool_size"))

    def global_average(self, name: str, config: Config, x: list[str]) -> str:
        return self.graph.node("Flatten", [self.graph.node("GlobalAveragePool", x, f"{name}_mean")], name)

    def upsample(self, name: str, config: Config, x: list[str]) -> str:
        if config.get("interpolation", "nearest") != "nearest":
            raise ValueError(f"{name}: only the nearest value is converted")
        scales = self.graph.constant(f"{name}.scales", [1, 1, *config["size"]])
        return self.graph.node(
            "Resize",
            [x[0], "", scales],
            name,
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )

    def zero_pad(self, name: str, config: Config, x: list[str]) -> str:
        """Padding is part of the convolution behind it; it is a node where something else reads it."""
        (top, bottom), (left, right) = config["padding"]
        self.padded[name] = (x[0], [top, left, bottom, right])
        return name

    def pad(self, x: str) -> str:
        """A tensor as it is read by something that does not pad."""
        if x in self.padded:
            source, (top, left, bottom, right) = self.padded.pop(x)
            pads = self.graph.constant(f"{x}.pads", [0, 0, top, left, 0, 0, bottom, right], np.int64)
            self.graph.node("Pad", [source, pads], x)
        return x

    def conv_geometry(self, config: Config, x: str) -> tuple[str, dict[str, Any]]:
        """What a convolution of `x` reads, and its attributes, padding before it included."""
        found = self.geometry(config)
        if x not in self.padded or config["padding"] != "valid":
            return self.pad(x), found
        source, pads = self.padded[x]
        del found["auto_pad"]
        return source, {**found, "pads": pads}

    def geometry(self, config: Config, size: str = "kernel_size") -> dict[str, Any]:
        """Attributes of a convolution or pooling."""
        if config.get("data_format", "channels_last") != "channels_last":
            raise ValueError("only channels_last is converted")
        found = {
            "kernel_shape": list(config[size]),
            "strides": list(config["strides"] or config[size]),
            "auto_pad": {"same": "SAME_UPPER", "valid": "VALID"}[config["padding"]],
        }
        if size == "kernel_size":
            dilation = found["dilations"] = list(config.get("dilation_rate", (1, 1)))
            if max(dilation) > 1 and config["padding"] == "same":
                # onnxruntime takes no dilation with auto_pad. Keras has it with stride 1 only.
                total = [(k - 1) * d for k, d in zip(config[size], dilation, strict=True)]
                found["pads"] = [n // 2 for n in total] + [n - n // 2 for n in total]
                del found["auto_pad"]
        return found
