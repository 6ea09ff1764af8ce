"""Real values of a network: weights and every stored tensor, as floating-point numbers.

A capture is made once for a model and its inputs and kept in the cache folder `traces`; every format
(8 or 16 bits, any precision) is made from it. Values are those of the first input; ranges are over
all inputs.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dpred_sim.cache import SCHEMA, cache_folder
from dpred_sim.errors import InputError
from dpred_sim.workload.images import Preprocessing, load_photo
from dpred_sim.workload.importers.onnx_model import (
    InputSpec,
    Model,
    fit_array,
    fold,
    import_onnx,
    read_model,
    sha256_file,
)
from dpred_sim.workload.record import DAMAGED, Record, open_record, write_record

CAPTURE = 1
"""Part of every key: raise it when layers or values of a capture change their meaning."""

ARRAYS = (".npy", ".npz")
"""Suffixes of inputs that are arrays; anything else is a photo."""


class Arrays(Protocol):
    """Arrays and their description, in a file or in memory."""

    description: dict[str, Any]

    def read(self, name: str) -> NDArray[Any]:
        """The array called `name`."""


@dataclass
class InMemory:
    """Arrays that could not be written to the cache."""

    description: dict[str, Any]
    arrays: Mapping[str, NDArray[Any]]

    def read(self, name: str) -> NDArray[Any]:
        """The array called `name`."""
        return self.arrays[name]


@dataclass(frozen=True)
class InputFile:
    """A file that the network is fed with; `path` is called when the file is needed."""

    name: str
    sha256: str
    path: Callable[[], Path]


@dataclass(frozen=True)
class Subject:
    """What is captured: a model and its inputs. Nothing is opened before it is needed."""

    name: str
    model_sha256: str
    model: Callable[[], Path]
    inputs: tuple[InputFile, ...]
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    renames: tuple[tuple[str, str], ...] = ()

    @property
    def key(self) -> str:
        """SHA-256 of all that decides the capture."""
        return key_of(
            {
                "schema": [SCHEMA, CAPTURE],
                "model": self.model_sha256,
                "inputs": [[Path(item.name).suffix.lower(), item.sha256] for item in self.inputs],
                "preprocessing": self.preprocessing.to_dict(),
                "renames": self.renames,
            }
        )


def key_of(parts: Any) -> str:
    """SHA-256 of something JSON-ready."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def file_inputs(paths: Iterable[Path]) -> tuple[InputFile, ...]:
    """Inputs that are files at hand. Raises InputError when one cannot be read."""
    return tuple(InputFile(path.name, sha256_file(path), partial(_itself, path)) for path in paths)


def file_subject(model: Path, inputs: Iterable[Path], preprocessing: Preprocessing | None = None) -> Subject:
    """The subject of a model and inputs that are files. Raises InputError when one cannot be read."""
    settings = preprocessing or Preprocessing()
    return Subject(model.stem, sha256_file(model), partial(_itself, model), file_inputs(inputs), settings)


def _itself(path: Path) -> Path:
    return path


def capture(subject: Subject) -> Arrays:
    """The capture of a subject, from the cache or made now.

    The description holds `layers` (settings in execution order), `activations` and `weights` (shape,
    low and high by name), `outputs` (what the network returns), `files` and `versions`. Arrays are
    called `activations/NAME` and `weights/NAME`: float32, channel last.
    Raises InputError for what is wrong with model or inputs; MissingExtra.
    """
    path = cache_folder("traces", f"{subject.key[:32]}-float.npz")
    record = open_record(path)
    if record is not None and _is_current(record, subject):
        return record
    description, arrays = _make(subject)
    try:
        write_record(path, description, arrays)
    except OSError as error:
        print(f"the cache cannot be written, the capture is not kept: {error}", file=sys.stderr)
    return InMemory(description, arrays)


def _is_current(record: Record, subject: Subject) -> bool:
    """Whether the record is whole and belongs to the subject, external data of the model included."""
    try:
        if record.description["key"] != subject.key:
            return False
        record.check()
        return external_files_match(record.description, subject)
    except DAMAGED:
        return False


def external_files_match(description: Mapping[str, Any], subject: Subject) -> bool:
    """Whether the model's external data are the files that the description was made from."""
    files = description["files"]
    if not files:
        return True
    folder = subject.model().parent
    return all((folder / name).is_file() and sha256_file(folder / name) == sha for name, sha in files)


