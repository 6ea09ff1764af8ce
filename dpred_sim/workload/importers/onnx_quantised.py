"""Quantised ONNX models in floating point: same values, every format remembered.

Quantised operators (QLinearConv, ConvInteger and their kind) become the plain operator between
DequantizeLinear and QuantizeLinear; what only moves quantised values moves real ones; constant weights
are dequantised. What was stored in 8 bits is then `scale * (q - zero_point)` and can be taken as it was.
An accelerator rounds a sum once, as this form does; onnxruntime's own kernels may differ by one in the
last place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.errors import InputError
from dpred_sim.workload.importers.onnx_model import FLOATS
from dpred_sim.workload.importers.onnx_native import Native
from dpred_sim.workload.importers.onnx_runtime import import_onnx

MOVING = frozenset(
    {
        "Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "Identity", "MaxPool", "Reshape", "Slice",
        "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
    }
)  # fmt: skip
"""Operators that give the same result on quantised values and on what they stand for."""

REAL = ".real"
"""Ending of the tensor that a quantised one stands for."""


def in_real_numbers(path: Path, proto: Any) -> dict[str, Native]:
    """Rewrite a model in place; returns the formats of constants and tensors that had one, by name.

    Raises InputError for a quantised operator whose scale is not constant.
    """
    rewriting = _Rewriting(path, proto)
    natives = rewriting.run()
    # Its table of its own methods is a cycle, which would keep the proto in memory for long.
    rewriting.quantised.clear()
    return natives


class _Rewriting:
    def __init__(self, path: Path, proto: Any) -> None:
        self.onnx, _ = import_onnx()
        self.path = path
        self.graph = proto.graph
        self.proto = proto
        self.constants = {tensor.name: tensor for tensor in self.graph.initializer}
        for node in self.graph.node:
            if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
                self.constants[node.output[0]] = node.attribute[0].t
        self.nodes: list[Any] = []
        self.natives: dict[str, Native] = {}
        self.real: dict[str, str] = {}
        """Tensors of real values, by the name of the quantised one."""
        self.sums: set[str] = set()
        """Sums of integer products: whole numbers in the file, real ones here."""
        self.formats: dict[str, tuple[str, str]] = {}
        """Names of scale and zero point of quantised tensors."""
        self.quantised = {
            "QuantizeLinear": self._quantize,
            "DequantizeLinear": self._dequantize,
            "QLinearConv": self._conv,
            "QLinearMatMul": self._matmul,
            "ConvInteger": self._integer("Conv"),
            "MatMulInteger": self._integer("MatMul"),
            "QLinearAdd": self._of_two("Add"),
            "QLinearMul": self._of_two("Mul"),
            "QLinearSigmoid": self._of_one("Sigmoid"),
            "QLinearSoftmax": self._of_one("Softmax"),
            "QLinearLeakyRelu": self._of_one("LeakyRelu"),
            "QLinearGlobalAveragePool": self._of_one("GlobalAveragePool"),
            "QLinearAveragePool": self._of_one("AveragePool"),
            "QLinearConcat": self._concat,
            "QGemm": self._gemm,
            "DynamicQuantizeLSTM": self._lstm,
        }

    def run(self) -> dict[str, Native]:
        known = {node.op_type for node in self.graph.node}
        if not known & set(self.quantised):
            return {}
        for node in list(self.graph.node):
            rewrite = self.quantised.get(node.op_type)
            if rewrite is not None and node.input[0] not in self.sums:
                rewrite(node)
                continue
            if any(name in self.sums for name in node.input):
                self._of_sums(node)
                continue
            moved = [name for name in node.input if name in self.real]
            if moved and node.op_type in MOVING:
                form = self.formats[moved[0]]
                self._add(node, [self.real.get(name, name) for name in node.input], node.output)
                for name in node.output:
                    self.real[name], self.formats[name] = name, form
                continue
            self.nodes.append(node)
        copies = [self.onnx.NodeProto.FromString(node.SerializeToString()) for node in self.nodes]
        del self.graph.node[:]
        self.graph.node.extend(copies)
        self._outputs()
        self._prune()
        return self.natives

    def _outputs(self) -> None:
        """Quantised outputs of the network are given as what they stand for."""
        for value in self.graph.output:
            if value.name in self.real or value.name in self.sums:
                made = self.onnx.helper.make_tensor_value_info(
                    self.real.get(value.name, value.name), self.onnx.TensorProto.FLOAT, None
                )
                value.CopyFrom(made)

    def _prune(self) -> None:
        """Drop constants that nobody reads any more: integer weights."""
        used = {name for node in self.graph.node for name in node.input}
        kept = [t for t in self.graph.initializer if t.name in used]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)

    # Pieces

    def _node(self, kind: str, inputs: Sequence[str], output: str, name: str, **attributes: Any) -> str:
        self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), [output], name=name, **attributes))
        return output

    def _add(self, node: Any, inputs: Sequence[str], outputs: Sequence[str], kind: str = "") -> None:
        made = self.onnx.NodeProto()
        made.CopyFrom(node)
        made.op_type, made.domain = kind or node.op_type, "" if kind else node.domain
        del made.input[:]
        made.input.extend(inputs)
        outputs = list(outputs)
        del made.output[:]
        made.output.extend(outputs)
        self.nodes.append(made)

    def _value(self, node: Any, name: str, what: str) -> NDArray[Any]:
        """A constant; refuses what is none."""
        if name not in self.constants:
            raise InputError(
                f"{what} of a quantised operator is not constant",
                file=self.path,
                field=f"node {node.name or node.output[0]!r}",
                found=node.op_type,
            )
        values: NDArray[Any] = self.onnx.numpy_helper.to_array(self.constants[name])
        return values

    def _constant(self, name: str, values: NDArray[Any]) -> str:
        if name not in self.constants:
            tensor = self.onnx.numpy_helper.from_array(values, name)
            self.graph.initializer.append(tensor)
            self.constants[name] = tensor
        return name

    def _operand(self, node: Any, name: str, scale: str, zero: str, axis: int | None = None) -> str:
        """The real values of a quantised operand."""
        if name in self.constants:
            return self._dequantised(node, name, scale, zero, axis)
        if name in self.real and self._same_form(self.formats[name], (scale, zero)):
            return self.real[name]
        given = [name, scale, *([zero] if zero else [])]
        return self._node("DequantizeLinear", given, f"{name}{REAL}.{len(self.nodes)}", "")

    def _dequantised(self, node: Any, name: str, scale: str, zero: str, axis: int | None) -> str:
        """A constant in real numbers; its format is kept."""
        made = f"{name}{REAL}"
        if made in self.constants:
            return made
        values = self._value(node, name, "an operand").astype(np.float32)
        scales = self._value(node, scale, "the scale").astype(np.float32)
        zeros = (
            self._value(node, zero, "the zero point").astype(np.float32) if zero else np.zeros_like(scales)
        )
        if scales.ndim > 1:
            raise InputError(
                "a scale for blocks of values is not supported: one a tensor or one a channel is",
                file=self.path,
                field=f"node {node.name or node.output[0]!r}",
                found=scales.shape,
            )
        if scales.size > 1:
            form = [1] * values.ndim
            form[axis or 0] = -1
            self.natives[made] = Native(tuple(scales.ravel().tolist()))
            scales, zeros = scales.reshape(form), zeros.reshape(form) if zeros.size > 1 else zeros
        else:
            scales, zeros = scales.reshape(()), zeros.reshape(()) if zeros.size == 1 else zeros
            self.natives[made] = Native((float(scales),))
        return self._constant(made, ((values - zeros) * scales).astype(np.float32))

    def _same_form(self, one: tuple[str, str], other: tuple[str, str]) -> bool:
        if one == other:
            return True
        pairs = zip(one, other, strict=True)
        return all(
            a in self.constants
            and b in self.constants
            and np.array_equal(
                self.onnx.numpy_helper.to_array(self.constants[a]),
                self.onnx.numpy_helper.to_array(self.constants[b]),
            )
            for a, b in pairs
        )

    def _result(self, node: Any, real: str, scale: str, zero: str) -> None:
        """Round the tensor `real` to the format of the node's output."""
        made = node.output[0]
        given = [real, scale, *([zero] if zero else [])]
        self._node("QuantizeLinear", given, made, f"{node.name}.quantised" if node.name else "")
        self._stored(made, scale, zero)

    def _stored(self, made: str, scale: str, zero: str) -> None:
        given = [made, scale, *([zero] if zero else [])]
        self._node("DequantizeLinear", given, f"{made}{REAL}", "")
        self.real[made], self.formats[made] = f"{made}{REAL}", (scale, zero)
        if scale in self.constants:
            step = self.onnx.numpy_helper.to_array(self.constants[scale])
            if step.size == 1:
                self.natives[f"{made}{REAL}"] = Native((float(step.ravel()[0]),))

    # Operators

    def _quantize(self, node: Any) -> None:
        scale, zero = node.input[1], node.input[2] if len(node.input) > 2 else ""
        if node.input[0] in self.constants:
            # Weights that are rounded on the way: left to the folding of constants.
            self.nodes.append(node)
            return
        self._add(node, [self.real.get(node.input[0], node.input[0]), *node.input[1:]], node.output)
        self._stored(node.output[0], scale, zero)

    def _dequantize(self, node: Any) -> None:
        name, scale = node.input[0], node.input[1]
        zero = node.input[2] if len(node.input) > 2 else ""
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        if name not in self.constants and name not in self.real:
            self.nodes.append(node)
            return
        source = self._operand(node, name, scale, zero, axis)
        self._node("Identity", [source], node.output[0], "")
        if source in self.natives:
            # Folding leaves one of the two names.
            self.natives[node.output[0]] = self.natives[source]

    def _conv(self, node: Any) -> None:
        x, xs, xz, w, ws, wz, ys, yz, *bias = node.input
        operands = [self._operand(node, x, xs, xz), self._dequantised(node, w, ws, wz, 0)]
        if bias and bias[0]:
            step = self._value(node, xs, "the scale") * self._value(node, ws, "the scale")
            values = self._value(node, bias[0], "the bias") * step
            operands.append(self._constant(f"{bias[0]}{REAL}", values.astype(np.float32)))
        self._add(node, operands, [f"{node.output[0]}.sum"], "Conv")
        self._result(node, f"{node.output[0]}.sum", ys, yz)

    def _matmul(self, node: Any) -> None:
        a, a_s, az, b, bs, bz, ys, yz = node.input
        operands = [self._operand(node, a, a_s, az), self._operand(node, b, bs, bz, 1)]
        self._add(node, operands, [f"{node.output[0]}.sum"], "MatMul")
        self._result(node, f"{node.output[0]}.sum", ys, yz)

    def _gemm(self, node: Any) -> None:
        a, a_s, az, b, bs, bz, *rest = node.input
        bias, ys, yz = (*rest, "", "", "")[:3]
        across = any(item.name == "transB" and item.i for item in node.attribute)
        operands = [self._operand(node, a, a_s, az), self._operand(node, b, bs, bz, 0 if across else 1)]
        if bias:
            step = self._value(node, a_s, "the scale") * self._value(node, bs, "the scale")
            values = self._value(node, bias, "the bias") * step
            operands.append(self._constant(f"{bias}{REAL}", values.astype(np.float32)))
        made = f"{node.output[0]}.sum" if ys else node.output[0]
        self._add(node, operands, [made], "Gemm")
        if ys:
            self._result(node, made, ys, yz)

    def _lstm(self, node: Any) -> None:
        """An LSTM with weights in 8 bits, (directions, inputs, gates), in real numbers."""
        inputs = [*node.input, *[""] * 12]
        operands = [*inputs[:8]]
        for index, scale, zero in ((1, *inputs[8:10]), (2, *inputs[10:12])):
            values = self._value(node, operands[index], "the weights").astype(np.float32)
            step = self._value(node, scale, "the scale").reshape(len(values), 1, -1)
            offset = self._value(node, zero, "the zero point").astype(np.float32).reshape(step.shape)
            real = ((values - offset) * step).transpose(0, 2, 1)
            operands[index] = self._constant(f"{operands[index]}{REAL}", np.ascontiguousarray(real))
        while not operands[-1]:
            operands.pop()
        self._add(node, operands, node.output, "LSTM")

    def _integer(self, kind: str) -> Callable[[Any], None]:
        """Integer products: the operands less their zero points, as real numbers of scale 1."""

        def rewrite(node: Any) -> None:
            a, b, az, bz = (*node.input, "", "", "")[:4]
            operands = []
            for name, zero in ((a, az), (b, bz)):
                if name in self.constants:
                    operands.append(self._whole(node, name, zero, kind))
                    continue
                made = f"{node.output[0]}.{len(operands)}"
                self._node("Cast", [name], made, "", to=1)
                if zero:
                    self._node("Cast", [zero], f"{made}.zero", "", to=1)
                    self._node("Sub", [made, f"{made}.zero"], f"{made}.difference", "")
                    made = f"{made}.difference"
                operands.append(made)
            self._add(node, operands, node.output, kind)
            self.sums.update(node.output)

        return rewrite

    def _of_sums(self, node: Any) -> None:
        """An operator that reads sums of integers, which are real numbers here."""
        kind = node.op_type
        if kind == "Cast":
            to = next(item.i for item in node.attribute if item.name == "to")
            if to in FLOATS:
                self._node("Identity", [node.input[0]], node.output[0], node.name)
            else:
                self.nodes.append(node)
            return
        if kind == "DequantizeLinear" and self._value(node, node.input[1], "the scale").size == 1:
            self._node("Mul", node.input[:2], node.output[0], node.name)
            return
        if kind not in MOVING and kind not in ("Add", "Max", "Min", "Mul", "Neg", "Relu", "Sub"):
            raise InputError(
                "an operator on sums of an integer product that is not modelled: Cast them to float before",
                file=self.path,
                field=f"node {node.name or node.output[0]!r}",
                found=kind,
            )
        operands = list(node.input)
        # Further operands of what moves values are shapes and indices.
        for index, name in enumerate(operands):
            if name not in self.sums and (kind not in MOVING or kind == "Concat"):
                operands[index] = self._as_real(node, name)
        self._add(node, operands, node.output)
        self.sums.update(node.output)

    def _as_real(self, node: Any, name: str) -> str:
        """A whole number beside such sums, a bias for one, as a real one."""
        made = f"{name}.as_real"
        if name in self.constants:
            return self._constant(made, self._value(node, name, "an operand").astype(np.float32))
        return self._node("Cast", [name], f"{made}.{len(self.nodes)}", "", to=1)

    def _whole(self, node: Any, name: str, zero: str, kind: str) -> str:
        made = f"{name}{REAL}"
        if made not in self.constants:
            values = self._value(node, name, "an operand").astype(np.float32)
            offset = self._value(node, zero, "the zero point").astype(np.float32) if zero else np.float32(0)
            if np.ndim(offset) and kind == "Conv":
                offset = offset.reshape(-1, *[1] * (values.ndim - 1))
            self.natives[made] = Native((1.0,))
            self._constant(made, (values - offset).astype(np.float32))
        return made

    def _of_two(self, kind: str) -> Callable[[Any], None]:
        def rewrite(node: Any) -> None:
            a, a_s, az, b, bs, bz, ys, yz = (*node.input, "")[:8]
            operands = [self._operand(node, a, a_s, az), self._operand(node, b, bs, bz)]
            self._add(node, operands, [f"{node.output[0]}.sum"], kind)
            self._result(node, f"{node.output[0]}.sum", ys, yz)

        return rewrite

    def _of_one(self, kind: str) -> Callable[[Any], None]:
        def rewrite(node: Any) -> None:
            x, xs, xz, ys, yz = (*node.input, "")[:5]
            if any(item.name == "channels_last" and item.i for item in node.attribute):
                raise InputError(
                    "channels last is not supported for this operator: export with channels first",
                    file=self.path,
                    field=f"node {node.name or node.output[0]!r}",
                    found=node.op_type,
                )
            self._add(node, [self._operand(node, x, xs, xz)], [f"{node.output[0]}.real_result"], kind)
            kept = [item for item in self.nodes[-1].attribute if item.name not in ("channels_last", "opset")]
            del self.nodes[-1].attribute[:]
            self.nodes[-1].attribute.extend(kept)
            self._result(node, f"{node.output[0]}.real_result", ys, yz)

        return rewrite

    def _concat(self, node: Any) -> None:
        ys, yz, *rest = node.input
        parts = [rest[i : i + 3] for i in range(0, len(rest), 3)]
        operands = [self._operand(node, *part) for part in parts]
        self._add(node, operands, [f"{node.output[0]}.sum"], "Concat")
        self._result(node, f"{node.output[0]}.sum", ys, yz)
