"""From a folded ONNX graph to layers: one for each operator with inner products, others in between."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.errors import InputError
from dpred_sim.workload.importers.onnx_geometry import (
    Phases,
    Windows,
    conv_settings,
    is_direct,
    phases,
    unfolded,
    unfolded_weights,
    windows,
)
from dpred_sim.workload.importers.onnx_graph import Graph
from dpred_sim.workload.importers.onnx_native import Native
from dpred_sim.workload.importers.onnx_ops import CLASSIFIERS, DYNAMIC, LAYERS, POOLS
from dpred_sim.workload.importers.onnx_plan import Plan, Renames
from dpred_sim.workload.importers.onnx_recurrent import (
    GATES,
)
from dpred_sim.workload.importers.onnx_steps import Recurrences
from dpred_sim.workload.importers.onnx_views import Positions, channel_last, image_of, in_order, same
from dpred_sim.workload.network import INPUT


def plan_layers(graph: Graph, renames: Renames = (), natives: Mapping[str, Native] | None = None) -> Plan:
    """The layers of a graph; raises InputError for what no layer can be made of.

    `natives` are the formats of tensors that the model stores in 8 bits.
    """
    return _Planner(graph, renames, natives or {}).plan()


class _Planner(Recurrences):
    def plan(self) -> Plan:
        graph = self.graph
        for index, name in enumerate(graph.given):
            self._given(name, INPUT if index == 0 else None)
        origins: dict[str, str] = {}
        for node in graph.nodes:
            if not all(name in self.done for name in node.output if name):
                first = len(self.planned)
                self._layer(node)
                origin = graph.origin(node)
                origins.update((layer.name, origin) for layer in self.planned[first:])
        if not any(layer.settings.get("kind") in COMPUTE for layer in self.planned):
            raise InputError(
                "the model has no operator with products that its input takes part in",
                file=graph.path,
                found=sorted({node.op_type for node in graph.nodes}) or "constants alone",
                allowed=sorted(LAYERS),
            )
        found = [self.values[name].stored.name for name in graph.outputs if name in self.values]
        if not found:
            raise InputError(
                "no output of the model is that of a layer", file=graph.path, found=graph.outputs
            )
        known = {layer.name for layer in self.planned if layer.is_stored}
        found = [part for name in found for part in self.joins.get(name, (name,))]
        # The last state of a recurrence belongs to all of them.
        owners = [name if name in known else name.rsplit(".h[", 1)[0] for name in found]
        return Plan(self.planned, list(dict.fromkeys(owners)), origins)

    def _layer(self, node: Any) -> None:
        kind, operands = node.op_type, self.graph.variables(node)
        if not operands:
            self._refuse(node, "a constant that cannot be folded")
        if kind in CLASSIFIERS and self.graph.is_final(node):
            self._classifier(node)
        elif kind == "Conv":
            self._conv(node)
        elif kind == "ConvTranspose":
            self._transposed(node)
        elif kind in ("Gemm", "MatMul"):
            both = all(name in operands for name in node.input[:2])
            self._product(node) if both else self._linear(node)
        elif kind in GATES:
            self._recurrent(node)
        elif kind == DYNAMIC:
            self._alias(node)
        elif kind not in POOLS or not self._pool(node):
            self._memory(node, operands)

    def _conv(self, node: Any) -> None:
        graph = self.graph
        shape, out = graph.shape(node.input[0]), graph.shape(node.output[0])
        weights = self._weights(node, node.input[1])
        groups = graph.attributes(node).get("group", 1)
        over = windows(graph, node, weights.shape[2:], shape[2:])
        if is_direct(over, shape[0]):
            reads = self._laid_out(node, node.input[0], _channels_last_index(shape), image_of(shape), True)
            make = _kernels
            settings = conv_settings(over, groups)
            if weights.ndim > 4 or shape[0] > 1:
                settings |= _along_the_last(settings)
        else:
            index, unfolded_shape = unfolded(shape, over, groups)
            reads = self._laid_out(node, node.input[0], index, unfolded_shape)
            make = unfolded_weights
            settings = _along_the_last(conv_settings(over, groups))
        stored = image_of(out)
        tail = self.fusion.tail(node.output[0], channel_last(out), stored, add=True, pool=True)
        settings = {"kind": "conv", "operator": "Conv", "reads": reads, **settings}
        self._store(self._name(node), tail, settings, self._made(node, node.input[1], make))

    def _transposed(self, node: Any) -> None:
        graph = self.graph
        shape, out = graph.shape(node.input[0]), graph.shape(node.output[0])
        weights = self._weights(node, node.input[1])
        if len(shape) not in (3, 4):
            self._refuse(node, "only transposed convolutions over one or two axes are modelled")
        groups = graph.attributes(node).get("group", 1)
        over = _transposed_windows(graph, node, weights.shape[2:], shape[2:], out[2:])
        size = shape[2:]
        if len(shape) == 3:
            # One axis is two, the first of one row; a batch makes the rows.
            one = {key: (fill, *getattr(over, key)) for key, fill in _ONE_ROW.items()}
            over = type(over)(**one)
            size, out = (shape[0], *size), (1, out[1], out[0], out[2])

        def made_of(values: NDArray[np.float32]) -> Phases:
            return phases(values if values.ndim == 4 else values[:, :, None], over, groups, size, out)

        made = made_of(weights)
        positions, stored, settings = made.positions, made.shape, made.settings(groups)
        if len(shape) == 3:
            positions = positions[0].transpose(1, 0, 2)
        if len(shape) == 4 and shape[0] > 1:
            # As for a plain convolution of several images: windows of the rows become channels.
            index, unfolded_shape = unfolded(shape, made.windows, groups)
            reads = self._laid_out(node, node.input[0], index, unfolded_shape)
            settings = _along_the_last(settings)
            positions = np.concatenate([positions + n * prod(stored) for n in range(shape[0])])
            stored = (shape[0] * stored[0], *stored[1:])
        else:
            reads = self._laid_out(node, node.input[0], _channels_last_index(shape), image_of(shape), True)

        def make(values: NDArray[np.float32]) -> NDArray[np.float32]:
            found = made_of(values).weights
            if len(shape) == 3 or shape[0] == 1:
                return found
            return unfolded_weights(found.transpose(0, 3, 1, 2))

        tail = self.fusion.tail(node.output[0], positions, stored, add=False, pool=False)
        settings = {"kind": "conv", "operator": "ConvTranspose", "reads": reads, **settings}
        self._store(self._name(node), tail, settings, self._made(node, node.input[1], make))

    def _linear(self, node: Any) -> None:
        graph = self.graph
        attributes = graph.attributes(node)
        across = node.input[0] in graph.constants
        source, constant = (node.input[1], node.input[0]) if across else (node.input[0], node.input[1])
        weights = self._weights(node, constant)
        if weights.ndim > 2:
            self._product(node)
            return
        if weights.ndim == 1:
            # A vector is a matrix of one column, or of one row.
            weights = weights[None] if across else weights[:, None]
        form = weights.shape
        turned_a, turned_b = bool(attributes.get("transA", 0)), bool(attributes.get("transB", 0))
        index = in_order(prod(graph.shape(source))).reshape(graph.shape(source))
        flat_out = in_order(prod(graph.shape(node.output[0]))).reshape(graph.shape(node.output[0]))
        turns_out = across and min(index.ndim, len(graph.shape(constant))) > 1
        if index.ndim == 1:
            index = index[:, None] if across else index[None]
        if across:
            # W x is the transposed of x' W': rows of the layer are the columns of x.
            turned = turned_a
            index = index if turned_b else index.swapaxes(-1, -2)
        else:
            turned = not turned_b
            index = index.swapaxes(-1, -2) if turned_a else index
        filters, inputs = weights.shape[::-1] if turned else weights.shape
        factor = float(attributes.get("alpha", 1.0))
        reads, order = self._rows(node, source, index.reshape(-1, inputs))

        def make(weights: NDArray[np.float32]) -> NDArray[np.float32]:
            values = np.empty((filters, inputs), dtype=np.float32)
            matrix = weights.reshape(form)
            values[:, order] = matrix.T if turned else matrix
            return values if factor == 1 else values * np.float32(factor)

        rows = index.size // inputs
        if turns_out:
            other = (*flat_out.shape[:-2], flat_out.shape[-1], flat_out.shape[-2])
            flat_out = in_order(flat_out.size).reshape(other).swapaxes(-1, -2)
        tail = self.fusion.tail(node.output[0], flat_out, (rows, filters), add=True, pool=False)
        settings = {"kind": "linear", "operator": node.op_type, "reads": reads}
        self._store(self._name(node), tail, settings, self._made(node, constant, make, factor))

    def _rows(self, node: Any, name: str, index: Positions) -> tuple[str, Positions]:
        """The stored tensor whose rows are those of `index`, and where in a row each column lies."""
        value = self._read(node, name)
        count, inputs = index.shape
        table = value.positions.reshape(-1)[index]
        order = table[0]
        # A whole image is a row as it lies; of several rows of a matrix none is made.
        as_one = count == 1 and (len(value.stored.shape) == 3 or value.stored.shape[0] == 1)
        in_rows = as_one or value.stored.shape == (count, inputs)
        offsets = inputs * np.arange(count, dtype=np.int32)[:, None]
        if (
            in_rows
            and value.positions.size == prod(value.stored.shape)
            and np.array_equal(table, order + offsets)
        ):
            return value.stored.name, order
        return self._laid_out(node, name, index, (count, inputs)), in_order(inputs)

    def _product(self, node: Any) -> None:
        """A product of two activations, all heads in one layer."""
        graph = self.graph
        attributes = graph.attributes(node)
        for name in node.input[:2]:
            if name not in self.values and graph.constant(name) is not None:
                self._constant_operand(name)
        first, second = (
            in_order(prod(graph.shape(name))).reshape(graph.shape(name)) for name in node.input[:2]
        )
        first = first.swapaxes(-1, -2) if attributes.get("transA", 0) else first
        second = second.swapaxes(-1, -2) if attributes.get("transB", 0) else second
        out = made = graph.shape(node.output[0])
        # A vector is a matrix of one row, or of one column, and its axis is missing in the result.
        if second.ndim == 1:
            second, out = second[:, None], (*out, 1)
        if first.ndim == 1:
            first, out = first[None], (*out[:-1], 1, out[-1])
        first = np.broadcast_to(first, (*out[:-2], *first.shape[-2:]))
        second = np.broadcast_to(second, (*out[:-2], *second.shape[-2:]))
        groups, rows, depth, columns = prod(out[:-2]), first.shape[-2], first.shape[-1], out[-1]
        by_row = first.reshape(groups, rows, depth).transpose(1, 0, 2)
        reads = self._laid_out(node, node.input[0], by_row, (rows, groups * depth))
        apart = second.reshape(groups, depth, columns)
        transposed = self._is_stored(node.input[1], apart.transpose(1, 0, 2), (depth, groups * columns))
        order = apart.transpose(1, 0, 2) if transposed else apart.transpose(2, 0, 1)
        stored = (depth, groups * columns) if transposed else (columns, groups * depth)
        other = self._laid_out(node, node.input[1], order, stored)
        flat = in_order(rows * groups * columns).reshape(rows, groups, columns)
        positions = flat.transpose(1, 0, 2).reshape(made)
        shape = (rows, groups * columns)
        tail = self.fusion.tail(node.output[0], positions, shape, add=True, pool=False)
        settings = {
            "kind": "matmul",
            "operator": node.op_type,
            "reads": reads,
            "second": other,
            "transposed": transposed,
            "groups": groups,
        }
        self._store(self._name(node), tail, settings, None)

    def _is_stored(self, name: str, index: Positions, shape: tuple[int, ...]) -> bool:
        value = self.values.get(name)
        if value is None or value.stored.shape != shape or value.positions.size != index.size:
            return False
        if value.stored.parts:
            return False
        return same(value.positions.reshape(-1)[index.reshape(-1)], in_order(index.size))


def _kernels(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weights (K, C, k...) of a convolution over the last axis or two as (K, Ky, Kx, C)."""
    if weights.ndim != 4:
        weights = weights.reshape(*weights.shape[:2], 1, weights.shape[-1])
    return np.ascontiguousarray(weights.transpose(0, 2, 3, 1))


