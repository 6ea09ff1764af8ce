"""ONNX graphs, put together node by node from arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.workload.importers.onnx_runtime import import_onnx

OPSET = 17
IR_VERSION = 8


class GraphBuilder:
    """Collects nodes and constants. A tensor is called after the node that makes it."""

    def __init__(self, name: str, shape: Sequence[int | str], source: str = "input") -> None:
        """`shape` is that of the network's input `source`; a text in it names a free size."""
        self._onnx, _ = import_onnx()
        self.name = name
        self.source = source
        self.shape = list(shape)
        self.nodes: list[Any] = []
        self.constants: dict[str, NDArray[Any]] = {}

    def constant(self, name: str, values: Any, dtype: Any = np.float32) -> str:
        """A constant; returns its name."""
        self.constants[name] = np.asarray(values, dtype=dtype)
        return name

    def node(self, kind: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """A node; returns the name of its output, which is the node's."""
        self.nodes.append(self._onnx.helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def conv(
        self, x: str, name: str, weights: NDArray[Any], bias: NDArray[Any] | None = None, **attributes: Any
    ) -> str:
        """A convolution with `weights` (K, C / group, ...)."""
        inputs = [x, self.constant(f"{name}.weight", weights)]
        if bias is not None:
            inputs.append(self.constant(f"{name}.bias", bias))
        return self.node("Conv", inputs, name, **attributes)

    def linear(self, x: str, name: str, weights: NDArray[Any], bias: NDArray[Any] | None = None) -> str:
        """A product of rows with `weights` (K, C)."""
        inputs = [x, self.constant(f"{name}.weight", weights)]
        if bias is not None:
            inputs.append(self.constant(f"{name}.bias", bias))
        return self.node("Gemm", inputs, name, transB=1)

    def lstm(self, x: str, name: str, parts: Sequence[NDArray[Any]], last: str = "") -> str:
        """A forward LSTM with its weights, recurrent weights and biases; returns all hidden states.

        `last` names the last hidden state, where it is wanted.
        """
        made = [self.constant(f"{name}.{key}", part) for key, part in zip("WRB", parts, strict=True)]
        outputs = [f"{name}_states", last] if last else [f"{name}_states"]
        units = parts[1].shape[-1]
        self.nodes.append(
            self._onnx.helper.make_node("LSTM", [x, *made], outputs, name=name, hidden_size=units)
        )
        return outputs[0]

    def split(self, x: str, sizes: str, names: Sequence[str]) -> None:
        """Cut the channels of `x` into parts of the sizes in the constant `sizes`."""
        self.nodes.append(
            self._onnx.helper.make_node("Split", [x, sizes], list(names), name=names[0], axis=1)
        )

    def relu6(self, x: str, name: str) -> str:
        """Values clipped to 0 ... 6."""
        bounds = [self.constant(f"six.{value}", value) for value in (0.0, 6.0)]
        return self.node("Clip", [x, *bounds], name)

    def model(self, *outputs: str) -> Any:
        """The ONNX model with these outputs."""
        helper, numpy_helper = self._onnx.helper, self._onnx.numpy_helper
        element = self._onnx.TensorProto.FLOAT
        graph = helper.make_graph(
            self.nodes,
            self.name,
            [helper.make_tensor_value_info(self.source, element, self.shape)],
            [helper.make_tensor_value_info(name, element, None) for name in outputs],
            [numpy_helper.from_array(np.ascontiguousarray(v), name) for name, v in self.constants.items()],
        )
        opset = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION)
