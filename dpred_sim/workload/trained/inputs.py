"""Real inputs of the manifest, as files that a network is fed with.

A whole photo is fed as it is. Of everything else the part that is wanted is made into a file of its own,
kept in the cache folder `inputs`: a piece of a photo as .png, frames or mel bands of a recording as .npy,
token ids as .npz.
"""

from __future__ import annotations

import io
import json
import wave
from collections.abc import Callable, Mapping
from functools import partial
from hashlib import file_digest
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.cache import cache_folder, write_atomic
from dpred_sim.errors import InputError, MissingExtra
from dpred_sim.locate import ready_made
from dpred_sim.workload.capture import InputFile, key_of
from dpred_sim.workload.fetch import fetch
from dpred_sim.workload.images import Preprocessing
from dpred_sim.workload.trained.manifest import Manifest

PREPARED = 1
"""Part of every key: raise it when what is made of an input changes."""

Cut = Mapping[str, Any]
Settings = Mapping[str, Any]
Made = tuple[str, bytes]
"""Suffix and content of a file."""

RATE = 16_000


def preprocessing_of(settings: Settings) -> Preprocessing:
    """What is done to a photo: the settings of a model without a `kind`; else nothing."""
    if "kind" in settings:
        return Preprocessing()
    found: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
    return Preprocessing(**found)


def manifest_input(manifest: Manifest, model: str, name: str) -> InputFile:
    """An input by name, as a model reads it; fetched and prepared when it is needed."""
    entry = manifest.inputs[name]
    source = manifest.input_source(name)

    def original() -> Path:
        if source is not None:
            return fetch([source])[0]
        return ready_made("workloads") / "data" / entry.member

    file = entry.member.rsplit("/", 1)[-1]
    return _prepared(manifest, model, name if entry.cut else file, entry.sha256, original, entry.cut)


def own_input(manifest: Manifest, model: str, path: Path) -> InputFile:
    """A user's file as a model reads it; arrays are taken as they are. Raises InputError."""
    try:
        with path.open("rb") as stream:
            digest = file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=path) from error
    if path.suffix.lower() in (".npy", ".npz"):
        return InputFile(path.name, digest, lambda: path)
    return _prepared(manifest, model, path.name, digest, lambda: path, {})


def _prepared(
    manifest: Manifest, model: str, name: str, sha256: str, original: Callable[[], Path], cut: Cut
) -> InputFile:
    settings = manifest.model(model).preprocessing
    kind = settings.get("kind", "photo")
    if kind == "photo" and not cut:
        return InputFile(name, sha256, original)
    wanted = settings if kind != "photo" else {}
    key = key_of([PREPARED, sha256, dict(cut), dict(wanted)])
    suffix, make = KINDS[kind]
    path = cache_folder("inputs", f"{key[:16]}{suffix}")
    return InputFile(name, key, partial(_file, path, make, original, cut, wanted))


def _file(
    path: Path,
    make: Callable[[Path, Cut, Settings], bytes],
    original: Callable[[], Path],
    cut: Cut,
    settings: Settings,
) -> Path:
    if not path.is_file():
        data = make(original(), cut, settings)

        def write(stream: IO[bytes]) -> None:
            stream.write(data)

        try:
            write_atomic(path, write)
        except OSError as error:
            raise InputError(f"the prepared input cannot be kept: {error}", file=path) from error
    return path


