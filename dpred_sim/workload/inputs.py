"""Inputs of a network as files: photos, sound, token ids, arrays.

What a file becomes is decided by its suffix: `.npy` and `.npz` are arrays, `.wav` is sound, `.json` and
`.txt` are whole numbers (token ids) by name or in a row; anything else is a photo.
"""

from __future__ import annotations

import json
import wave
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.errors import InputError, nearest
from dpred_sim.workload.images import Preprocessing, load_photo

Feed = dict[str, NDArray[Any]]
"""What a model is fed with, by the name of its input."""

ARRAYS = (".npy", ".npz")
NUMBERS = (".json", ".txt")
SOUND = (".wav",)

WITHOUT_PADDING: Mapping[str, int] = {"attention_mask": 1, "token_type_ids": 0}
"""What text models read beside token ids, when it is not given: one text without padding."""


@dataclass(frozen=True)
class InputSpec:
    """What a model reads: `shape` holds None for a size that the input decides."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str = "float32"

    @property
    def is_whole(self) -> bool:
        """Whether it is made of whole numbers or truth values."""
        return np.dtype(self.dtype).kind in "iub"

    @property
    def shown(self) -> str:
        """The shape for people."""
        return f"({', '.join('any' if size is None else str(size) for size in self.shape)})"


def read_feed(specs: Sequence[InputSpec], path: Path, preprocessing: Preprocessing) -> Feed:
    """Everything that a model reads, out of one file.

    A file without names is the model's only input, or its only input of that kind; what is still missing
    is filled in for one text without padding (`WITHOUT_PADDING`). Raises InputError for a file that
    cannot be read, an input that is missing or unknown, and whatever `fit_array` refuses.
    """
    found = _arrays(specs, path, preprocessing)
    known = {spec.name: spec for spec in specs}
    for name in found:
        if name not in known:
            raise InputError(
                f"the model has no such input{nearest(name, known)}",
                file=path,
                found=name,
                allowed=[f"{spec.name} {spec.shown}" for spec in specs],
            )
    feed = {name: fit_array(path, known[name], array) for name, array in found.items()}
    tokens = next((array for array in feed.values() if array.ndim == 2 and array.dtype.kind == "i"), None)
    for spec in specs:
        if spec.name in feed:
            continue
        if tokens is None or spec.name not in WITHOUT_PADDING:
            raise InputError(
                "an input of the model is missing: give one .npz file with an array for each",
                file=path,
                found=sorted(feed),
                allowed=[f"{other.name} {other.shown} {other.dtype}" for other in specs],
            )
        feed[spec.name] = np.full(tokens.shape, WITHOUT_PADDING[spec.name], spec.dtype)
    return {spec.name: feed[spec.name] for spec in specs}


def _arrays(specs: Sequence[InputSpec], path: Path, preprocessing: Preprocessing) -> Feed:
    suffix = path.suffix.lower()
    if suffix in ARRAYS:
        return _numpy(specs, path)
    if suffix in NUMBERS:
        return _numbers(specs, path)
    spec = _only(specs, path, whole=False)
    if suffix in SOUND:
        return {spec.name: load_sound(path, spec, preprocessing)}
    return {spec.name: load_photo(path, spec.shape, preprocessing)}


def _only(specs: Sequence[InputSpec], path: Path, whole: bool) -> InputSpec:
    """The input that a file without names is meant for."""
    fitting = [spec for spec in specs if spec.is_whole == whole]
    tokens = [spec for spec in fitting if spec.name not in WITHOUT_PADDING]
    if len(specs) == 1 and (whole or not specs[0].is_whole):
        return specs[0]
    if len(tokens) == 1 and (whole or len(specs) == 1):
        return tokens[0]
    raise InputError(
        "which input of the model is it? Give one .npz file with an array for each",
        file=path,
        allowed=[f"{spec.name} {spec.shown} {spec.dtype}" for spec in specs],
    )


def _numpy(specs: Sequence[InputSpec], path: Path) -> Feed:
    """Arrays without pickled objects."""
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            whole = found.dtype.kind in "iub" if len(specs) > 1 else specs[0].is_whole
            return {_only(specs, path, whole).name: found}
        with found:
            arrays = {name: found[name] for name in found.files}
    except InputError:
        raise
    except Exception as error:
        # zip, zlib and numpy raise many kinds for a damaged file.
        raise InputError("not an array that numpy reads without pickle", file=path) from error
    if len(specs) == 1 and specs[0].name in arrays:
        return {specs[0].name: arrays[specs[0].name]}
    if len(specs) == 1 and len(arrays) == 1:
        return {specs[0].name: next(iter(arrays.values()))}
    if len(specs) == 1:
        raise InputError(
            "which array is the input?",
            file=path,
            found=list(arrays),
            allowed=f"one, or {specs[0].name!r}",
        )
    return arrays


def _numbers(specs: Sequence[InputSpec], path: Path) -> Feed:
    """Whole numbers: JSON (a list, or an object with a list for each input), or text with blanks between."""
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text) if path.suffix.lower() == ".json" else [int(word) for word in text.split()]
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=path) from error
    except json.JSONDecodeError as error:
        raise InputError(error.msg, file=path, line=error.lineno, column=error.colno) from error
    except (UnicodeDecodeError, ValueError) as error:
        raise InputError("not whole numbers with blanks between", file=path) from error
    lists = found if isinstance(found, dict) else {_only(specs, path, whole=True).name: found}
    feed = {}
    for name, values in lists.items():
        try:
            array = np.array(values)
        except ValueError:
            array = np.array(None)
        if array.dtype.kind not in "iub" or array.size == 0:
            raise InputError("not a list of whole numbers", file=path, field=str(name))
        feed[str(name)] = array
    return feed


def load_sound(path: Path, spec: InputSpec, preprocessing: Preprocessing) -> NDArray[np.float32]:
    """A mono .wav file of 16-bit samples as a network's input, values from -1 to 1.

    With `preprocessing.frame` (samples) it is cut into frames, (T, frame), `hop` samples apart; the
    last part that fills none is left out. Raises InputError for another kind of file, and another rate
    than `preprocessing.rate`.
    """
    try:
        with wave.open(str(path), "rb") as stream:
            kind = stream.getnchannels(), stream.getsampwidth()
            rate, count = stream.getframerate(), stream.getnframes()
            data = stream.readframes(count)
    except (OSError, EOFError, wave.Error) as error:
        raise InputError(f"not a .wav file that can be read: {error}", file=path) from error
    if kind != (1, 2):
        raise InputError(
            "not mono sound of 16 bits",
            file=path,
            found=f"{kind[0]} channel(s) of {8 * kind[1]} bits",
            allowed="1 channel of 16 bits",
        )
    if preprocessing.rate is not None and rate != preprocessing.rate:
        raise InputError(
            "another sample rate than the model's: convert the file",
            file=path,
            field="rate",
            found=rate,
            allowed=preprocessing.rate,
        )
    if len(data) < 2 * count or not count:
        raise InputError("the file is cut short, or empty", file=path, found=f"{len(data) // 2} samples")
    samples = np.frombuffer(data, "<i2").astype(np.float32) / np.float32(1 << 15)
    if preprocessing.samples is not None:
        samples = samples[: preprocessing.samples]
    frame = preprocessing.frame
    if frame is not None:
        if len(samples) < frame:
            raise InputError(
                "shorter than one frame", file=path, found=f"{len(samples)} samples", allowed=f">= {frame}"
            )
        every = preprocessing.hop or frame
        return np.lib.stride_tricks.sliding_window_view(samples, frame)[::every].copy()
    wanted = spec.shape[-1] if spec.shape else None
    if wanted is not None and len(samples) != wanted:
        longer = len(samples) > wanted
        raise InputError(
            "longer than the model's input: cut it with `samples` in its .preprocessing.json"
            if longer
            else "shorter than the model's input: give a longer sound",
            file=path,
            field=spec.name,
            found=f"{len(samples)} samples",
            allowed=f'"samples": {wanted}' if longer else f"{wanted} samples",
        )
    return samples.reshape((1,) * (len(spec.shape) - 1) + (-1,)) if spec.shape else samples


def fit_array(path: Path, spec: InputSpec, array: NDArray[Any]) -> NDArray[Any]:
    """`array` as the model reads it, in its dtype; a missing batch axis is added.

    Raises InputError for another shape, another kind of dtype, a batch of images, and values that are
    not finite or do not fit.
    """
    kinds = "iub" if spec.is_whole else "fiu"
    if array.dtype.kind not in kinds:
        raise InputError(
            "whole numbers are needed" if spec.is_whole else "not a real array",
            file=path,
            field=spec.name,
            found=f"dtype {array.dtype}",
            allowed="integer dtypes" if spec.is_whole else "float dtypes",
        )
    if array.ndim == len(spec.shape) - 1:
        array = array[None]
    # A batch of rows or of sounds is more positions; one of images would be several inputs.
    shape = spec.shape if len(spec.shape) < 4 else (1, *spec.shape[1:])
    fits = array.ndim == len(shape) and all(
        have == want or want is None for have, want in zip(array.shape, shape, strict=True)
    )
    if not fits or array.size == 0:
        want = ", ".join("any" if size is None else str(size) for size in shape)
        raise InputError(
            f"not the shape of the model's input {spec.name!r}",
            file=path,
            found=f"({', '.join(map(str, array.shape))})",
            allowed=f"({want})",
        )
    if spec.is_whole:
        wanted = np.array(array, dtype=spec.dtype, order="C")
        if not np.array_equal(wanted, array):
            raise InputError(f"the input holds values that {spec.dtype} cannot", file=path, field=spec.name)
        return wanted
    with np.errstate(over="ignore"):
        single = np.array(array, dtype=np.float32, order="C")
    if not np.isfinite(single).all():
        raise InputError("the input holds values that are not finite (NaN or infinity)", file=path)
    return single
