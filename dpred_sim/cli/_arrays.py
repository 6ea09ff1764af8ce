"""Read integer arrays from unchecked .npy files: never with pickle, never more than the file holds."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from dpred_sim.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dpred_sim.values.tensor import Tensor

MAX_AXES = 4


def read_npy(path: Path) -> NDArray[Any]:
    """The integer array in a .npy file.

    Raises InputError for a file that is missing, no .npy file, truncated, or holds anything but integers.
    """
    import numpy as np

    if path.is_dir():
        raise InputError("this is a folder, not a .npy file", file=path)
    if not path.is_file():
        raise InputError("no such .npy file", file=path)
    try:
        with path.open("rb") as stream:
            _check_header(path, stream)
            stream.seek(0)
            array: NDArray[Any] = np.load(stream, allow_pickle=False)
            return array
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or error})", file=path) from None
    except Exception as error:  # headers are parsed as Python literals, which fail in many ways
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"not a readable .npy file ({reason[:160]})", file=path) from None


def read_tensor(path: Path, bits: int, precision: int | None = None) -> Tensor:
    """A tensor of values of `bits` from a .npy file; `precision` is what their format allows.

    Raises InputError as `read_npy`, and for values that need more than `bits` or `precision`.
    """
    from dpred_sim.values.tensor import Tensor

    array = read_npy(path)
    try:
        tensor = Tensor(array, bits, precision=precision)
    except InputError as error:
        raise InputError(
            error.message, file=path, field=error.field, found=error.found, allowed=error.allowed
        ) from None
    low, high = int(tensor.values.min()), int(tensor.values.max())
    needed = max(high.bit_length(), (~low).bit_length()) + 1 if low < 0 else max(1, high.bit_length())
    if needed > tensor.precision:
        raise InputError(
            "values need more bits than the precision allows",
            file=path,
            field="precision",
            found=tensor.precision,
            allowed=f"{needed}..{bits}",
        )
    return tensor


def _check_header(path: Path, stream: IO[bytes]) -> None:
    """Refuse what the header promises before a byte of data is read."""
    from numpy.lib import format as npy

    version = npy.read_magic(stream)
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in readers:
        raise InputError(
            "unknown .npy version", file=path, found=f"{version[0]}.{version[1]}", allowed="1.0, 2.0"
        )
    shape, _, dtype = readers[version](stream)
    if dtype.hasobject:
        raise InputError("holds Python objects, which are never loaded", file=path, found=f"dtype {dtype}")
    if dtype.kind not in "iu":
        raise InputError("integers expected", file=path, found=f"dtype {dtype}", allowed="integer dtypes")
    if len(shape) > MAX_AXES or any(size < 0 for size in shape):
        raise InputError(
            "no shape of a tensor", file=path, found=str(shape), allowed=f"up to {MAX_AXES} axes"
        )
    promised = prod(shape) * dtype.itemsize
    held = path.stat().st_size - stream.tell()
    if promised > held:
        raise InputError("truncated", file=path, found=f"{held} bytes of data", allowed=f"{promised} bytes")
