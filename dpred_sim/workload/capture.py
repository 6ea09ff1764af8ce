"""Real values of a network: weights and every stored tensor, as floating-point numbers.

A capture is made once for a model and its inputs and kept in the cache folder `traces`; every format
(8 or 16 bits, any precision) is made from it. Values are those of the first input; ranges are over
all inputs.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dpred_sim.cache import SCHEMA, cache_folder
from dpred_sim.errors import InputError
from dpred_sim.workload.images import Preprocessing
from dpred_sim.workload.importers.onnx_model import Model, read_model, sha256_file
from dpred_sim.workload.importers.onnx_native import Native
from dpred_sim.workload.importers.onnx_prepare import Prepared, prepare, size_named
from dpred_sim.workload.importers.onnx_runtime import Runner, import_onnx
from dpred_sim.workload.inputs import Feed, InputSpec, read_feed
from dpred_sim.workload.record import DAMAGED, Record, open_record, write_record

if TYPE_CHECKING:
    from dpred_sim.workload.importers.onnx_plan import Planned, Weights

CAPTURE = 4
"""Part of every key: raise it when layers or values of a capture change their meaning."""


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

    def captured(self) -> Arrays:
        """The values, from the cache or made now; see `capture`."""
        return capture(self)

    def is_current(self, description: Mapping[str, Any]) -> bool:
        """Whether integers with this description still fit the files."""
        return external_files_match(description, self)


class Captured(Protocol):
    """What integers are made from: the values of a model on its inputs, wherever they are."""

    @property
    def name(self) -> str:
        """Name of the workload."""

    @property
    def key(self) -> str:
        """SHA-256 of all that decides the values."""

    def captured(self) -> Arrays:
        """The values of the first input with their description, see `capture`."""

    def is_current(self, description: Mapping[str, Any]) -> bool:
        """Whether integers with this description still fit."""


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


class Captor:
    """A model made ready for inputs of one shape: runs it and gives every stored tensor.

    `feeds` are the inputs of the subject as the model reads them. Raises InputError for what is wrong
    with model or inputs; MissingExtra.
    """

    def __init__(self, subject: Subject) -> None:
        from dpred_sim.workload.importers.onnx_graph import Graph
        from dpred_sim.workload.importers.onnx_layers import plan_layers

        self.subject = subject
        self.model = read_model(subject.model())
        self.feeds = read_inputs(self.model.specs, subject)
        with size_named(self.model, self.feeds[0], subject.inputs[0].name):
            prepared = folded_model(self.model, self.feeds[0])
            self.folded, self.count = prepared.folded, prepared.count
            self.graph = Graph(self.model, self.folded, self.feeds[0])
        self.plan = plan_layers(self.graph, subject.renames, prepared.natives)

    @cached_property
    def runner(self) -> Runner:
        """The model in a session that gives what is stored."""
        makers = self.graph.makers
        names = dict.fromkeys(name for layer in self.plan.stored for name in layer.sources)
        return Runner(self.model.path, self.folded, [name for name in names if name in makers])

    def is_real(self, name: str) -> bool:
        """Whether the ONNX tensor of a stored one holds floating-point numbers."""
        return bool(self.runner.types.get(name, "tensor(float)") == "tensor(float)")

    def tensors(self, feed: Feed) -> Iterator[tuple[Planned, NDArray[np.float32]]]:
        """The stored tensors of one input, in the order of the plan; raises InputError for NaN."""
        graph, layers = self.graph, self.plan.stored
        left = Counter(name for layer in layers for name in layer.sources)
        constant = {name: values for name in left if (values := graph.constant(name)) is not None}
        fed = {name: array for name, array in feed.items() if name in graph.inputs}
        found = dict(zip(left, self.runner.run(list(left), {**constant, **fed}), strict=True))
        for name, array in found.items():
            if array.shape != graph.shape(name):
                raise InputError(
                    "the inputs give tensors of different sizes: give inputs that find as much, or one alone",
                    file=self.model.path,
                    field=f"tensor {name!r}",
                    found=array.shape,
                    allowed=graph.shape(name),
                )
        for layer in layers:
            values = layer.arrange(*(found[name] for name in layer.sources))
            left.subtract(layer.sources)
            for name in set(layer.sources):
                if not left[name]:
                    del found[name]
            yield layer, values

    def weights(self) -> Iterator[tuple[str, Weights]]:
        """The weights of every layer that has some."""
        return ((layer.name, layer.weights) for layer in self.plan.layers if layer.weights is not None)

    def describe(self, ranges: Ranges) -> dict[str, Any]:
        """The description of a capture with these ranges of tensors and weights, JSON-ready.

        Raises InputError where the layers have other products than the model.
        """
        layers = self.plan.layers
        self.count.check(self.plan, ranges.shapes)
        activations = {
            x.name: _about(x.shape, *ranges.activations[x.name], x.native) for x in layers if x.is_stored
        }
        weights = {
            name: _about(ranges.shapes[name], *ranges.weights[name], held.native)
            for name, held in self.weights()
        }
        folder = self.model.path.parent
        description = {
            "key": self.subject.key,
            "layers": [{"name": layer.name, **layer.settings} for layer in layers if layer.settings],
            "activations": activations,
            "weights": weights,
            "outputs": self.plan.outputs,
            "files": [[name, sha256_file(folder / name)] for name in self.model.files],
            "versions": versions(),
        }
        # Through JSON, so that a capture made now and one from the cache are the same.
        found: dict[str, Any] = json.loads(json.dumps(description, sort_keys=True))
        return found


class Ranges:
    """Lowest and highest value of each stored tensor and of weights, over all inputs so far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.activations: dict[str, tuple[float, float]] = {}
        self.weights: dict[str, tuple[float, float]] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}

    def include_weights(self, name: str, values: NDArray[Any]) -> None:
        """Enter the weights of a layer."""
        self.weights[name] = float(values.min()), float(values.max())
        self.shapes[name] = values.shape

    def include(self, name: str, values: NDArray[Any]) -> None:
        """Widen the range of a tensor; raises InputError for values that are not finite."""
        low, high = float(values.min()), float(values.max())
        if not np.isfinite(low + high):
            raise InputError(
                "values are not finite (NaN or infinity)",
                file=self.path,
                field=f"outputs of {name!r}",
                allowed="finite values: for a mask, a large negative number in place of infinity",
            )
        before = self.activations.get(name, (low, high))
        self.activations[name] = (min(low, before[0]), max(high, before[1]))


