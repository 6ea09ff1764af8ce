"""The importer contract: how a file becomes a workload."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from dpred_sim.errors import InputError
from dpred_sim.registry import Registry
from dpred_sim.workload.workload import Workload


class Importer(ABC):
    """Base of all importers: one class a kind of file, chosen by the file's suffix.

    A folder is read by the importer whose `marker` is a file in it.

    The folder scan imports every importer, so a module brings in heavy optional packages only inside
    `load`, with `MissingExtra` when they are absent.
    """

    suffixes: ClassVar[tuple[str, ...]]
    """Suffixes of the files that the importer reads, lower case, with the dot."""

    marker: ClassVar[str] = ""
    """Name of the file that a folder holds which the importer reads; empty when it reads no folders."""

    @abstractmethod
    def load(self, path: Path, *, bits: int, quantise: str, inputs: Sequence[Path], seed: int) -> Workload:
        """The workload in the file (or folder) `path`, which exists.

        `bits` is 8 or 16, the width of a value in the uncompressed model; `quantise` names how real
        numbers become integers (the importer checks the name); `inputs` are existing files that the
        network is fed with; `seed` is not negative.
        Raises InputError for whatever is wrong with the file or the inputs.
        """


IMPORTERS: Registry[type[Importer]] = Registry(
    "importer", "dpred_sim.workload.importers", "dpred_sim.importers"
)
register = IMPORTERS.register


def importer_for(path: Path) -> Importer:
    """The importer that reads files with the suffix of `path`, or the folder `path`.

    Raises InputError when none does, or when two of them claim it.
    """
    claims = [(name, IMPORTERS.get(name)) for name in IMPORTERS.names()]
    if path.is_dir():
        found = [(name, cls) for name, cls in claims if cls.marker and (path / cls.marker).is_file()]
        if not found:
            allowed = sorted(f"a folder with {cls.marker}" for _, cls in claims if cls.marker)
            raise InputError("no importer reads such a workload folder", file=path, allowed=allowed)
    else:
        suffix = path.suffix.lower()
        found = [(name, cls) for name, cls in claims if suffix in cls.suffixes]
        if not found:
            allowed = sorted(suffix for _, cls in claims for suffix in cls.suffixes)
            raise InputError(
                "no importer reads such a workload file", file=path, found=suffix, allowed=allowed
            )
    if len(found) > 1:
        names = " and ".join(repr(name) for name, _ in found)
        raise InputError(f"the importers {names} both read such a workload file", file=path, found=path.name)
    return found[0][1]()
