"""Networks written down as layer tables, with drawn values at stated precisions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from dpred_sim.errors import InputError
from dpred_sim.values.synthetic import synthetic_activations, synthetic_weights
from dpred_sim.values.tensor import LazyTensor
from dpred_sim.workload.layer import Layer, Pool
from dpred_sim.workload.network import INPUT, Network
from dpred_sim.workload.workload import Workload


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    filters: int
    kernel: int | None
    """None for a fully connected layer."""
    precision: int
    reads: str
    shortcut: str | None
    relu: bool
    options: Mapping[str, Any]


class SyntheticNetwork:
    """A layer table that grows row by row and becomes a workload of drawn values.

    `activations` is the (H, W, C) shape that the network reads, `bits` the width of a value in the
    uncompressed model, `weight_precision` the precision of all weights. A row states the precision of
    the activations that it reads; a precision above `bits` counts as `bits`.

    A layer's outputs and its consumer's activations are one and the same tensor, drawn once, so that
    what is stored is what is computed on. Its precision is the widest that its consumers state; a tensor
    that is only added as a shortcut, or that nothing reads, takes that of the layer that adds or writes
    it. After a ReLU a tensor is not negative; without one it is drawn from the signed distribution that
    weights have.
    """

    def __init__(
        self, activations: tuple[int, int, int], *, bits: int, seed: int, weight_precision: int
    ) -> None:
        self.activations = activations
        self.bits = bits
        self.seed = seed
        self.weight_precision = weight_precision
        self._rows: list[_Row] = []

    def conv2d(
        self,
        name: str,
        filters: int,
        kernel: int,
        *,
        precision: int,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        pool: Pool | None = None,
        reads: str | None = None,
        shortcut: str | None = None,
        relu: bool = True,
    ) -> str:
        """Append a convolution with a square kernel and return its name.

        `reads` defaults to the layer before; `shortcut` names the tensor that is added before the ReLU.
        """
        options = {"stride": stride, "padding": padding, "groups": groups, "pool": pool}
        return self._append(name, filters, kernel, precision, reads, shortcut, relu, options)

    def linear(
        self, name: str, filters: int, *, precision: int, reads: str | None = None, relu: bool = True
    ) -> str:
        """Append a fully connected layer, which flattens what it reads, and return its name."""
        return self._append(name, filters, None, precision, reads, None, relu, {})

    def workload(self, name: str, source: str) -> Workload:
        """The table as a workload. Raises InputError for rows that do not fit together."""
        network = Network()
        tensors: dict[str, LazyTensor] = {}
        precisions = dict(self._precisions())
        for row in self._rows:
            if row.reads == INPUT and INPUT not in tensors:
                tensors[INPUT] = self._tensor(INPUT, self.activations, precisions[INPUT], relu=True)
            if row.reads not in tensors:
                raise InputError(
                    "reads a tensor that no layer before writes",
                    field=f"layer {row.name!r}",
                    found=row.reads,
                    allowed=list(tensors),
                )
            layer = self._layer(row, tensors[row.reads])
            outputs = self._tensor(row.name, layer.output_shape, precisions[row.name], row.relu)
            tensors[row.name] = outputs
            network.add(replace(layer, outputs=outputs), reads=row.reads, shortcut=row.shortcut)
        stated = {row.name: min(row.precision, self.bits) for row in self._rows}
        provenance = {
            "seed": self.seed,
            "activation_precision_bits": stated,
            "weight_precision_bits": min(self.weight_precision, self.bits),
        }
        return Workload(name, network, self.bits, source=source, synthetic=True, provenance=provenance)

    def _append(
        self,
        name: str,
        filters: int,
        kernel: int | None,
        precision: int,
        reads: str | None,
        shortcut: str | None,
        relu: bool,
        options: Mapping[str, Any],
    ) -> str:
        if reads is None:
            reads = self._rows[-1].name if self._rows else INPUT
        self._rows.append(_Row(name, filters, kernel, precision, reads, shortcut, relu, options))
        return name

    def _precisions(self) -> Iterator[tuple[str, int]]:
        """The precision of each tensor, before it is cut to `bits`."""
        own = {row.name: row.precision for row in self._rows}
        for name in (INPUT, *own):
            read = [row.precision for row in self._rows if row.reads == name]
            added = [row.precision for row in self._rows if row.shortcut == name]
            yield name, max(read or added or [own.get(name, self.bits)])

    def _layer(self, row: _Row, activations: LazyTensor) -> Layer:
        if row.kernel is None:
            channels = 1
            for size in activations.shape:
                channels *= size
            return Layer.linear(row.name, activations, self._weights(row.name, (row.filters, channels)))
        channels = activations.shape[-1] // row.options["groups"]
        weights = self._weights(row.name, (row.filters, row.kernel, row.kernel, channels))
        return Layer.conv2d(row.name, activations, weights, **row.options)

    def _weights(self, layer: str, shape: tuple[int, ...]) -> LazyTensor:
        precision = min(self.weight_precision, self.bits)
        return synthetic_weights(shape, self.bits, precision, self.seed, f"{layer}.weights")

    def _tensor(self, name: str, shape: tuple[int, ...], precision: int, relu: bool) -> LazyTensor:
        make = synthetic_activations if relu else synthetic_weights
        return make(shape, self.bits, min(precision, self.bits), self.seed, name)
