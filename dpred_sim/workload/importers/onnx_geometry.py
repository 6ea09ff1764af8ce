"""Strides, padding and pooling windows of ONNX operators."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from dpred_sim.workload.importers.onnx_graph import Graph

Positions = NDArray[np.int32]
"""For each value of an ONNX tensor, its position in the flat, channel-last stored tensor."""


def channel_last(height: int, width: int, channels: int) -> Positions:
    """Positions of an ONNX tensor (1, C, H, W) that is stored as (H, W, C)."""
    flat = np.arange(height * width * channels, dtype=np.int32)
    return flat.reshape(height, width, channels).transpose(2, 0, 1)[None]


def conv_geometry(graph: Graph, node: Any, kernel: tuple[int, int], size: tuple[int, int]) -> dict[str, Any]:
    """stride, padding (top, left, bottom, right), dilation and groups of a convolution."""
    attributes = graph.attributes(node)
    stride = tuple(attributes.get("strides", (1, 1)))
    dilation = tuple(attributes.get("dilations", (1, 1)))
    span = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
    return {
        "stride": stride,
        "padding": _padding(graph, node, span, stride, size),
        "dilation": dilation,
        "groups": attributes.get("group", 1),
    }


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
        out = graph.shape(node.output[0])
        return whole, np.arange(channels, dtype=np.int32).reshape(out)
    if positions.ndim != 4 or not np.array_equal(positions, channel_last(*shape)):
        return None
    if node.op_type.startswith("Global"):
        return whole, channel_last(1, 1, channels)
    attributes = graph.attributes(node)
    if any(step != 1 for step in attributes.get("dilations", ())):
        graph.refuse(node, "dilated pooling is not modelled")
    if len([name for name in node.output if name]) > 1:
        graph.refuse(node, "the indices of a pooling are not modelled")
    size = tuple(attributes["kernel_shape"])
    stride = tuple(attributes.get("strides", (1, 1)))
    top, left, _, _ = _padding(graph, node, size, stride, (height, width))
    rows, columns = graph.shape(node.output[0])[2:]
    # Padding below and to the right as far as a window reaches: covers ceil_mode as well.
    bottom = max(0, (rows - 1) * stride[0] + size[0] - height - top)
    right = max(0, (columns - 1) * stride[1] + size[1] - width - left)
    pool = {"mode": mode, "size": size, "stride": stride, "padding": (top, left, bottom, right)}
    return pool, channel_last(rows, columns, channels)


def _is_mean_of_image(graph: Graph, node: Any, shape: tuple[int, ...], positions: Positions) -> bool:
    """Whether a ReduceMean takes the mean of all positions of each channel, in whatever layout."""
    axes: Any = graph.attributes(node).get("axes")
    if axes is None and len(node.input) > 1:
        axes = graph.constant(node.input[1])
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


def _padding(
    graph: Graph, node: Any, span: tuple[int, ...], stride: tuple[int, ...], size: tuple[int, int]
) -> tuple[int, int, int, int]:
    attributes = graph.attributes(node)
    auto = attributes.get("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        missing = [
            max((-(-n // step) - 1) * step + reach - n, 0)
            for n, reach, step in zip(size, span, stride, strict=True)
        ]
        less = [total // 2 for total in missing]
        more = [total - half for total, half in zip(missing, less, strict=True)]
        (top, left), (bottom, right) = (less, more) if auto == "SAME_UPPER" else (more, less)
        return top, left, bottom, right
    top, left, bottom, right = (0, 0, 0, 0) if auto == "VALID" else attributes.get("pads", (0, 0, 0, 0))
    if min(top, left, bottom, right) < 0:
        graph.refuse(node, "negative padding is not modelled")
    return top, left, bottom, right
