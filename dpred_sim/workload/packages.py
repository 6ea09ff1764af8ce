"""Downloads of published packages by their ordinary clients, pip and npm.

A package is downloaded as an archive; it is never built, installed, imported or run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Literal

from dpred_sim.errors import InputError

Registry = Literal["pip", "npm"]

OFFLINE = "DPRED_SIM_OFFLINE"
"""Name of the environment variable that forbids downloads when it is set to 1."""

TIMEOUT_S = 1800
POLL_S = 0.1

Watch = Callable[[int], None]
"""Is told the bytes that have arrived so far."""


class Unavailable(InputError):
    """A file is not in the cache and cannot be downloaded here and now."""


@dataclass(frozen=True)
class Package:
    """One version of a published package. `size` is about what its archive weighs, in bytes."""

    registry: Registry
    name: str
    version: str
    size: int = 0

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def check_allowed(package: Package) -> None:
    """Raise Unavailable where downloads are forbidden."""
    if os.environ.get(OFFLINE) == "1":
        raise Unavailable(f"{package} is not in the cache, and {OFFLINE}=1 forbids downloads")


def download(package: Package, folder: Path, watch: Watch | None = None) -> Path:
    """The archive of a package, downloaded into the empty `folder`.

    Raises Unavailable where it cannot be had: no client, no such package, no network.
    """
    target = folder / "archive"
    target.mkdir()
    command = _npm(package, target, folder) if package.registry == "npm" else _pip(package, target)
    said = _run(command, package, folder, watch)
    archives = sorted([*target.glob("*.whl"), *target.glob("*.tgz")])
    if len(archives) != 1:
        raise Unavailable(f"{package} cannot be downloaded: {said}")
    return archives[0]


def _pip(package: Package, target: Path) -> list[str]:
    # Wheels only: an sdist would be built to learn its metadata. The package never runs here, so that
    # it is not for this Python does not matter.
    options = ["--no-deps", "--only-binary", ":all:", "--ignore-requires-python"]
    quiet = ["--disable-pip-version-check", "--no-input", "--quiet"]
    what = f"{package.name}=={package.version}"
    return [sys.executable, "-m", "pip", "download", *options, *quiet, "-d", str(target), what]


def _npm(package: Package, target: Path, folder: Path) -> list[str]:
    client = shutil.which("npm")
    if client is None:
        raise Unavailable(
            f"{package} is an npm package, and there is no npm here: install Node.js, which brings it"
        )
    options = ["--ignore-scripts", "--loglevel=error", "--no-update-notifier", "--cache", str(folder / "npm")]
    return [client, "pack", f"{package.name}@{package.version}", *options, "--pack-destination", str(target)]


def _run(command: list[str], package: Package, folder: Path, watch: Watch | None) -> str:
    """Run a client to its end; returns what it said in one line. Raises Unavailable."""
    log = folder / "log"
    # The client's scratch files lie in the folder too: they show how far it is, and go with it.
    scratch = folder / "scratch"
    scratch.mkdir()
    environment = {**os.environ, "TMPDIR": str(scratch)}
    try:
        with log.open("wb") as stream:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
    except OSError as error:
        raise Unavailable(f"{package} cannot be downloaded: {error}") from error
    end = monotonic() + TIMEOUT_S
    try:
        while process.poll() is None:
            if monotonic() > end:
                raise Unavailable(f"{package} cannot be downloaded: no end after {TIMEOUT_S} s")
            if watch is not None:
                watch(_bytes_below(folder))
            sleep(POLL_S)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    said = _reason(lines) or f"{package.registry} fetched no archive"
    if process.returncode != 0:
        raise Unavailable(f"{package} cannot be downloaded: {said}")
    return said


def _reason(lines: Sequence[str]) -> str:
    """The line that says why: pip ends with it, npm starts with a code and tells then."""
    told = [line.removeprefix("npm").strip().removeprefix("error").strip() for line in lines]
    if lines and lines[0].startswith("npm "):
        told = [line for line in told if line and not line.startswith("code ")][:1]
    return told[-1] if told else ""


def _bytes_below(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue  # it has just been moved
    return total
