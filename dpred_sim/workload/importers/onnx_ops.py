"""ONNX operators by what an accelerator does with them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, NoReturn

from dpred_sim.errors import InputError

LAYERS = frozenset({"Conv", "ConvTranspose", "GRU", "Gemm", "LSTM", "MatMul", "RNN"})
"""Operators with inner products."""

POOLS = frozenset({"AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool", "ReduceMean"})

# fmt: off
VIEWS = frozenset({
    "DepthToSpace", "Dropout", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "SpaceToDepth",
    "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
})
"""Operators that move, repeat or choose values and change none."""

POINTWISE = frozenset({
    "Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh", "BatchNormalization",
    "BitShift", "Cast", "CastLike", "Ceil", "Celu", "Clip", "Cos", "Cosh", "DequantizeLinear", "Div",
    "Elu", "Equal", "Erf", "Exp", "Floor", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish",
    "IsInf", "IsNaN", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mish", "Mod", "Mul",
    "Neg", "Not", "Or", "PRelu", "Pow", "QuantizeLinear", "Reciprocal", "Relu", "Round", "Selu", "Shrink",
    "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Swish", "Tan", "Tanh",
    "ThresholdedRelu", "Where", "Xor",
})
"""Operators that work on one value at a time; further operands are constants or made of the same tensor."""

REDUCTIONS = frozenset({
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
    "ReduceProd", "ReduceSum", "ReduceSumSquare",
})
NORMALISATIONS = frozenset({
    "LayerNormalization", "LogSoftmax", "LpNormalization", "RMSNormalization",
    "SimplifiedLayerNormalization", "Softmax",
})
"""Operators over whole rows: over the last axis they are post-processing of the rows of a layer."""

MOVES = frozenset({
    "ArgMax", "ArgMin", "Compress", "Concat", "CumSum", "GatherElements", "GatherND", "GlobalLpPool",
    "GridSample", "GroupNormalization", "Hardmax", "InstanceNormalization", "LRN", "LpPool", "MaxRoiPool",
    "MaxUnpool", "MeanVarianceNormalization", "NonMaxSuppression", "NonZero", "OneHot", "Pad", "Resize",
    "ReverseSequence", "RoiAlign", "ScatterElements", "ScatterND", "TopK", "Trilu", "Upsample",
})
"""Operators without inner products that become a memory layer: operands are read and results written."""

CONTROL = frozenset({
    "Constant", "ConstantOfShape", "EyeLike", "Range", "Shape", "Size",
})
# fmt: on
"""Operators that only shapes and constants decide."""

CLASSIFIERS = frozenset({"ArgMax", "Hardmax", "LogSoftmax", "Softmax", "TopK"})
"""Operators passed over at the end of a network: a class is chosen the same without them."""

DYNAMIC = "DynamicQuantizeLinear"

SEQUENCES = frozenset({
    "ConcatFromSequence", "SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase",
    "SequenceInsert", "SequenceLength", "SplitToSequence",
})  # fmt: skip
"""Operators on lists of tensors, resolved before anything else."""

SUPPORTED = LAYERS | POOLS | VIEWS | POINTWISE | REDUCTIONS | NORMALISATIONS | MOVES | CONTROL | {DYNAMIC}

QUANTISED = frozenset({
    "ConvInteger", "DequantizeLinear", "DynamicQuantizeLSTM", "MatMulInteger", "QGemm", "QLinearAdd",
    "QLinearAveragePool", "QLinearConcat", "QLinearConv", "QLinearGlobalAveragePool", "QLinearLeakyRelu",
    "QLinearMatMul", "QLinearMul", "QLinearSigmoid", "QLinearSoftmax", "QuantizeLinear",
})  # fmt: skip
"""Operators on integers that stand for real numbers: rewritten in real numbers."""

EXPANDED = frozenset({"AffineGrid", "Attention", "CenterCropPad", "RotaryEmbedding"})
"""Operators that ONNX itself defines by others, which take their place."""

READ = SUPPORTED | QUANTISED | {"Einsum"}
"""Operators that a flat graph may have when it is read."""

STANDARD = ("", "ai.onnx", "com.microsoft")
"""Domains whose operators are known by their name."""

ADVICE = {
    "STFT": "export the transform as a convolution with the Fourier basis",
    "DFT": "export the transform as a convolution or product with the Fourier basis",
    "DeformConv": "it gathers at computed places; leave the model's other layers as separate models",
    "SequenceMap": "export the model with a Loop, or without lists of tensors",
}
"""What to do about operators that cannot be carried."""


def is_known(node: Any, names: Collection[str]) -> bool:
    """Whether a node's operator is one of `names`, of a domain whose operators are known."""
    return node.domain in STANDARD and node.op_type in names


def operator(node: Any) -> str:
    """The operator of a node, with its domain where that is not the standard one."""
    domain = f"{node.domain}." if node.domain not in ("", "ai.onnx") else ""
    return f"{domain}{node.op_type}"


def unsupported(path: Path, node: Any) -> NoReturn:
    """Raise InputError for an operator that is not known, with what to do about it."""
    raise InputError(
        f"unsupported operator: {_advice(node.op_type, node.domain)}",
        file=path,
        field=f"node {node.name or node.output[0]!r}",
        found=operator(node),
        allowed="the operators in docs/importer.md",
    )


def _advice(kind: str, domain: str) -> str:
    """What a user can do about an operator that is not supported."""
    if domain == "ai.onnx.ml":
        return (
            "trees, scalers and their kind have no products that a design computes; export the neural "
            "network alone"
        )
    if kind.startswith("QLinear"):
        return "quantise the model in the format QDQ (QuantFormat.QDQ), whose operators are ONNX's own"
    if domain not in ("", "ai.onnx"):
        return (
            "an operator of its own domain, not of the ONNX standard; export without graph optimisations "
            "(for onnxruntime: at most ORT_ENABLE_BASIC)"
        )
    return ADVICE.get(kind, "replace it by supported operators and export the model again")


def values_of(node: Any) -> list[str]:
    """Operands of a node that are values for it: not shapes, indices, masks or parameters."""
    kind, inputs = node.op_type, list(node.input)
    if kind in ("LSTM", "GRU", "RNN"):
        return [inputs[0], *inputs[5:7]]
    if kind in LAYERS:
        return inputs[:2]
    if kind == "Concat":
        return inputs
    if kind.startswith("Scatter"):
        return [inputs[0], inputs[2]]
    return inputs[:1] if kind in MOVES | POOLS | REDUCTIONS | NORMALISATIONS | VIEWS else []
