"""Multiply-accumulates counted from the operators of a graph and the shapes of their tensors alone.

The count knows nothing of layers: what the import makes of a model is held against it. What only
constants decide is not counted, as it is computed before the network runs; nor is what no output needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from dpred_sim.errors import InputError
from dpred_sim.workload.importers.onnx_einsum import Equation
from dpred_sim.workload.importers.onnx_plan import Plan, planned_macs
from dpred_sim.workload.importers.onnx_runtime import Feeds, Runner, import_onnx, without_constants

Shape = tuple[int, ...]

SMALL = 1024
"""Values that a constant has at most which shapes are inferred from."""


@dataclass(frozen=True)
class Product:
    """A node with inner products: `macs` of one run."""

    name: str
    operator: str
    macs: int


def _of_conv(node: Any, shape: Callable[[int], Shape], out: Shape) -> int:
    # Each output is a sum over the kernel and the channels of its group.
    return prod(out) * prod(shape(3 if node.op_type == "QLinearConv" else 1)[1:])


def _of_transposed(node: Any, shape: Callable[[int], Shape], out: Shape) -> int:
    # Each input is spread over the kernel and the filters of its group.
    return prod(shape(0)) * prod(shape(1)[1:])


def _of_matmul(node: Any, shape: Callable[[int], Shape], out: Shape) -> int:
    return prod(out) * shape(0)[-1]


def _of_gemm(node: Any, shape: Callable[[int], Shape], out: Shape) -> int:
    turned = any(item.name == "transA" and item.i for item in node.attribute)
    return prod(out) * shape(0)[0 if turned else 1]


def _of_recurrence(node: Any, shape: Callable[[int], Shape], out: Shape) -> int:
    steps, batch, channels = shape(0)
    directions, rows, units = shape(2)
    if node.op_type == "DynamicQuantizeLSTM":
        rows, units = units, rows
    return directions * steps * batch * rows * (channels + units)


COUNTED: Mapping[str, Callable[[Any, Callable[[int], Shape], Shape], int]] = {
    "Conv": _of_conv,
    "ConvInteger": _of_conv,
    "QLinearConv": _of_conv,
    "ConvTranspose": _of_transposed,
    "MatMul": _of_matmul,
    "MatMulInteger": _of_matmul,
    "QLinearMatMul": _of_matmul,
    "Gemm": _of_gemm,
    "QGemm": _of_gemm,
    "LSTM": _of_recurrence,
    "DynamicQuantizeLSTM": _of_recurrence,
    "GRU": _of_recurrence,
    "RNN": _of_recurrence,
}
"""Multiply-accumulates of a node, given the shapes of its inputs by their number, and of its output."""


class Count:
    """The products of a model before anything is done to it, for inputs as in `feed`.

    Shapes are inferred, without the weights in memory; where that leaves some open they are those of a
    run. `again` gives the model once more for that.
    """

    def __init__(self, path: Path, proto: Any, feed: Feeds, again: Callable[[], Any]) -> None:
        self.path, self.feed, self.again = path, feed, again
        self.nodes = [node for node in counted_nodes(proto) if node.op_type in {*COUNTED, "Einsum"}]
        self.nodes = [type(node).FromString(node.SerializeToString()) for node in self.nodes]
        self.inferred = inferred_shapes(proto, feed) if self.nodes else {}

    def products(self, exact: bool = False) -> list[Product]:
        """Every product, with the shapes of a run where `exact` is set or inference leaves some open."""
        shapes = self.inferred
        wanted = [name for node in self.nodes for name in (*node.input, *node.output) if name]
        if exact or any(name not in shapes for name in wanted):
            shapes = run_shapes(self.path, self.again(), self.feed, wanted)
        return [product for node in self.nodes for product in _products(node, shapes)]

    def check(self, plan: Plan, weights: Mapping[str, Shape]) -> None:
        """Raise InputError, with the names of the nodes, where a plan has other products than the model.

        `weights` are the shapes of the layers' weights.
        """
        planned = planned_macs(plan, weights)
        # Inference and onnxruntime differ now and then, as in pooling with ceil_mode.
        for exact in (False, True):
            lost = _missing(self.products(exact), planned)
            if not lost:
                return
        names = ", ".join(f"{found.name!r} ({found.operator}, {found.macs:,})" for found in lost[:5])
        raise InputError(
            "products of the model are not in the layers that were made of it, or are there in another "
            "number: export these operators in another form (docs/importer.md)",
            file=self.path,
            field=f"node {lost[0].name!r}",
            found=f"{len(lost)} node(s), multiply-accumulates: {names}",
        )


def _products(node: Any, shapes: Mapping[str, Shape]) -> list[Product]:
    """The products of a node: one, or one for each operand of an Einsum but the first."""
    made = [name for name in node.output if name]
    name = node.name or made[0]
    if node.op_type == "Einsum":
        operands = [shapes[operand] for operand in node.input]
        macs = Equation.of(node, [len(shape) for shape in operands]).macs(operands)
    else:
        macs = [COUNTED[node.op_type](node, lambda i: shapes[node.input[i]], shapes[made[0]])]
    return [Product(name, node.op_type, count) for count in macs]


def _missing(counted: Sequence[Product], planned: Mapping[str, tuple[str, int]]) -> list[Product]:
    """Products that no layer computes, matched by name, then by size; a transposed convolution may grow.

    A layer that is no product of the model counts as one of them.
    """
    left = dict(planned)
    open_products = []
    for product in counted:
        if product.name in left and left[product.name][1] == product.macs:
            del left[product.name]
        else:
            open_products.append(product)
    missing = []
    for product in sorted(open_products, key=lambda found: -found.macs):
        grown = product.operator == "ConvTranspose"
        fits = [
            name
            for name, (operator, macs) in left.items()
            if macs == product.macs or (grown and operator == "ConvTranspose" and macs >= product.macs)
        ]
        if fits:
            del left[min(fits, key=lambda name: left[name][1])]
        elif product.macs:
            missing.append(product)
    return missing + [Product(name, operator, macs) for name, (operator, macs) in left.items() if macs]


def counted_nodes(proto: Any) -> list[Any]:
    """The nodes of a pruned graph that the input decides, in order."""
    decided = {value.name for value in proto.graph.input} - {t.name for t in proto.graph.initializer}
    found = []
    for node in proto.graph.node:
        if node.op_type not in ("Shape", "Size") and decided & set(node.input):
            decided.update(name for name in node.output if name)
            found.append(node)
    return found


def inferred_shapes(proto: Any, feed: Feeds) -> dict[str, Shape]:
    """Shapes of tensors as far as onnx infers them, for inputs as in `feed`; large constants are not read."""
    onnx, _ = import_onnx()
    model = without_constants(proto)
    model.ir_version = max(model.ir_version, 4)
    del model.graph.value_info[:]
    constant = {tensor.name for tensor in proto.graph.initializer}
    kept = [value for value in model.graph.input if value.name not in constant]
    inputs = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in kept]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    for value in model.graph.input:
        if value.name in feed:
            dimensions = value.type.tensor_type.shape.dim
            for dimension, size in zip(dimensions, feed[value.name].shape, strict=True):
                dimension.dim_value = size
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    known: dict[str, Shape] = {}
    for tensor in proto.graph.initializer:
        known[tensor.name] = tuple(tensor.dims)
        if prod(tensor.dims) <= SMALL:
            model.graph.initializer.append(tensor)
        else:
            made = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            model.graph.input.append(made)
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception:
        # Whatever it stumbles over, a run gives the shapes, or says what is wrong.
        return known
    for value in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output):
        kind = value.type.tensor_type
        if kind.HasField("shape") and all(axis.HasField("dim_value") for axis in kind.shape.dim):
            known[value.name] = tuple(axis.dim_value for axis in kind.shape.dim)
    return known


def run_shapes(path: Path, proto: Any, feed: Feeds, names: Iterable[str]) -> dict[str, Shape]:
    """Shapes of tensors in a run. Raises InputError when the model fails."""
    fixed = {tensor.name: tuple(map(int, tensor.dims)) for tensor in proto.graph.initializer}
    fixed |= {name: array.shape for name, array in feed.items()}
    wanted = [name for name in dict.fromkeys(names) if name not in fixed]
    return {**fixed, **Runner(path, proto, [], wanted).shapes(feed)}
