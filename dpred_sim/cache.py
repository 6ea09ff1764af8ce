"""Where things that cost time to make are kept between runs.

`$DPRED_SIM_CACHE`, else the user's cache folder. Writes are atomic; what cannot be read is made again.
"""

from __future__ import annotations

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


def write_atomic(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Write a file beside its place and rename it into it: readers see all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            write(stream)
        # mkstemp makes files for the owner alone; what the umask allows others, they may read.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
