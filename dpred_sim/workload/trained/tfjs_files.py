"""The files of a TensorFlow.js layers model: its JSON and its weights, plain or wrapped in JavaScript.

Some packages ship each file as a browserify bundle whose only module exports it: the JSON as an object
literal, a shard of weights as a string in base64. Nothing of it is run: the literal is read as data.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.errors import InputError

EXPORTS = re.compile(r"\bexports=(?=[{\"'])")

TOKEN = re.compile(
    r"""
    (?P<string>"(?:[^"\\]|\\.)*")
  | (?P<number>-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
  | (?P<flag>![01])
  | (?P<word>[A-Za-z_$][\w$]*)
  | (?P<mark>[{}\[\]:,])
  | (?P<space>\s+)
    """,
    re.VERBOSE,
)

ITEM = {"float32": "<f4", "int32": "<i4", "uint8": "|u1", "uint16": "<u2", "bool": "|u1"}


def read_tfjs(paths: Sequence[Path]) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
    """(the model's topology, its weights by name); `paths` are the JSON, then the shards in order.

    Weights that are stored as integers with a scale (uint8 or uint16, one `min` and `scale` a tensor)
    come back as the numbers that they stand for. Raises InputError for damaged files.
    """
    document = _json(paths[0])
    try:
        groups = document["weightsManifest"]
        topology = document["modelTopology"]
        entries = [entry for group in groups for entry in group["weights"]]
        count = sum(len(group["paths"]) for group in groups)
    except (KeyError, TypeError) as error:
        raise InputError("not a TensorFlow.js layers model", file=paths[0], found=str(error)) from error
    if count != len(paths) - 1:
        raise InputError("another number of shards", file=paths[0], found=len(paths) - 1, allowed=count)
    data = b"".join(_shard(path) for path in paths[1:])
    weights, place = {}, 0
    for entry in entries:
        array, place = _array(paths[0], entry, data, place)
        weights[entry["name"]] = array
    if place != len(data):
        raise InputError(
            "the shards hold another number of bytes than the weights take",
            file=paths[0],
            found=len(data),
            allowed=place,
        )
    return topology, weights


def _array(path: Path, entry: Mapping[str, Any], data: bytes, place: int) -> tuple[NDArray[np.float32], int]:
    """One tensor of the manifest, and where the next one starts."""
    try:
        quantised = entry.get("quantization")
        dtype = np.dtype(ITEM[quantised["dtype"] if quantised else entry["dtype"]])
        shape = tuple(int(n) for n in entry["shape"])
        values = np.frombuffer(data, dtype, prod(shape), place).reshape(shape).astype(np.float32)
        if quantised:
            values = values * np.float32(quantised["scale"]) + np.float32(quantised["min"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"a tensor cannot be read: {error}", file=path, field=str(entry.get("name"))
        ) from error
    return values, place + prod(shape) * dtype.itemsize


def _json(path: Path) -> dict[str, Any]:
    text = _text(path)
    try:
        found = json.loads(text if text.lstrip().startswith("{") else _literal(text))
    except ValueError as error:
        raise InputError(f"neither JSON nor a JavaScript object: {error}", file=path) from error
    if not isinstance(found, dict):
        raise InputError("not a TensorFlow.js layers model", file=path)
    return found


def _shard(path: Path) -> bytes:
    if path.suffix != ".js":
        return path.read_bytes()
    try:
        return base64.b64decode(json.loads(_literal(_text(path))), validate=True)
    except (ValueError, TypeError, binascii.Error) as error:
        raise InputError(f"not a string in base64: {error}", file=path) from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError("not UTF-8 text", file=path) from error


def _literal(text: str) -> str:
    """The JavaScript literal that a bundle's last module exports, as JSON. Raises ValueError."""
    found = list(EXPORTS.finditer(text))
    if not found:
        raise ValueError("nothing is exported")
    place, depth, parts = found[-1].end(), 0, []
    while True:
        match = TOKEN.match(text, place)
        if match is None:
            raise ValueError(f"unexpected {text[place : place + 20]!r}")
        place, kind, token = match.end(), match.lastgroup, match.group()
        depth += (token in ("{", "[")) - (token in ("}", "]")) if kind == "mark" else 0
        parts.append(_as_json(kind, token, text[place : place + 1] == ":"))
        if depth == 0:
            return "".join(parts)


def _as_json(kind: str | None, token: str, is_key: bool) -> str:
    if kind == "flag":
        return "true" if token == "!0" else "false"
    if kind == "number":
        sign, digits = ("-", token[1:]) if token.startswith("-") else ("", token)
        number = f"{sign}0{digits}" if digits.startswith(".") else token
        return json.dumps(number) if is_key else re.sub(r"\.(?=$|[eE])", "", number)
    if kind == "word":
        if not is_key and token not in ("null", "true", "false"):
            raise ValueError(f"unexpected {token!r}")
        return json.dumps(token) if is_key else token
    return token
