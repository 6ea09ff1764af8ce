"""Integer tensors, and tensors that are made when somebody looks at them."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from dpred_sim.errors import InputError, blame

R = TypeVar("R")
WIDTHS = (8, 16)
"""Value widths of an uncompressed model."""


class TensorSource(Protocol):
    """What a layer refers to: the format is known at once, the values on `load`.

    `memo` keeps what was computed from the values (widths, sizes), so that values are made and
    looked at once however many topologies are simulated.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the values."""

    @property
    def bits(self) -> int:
        """Width of a value in the uncompressed model."""

    @property
    def precision(self) -> int:
        """Width that the format allows."""

    @property
    def signed(self) -> bool:
        """Whether values can be negative."""

    @property
    def memo(self) -> dict[Any, Any]:
        """What was computed from the values."""

    def load(self) -> Tensor:
        """The values."""


class Tensor:
    """A read-only integer tensor, channel last.

    Activations are (H, W, C) or (T, C), weights (K, Ky, Kx, C) or (K, C). `bits` is the width of a
    value in the uncompressed model (8 or 16), `precision` the width that the format allows
    (defaults to `bits`). `signed` defaults to "holds a negative value".

    Raises InputError for an empty array, a dtype that is not integer, or values out of range.
    """

    __slots__ = ("__weakref__", "_digest", "bits", "memo", "precision", "signed", "values")

    def __init__(
        self, values: Any, bits: int = 8, signed: bool | None = None, precision: int | None = None
    ) -> None:
        array = np.asarray(values)
        if bits not in WIDTHS:
            raise InputError("value width", field="bits", found=bits, allowed=WIDTHS)
        if array.dtype.kind not in "iu":
            raise InputError(
                "a tensor holds integers", found=f"dtype {array.dtype}", allowed="integer dtypes"
            )
        if array.size == 0:
            raise InputError("a tensor holds at least one value", found=f"shape {array.shape}")
        low, high = int(array.min()), int(array.max())
        if signed is None:
            signed = low < 0
        floor, ceiling = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
        if low < floor or high > ceiling:
            raise InputError(
                f"values out of the range of a {'signed' if signed else 'non-negative'} {bits}-bit tensor",
                found=f"{low}..{high}",
                allowed=f"{floor}..{ceiling}",
            )
        precision = bits if precision is None else precision
        if not 1 <= precision <= bits:
            raise InputError("precision", field="precision", found=precision, allowed=f"1..{bits}")
        array = np.ascontiguousarray(array, dtype=np.dtype(f"{'i' if signed else 'u'}{bits // 8}"))
        if array is values or array.base is not None:
            array = array.copy()
        array.flags.writeable = False
        self.values: NDArray[Any] = array
        self.bits = bits
        self.signed = bool(signed)
        self.precision = int(precision)
        self.memo: dict[Any, Any] = {}
        self._digest: str | None = None

    @classmethod
    def adopt(cls, values: NDArray[Any], bits: int, signed: bool, precision: int) -> Tensor:
        """A tensor that takes over an array that its maker gives up: no copy, and no look at the values.

        `values` is C-contiguous, has the dtype of the format and holds values within it.
        """
        tensor = cls.__new__(cls)
        values.flags.writeable = False
        tensor.values = values
        tensor.bits, tensor.signed, tensor.precision = bits, signed, precision
        tensor.memo = {}
        tensor._digest = None
        return tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the values."""
        return tuple(self.values.shape)

    def load(self) -> Tensor:
        """The tensor itself: it is already there."""
        return self

    @property
    def digest(self) -> str:
        """SHA-256 of values and format."""
        if self._digest is None:
            head = f"{self.shape} {self.bits} {self.signed} {self.precision} {self.values.dtype}"
            self._digest = hashlib.sha256(head.encode() + self.values.tobytes()).hexdigest()
        return self._digest

    def __repr__(self) -> str:
        kind = "signed" if self.signed else "unsigned"
        return f"Tensor(shape={self.shape}, bits={self.bits}, {kind}, precision={self.precision})"


_last_loaded: list[tuple[weakref.ref[LazyTensor], Tensor]] = []
"""Values of the one lazy tensor looked at last: a network's tensors are never all in memory."""


@dataclass(eq=False)
class LazyTensor:
    """A tensor whose values are made by `make` each time they are needed.

    Only the tensor loaded last is kept, so a network of any size costs the memory of its largest
    tensor. Whatever is computed from the values goes through `memoised` and stays.
    """

    shape: tuple[int, ...]
    bits: int
    precision: int
    signed: bool
    make: Callable[[], Tensor]
    memo: dict[Any, Any] = field(default_factory=dict, repr=False)

    def load(self) -> Tensor:
        """The values; raises InputError when `make` returns another format than was declared."""
        if _last_loaded and _last_loaded[0][0]() is self:
            return _last_loaded[0][1]
        _last_loaded.clear()
        try:
            tensor = self.make()
        except Exception as error:
            raise blame(error) from error
        if tensor.shape != tuple(self.shape) or (tensor.bits, tensor.signed) != (self.bits, self.signed):
            raise InputError(
                "a lazy tensor is not what was declared",
                found=repr(tensor),
                allowed=f"shape {self.shape}, bits {self.bits}, signed {self.signed}",
            )
        _last_loaded.append((weakref.ref(self), tensor))
        return tensor


def memoised(source: TensorSource, key: Any, compute: Callable[[Tensor], R]) -> R:
    """`compute(source.load())`, done once per tensor and `key`."""
    try:
        result: R = source.memo[key]
    except KeyError:
        result = source.memo[key] = compute(source.load())
    return result
