"""Networks: layers and the edges between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from dpred_sim.errors import InputError, nearest
from dpred_sim.values.tensor import Tensor, TensorSource
from dpred_sim.workload.layer import Layer, Pair
from dpred_sim.workload.views import Join, Stack, View, gates_by_unit, row

INPUT = "input"
"""Name of the tensor that the network reads."""


@dataclass(frozen=True, slots=True)
class Part:
    """Rows and channels of a tensor that a memory layer reads, (first, last + 1)."""

    name: str
    rows: Pair
    channels: Pair


@dataclass(frozen=True)
class Reset:
    """The product that makes the reset gate of a GRU which works before the other product.

    `weights` (2H, H) hold update and reset gate of each unit side by side, `outputs` (T, H) are the
    states as the reset gate lets them through, and `reads` is the projected input of both gates (T, 2H).
    """

    weights: TensorSource
    outputs: TensorSource
    reads: str


@dataclass(frozen=True, slots=True)
class Node:
    """A layer in its place: it reads the outputs of `reads`, and adds those of `shortcut`.

    With `shortcut_row` it adds that row alone. `second` is the tensor that a product of two activations
    multiplies with. Layers of one `family` are steps of one recurrence. A move reads `parts`, the first
    of them of `reads`.
    """

    layer: Layer
    reads: str
    shortcut: str | None = None
    second: str | None = None
    shortcut_row: int | None = None
    family: str = ""
    parts: tuple[Part, ...] = ()

    @property
    def name(self) -> str:
        """The layer's name, which is also the name of the tensor that it writes."""
        return self.layer.name


