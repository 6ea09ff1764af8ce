"""Tensors made of others: rows, rearranged values, rows put one below the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.values.tensor import Tensor, TensorSource

Values = NDArray[Any]


@dataclass(eq=False)
class View:
    """The values of `source` in another order or shape, or a part of them; made when looked at."""

    source: TensorSource
    shape: tuple[int, ...]
    arrange: Callable[[Values], Values]
    memo: dict[Any, Any] = field(default_factory=dict, repr=False)

    @property
    def bits(self) -> int:
        """Width of a value in the uncompressed model."""
        return self.source.bits

    @property
    def precision(self) -> int:
        """Width that the format allows."""
        return self.source.precision

    @property
    def signed(self) -> bool:
        """Whether values can be negative."""
        return self.source.signed

    def load(self) -> Tensor:
        """The values."""
        tensor = self.source.load()
        values = np.ascontiguousarray(self.arrange(tensor.values)).reshape(self.shape)
        return Tensor.adopt(values, tensor.bits, tensor.signed, tensor.precision)


@dataclass(eq=False)
class Stack:
    """Tensors (T_i, C) one below the other, (sum of T_i, C); they have one width of values."""

    parts: Sequence[TensorSource]
    memo: dict[Any, Any] = field(default_factory=dict, repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, C)."""
        return sum(part.shape[0] for part in self.parts), self.parts[0].shape[-1]

    @property
    def bits(self) -> int:
        """Width of a value in the uncompressed model."""
        return self.parts[0].bits

    @property
    def precision(self) -> int:
        """The widest of the parts'."""
        return max(part.precision for part in self.parts)

    @property
    def signed(self) -> bool:
        """Whether any part's values can be negative."""
        return any(part.signed for part in self.parts)

    def load(self) -> Tensor:
        """The values; raises InputError when signed and unsigned parts have no format in common."""
        values = np.concatenate([part.load().values.astype(np.int32) for part in self.parts])
        return Tensor(values, bits=self.bits, signed=self.signed, precision=self.precision)


@dataclass(eq=False)
class Join:
    """Tensors (..., C_i) side by side, (..., sum of C_i); they have one width of values."""

    parts: Sequence[TensorSource]
    memo: dict[Any, Any] = field(default_factory=dict, repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the parts, with all channels."""
        return (*self.parts[0].shape[:-1], sum(part.shape[-1] for part in self.parts))

    @property
    def bits(self) -> int:
        """Width of a value in the uncompressed model."""
        return self.parts[0].bits

    @property
    def precision(self) -> int:
        """The widest of the parts', where all have a sign or none has."""
        signed = self.signed
        return min(self.bits, max(part.precision + (signed and not part.signed) for part in self.parts))

    @property
    def signed(self) -> bool:
        """Whether any part's values can be negative."""
        return any(part.signed for part in self.parts)

    def load(self) -> Tensor:
        """The values; raises InputError when signed and unsigned parts have no format in common."""
        parts = [part.load().values for part in self.parts]
        if len({values.dtype for values in parts}) > 1:
            parts = [values.astype(np.int32) for values in parts]
            return Tensor(np.concatenate(parts, axis=-1), self.bits, self.signed, self.precision)
        return Tensor.adopt(np.concatenate(parts, axis=-1), self.bits, self.signed, self.precision)


def row(source: TensorSource, index: int) -> View:
    """Row `index` of a (T, C) tensor, (1, C)."""
    return View(source, (1, source.shape[-1]), lambda values: values[index : index + 1])


def gates_by_unit(source: TensorSource, gates: int, axis: int) -> View:
    """The `gates` blocks along `axis` interleaved: the values of all gates of one unit side by side."""

    def arrange(values: Values) -> Values:
        apart = values.reshape(*values.shape[:axis], gates, -1, *values.shape[axis + 1 :])
        return np.swapaxes(apart, axis, axis + 1)

    return View(source, tuple(source.shape), arrange)


def regrouped(second: TensorSource, groups: int, transposed: bool) -> View:
    """The second operand of a product of two activations as weights, (groups * K, C).

    `second` is (K, groups * C), or with `transposed` (C, groups * K).
    """
    if transposed:
        return View(second, (second.shape[1], second.shape[0]), lambda values: values.T)
    filters, depth = second.shape[0], second.shape[1] // groups

    def arrange(values: Values) -> Values:
        return values.reshape(filters, groups, depth).swapaxes(0, 1)

    return View(second, (groups * filters, depth), arrange)


def reshaped(source: TensorSource, shape: tuple[int, ...]) -> View:
    """The same values in another shape."""
    return View(source, shape, lambda values: values)
