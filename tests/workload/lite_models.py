"""Small TensorFlow Lite files, written with the schema's own builders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

INT8, INT32, FLOAT32, RESOURCE = 9, 2, 0, 13
NUMBERS = {np.dtype("int8"): INT8, np.dtype("int32"): INT32, np.dtype("float32"): FLOAT32}


@dataclass
class Graph:
    """Tensors and operators of one subgraph, in the order in which they are added."""

    tensors: list[dict[str, Any]] = field(default_factory=list)
    operators: list[tuple[str, list[int], list[int], str, dict[str, Any]]] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)

    def tensor(
        self, shape: Sequence[int], kind: int = INT8, values: Any = None, scale: Any = None, zero: int = 0
    ) -> int:
        scales = None if scale is None else np.atleast_1d(np.asarray(scale, np.float32))
        self.tensors.append({"shape": shape, "kind": kind, "values": values, "scale": scales, "zero": zero})
        return len(self.tensors) - 1

    def constant(self, values: Any, scale: Any = None) -> int:
        return self.tensor(values.shape, NUMBERS[values.dtype], values, scale)

    def operator(
        self, kind: str, inputs: list[int], outputs: list[int], table: str = "", **options: Any
    ) -> None:
        self.operators.append((kind, inputs, outputs, table, options))


def write(graphs: Sequence[Graph]) -> bytes:
    """The bytes of a model file."""
    import flatbuffers
    import tflite

    builder = flatbuffers.Builder(1024)
    kinds = sorted({operator[0] for graph in graphs for operator in graph.operators})
    buffers = [b""]

    def vector(start: Any, items: Sequence[int], prepend: Any) -> int:
        start(builder, len(items))
        for item in reversed(items):
            prepend(item)
        return builder.EndVector()

    def tensor(about: dict[str, Any]) -> int:
        number = 0
        if about["values"] is not None:
            buffers.append(about["values"].tobytes())
            number = len(buffers) - 1
        shape = builder.CreateNumpyVector(np.array(about["shape"], np.int32))
        quantisation = None
        if about["scale"] is not None:
            scale = builder.CreateNumpyVector(about["scale"])
            zero = builder.CreateNumpyVector(np.full(len(about["scale"]), about["zero"], np.int64))
            tflite.QuantizationParametersStart(builder)
            tflite.QuantizationParametersAddScale(builder, scale)
            tflite.QuantizationParametersAddZeroPoint(builder, zero)
            quantisation = tflite.QuantizationParametersEnd(builder)
        name = builder.CreateString("t")
        tflite.TensorStart(builder)
        tflite.TensorAddShape(builder, shape)
        tflite.TensorAddType(builder, about["kind"])
        tflite.TensorAddBuffer(builder, number)
        tflite.TensorAddName(builder, name)
        if quantisation is not None:
            tflite.TensorAddQuantization(builder, quantisation)
        return int(tflite.TensorEnd(builder))

    def operator(about: tuple[str, list[int], list[int], str, dict[str, Any]]) -> int:
        kind, inputs, outputs, table, options = about
        made = None
        if table:
            texts = {k: builder.CreateString(v) for k, v in options.items() if isinstance(v, str)}
            getattr(tflite, f"{table}Start")(builder)
            for key, value in {**options, **texts}.items():
                getattr(tflite, f"{table}Add{key}")(builder, value)
            made = getattr(tflite, f"{table}End")(builder)
        ends = [builder.CreateNumpyVector(np.array(numbers, np.int32)) for numbers in (inputs, outputs)]
        tflite.OperatorStart(builder)
        tflite.OperatorAddOpcodeIndex(builder, kinds.index(kind))
        tflite.OperatorAddInputs(builder, ends[0])
        tflite.OperatorAddOutputs(builder, ends[1])
        if made is not None:
            tflite.OperatorAddBuiltinOptionsType(builder, getattr(tflite.BuiltinOptions, table))
            tflite.OperatorAddBuiltinOptions(builder, made)
        return int(tflite.OperatorEnd(builder))

    def graph(about: Graph) -> int:
        tensors = [tensor(one) for one in about.tensors]
        operators = [operator(one) for one in about.operators]
        offset = builder.PrependUOffsetTRelative
        tensors_at = vector(tflite.SubGraphStartTensorsVector, tensors, offset)
        operators_at = vector(tflite.SubGraphStartOperatorsVector, operators, offset)
        ends = [builder.CreateNumpyVector(np.array(n, np.int32)) for n in (about.inputs, about.outputs)]
        tflite.SubGraphStart(builder)
        tflite.SubGraphAddTensors(builder, tensors_at)
        tflite.SubGraphAddOperators(builder, operators_at)
        tflite.SubGraphAddInputs(builder, ends[0])
        tflite.SubGraphAddOutputs(builder, ends[1])
        return int(tflite.SubGraphEnd(builder))

    made = [graph(one) for one in graphs]
    codes = []
    for kind in kinds:
        number = getattr(tflite.BuiltinOperator, kind)
        tflite.OperatorCodeStart(builder)
        tflite.OperatorCodeAddDeprecatedBuiltinCode(builder, min(number, 127))
        tflite.OperatorCodeAddBuiltinCode(builder, number)
        codes.append(tflite.OperatorCodeEnd(builder))
    data = []
    for content in buffers:
        at = builder.CreateByteVector(content) if content else None
        tflite.BufferStart(builder)
        if at is not None:
            tflite.BufferAddData(builder, at)
        data.append(tflite.BufferEnd(builder))
    offset = builder.PrependUOffsetTRelative
    graphs_at = vector(tflite.ModelStartSubgraphsVector, made, offset)
    codes_at = vector(tflite.ModelStartOperatorCodesVector, codes, offset)
    data_at = vector(tflite.ModelStartBuffersVector, data, offset)
    tflite.ModelStart(builder)
    tflite.ModelAddVersion(builder, 3)
    tflite.ModelAddOperatorCodes(builder, codes_at)
    tflite.ModelAddSubgraphs(builder, graphs_at)
    tflite.ModelAddBuffers(builder, data_at)
    builder.Finish(tflite.ModelEnd(builder), b"TFL3")
    return bytes(builder.Output())
