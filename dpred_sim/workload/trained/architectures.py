"""Networks whose packages ship weights without a graph, or with one that does not suit an accelerator.

The graph is built here, from what is published. Each function takes the weights by name and returns an
ONNX model; a missing tensor is a KeyError.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.workload.trained.graph_builder import GraphBuilder

Weights = Mapping[str, NDArray[Any]]

LITE0_BLOCKS = 16
LITE0_HALVING = (1, 3, 5, 11)
"""Blocks with stride 2 (repeats 1, 2, 2, 3, 3, 4, 1; strides 1, 2, 2, 2, 1, 2, 1)."""

BATCH_NORM_EPSILON = 1e-3


def efficientnet_lite0(weights: Weights) -> Any:
    """EfficientNet-Lite0 (Tan and Le, arXiv 1905.11946; the Lite form of TensorFlow's tpu repository).

    Against EfficientNet-B0: no squeeze-and-excitation, ReLU6, stem and head not scaled. Padding is
    TensorFlow's SAME, more of it below and to the right.
    """
    g = GraphBuilder("efficientnet_lite0", [1, 3, 224, 224])

    def conv(x: str, name: str, norm: str, *, stride: int = 1, relu: bool = True) -> str:
        values = weights[f"{name}.weight"]
        group = values.shape[0] if "depthwise" in name else 1
        label = name.replace("_blocks.", "block").replace("._", "_").strip("_")
        x = g.conv(x, label, values, strides=[stride, stride], auto_pad="SAME_UPPER", group=group)
        parts = [
            g.constant(f"{norm}.{part}", weights[f"{norm}.{part}"])
            for part in ("weight", "bias", "running_mean", "running_var")
        ]
        x = g.node("BatchNormalization", [x, *parts], f"{label}_bn", epsilon=BATCH_NORM_EPSILON)
        return g.relu6(x, f"{label}_relu6") if relu else x

    x = conv(g.source, "_conv_stem", "_bn0", stride=2)
    for i in range(LITE0_BLOCKS):
        block, before = f"_blocks.{i}", x
        stride = 2 if i in LITE0_HALVING else 1
        if f"{block}._expand_conv.weight" in weights:
            x = conv(x, f"{block}._expand_conv", f"{block}._bn0")
        x = conv(x, f"{block}._depthwise_conv", f"{block}._bn1", stride=stride)
        x = conv(x, f"{block}._project_conv", f"{block}._bn2", relu=False)
        same = i > 0 and (
            weights[f"{block}._project_conv.weight"].shape[0]
            == weights[f"_blocks.{i - 1}._project_conv.weight"].shape[0]
        )
        if same and stride == 1:
            x = g.node("Add", [x, before], f"block{i}_add")
    x = conv(x, "_conv_head", "_bn1")
    x = g.node("Flatten", [g.node("GlobalAveragePool", [x], "pool")], "flat")
    return g.model(g.linear(x, "fc", weights["_fc.weight"], weights["_fc.bias"]))


def resemblyzer(weights: Weights) -> Any:
    """The voice encoder of Wan et al. (arXiv 1710.10467) as Resemblyzer has it.

    Three LSTM layers over mel bands, then a fully connected layer with ReLU on the last hidden state.
    The length of the embedding is not normalised here: that is no layer.
    """
    g = GraphBuilder("resemblyzer", [1, "frames", 40])

    def gates(name: str) -> NDArray[Any]:
        """torch has the gates i, f, g, o; ONNX i, o, f, c."""
        i, f, c, o = np.split(weights[f"model_state.lstm.{name}"], 4)
        return np.concatenate([i, o, f, c])[None]

    x = g.node("Transpose", [g.source], "by_frame", perm=[1, 0, 2])
    axes = g.constant("axis", [1], np.int64)
    for layer in range(3):
        biases = [gates(f"bias_{part}_l{layer}") for part in ("ih", "hh")]
        parts = [gates(f"weight_ih_l{layer}"), gates(f"weight_hh_l{layer}"), np.concatenate(biases, axis=1)]
        x = g.lstm(x, f"lstm{layer + 1}", parts, "last" if layer == 2 else "")
        x = g.node("Squeeze", [x, axes], f"lstm{layer + 1}_sequence")
    flat = g.node("Squeeze", ["last", g.constant("first", [0], np.int64)], "last_row")
    x = g.linear(flat, "fc", weights["model_state.linear.weight"], weights["model_state.linear.bias"])
    return g.model(g.node("Relu", [x], "embedding"))


def waifu2x_vgg7(weights: Weights) -> Any:
    """waifu2x's VGG7: seven 3 x 3 convolutions without padding, LeakyReLU(0.1) between them."""
    channels = weights["conv1/W"].shape[1]
    g = GraphBuilder("waifu2x_vgg7", [1, channels, "height", "width"])
    x = g.source
    for i in range(1, 8):
        x = g.conv(x, f"conv{i}", weights[f"conv{i}/W"], weights[f"conv{i}/b"])
        if i < 7:
            x = g.node("LeakyRelu", [x], f"relu{i}", alpha=0.1)
    return g.model(x)


def silero_vad(weights: Weights) -> Any:
    """Silero VAD at 16 kHz over frames that do not depend on each other, then an LSTM over all of them.

    The package's graph has the frames as a batch of one-dimensional convolutions, and makes magnitudes of
    the Fourier transform by squares, which 16 bits cannot hold. Here frames are rows of an image, and the
    magnitude is one operator over pairs of channels: the same numbers. Reads (1, 1, frames, 640): of each
    frame 64 samples of the one before, its 512, and its last 64 mirrored.
    """
    g = GraphBuilder("silero_vad", [1, 1, "frames", 640])
    # Real and imaginary part of a frequency side by side.
    basis = (
        weights["stft.forward_basis_buffer"].reshape(2, 129, 1, 256).swapaxes(0, 1).reshape(258, 1, 1, 256)
    )
    x = g.conv(g.source, "stft", basis.reshape(258, 1, 1, 256), strides=[1, 128])
    x = g.node("Transpose", [x], "by_position", perm=[0, 2, 3, 1])
    x = g.node("Reshape", [x, g.constant("pairs", [1, -1, 4, 129, 2], np.int64)], "parts")
    x = g.node("ReduceL2", [x], "magnitude", axes=[-1], keepdims=0)
    x = g.node("Transpose", [x], "spectrum", perm=[0, 3, 1, 2])
    for i, stride in enumerate((1, 2, 2, 1)):
        values = weights[f"encoder.{i}.weight"][:, :, None]
        bias = weights[f"encoder.{i}.bias"]
        x = g.conv(x, f"encoder{i}", values, bias, strides=[1, stride], pads=[0, 1, 0, 1])
        x = g.node("Relu", [x], f"encoder{i}_relu")
    # One column is left: (1, 128, frames, 1) as (frames, 1, 128).
    x = g.node("Transpose", [x], "frames_first", perm=[2, 0, 3, 1])
    x = g.node("Squeeze", [x, g.constant("column", [2], np.int64)], "rows")
    x = g.lstm(x, "lstm", [weights[f"onnx::LSTM_{n}"] for n in (209, 210, 211)])
    x = g.node("Squeeze", [x, g.constant("direction", [1], np.int64)], "states")
    x = g.node("Relu", [x], "states_relu")
    x = g.node("Squeeze", [x, g.constant("batch", [1], np.int64)], "by_frame")
    x = g.linear(x, "output", weights["output.weight"][:, :, 0], weights["output.bias"])
    return g.model(g.node("Sigmoid", [x], "speech"))


ARCHITECTURES: dict[str, Callable[[Weights], Any]] = {
    "efficientnet_lite0": efficientnet_lite0,
    "resemblyzer": resemblyzer,
    "silero_vad": silero_vad,
    "waifu2x_vgg7": waifu2x_vgg7,
}
"""What `build` in the manifest can name."""
