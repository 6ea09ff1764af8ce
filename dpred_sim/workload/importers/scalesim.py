"""Topology files of SCALE-Sim: a line a layer, shapes only; values are drawn.

    Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,
    Layer, M, N, K,

The first line is a head that says which of the two it is. A convolution's plane has its padding in it,
so layers pad nothing. A product is M x K by K x N: M positions, K channels, N filters. A layer reads what
the one before writes where shapes agree, else a tensor that is in memory. Values are synthetic:
activations of 9 bits, not negative, and weights of 11 (assumptions).
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from dpred_sim.errors import InputError
from dpred_sim.values.synthetic import synthetic_activations, synthetic_weights
from dpred_sim.values.tensor import LazyTensor
from dpred_sim.workload.importers.base import Importer, register
from dpred_sim.workload.layer import Layer
from dpred_sim.workload.network import INPUT, Network
from dpred_sim.workload.workload import Workload

CONVOLUTION = (
    "ifmap height",
    "ifmap width",
    "filter height",
    "filter width",
    "channels",
    "filters",
    "strides",
)
PRODUCT = ("m", "n", "k")
PRECISION = 9
WEIGHT_PRECISION = 11


@register("scalesim")
class ScaleSimImporter(Importer):
    """Reads `.csv` topology files."""

    suffixes = (".csv",)

    def load(self, path: Path, *, bits: int, quantise: str, inputs: Sequence[Path], seed: int) -> Workload:
        """The workload with drawn values.

        Raises InputError for inputs and rules, which drawn values do not take, a head that is neither
        form, and a line with too few numbers, no numbers, or shapes that do not fit.
        """
        if inputs or quantise != "profiled":
            field = "inputs" if inputs else "quantise"
            raise InputError("a topology has no values: they are drawn", file=path, field=field)
        network = Network()
        reads = INPUT
        last: Layer | None = None
        for line, name, numbers in _rows(path):
            try:
                reads, last = _append(network, reads, last, name, numbers, bits, seed)
            except InputError as error:
                raise InputError(
                    error.message,
                    file=path,
                    line=line,
                    field=error.field,
                    found=error.found,
                    allowed=error.allowed,
                ) from None
        if last is None:
            raise InputError("no layers", file=path)
        source = f"synthetic values (seed {seed}) for the shapes of {path.name}"
        about = {
            "seed": seed,
            "format": "scalesim",
            "activation_precision_bits": min(PRECISION, bits),
            "weight_precision_bits": min(WEIGHT_PRECISION, bits),
        }
        return Workload(path.stem, network, bits, source, synthetic=True, provenance=about)


def _rows(path: Path) -> list[tuple[int, str, list[int]]]:
    """(line, name, numbers) of each layer."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read as text: {error}", file=path) from None
    names: tuple[str, ...] = ()
    found = []
    for number, words in enumerate(csv.reader(lines), start=1):
        fields = [word.strip() for word in words]
        if not any(fields):
            continue
        if not names:
            names = _form(path, number, fields)
            continue
        # A comma ends each line; columns behind the known ones (sparsity) are not looked at.
        if len(fields) < 1 + len(names) or not fields[0]:
            raise InputError(
                "too few fields",
                file=path,
                line=number,
                found=len([word for word in fields if word]),
                allowed=f"a name and {', '.join(names)}",
            )
        numbers = []
        for what, word in zip(names, fields[1:], strict=False):
            if not (word.isascii() and word.isdigit() and int(word) > 0):
                raise InputError("not a positive number", file=path, line=number, field=what, found=word)
            numbers.append(int(word))
        found.append((number, fields[0], numbers))
    return found


def _form(path: Path, line: int, fields: list[str]) -> tuple[str, ...]:
    heads = [field.lower() for field in fields]
    if heads[1:4] == list(PRODUCT):
        return PRODUCT
    if len(heads) >= 8 and "ifmap" in heads[1] and "filter" in heads[3]:
        return CONVOLUTION
    raise InputError(
        "not the head of a SCALE-Sim topology",
        file=path,
        line=line,
        found=", ".join(fields),
        allowed="Layer name, IFMAP Height, ..., Strides, or Layer, M, N, K",
    )


def _append(
    network: Network, reads: str, last: Layer | None, name: str, numbers: list[int], bits: int, seed: int
) -> tuple[str, Layer]:
    """Add a layer; returns its name and the layer, whose outputs the next one may read."""
    if len(numbers) == 3:
        positions, filters, channels = numbers
        shape: tuple[int, ...] = (positions, channels)
        weights_shape: tuple[int, ...] = (filters, channels)
        stride = 1
    else:
        height, width, ky, kx, channels, filters, stride = numbers
        shape, weights_shape = (height, width, channels), (filters, ky, kx, channels)
    weights = synthetic_weights(weights_shape, bits, min(WEIGHT_PRECISION, bits), seed, f"{name}.weights")
    activations: LazyTensor | None = None
    if last is not None and last.output_shape == shape and isinstance(last.outputs, LazyTensor):
        activations = last.outputs
    else:
        activations = _drawn(shape, bits, seed, f"{name}.activations")
        if last is not None:
            reads = network.given(f"{name}.activations", activations)
    if len(numbers) == 3:
        bare = Layer.linear(name, activations, weights)
        outputs = _drawn(bare.output_shape, bits, seed, name)
        layer = Layer.linear(name, activations, weights, outputs)
    else:
        bare = Layer.conv2d(name, activations, weights, stride=stride)
        outputs = _drawn(bare.output_shape, bits, seed, name)
        layer = Layer.conv2d(name, activations, weights, outputs, stride=stride)
    return network.add(layer, reads=reads), layer


def _drawn(shape: tuple[int, ...], bits: int, seed: int, name: str) -> LazyTensor:
    return synthetic_activations(shape, bits, min(PRECISION, bits), seed, name)
