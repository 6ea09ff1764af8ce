"""Files out of published packages, kept in the cache folder `models`: trained models, photos, speech.

A file is named by package, version, member and SHA-256. What the cache holds is not fetched again;
what is fetched is checked before it is kept. `DPRED_SIM_OFFLINE=1` forbids downloads.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import IO

from dpred_sim.cache import cache_folder, write_atomic
from dpred_sim.errors import InputError
from dpred_sim.workload.archives import read_members
from dpred_sim.workload.packages import Package, Unavailable, Watch, check_allowed, download

__all__ = ["Source", "Unavailable", "fetch", "is_fetched"]

Observer = Callable[[Package], Watch | None]
"""Is told which package is downloaded now; returns who is told how far it is."""


@dataclass(frozen=True)
class Source:
    """One file of a published package; `size` in bytes."""

    package: Package
    member: str
    sha256: str
    size: int
    licence: str = ""

    @property
    def name(self) -> str:
        """The file's own name."""
        return self.member.rsplit("/", 1)[-1]

    @property
    def cached(self) -> Path:
        """Where the file is kept once it was fetched."""
        return cache_folder("models", f"{self.sha256[:16]}-{self.name}")


def _say(package: Package) -> None:
    print(f"fetching {package} into {cache_folder('models')}", file=sys.stderr)


def fetch(sources: Sequence[Source], observer: Observer = _say) -> list[Path]:
    """Paths of the files, downloaded when the cache does not hold them as they should be.

    Raises Unavailable when a file cannot be had, InputError when a package holds another file than
    it should. Files of one package come out of one download, and none of them is kept unless all are
    right.
    """
    missing: dict[Package, list[Source]] = {}
    for source in dict.fromkeys(sources):
        if not _is_intact(source.cached, source):
            missing.setdefault(source.package, []).append(source)
    for package, wanted in missing.items():
        if not _take_installed(package, wanted):
            check_allowed(package)
            with tempfile.TemporaryDirectory(prefix="dpred-sim-") as folder:
                archive = download(package, Path(folder), observer(package))
                _keep(wanted, read_members(archive, {one.member: one.size for one in wanted}))
    return [source.cached for source in sources]


def is_fetched(sources: Iterable[Source]) -> bool:
    """Whether the cache holds all the files (their content is checked when they are used)."""
    return all(source.cached.is_file() for source in sources)


def _is_intact(path: Path, source: Source) -> bool:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == source.sha256
    except OSError:
        return False


def _take_installed(package: Package, wanted: Sequence[Source]) -> bool:
    """Take the files of an installed Python package, if it is there and they are the same."""
    if package.registry != "pip":
        return False
    try:
        distribution = metadata.distribution(package.name)
    except metadata.PackageNotFoundError:
        return False
    paths = [Path(str(distribution.locate_file(source.member))) for source in wanted]
    if not all(_is_intact(path, source) for path, source in zip(paths, wanted, strict=True)):
        return False
    _keep(wanted, {source.member: path.read_bytes() for path, source in zip(paths, wanted, strict=True)})
    return True


def _keep(wanted: Sequence[Source], found: dict[str, bytes]) -> None:
    """Put files into the cache, after all of them were checked."""
    for source in wanted:
        digest = hashlib.sha256(found[source.member]).hexdigest()
        if digest != source.sha256:
            raise InputError(
                f"{source.member} of {source.package} is another file than the manifest says",
                field="sha256",
                found=digest,
                allowed=source.sha256,
            )
    for source in wanted:
        data = found[source.member]

        def write(stream: IO[bytes], data: bytes = data) -> None:
            stream.write(data)

        try:
            write_atomic(source.cached, write)
        except OSError as error:
            raise Unavailable(f"the cache cannot be written: {error}", file=source.cached) from error
