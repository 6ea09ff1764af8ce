"""Drawn values whose group widths resemble those of trained networks. No substitute for real ones.

Two distributions, chosen so that group widths (16 values a group) and zero counts come close to those
measured on 17 real networks; identically distributed values would understate what grouping gains:

* weights: Laplace, times one log-normal factor (sigma 0.3) for each block of 1024 values; signed;
* activations: max(0, N(0.385, 1)), 35 % zeros, times such a factor; not signed.

A value is a 16-bit random number looked up in a table of the distribution's quantiles, times its
block's factor, scaled so that the tensor's largest magnitude fills `precision` bits, rounded. The
random numbers are a stream of their own for each (seed, name, role), whatever the order in which tensors
are made, and the same for every precision.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from dpred_sim.errors import InputError
from dpred_sim.values.tensor import WIDTHS, LazyTensor, Tensor

if TYPE_CHECKING:
    from numpy.random import SFC64

Role = Literal["weights", "activations"]

PATCH = 1024
"""Values that share one log-normal factor."""
SIGMA = 0.3
"""Standard deviation of the factor's logarithm."""
SHIFT = 0.385
"""Mean of the normal before max(0, .): 35 % of the activations are zero."""
PIECE = 1 << 18
"""Values made in one go, a multiple of PATCH."""


def synthetic_weights(
    shape: tuple[int, ...], bits: int, precision: int, seed: int, name: str, sparsity: float = 0.0
) -> SyntheticTensor:
    """Signed drawn values, made when looked at; the smallest ones, a share `sparsity`, are pruned to zero.

    Raises InputError for a format that cannot be, and a sparsity outside 0 to 1.
    """
    return _synthetic("weights", shape, bits, precision, seed, name, sparsity)


def synthetic_activations(
    shape: tuple[int, ...], bits: int, precision: int, seed: int, name: str
) -> SyntheticTensor:
    """Non-negative drawn values, made when looked at. Raises InputError for a format that cannot be."""
    return _synthetic("activations", shape, bits, precision, seed, name)


@dataclass(eq=False)
class SyntheticTensor(LazyTensor):
    """A drawn tensor; `blocks` makes its values piece by piece, the same ones as `load`."""

    recipe: Recipe = field(kw_only=True)

    def blocks(self) -> Iterator[NDArray[Any]]:
        """The values in C order as flat pieces; a piece is valid until the next one is asked for."""
        return self.recipe.pieces()


def _synthetic(
    role: Role,
    shape: tuple[int, ...],
    bits: int,
    precision: int,
    seed: int,
    name: str,
    sparsity: float = 0.0,
) -> SyntheticTensor:
    shape = checked(role, shape, bits, precision, name, sparsity)
    recipe = Recipe(role, shape, bits, precision, f"{role} {seed} {name}", float(sparsity))
    return SyntheticTensor(shape, bits, precision, role == "weights", recipe.tensor, recipe=recipe)


def checked(
    role: Role, shape: tuple[int, ...], bits: int, precision: int, name: str, sparsity: float
) -> tuple[int, ...]:
    """The shape as plain integers; raises InputError for a format that cannot be."""
    shape = tuple(int(size) for size in shape)
    if not shape or min(shape) < 1:
        raise InputError("a tensor holds at least one value", field=f"{name}: shape", found=str(shape))
    if bits not in WIDTHS:
        raise InputError("value width", field=f"{name}: bits", found=bits, allowed=WIDTHS)
    least = 2 if role == "weights" else 1
    if not least <= precision <= bits:
        raise InputError("precision", field=f"{name}: precision", found=precision, allowed=f"{least}..{bits}")
    if isinstance(sparsity, bool) or not isinstance(sparsity, int | float) or not 0 <= sparsity <= 1:
        raise InputError("sparsity", field=f"{name}: sparsity", found=sparsity, allowed="0 to 1")
    return shape


