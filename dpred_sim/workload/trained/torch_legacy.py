"""Weights out of torch's legacy files, without torch, and without running anything that is in them.

The format (`torch.save` before version 1.6, `torch/serialization.py`, `_legacy_save`): five pickles, of a
magic number, a protocol number, the sizes of C types, the saved object, and the keys of its storages;
then every storage as a count and raw values.
"""

from __future__ import annotations

import pickle
import struct
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.errors import InputError

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001

STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ByteStorage": "|u1",
    "CharStorage": "|i1",
}


@dataclass(slots=True)
class _Storage:
    key: str
    dtype: str
    count: int


@dataclass(slots=True)
class _View:
    """A tensor: a view of a storage, which comes later in the file. Sizes and strides count values."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _rebuild(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _View:
    return _View(storage, offset, tuple(shape), tuple(strides))


@dataclass(frozen=True, slots=True)
class _Kind:
    """A class that is named in a file and never made."""

    dtype: str


class _Refused(pickle.UnpicklingError):
    """A name that a file of weights has no need of."""


class _Unpickler(pickle.Unpickler):
    """Makes dictionaries of tensors, and refuses every other class and function."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(stream)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch._utils" and name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            return _rebuild
        if module == "torch" and name in STORAGES:
            return _Kind(STORAGES[name])
        raise _Refused(f"{module}.{name}")

    def persistent_load(self, saved: Any) -> _Storage:
        what, kind, key, _, count = saved[:5]
        if what != "storage" or not isinstance(kind, _Kind) or not isinstance(count, int):
            raise pickle.UnpicklingError("not a storage")
        return self.storages.setdefault(str(key), _Storage(str(key), kind.dtype, count))


def read_torch_legacy(path: Path) -> dict[str, NDArray[Any]]:
    """All tensors of a file by name; names of nested dictionaries are joined by dots.

    Raises InputError for a file that is none of the format, is damaged, or names a class or function
    that weights do not need: nothing of it is ever called.
    """
    try:
        with path.open("rb") as stream:
            return _read(stream)
    except _Refused as error:
        raise InputError(
            "the file names something that weights do not need, and is not read",
            file=path,
            found=str(error),
            allowed=["torch._utils._rebuild_tensor_v2", "collections.OrderedDict", *STORAGES],
        ) from error
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=path) from error
    except Exception as error:
        # A damaged pickle raises nearly anything.
        raise InputError(
            f"not a legacy torch file, or a damaged one ({type(error).__name__}: {error})", file=path
        ) from error


def _read(stream: IO[bytes]) -> dict[str, NDArray[Any]]:
    if _Unpickler(stream).load() != MAGIC or _Unpickler(stream).load() != PROTOCOL:
        raise ValueError("another magic number")
    _Unpickler(stream).load()
    saved = _Unpickler(stream)
    views: dict[str, _View] = {}
    _collect(saved.load(), "", views)
    values: dict[str, NDArray[Any]] = {}
    for key in _Unpickler(stream).load():
        dtype = np.dtype(saved.storages[key].dtype)
        (count,) = struct.unpack("<q", stream.read(8))
        values[key] = np.frombuffer(stream.read(max(count, 0) * dtype.itemsize), dtype, count)
    return {name: _array(view, values[view.storage.key]) for name, view in views.items()}


def _collect(found: Any, prefix: str, views: dict[str, _View]) -> None:
    if isinstance(found, _View):
        views[prefix.removesuffix(".")] = found
    elif isinstance(found, dict):
        for key, value in found.items():
            _collect(value, f"{prefix}{key}.", views)


def _array(view: _View, storage: NDArray[Any]) -> NDArray[Any]:
    if len(view.shape) != len(view.strides) or min((view.offset, *view.shape, *view.strides), default=0) < 0:
        raise ValueError("a tensor with sizes that cannot be")
    last = view.offset + sum((n - 1) * s for n, s in zip(view.shape, view.strides, strict=True))
    if min(view.shape, default=1) > 0 and last >= storage.size:
        raise ValueError("a tensor that reaches beyond its storage")
    strides = [s * storage.itemsize for s in view.strides]
    return np.lib.stride_tricks.as_strided(
        storage[view.offset :], view.shape, strides, writeable=False
    ).copy()
