"""One file out of a package archive: a wheel or zip, or a gzipped tar.

Nothing is unpacked to disk, so no name in an archive can become a path. A member is read up to the
size that is expected of it, and an archive up to `MOST_BYTES`: a small file that unpacks to a huge one
is refused early.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from dpred_sim.errors import InputError

MOST_BYTES = 2 << 30
"""Most that an archive may unpack to."""

CORRUPT = (
    OSError,
    EOFError,
    RuntimeError,  # an encrypted zip; NotImplementedError is one too
    ValueError,
    zlib.error,
    zipfile.BadZipFile,
    tarfile.TarError,
)
"""What reading a damaged archive raises."""


def read_members(archive: Path, sizes: Mapping[str, int]) -> dict[str, bytes]:
    """The members named in `sizes`, each of exactly the bytes it says.

    Raises InputError for a damaged archive, a member that is missing, no regular file or of another
    size, and an archive that unpacks to too much.
    """
    try:
        found = _from_zip(archive, sizes) if zipfile.is_zipfile(archive) else _from_tar(archive, sizes)
    except CORRUPT as error:
        raise InputError(f"the archive is damaged: {error}", file=archive.name) from error
    for member in sizes:
        if member not in found:
            raise InputError("the archive has no such file", file=archive.name, found=member)
    return found


def _from_zip(path: Path, sizes: Mapping[str, int]) -> dict[str, bytes]:
    found = {}
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.filename in sizes and not info.is_dir():
                with archive.open(info) as stream:
                    found[info.filename] = _exactly(path, stream, info.filename, sizes)
    return found


def _from_tar(path: Path, sizes: Mapping[str, int]) -> dict[str, bytes]:
    found = {}
    with (
        path.open("rb") as raw,
        gzip.GzipFile(fileobj=raw) as unpacked,
        io.BufferedReader(_Limited(path, unpacked)) as limited,
        tarfile.open(fileobj=limited, mode="r|") as archive,
    ):
        for info in archive:
            if info.name not in sizes:
                continue
            stream = archive.extractfile(info) if info.isreg() else None
            if stream is None:
                raise InputError("not a regular file in the archive", file=path.name, found=info.name)
            found[info.name] = _exactly(path, stream, info.name, sizes)
    return found


def _exactly(path: Path, stream: IO[bytes], member: str, sizes: Mapping[str, int]) -> bytes:
    """The whole member, which must have the size that is expected of it."""
    size = sizes[member]
    data = stream.read(size + 1)
    if len(data) != size:
        count = f"{len(data)} bytes" if len(data) < size else f"more than {size} bytes"
        raise InputError(
            "a file in the archive has another size",
            file=path.name,
            field=member,
            found=count,
            allowed=f"{size} bytes",
        )
    return data


class _Limited(io.RawIOBase):
    """A stream that refuses to give more than `MOST_BYTES`."""

    def __init__(self, path: Path, stream: gzip.GzipFile) -> None:
        self._path = path
        self._stream = stream
        self._left = MOST_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._stream.read(len(buffer))
        self._left -= len(data)
        if self._left < 0:
            raise InputError(
                "the archive unpacks to too much", file=self._path.name, allowed=f"{MOST_BYTES} bytes"
            )
        buffer[: len(data)] = data
        return len(data)