def _make(subject: Subject) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
    captor = Captor(subject)
    arrays: dict[str, NDArray[np.float32]] = {}
    ranges = Ranges(captor.model.path)
    for i, feed in enumerate(captor.feeds):
        for layer, values in captor.tensors(feed):
            ranges.include(layer.name, values)
            if i == 0:
                arrays[f"activations/{layer.name}"] = values
    for name, weights in captor.weights():
        arrays[f"weights/{name}"] = weights.values
        ranges.include_weights(name, arrays[f"weights/{name}"])
    return captor.describe(ranges), arrays


def read_inputs(specs: Sequence[InputSpec], subject: Subject) -> list[Feed]:
    """All inputs of a subject as the model reads them, one at least; they must have one shape."""
    if not subject.inputs:
        raise InputError("real values need an input: give --input FILE", file=subject.model())
    feeds = [read_feed(specs, item.path(), subject.preprocessing) for item in subject.inputs]
    for item, feed in zip(subject.inputs, feeds, strict=True):
        for name, array in feed.items():
            if array.shape != feeds[0][name].shape:
                raise InputError(
                    "all inputs must have the same shape",
                    file=item.name,
                    field=name if len(feed) > 1 else None,
                    found=array.shape,
                    allowed=feeds[0][name].shape,
                )
            if array.ndim == 0 and array != feeds[0][name]:
                raise InputError(
                    "single numbers must be the same in all inputs",
                    file=item.name,
                    field=name,
                    found=array.item(),
                    allowed=feeds[0][name].item(),
                )
    return feeds


def folded_model(model: Model, feed: Feed) -> Prepared:
    """The folded graph of a model for inputs as in `feed`. Raises InputError."""
    try:
        return prepare(model, feed, lambda: read_model(model.path))
    except (ValueError, KeyError, IndexError, StopIteration) as error:
        # onnxruntime checks graphs when it folds them; what comes before meets damaged ones unchecked.
        raise InputError(
            f"not an ONNX model, or a damaged one: {type(error).__name__} in its graph", file=model.path
        ) from error


def versions() -> dict[str, str]:
    """Versions of the tools that make a capture."""
    onnx, ort = import_onnx()
    return {"onnx": onnx.__version__, "onnxruntime": ort.__version__, "numpy": np.__version__}


def _about(shape: tuple[int, ...], low: float, high: float, native: Native | None) -> dict[str, Any]:
    about: dict[str, Any] = {"shape": list(shape), "low": low, "high": high}
    return about if native is None else {**about, "native": native.to_dict()}