def _npy(array: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def _npz(**arrays: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def _piece(path: Path, cut: Cut, settings: Settings) -> bytes:
    """`rows` and `columns` (first, end) of a photo."""
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtra("onnx", "reading an image") from error
    with Image.open(path) as image:
        (top, bottom), (left, right) = cut["rows"], cut["columns"]
        stream = io.BytesIO()
        image.convert("RGB").crop((left, top, right, bottom)).save(stream, "PNG")
    return stream.getvalue()


def recording(path: Path, cut: Cut) -> NDArray[np.float32]:
    """Samples from -1 to 1 of a mono 16-bit recording at 16 kHz: `length` seconds from `start`, or all.

    Raises InputError for a file of another kind, and one that is shorter.
    """
    try:
        with wave.open(str(path), "rb") as stream:
            found = stream.getnchannels(), stream.getsampwidth(), stream.getframerate()
            data = stream.readframes(stream.getnframes())
    except (OSError, EOFError, wave.Error) as error:
        raise InputError(f"not a .wav file that can be read: {error}", file=path) from error
    if found != (1, 2, RATE):
        raise InputError(
            "a recording of another kind",
            file=path,
            found="{} channel(s), {} bytes a sample, {} Hz".format(*found),
            allowed=f"1 channel, 2 bytes a sample, {RATE} Hz",
        )
    samples = np.frombuffer(data[: len(data) // 2 * 2], "<i2").astype(np.float32) / np.float32(1 << 15)
    start = round(cut.get("start", 0) * RATE)
    count = round(cut["length"] * RATE) if "length" in cut else len(samples)
    piece = samples[start : start + count]
    if len(piece) == 0 or ("length" in cut and len(piece) < count):
        raise InputError(
            "the recording is shorter than what is needed of it", file=path, found=f"{len(samples)} samples"
        )
    return piece


def _frames(path: Path, cut: Cut, settings: Settings) -> bytes:
    """Frames as rows, (1, 1, T, samples).

    A frame is `size` samples with the last `context` before it (zeros before the first); its end is
    mirrored `mirrored` samples far.
    """
    size, context = settings["size"], settings["context"]
    samples = recording(path, cut)
    count = len(samples) // size
    if count == 0:
        raise InputError("shorter than one frame", file=path, found=len(samples), allowed=f">= {size}")
    padded = np.concatenate([np.zeros(context, np.float32), samples])
    frames = np.lib.stride_tricks.sliding_window_view(padded, size + context)[::size][:count]
    frames = np.pad(frames, ((0, 0), (0, settings["mirrored"])), mode="reflect")
    return _npy(frames[None, None])


def _mel(path: Path, cut: Cut, settings: Settings) -> bytes:
    """Power in mel bands, (1, T, bands), of a recording made as loud as the network expects."""
    from dpred_sim.workload.trained.mel import mel_bands

    samples = recording(path, cut)
    mean_square = float(np.mean(np.square(samples, dtype=np.float64)))
    if mean_square == 0:
        raise InputError("the recording is silent", file=path)
    samples = samples * np.float32(10 ** (settings["loudness"] / 20) / mean_square**0.5)
    bands = mel_bands(samples, RATE, settings["window"], settings["hop"], settings["bands"])
    return _npy(bands[None, : settings.get("frames")])


def _tokens(path: Path, cut: Cut, settings: Settings) -> bytes:
    """Token ids of one text, and the mask and segment of a single text without padding."""
    try:
        texts = json.loads(path.read_text(encoding="utf-8"))["texts"]
        ids = np.array(texts[cut.get("item", 0)]["ids"], np.int64)[None]
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise InputError(
            f"not a list of token ids ({type(error).__name__}: {error})",
            file=path,
            allowed='{"texts": [{"ids": [101, ..., 102]}]}',
        ) from error
    return _npz(input_ids=ids, attention_mask=np.ones_like(ids), token_type_ids=np.zeros_like(ids))


def _features(path: Path, cut: Cut, settings: Settings) -> bytes:
    """Features (T, bands) of one recording out of several, times `scale`, as (1, bands, T, 1)."""
    try:
        found = np.load(path, allow_pickle=False)[cut.get("item", 0)]
        rows, bands = found.shape
    except Exception as error:
        # numpy raises many kinds for a damaged file.
        raise InputError("not an array (recordings, T, bands)", file=path) from error
    if bands != settings["bands"]:
        raise InputError("another number of bands", file=path, found=bands, allowed=settings["bands"])
    values = found.astype(np.float32) * np.float32(settings["scale"])
    return _npy(values.T.reshape(1, bands, rows, 1))


KINDS: dict[str, tuple[str, Callable[[Path, Cut, Settings], bytes]]] = {
    "photo": (".png", _piece),
    "frames": (".npy", _frames),
    "mel": (".npy", _mel),
    "tokens": (".npz", _tokens),
    "features": (".npy", _features),
}
"""What `preprocessing.kind` can name, with the suffix and the maker of the prepared file."""
