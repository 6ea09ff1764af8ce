"""Networks: layers and the edges between them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from dpred_sim.errors import InputError, nearest
from dpred_sim.values.tensor import TensorSource
from dpred_sim.workload.layer import Layer

INPUT = "input"
"""Name of the tensor that the network reads."""


@dataclass(frozen=True, slots=True)
class Node:
    """A layer in its place: it reads the outputs of `reads`, and adds those of `shortcut`."""

    layer: Layer
    reads: str
    shortcut: str | None = None

    @property
    def name(self) -> str:
        """The layer's name, which is also the name of the tensor that it writes."""
        return self.layer.name


class Network:
    """Layers in execution order; a tensor is named after the layer that writes it."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._written: dict[str, tuple[int, ...]] = {}

    def add(self, layer: Layer, reads: str | None = None, shortcut: str | None = None) -> str:
        """Append a layer and return its name.

        `reads` defaults to the layer before (or `INPUT`). Raises InputError when a tensor that the
        layer reads was not written before, or has another shape than the layer expects.
        """
        if reads is None:
            reads = self.nodes[-1].name if self.nodes else INPUT
        if layer.name in self._written or layer.name == INPUT:
            raise InputError("two layers have the same name", field="name", found=layer.name)
        if reads == INPUT and INPUT not in self._written:
            self._written[INPUT] = tuple(layer.activations.shape)
        for source in (reads, shortcut):
            if source is not None and source not in self._written:
                raise InputError(
                    f"reads a tensor that no layer before writes{nearest(source, self._written)}",
                    field=f"layer {layer.name!r}",
                    found=source,
                    allowed=list(self._written),
                )
        written = self._written[reads]
        if prod(written) != prod(layer.activations.shape):
            raise InputError(
                f"its activations are not what {reads!r} writes",
                field=f"layer {layer.name!r}",
                found=str(layer.activations.shape),
                allowed=str(written),
            )
        if shortcut is not None:
            unpooled = (layer.conv_height, layer.conv_width, layer.filters)
            if prod(self._written[shortcut]) != prod(unpooled):
                raise InputError(
                    f"the shortcut {shortcut!r} has another shape",
                    field=f"layer {layer.name!r}",
                    found=str(self._written[shortcut]),
                    allowed=str(unpooled),
                )
        self.nodes.append(Node(layer, reads, shortcut))
        self._written[layer.name] = layer.output_shape
        return layer.name

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    def tensor(self, name: str) -> TensorSource | None:
        """The stored tensor called `name`; None when its layer has no `outputs` (stored raw)."""
        if name == INPUT:
            return next(node.layer.activations for node in self.nodes if node.reads == INPUT)
        return next(node.layer.outputs for node in self.nodes if node.name == name)

    def tensor_shape(self, name: str) -> tuple[int, ...]:
        """Shape of the stored tensor called `name`."""
        return self._written[name]

    def readers(self, name: str) -> list[int]:
        """Indices of the layers that read the tensor, as activations or shortcut."""
        return [i for i, node in enumerate(self.nodes) if name in (node.reads, node.shortcut)]