@dataclass(frozen=True)
class Recipe:
    """How a tensor is drawn; everything that its values depend on."""

    role: Role
    shape: tuple[int, ...]
    bits: int
    precision: int
    stream: str
    sparsity: float = 0.0
    """Share of the weights that are pruned: in each patch those of least magnitude."""

    def tensor(self) -> Tensor:
        """All values at once."""
        values = np.empty(prod(self.shape), self._dtype)
        for _ in self.pieces(values):
            pass
        return Tensor.adopt(values.reshape(self.shape), self.bits, self.role == "weights", self.precision)

    def pieces(self, out: NDArray[Any] | None = None) -> Iterator[NDArray[Any]]:
        """The values piece by piece: parts of `out`, or one array that is used again and again."""
        table = quantiles(self.role, self.sparsity)
        size = prod(self.shape)
        room = np.empty(min(PIECE, size), self._dtype) if out is None else out
        index = np.empty(min(PIECE, -(-size // PATCH) * PATCH), np.intp)
        real = np.empty(index.shape, np.float32)
        # All zeros stay zeros.
        scale = self._largest_integer / (self._largest() or 1.0)
        for start, draws, factors in self._draws():
            stop = min(start + PIECE, size)
            piece = room[start:stop] if out is not None else room[: stop - start]
            count = draws.size
            np.copyto(index[:count], draws.reshape(-1))
            part = real[:count]
            np.take(table, index[:count], out=part, mode="clip")
            rows = part.reshape(-1, PATCH)
            np.multiply(rows, (factors * scale).astype(np.float32)[:, None], out=rows)
            np.rint(part, out=part)
            np.copyto(piece, part[: stop - start], casting="unsafe")
            yield piece

    @property
    def _dtype(self) -> str:
        return f"{'i' if self.role == 'weights' else 'u'}{self.bits // 8}"

    @property
    def _largest_integer(self) -> int:
        return (1 << (self.precision - (self.role == "weights"))) - 1

    def _draws(self) -> Iterator[tuple[int, NDArray[np.uint16], NDArray[np.float64]]]:
        """(first value, 16-bit draws as (patches, PATCH), the patches' factors) of each piece."""
        values, levels = stream(self.stream), stream(f"{self.stream} factors")
        factors = _factors()
        size = prod(self.shape)
        for start in range(0, size, PIECE):
            patches = -(-min(PIECE, size - start) // PATCH)
            # Explicitly little-endian: the same values everywhere.
            raw = np.asarray(values.random_raw(patches * PATCH // 4), "<u8")
            drawn = np.asarray(levels.random_raw(-(-patches // 8)), "<u8").view(np.uint8)[:patches]
            yield start, raw.view("<u2").reshape(patches, PATCH), factors[drawn]

    def _largest(self) -> float:
        """Largest magnitude before scaling; stops looking once none can be larger."""
        table = quantiles(self.role, self.sparsity).astype(np.float64)
        bound = float(table[-1] * _factors()[-1])
        size = prod(self.shape)
        largest = 0.0
        for start, draws, factors in self._draws():
            if start + draws.size > size:  # the last patch is cut short
                tail = size - start - draws.size
                draws = draws.copy()
                draws[-1, tail:] = draws[-1, 0]
            # Quantiles rise, so the extremes of a patch are those of its draws.
            top = np.maximum(table[draws.max(axis=1)], -table[draws.min(axis=1)])
            largest = max(largest, float((top * factors).max()))
            if largest == bound:
                break
        return largest


def stream(text: str) -> SFC64:
    """The random numbers that belong to a text, the same ones on every machine."""
    from numpy.random import SFC64

    return SFC64(int.from_bytes(hashlib.sha256(f"dpred_sim {text}".encode()).digest(), "big"))


@lru_cache(maxsize=16)
def quantiles(role: Role, sparsity: float = 0.0) -> NDArray[np.float32]:
    """The 65,536 equally likely values of the distribution, rising; those around zero pruned."""
    p = (np.arange(1 << 16) + 0.5) / (1 << 16)
    if role == "weights":
        upper = -np.log(2 * (1 - p[1 << 15 :]))
        values = np.concatenate([-upper[::-1], upper])
        pruned = round(sparsity * (1 << 15))
        values[(1 << 15) - pruned : (1 << 15) + pruned] = 0
    else:
        values = np.maximum(0, normal_quantile(p) + SHIFT)
    return values.astype(np.float32)


@lru_cache(maxsize=1)
def _factors() -> NDArray[np.float64]:
    """The 256 equally likely log-normal factors, rising."""
    return np.asarray(np.exp(SIGMA * normal_quantile((np.arange(256) + 0.5) / 256)))


# Algorithm AS 241 (PPND16): M. J. Wichura, Applied Statistics 37(3), 1988; coefficients of rising powers.
_CENTRE = (
    (
        3.3871328727963666080e0,
        1.3314166789178437745e2,
        1.9715909503065514427e3,
        1.3731693765509461125e4,
        4.5921953931549871457e4,
        6.7265770927008700853e4,
        3.3430575583588128105e4,
        2.5090809287301226727e3,
    ),
    (
        1.0,
        4.2313330701600911252e1,
        6.8718700749205790830e2,
        5.3941960214247511077e3,
        2.1213794301586595867e4,
        3.9307895800092710610e4,
        2.8729085735721942674e4,
        5.2264952788528545610e3,
    ),
)
_FLANK = (
    (
        1.42343711074968357734e0,
        4.63033784615654529590e0,
        5.76949722146069140550e0,
        3.64784832476320460504e0,
        1.27045825245236838258e0,
        2.41780725177450611770e-1,
        2.27238449892691845833e-2,
        7.74545014278341407640e-4,
    ),
    (
        1.0,
        2.05319162663775882187e0,
        1.67638483018380384940e0,
        6.89767334985100004550e-1,
        1.48103976427480074590e-1,
        1.51986665636164571966e-2,
        5.47593808499534494600e-4,
        1.05075007164441684324e-9,
    ),
)


def normal_quantile(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quantiles of the standard normal distribution for 2e-11 <= p <= 1 - 2e-11, to about 1e-16."""
    q = p - 0.5
    square = 0.180625 - q * q
    centre = q * _ratio(_CENTRE, square)
    depth = np.sqrt(-np.log(np.minimum(p, 1 - p)))
    flank = np.copysign(_ratio(_FLANK, depth - 1.6), q)
    return np.where(np.abs(q) <= 0.425, centre, flank)


def _ratio(
    coefficients: tuple[tuple[float, ...], tuple[float, ...]], x: NDArray[np.float64]
) -> NDArray[np.float64]:
    """A rational function: two polynomials by Horner's rule."""
    above, below = (np.zeros_like(x) for _ in coefficients)
    for upper, lower in zip(reversed(coefficients[0]), reversed(coefficients[1]), strict=True):
        above = above * x + upper
        below = below * x + lower
    return np.asarray(above / below)
