"""Keras layers in plain numpy, channel last: what a converted layers model is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Weights = Mapping[str, NDArray[Any]]


def forward(layers: list[dict[str, Any]], weights: Weights, x: Floats) -> Floats:
    """The output of the last layer for an input (H, W, C)."""
    made: dict[str, Floats] = {}
    for layer in layers:
        name, config = layer["name"], layer["config"]
        reads = [made[t[0]] for t in layer["inbound_nodes"][0]] if layer["inbound_nodes"] else [x]
        made[name] = LAYERS[layer["class_name"]](name, config, weights, reads)
    return made[layers[-1]["name"]]


def _windows(x: Floats, config: Any, size: Any, fill: float, take: Callable[[Floats], Any]) -> Floats:
    (kh, kw), (sh, sw) = size, config["strides"]
    dh, dw = config.get("dilation_rate", (1, 1))
    reach = ((kh - 1) * dh + 1, (kw - 1) * dw + 1)
    if config["padding"] == "same":
        outs = [-(-n // s) for n, s in zip(x.shape, (sh, sw), strict=False)]
        pads = []
        for n, out, s, r in zip(x.shape, outs, (sh, sw), reach, strict=False):
            total = max((out - 1) * s + r - n, 0)
            pads.append((total // 2, total - total // 2))
        x = np.pad(x, [*pads, (0, 0)], constant_values=fill)
    rows = (x.shape[0] - reach[0]) // sh + 1
    columns = (x.shape[1] - reach[1]) // sw + 1
    return np.array(
        [
            [
                take(x[i * sh : i * sh + reach[0] : dh, j * sw : j * sw + reach[1] : dw])
                for j in range(columns)
            ]
            for i in range(rows)
        ]
    )


def _activate(kind: str, x: Floats) -> Floats:
    if kind == "softmax":
        e = np.exp(x - x.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)
    found: dict[str, Callable[[Floats], Floats]] = {
        "linear": lambda x: x,
        "relu": lambda x: np.maximum(x, 0),
        "relu6": lambda x: np.clip(x, 0, 6),
        "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
        "tanh": np.tanh,
    }
    return found[kind](x)


def _conv(name: str, config: Any, w: Weights, x: list[Floats]) -> Floats:
    kernel = w[f"{name}/kernel"].astype(float)
    out = _windows(x[0], config, kernel.shape[:2], 0, lambda p: np.einsum("hwc,hwck->k", p, kernel))
    return _activate(config["activation"], out + (w[f"{name}/bias"] if config["use_bias"] else 0))


def _depthwise(name: str, config: Any, w: Weights, x: list[Floats]) -> Floats:
    kernel = w[f"{name}/depthwise_kernel"].astype(float)
    out = _windows(x[0], config, kernel.shape[:2], 0, lambda p: np.einsum("hwc,hwcm->cm", p, kernel).ravel())
    return _activate(config["activation"], out + (w[f"{name}/bias"] if config["use_bias"] else 0))


def _norm(name: str, config: Any, w: Weights, x: list[Floats]) -> Floats:
    mean, var = w[f"{name}/moving_mean"], w[f"{name}/moving_variance"]
    out = (x[0] - mean) / np.sqrt(var.astype(float) + config["epsilon"])
    out = out * (w[f"{name}/gamma"] if config["scale"] else 1)
    return out + (w[f"{name}/beta"] if config["center"] else 0)


def _dense(name: str, config: Any, w: Weights, x: list[Floats]) -> Floats:
    out = x[0] @ w[f"{name}/kernel"].astype(float)
    return _activate(config["activation"], out + (w[f"{name}/bias"] if config["use_bias"] else 0))


def _average(name: str, config: Any, w: Weights, x: list[Floats]) -> Floats:
    # Padding does not count: windows at the edges average fewer values.
    def mean(values: Floats) -> Floats:
        return np.nanmean(values, axis=(0, 1))

    return _windows(x[0], config, config["pool_size"], np.nan, mean)


LAYERS: dict[str, Callable[[str, Any, Weights, list[Floats]], Floats]] = {
    "InputLayer": lambda n, c, w, x: x[0],
    "Conv2D": _conv,
    "DepthwiseConv2D": _depthwise,
    "BatchNormalization": _norm,
    "Dense": _dense,
    "Activation": lambda n, c, w, x: _activate(c["activation"], x[0]),
    "ReLU": lambda n, c, w, x: _activate("relu6" if c["max_value"] else "relu", x[0]),
    "Add": lambda n, c, w, x: sum(x[1:], x[0]),
    "Concatenate": lambda n, c, w, x: np.concatenate(x, axis=-1),
    "Flatten": lambda n, c, w, x: x[0].ravel(),
    "Dropout": lambda n, c, w, x: x[0],
    "MaxPooling2D": lambda n, c, w, x: _windows(
        x[0], c, c["pool_size"], -np.inf, lambda p: p.max(axis=(0, 1))
    ),
    "AveragePooling2D": _average,
    "GlobalAveragePooling2D": lambda n, c, w, x: x[0].mean(axis=(0, 1)),
    "UpSampling2D": lambda n, c, w, x: x[0].repeat(c["size"][0], 0).repeat(c["size"][1], 1),
    "ZeroPadding2D": lambda n, c, w, x: np.pad(x[0], [*c["padding"], (0, 0)]),
}
