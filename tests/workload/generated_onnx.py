"""Random ONNX graphs that keep their own count of multiply-accumulates while they are built."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.workload.onnx_models import ModelBuilder

IMAGE = (
    "conv",
    "depthwise",
    "padded_conv",
    "transposed",
    "relu",
    "clip",
    "norm",
    "pool",
    "residual",
    "split",
    "resize",
)
ROWS = (
    "linear",
    "vector",
    "computed",
    "gemm",
    "attention",
    "einsum",
    "loop",
    "scan",
    "branch",
    "lstm",
    "gru",
    "softmax",
)
FIRST_OPSET = {"einsum": 12, "scan": 9}


class Generated:
    """A graph that grows: `macs` counts the products of every operator as it is added.

    `name` is the last tensor, of `shape`: an image (1, C, H, W) or rows (T, F).
    """

    def __init__(self, draw: Callable[[Any], Any], opset: int, dynamic: bool) -> None:
        self.draw, self.opset, self.dynamic = draw, opset, dynamic
        self.macs = 0
        self.count = 0
        self.ids = False
        self.shape: tuple[int, ...] = (
            1,
            draw(st.integers(1, 4)),
            draw(st.integers(6, 9)),
            draw(st.integers(6, 9)),
        )
        self.input_shape = self.shape
        axes = ["n", self.shape[1], "h", "w"] if dynamic else list(self.shape)
        self.m = ModelBuilder(axes, seed=draw(st.integers(0, 999)))
        self.name = "x"

    def new(self) -> str:
        self.count += 1
        return f"t{self.count}"

    def op(
        self, kind: str, inputs: list[str], shape: tuple[int, ...] | None = None, **attributes: Any
    ) -> str:
        made = self.m.node(kind, inputs, self.new(), **attributes)
        if shape is not None:
            self.name, self.shape = made, shape
        return made

    def numbers(self, *values: int) -> str:
        return self.m.constant(self.new(), values, np.int64)

    def weights(self, *shape: int) -> str:
        return self.m.random(self.new(), *shape)

    def axes(self, kind: str, source: str, axes: list[int], **attributes: Any) -> str:
        """An operator whose axes became an input: at opset 13, or 18 for those but ReduceSum and its kind."""
        since = 13 if kind in ("Unsqueeze", "Squeeze", "ReduceSum") else 18
        if self.opset < since:
            return self.op(kind, [source], axes=axes, **attributes)
        return self.op(kind, [source, self.numbers(*axes)], **attributes)

    # On images

    def conv(self, groups: int = 1, padded: bool = False) -> None:
        _, channels, height, width = self.shape
        kernel, stride = self.draw(st.sampled_from([1, 2, 3])), self.draw(st.sampled_from([1, 1, 2]))
        around = self.draw(st.integers(0, 2))
        filters = channels if groups > 1 else self.draw(st.integers(1, 5))
        size = [(n + 2 * around - kernel) // stride + 1 for n in (height, width)]
        source, pads = self.name, [around] * 4
        if padded:
            every = [0, 0, around, around] * 2
            if self.opset < 11:
                source = self.op("Pad", [source], pads=every)
            else:
                source = self.op("Pad", [source, self.numbers(*every)])
            pads = [0] * 4
        w = self.weights(filters, channels // groups, kernel, kernel)
        self.op(
            "Conv", [source, w], (1, filters, *size), pads=pads, strides=[stride] * 2, group=groups,
            kernel_shape=[kernel] * 2,
        )  # fmt: skip
        self.macs += filters * size[0] * size[1] * kernel**2 * (channels // groups)

    def depthwise(self) -> None:
        self.conv(groups=self.shape[1])

    def padded_conv(self) -> None:
        self.conv(padded=True)

    def transposed(self) -> None:
        _, channels, height, width = self.shape
        if height * width > 200:
            return
        self.op(
            "ConvTranspose",
            [self.name, self.weights(channels, 3, 2, 2)],
            (1, 3, 2 * height, 2 * width),
            strides=[2, 2],
        )
        self.macs += channels * height * width * 3 * 4

    def relu(self) -> None:
        self.op(
            self.draw(st.sampled_from(["Relu", "Sigmoid", "Tanh", "Elu", "LeakyRelu"])),
            [self.name],
            self.shape,
        )

    def clip(self) -> None:
        if self.opset < 11:
            self.op("Clip", [self.name], self.shape, min=0.0, max=6.0)
        else:
            ends = [self.m.constant(self.new(), value) for value in (0.0, 6.0)]
            self.op("Clip", [self.name, *ends], self.shape)

    def norm(self) -> None:
        each = [self.m.constant(self.new(), self.m.rng.uniform(0.5, 1.5, self.shape[1])) for _ in range(4)]
        self.op("BatchNormalization", [self.name, *each], self.shape)

    def pool(self) -> None:
        _, channels, height, width = self.shape
        if min(height, width) < 3:
            return
        kind = self.draw(st.sampled_from(["MaxPool", "AveragePool"]))
        size = (1, channels, (height - 2) // 2 + 1, (width - 2) // 2 + 1)
        self.op(kind, [self.name], size, kernel_shape=[2, 2], strides=[2, 2])

    def residual(self) -> None:
        before, shape = self.name, self.shape
        w = self.weights(shape[1], shape[1], 1, 1)
        made = self.op("Conv", [before, w], kernel_shape=[1, 1])
        self.macs += shape[1] ** 2 * shape[2] * shape[3]
        self.op("Add", [made, before], shape)

    def split(self) -> None:
        """Two branches of convolutions, put together."""
        source, (_, channels, height, width) = self.name, self.shape
        parts = []
        for filters in (2, 3):
            parts.append(
                self.op("Conv", [source, self.weights(filters, channels, 1, 1)], kernel_shape=[1, 1])
            )
            self.macs += filters * channels * height * width
        self.op("Concat", parts, (1, 5, height, width), axis=1)

    def resize(self) -> None:
        _, channels, height, width = self.shape
        if height * width > 200:
            return
        scales = self.m.constant(self.new(), [1, 1, 2, 2])
        kind, inputs = (
            ("Upsample", [self.name, scales]) if self.opset < 10 else ("Resize", [self.name, scales])
        )
        if self.opset > 10:
            inputs.insert(1, self.m.constant(self.new(), []) if self.opset < 13 else "")
        self.op(kind, inputs, (1, channels, 2 * height, 2 * width), mode="nearest")

    # From an image to rows

    def flatten(self) -> None:
        _, channels, height, width = self.shape
        way = self.draw(st.sampled_from(["mean", "flat", "rows"]))
        if way == "mean":
            self.op("Flatten", [self.op("GlobalAveragePool", [self.name])], (1, channels))
        elif way == "flat":
            self.op("Flatten", [self.name], (1, channels * height * width))
        else:
            # As exporters write it where sizes are open: the shape, a part of it, another shape.
            place = self.op("Shape", [self.name])
            kept = self.op("Gather", [place, self.numbers(1)], axis=0)
            form = self.op("Concat", [kept, self.numbers(-1)], axis=0)
            image = self.op("Reshape", [self.op("Squeeze", [self.name], axes=[0]) if self.opset < 13 else
                                        self.op("Squeeze", [self.name, self.numbers(0)]), form])  # fmt: skip
            self.op("Transpose", [image], (height * width, channels), perm=[1, 0])

    # On rows

    def linear(self) -> None:
        rows, inputs = self.shape
        filters = self.draw(st.integers(1, 6))
        made = self.op("MatMul", [self.name, self.weights(inputs, filters)], (rows, filters))
        self.macs += rows * inputs * filters
        if self.draw(st.booleans()):
            self.op("Add", [made, self.weights(filters)], (rows, filters))

    def vector(self) -> None:
        rows, inputs = self.shape
        made = self.op("MatMul", [self.name, self.weights(inputs)])
        self.macs += rows * inputs
        self.op("Reshape", [made, self.numbers(rows, 1)], (rows, 1))

    def computed(self) -> None:
        """Weights that are computed of constants."""
        rows, inputs = self.shape
        turned = self.op("Transpose", [self.weights(3, inputs)], perm=[1, 0])
        product = self.op("MatMul", [self.weights(inputs, 2), self.weights(2, 3)])
        self.op("MatMul", [self.name, self.op("Add", [turned, product])], (rows, 3))
        self.macs += rows * inputs * 3

    def gemm(self) -> None:
        rows, inputs = self.shape
        alpha = self.draw(st.sampled_from([1.0, 0.5]))
        w, b = self.weights(4, inputs), self.weights(4)
        self.op("Gemm", [self.name, w, b], (rows, 4), transB=1, alpha=alpha)
        self.macs += rows * inputs * 4

    def attention(self) -> None:
        rows, inputs = self.shape
        if rows * rows > 2000:
            return
        q, k, v = (self.op("MatMul", [self.name, self.weights(inputs, 4)]) for _ in range(3))
        scores = self.op("MatMul", [q, self.op("Transpose", [k], perm=[1, 0])])
        self.op("MatMul", [self.op("Softmax", [scores], axis=-1 if self.opset > 12 else 1), v], (rows, 4))
        self.macs += 3 * rows * inputs * 4 + 2 * rows * rows * 4

    def einsum(self) -> None:
        rows, inputs = self.shape
        self.op("Einsum", [self.name, self.weights(3, inputs)], (rows, 3), equation="ij,kj->ik")
        self.macs += rows * inputs * 3

    def body(self, kind: str, columns: int) -> Any:
        """The graph of a Loop or Scan, or of a branch: one product, with weights from outside."""
        from onnx import TensorProto, helper

        info = helper.make_tensor_value_info
        own, w = self.new(), self.weights(columns, columns)
        if kind == "branch":
            nodes = [helper.make_node("MatMul", [self.name, w], [f"{own}.r"])]
            return helper.make_graph(nodes, own, [], [info(f"{own}.r", TensorProto.FLOAT, None)])
        made = [helper.make_node("MatMul", [f"{own}.s", w], [f"{own}.r"])]
        state = info(f"{own}.s", TensorProto.FLOAT, None), info(f"{own}.r", TensorProto.FLOAT, None)
        turn, going = info(f"{own}.i", TensorProto.INT64, []), info(f"{own}.c", TensorProto.BOOL, [])
        made.append(helper.make_node("Identity", [f"{own}.c"], [f"{own}.g"]))
        return helper.make_graph(
            made, own, [turn, going, state[0]], [info(f"{own}.g", TensorProto.BOOL, []), state[1]]
        )

    def loop(self) -> None:
        rows, inputs = self.shape
        if inputs > 64:
            return
        turns = self.draw(st.integers(1, 4))
        most, always = self.m.constant(self.new(), turns, np.int64), self.m.constant(self.new(), True, bool)
        self.op("Loop", [most, always, self.name], self.shape, body=self.body("loop", inputs))
        self.macs += turns * rows * inputs**2

    def scan(self) -> None:
        from onnx import TensorProto, helper

        rows, inputs = self.shape
        if inputs > 64 or rows > 20:
            return
        own, w = self.new(), self.weights(inputs, 3)
        info = helper.make_tensor_value_info
        nodes = [
            helper.make_node("MatMul", [f"{own}.x", w], [f"{own}.p"]),
            helper.make_node("Add", [f"{own}.p", f"{own}.s"], [f"{own}.n"]),
            helper.make_node("Identity", [f"{own}.n"], [f"{own}.y"]),
        ]
        ends = [info(f"{own}.{part}", TensorProto.FLOAT, [n]) for part, n in (("s", 3), ("x", inputs))]
        outs = [info(f"{own}.{part}", TensorProto.FLOAT, [3]) for part in ("n", "y")]
        body = helper.make_graph(nodes, own, ends, outs)
        zero = self.m.constant(self.new(), np.zeros(3))
        last, every = self.new(), self.new()
        made = helper.make_node(
            "Scan", [zero, self.name], [last, every], name=own, body=body, num_scan_inputs=1
        )
        self.m.nodes.append(made)
        self.name, self.shape = every, (rows, 3)
        self.macs += rows * inputs * 3

    def branch(self) -> None:
        rows, inputs = self.shape
        if inputs > 64:
            return
        size = self.op("Gather", [self.op("Shape", [self.name]), self.m.constant(self.new(), 0, np.int64)])
        wide = self.op("Less", [size, self.m.constant(self.new(), 5, np.int64)])
        branches = {f"{which}_branch": self.body("branch", inputs) for which in ("then", "else")}
        self.op("If", [wide], self.shape, **branches)
        self.macs += rows * inputs**2

    def recurrence(self, kind: str, gates: int) -> None:
        rows, inputs = self.shape
        if rows > 20 or inputs > 64:
            return
        x = self.axes("Unsqueeze", self.name, [1])
        w, r = self.weights(1, gates * 3, inputs), self.weights(1, gates * 3, 3)
        y = self.op(kind, [x, w, r], hidden_size=3)
        self.op("Reshape", [y, self.numbers(rows, 3)], (rows, 3))
        self.macs += rows * gates * 3 * (inputs + 3)

    def lstm(self) -> None:
        self.recurrence("LSTM", 4)

    def gru(self) -> None:
        self.recurrence("GRU", 3)

    def softmax(self) -> None:
        kind = self.draw(st.sampled_from(["Softmax", "ReduceMean"]))
        if kind == "Softmax":
            self.op("Softmax", [self.name], self.shape, axis=1)
        else:
            less = self.axes("ReduceMean", self.name, [1], keepdims=1)
            self.op("Sub", [self.name, less], self.shape)

    def features(self) -> None:
        """Whole numbers that are fed, multiplied: as features, compared, or as rows of a table of ones."""
        self.ids = True
        way = self.draw(st.sampled_from(["cast", "equal", "one_hot"]))
        if way == "one_hot":
            values = self.m.constant(self.new(), [0, 1])
            rows = self.op("OneHot", ["ids", self.numbers(6), values], axis=-1)
            rows = self.op("Reshape", [rows, self.numbers(1, 24)])
        else:
            source = "ids"
            if way == "equal":
                source = self.op("Equal", ["ids", self.m.constant(self.new(), 1, np.int64)])
            rows = self.op("Cast", [source], to=1)
        width = 24 if way == "one_hot" else 4
        made = self.op("MatMul", [rows, self.weights(width, self.shape[1])])
        self.macs += width * self.shape[1]
        self.op("Add", [self.name, made], self.shape)

    def save(self, path: Path) -> dict[str, Any]:
        """Write the model; returns what it is fed with."""
        import onnx

        last = self.m.node("MatMul", [self.name, self.weights(self.shape[1], 2)], "out")
        self.macs += self.shape[0] * self.shape[1] * 2
        self.m.save(path, [last], opset=self.opset)
        proto = onnx.load(str(path))
        proto.ir_version = 8 if self.opset < 20 else 10 if self.opset < 25 else 12
        feed = {"x": self.m.rng.normal(size=self.input_shape).astype(np.float32)}
        if self.ids:
            shape = ["n", 4] if self.dynamic else [1, 4]
            proto.graph.input.append(onnx.helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, shape))
            feed["ids"] = np.array([[3, 1, 4, 1]])
        onnx.save(proto, str(path))
        return feed


@st.composite
def graphs(draw: Callable[[Any], Any]) -> Generated:
    """Graphs of operators on an image, then on rows, at opsets 9 to 25."""
    made = Generated(draw, draw(st.integers(9, 25)), draw(st.booleans()))
    for kind in draw(st.lists(st.sampled_from(IMAGE), min_size=1, max_size=5)):
        getattr(made, kind)()
    made.flatten()
    if draw(st.booleans()):
        made.features()
    for kind in draw(st.lists(st.sampled_from(ROWS), min_size=2, max_size=5)):
        if made.opset >= FIRST_OPSET.get(kind, 9):
            getattr(made, kind)()
    return made
