"""TensorFlow Lite files as plain tensors and operators. Needs the extra [tflite]."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.errors import InputError, MissingExtra

DTYPES = {0: "<f4", 2: "<i4", 3: "|u1", 4: "<i8", 9: "|i1"}
"""numpy dtypes by `TensorType` of the schema; tensors of other kinds (resources) have none."""


@dataclass(frozen=True)
class LiteTensor:
    """A tensor: `values` of a constant, and where it is quantised the scales and the zero point."""

    name: str
    shape: tuple[int, ...]
    dtype: str | None
    values: NDArray[Any] | None = None
    scales: NDArray[np.float32] | None = None
    zero_point: int = 0


@dataclass(frozen=True)
class LiteOperator:
    """An operator: `kind` as the schema spells it, tensors by number (-1: none), options by name."""

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LiteGraph:
    """One subgraph of a file."""

    tensors: tuple[LiteTensor, ...]
    operators: tuple[LiteOperator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


OPTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "CONCATENATION": ("ConcatenationOptions", ("Axis",)),
    "CONV_2D": (
        "Conv2DOptions",
        (
            "Padding",
            "StrideH",
            "StrideW",
            "DilationHFactor",
            "DilationWFactor",
            "FusedActivationFunction",
        ),
    ),
    "DEPTHWISE_CONV_2D": (
        "DepthwiseConv2DOptions",
        (
            "Padding",
            "StrideH",
            "StrideW",
            "DilationHFactor",
            "DilationWFactor",
            "FusedActivationFunction",
            "DepthMultiplier",
        ),
    ),
    "FULLY_CONNECTED": ("FullyConnectedOptions", ("FusedActivationFunction",)),
    "STRIDED_SLICE": (
        "StridedSliceOptions",
        ("BeginMask", "EndMask", "EllipsisMask", "NewAxisMask", "ShrinkAxisMask"),
    ),
    "VAR_HANDLE": ("VarHandleOptions", ("SharedName",)),
}
"""Which options of an operator are read, and from which table of the schema."""


def read_tflite(path: Path) -> tuple[LiteGraph, ...]:
    """The subgraphs of a file; raises InputError for a damaged one, MissingExtra."""
    try:
        import tflite
    except ImportError as error:
        raise MissingExtra("tflite", "reading a TensorFlow Lite model") from error
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=path) from error
    if data[4:8] != b"TFL3":
        raise InputError("not a TensorFlow Lite model", file=path, found=repr(data[4:8]), allowed="b'TFL3'")
    try:
        model = tflite.Model.GetRootAs(data, 0)
        return tuple(_graph(tflite, model, model.Subgraphs(i)) for i in range(model.SubgraphsLength()))
    except Exception as error:
        # Offsets of a damaged flatbuffer lead anywhere.
        raise InputError(
            f"a damaged TensorFlow Lite model ({type(error).__name__}: {error})", file=path
        ) from error


def _graph(tflite: Any, model: Any, graph: Any) -> LiteGraph:
    kinds = {number: name for name, number in vars(tflite.BuiltinOperator).items() if isinstance(number, int)}
    operators = []
    for i in range(graph.OperatorsLength()):
        operator = graph.Operators(i)
        code = model.OperatorCodes(operator.OpcodeIndex())
        kind = kinds[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        inputs = tuple(int(operator.Inputs(j)) for j in range(operator.InputsLength()))
        outputs = tuple(int(operator.Outputs(j)) for j in range(operator.OutputsLength()))
        operators.append(LiteOperator(kind, inputs, outputs, _options(tflite, operator, kind)))
    tensors = tuple(_tensor(model, graph.Tensors(i)) for i in range(graph.TensorsLength()))
    ends = [
        tuple(int(at(i)) for i in range(count))
        for at, count in ((graph.Inputs, graph.InputsLength()), (graph.Outputs, graph.OutputsLength()))
    ]
    return LiteGraph(tensors, tuple(operators), *ends)


def _options(tflite: Any, operator: Any, kind: str) -> dict[str, Any]:
    if kind not in OPTIONS or operator.BuiltinOptions() is None:
        return {}
    table, names = OPTIONS[kind]
    options = getattr(tflite, table)()
    options.Init(operator.BuiltinOptions().Bytes, operator.BuiltinOptions().Pos)
    return {name: getattr(options, name)() for name in names}


def _tensor(model: Any, tensor: Any) -> LiteTensor:
    shape = tuple(int(tensor.Shape(i)) for i in range(tensor.ShapeLength()))
    dtype = DTYPES.get(tensor.Type())
    buffer = model.Buffers(tensor.Buffer())
    values = None
    if buffer.DataLength() and dtype is not None:
        values = np.frombuffer(buffer.DataAsNumpy().tobytes(), dtype).reshape(shape)
    quantisation = tensor.Quantization()
    if quantisation is None or not quantisation.ScaleLength():
        return LiteTensor(tensor.Name().decode(), shape, dtype, values)
    scales = np.array(quantisation.ScaleAsNumpy(), np.float32)
    points = [int(quantisation.ZeroPoint(i)) for i in range(quantisation.ZeroPointLength())] or [0]
    if len(set(points)) > 1:
        raise ValueError("zero points a channel")
    return LiteTensor(tensor.Name().decode(), shape, dtype, values, scales, points[0])
