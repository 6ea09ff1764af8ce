"""Where things that cost time to make are kept between runs.

`$DPRED_SIM_CACHE`, else the user's cache folder. Writes are atomic; what cannot be read is made again.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

SCHEMA = 1
"""Part of every key: raise it when the meaning of a cached file changes."""


def cache_folder(*parts: str) -> Path:
    """The cache folder, or one below it; not created."""
    root = os.environ.get("DPRED_SIM_CACHE")
    if root:
        base = Path(root)
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dpred_sim"
    return base.joinpath(*parts)


class AtomicFile:
    """A file that is written beside its place and appears there as a whole, or never."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        self._temporary = Path(name)
        self.stream: IO[bytes] = os.fdopen(handle, "wb")

    def commit(self) -> int:
        """Put the file in its place; returns its size in bytes."""
        self.stream.close()
        # mkstemp makes files for the owner alone; what the umask allows others, they may read.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(self._temporary, 0o666 & ~umask)
        size = self._temporary.stat().st_size
        os.replace(self._temporary, self.path)
        return size

    def discard(self) -> None:
        """Leave nothing behind; harmless after `commit`."""
        with contextlib.suppress(OSError):  # what cannot be written any more is thrown away
            self.stream.close()
        self._temporary.unlink(missing_ok=True)


def write_atomic(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Write a file beside its place and rename it into it: readers see all of it or nothing."""
    file = AtomicFile(path)
    try:
        write(file.stream)
        file.commit()
    except BaseException:
        file.discard()
        raise