def _make(subject: Subject) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
    from dpred_sim.workload.importers.onnx_graph import Graph
    from dpred_sim.workload.importers.onnx_layers import plan_layers

    model = read_model(subject.model())
    if not subject.inputs:
        raise InputError("real values need an input: give --input FILE", file=model.path)
    feeds = read_inputs(model.spec, subject)
    folded = fold(model, feeds[0].shape)
    graph = Graph(model, folded, feeds[0])
    plan = plan_layers(graph, subject.renames)
    arrays: dict[str, NDArray[np.float32]] = {}
    ranges: dict[str, tuple[float, float]] = {}
    tensors = [layer.tensor for layer in plan.layers]
    for i, feed in enumerate(feeds):
        found = graph.runner.run(tensors, {model.spec.name: feed})
        for layer, value in zip(plan.layers, found, strict=True):
            low, high = _range(model.path, layer.name, value)
            before = ranges.get(layer.name, (low, high))
            ranges[layer.name] = (min(low, before[0]), max(high, before[1]))
            if i == 0:
                stored = np.empty(value.size, dtype=np.float32)
                stored[layer.positions.ravel()] = value.ravel()
                arrays[f"activations/{layer.name}"] = stored.reshape(layer.shape)
    weights = {}
    for layer in plan.layers:
        if layer.weights is not None:
            values = arrays[f"weights/{layer.name}"] = layer.weights.values
            weights[layer.name] = _about(values.shape, float(values.min()), float(values.max()))
    description = {
        "key": subject.key,
        "layers": [{"name": layer.name, **layer.settings} for layer in plan.layers if layer.settings],
        "activations": {layer.name: _about(layer.shape, *ranges[layer.name]) for layer in plan.layers},
        "weights": weights,
        "outputs": plan.outputs,
        "files": [[name, sha256_file(model.path.parent / name)] for name in model.files],
        "versions": versions(),
    }
    # Through JSON, so that a capture made now and one from the cache are the same.
    return json.loads(json.dumps(description, sort_keys=True)), arrays


def read_inputs(spec: InputSpec, subject: Subject) -> list[NDArray[Any]]:
    """All inputs of a subject as the model reads them; they must have one shape."""
    feeds = [read_input(spec, item.path(), subject.preprocessing) for item in subject.inputs]
    for item, feed in zip(subject.inputs, feeds, strict=True):
        if feed.shape != feeds[0].shape:
            raise InputError(
                "all inputs must have the same shape",
                file=item.name,
                found=feed.shape,
                allowed=feeds[0].shape,
            )
    return feeds


def read_input(spec: InputSpec, path: Path, preprocessing: Preprocessing) -> NDArray[Any]:
    """One input: an array (.npy, .npz without pickled objects), else a photo. Raises InputError."""
    if path.suffix.lower() not in ARRAYS:
        return fit_array(path, spec, load_photo(path, spec.shape, preprocessing))
    try:
        found = np.load(path, allow_pickle=False)
    except Exception as error:
        raise InputError("not an array that numpy reads without pickle", file=path) from error
    if isinstance(found, np.ndarray):
        return fit_array(path, spec, found)
    with found:
        names = list(found.files)
        name = spec.name if spec.name in names else names[0] if len(names) == 1 else None
        if name is None:
            raise InputError(
                "which array is the input?", file=path, found=names, allowed=f"one, or {spec.name!r}"
            )
        try:
            array = found[name]
        except Exception as error:
            raise InputError("not an array that numpy reads without pickle", file=path, field=name) from error
    return fit_array(path, spec, array)


def folded_model(subject: Subject) -> tuple[Model, Any, list[NDArray[Any]]]:
    """The model, the folded model for the shape of the inputs, and the inputs."""
    model = read_model(subject.model())
    feeds = read_inputs(model.spec, subject)
    return model, fold(model, feeds[0].shape), feeds


def versions() -> dict[str, str]:
    """Versions of the tools that make a capture."""
    onnx, ort = import_onnx()
    return {"onnx": onnx.__version__, "onnxruntime": ort.__version__, "numpy": np.__version__}


def _range(path: Path, name: str, value: NDArray[Any]) -> tuple[float, float]:
    low, high = float(value.min()), float(value.max())
    if not np.isfinite(low + high):
        raise InputError("values are not finite (NaN or infinity)", file=path, field=f"outputs of {name!r}")
    return low, high


def _about(shape: tuple[int, ...], low: float, high: float) -> dict[str, Any]:
    return {"shape": list(shape), "low": low, "high": high}
