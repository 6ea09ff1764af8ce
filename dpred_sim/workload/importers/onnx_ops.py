"""ONNX operators by what an accelerator does with them."""

from __future__ import annotations

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

SUPPORTED = sorted(
    LAYERS | POOLS | VIEWS | POINTWISE | REDUCTIONS | NORMALISATIONS | MOVES | CONTROL | {DYNAMIC}
)

ADVICE = {
    "If": "control flow that inputs decide; export the branch that is used as a model of its own",
    "Loop": "control flow; export the model with the loop unrolled, or its body as a model of its own",
    "Scan": "control flow; export the model with the loop unrolled, or as LSTM, GRU or RNN",
    "STFT": "export the transform as a convolution with the Fourier basis",
    "Einsum": "export it as Transpose, Reshape and MatMul",
    "Attention": "export attention as MatMul and Softmax (an opset below 23)",
    "RotaryEmbedding": "export it as Mul, Slice and Concat (an opset below 23)",
    "DeformConv": "it gathers at computed places; leave the model's other layers as separate models",
}
"""What to do about operators that cannot be carried."""


def advice(operator: str, domain: str) -> str:
    """What a user can do about an operator that is not supported."""
    if domain not in ("", "ai.onnx"):
        return (
            "an operator of its own domain, not of the ONNX standard; export without graph optimisations "
            "(for onnxruntime: at most ORT_ENABLE_BASIC)"
        )
    return ADVICE.get(operator, "replace it by supported operators and export the model again")
