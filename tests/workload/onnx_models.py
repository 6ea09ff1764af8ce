"""Small ONNX models, built when a test asks for one, and plain numpy layers to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.workload.capture import Arrays, capture, file_subject
from dpred_sim.workload.layer import Layer, Pool
from dpred_sim.workload.quantised import Values, integers, real_workload
from dpred_sim.workload.workload import Workload

Floats = NDArray[np.float32]


class ModelBuilder:
    """Collects nodes and constants; the last node's output is the network's unless `outputs` says else."""

    def __init__(self, shape: Sequence[int | str], seed: int = 0) -> None:
        self.shape = shape
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.constants: dict[str, NDArray[Any]] = {}

    def constant(self, name: str, values: Any, dtype: Any = np.float32) -> str:
        self.constants[name] = np.asarray(values, dtype=dtype)
        return name

    def random(self, name: str, *shape: int) -> str:
        return self.constant(name, self.rng.normal(0, 0.5, shape))

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=f"n_{output}", **attributes))
        return output

    def conv(
        self, source: str, output: str, filters: int, channels: int, kernel: int = 3, **rest: Any
    ) -> str:
        groups = rest.get("group", 1)
        weights = self.random(f"w_{output}", filters, channels // groups, kernel, kernel)
        bias = self.random(f"b_{output}", filters)
        return self.node("Conv", [source, weights, bias], output, **rest)

    def save(self, path: Path, outputs: Sequence[str] | None = None, opset: int = 17) -> Path:
        from onnx import TensorProto, helper, numpy_helper, save

        names = list(outputs or [self.nodes[-1].output[0]])
        graph = helper.make_graph(
            self.nodes,
            "small",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(self.shape))],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names],
            [numpy_helper.from_array(values, name) for name, values in self.constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        save(model, str(path))
        return path


def list_constants_as_inputs(path: Path) -> None:
    """As older exporters write models: every constant is an input with a default."""
    from onnx import helper, load, save

    model = load(str(path))
    model.graph.input.extend(
        helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        for tensor in model.graph.initializer
    )
    save(model, str(path))


def save_input(path: Path, shape: Sequence[int], seed: int = 1, scale: float = 1.0) -> Path:
    """Random numbers as the input of a model."""
    np.save(path, np.random.default_rng(seed).normal(0, scale, tuple(shape)).astype(np.float32))
    return path


def captured(model: Path, *inputs: Path) -> Arrays:
    return capture(file_subject(model, inputs))


def loaded(model: Path, *inputs: Path, bits: int = 16, rule: str = "full_range") -> tuple[Workload, Arrays]:
    """The workload of a model, and the record that its integers come from."""
    values = Values(file_subject(model, inputs), bits, rule, None, "test", {})
    return real_workload(values), integers(values)


def conv(layer: Layer, x: Floats, w: Floats) -> Floats:
    """A convolution as the layer describes it: x (H, W, C), w (K, Ky, Kx, C / groups), result (H', W', K)."""
    top, left, bottom, right = layer.padding
    x = np.pad(x, ((top, bottom), (left, right), (0, 0)))
    filters, ky, kx, channels = w.shape
    rows, columns, per_group = layer.conv_height, layer.conv_width, filters // layer.groups
    out = np.zeros((rows, columns, filters), np.float64)
    for group in range(layer.groups):
        part = x[:, :, group * channels : (group + 1) * channels].astype(np.float64)
        for y in range(ky):
            for z in range(kx):
                first, second = y * layer.dilation[0], z * layer.dilation[1]
                seen = part[
                    first : first + layer.stride[0] * (rows - 1) + 1 : layer.stride[0],
                    second : second + layer.stride[1] * (columns - 1) + 1 : layer.stride[1],
                ]
                block = slice(group * per_group, (group + 1) * per_group)
                out[:, :, block] += seen @ w[block, y, z].T.astype(np.float64)
    return out.astype(np.float32)


def pooled(pool: Pool, x: Floats, count_padding: bool = False) -> Floats:
    """Pooling of x (H, W, C); an average counts the padding or leaves it out."""
    top, left, bottom, right = pool.padding
    fill = -np.inf if pool.mode == "max" else np.nan
    x = np.pad(x, ((top, bottom), (left, right), (0, 0)), constant_values=fill)
    rows = (x.shape[0] - pool.size[0]) // pool.stride[0] + 1
    columns = (x.shape[1] - pool.size[1]) // pool.stride[1] + 1
    out = np.empty((rows, columns, x.shape[2]), np.float32)
    for row in range(rows):
        for column in range(columns):
            y, z = row * pool.stride[0], column * pool.stride[1]
            window = x[y : y + pool.size[0], z : z + pool.size[1]]
            if pool.mode == "max":
                out[row, column] = window.max((0, 1))
            elif count_padding:
                out[row, column] = np.nansum(window, (0, 1)) / (pool.size[0] * pool.size[1])
            else:
                out[row, column] = np.nanmean(window, (0, 1))
    return out
