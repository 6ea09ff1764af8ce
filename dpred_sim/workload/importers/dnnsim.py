"""Trace folders of the public DNNsim simulator: a layer list, profiled precisions, and arrays a layer.

    model.csv       a line a layer: name,type,stride,padding; type is conv, fc or lstm; no header
    precision.txt   optional; a line that is skipped, then for activations and weights, each with a `;`
                    behind every layer's number: magnitude bits (sign included) and fraction bits
    wgt-NAME.npy    conv (K, C / groups, Ky, Kx), else (K, C)
    act-NAME-0.npy  conv (N, C, H, W), fc (N, C) or (N, C, H, W), lstm (T, N, C); sample 0 is taken

A slash in a layer's name is a dash in its files' names. In DNNsim's own tree the arrays of `models/NAME`
lie in `net_traces/NAME`: they are found there as well.

Real numbers become fixed point with the stated fraction, saturated at the stated magnitude; without
precision.txt, and at 8 bits, each tensor takes all bits for its range. Integers stay as they are.

The format does not say what is between layers. A layer reads what the one before writes where shapes
agree, as they are or after a max pooling that fits them (inferred); its outputs are then the next
layer's activations. Else the layer's activations are a tensor that is in memory, and outputs count raw.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isqrt, prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.errors import InputError
from dpred_sim.values.quantise import quantise_8bit, quantise_fixed
from dpred_sim.values.tensor import Tensor
from dpred_sim.workload.importers.base import Importer, register
from dpred_sim.workload.layer import Layer, Pool
from dpred_sim.workload.network import INPUT, Network
from dpred_sim.workload.workload import Workload

KINDS = ("conv", "fc", "lstm")
POOLS = ((2, 2), (3, 2), (3, 3), (2, 1), (3, 1))
"""(size, stride) of the poolings that are tried between two layers."""


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    kind: str
    stride: int
    padding: int
    activations: tuple[int, int] | None = None
    """Magnitude bits with the sign, and fraction bits."""
    weights: tuple[int, int] | None = None


@register("dnnsim")
class DnnsimImporter(Importer):
    """Reads a folder with `model.csv`."""

    suffixes = ()
    marker = "model.csv"

    def load(self, path: Path, *, bits: int, quantise: str, inputs: Sequence[Path], seed: int) -> Workload:
        """The workload of sample 0.

        Raises InputError for inputs, a rule other than `profiled`, and for what is wrong in a file: a
        line that is no layer, numbers that do not fit the layers, an array that is missing, of another
        shape, or not finite.
        """
        if inputs:
            raise InputError("a trace folder has its own activations", field="inputs", file=path)
        if quantise != "profiled":
            raise InputError(
                "a trace folder states its own precisions",
                field="quantise",
                found=quantise,
                allowed="profiled",
            )
        rows = _with_precisions(path, _layers(path / self.marker))
        folder = _trace_folder(path, rows[0].name)
        layers: list[Layer] = []
        for row in rows:
            before = layers[-1].filters if layers and layers[-1].kind == "conv" else None
            layers.append(_layer(folder, row, bits, before))
        network = _chained(layers)
        precisions = "profiled precisions" if rows[0].activations and bits == 16 else "full range"
        source = f"trace folder {path.name}, sample 0; {bits} bits, {precisions}"
        return Workload(path.resolve().name, network, bits, source, provenance={"format": "dnnsim"})


def _layers(file: Path) -> list[_Row]:
    rows: list[_Row] = []
    for number, words in enumerate(csv.reader(_text(file).splitlines()), start=1):
        fields = [word.strip() for word in words]
        if not any(fields):
            continue
        if len(fields) != 4:
            raise InputError(
                "not a layer",
                file=file,
                line=number,
                found=",".join(words),
                allowed="name,type,stride,padding",
            )
        name, kind = fields[0].replace("/", "-"), fields[1]
        if not name or name in {row.name for row in rows}:
            raise InputError(
                "a layer's name is empty or there twice", file=file, line=number, found=fields[0]
            )
        if kind not in KINDS:
            raise InputError("type of layer", file=file, line=number, found=kind, allowed=KINDS)
        numbers = []
        for what, word, least in (("stride", fields[2], 1), ("padding", fields[3], 0)):
            if not (word.isascii() and word.isdigit() and int(word) >= least):
                raise InputError(
                    "not a number", file=file, line=number, field=what, found=word, allowed=f"{least} or more"
                )
            numbers.append(int(word))
        rows.append(_Row(name, kind, numbers[0], numbers[1]))
    if not rows:
        raise InputError("no layers", file=file)
    return rows


def _with_precisions(path: Path, rows: list[_Row]) -> list[_Row]:
    file = path / "precision.txt"
    if not file.is_file():
        return rows
    lines = _text(file).splitlines()[1:]
    if len(lines) < 4:
        raise InputError(
            "too few lines", file=file, found=f"{len(lines) + 1} lines", allowed="a head and 4 lines"
        )
    table: list[list[int]] = []
    for number, line in enumerate(lines[:4], start=2):
        words = [word.strip() for word in line.split(";")]
        words = words[:-1] if words[-1] == "" else words
        try:
            table.append([int(word) for word in words])
        except ValueError:
            raise InputError("not whole numbers", file=file, line=number, found=line) from None
        if len(words) != len(rows):
            raise InputError(
                "not a number for each layer", file=file, line=number, found=len(words), allowed=len(rows)
            )
    found = []
    for row, *formats in zip(rows, *table, strict=True):
        activations, weights = (formats[0], formats[1]), (formats[2], formats[3])
        for what, (magnitude, fraction) in (("activations", activations), ("weights", weights)):
            if not 2 <= magnitude + fraction <= 16:
                raise InputError(
                    f"precision of {what}: magnitude and fraction together",
                    file=file,
                    field=f"layer {row.name!r}",
                    found=magnitude + fraction,
                    allowed="2..16",
                )
        found.append(_Row(row.name, row.kind, row.stride, row.padding, activations, weights))
    return found


def _trace_folder(path: Path, first: str) -> Path:
    """Where the arrays are: in the folder, or beside it as DNNsim keeps them."""
    if not (path / f"wgt-{first}.npy").is_file():
        other = path.resolve().parent.parent / "net_traces" / path.resolve().name
        if other.is_dir():
            return other
    return path


def _layer(folder: Path, row: _Row, bits: int, before: int | None) -> Layer:
    """The layer by itself, without outputs; shapes channel last. `before`: filters of a convolution."""
    acts_file, weights_file = folder / f"act-{row.name}-0.npy", folder / f"wgt-{row.name}.npy"
    acts, weights = _array(acts_file), _array(weights_file)
    ranks = {"conv": ((4,), (4,)), "fc": ((2, 4), (2, 4)), "lstm": ((3,), (2,))}[row.kind]
    for file, array, allowed in ((acts_file, acts, ranks[0]), (weights_file, weights, ranks[1])):
        if array.ndim not in allowed:
            raise InputError(
                f"an array of a {row.kind} layer",
                file=file,
                found=f"shape {array.shape}",
                allowed=" or ".join(f"{rank} axes" for rank in allowed),
            )
    acts = acts[:, 0] if row.kind == "lstm" else acts[0]
    if row.kind == "conv":
        acts, weights = acts.transpose(1, 2, 0), weights.transpose(0, 2, 3, 1)
    elif row.kind == "fc":
        acts, weights = _flattened(acts, weights, before)
    made_acts = _tensor(acts, row.activations, bits, acts_file)
    made_weights = _tensor(weights, row.weights, bits, weights_file)
    try:
        if row.kind != "conv":
            return Layer.linear(row.name, made_acts, made_weights)
        channels = made_weights.shape[3]
        groups = max(1, made_acts.shape[2] // channels)
        return Layer.conv2d(
            row.name, made_acts, made_weights, stride=row.stride, padding=row.padding, groups=groups
        )
    except InputError as error:
        raise InputError(
            error.message, file=weights_file, field=error.field, found=error.found, allowed=error.allowed
        ) from None


def _flattened(
    acts: NDArray[Any], weights: NDArray[Any], before: int | None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Operands of a fully connected layer, (H, W, C) or (1, C) and (K, C).

    Frameworks flatten an image channel first, containers hold it channel last: both operands are
    rearranged. An image is told by its shape, or by `before`, the channels of the convolution before.
    """
    image = acts.shape if acts.ndim == 3 else weights.shape[1:] if weights.ndim == 4 else None
    if image is None and before and acts.size % before == 0:
        side = isqrt(acts.size // before)
        image = (before, side, side)
    if image is not None and prod(image) == acts.size == weights[0].size:
        acts = acts.reshape(image).transpose(1, 2, 0)
        weights = weights.reshape(-1, *image).transpose(0, 2, 3, 1)
    weights = weights.reshape(len(weights), -1)
    return acts if acts.ndim == 3 else acts.reshape(1, -1), weights


def _chained(layers: list[Layer]) -> Network:
    """The layers one after another, joined where shapes agree."""
    network = Network()
    joins = [_join(one, other) for one, other in pairwise(layers)]
    reads = INPUT
    for index, layer in enumerate(layers):
        behind = joins[index] if index < len(joins) else None
        outputs = None
        pool = None
        if behind is not None:
            pool, outputs = behind
        if index and joins[index - 1] is None:
            reads = network.given(f"{layer.name}.activations", layer.activations)
        made = _with_outputs(layer, pool, outputs)
        reads = network.add(made, reads=reads)
    return network


def _join(one: Layer, other: Layer) -> tuple[Pool | None, Any] | None:
    """(pooling between, tensor) where `other` can read what `one` writes; None where it cannot."""
    wanted = tuple(other.activations.shape)
    if wanted == one.output_shape:
        return None, other.activations
    if one.kind != "conv" or len(wanted) != 3 or wanted[2] != one.filters:
        return None
    for size, stride in (*POOLS, (one.conv_height, one.conv_height)):
        for over in range(size):
            pool = Pool("max", (size, size), (stride, stride), (0, 0, over, over))
            if pool.output_size(one.conv_height, one.conv_width) == wanted[:2]:
                return pool, other.activations
    return None


def _with_outputs(layer: Layer, pool: Pool | None, outputs: Any) -> Layer:
    if layer.weights is None:  # never: every layer has weights
        return layer
    if layer.kind == "linear":
        return Layer.linear(layer.name, layer.activations, layer.weights, outputs)
    return Layer.conv2d(
        layer.name,
        layer.activations,
        layer.weights,
        outputs,
        layer.stride,
        layer.padding,
        groups=layer.groups,
        pool=pool,
    )


def _tensor(array: NDArray[Any], stated: tuple[int, int] | None, bits: int, file: Path) -> Tensor:
    try:
        if array.dtype.kind in "iu":
            signed = bool(array.min() < 0)
            needed = max(int(array.max()).bit_length(), int(~array.min()).bit_length() if signed else 0)
            return Tensor(array, bits, signed, max(1, needed + signed) if bits >= needed + signed else None)
        if bits == 8:
            return quantise_8bit(array, name=file.name).tensor
        if stated is None:
            return quantise_fixed(array, bits, bits, name=file.name).tensor
        precision = sum(stated)
        # The largest value of the format, in real numbers: the step becomes 2**-fraction.
        limit = ((1 << (precision - 1)) - 1) * 2.0 ** -stated[1]
        signed = bool(array.min() < 0)
        return quantise_fixed(array, precision - (not signed), bits, signed, limit, file.name).tensor
    except InputError as error:
        raise InputError(
            error.message, file=file, field=error.field, found=error.found, allowed=error.allowed
        ) from None


def _array(file: Path) -> NDArray[Any]:
    if not file.is_file():
        raise InputError("no such array", file=file)
    try:
        array = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"not a .npy array: {error}", file=file) from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise InputError(
            "not an array of numbers", file=file, found=str(getattr(array, "dtype", "an archive"))
        )
    if array.size == 0:
        raise InputError("no values", file=file, found=f"shape {array.shape}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        count = int(array.size - np.isfinite(array).sum())
        raise InputError("values that are not finite", file=file, found=f"{count} of {array.size}")
    return array


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read as text: {error}", file=file) from None
