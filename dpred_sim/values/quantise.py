"""Real numbers to integers of a format, deterministic on every machine.

`quantise_fixed`: fixed point, a power-of-two scale that makes the range fit a (profiled) precision.
`quantise_8bit`: 8 bits with one real scale for the tensor; 0..255 if non-negative, else symmetric.
`quantise_8bit_channels`: the same with a scale for each channel of one axis.
`pruned`: the same numbers with the smallest of them set to zero.

All round half up and saturate. The range is that of the values, or a calibrated `limit`, so that the
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
    integers = _rounded(values, _divided(scale), floor, ceiling, 8, signed)
    return Quantised(Tensor.adopt(integers, 8, signed, 8), float(scale))


@dataclass(frozen=True, slots=True)
class QuantisedChannels:
    """A tensor, and the real value of one integer step in each channel of `axis`, (channels,)."""

    tensor: Tensor
    scale: NDArray[np.float64]
    axis: int

    def dequantise(self) -> NDArray[np.float64]:
        """The real values that the integers stand for."""
        shape = [1] * len(self.tensor.shape)
        shape[self.axis] = -1
        return self.tensor.values * self.scale.reshape(shape)


def quantise_8bit_channels(
    array: ArrayLike, axis: int = 0, signed: bool | None = None, name: str = "array"
) -> QuantisedChannels:
    """8 bits with a scale for each channel: each one's largest magnitude becomes 255, or 127 when signed.

    `axis` 0 are the filters of weights. Every channel fills its range, whatever its own values, so that
    groups need about the full width. A channel of zeros has the scale 1. `signed` holds for all channels;
    it, `name` and errors are those of `quantise_fixed`, and an axis that the array does not have is an
    InputError.
    """
    values, _, _, signed = _examined(array, signed, None, name)
    if not -values.ndim <= axis < values.ndim:
        raise InputError("axis", field=f"{name}: axis", found=axis, allowed=f"one of {values.ndim} axes")
    axis %= values.ndim
    ceiling = 127 if signed else 255
    rows = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
    largest = np.maximum(rows.max(axis=1), -rows.min(axis=1) if signed else 0).astype(np.float64)
    scales = np.maximum(largest, 0) / ceiling
    scales[scales < np.finfo(np.float64).tiny] = 1.0  # all zero, or too small for a step
    floor = -ceiling if signed else 0
    integers = np.empty(rows.shape, "i1" if signed else "u1")
    for index, scale in enumerate(scales):
        integers[index] = _rounded(rows[index], _divided(float(scale)), floor, ceiling, 8, signed)
    shape = (values.shape[axis], *values.shape[:axis], *values.shape[axis + 1 :])
    back = np.ascontiguousarray(np.moveaxis(integers.reshape(shape), 0, axis))
    return QuantisedChannels(Tensor.adopt(back, 8, signed, 8), scales, axis)


def pruned(array: ArrayLike, sparsity: float, name: str = "array") -> NDArray[Any]:
    """The array with the smallest magnitudes set to zero: as many as make the share `sparsity` zero.

    Of equal magnitudes the first ones in C order go first. Zeros that are there already count. Raises
    InputError, naming `name`, for a share outside 0 to 1 and for an array as `quantise_fixed` does.
    """
    values, _, _, _ = _examined(array, None, None, name)
    if isinstance(sparsity, bool) or not isinstance(sparsity, int | float) or not 0 <= sparsity <= 1:
        raise InputError("sparsity", field=f"{name}: sparsity", found=sparsity, allowed="0 to 1")
    found = np.array(values)
    flat = found.reshape(-1)
    count = round(sparsity * flat.size)
    if count:
        magnitudes = np.abs(flat.astype(np.float64) if flat.dtype.kind != "f" else flat)
        most = np.partition(magnitudes, count - 1)[count - 1]
        below = magnitudes < most
        equal = np.flatnonzero(magnitudes == most)[: count - int(below.sum())]
        flat[below] = 0
        flat[equal] = 0
    return found


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


def _divided(scale: float) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    return lambda block: block / scale


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
