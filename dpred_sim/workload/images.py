"""Photos as the input of a network: decode, resize, crop, scale. Needs Pillow, from the extra [onnx]."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.errors import InputError, MissingExtra, nearest

ORDERS = ("RGB", "BGR")
FITS = ("stretch", "cover", "contain")
FILTERS = ("bilinear", "nearest", "bicubic", "lanczos")
LAYOUTS = ("CHW", "HWC")


@dataclass(frozen=True)
class Preprocessing:
    """How a photo or a sound becomes a network's input.

    The whole photo is resized to `resize` (height, width), or to what the network reads; the middle of
    that, as large as the network reads (or `crop` where it reads any size), is cut out; then
    `(value * scale - mean) / deviation` a channel, in `order`, with values 0 to 255 before.
    The default gives RGB values from 0 to 1.

    `fit` says what becomes of a photo of other proportions: `stretch` distorts it, `cover` keeps its
    proportions and lets it hang over, `contain` keeps them and fills up with `fill` (0 to 255).
    `filter` is the resampling, `layout` where the channels are when the model's shape leaves it open.

    A sound has the sample `rate` (Hz; None: any), is cut to its first `samples`, and to frames of
    `frame` samples `hop` apart where `frame` is given.
    """

    resize: tuple[int, int] | None = None
    order: str = "RGB"
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0,)
    deviation: tuple[float, ...] = (1.0,)
    crop: tuple[int, int] | None = None
    fit: str = "stretch"
    fill: int = 0
    filter: str = "bilinear"
    layout: str | None = None
    rate: int | None = None
    samples: int | None = None
    frame: int | None = None
    hop: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """The settings, JSON-ready; what was added later is there only when it is set."""
        plain = {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}
        later = [item for item in fields(self) if item.name not in FIRST_KEYS]
        unset = {item.name for item in later if getattr(self, item.name) == item.default}
        return {key: value for key, value in plain.items() if key not in unset}


FIRST_KEYS = ("resize", "order", "scale", "mean", "deviation")
"""Always written, so that hashes of earlier captures hold."""

SUFFIX = ".preprocessing.json"
"""Preprocessing beside a model is called after it: `net.onnx`, `net.preprocessing.json`."""


def preprocessing_beside(model: Path) -> Preprocessing:
    """The preprocessing in the file beside a model, or the default. Raises InputError."""
    path = model.with_suffix(SUFFIX)
    return read_preprocessing(path) if path.is_file() else Preprocessing()


def read_preprocessing(path: Path) -> Preprocessing:
    """Preprocessing from a JSON file with some of the fields of `Preprocessing`.

    Raises InputError for what is no JSON object, an unknown key and a value of the wrong kind.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=path) from error
    except json.JSONDecodeError as error:
        raise InputError(error.msg, file=path, line=error.lineno, column=error.colno) from error
    except UnicodeDecodeError as error:
        raise InputError("not UTF-8 text", file=path) from error
    return preprocessing_from(found, path)


def preprocessing_from(found: Any, path: Path) -> Preprocessing:
    """Preprocessing from a JSON object; `path` is the file that errors name. Raises InputError."""
    allowed = [field.name for field in fields(Preprocessing)]
    if not isinstance(found, dict):
        raise InputError("not a JSON object", file=path, allowed=allowed)
    for key in found:
        if key not in allowed:
            raise InputError(f"unknown key{nearest(key, allowed)}", file=path, found=key, allowed=allowed)
    values: dict[str, Any] = {}
    for key in ("resize", "crop"):
        if found.get(key) is not None:
            values[key] = _numbers(path, key, found[key], int, (2,))
            if min(values[key]) < 1:
                raise InputError("not a size", file=path, field=key, found=found[key])
    for key, among, what in (
        ("order", ORDERS, "order of colours"),
        ("fit", FITS, "unknown fit"),
        ("filter", FILTERS, "unknown filter"),
        ("layout", LAYOUTS, "unknown layout"),
    ):
        if found.get(key) is not None:
            if found[key] not in among:
                raise InputError(what, file=path, field=key, found=found[key], allowed=among)
            values[key] = found[key]
    for key in ("rate", "samples", "frame", "hop", "fill"):
        if found.get(key) is not None:
            (values[key],) = _numbers(path, key, [found[key]], int, (1,))
            if values[key] < (key != "fill"):
                raise InputError("not a positive number", file=path, field=key, found=found[key])
    if "scale" in found:
        (values["scale"],) = _numbers(path, "scale", [found["scale"]], (int, float), (1,))
    for key in ("mean", "deviation"):
        if key in found:
            values[key] = _numbers(path, key, found[key], (int, float), (1, 3))
    if 0 in values.get("deviation", ()):
        raise InputError("a deviation of zero", file=path, field="deviation", found=found["deviation"])
    return Preprocessing(**values)


