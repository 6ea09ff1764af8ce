"""Trace folders: the values of every tensor of a network on some inputs, as plain files.

A folder holds `layers.json` and float32 .npy files, channel last (docs/traces.md): the weights of each
layer, each stored tensor once an input, and what the model was fed with. It is written beside its place
and renamed into it. Nothing in it is ever unpickled, and no path leads out of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.errors import InputError
from dpred_sim.workload.capture import Captor, InputFile, Ranges, Subject, key_of
from dpred_sim.workload.images import Preprocessing, preprocessing_from
from dpred_sim.workload.importers.onnx_model import sha256_file
from dpred_sim.workload.inputs import Feed

SCHEMA = "dpred-trace/1"
DESCRIPTION = "layers.json"
KINDS = ("activations", "weights")
PROFILE = "profile.json"
"""A profile in a trace folder is the one that a run takes."""


def write_trace(subject: Subject, folder: Path, force: bool = False) -> TraceFolder:
    """Capture a subject into a trace folder. One input at a time is in memory.

    Raises InputError when the folder exists and `force` is not set, cannot be written or is no trace
    folder, and for whatever is wrong with model or inputs; MissingExtra.
    """
    check_place(folder, force)
    captor = Captor(subject)
    parent = folder.resolve().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=parent, prefix=f".{folder.name}."))
    except OSError as error:
        raise InputError(f"cannot write a trace here: {error.strerror}", file=folder) from None
    try:
        description = _Writer(captor, temporary, folder).write()
        text = json.dumps(description, indent=1, sort_keys=True) + "\n"
        (temporary / DESCRIPTION).write_text(text, encoding="utf-8")
        temporary.chmod(0o755)
        if folder.is_dir():
            shutil.rmtree(folder)
        os.replace(temporary, folder)
    except OSError as error:
        raise InputError(f"cannot write a trace here: {error.strerror}", file=folder) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return TraceFolder(folder)


def check_place(folder: Path, force: bool) -> None:
    """Raise InputError when a trace must not be written here; call it before a long capture."""
    if not folder.exists() and not folder.is_symlink():
        parent = next(p for p in folder.absolute().parents if p.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
            raise InputError("cannot write a trace here", file=folder)
        return
    if not folder.is_dir() or folder.is_symlink():
        raise InputError("this is not a folder", file=folder)
    if not force:
        raise InputError("the trace folder exists", file=folder, allowed="another --out, or --force")
    if any(folder.iterdir()) and not (folder / DESCRIPTION).is_file():
        raise InputError("not a trace folder: --force replaces only traces", file=folder)


class _Writer:
    """Writes the tensors of a subject and puts together what `layers.json` says of them."""

    def __init__(self, captor: Captor, folder: Path, final: Path) -> None:
        self.captor = captor
        self.folder = folder
        self.final = final
        self.ranges = Ranges(captor.model.path)

    def write(self) -> dict[str, Any]:
        subject, captor = self.captor.subject, self.captor
        files: dict[str, list[dict[str, str]]] = {}
        order = {layer.name: f"{i:04d}-{_plain(layer.name)}" for i, layer in enumerate(captor.plan.layers)}
        weights = {}
        for name, held in captor.weights():
            values = held.values
            self.ranges.include_weights(name, values)
            weights[name] = self._save(f"weights/{order[name]}.npy", values)
        del values
        inputs = []
        for index, (item, feed) in enumerate(zip(subject.inputs, captor.feeds, strict=True)):
            fed = self._save_input(f"inputs/{index}.npz", feed)
            inputs.append({"name": item.name, "sha256": item.sha256, **fed})
            for layer, values in captor.tensors(feed):
                self.ranges.include(layer.name, values)
                place = f"activations/{index}/{order[layer.name]}.npy"
                files.setdefault(layer.name, []).append(self._save(place, values))
        found = captor.describe(self.ranges)
        for name, about in found["activations"].items():
            about["files"] = files[name]
        for name, about in found["weights"].items():
            about["files"] = [weights[name]]
        path = captor.model.path.resolve()
        return {
            **found,
            "schema": SCHEMA,
            "name": subject.name,
            "model": {
                "file": Path(os.path.relpath(path, self.final.resolve())).as_posix(),
                "sha256": subject.model_sha256,
            },
            "inputs": inputs,
            "preprocessing": subject.preprocessing.to_dict(),
            "renames": [list(pair) for pair in subject.renames],
        }

    def _save(self, place: str, array: NDArray[Any]) -> dict[str, str]:
        path = self.folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as stream:
            hashed = _Hashing(stream)
            np.lib.format.write_array(hashed, np.ascontiguousarray(array), (1, 0), allow_pickle=False)
        return {"file": place, "sha256": hashed.digest.hexdigest()}

    def _save_input(self, place: str, feed: Feed) -> dict[str, str]:
        """What the model was fed with, an array for each of its inputs."""
        path = self.folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as stream:
            np.savez(stream, **feed)  # type: ignore[arg-type]
        return {"file": place, "sha256": sha256_file(path)}


class _Hashing:
    """A stream that hashes what is written to it: the file is not read again."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.digest = hashlib.sha256()

    def write(self, data: Any) -> int:
        self.digest.update(data)
        return int(self.stream.write(data))


