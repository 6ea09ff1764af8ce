"""Drawn values that follow captured tensors more closely than `synthetic`: channels, neighbours, range.

Parameters were set by the tensors of one trained network on photos (ResNet-50-thin: 54 weights, 49
activations behind a ReLU), see FIT; a test holds container ratios and step widths against them. Real are:

* activations: every channel has a level and a share of zeros of its own; neighbouring positions of a
  channel resemble each other; some positions are busier than others;
* weights: Laplace, every filter and every input channel with a level of its own;
* ranges: a tensor seldom fills its format. At 16 bits the step is a power of two, so that up to half of
  the range is empty; and a profile's range is that of several inputs, of which this one is seldom the
  largest. A few values saturate.

A value is a 16-bit random number looked up in a table of quantiles, shifted and scaled by factors of its
row and column, rounded and clipped. The random numbers are streams of their own for each (seed, name,
role), the same for every precision.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.values.synthetic import PIECE, Role, checked, normal_quantile, quantiles, stream
from dpred_sim.values.tensor import LazyTensor, Tensor


@dataclass(frozen=True, slots=True)
class Fit:
    """What the distribution is made of; levels are standard deviations of logarithms."""

    channel_level: float = 0.4
    """Of an activation channel."""
    position_level: float = 0.3
    """Of a position."""
    shift: float = 0.5
    """Mean of the normal before the ReLU, in its standard deviations."""
    shift_spread: float = 0.5
    """How far channels' shifts are apart: their shares of zeros differ."""
    alike: float = 0.75
    """Share of the variance of a channel that NEIGHBOURS positions have in common."""
    headroom_bits: float = 0.35
    """How far below a profile's range an input stays, in activations."""
    activation_peak: float = 9.0
    """The range, in mean magnitudes of the values that are not zero."""
    filter_level: float = 0.4
    input_level: float = 0.2
    weight_peak: float = 20.0


FIT = Fit()
NEIGHBOURS = 16
"""Positions in raster order that share a part of their values."""


def fitted_weights(
    shape: tuple[int, ...], bits: int, precision: int, seed: int, name: str, sparsity: float = 0.0
) -> FittedTensor:
    """Signed drawn values; arguments and errors are those of `synthetic_weights`."""
    return _fitted("weights", shape, bits, precision, seed, name, sparsity)


def fitted_activations(
    shape: tuple[int, ...], bits: int, precision: int, seed: int, name: str
) -> FittedTensor:
    """Non-negative drawn values; arguments and errors are those of `synthetic_activations`."""
    return _fitted("activations", shape, bits, precision, seed, name, 0.0)


@dataclass(eq=False)
class FittedTensor(LazyTensor):
    """A drawn tensor; `blocks` makes its values piece by piece, the same ones as `load`."""

    recipe: FittedRecipe = field(kw_only=True)

    def blocks(self) -> Iterator[NDArray[Any]]:
        """The values in C order as flat pieces; a piece is valid until the next one is asked for."""
        return self.recipe.pieces()


def _fitted(
    role: Role, shape: tuple[int, ...], bits: int, precision: int, seed: int, name: str, sparsity: float
) -> FittedTensor:
    shape = checked(role, shape, bits, precision, name, sparsity)
    recipe = FittedRecipe(role, shape, bits, precision, f"fitted {role} {seed} {name}", float(sparsity))
    return FittedTensor(shape, bits, precision, role == "weights", recipe.tensor, recipe=recipe)


