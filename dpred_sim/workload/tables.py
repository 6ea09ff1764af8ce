"""Networks written down as layer tables, with drawn values at stated precisions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from dpred_sim.errors import InputError
from dpred_sim.values.fitted import fitted_activations, fitted_weights
from dpred_sim.values.synthetic import synthetic_activations, synthetic_weights
from dpred_sim.values.tensor import LazyTensor, TensorSource
from dpred_sim.workload.layer import Edges, Layer, Pair, Pool
from dpred_sim.workload.network import INPUT, Network
from dpred_sim.workload.views import Values, View
from dpred_sim.workload.workload import Workload


@dataclass(frozen=True, slots=True)
class _Row:
    """One row of a table.

    `append` adds it to the network, given the tensor that it reads (None if none) and the precision of
    what it writes, and returns that. `precision` is what it states for what it reads, None for a row
    that only names tensors.
    """

    name: str
    reads: tuple[str, ...]
    precision: int | None
    append: Callable[[Network, Any, int], TensorSource]
    shortcut: str | None = None


class SyntheticNetwork:
    """A layer table that grows row by row and becomes a workload of drawn values.

    `activations` is the (H, W, C) or (T, C) shape that the network reads, `bits` the width of a value in
    the uncompressed model, `weight_precision` the precision of all weights. A row states the precision of
    the activations that it reads; a precision above `bits` counts as `bits`. `sparsity` of a row (or of
    the table) is the share of its weights that pruning made zero; `signed` says that what the network
    reads can be negative.

    A layer's outputs and its consumer's activations are one and the same tensor, drawn once, so that
    what is stored is what is computed on. Its precision is the widest that its consumers state; a tensor
    that is only added as a shortcut, or that nothing reads, takes that of the layer that adds or writes
    it. After a ReLU a tensor is not negative; without one it is drawn from the signed distribution that
    weights have. Values come from `values.fitted`, or from the simpler `values.synthetic`.
    """

    def __init__(
        self,
        activations: tuple[int, ...],
        *,
        bits: int,
        seed: int,
        weight_precision: int,
        sparsity: float = 0.0,
        signed: bool = False,
        fitted: bool = True,
    ) -> None:
        self.activations = activations
        self.signed = signed
        self.fitted = fitted
        self.bits = bits
        self.seed = seed
        self.weight_precision = weight_precision
        self.sparsity = sparsity
        self._rows: list[_Row] = []
        self._pruned: dict[str, float] = {}

    def conv2d(
        self,
        name: str,
        filters: int,
        kernel: int | Pair,
        *,
        precision: int,
        stride: int = 1,
        padding: int | Edges = 0,
        dilation: int = 1,
        groups: int = 1,
        pool: Pool | None = None,
        reads: str | None = None,
        shortcut: str | None = None,
        relu: bool = True,
        sparsity: float | None = None,
    ) -> str:
        """Append a convolution and return its name.

        `reads` defaults to the layer before; `shortcut` names the tensor that is added before the ReLU.
        As many `groups` as channels (and filters) make it depthwise.
        """
        size = (kernel, kernel) if isinstance(kernel, int) else kernel
        options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}

        def append(network: Network, activations: TensorSource, written: int) -> TensorSource:
            shape = (filters, *size, activations.shape[-1] // groups)
            weights = self._weights(name, shape, sparsity)
            layer = Layer.conv2d(name, activations, weights, groups=groups, pool=pool, **options)
            return self._add(network, layer, row, written, relu)

        row = self._append(name, reads, precision, append, shortcut)
        return name

    def linear(
        self,
        name: str,
        filters: int,
        *,
        precision: int,
        reads: str | None = None,
        relu: bool = True,
        sparsity: float | None = None,
    ) -> str:
        """Append a fully connected layer and return its name.

        It flattens an image that it reads, and works row by row on (T, C).
        """

        def append(network: Network, activations: TensorSource, written: int) -> TensorSource:
            shape = activations.shape
            channels = shape[1] if len(shape) == 2 else prod(shape)
            weights = self._weights(name, (filters, channels), sparsity)
            return self._add(network, Layer.linear(name, activations, weights), row, written, relu)

        row = self._append(name, reads, precision, append)
        return name

    def lstm(self, name: str, units: int, *, precision: int, reads: str | None = None) -> str:
        """Append an LSTM on (T, C) and return the name of its hidden states, (T, units).

        The projected input is stored with the same precision.
        """

        def append(network: Network, activations: TensorSource, written: int) -> TensorSource:
            steps, channels = activations.shape
            states = self._tensor(name, (steps, units), written, relu=False)
            network.lstm(
                name,
                activations,
                self._weights(f"{name}.x", (4 * units, channels), None),
                self._weights(f"{name}.h", (4 * units, units), None),
                states,
                self._tensor(f"{name}.x", (steps, 4 * units), precision, relu=False),
                reads=row.reads[0],
            )
            return states

        row = self._append(name, reads, precision, append)
        return name

    def pooling(self, name: str, pool: Pool, *, precision: int, reads: str | None = None) -> str:
        """Append a pooling that stands alone and return its name."""

        def append(network: Network, activations: TensorSource, written: int) -> TensorSource:
            layer = Layer.pooling(name, activations, pool)
            return self._add(network, layer, row, written, relu=not activations.signed)

        row = self._append(name, reads, precision, append)
        return name

    def rearranged(
        self,
        name: str,
        shape: tuple[int, ...],
        arrange: Callable[[Values], Values],
        *,
        precision: int,
        reads: str | None = None,
    ) -> str:
        """Append a memory layer that writes what it reads in another shape; returns its name.

        `arrange` makes the array of `shape` of the one that is read.
        """

        def append(network: Network, activations: TensorSource, written: int) -> TensorSource:
            moved = View(activations, shape, arrange)
            network.move(name, [row.reads[0]], moved, [activations])
            return moved

        row = self._append(name, reads, precision, append)
        return name

    def concat(self, name: str, parts: list[str]) -> str:
        """Name the tensor that `parts` make side by side, which moves nothing; returns the name."""

        def append(network: Network, activations: TensorSource, written: int) -> TensorSource:
            network.concat(name, parts)
            whole = network.tensor(name)
            assert whole is not None  # all parts are drawn
            return whole

        self._rows.append(_Row(name, tuple(parts), None, append))
        return name

    def given(self, name: str, shape: tuple[int, ...], *, relu: bool = True) -> str:
        """Declare a second tensor that is off chip at the start; returns its name."""

        def append(network: Network, activations: TensorSource, written: int) -> TensorSource:
            tensor = self._tensor(name, shape, written, relu)
            network.given(name, tensor)
            return tensor

        self._rows.append(_Row(name, (), None, append))
        return name

    def workload(self, name: str, source: str) -> Workload:
        """The table as a workload. Raises InputError for rows that do not fit together."""
        network = Network()
        tensors: dict[str, TensorSource] = {}
        precisions = dict(self._precisions())
        for row in self._rows:
            if INPUT in row.reads and INPUT not in tensors:
                tensors[INPUT] = self._tensor(INPUT, self.activations, precisions[INPUT], not self.signed)
            for read in row.reads:
                if read not in tensors:
                    raise InputError(
                        "reads a tensor that no layer before writes",
                        field=f"layer {row.name!r}",
                        found=read,
                        allowed=list(tensors),
                    )
            activations = tensors[row.reads[0]] if row.reads else None
            tensors[row.name] = row.append(network, activations, precisions[row.name])
        stated = {row.name: min(row.precision, self.bits) for row in self._rows if row.precision is not None}
        provenance: dict[str, Any] = {
            "seed": self.seed,
            "activation_precision_bits": stated,
            "weight_precision_bits": min(self.weight_precision, self.bits),
        }
        if self._pruned:
            provenance["weight_sparsity"] = self._pruned
        return Workload(name, network, self.bits, source=source, synthetic=True, provenance=provenance)

    def _append(
        self,
        name: str,
        reads: str | None,
        precision: int,
        append: Callable[[Network, Any, int], TensorSource],
        shortcut: str | None = None,
    ) -> _Row:
        if reads is None:
            reads = self._rows[-1].name if self._rows else INPUT
        self._rows.append(_Row(name, (reads,), precision, append, shortcut))
        return self._rows[-1]

    def _precisions(self) -> Iterator[tuple[str, int]]:
        """The precision of each tensor, before it is cut to `bits`."""
        own = {row.name: row.precision for row in self._rows}
        for name in (INPUT, *own):
            # Who reads a concatenation reads its parts.
            names = {name, *(r.name for r in self._rows if r.precision is None and name in r.reads)}
            read = [r.precision for r in self._rows if r.precision is not None and names & {*r.reads}]
            added = [r.precision for r in self._rows if r.precision is not None and r.shortcut in names]
            yield name, max(read or added or [own.get(name) or self.bits])

    def _add(self, network: Network, layer: Layer, row: _Row, precision: int, relu: bool) -> LazyTensor:
        outputs = self._tensor(row.name, layer.output_shape, precision, relu)
        network.add(replace(layer, outputs=outputs), reads=row.reads[0], shortcut=row.shortcut)
        return outputs

    def _weights(self, layer: str, shape: tuple[int, ...], sparsity: float | None) -> LazyTensor:
        precision = min(self.weight_precision, self.bits)
        pruned = self.sparsity if sparsity is None else sparsity
        if pruned:
            self._pruned[layer] = pruned
        make = fitted_weights if self.fitted else synthetic_weights
        return make(shape, self.bits, precision, self.seed, f"{layer}.weights", pruned)

    def _tensor(self, name: str, shape: tuple[int, ...], precision: int, relu: bool) -> LazyTensor:
        least = 1 if relu else 2
        form = (shape, self.bits, max(least, min(precision, self.bits)), self.seed, name)
        if self.fitted:
            return fitted_activations(*form) if relu else fitted_weights(*form)
        return synthetic_activations(*form) if relu else synthetic_weights(*form)
