"""The manifest: which trained networks and real inputs there are, in which packages, under which licences."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from dpred_sim.errors import InputError, nearest
from dpred_sim.workload.fetch import Source
from dpred_sim.workload.packages import Package, Registry

SCHEMA = "dpred-models/1"
SHIPPED = Path(__file__).parent / "manifest.toml"

Loader = Literal["onnx", "torch-legacy", "tfjs-layers", "npz", "tflite"]


def _inside(member: str) -> str:
    path = PurePosixPath(member)
    if path.is_absolute() or ".." in path.parts or "\\" in member or not path.name:
        raise ValueError("must be a path inside the archive")
    return member


def _version(version: str) -> str:
    if not re.fullmatch(r"\d[\w.+-]*", version):
        raise ValueError("must be one exact version")
    return version


def _package_name(name: str) -> str:
    if not re.fullmatch(r"(@[\w.-]+/)?\w[\w.-]*", name):
        raise ValueError("not the name of a package")
    return name


Member = Annotated[str, AfterValidator(_inside)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Bytes = Annotated[int, Field(gt=0)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PackageEntry(_Entry):
    """A package: what its licence field says, and about how large its archive is."""

    registry: Registry = "pip"
    version: Annotated[str, AfterValidator(_version)]
    size: Bytes
    licence: str


class FileEntry(_Entry):
    """A file of a package."""

    member: Member
    sha256: Sha256
    size: Bytes


class InputEntry(_Entry):
    """A real input: a file of a package, or a file committed in `workloads/data`; `licence` is the content's.

    `cut` says which part is taken: `rows` and `columns` of a photo, `start` and `length` in seconds of a
    recording, `item` of a list of token ids; see `inputs`.
    """

    package: str | None = None
    member: Member
    sha256: Sha256
    size: Bytes
    licence: str
    cut: dict[str, list[int] | float | int] = {}


class ComparisonEntry(_Entry):
    """Inputs of the profile that is made as an independent measurement makes its own: as many as there."""

    calibration: Annotated[tuple[str, ...], Field(min_length=1)]
    held_out: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _held_out_are_unseen(self) -> Self:
        both = sorted(set(self.calibration) & set(self.held_out))
        if both:
            raise ValueError(f"calibrated and held out: {', '.join(both)}")
        return self


class ModelEntry(_Entry):
    """A trained network.

    `build` names the network that is made of weights without a graph (loaders torch-legacy and npz).
    `preprocessing` says how an input becomes what the network reads; see `inputs`. `inputs` are what a
    run sees (the first) and what ranges are over; `calibration` and `held_out` made the profile.
    `comparison` is for a second profile, that compares the network with an independent measurement of it.
    """

    network: str
    layers: Annotated[int, Field(gt=0)]
    package: str
    loader: Loader
    weights_licence: str
    note: str = ""
    build: str = ""
    files: Annotated[tuple[FileEntry, ...], Field(min_length=1)]
    preprocessing: dict[str, Any] = {}
    renames: tuple[tuple[str, str], ...] = ()
    inputs: Annotated[tuple[str, ...], Field(min_length=1)]
    calibration: Annotated[tuple[str, ...], Field(min_length=3)]
    held_out: tuple[str, ...] = ()
    comparison: ComparisonEntry | None = None

    @property
    def size(self) -> int:
        """Bytes of the model's files."""
        return sum(file.size for file in self.files)

    @property
    def all_inputs(self) -> tuple[str, ...]:
        """Every input by name, each once."""
        return tuple(dict.fromkeys([*self.inputs, *self.calibration, *self.held_out]))


class Manifest(_Entry):
    """All packages, inputs and models, by name."""

    schema_: Annotated[Literal["dpred-models/1"], Field(alias="schema")]
    packages: Mapping[Annotated[str, AfterValidator(_package_name)], PackageEntry]
    inputs: Mapping[str, InputEntry]
    models: Mapping[str, ModelEntry]

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        for name, one in self.inputs.items():
            if one.package is not None and one.package not in self.packages:
                raise ValueError(f"inputs.{name}: unknown package {one.package!r}")
        for name, model in self.models.items():
            if model.package not in self.packages:
                raise ValueError(f"models.{name}: unknown package {model.package!r}")
            compared = model.comparison
            more = () if compared is None else (*compared.calibration, *compared.held_out)
            for wanted in (*model.all_inputs, *more):
                if wanted not in self.inputs:
                    raise ValueError(f"models.{name}: unknown input {wanted!r}")
        return self

    def model(self, name: str) -> ModelEntry:
        """A model by name; raises InputError for an unknown one."""
        if name not in self.models:
            raise InputError(f"unknown model{nearest(name, self.models)}", found=name, allowed=self.names)
        return self.models[name]

    @property
    def names(self) -> list[str]:
        """Names of the models, in the manifest's order."""
        return list(self.models)

    def model_sources(self, name: str) -> tuple[Source, ...]:
        """The files of a model."""
        entry = self.model(name)
        package = self._package(entry.package)
        return tuple(Source(package, f.member, f.sha256, f.size, entry.weights_licence) for f in entry.files)

    def input_source(self, name: str) -> Source | None:
        """The file of an input; None for one that is committed."""
        entry = self.inputs[name]
        if entry.package is None:
            return None
        return Source(self._package(entry.package), entry.member, entry.sha256, entry.size, entry.licence)

    def sources(self, name: str) -> tuple[Source, ...]:
        """All that a model needs, its inputs included."""
        inputs = [self.input_source(one) for one in self.model(name).all_inputs]
        found = [*self.model_sources(name), *(source for source in inputs if source is not None)]
        return tuple(dict.fromkeys(found))

    def _package(self, name: str) -> Package:
        entry = self.packages[name]
        return Package(entry.registry, name, entry.version, entry.size)


def read_manifest(path: Path) -> Manifest:
    """The manifest in a TOML file; raises InputError with the place of what is wrong in it."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=path) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"not TOML: {error}", file=path) from error
    try:
        return Manifest.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        value = first["input"] if isinstance(first["input"], str | int | float) else None
        raise InputError(
            first["msg"].removeprefix("Value error, "), file=path, field=place, found=value
        ) from error


@cache
def shipped() -> Manifest:
    """The manifest of the package."""
    return read_manifest(SHIPPED)