@dataclass(frozen=True)
class FittedRecipe:
    """How a tensor is drawn; everything that its values depend on."""

    role: Role
    shape: tuple[int, ...]
    bits: int
    precision: int
    name: str
    sparsity: float = 0.0
    fit: Fit = FIT

    def tensor(self) -> Tensor:
        """All values at once."""
        values = np.empty(prod(self.shape), self._dtype)
        for _ in self.pieces(values):
            pass
        return Tensor.adopt(values.reshape(self.shape), self.bits, self.role == "weights", self.precision)

    def pieces(self, out: NDArray[Any] | None = None) -> Iterator[NDArray[Any]]:
        """The values piece by piece: parts of `out`, or one array that is used again and again."""
        rows, columns = prod(self.shape[:-1]), self.shape[-1]
        step = max(1, PIECE // columns // NEIGHBOURS) * NEIGHBOURS
        room = np.empty(min(step, rows) * columns, self._dtype) if out is None else out
        most = self._largest_integer
        draw = self._weights if self.role == "weights" else self._activations
        for first, real in draw(rows, columns, step):
            np.rint(real, out=real)
            np.clip(real, -most if self.role == "weights" else 0, most, out=real)
            start = first * columns if out is not None else 0
            piece = room[start : start + real.size]
            np.copyto(piece, real.reshape(-1), casting="unsafe")
            yield piece

    def _weights(self, rows: int, columns: int, step: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """(first row, real values) of pieces; rows are those of (K, Ky, Kx, C)."""
        table = quantiles("weights", self.sparsity)
        filters = self.shape[0] if len(self.shape) > 1 else 1
        level = np.exp(self.fit.filter_level * self._normals("filters", filters))
        inputs = np.exp(self.fit.input_level * self._normals("inputs", columns)).astype(np.float32)
        # Magnitudes of the unpruned distribution have the mean 1.
        top = self.fit.weight_peak * float(level.mean()) * float(inputs.mean())
        by_row = np.repeat((level * self._scale(top)).astype(np.float32), rows // filters)
        values = stream(self.name)
        for first in range(0, rows, step):
            count = min(step, rows - first)
            real = table[_draws(values, count * columns)].reshape(count, columns)
            real *= by_row[first : first + count, None]
            real *= inputs
            yield first, real

    def _activations(self, rows: int, columns: int, step: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """(first row, real values) of pieces; rows are positions."""
        fit = self.fit
        table = _normal_table()
        level = np.exp(fit.channel_level * self._normals("channels", columns))
        shift = (fit.shift + fit.shift_spread * self._normals("shifts", columns)).astype(np.float32)
        busy = np.exp(fit.position_level * self._normals("positions", rows)).astype(np.float32)
        some = np.maximum(table[64::128] + shift[:, None], 0)
        top = fit.activation_peak * float((some.mean(axis=1) * level).mean() / (some > 0).mean())
        by_channel = (level * self._scale(top)).astype(np.float32)
        own, common = np.float32((1 - fit.alike) ** 0.5), np.float32(fit.alike**0.5)
        values, shared = stream(self.name), stream(f"{self.name} shared")
        for first in range(0, rows, step):
            count = min(step, rows - first)
            groups = -(-count // NEIGHBOURS)
            real = table[_draws(values, groups * NEIGHBOURS * columns)].reshape(groups, NEIGHBOURS, columns)
            real *= own
            real += common * table[_draws(shared, groups * columns)].reshape(groups, 1, columns)
            real = real.reshape(-1, columns)[:count]
            real += shift
            np.maximum(real, 0, out=real)
            real *= by_channel
            real *= busy[first : first + count, None]
            yield first, real

    @property
    def _dtype(self) -> str:
        return f"{'i' if self.role == 'weights' else 'u'}{self.bits // 8}"

    @property
    def _largest_integer(self) -> int:
        return (1 << (self.precision - (self.role == "weights"))) - 1

    def _scale(self, top: float) -> float:
        """Integers a unit, so that `top` lies as far below the format's end as ranges do."""
        empty = self.fit.headroom_bits if self.role == "activations" else 0.0
        if self.bits == 16:
            empty += float(np.asarray(stream(f"{self.name} range").random_raw(1), "<u8")[0]) / 2.0**64
        return float(self._largest_integer * 2.0**-empty / (top or 1.0))

    def _normals(self, what: str, count: int) -> NDArray[np.float64]:
        """Standard normal numbers of a stream of their own."""
        return np.asarray(_normal_table()[_draws(stream(f"{self.name} {what}"), count)], np.float64)


def _draws(source: Any, count: int) -> NDArray[np.uint16]:
    """16-bit random numbers, the same ones on every machine."""
    raw = np.asarray(source.random_raw(-(-count // 4)), "<u8")
    return raw.view("<u2")[:count]


@lru_cache(maxsize=1)
def _normal_table() -> NDArray[np.float32]:
    """65,536 equally likely values of the standard normal distribution, rising."""
    return normal_quantile((np.arange(1 << 16) + 0.5) / (1 << 16)).astype(np.float32)
