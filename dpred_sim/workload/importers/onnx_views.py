"""Where the values of a view lie: operators that move, repeat or choose values, on arrays of positions."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from dpred_sim.workload.importers.onnx_graph import Graph

Positions = NDArray[np.int32]
"""For each value of an ONNX tensor, its position in the flat, channel-last stored tensor."""

_counting = np.zeros(0, dtype=np.int32)


def in_order(count: int) -> Positions:
    """0, 1, ... count - 1: always a view of one array, so that positions in plain order take no memory."""
    global _counting
    if len(_counting) < count:
        _counting = np.arange(max(count, 1 << 16), dtype=np.int32)
        _counting.flags.writeable = False
    return _counting[:count]


def channel_last(shape: tuple[int, ...]) -> Positions:
    """Positions of an ONNX tensor (N, C, ...) that is stored as (N, ..., C)."""
    batch, channels, *rest = shape
    return np.moveaxis(in_order(prod(shape)).reshape(batch, *rest, channels), -1, 1)


def image_of(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(H, W, C) in which an ONNX tensor (N, C, ...) is stored: all but the last axis make the rows."""
    batch, channels, *rest = shape
    return (batch * prod(rest[:-1]), rest[-1] if rest else 1, channels)


def same(a: Positions, b: Positions) -> bool:
    """Whether two arrays of positions are equal."""
    if a.shape != b.shape:
        return False
    place = a.__array_interface__["data"][0], b.__array_interface__["data"][0]
    return (place[0] == place[1] and a.strides == b.strides) or np.array_equal(a, b)


def moved(graph: Graph, node: Any, operand: str, positions: Positions, output: int = 0) -> Positions | None:
    """Positions of an output of a node in `VIEWS`, given those of its operand.

    None when `operand` is not what it moves, or how is not known before it runs.
    """
    kind = node.op_type
    if node.input[0] != operand:
        return None
    attributes = graph.attributes(node)
    out = graph.shape(node.output[output])
    if kind == "Transpose":
        return positions.transpose(attributes.get("perm"))
    if kind in ("Expand", "Tile", "Gather", "Slice", "Split"):
        found = _chosen(graph, node, attributes, positions, output)
    elif kind in ("DepthToSpace", "SpaceToDepth"):
        found = _blocks(positions, kind, attributes["blocksize"], attributes.get("mode", "DCR"))
    else:
        found = positions.reshape(out) if prod(out) == positions.size else None
    return found if found is not None and found.shape == out else None


def _chosen(
    graph: Graph, node: Any, attributes: dict[str, Any], positions: Positions, output: int
) -> Positions | None:
    kind = node.op_type
    out = graph.shape(node.output[output])
    if kind == "Expand":
        return np.broadcast_to(positions, out)
    if kind == "Split":
        axis = attributes.get("axis", 0)
        before = sum(graph.shape(name)[axis] for name in node.output[:output])
        return np.take(positions, range(before, before + out[axis]), axis)
    # Old opsets have the operands of Slice as attributes.
    operands: list[Any] = [None if not name else graph.known(name) for name in node.input[1:]]
    if kind == "Slice" and len(node.input) == 1:
        operands = [attributes.get(key) for key in ("starts", "ends", "axes")]
    if (
        not operands
        or operands[0] is None
        or any(x is None and name for x, name in zip(operands, node.input[1:], strict=False))
    ):
        return None
    if kind == "Tile":
        return np.tile(positions, np.asarray(operands[0]))
    if kind == "Gather":
        return np.take(positions, np.asarray(operands[0]), attributes.get("axis", 0))
    starts, ends, axes, steps = (*operands, None, None)[:4]
    where: list[slice] = [slice(None)] * positions.ndim
    axes = range(len(starts)) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = positions.shape[int(axis)]
        stop: int | None = int(end)
        if step < 0 and (end < -size or end == -1 - size):
            stop = None
        where[int(axis)] = slice(int(start), stop, int(step))
    return positions[tuple(where)]


def _blocks(positions: Positions, kind: str, size: int, mode: str) -> Positions:
    batch, channels, height, width = positions.shape
    if kind == "SpaceToDepth":
        apart = positions.reshape(batch, channels, height // size, size, width // size, size)
        return apart.transpose(0, 3, 5, 1, 2, 4).reshape(batch, -1, height // size, width // size)
    if mode == "CRD":
        apart = positions.reshape(batch, channels // size**2, size, size, height, width)
        order = (0, 1, 4, 2, 5, 3)
    else:
        apart = positions.reshape(batch, size, size, channels // size**2, height, width)
        order = (0, 3, 4, 1, 5, 2)
    return apart.transpose(order).reshape(batch, -1, height * size, width * size)
