"""The rearranged layer computes the same products."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dpred_sim.designs.base import design
from dpred_sim.designs.space_to_depth import applies, rearranged
from dpred_sim.values.tensor import Tensor
from dpred_sim.workload.layer import Layer
from tests.designs.nest_oracle import layers


def convolution(layer: Layer) -> Any:
    """(Oy, Ox, K) sums of products, window by window."""
    assert layer.weights is not None
    values, weights = layer.activations.load().values.astype(int), layer.weights.load().values.astype(int)
    top, left, bottom, right = layer.padding
    padded = np.pad(values, ((top, bottom), (left, right), (0, 0)))
    (ky, kx), (sy, sx) = layer.kernel, layer.stride
    out = np.zeros((layer.conv_height, layer.conv_width, layer.filters), int)
    for y, x in np.ndindex(out.shape[:2]):
        window = padded[y * sy : y * sy + ky, x * sx : x * sx + kx]
        out[y, x] = (weights * window).sum(axis=(1, 2, 3))
    return out


@settings(max_examples=60, deadline=None)
@given(layers(("image",)), st.integers(2, 40))
def test_outputs_stay(layer: Layer, lanes: int) -> None:
    folded = rearranged(layer, True, lanes)
    assert np.array_equal(convolution(folded), convolution(layer))
    if folded is not layer:
        assert folded.stride == (1, 1) and folded.padding == (0, 0, 0, 0)
        steps = [a.kernel[0] * a.kernel[1] * -(-a.channels // lanes) for a in (layer, folded)]
        assert layer.channels < lanes and steps[1] < steps[0]


def test_where_it_is_of_use() -> None:
    """The transform of a sound: 1 channel, 256 positions, stride 128: 16 steps in place of 256."""
    sound = Layer.conv2d(
        "c", Tensor(np.ones((1, 640, 1), int)), Tensor(np.ones((9, 1, 256, 1), int)), stride=(1, 128)
    )
    made = design("dadiannao").schedule(sound)
    assert (made.inner, made.layer.channels, made.layer.kernel) == (16, 128, (1, 2))
    assert design("dadiannao", space_to_depth="images").schedule(sound).inner == 256
    # one step of 9 lanes would be three of 16
    narrow = Layer.conv2d("c", Tensor(np.ones((8, 8, 9), int)), Tensor(np.ones((9, 1, 1, 9), int)), stride=2)
    assert design("dadiannao").schedule(narrow).layer is narrow
    image = Layer.conv2d("c", Tensor(np.ones((8, 8, 3), int)), Tensor(np.ones((9, 1, 1, 3), int)), stride=4)
    assert [design("dadiannao", space_to_depth=rule).schedule(image).inner for rule in (True, "images")] == [
        1,
        3,
    ]


def test_channels_are_phases_row_first() -> None:
    image = np.arange(4 * 6 * 3).reshape(4, 6, 3)
    layer = Layer.conv2d("c", Tensor(image), Tensor(np.ones((1, 2, 3, 3), int)), stride=(2, 3))
    folded = rearranged(layer, True, 16).activations.load().values
    assert folded.shape == (2, 2, 18)
    for y, x, c in np.ndindex(4, 6, 3):
        assert folded[y // 2, x // 3, (y % 2) * 9 + (x % 3) * 3 + c] == image[y, x, c]


@given(st.sampled_from(["channels", "stride", "dilation", "linear"]))
def test_other_layers_stay(what: str) -> None:
    channels = 4 if what == "channels" else 3
    stride, dilation = (1 if what == "stride" else 2), (2 if what == "dilation" else 1)
    layer = Layer.conv2d(
        "c",
        Tensor(np.ones((9, 9, channels), int)),
        Tensor(np.ones((2, 3, 3, channels), int)),
        stride=stride,
        dilation=dilation,
    )
    if what == "linear":
        layer = Layer.linear("l", Tensor(np.ones((5, 3), int)), Tensor(np.ones((2, 3), int)))
    for rule in (True, "images", False):
        assert not applies(layer, rule, 3 if rule is True else 16)
        assert rearranged(layer, rule, 3) is layer


def test_tensors_are_kept() -> None:
    layer = Layer.conv2d(
        "c", Tensor(np.ones((9, 9, 3), int)), Tensor(np.ones((2, 3, 3, 3), int)), stride=2, padding=1
    )
    assert rearranged(layer, True, 16).activations is rearranged(layer, "images", 16).activations
