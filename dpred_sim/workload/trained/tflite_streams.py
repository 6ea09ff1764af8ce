"""Streaming int8 convolutions of TensorFlow Lite as ONNX over a whole recording.

A streaming model sees a few rows (time) at a call and keeps the last rows of each tensor in variables:
`concatenate(variable, new rows)` is read, and its last rows are assigned to the variable. Over a whole
recording that is one convolution whose padding before the first row is what the variables start with,
so the model becomes an ordinary network: int8 weights and activations as stored, `QLinearConv` nodes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dpred_sim.errors import InputError
from dpred_sim.workload.trained.graph_builder import GraphBuilder
from dpred_sim.workload.trained.tflite_file import LiteGraph, LiteOperator, LiteTensor, read_tflite

VALID = 1
NO_ACTIVATION, RELU = 0, 1
"""Numbers of the schema's enumerations."""


@dataclass(frozen=True)
class _Rows:
    """A tensor over the whole recording: its ONNX name, new rows a call, and rows of history before."""

    name: str
    step: int
    history: int = 0
    variable: str = ""


def convert_streams(path: Path) -> Any:
    """The ONNX model of a streaming int8 file: it reads (1, bands, rows, 1), real numbers.

    Raises InputError for a damaged file, and for an operator or setting that is not converted.
    """
    graphs = read_tflite(path)
    try:
        return _Converter(path, graphs).convert()
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"not a streaming int8 model ({type(error).__name__}: {error})", file=path
        ) from error


