"""A fetched model as an ONNX file: converted once, kept in the cache folder `models`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from dpred_sim.cache import SCHEMA, cache_folder, write_atomic
from dpred_sim.errors import InputError
from dpred_sim.workload.capture import key_of
from dpred_sim.workload.fetch import fetch
from dpred_sim.workload.trained.manifest import Manifest, ModelEntry

CONVERTED = 1
"""Part of every key: raise it when a loader makes another model of the same files."""


def model_key(entry: ModelEntry) -> str:
    """SHA-256 of what decides a model: that of the file itself where nothing is converted."""
    files = [file.sha256 for file in entry.files]
    if entry.loader == "onnx" and not entry.build and len(files) == 1:
        return files[0]
    return key_of([SCHEMA, CONVERTED, entry.loader, entry.build, files])


def onnx_model(manifest: Manifest, name: str) -> Path:
    """The model as an ONNX file, fetched and converted when the cache does not hold it.

    Raises Unavailable when its files cannot be had, InputError when they are not what the loader reads,
    MissingExtra without the extra [onnx].
    """
    entry = manifest.model(name)
    sources = manifest.model_sources(name)
    if entry.loader == "onnx" and not entry.build:
        return fetch(sources)[0]
    path = cache_folder("models", f"{model_key(entry)[:16]}-{name}.onnx")
    if not path.is_file():
        data = convert(entry, fetch(sources)).SerializeToString(deterministic=True)

        def write(stream: IO[bytes]) -> None:
            stream.write(data)

        try:
            write_atomic(path, write)
        except OSError as error:
            raise InputError(f"the converted model cannot be kept: {error}", file=path) from error
    return path


def convert(entry: ModelEntry, paths: Sequence[Path]) -> Any:
    """The ONNX model of a model's files; raises InputError for files that are not what they should be."""
    return LOADERS[entry.loader](entry, paths)


def _onnx(entry: ModelEntry, paths: Sequence[Path]) -> Any:
    """A network built of the constants of an ONNX model, by name."""
    from dpred_sim.workload.importers.onnx_runtime import import_onnx

    onnx, _ = import_onnx()
    try:
        proto = onnx.load(str(paths[0]), load_external_data=False)
        weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    except Exception as error:
        # Whatever the protobuf version at hand raises.
        raise InputError("not an ONNX model, or a damaged one", file=paths[0]) from error
    return _built(entry, paths[0], weights)


def _torch(entry: ModelEntry, paths: Sequence[Path]) -> Any:
    from dpred_sim.workload.trained.torch_legacy import read_torch_legacy

    return _built(entry, paths[0], read_torch_legacy(paths[0]))


def _npz(entry: ModelEntry, paths: Sequence[Path]) -> Any:
    try:
        with np.load(paths[0], allow_pickle=False) as found:
            weights = {name: found[name] for name in found.files}
    except Exception as error:
        # zip, zlib and numpy raise many kinds for a damaged file.
        raise InputError("not an .npz file that numpy reads without pickle", file=paths[0]) from error
    return _built(entry, paths[0], weights)


def _built(entry: ModelEntry, path: Path, weights: Any) -> Any:
    from dpred_sim.workload.trained.architectures import ARCHITECTURES

    if entry.build not in ARCHITECTURES:
        raise InputError("unknown network", field="build", found=entry.build, allowed=sorted(ARCHITECTURES))
    try:
        return ARCHITECTURES[entry.build](weights)
    except KeyError as error:
        raise InputError(
            f"the file lacks a tensor that {entry.build} has", file=path, found=str(error)
        ) from error


def _tfjs(entry: ModelEntry, paths: Sequence[Path]) -> Any:
    from dpred_sim.workload.trained.tfjs_layers import convert_tfjs

    return convert_tfjs(paths)


def _tflite(entry: ModelEntry, paths: Sequence[Path]) -> Any:
    from dpred_sim.workload.trained.tflite_streams import convert_streams

    return convert_streams(paths[0])


LOADERS: dict[str, Callable[[ModelEntry, Sequence[Path]], Any]] = {
    "onnx": _onnx,
    "torch-legacy": _torch,
    "npz": _npz,
    "tfjs-layers": _tfjs,
    "tflite": _tflite,
}