COMPUTE = ("conv", "linear", "matmul", "recurrence")
"""Kinds of layers with products."""

_ONE_ROW = {"kernel": 1, "stride": 1, "dilation": 1, "before": 0, "after": 0}


def _channels_last_index(shape: tuple[int, ...]) -> Positions:
    """Indices into a flat ONNX tensor (N, C, ...) in the order (N, ..., C)."""
    return np.moveaxis(in_order(prod(shape)).reshape(shape), 1, -1)


def _along_the_last(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of a convolution whose rows are not mixed."""
    (_, stride), (_, left, _, right), (_, dilation) = (
        settings["stride"],
        settings["padding"],
        settings["dilation"],
    )
    return {
        "stride": (1, stride),
        "padding": (0, left, 0, right),
        "dilation": (1, dilation),
        "groups": settings["groups"],
    }


def _transposed_windows(graph: Graph, node: Any, kernel: Any, size: Any, out: Any) -> Any:
    """Windows of a transposed convolution; `before` is what its output is cropped by."""
    attributes = graph.attributes(node)
    axes = len(size)
    stride = tuple(attributes.get("strides", (1,) * axes))
    dilation = tuple(attributes.get("dilations", (1,) * axes))
    extra = tuple(attributes.get("output_padding", (0,) * axes))
    auto = attributes.get("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER") or "output_shape" in attributes:
        # The output's shape decides: total = s * (n - 1) + extra + span - out.
        total = [
            s * (n - 1) + e + (k - 1) * d + 1 - o
            for s, n, e, k, d, o in zip(stride, size, extra, kernel, dilation, out, strict=True)
        ]
        half = tuple(t // 2 for t in total)
        rest = tuple(t - t // 2 for t in total)
        # onnxruntime's way; for an odd total the standard's text has it the other way round.
        before, after = (half, rest) if auto == "SAME_UPPER" else (rest, half)
    else:
        pads = (0,) * (2 * axes) if auto == "VALID" else tuple(attributes.get("pads", (0,) * (2 * axes)))
        before, after = pads[:axes], pads[axes:]
    if min((*before, *after), default=0) < 0:
        graph.refuse(node, "negative padding is not modelled: crop with a Slice before it")
    return Windows(tuple(kernel), stride, dilation, before, after)
