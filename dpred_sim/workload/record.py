"""Arrays and their description in one file: an .npz that `numpy.load` reads as well.

The description is JSON, kept as the member `description`. Reading checks the checksum of what is
read; nothing is ever unpickled. The same contents give the same bytes.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.cache import write_atomic

DESCRIPTION = "description"
DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError)
"""What reading a damaged file raises."""


class Record:
    """A file of arrays, opened: the description is there, arrays are read one by one.

    Opening and reading raise one of `DAMAGED` when the file is not what it should be.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._archive = zipfile.ZipFile(path)
        text = self._member(DESCRIPTION).tobytes().decode("utf-8")
        self.description: dict[str, Any] = json.loads(text)

    def read(self, name: str) -> NDArray[Any]:
        """The array called `name`."""
        return self._member(self.description["members"][name])

    def check(self) -> None:
        """Read everything once; raises one of `DAMAGED` when a checksum does not hold."""
        if (bad := self._archive.testzip()) is not None:
            raise ValueError(f"{bad} is damaged")

    def _member(self, member: str) -> NDArray[Any]:
        data = self._archive.read(f"{member}.npy")
        stream = io.BytesIO(data)
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError("unknown .npy version")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        if fortran or dtype.hasobject:
            raise ValueError("not a plain array")
        return np.frombuffer(data, dtype=dtype, offset=stream.tell()).reshape(shape)


def write_record(
    path: Path, description: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], *, compress: bool = False
) -> None:
    """Write arrays and their description, atomically. Raises OSError."""
    members = {name: f"array{i:04d}" for i, name in enumerate(arrays)}
    text = json.dumps({**description, "members": members}, sort_keys=True)
    everything = {DESCRIPTION: np.frombuffer(text.encode("utf-8"), dtype=np.uint8)}
    everything.update((members[name], array) for name, array in arrays.items())
    kind = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED

    def write(stream: IO[bytes]) -> None:
        with zipfile.ZipFile(stream, "w", kind, compresslevel=9) as archive:
            for name, array in everything.items():
                packed = io.BytesIO()
                np.lib.format.write_array(packed, np.ascontiguousarray(array), (1, 0), allow_pickle=False)
                # A fixed date: same contents, same bytes.
                info = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
                info.compress_type = kind
                archive.writestr(info, packed.getvalue(), compresslevel=9)

    write_atomic(path, write)


def open_record(path: Path) -> Record | None:
    """The record in a file; None when there is none, or none that can be read."""
    try:
        return Record(path)
    except DAMAGED:
        return None