class _Converter:
    def __init__(self, path: Path, graphs: tuple[LiteGraph, ...]) -> None:
        self.path = path
        self.main = graphs[0]
        self.starts = _starting_values(graphs[1:])
        (number,) = self.main.inputs
        self.source = self.main.tensors[number]
        _, step, bands = self.source.shape
        self.graph = GraphBuilder(path.stem, [1, bands, "rows", 1])
        quantised = self.quantise(self.graph.source, self.source, "quantised")
        self.made: dict[int, _Rows] = {number: _Rows(quantised, step)}
        self.variables: dict[int, str] = {}
        self.kinds: dict[str, Callable[[LiteOperator], None]] = {
            "ASSIGN_VARIABLE": self.assign,
            "CALL_ONCE": lambda operator: None,
            "CONCATENATION": self.concatenate,
            "CONV_2D": self.conv,
            "DEPTHWISE_CONV_2D": self.conv,
            "FULLY_CONNECTED": self.conv,
            "LOGISTIC": self.logistic,
            "QUANTIZE": self.passed_on,
            "READ_VARIABLE": self.read,
            "RESHAPE": self.passed_on,
            "SPLIT_V": self.split,
            "STRIDED_SLICE": self.last_rows,
            "VAR_HANDLE": self.handle,
        }

    def convert(self) -> Any:
        for operator in self.main.operators:
            if operator.kind not in self.kinds:
                self.refuse(operator, "an operator that is not converted")
            self.kinds[operator.kind](operator)
        return self.graph.model(*(self.made[number].name for number in self.main.outputs))

    def refuse(self, operator: LiteOperator, reason: str) -> None:
        field = f"operator {self.main.operators.index(operator)}"
        raise InputError(reason, file=self.path, field=field, found=operator.kind, allowed=sorted(self.kinds))

    def tensor(self, number: int) -> LiteTensor:
        return self.main.tensors[number]

    # Rows and their history

    def handle(self, operator: LiteOperator) -> None:
        self.variables[operator.outputs[0]] = operator.options["SharedName"].decode()

    def read(self, operator: LiteOperator) -> None:
        name = self.variables[operator.inputs[0]]
        tensor, start = self.tensor(operator.outputs[0]), self.starts[name]
        if start.values is None or (start.values != tensor.zero_point).any():
            self.refuse(operator, f"the variable {name} starts with something else than zeros")
        self.made[operator.outputs[0]] = _Rows("", 0, tensor.shape[1], name)

    def concatenate(self, operator: LiteOperator) -> None:
        parts = [self.made[number] for number in operator.inputs]
        axis = operator.options["Axis"] % 4
        self.same_format(operator, [*operator.inputs, operator.outputs[0]])
        if axis == 1 and len(parts) == 2 and parts[0].variable:
            self.made[operator.outputs[0]] = replace(parts[1], **_history(parts[0]))
        elif axis == 3 and all(p.step == parts[0].step and not p.history for p in parts):
            name = self.graph.node("Concat", [p.name for p in parts], f"join{operator.outputs[0]}", axis=1)
            self.made[operator.outputs[0]] = _Rows(name, parts[0].step)
        else:
            self.refuse(operator, "joins something else than rows to their history, or channels")

    def last_rows(self, operator: LiteOperator) -> None:
        """The last rows with their history: fewer of the same."""
        source, shape = self.made[operator.inputs[0]], self.tensor(operator.outputs[0]).shape
        begin, end, strides = (self.tensor(number).values for number in operator.inputs[1:4])
        assert begin is not None and end is not None and strides is not None
        whole = self.tensor(operator.inputs[0]).shape
        masks = operator.options
        kept = [i for i in range(4) if not masks["BeginMask"] >> i & 1]
        open_ended = all(masks["EndMask"] >> i & 1 or end[i] == whole[i] for i in range(4))
        others = masks["EllipsisMask"] or masks["NewAxisMask"] or masks["ShrinkAxisMask"]
        if kept != [1] or begin[1] != -shape[1] or not open_ended or others or (strides != 1).any():
            self.refuse(operator, "takes something else than the last rows")
        if shape[1] < source.step and shape[1] < source.history:
            self.refuse(operator, "forgets new rows")
        self.made[operator.outputs[0]] = replace(source, history=shape[1] - source.step)

    def assign(self, operator: LiteOperator) -> None:
        """What is kept for the next call must be the last rows of what was read."""
        name, kept = self.variables[operator.inputs[0]], self.made[operator.inputs[1]]
        rows = self.tensor(operator.inputs[1]).shape[1]
        if kept.variable != name or kept.history + kept.step != rows:
            self.refuse(operator, f"the variable {name} keeps something else than its last rows")

    def split(self, operator: LiteOperator) -> None:
        source, axis = self.made[operator.inputs[0]], self.tensor(operator.inputs[2]).values
        if axis is None or int(axis) % 4 != 3:
            self.refuse(operator, "splits something else than channels")
        names = [f"part{number}" for number in operator.outputs]
        sizes = [self.tensor(number).shape[3] for number in operator.outputs]
        split = self.graph.constant(f"split{operator.outputs[0]}", sizes, np.int64)
        self.graph.split(source.name, split, names)
        for number, name in zip(operator.outputs, names, strict=True):
            self.made[number] = replace(source, name=name)

    def passed_on(self, operator: LiteOperator) -> None:
        """A reshape of rows, and a requantisation of the final result."""
        self.made[operator.outputs[0]] = self.made[operator.inputs[0]]

    # Arithmetic

    def conv(self, operator: LiteOperator) -> None:
        number, weights, bias = operator.inputs
        source, kernel = self.made[number], self.tensor(weights)
        out = self.tensor(operator.outputs[0])
        assert kernel.values is not None and kernel.scales is not None
        options, depthwise = operator.options, operator.kind.startswith("DEPTHWISE")
        values = kernel.values if kernel.values.ndim == 4 else kernel.values[:, None, None, :]
        # TFLite has (K, H, W, C), and (1, H, W, K) for depthwise ones.
        values = values.transpose(3, 0, 1, 2) if depthwise else values.transpose(0, 3, 1, 2)
        stride, rows = options.get("StrideH", 1), values.shape[2]
        if operator.kind != "FULLY_CONNECTED" and stride == 1 and source.step > 1:
            # One position a call: the step of the rows is the stride over the recording.
            stride = source.step
        self.check_conv(operator, source, stride, rows)
        if options.get("FusedActivationFunction", 0) == RELU and out.zero_point != -128:
            self.refuse(operator, "a ReLU that the format of its output does not make")
        name = f"conv{operator.outputs[0]}"
        parts = [
            source.name,
            *self.format_of(self.tensor(number), f"{name}.x"),
            self.graph.constant(f"{name}.weight", values, np.int8),
            self.graph.constant(f"{name}.weight_scale", kernel.scales),
            self.graph.constant(f"{name}.weight_zero", np.zeros(len(kernel.scales)), np.int8),
            *self.format_of(out, f"{name}.y"),
        ]
        if len(kernel.scales) == 1:
            for key in ("weight_scale", "weight_zero"):
                self.graph.constants[f"{name}.{key}"] = self.graph.constants[f"{name}.{key}"].reshape(())
        if bias >= 0:
            parts.append(self.graph.constant(f"{name}.bias", self.tensor(bias).values, np.int32))
        made = self.graph.node(
            "QLinearConv",
            parts,
            name,
            strides=[stride, 1],
            pads=[source.history, 0, 0, 0],
            group=values.shape[0] if depthwise else 1,
        )
        self.made[operator.outputs[0]] = _Rows(made, 1)

    def check_conv(self, operator: LiteOperator, source: _Rows, stride: int, rows: int) -> None:
        options = operator.options
        fused = options.get("FusedActivationFunction", NO_ACTIVATION)
        if fused not in (NO_ACTIVATION, RELU):
            self.refuse(operator, "its activation is not converted")
        if options.get("DilationHFactor", 1) != 1 or options.get("DilationWFactor", 1) != 1:
            self.refuse(operator, "dilation is not converted")
        if options.get("DepthMultiplier", 1) > 1:
            self.refuse(operator, "several filters a channel are not converted")
        if source.history + source.step != rows or stride != source.step:
            self.refuse(operator, "gives more than one row a call, or skips rows")

    def logistic(self, operator: LiteOperator) -> None:
        source, tensor = self.made[operator.inputs[0]], self.tensor(operator.inputs[0])
        name = f"sigmoid{operator.outputs[0]}"
        parts = [source.name, *self.format_of(tensor, f"{name}.x")]
        real = self.graph.node("DequantizeLinear", parts, f"{name}.real")
        self.made[operator.outputs[0]] = replace(source, name=self.graph.node("Sigmoid", [real], name))

    def quantise(self, x: str, tensor: LiteTensor, name: str) -> str:
        return self.graph.node("QuantizeLinear", [x, *self.format_of(tensor, name)], name)

    def format_of(self, tensor: LiteTensor, name: str) -> list[str]:
        """Scale and zero point of an int8 tensor, as constants."""
        if tensor.dtype != "|i1" or tensor.scales is None or tensor.scales.size != 1:
            raise ValueError(f"{tensor.name} is not int8 with one scale")
        return [
            self.graph.constant(f"{name}.scale", tensor.scales.reshape(())),
            self.graph.constant(f"{name}.zero", tensor.zero_point, np.int8),
        ]

    def same_format(self, operator: LiteOperator, numbers: list[int]) -> None:
        found = [self.tensor(number) for number in numbers]
        first = found[0]
        if any(t.zero_point != first.zero_point or not np.array_equal(t.scales, first.scales) for t in found):  # type: ignore[arg-type]
            self.refuse(operator, "joins tensors of different formats")


def _history(variable: _Rows) -> dict[str, Any]:
    return {"history": variable.history, "variable": variable.variable}


def _starting_values(graphs: tuple[LiteGraph, ...]) -> dict[str, LiteTensor]:
    """What the graphs that are called once assign to each variable."""
    found = {}
    for graph in graphs:
        handles = {
            o.outputs[0]: o.options["SharedName"].decode() for o in graph.operators if o.kind == "VAR_HANDLE"
        }
        for operator in graph.operators:
            if operator.kind == "ASSIGN_VARIABLE":
                found[handles[operator.inputs[0]]] = graph.tensors[operator.inputs[1]]
    return found