def _plain(name: str) -> str:
    """A tensor's name as a part of a file name, at most 60 characters."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name)[-60:].strip("._") or "tensor"


class TraceFolder:
    """A trace folder, opened: the description is checked, arrays are read one by one.

    It is what `capture` gives for the first input (or for input number `index`). Raises InputError for a
    folder that is incomplete or does not fit its description; an array is checked when it is read.
    """

    def __init__(self, path: Path, index: int = 0) -> None:
        self.path = path
        self.index = index
        self.description = _read_description(path)
        _check_files(path, self.description)

    @cached_property
    def key(self) -> str:
        """SHA-256 of all that decides the values: the folder can be moved, and the model lie elsewhere."""
        model = {"sha256": self.description["model"]["sha256"]}
        return key_of([self.index, {**self.description, "model": model}])

    @property
    def name(self) -> str:
        """Name of the workload."""
        return str(self.description["name"])

    @property
    def inputs(self) -> list[str]:
        """Names of the files that the network was fed with."""
        return [item["name"] for item in self.description["inputs"]]

    def read(self, name: str) -> NDArray[Any]:
        """The array called `activations/NAME` or `weights/NAME`; raises InputError for a damaged file."""
        kind, _, tensor = name.partition("/")
        files = self.description[kind][tensor]["files"]
        entry = files[self.index if kind == "activations" else 0]
        return _read_array(self.path, entry, tuple(self.description[kind][tensor]["shape"]))

    def subject(self, model: Path | None = None) -> Subject:
        """The model and the inputs that the trace was made of, to run the model again.

        Raises InputError when the model (by default the file that the trace names) is another one.
        """
        about = self.description["model"]
        return Subject(
            self.name,
            about["sha256"],
            partial(self._model, model),
            tuple(
                InputFile(item["name"], item["sha256"], partial(self._fed, item))
                for item in self.description["inputs"]
            ),
            self.preprocessing,
            tuple((pattern, text) for pattern, text in self.description["renames"]),
        )

    @property
    def preprocessing(self) -> Preprocessing:
        """How photos became inputs."""
        return preprocessing_from(self.description["preprocessing"], self.path / DESCRIPTION)

    def _model(self, given: Path | None) -> Path:
        about = self.description["model"]
        path = given or self.path / about["file"]
        if not path.is_file():
            raise InputError(
                "the model of the trace is not there: name it with --model FILE",
                file=self.path,
                found=str(path),
            )
        found = sha256_file(path)
        if found != about["sha256"]:
            raise InputError(
                "the trace was made with another model",
                file=path,
                field="sha256",
                found=found,
                allowed=about["sha256"],
            )
        return path

    def _fed(self, item: Mapping[str, Any]) -> Path:
        """The file with what the model was fed with for one input."""
        path: Path = self.path / item["file"]
        _check_digest(path, sha256_file(path), item)
        return path

    def captured(self) -> TraceFolder:
        """The values: the folder itself."""
        return self

    def is_current(self, description: Mapping[str, Any]) -> bool:
        """Whether integers with this description still fit: the key says it all."""
        return True


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"not a trace folder: {DESCRIPTION}: {error.strerror}", file=folder) from error
    except json.JSONDecodeError as error:
        raise InputError(error.msg, file=path, line=error.lineno, column=error.colno) from error
    except UnicodeDecodeError as error:
        raise InputError("not UTF-8 text", file=path) from error
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        schema = found.get("schema") if isinstance(found, dict) else type(found).__name__
        raise InputError("not a trace", file=path, field="schema", found=schema, allowed=SCHEMA)
    kinds: dict[str, Any] = {
        "name": str, "model": dict, "inputs": list, "layers": list, "activations": dict, "weights": dict,
        "outputs": list, "files": list, "versions": dict, "preprocessing": dict, "renames": list,
    }  # fmt: skip
    for key, kind in kinds.items():
        if not isinstance(found.get(key), kind):
            raise InputError("missing, or of the wrong kind", file=path, field=key, allowed=kind.__name__)
    try:
        _check_entries(found)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise InputError(f"an entry is damaged: {error}", file=path) from error
    return found


def _check_entries(found: Mapping[str, Any]) -> None:
    """Raise a plain exception where `layers.json` does not have the form that is read later."""
    count = len(found["inputs"])
    if count < 1:
        raise ValueError("no inputs")
    for kind in KINDS:
        for name, about in found[kind].items():
            shape, files = about["shape"], about["files"]
            if not shape or any(not isinstance(size, int) or size < 1 for size in shape):
                raise ValueError(f"{kind} {name}: shape {shape}")
            if len(files) != (count if kind == "activations" else 1):
                raise ValueError(f"{kind} {name}: {len(files)} files for {count} input(s)")
            if not -np.inf < float(about["low"]) <= float(about["high"]) < np.inf:
                raise ValueError(f"{kind} {name}: a range from {about['low']} to {about['high']}")
            for entry in files:
                _check_entry(entry)
    for item in found["inputs"]:
        _check_entry(item)
        if not isinstance(item["name"], str) or not isinstance(item["sha256"], str):
            raise ValueError("an input without a name")
    for key in ("file", "sha256"):
        if not isinstance(found["model"][key], str):
            raise ValueError(f"model: {key}")
    names = set(found["activations"])
    names |= {layer["name"] for layer in found["layers"] if layer["kind"] == "concat"}
    for layer in found["layers"]:
        read = [layer.get("reads"), layer.get("shortcut"), layer.get("second"), layer["name"]]
        read += [part["name"] for part in layer.get("parts", ())] + list(layer.get("joins", ()))
        for name in read:
            if name is not None and name not in names and name.rsplit(".h[", 1)[0] not in names:
                raise ValueError(f"layer {layer['name']}: no tensor is called {name!r}")
        if (
            layer["kind"] in ("conv", "linear", "recurrence", "reset")
            and layer["name"] not in found["weights"]
        ):
            raise ValueError(f"layer {layer['name']}: no weights")


def _check_entry(entry: Mapping[str, Any]) -> None:
    place = Path(entry["file"])
    if place.is_absolute() or ".." in place.parts or "\\" in entry["file"]:
        raise ValueError(f"a path out of the folder: {entry['file']}")
    if not isinstance(entry["sha256"], str):
        raise ValueError(f"{entry['file']}: no sha256")


def _entries(description: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], tuple[int, ...] | None]]:
    for kind in KINDS:
        for about in description[kind].values():
            for entry in about["files"]:
                yield entry, tuple(about["shape"])
    for item in description["inputs"]:
        yield item, None


def _check_files(folder: Path, description: Mapping[str, Any]) -> None:
    """Every file is there, within the folder and as large as it should be; contents are checked later."""
    root = folder.resolve()
    for entry, shape in _entries(description):
        path = folder / entry["file"]
        if not path.is_file():
            raise InputError("the trace folder is incomplete: a file is missing", file=path)
        if not path.resolve().is_relative_to(root):
            raise InputError("a file of the trace lies outside its folder: not read", file=path)
        if shape is not None:
            least = 4 * int(np.prod(shape, dtype=np.int64))
            size = path.stat().st_size
            # A header takes 64 to a few hundred bytes.
            if not least + 64 <= size <= least + 1024:
                raise InputError(
                    "a file of the trace does not fit its shape: cut short, or another file",
                    file=path,
                    found=f"{size} bytes",
                    allowed=f"float32 {shape}: {least} bytes and a header",
                )


def _read_array(folder: Path, entry: Mapping[str, Any], shape: tuple[int, ...]) -> NDArray[Any]:
    path = folder / entry["file"]
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            stream.seek(0)
            array: NDArray[Any] = np.load(stream, allow_pickle=False)
    except Exception as error:
        # numpy raises many kinds for a damaged file.
        raise InputError("a file of the trace cannot be read", file=path) from error
    if array.shape != shape or array.dtype != np.dtype("<f4"):
        raise InputError(
            "a file of the trace is another array than it says",
            file=path,
            found=f"{array.dtype} {array.shape}",
            allowed=f"float32 {shape}",
        )
    if not np.isfinite(array).all():
        raise InputError("values are not finite (NaN or infinity)", file=path)
    _check_digest(path, digest, entry)
    return array


def _check_digest(path: Path, digest: str, entry: Mapping[str, Any]) -> None:
    if digest != entry["sha256"]:
        raise InputError(
            "a file of the trace was changed",
            file=path,
            field="sha256",
            found=digest,
            allowed=entry["sha256"],
        )
