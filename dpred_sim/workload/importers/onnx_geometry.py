"""Strides, padding and windows of ONNX operators, and convolutions that become ones over two axes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import ceil, prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.workload.importers.onnx_views import Positions, channel_last, image_of, in_order, same

if TYPE_CHECKING:
    from dpred_sim.workload.importers.onnx_graph import Graph

Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Windows:
    """Windows of an operator, an entry an axis: `before` and `after` are the padding."""

    kernel: Sizes
    stride: Sizes
    dilation: Sizes
    before: Sizes
    after: Sizes


def windows(graph: Graph, node: Any, kernel: Sizes, size: Sizes) -> Windows:
    """Windows of a node with the attributes of a convolution or pooling over axes of `size`."""
    attributes = graph.attributes(node)
    axes = len(size)
    stride = tuple(attributes.get("strides", (1,) * axes))
    dilation = tuple(attributes.get("dilations", (1,) * axes))
    span = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
    auto = attributes.get("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        missing = [
            max((-(-n // step) - 1) * step + reach - n, 0)
            for n, reach, step in zip(size, span, stride, strict=True)
        ]
        less = tuple(total // 2 for total in missing)
        more = tuple(total - half for total, half in zip(missing, less, strict=True))
        before, after = (less, more) if auto == "SAME_UPPER" else (more, less)
    else:
        pads = (0,) * (2 * axes) if auto == "VALID" else tuple(attributes.get("pads", (0,) * (2 * axes)))
        before, after = pads[:axes], pads[axes:]
    if min((*before, *after), default=0) < 0:
        graph.refuse(node, "negative padding is not modelled: crop with a Slice before it")
    return Windows(kernel, stride, dilation, before, after)


def conv_settings(over: Windows, groups: int) -> dict[str, Any]:
    """Settings of a layer for windows over (H, W) or over W alone."""
    height = (1, 1, 1, 0, 0)
    y = height if len(over.kernel) == 1 else _axis(over, -2)
    x = _axis(over, -1)
    return {
        "stride": (y[1], x[1]),
        "padding": (y[3], x[3], y[4], x[4]),
        "dilation": (y[2], x[2]),
        "groups": groups,
    }


def _axis(over: Windows, axis: int) -> tuple[int, int, int, int, int]:
    return (
        over.kernel[axis],
        over.stride[axis],
        over.dilation[axis],
        over.before[axis],
        over.after[axis],
    )


def is_direct(over: Windows, batch: int) -> bool:
    """Whether a convolution is one over the two axes of an (H, W, C) image as it is stored.

    Rows of the image are all axes but the last: they must not be mixed, or be those of one image.
    """
    if len(over.kernel) == 2 and batch == 1:
        return True
    outer = over.kernel[:-1], over.stride[:-1], (*over.before[:-1], *over.after[:-1])
    return all(k == s == 1 for k, s in zip(*outer[:2], strict=True)) and not any(outer[2])


def unfolded(shape: Sizes, over: Windows, groups: int) -> tuple[Positions, Sizes]:
    """An ONNX tensor (N, C, ...) rearranged so that windows of its outer axes are channels.

    Returns indices into the flat ONNX tensor, -1 for padding, and the (H, W, C) shape: rows are the
    windows of the outer axes, channels (group, place in the window, channel). A convolution over the
    last axis alone does the rest, with the same products.
    """
    outer = len(shape) - 3
    index = in_order(prod(shape)).reshape(shape)
    pads = [(0, 0), (0, 0), *zip(over.before[:-1], over.after[:-1], strict=True), (0, 0)]
    index = np.pad(index, pads, constant_values=-1)
    count = []
    for axis in range(outer):
        span = (over.kernel[axis] - 1) * over.dilation[axis] + 1
        count.append((index.shape[2 + axis] - span) // over.stride[axis] + 1)
    taken = []
    for place in product(*(range(size) for size in over.kernel[:-1])):
        cut = [
            slice(p * d, p * d + (n - 1) * s + 1, s)
            for p, d, n, s in zip(place, over.dilation[:-1], count, over.stride[:-1], strict=True)
        ]
        taken.append(index[(slice(None), slice(None), *cut)])
    # (place, N, group, channel, windows..., W) -> (N, windows..., W, group, place, channel)
    whole = np.stack(taken)
    places, batch, channels, *rest = whole.shape
    whole = whole.reshape(places, batch, groups, channels // groups, *rest)
    order = (1, *range(4, 4 + len(rest)), 2, 0, 3)
    flat = np.ascontiguousarray(whole.transpose(order))
    return flat.reshape(-1), (batch * prod(rest[:-1]), rest[-1], places * channels)


def unfolded_weights(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weights (K, C, k...) for `unfolded` activations: (K, 1, kx, place * C)."""
    filters, channels, *kernel = weights.shape
    apart = weights.reshape(filters, channels, prod(kernel[:-1]), kernel[-1])
    return np.ascontiguousarray(apart.transpose(0, 3, 2, 1)).reshape(filters, 1, kernel[-1], -1)


@dataclass(frozen=True)
class Phases:
    """A transposed convolution as a plain one: each phase of the outputs has filters of its own.

    `weights` are (K * phases, ky, kx, C / groups), filters by (group, phase, K); `padding` is that of
    the plain convolution of stride 1, `shape` its (H, W, K * phases), and `positions` tells where the
    values of the ONNX tensor lie in it. Values that the model crops have no position.
    """

    weights: NDArray[np.float32]
    padding: tuple[int, int, int, int]
    shape: tuple[int, int, int]
    positions: Positions

    @property
    def windows(self) -> Windows:
        """Windows of the plain convolution."""
        _, *kernel, _ = self.weights.shape
        return Windows(tuple(kernel), (1, 1), (1, 1), self.padding[:2], self.padding[2:])

    def settings(self, groups: int) -> dict[str, Any]:
        """Settings of the plain convolution."""
        return conv_settings(self.windows, groups)


