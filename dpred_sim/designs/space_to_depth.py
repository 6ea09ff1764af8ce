"""Space to depth: a strided layer of few channels as a dense one with more.

The first layer of an image network has 3 channels, one of sound 1, so most of the lanes would idle. A layer
of C channels and stride (sy, sx) is equal to one with stride 1, sy * sx * C channels and a kernel of
(ceil(Ky / sy), ceil(Kx / sx)) on rearranged tensors: channel' = (y mod sy) * sx * C + (x mod sx) * C + c.
The kernel is filled up with zeros, which take part in steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dpred_sim.values.tensor import LazyTensor, Tensor, TensorSource
from dpred_sim.workload.layer import Layer, Pair

SpaceToDepth = bool | Literal["images"]
"""False: never; True: where fewer steps are left; `images`: on 3 channels, however many steps are left."""
IMAGE_CHANNELS = 3


def applies(layer: Layer, rule: SpaceToDepth, lanes: int) -> bool:
    """True for a strided convolution (no groups, no dilation) that the rule rearranges on so many lanes."""
    plain = layer.kind == "conv" and layer.groups == 1 and layer.dilation == (1, 1)
    if not plain or rule is False or layer.stride == (1, 1):
        return False
    if rule == "images":
        return layer.channels == IMAGE_CHANNELS
    (ky, kx), (sy, sx), (fewer_y, fewer_x) = layer.kernel, layer.stride, _kernel(layer)
    steps = fewer_y * fewer_x * -(-sy * sx * layer.channels // lanes)
    return layer.channels < lanes and steps < ky * kx


def _kernel(layer: Layer) -> Pair:
    (ky, kx), (sy, sx) = layer.kernel, layer.stride
    return -(-ky // sy), -(-kx // sx)


def rearranged(layer: Layer, rule: SpaceToDepth, lanes: int) -> Layer:
    """The equal layer of stride 1 without padding, or `layer` itself when the rule does not apply.

    Its tensors are made when somebody looks at them and are kept on the memos of the originals.
    """
    if not applies(layer, rule, lanes) or layer.weights is None:
        return layer
    sy, sx = layer.stride
    kernel, channels = _kernel(layer), sy * sx * layer.channels
    size = (layer.conv_height + kernel[0] - 1, layer.conv_width + kernel[1] - 1)
    top, left = layer.padding[:2]
    activations, weights = layer.activations, layer.weights
    return replace(
        layer,
        activations=_derived(
            activations,
            ("space_to_depth", layer.stride, (top, left), size),
            (*size, channels),
            lambda values: _fold(_placed(values[None], (top, left), size, layer.stride), layer.stride)[0],
        ),
        weights=_derived(
            weights,
            ("space_to_depth", layer.stride),
            (layer.filters, *kernel, channels),
            lambda values: _fold(_placed(values, (0, 0), kernel, layer.stride), layer.stride),
        ),
        stride=(1, 1),
        padding=(0, 0, 0, 0),
    )


def _derived(
    source: TensorSource,
    key: tuple[Any, ...],
    shape: tuple[int, ...],
    change: Callable[[NDArray[Any]], NDArray[Any]],
) -> TensorSource:
    made: TensorSource | None = source.memo.get(key)
    if made is None:
        bits, precision, signed = source.bits, source.precision, source.signed

        def make() -> Tensor:
            return Tensor(change(source.load().values), bits=bits, signed=signed, precision=precision)

        made = source.memo[key] = LazyTensor(shape, bits, precision, signed, make)
    return made


def _placed(values: NDArray[Any], offset: Pair, size: Pair, stride: Pair) -> NDArray[Any]:
    """(n, y, x, c) on a plane of `size` * `stride` zeros; what hangs over is in no window."""
    height, width = size[0] * stride[0], size[1] * stride[1]
    plane = np.zeros((values.shape[0], height, width, values.shape[3]), dtype=values.dtype)
    rows = max(0, min(values.shape[1], height - offset[0]))
    columns = max(0, min(values.shape[2], width - offset[1]))
    plane[:, offset[0] : offset[0] + rows, offset[1] : offset[1] + columns] = values[:, :rows, :columns]
    return plane


def _fold(plane: NDArray[Any], stride: Pair) -> NDArray[Any]:
    """(n, y * sy, x * sx, c) to (n, y, x, sy * sx * c)."""
    count, height, width, channels = plane.shape
    sy, sx = stride
    folded = plane.reshape(count, height // sy, sy, width // sx, sx, channels).transpose(0, 1, 3, 2, 4, 5)
    return folded.reshape(count, height // sy, width // sx, sy * sx * channels)
