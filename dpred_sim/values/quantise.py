"""Real numbers to integers of a format, deterministic on every machine.

`quantise_fixed`: fixed point, a power-of-two scale that makes the range fit a (profiled) precision.
`quantise_8bit`: 8 bits with one real scale for the tensor; 0..255 if non-negative, else symmetric.

Both round half up and saturate. The range is that of the values, or a calibrated `limit`, so that the
scale need not depend on the tensor that is measured. Work goes in blocks: no array of floats of the
tensor's size is made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import frexp, isfinite
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpred_sim.errors import InputError
from dpred_sim.values.tensor import WIDTHS, Tensor

BLOCK = 1 << 16
"""Values quantised in one go."""
MOST_EXPONENT = 1000
"""A fixed-point step stays a normal float64: values far below 2^-1000 become zeros."""


@dataclass(frozen=True, slots=True)
class Quantised:
    """A tensor and the real value of one integer step; a fixed-point step is 2**-exponent."""

    tensor: Tensor
    scale: float
    exponent: int | None = None

    def dequantise(self) -> NDArray[np.float64]:
        """The real values that the integers stand for."""
        return self.tensor.values * np.float64(self.scale)


def quantise_fixed(
    array: ArrayLike,
    precision: int,
    bits: int = 16,
    signed: bool | None = None,
    limit: float | None = None,
    name: str = "array",
) -> Quantised:
    """Fixed point with `precision` bits a value (sign included where signed), stored in `bits`.

    The step is the smallest power of two with which nothing in range saturates, so the error of a
    value in range is at most half a step. `limit` is a calibrated largest magnitude; without it the
    range is that of the values. `signed` defaults to "has a negative value"; False saturates negative
    values to 0. Raises InputError, naming `name`, for values that are not finite real numbers, an
    empty array, and a precision or limit out of range.
    """
    if bits not in WIDTHS:
        raise InputError("value width", field=f"{name}: bits", found=bits, allowed=WIDTHS)
    values, low, high, signed = _examined(array, signed, limit, name)
    least = 2 if signed else 1
    if not least <= precision <= bits:
        raise InputError("precision", field=f"{name}: precision", found=precision, allowed=f"{least}..{bits}")
    ceiling = (1 << (precision - signed)) - 1
    floor = -ceiling - 1 if signed else 0
    exponent = min(_fitting(high, ceiling), _fitting(-low, -floor) if signed else MOST_EXPONENT)
    if high <= 0 and (low >= 0 or not signed):
        exponent = 0
    integers = _rounded(values, lambda block: np.ldexp(block, exponent), floor, ceiling, bits, signed)
    return Quantised(Tensor.adopt(integers, bits, signed, int(precision)), 2.0**-exponent, exponent)


def quantise_8bit(
    array: ArrayLike, signed: bool | None = None, limit: float | None = None, name: str = "array"
) -> Quantised:
    """8 bits with one scale: the largest magnitude (or `limit`) becomes 255, or 127 when signed.

    Zero is exact and has the integer 0. `signed`, `limit`, `name` and errors are those of
    `quantise_fixed`.
    """
    values, low, high, signed = _examined(array, signed, limit, name)
    ceiling = 127 if signed else 255
    scale = max(high, -low if signed else 0.0) / ceiling
    if scale < np.finfo(np.float64).tiny:  # all zero, or too small for a step
        scale = 1.0
    floor = -ceiling if signed else 0
    integers = _rounded(values, lambda block: block / scale, floor, ceiling, 8, signed)
    return Quantised(Tensor.adopt(integers, 8, signed, 8), float(scale))


def _examined(
    array: ArrayLike, signed: bool | None, limit: float | None, name: str
) -> tuple[NDArray[Any], float, float, bool]:
    """The array, its range (lowest, highest), and whether its format is signed."""
    values = np.asarray(array)
    if values.dtype.kind not in "fiu":
        raise InputError("not real numbers", field=name, found=f"dtype {values.dtype}")
    if values.size == 0:
        raise InputError("no values", field=name, found=f"shape {values.shape}")
    low, high = float(values.min()), float(values.max())
    if not (isfinite(low) and isfinite(high)):
        count = int(values.size - np.isfinite(values).sum())
        raise InputError(
            "values that are not finite", field=name, found=f"{count} of {values.size} are NaN or infinite"
        )
    signed = low < 0 if signed is None else bool(signed)
    if limit is not None:
        if not (isfinite(limit) and limit >= 0):
            raise InputError("limit", field=f"{name}: limit", found=limit, allowed="a finite number >= 0")
        low, high = -float(limit) if signed else 0.0, float(limit)
    return values, low, high, signed


def _fitting(magnitude: float, most: int) -> int:
    """The largest exponent with which `magnitude`, scaled and rounded half up, is at most `most`."""
    if magnitude <= 0:
        return MOST_EXPONENT
    exponent = most.bit_length() - frexp(magnitude)[1]
    if np.ldexp(magnitude, exponent) >= most + 0.5:
        exponent -= 1
    return min(exponent, MOST_EXPONENT)


def _rounded(
    values: NDArray[Any],
    scaled: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    floor: int,
    ceiling: int,
    bits: int,
    signed: bool,
) -> NDArray[Any]:
    """Integers of `scaled(values)`: rounded half up, clipped to floor..ceiling."""
    integers = np.empty(values.shape, f"{'i' if signed else 'u'}{bits // 8}")
    flat, out = values.reshape(-1), integers.reshape(-1)
    for start in range(0, len(flat), BLOCK):
        with np.errstate(over="ignore"):  # far out of range: infinite, then clipped
            exact = scaled(flat[start : start + BLOCK].astype(np.float64))
        np.clip(exact, floor - 1, ceiling + 1, out=exact)
        whole = np.floor(exact)
        # Exact, where floor(x + 0.5) is not: 0.49999999999999994 + 0.5 is 1.
        whole += exact - whole >= 0.5
        out[start : start + BLOCK] = np.clip(whole, floor, ceiling, out=whole)
    return integers