def phases(weights: NDArray[np.float32], over: Windows, groups: int, size: Sizes, out: Sizes) -> Phases:
    """The phases of a transposed convolution with `weights` (C, K / groups, ky, kx) on (H, W) = `size`.

    `out` is the (N, K, H, W) of its ONNX output. Output row o (before cropping) of phase r = o mod s is
    the sum over j of row (o div s) - j times tap r + s * j: a kernel of ceil(k / s) taps a phase, filled
    up with zeros where the stride does not divide the kernel.
    """
    inputs, per_group = weights.shape[:2]
    filters, axes = per_group * groups, []
    for axis in range(2):
        k, s, d = over.kernel[axis], over.stride[axis], over.dilation[axis]
        span = (k - 1) * d + 1
        taps = ceil(span / s)
        first = min(over.before[axis] // s, taps - 1)
        last = max((out[2 + axis] - 1 + over.before[axis]) // s, size[axis] - 1)
        axes.append((s, taps, first, last, taps - 1 - first, last - size[axis] + 1))
    (sy, ny, top_q, last_y, top, bottom), (sx, nx, left_q, last_x, left, right) = axes
    spread = np.zeros((inputs, per_group, ny * sy, nx * sx), dtype=np.float32)
    dy, dx = over.dilation
    spread[:, :, : (over.kernel[0] - 1) * dy + 1 : dy, : (over.kernel[1] - 1) * dx + 1 : dx] = weights
    # (g, c, k, j, r, j', r') -> (g, r, r', k, j reversed, j' reversed, c)
    apart = spread.reshape(groups, inputs // groups, per_group, ny, sy, nx, sx)[:, :, :, ::-1, :, ::-1]
    made = np.ascontiguousarray(apart.transpose(0, 4, 6, 2, 3, 5, 1))
    made = made.reshape(filters * sy * sx, ny, nx, inputs // groups)
    shape = (last_y - top_q + 1, last_x - left_q + 1, filters * sy * sx)
    y = np.arange(out[2]) + over.before[0]
    x = np.arange(out[3]) + over.before[1]
    group, inside = np.divmod(np.arange(filters), per_group)
    phase = (y % sy)[:, None] * sx + (x % sx)[None, :]
    channel = (group[:, None, None] * (sy * sx) + phase) * per_group + inside[:, None, None]
    place = (y // sy - top_q)[:, None] * shape[1] + (x // sx - left_q)[None, :]
    positions = (place * shape[2] + channel).astype(np.int32)[None]
    return Phases(made, (top, left, bottom, right), shape, positions)


def pooling(
    graph: Graph, node: Any, shape: tuple[int, ...], positions: Positions
) -> tuple[dict[str, Any], Positions] | None:
    """The pooling of a tensor stored in `shape`, and the positions of the pooled ONNX tensor.

    None when the node does not pool over the rows and columns of an (H, W, C) tensor.
    """
    if len(shape) != 3:
        return None
    height, width, channels = shape
    mode = "max" if "Max" in node.op_type else "average"
    whole = {"mode": mode, "size": (height, width), "stride": (1, 1), "padding": (0, 0, 0, 0)}
    if node.op_type == "ReduceMean":
        if not _is_mean_of_image(graph, node, shape, positions):
            return None
        return whole, in_order(channels).reshape(graph.shape(node.output[0]))
    if positions.ndim not in (3, 4) or image_of(positions.shape) != shape:
        return None
    if not same(positions, channel_last(positions.shape)) or (positions.ndim == 4 and positions.shape[0] > 1):
        return None
    out = graph.shape(node.output[0])
    if node.op_type.startswith("Global"):
        whole["size"] = (height, width) if positions.ndim == 4 else (1, width)
        return whole, channel_last(out)
    attributes = graph.attributes(node)
    if any(step != 1 for step in attributes.get("dilations", ())):
        return None
    if len([name for name in node.output if name]) > 1:
        return None
    over = windows(graph, node, tuple(attributes["kernel_shape"]), positions.shape[2:])
    y, x = _axis(over, -2) if len(over.kernel) == 2 else (1, 1, 1, 0, 0), _axis(over, -1)
    _, columns, _ = image_of(out)
    rows = out[2] if len(out) == 4 else height
    # Padding below and to the right as far as a window reaches: covers ceil_mode as well.
    bottom = max(0, (rows - 1) * y[1] + y[0] - height - y[3])
    right = max(0, (columns - 1) * x[1] + x[0] - width - x[3])
    pool = {
        "mode": mode,
        "size": (y[0], x[0]),
        "stride": (y[1], x[1]),
        "padding": (y[3], x[3], bottom, right),
    }
    return pool, channel_last(out)


def _is_mean_of_image(graph: Graph, node: Any, shape: tuple[int, ...], positions: Positions) -> bool:
    """Whether a ReduceMean takes the mean of all positions of each channel, in whatever layout."""
    axes = graph.axes(node)
    if axes is None or len(axes) == 0:
        return False
    height, width, channels = shape
    reduced = sorted(int(axis) % positions.ndim for axis in axes)
    kept = [axis for axis in range(positions.ndim) if axis not in reduced]
    if (
        prod(positions.shape[axis] for axis in kept) != channels
        or positions.size != height * width * channels
    ):
        return False
    table = positions.transpose([*kept, *reduced]).reshape(channels, -1)
    return bool((table % channels == np.arange(channels)[:, None]).all())