def _numbers(path: Path, field: str, found: Any, kind: Any, lengths: Sequence[int]) -> tuple[Any, ...]:
    right = isinstance(found, list) and len(found) in lengths
    if not right or any(isinstance(v, bool) or not isinstance(v, kind) or not np.isfinite(v) for v in found):
        what = "whole numbers" if kind is int else "numbers"
        raise InputError(
            "wrong value",
            file=path,
            field=field,
            found=found,
            allowed=f"{' or '.join(map(str, lengths))} {what}",
        )
    return tuple(found)


def load_photo(path: Path, shape: Sequence[int | None], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """A photo as a network's input of `shape`: (1, C, H, W) or (1, H, W, C) with C = 1 or 3.

    A height or width of None is taken from the photo (or from `preprocessing.resize`). Raises
    InputError for a file that is no image and for a shape that is not an image's; MissingExtra.
    """
    first, channels, size = _image_shape(path, shape, preprocessing.layout)
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise MissingExtra("onnx", "reading an image") from error
    try:
        with Image.open(path) as opened:
            opened.load()
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith(("I", "F")):
                raise InputError("an image with more than 8 bits a channel", file=path, found=image.mode)
            image = image.convert("RGB" if channels == 3 else "L")
    except InputError:
        raise
    except Exception as error:
        raise InputError("not an image that can be decoded", file=path) from error
    given = preprocessing.crop or (None, None)
    height, width = preprocessing.resize or (
        size[0] or given[0] or image.height,
        size[1] or given[1] or image.width,
    )
    filter = getattr(Image.Resampling, preprocessing.filter.upper())
    if preprocessing.fit == "contain":
        grey = (preprocessing.fill,) * channels if channels > 1 else preprocessing.fill
        image = ImageOps.pad(image, (width, height), method=filter, color=grey)
    elif preprocessing.fit == "cover":
        image = ImageOps.fit(image, (width, height), method=filter)
    else:
        image = image.resize((width, height), resample=filter)
    wanted = (size[0] or given[0] or height, size[1] or given[1] or width)
    if wanted[0] > height or wanted[1] > width:
        raise InputError(
            "the resized photo is smaller than the model's input",
            file=path,
            found=(height, width),
            allowed=wanted,
        )
    top, left = (height - wanted[0]) // 2, (width - wanted[1]) // 2
    image = image.crop((left, top, left + wanted[1], top + wanted[0]))
    for name, values in (("mean", preprocessing.mean), ("deviation", preprocessing.deviation)):
        if len(values) not in (1, channels):
            raise InputError(
                f"the model reads {channels} channel(s), not {len(values)}",
                file=path,
                field=name,
                found=values,
            )
    array = np.asarray(image, dtype=np.float32).reshape(*wanted, channels)
    if preprocessing.order == "BGR":
        array = array[:, :, ::-1]
    scale, mean, deviation = (
        np.asarray(v, dtype=np.float32)
        for v in (preprocessing.scale, preprocessing.mean, preprocessing.deviation)
    )
    array = (array * scale - mean) / deviation
    return np.ascontiguousarray(array.transpose(2, 0, 1) if first else array)[None]


def _image_shape(
    path: Path, shape: Sequence[int | None], layout: str | None
) -> tuple[bool, int, tuple[int | None, int | None]]:
    """(channels come first, channels, (height, width)) of a network's input."""
    if len(shape) == 4:
        for first, place, size in ((True, 1, (shape[2], shape[3])), (False, 3, (shape[1], shape[2]))):
            channels = shape[place]
            if layout == LAYOUTS[not first] and channels is None:
                return first, 3, size
            if channels in (1, 3) and layout in (None, LAYOUTS[not first]):
                return first, channels, size
    raise InputError(
        "the model does not read an image: give an .npy file",
        file=path,
        found=f"input shape ({', '.join('any' if n is None else str(n) for n in shape)})",
        allowed="(1, C, H, W) or (1, H, W, C) with 1 or 3 channels",
    )