class Network:
    """Layers in execution order; a tensor is named after the layer that writes it.

    Beside the layers' there are tensors that are in memory at the start (`given`), and tensors whose
    rows several layers write (`stack`).
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.stacks: dict[str, tuple[str, ...]] = {}
        """Tensors that are put together of others, by name: their parts from top to bottom."""
        self.joins: dict[str, tuple[str, ...]] = {}
        """Tensors whose channels several layers write, by name: their parts in order."""
        self._written: dict[str, tuple[int, ...]] = {}
        self._made: dict[str, TensorSource | None] = {}
        self._readers: dict[str, list[int]] = {}
        self._nodes_by_name: dict[str, Node] = {}

    def add(
        self,
        layer: Layer,
        reads: str | None = None,
        shortcut: str | None = None,
        second: str | None = None,
        shortcut_row: int | None = None,
        family: str = "",
    ) -> str:
        """Append a layer and return its name.

        `reads` defaults to the layer before (or `INPUT`). A product of two activations needs `second`.
        Raises InputError when a tensor that the layer reads was not written before, or has another shape
        than the layer expects.
        """
        if reads is None:
            reads = self.nodes[-1].name if self.nodes else INPUT
        self._check_name(layer.name)
        if reads == INPUT and INPUT not in self._written:
            self._written[INPUT] = tuple(layer.activations.shape)
        if (second is None) != (layer.second is None):
            raise InputError(
                "a product of two activations reads a second tensor, and no other layer does",
                field=f"layer {layer.name!r}: second",
                found=str(second),
            )
        for source in (reads, shortcut, second):
            self._check_written(layer.name, source)
        activations = "its activations are not what {!r} writes"
        self._check_size(layer.name, activations, reads, tuple(layer.activations.shape))
        if second in self.joins:
            raise InputError(
                "its second operand lies in several tensors: move it first",
                field=f"layer {layer.name!r}: second",
                found=second,
            )
        if second is not None and layer.second is not None:
            written, wanted = tuple(self._written[second]), tuple(layer.second.shape)
            if written != wanted:
                raise InputError(
                    f"its second operand is not what {second!r} writes",
                    field=f"layer {layer.name!r}",
                    found=str(wanted),
                    allowed=str(written),
                )
        if shortcut is not None:
            self._check_shortcut(layer, shortcut, shortcut_row)
        node = Node(layer, reads, shortcut, second, shortcut_row, family)
        return self._enter(node, [source for source in (reads, shortcut, second) if source is not None])

    def _enter(self, node: Node, sources: Sequence[str]) -> str:
        for source in dict.fromkeys(sources):
            for part in (source, *self.stacks.get(source, ()), *self.joins.get(source, ())):
                self._readers.setdefault(part, []).append(len(self.nodes))
        self.nodes.append(node)
        self._nodes_by_name[node.name] = node
        self._written[node.name] = node.layer.output_shape
        return node.name

    def move(
        self,
        name: str,
        parts: Sequence[Part | str],
        outputs: TensorSource | tuple[int, ...],
        tensors: Sequence[TensorSource] | None = None,
    ) -> str:
        """Append a memory layer that reads (parts of) tensors and writes one; returns its name.

        `tensors` are the values of the parts, where the network does not know them all. Raises
        InputError as `add` and `Layer.move` do, and for a part outside its tensor.
        """
        taken = [self._part(name, part) for part in parts]
        if not taken:
            raise InputError("a memory layer reads something", field=f"layer {name!r}")
        if tensors is None:
            whole = [self.tensor(part.name) for part in taken]
            tensors = [source for source in whole if source is not None]
        if len(tensors) != len(taken):
            raise InputError("reads a tensor whose values are not known", field=f"layer {name!r}")
        pieces = [self._cut(source, part) for source, part in zip(tensors, taken, strict=True)]
        layer = Layer.move(name, pieces[0], outputs, pieces[1:])
        self._check_name(name)
        return self._enter(Node(layer, taken[0].name, parts=tuple(taken)), [part.name for part in taken])

    def _part(self, layer: str, part: Part | str) -> Part:
        name = part if isinstance(part, str) else part.name
        self._check_written(layer, name)
        shape = self._written[name]
        rows, channels = (shape[0] if len(shape) > 1 else 1), shape[-1]
        if isinstance(part, str):
            return Part(part, (0, rows), (0, channels))
        for what, (first, last), size in (("rows", part.rows, rows), ("channels", part.channels, channels)):
            if not 0 <= first < last <= size:
                raise InputError(
                    f"reads {what} that {name!r} does not have",
                    field=f"layer {layer!r}",
                    found=f"{first} to {last}",
                    allowed=f"0 to {size}",
                )
        return part

    def _cut(self, source: TensorSource, part: Part) -> TensorSource:
        """The values of a part."""
        shape = tuple(source.shape)
        if len(shape) == 1:
            shape = (1, *shape)
        (top, bottom), (first, last) = part.rows, part.channels
        if (bottom - top, last - first) == (shape[0], shape[-1]):
            return source
        cut = (bottom - top, *shape[1:-1], last - first)
        return View(source, cut, lambda values: values.reshape(shape)[top:bottom, ..., first:last])

    def given(self, name: str, tensor: TensorSource) -> str:
        """Declare a tensor that is off chip at the start, the input or one like it; returns its name."""
        if name != INPUT or INPUT in self._written:
            self._check_name(name)
        self._written[name] = tuple(tensor.shape)
        self._made[name] = tensor
        return name

    def stack(self, name: str, parts: Sequence[str], tensor: TensorSource | None = None) -> str:
        """Name the tensor that the rows of `parts`, (T_i, C), make one below the other.

        `tensor` are its values where they are at hand as one. Raises InputError for parts that are not
        rows of one length, or that no layer writes.
        """
        self._check_name(name)
        for part in parts:
            self._check_written(name, part)
        shapes = [self._written[part] for part in parts]
        if not shapes or any(len(shape) != 2 or shape[1] != shapes[0][1] for shape in shapes):
            raise InputError("not rows of one length", field=f"stack {name!r}", found=str(shapes))
        if any(part in self.stacks or part in self._made or part == INPUT for part in parts):
            raise InputError("only outputs of layers can be stacked", field=f"stack {name!r}")
        if tensor is None:
            sources = [self.tensor(part) for part in parts]
            known = [source for source in sources if source is not None]
            tensor = Stack(known) if len(known) == len(sources) else None
        self.stacks[name] = tuple(parts)
        self._written[name] = (sum(shape[0] for shape in shapes), shapes[0][1])
        self._made[name] = tensor
        return name

    def concat(self, name: str, parts: Sequence[str]) -> str:
        """Name the tensor that `parts`, (H, W, C_i) or (T, C_i), make side by side; returns the name.

        Nothing moves: each part is stored for itself, and who reads the whole reads all of them.
        Raises InputError for parts of different sizes, or that no layer writes.
        """
        self._check_name(name)
        for part in parts:
            self._check_written(name, part)
        parts = [inner for part in parts for inner in self.joins.get(part, (part,))]
        shapes = [self._written[part] for part in parts]
        if not shapes or len({shape[:-1] for shape in shapes}) > 1 or len(shapes[0]) not in (2, 3):
            raise InputError("not tensors of one plane", field=f"concat {name!r}", found=str(shapes))
        if any(part in self.stacks for part in parts) or len(set(parts)) < len(parts):
            raise InputError(
                "each part is one tensor, and another one", field=f"concat {name!r}", found=list(parts)
            )
        sources = [self.tensor(part) for part in parts]
        known = [source for source in sources if source is not None]
        self.joins[name] = tuple(parts)
        self._written[name] = (*shapes[0][:-1], sum(shape[-1] for shape in shapes))
        self._made[name] = Join(known) if len(known) == len(sources) else None
        return name

    def with_weights(self, weights: Mapping[str, TensorSource]) -> Network:
        """The same network, where the named layers have other weights of the same shape."""
        made = Network()
        vars(made).update({name: value.copy() for name, value in vars(self).items()})
        for name, tensor in weights.items():
            layer = self._nodes_by_name[name].layer
            if layer.weights is None or tuple(layer.weights.shape) != tuple(tensor.shape):
                raise InputError(
                    "other weights of another shape", field=f"layer {name!r}", found=tensor.shape
                )
        made.nodes = [
            replace(node, layer=replace(node.layer, weights=weights.get(node.name, node.layer.weights)))
            for node in self.nodes
        ]
        made._nodes_by_name = {node.name: node for node in made.nodes}
        return made

    def recurrence(
        self,
        name: str,
        weights: TensorSource,
        outputs: TensorSource,
        gates: int,
        reads: str | None = None,
        initial: TensorSource | None = None,
        reverse: bool = False,
        initial_name: str | None = None,
        reset: Reset | None = None,
    ) -> str:
        """Append the steps of a recurrence and return the name of its hidden states.

        `reads` is the projected input (T, gates * H), defaulting to the layer before; step t adds its row
        t to the product of `weights` (gates * H, H) with the hidden state before, and post-processing
        makes row t of `outputs` (T, H) of that. Rows of both are by unit: all gates of a unit side by
        side. Steps are called `name.h[t]` and share `weights`; the hidden states together are `name`.
        `initial` is the state before the first step (1, H), zero by default; `initial_name` is the tensor
        that holds it, where it is not one of its own. With `reverse` steps go from the last row to the
        first. With `reset` a step takes two layers: `name.r[t]` makes the state that the reset gate lets
        through, and `name.h[t]` multiplies that. Raises InputError.
        """
        if reads is None:
            reads = self.nodes[-1].name if self.nodes else INPUT
        if len(outputs.shape) != 2:
            raise InputError("hidden states are (T, H)", field=f"layer {name!r}", found=str(outputs.shape))
        steps, units = outputs.shape
        self._check_written(name, reads)
        if tuple(self._written[reads]) != (steps, gates * units):
            raise InputError(
                f"the input projected by {reads!r} does not fit the hidden states",
                field=f"layer {name!r}",
                found=str(self._written[reads]),
                allowed=str((steps, gates * units)),
            )
        if initial is None:
            initial = Tensor(np.zeros((1, units), np.int64), outputs.bits, outputs.signed, outputs.precision)
        state = initial
        before = self.given(f"{name}.h[-1]", initial) if initial_name is None else initial_name
        written: list[str] = []
        for step in reversed(range(steps)) if reverse else range(steps):
            made = row(outputs, step)
            if reset is not None:
                through = row(reset.outputs, step)
                gate = Layer.linear(f"{name}.r[{step}]", state, reset.weights, through, gates=2)
                before = self.add(gate, before, shortcut=reset.reads, shortcut_row=step, family=f"{name}.r")
                state = through
            layer = Layer.linear(f"{name}.h[{step}]", state, weights, made, gates=gates)
            before = self.add(layer, before, shortcut=reads, shortcut_row=step, family=f"{name}.h")
            written.append(before)
            state = made
        return self.stack(name, written[::-1] if reverse else written, outputs)

    def lstm(
        self,
        name: str,
        activations: TensorSource,
        input_weights: TensorSource,
        recurrent_weights: TensorSource,
        outputs: TensorSource,
        projected: TensorSource | None = None,
        reads: str | None = None,
        initial: TensorSource | None = None,
    ) -> str:
        """Append an LSTM on `activations` (T, C); returns the name of its hidden states `outputs` (T, H).

        `input_weights` are (4H, C) and `recurrent_weights` (4H, H), gate after gate as frameworks keep
        them. The input is projected for all steps by one linear layer, `name.x`; `projected` (T, 4H) is
        what it stores, None where nobody knows (then it counts raw). Gates and element-wise work are
        post-processing, and the cell state stays in it. Raises InputError.
        """
        operands = (activations, input_weights, recurrent_weights, outputs, projected, reads, initial)
        return self._recurrent(name, 4, *operands)

    def gru(
        self,
        name: str,
        activations: TensorSource,
        input_weights: TensorSource,
        recurrent_weights: TensorSource,
        outputs: TensorSource,
        projected: TensorSource | None = None,
        reads: str | None = None,
        initial: TensorSource | None = None,
    ) -> str:
        """Append a GRU, see `lstm`: weights are (3H, C) and (3H, H).

        The reset gate works on the product (`linear_before_reset`, as in PyTorch and Keras): a step is
        one matrix product.
        """
        operands = (activations, input_weights, recurrent_weights, outputs, projected, reads, initial)
        return self._recurrent(name, 3, *operands)

    def _recurrent(
        self,
        name: str,
        gates: int,
        activations: TensorSource,
        input_weights: TensorSource,
        recurrent_weights: TensorSource,
        outputs: TensorSource,
        projected: TensorSource | None,
        reads: str | None,
        initial: TensorSource | None,
    ) -> str:
        for what, tensor in (("input", input_weights), ("recurrent", recurrent_weights)):
            if len(tensor.shape) != 2 or tensor.shape[0] % gates:
                raise InputError(
                    f"{what} weights hold {gates} gates",
                    field=f"layer {name!r}",
                    found=str(tuple(tensor.shape)),
                    allowed=f"({gates} * H, C)",
                )
        stored = None if projected is None else gates_by_unit(projected, gates, 1)
        layer = Layer.linear(f"{name}.x", activations, gates_by_unit(input_weights, gates, 0), stored)
        self.add(layer, reads)
        return self.recurrence(
            name, gates_by_unit(recurrent_weights, gates, 0), outputs, gates, layer.name, initial
        )

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    def tensor(self, name: str) -> TensorSource | None:
        """The stored tensor called `name`; None when its layer has no `outputs` (stored raw)."""
        if name in self._made:
            return self._made[name]
        if name == INPUT:
            for node in self.nodes:
                if node.reads == INPUT:
                    return node.layer.activations
                if node.second == INPUT:
                    return node.layer.second
        return self._nodes_by_name[name].layer.outputs

    def tensor_shape(self, name: str) -> tuple[int, ...]:
        """Shape of the stored tensor called `name`."""
        return self._written[name]

    def readers(self, name: str) -> list[int]:
        """Indices of the layers that read the tensor: as activations, shortcut or second operand.

        Who reads a stack reads its parts.
        """
        return list(self._readers.get(name, ()))

    def _check_name(self, name: str) -> None:
        if name in self._written or name == INPUT:
            raise InputError("two layers have the same name", field="name", found=name)

    def _check_written(self, layer: str, source: str | None) -> None:
        if source is not None and source not in self._written:
            raise InputError(
                f"reads a tensor that no layer before writes{nearest(source, self._written)}",
                field=f"layer {layer!r}",
                found=source,
                allowed=list(self._written),
            )

    def _check_size(self, layer: str, what: str, source: str, shape: tuple[int, ...]) -> None:
        if prod(self._written[source]) != prod(shape):
            raise InputError(
                what.format(source),
                field=f"layer {layer!r}",
                found=str(shape),
                allowed=str(self._written[source]),
            )

    def _check_shortcut(self, layer: Layer, shortcut: str, shortcut_row: int | None) -> None:
        unpooled = (layer.conv_height, layer.conv_width, layer.filters)
        found = self._written[shortcut]
        if shortcut_row is not None:
            if len(found) != 2 or not 0 <= shortcut_row < found[0]:
                raise InputError(
                    f"the shortcut {shortcut!r} has no row {shortcut_row}",
                    field=f"layer {layer.name!r}",
                    found=str(found),
                )
            found = found[1:]
        if prod(found) != prod(unpooled):
            raise InputError(
                f"the shortcut {shortcut!r} has another shape",
                field=f"layer {layer.name!r}",
                found=str(found),
                allowed=str(unpooled),
            )
