"""Layers: shapes, operands and what follows in post-processing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dpred_sim.errors import InputError
from dpred_sim.values.tensor import TensorSource
from dpred_sim.workload.views import regrouped, reshaped

Kind = Literal["conv", "linear", "pool", "add", "move"]
Pair = tuple[int, int]
Edges = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Pool:
    """A pooling window: `size` and `stride` are (y, x), `padding` is (top, left, bottom, right)."""

    mode: Literal["max", "average"]
    size: Pair
    stride: Pair
    padding: Edges = (0, 0, 0, 0)

    def output_size(self, height: int, width: int) -> Pair:
        """(height, width) after pooling; windows that hang over the padded edge are dropped."""
        top, left, bottom, right = self.padding
        return (
            (height + top + bottom - self.size[0]) // self.stride[0] + 1,
            (width + left + right - self.size[1]) // self.stride[1] + 1,
        )


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer of a network.

    `activations` is (H, W, C), or (T, C) for `linear`; `weights` is (K, Ky, Kx, C / groups) or (K, C),
    None for the memory layers `pool`, `add` and `move`. `outputs` is the tensor as stored: after bias, batch
    norm, activation, residual add and fused pooling; None means stored raw. `pool` is the pooling
    fused behind the layer (or the pooling itself for kind `pool`).

    `second` is the second operand of a product of two activations, as it is stored: `weights` is the
    same regrouped. With `gates` above 1 post-processing makes one output of that many neighbouring
    filters.
    A `move` reads `activations` and `more`, tensors of any shape, and writes `outputs` of any other.
    Build one with `conv2d`, `linear`, `matmul`, `pooling`, `add` or `move`: they check the shapes.
    """

    name: str
    kind: Kind
    activations: TensorSource
    weights: TensorSource | None = None
    outputs: TensorSource | None = None
    stride: Pair = (1, 1)
    padding: Edges = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    pool: Pool | None = None
    second: TensorSource | None = None
    transposed: bool = False
    """`second` is (C, groups * K) and is transposed on its way to the tiles, not (K, groups * C)."""
    gates: int = 1
    more: tuple[TensorSource, ...] = ()
    shape: tuple[int, ...] | None = None
    """Shape of the outputs of a `move`."""

    @classmethod
    def conv2d(
        cls,
        name: str,
        activations: TensorSource,
        weights: TensorSource,
        outputs: TensorSource | None = None,
        stride: int | Pair = 1,
        padding: int | Edges = 0,
        dilation: int | Pair = 1,
        groups: int = 1,
        pool: Pool | None = None,
    ) -> Layer:
        """A convolution; `padding` is one number or (top, left, bottom, right). Raises InputError."""
        layer = cls(
            name,
            "conv",
            activations,
            weights,
            outputs,
            _pair(name, "stride", stride, 1),
            _edges(name, padding),
            _pair(name, "dilation", dilation, 1),
            groups,
            pool,
        )
        _need(name, "activations", len(activations.shape) == 3, activations.shape, "(H, W, C)")
        _need(name, "weights", len(weights.shape) == 4, weights.shape, "(K, Ky, Kx, C / groups)")
        filters, _, _, channels = weights.shape
        if not isinstance(groups, int) or groups < 1:
            raise InputError("not a positive integer", field=f"layer {name!r}: groups", found=groups)
        _need(name, "groups", filters % groups == 0, groups, f"a divisor of the {filters} filters")
        _need(
            name,
            "weights",
            channels * groups == activations.shape[2],
            f"{channels} channels a filter x {groups} groups",
            f"the {activations.shape[2]} channels of the activations",
        )
        _need(
            name,
            "weights",
            min(layer.conv_height, layer.conv_width) >= 1,
            f"a kernel of {layer.kernel} on activations of {activations.shape[:2]}",
            "a kernel that fits the padded activations",
        )
        layer._check_outputs()
        return layer

    @classmethod
    def linear(
        cls,
        name: str,
        activations: TensorSource,
        weights: TensorSource,
        outputs: TensorSource | None = None,
        gates: int = 1,
    ) -> Layer:
        """A fully connected layer on (T, C) activations (a (C,) vector or (H, W, C) counts as (1, C)).

        With `gates` above 1 outputs are (T, K / gates): filters of one unit stand side by side.
        """
        layer = cls(name, "linear", activations, weights, outputs, gates=gates)
        _need(name, "weights", len(weights.shape) == 2, weights.shape, "(K, C)")
        _need(name, "weights", weights.shape[1] == layer.channels, weights.shape, f"(K, {layer.channels})")
        fits = isinstance(gates, int) and gates >= 1 and weights.shape[0] % gates == 0
        _need(name, "gates", fits, gates, f"a divisor of the {weights.shape[0]} filters")
        layer._check_outputs()
        return layer

    @classmethod
    def matmul(
        cls,
        name: str,
        activations: TensorSource,
        second: TensorSource,
        outputs: TensorSource | None = None,
        *,
        transposed: bool = False,
        groups: int = 1,
    ) -> Layer:
        """A product of two activations: (T, groups * C) with (K, groups * C) gives (T, groups * K).

        Group g multiplies channels [g * C, (g + 1) * C) of both operands: a group is an attention head.
        `transposed`: the second operand is (C, groups * K), and the reduction runs over its rows.
        Designs see a linear layer, with several groups a 1 x 1 convolution in groups; its weights are
        the second operand regrouped along the reduction. Raises InputError.
        """
        _need(name, "activations", len(activations.shape) == 2, activations.shape, "(T, groups * C)")
        _need(name, "second", len(second.shape) == 2, second.shape, "(K, groups * C) or (C, groups * K)")
        positive = isinstance(groups, int) and not isinstance(groups, bool) and groups >= 1
        _need(name, "groups", positive, groups, "a positive integer")
        channels, cut = activations.shape[1], second.shape[1]
        fits = channels % groups == 0 and cut % groups == 0
        _need(name, "groups", fits, groups, f"a divisor of {channels} and {cut} channels")
        depth = second.shape[0] if transposed else cut // groups
        _need(
            name, "second", depth * groups == channels, second.shape, f"a reduction over {channels // groups}"
        )
        weights = regrouped(second, groups, transposed)
        if groups == 1:
            layer = cls(name, "linear", activations, weights, outputs, second=second, transposed=transposed)
        else:
            image = reshaped(activations, (activations.shape[0], 1, channels))
            kernels = reshaped(weights, (weights.shape[0], 1, 1, depth))
            layer = cls(
                name,
                "conv",
                image,
                kernels,
                outputs,
                groups=groups,
                second=second,
                transposed=transposed,
            )
        layer._check_outputs()
        return layer

    @classmethod
    def pooling(
        cls, name: str, activations: TensorSource, pool: Pool, outputs: TensorSource | None = None
    ) -> Layer:
        """A pooling that cannot be fused: a memory layer of its own."""
        _need(name, "activations", len(activations.shape) == 3, activations.shape, "(H, W, C)")
        layer = cls(name, "pool", activations, None, outputs, pool=pool)
        layer._check_outputs()
        return layer

    @classmethod
    def add(cls, name: str, activations: TensorSource, outputs: TensorSource | None = None) -> Layer:
        """An element-wise operation that cannot be fused: a memory layer of its own.

        The second operand, if there is one, is the shortcut of the layer's node.
        """
        _need(name, "activations", len(activations.shape) in (2, 3), activations.shape, "(H, W, C) or (T, C)")
        layer = cls(name, "add", activations, None, outputs)
        layer._check_outputs()
        return layer

    @classmethod
    def move(
        cls,
        name: str,
        activations: TensorSource,
        outputs: TensorSource | tuple[int, ...],
        more: Sequence[TensorSource] = (),
    ) -> Layer:
        """A memory layer that reads tensors once and writes one, whatever becomes of the values between.

        Concatenation, resizing, transposing, products with gates: what has no inner products. `outputs`
        is the tensor, or its shape where the values are not known. Raises InputError.
        """
        for what, source in (("activations", activations), *(("more", source) for source in more)):
            fits = len(source.shape) in (1, 2, 3) and min(source.shape) > 0
            _need(name, what, fits, source.shape, "(H, W, C), (T, C) or (C,)")
        known = None if isinstance(outputs, tuple) else outputs
        shape = tuple(outputs) if isinstance(outputs, tuple) else tuple(outputs.shape)
        _need(name, "outputs", len(shape) in (2, 3) and min(shape) > 0, shape, "(H, W, C) or (T, C)")
        return cls(name, "move", activations, None, known, more=tuple(more), shape=shape)

    @property
    def height(self) -> int:
        """Rows of the activations (positions T for `linear`)."""
        shape = self.activations.shape
        if self.kind == "linear":
            return shape[0] if len(shape) == 2 else 1
        return shape[0]

    @property
    def width(self) -> int:
        """Positions a row of the activations."""
        return 1 if self.kind == "linear" or self._in_rows else self.activations.shape[1]

    @property
    def channels(self) -> int:
        """Channels of the activations; a flattened tensor counts as one position."""
        if self.kind == "linear" and len(self.activations.shape) != 2:
            product = 1
            for size in self.activations.shape:
                product *= size
            return product
        return self.activations.shape[-1]

    @property
    def filters(self) -> int:
        """Output channels K."""
        if self.shape is not None:
            return self.shape[-1]
        return self.channels if self.weights is None else self.weights.shape[0]

    @property
    def kernel(self) -> Pair:
        """Kernel size (Ky, Kx)."""
        if self.kind == "conv" and self.weights is not None:
            return self.weights.shape[1], self.weights.shape[2]
        return 1, 1

    @property
    def conv_height(self) -> int:
        """Rows of windows (before fused pooling); what a move takes at a time."""
        if self.shape is not None:
            return max(self.source_rows, self.shape[0])
        top, _, bottom, _ = self.padding
        span = (self.kernel[0] - 1) * self.dilation[0] + 1
        return (self.height + top + bottom - span) // self.stride[0] + 1

    @property
    def conv_width(self) -> int:
        """Windows a row (before fused pooling)."""
        if self.shape is not None:
            return 1
        _, left, _, right = self.padding
        span = (self.kernel[1] - 1) * self.dilation[1] + 1
        return (self.width + left + right - span) // self.stride[1] + 1

    @property
    def windows(self) -> int:
        """Windows of the layer: output positions before fused pooling."""
        return self.conv_height * self.conv_width

    @property
    def output_channels(self) -> int:
        """Channels of the stored outputs: the filters, unless post-processing joins gates."""
        return self.filters // self.gates

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the tensor that leaves post-processing: (H, W, K), or (T, K) without an image."""
        if self.shape is not None:
            return self.shape
        if self.kind == "linear" or self._in_rows or self.second is not None:
            return (self.height, self.output_channels)
        height, width = self.conv_height, self.conv_width
        if self.pool is not None:
            height, width = self.pool.output_size(height, width)
        return (height, width, self.filters)

    @property
    def source_rows(self) -> int:
        """Rows of all tensors that a move reads."""
        return sum(x.shape[0] if len(x.shape) > 1 else 1 for x in (self.activations, *self.more))

    @property
    def _in_rows(self) -> bool:
        """A memory layer on (T, C)."""
        return self.kind == "add" and len(self.activations.shape) == 2

    @property
    def is_depthwise(self) -> bool:
        """One input channel a filter and as many groups as channels."""
        return self.kind == "conv" and self.groups > 1 and self.groups == self.channels

    @property
    def macs(self) -> int:
        """Multiply-accumulates, products with padding zeros included."""
        if self.weights is None:
            return 0
        ky, kx = self.kernel
        return self.windows * self.filters * ky * kx * (self.channels // self.groups)

    def _check_outputs(self) -> None:
        if min(self.output_shape) < 1:
            raise InputError(
                "the layer has no outputs", field=f"layer {self.name!r}", found=self.output_shape
            )
        if self.outputs is not None:
            shape = tuple(self.outputs.shape)
            same = shape == self.output_shape or (self.kind == "linear" and shape == self.output_shape[1:])
            _need(self.name, "outputs", same, shape, self.output_shape)


def _need(layer: str, field: str, holds: bool, found: object, allowed: object) -> None:
    if not holds:
        raise InputError(
            "shapes do not fit", field=f"layer {layer!r}: {field}", found=str(found), allowed=str(allowed)
        )


def _pair(layer: str, field: str, value: int | Pair, least: int) -> Pair:
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or not all(isinstance(v, int) and v >= least for v in pair):
        raise InputError(
            "bad value",
            field=f"layer {layer!r}: {field}",
            found=str(value),
            allowed=f"n or (y, x), >= {least}",
        )
    return pair


def _edges(layer: str, value: int | Edges) -> Edges:
    edges = (value,) * 4 if isinstance(value, int) else tuple(value)
    if len(edges) != 4 or not all(isinstance(v, int) and v >= 0 for v in edges):
        raise InputError(
            "bad value",
            field=f"layer {layer!r}: padding",
            found=str(value),
            allowed="n or (top, left, bottom, right), >= 0",
        )
    return edges
