"""Weights from a `.safetensors` file, put into a network that a script describes.

The file holds weights alone. Whose they are says, in this order: a script given as input
(`--input my_net.py`), the entry `workload` of the file's metadata, or the file's own name
(`alexnet.safetensors` are weights of the ready-made `alexnet`). Activations stay those of that workload.

Tensors are matched with layers by name, `LAYER` or `LAYER.weight`; when no tensor is called after a
layer, by order: the tensors with two axes or more are the layers' weights one after another, in the
order of the file. Layouts are those of PyTorch: convolutions (K, C / groups, Ky, Kx), fully connected layers
(K, C), flattened channel first where they read an image. Each layer must get weights of its own shape.
Recurrent layers are not supported.

`--quantise`: `profiled` keeps each layer's precision, `full_range` takes all bits; at 8 bits both are one
scale a tensor. Both take the options of `dpred_sim.workload.rules`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.errors import InputError, MissingExtra, nearest
from dpred_sim.locate import locate
from dpred_sim.values.quantise import quantise_8bit, quantise_8bit_channels, quantise_fixed
from dpred_sim.values.tensor import LazyTensor, Tensor
from dpred_sim.workload.importers.base import Importer, importer_for, register
from dpred_sim.workload.layer import Layer
from dpred_sim.workload.network import Node
from dpred_sim.workload.rules import Rule, parse_rule
from dpred_sim.workload.workload import Workload

RULES = ("profiled", "full_range")
DTYPES = ("F64", "F32", "F16", "BF16", "I8", "U8", "I16")


@register("safetensors")
class SafetensorsImporter(Importer):
    """Reads `.safetensors` files (the extra [safetensors])."""

    suffixes = (".safetensors",)

    def load(self, path: Path, *, bits: int, quantise: str, inputs: Sequence[Path], seed: int) -> Workload:
        """The workload of a network with the file's weights.

        Raises InputError for a damaged file, a network that is not named or not there, tensors that do
        not match its layers, and values that are not finite; MissingExtra without the extra.
        """
        rule = parse_rule(quantise, RULES, bits)
        shapes, metadata = _header(path)
        script = _script(path, metadata, inputs)
        base = importer_for(script).load(script, bits=bits, quantise="profiled", inputs=(), seed=seed)
        weighted = [node for node in base.network if node.layer.weights is not None]
        names = _matched(path, weighted, shapes)
        network = base.network.with_weights(
            {node.name: _weights(path, names[node.name], node.layer, bits, rule) for node in weighted}
        )
        source = f"weights of {path.name} ({quantise.replace('_', ' ')}); activations: {base.source}"
        about = {**base.provenance, "weights": path.name, "weights_of": base.name, "quantise": quantise}
        return Workload(base.name, network, bits, source, base.synthetic, about)


def _opened(path: Path) -> Any:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise MissingExtra("safetensors", "reading .safetensors files") from None
    try:
        return safe_open(path, "numpy")
    except (SafetensorError, OSError) as error:
        raise InputError(f"not a .safetensors file: {error}", file=path) from None


def _header(path: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """(shapes of the tensors in the order of the file, metadata)."""
    with _opened(path) as file:
        names = list(file.offset_keys()) if hasattr(file, "offset_keys") else list(file.keys())
        shapes = {}
        for name in names:
            part = file.get_slice(name)
            if part.get_dtype() not in DTYPES:
                raise InputError(
                    "kind of numbers", file=path, field=name, found=part.get_dtype(), allowed=DTYPES
                )
            shapes[name] = tuple(part.get_shape())
        return shapes, dict(file.metadata() or {})


def _script(path: Path, metadata: dict[str, str], inputs: Sequence[Path]) -> Path:
    """The script of the network whose weights these are."""
    if len(inputs) > 1:
        raise InputError(
            "weights go into one network", field="inputs", found=len(inputs), allowed="one script"
        )
    if inputs:
        return inputs[0]
    name = metadata.get("workload", path.stem)
    try:
        return locate(name, "workloads", ".py", noun="workload", relative_to=path.parent)
    except InputError as error:
        raise InputError(
            f"whose weights are these? {error.message}",
            file=path,
            field="workload",
            found=name,
            allowed="--input SCRIPT, metadata `workload`, or a file named after a ready-made workload",
        ) from None


def _matched(path: Path, nodes: Sequence[Node], shapes: dict[str, tuple[int, ...]]) -> dict[str, str]:
    """The tensor of each layer, by name or by order."""
    for node in nodes:
        if node.family or node.layer.second is not None:
            raise InputError(
                "recurrent layers and products of activations take no file", file=path, field=node.name
            )
    called = {
        node.name: name for node in nodes for name in (f"{node.name}.weight", node.name) if name in shapes
    }
    if not called:
        many = [name for name, shape in shapes.items() if len(shape) >= 2]
        if len(many) != len(nodes):
            raise InputError(
                "no tensor is called after a layer, and there are not as many as layers",
                file=path,
                found=f"{len(many)} tensors with two axes or more",
                allowed=f"{len(nodes)} layers with weights",
            )
        called = {node.name: name for node, name in zip(nodes, many, strict=True)}
    for node in nodes:
        if node.name not in called:
            raise InputError(
                f"no weights for the layer{nearest(f'{node.name}.weight', shapes)}",
                file=path,
                field=node.name,
                allowed=f"{node.name}.weight",
            )
        found, wanted = shapes[called[node.name]], _stored_shape(node.layer)
        if found != wanted and not (node.layer.kind == "linear" and _squeezed(found) == wanted):
            raise InputError(
                f"weights of another shape than the layer {node.name!r} has",
                file=path,
                field=called[node.name],
                found=str(found),
                allowed=str(wanted),
            )
    return called


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A fully connected layer may be kept as a 1 x 1 convolution."""
    return shape[:2] if shape[2:] == (1,) * len(shape[2:]) else shape


def _stored_shape(layer: Layer) -> tuple[int, ...]:
    """Shape of a layer's weights in the file."""
    shape = tuple(layer.weights.shape) if layer.weights is not None else ()
    return (shape[0], shape[3], shape[1], shape[2]) if len(shape) == 4 else shape


def _weights(path: Path, name: str, layer: Layer, bits: int, rule: Rule) -> LazyTensor:
    """A layer's weights, read and quantised when they are looked at."""
    before = layer.weights
    assert before is not None  # only layers with weights get here
    precision = bits if rule.name == "full_range" or bits == 8 else max(2, before.precision)
    image = tuple(layer.activations.shape) if layer.kind == "linear" else ()
    make = partial(_quantised, path, name, tuple(before.shape), image, precision, bits, rule)
    return LazyTensor(tuple(before.shape), bits, precision, True, make)


def _quantised(
    path: Path,
    name: str,
    shape: tuple[int, ...],
    image: tuple[int, ...],
    precision: int,
    bits: int,
    rule: Rule,
) -> Tensor:
    array = _numbers(path, name)
    if len(shape) == 4:
        array = array.transpose(0, 2, 3, 1)
    elif len(image) == 3 and prod(image) == shape[1]:
        height, width, depth = image
        array = array.reshape(-1, depth, height, width).transpose(0, 2, 3, 1)
    array = np.ascontiguousarray(array).reshape(shape)
    field = f"{path.name}: {name}"
    array = rule.prepared(array, field)
    if bits == 16:
        return quantise_fixed(array, precision, bits, signed=True, name=field).tensor
    if rule.per_channel:
        return quantise_8bit_channels(array, signed=True, name=field).tensor
    return quantise_8bit(array, signed=True, name=field).tensor


def _numbers(path: Path, name: str) -> NDArray[Any]:
    with _opened(path) as file:
        from safetensors import SafetensorError

        try:
            if file.get_slice(name).get_dtype() != "BF16":
                return np.asarray(file.get_tensor(name))
            import ml_dtypes  # noqa: F401  (numpy learns of bfloat16)

            return np.asarray(file.get_tensor(name)).astype(np.float32)
        except SafetensorError as error:
            raise InputError(f"cannot be read: {error}", file=path, field=name) from None
