"""The folded graph of an ONNX model: operators, tensors, shapes, and what is data and what is not.

Three kinds of tensors: constants; *control*, shapes, indices and masks that whole numbers which are fed
(token ids) decide and no accelerator stores; and data, everything else. What is made of fed whole numbers
and then multiplied or moved as a value is data that is in memory at the start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from dpred_sim.errors import InputError
from dpred_sim.workload.importers.onnx_model import Model
from dpred_sim.workload.importers.onnx_ops import (
    CLASSIFIERS,
    CONTROL,
    DYNAMIC,
    LAYERS,
    SUPPORTED,
    VIEWS,
    is_known,
    operator,
    unsupported,
    values_of,
)
from dpred_sim.workload.importers.onnx_recurrent import expand_recurrent
from dpred_sim.workload.importers.onnx_runtime import Feeds, Runner, import_onnx


class Graph:
    """Look-ups on the folded graph of a model; shapes are those of a run on `feed`.

    Raises InputError for an operator that is not supported.
    """

    def __init__(self, model: Model, proto: Any, feed: Feeds) -> None:
        onnx, _ = import_onnx()
        self.path: Path = model.path
        self._origins = expand_recurrent(self.path, proto)
        self.nodes = list(proto.graph.node)
        self.outputs = [value.name for value in proto.graph.output]
        self.initialisers = {tensor.name: tensor for tensor in proto.graph.initializer}
        self.opset = max((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), default=1)
        self._attribute_value: Callable[[Any], Any] = onnx.helper.get_attribute_value
        self._to_array: Callable[[Any], NDArray[Any]] = onnx.numpy_helper.to_array
        for node in self.nodes:
            if not is_known(node, SUPPORTED):
                unsupported(self.path, node)
        self.readers: dict[str, list[int]] = {}
        self.makers: dict[str, Any] = {}
        for i, node in enumerate(self.nodes):
            for name in dict.fromkeys(node.input):
                self.readers.setdefault(name, []).append(i)
            self.makers.update((name, node) for name in node.output if name)
        read = {value.name for value in proto.graph.input}
        fed = {spec.name: feed[spec.name] for spec in model.specs if spec.name in read}
        self.inputs = list(fed)
        self.control: set[str] = set()
        self.given: list[str] = []
        """Data that is in memory at the start: what the model is fed with, what is made of fed whole numbers
        without products, and rows that ids choose."""
        self._sort_out({spec.name: spec.is_whole and len(spec.shape) < 4 for spec in model.specs})
        made = [name for node in self.nodes for name in node.output if name]
        control = [name for name in made if name in self.control]
        runner = Runner(self.path, proto, control, made)
        self._shapes = {**runner.shapes(fed), **{name: value.shape for name, value in fed.items()}}
        self._known = {**fed, **dict(zip(control, runner.run(control, fed), strict=True))}
        empty = self._leave_out_empty(made)
        if empty:
            values = Runner(self.path, proto, empty).run(empty, fed)
            self._known.update(zip(empty, values, strict=True))
        self.constants = set(self.initialisers) | self.control | {""}

    def _sort_out(self, is_control: Mapping[str, bool]) -> None:
        """Tell control from data."""
        self.control = {name for name in self.inputs if is_control[name]}
        given = {name for name in self.inputs if name not in self.control and name in self.readers}
        for node in self.nodes:
            read = [name for name in node.input if name and name not in self.initialisers]
            made = [name for name in node.output if name]
            if node.op_type == DYNAMIC:
                # The scale and zero point of a tensor that is quantised as it comes.
                self.control.update(made[1:])
            elif self._looks_up(node):
                given.add(made[0])
            elif node.op_type in CONTROL or (
                node.op_type not in LAYERS and all(name in self.control for name in read)
            ):
                self.control.update(made)
            else:
                # What is multiplied or moved as a value is data, whatever it was made of.
                given.update(name for name in values_of(node) if name in self.control)
        self.control -= given
        made = [name for node in self.nodes for name in node.output]
        self.given = [name for name in (*self.inputs, *made) if name in given]

    def _leave_out_empty(self, made: Sequence[str]) -> list[str]:
        """Enter in control what has no values for this input, and what is made of such tensors alone."""
        before = set(self.control)
        self.control |= {name for name in (*self.inputs, *made) if 0 in self._shapes[name]}
        if self.control == before:
            return []
        for node in self.nodes:
            read = [name for name in node.input if name and name not in self.initialisers]
            if read and all(name in self.control for name in read) and node.op_type not in LAYERS:
                self.control.update(name for name in node.output if name and name not in self.given)
        self.given = [name for name in self.given if name not in self.control]
        return [name for name in made if name in self.control and name not in before]

    def _looks_up(self, node: Any) -> bool:
        """Whether the node takes rows of a constant table that fed ids choose: an embedding."""
        if node.op_type != "Gather" or node.input[0] not in self.initialisers:
            return False
        table = self.initialisers[node.input[0]]
        if len(table.dims) != 2 or table.data_type != 1 or node.input[1] not in self.control:
            return False
        # A table with infinities in it is a mask.
        return bool(np.isfinite(self._to_array(table)).all())

    def origin(self, node: Any) -> str:
        """The name of the node of the file that a node was made of."""
        name = _name(node).removesuffix("/MatMulAddFusion")
        return self._origins.get(name, name)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor."""
        if name in self.initialisers:
            return tuple(self.initialisers[name].dims)
        return tuple(self._shapes[name])

    def constant(self, name: str) -> NDArray[Any] | None:
        """Values of a constant; None for a tensor that is not constant."""
        tensor = self.initialisers.get(name)
        return None if tensor is None else self._to_array(tensor)

    def known(self, name: str) -> NDArray[Any] | None:
        """Values of a constant or of control on the first input; None for data."""
        return self._known[name] if name in self.control else self.constant(name)

    def variables(self, node: Any) -> list[str]:
        """The operands of a node that are data, each once."""
        return list(dict.fromkeys(name for name in node.input if name not in self.constants))

    def attributes(self, node: Any) -> dict[str, Any]:
        """The attributes of a node by name; strings are decoded."""
        found = {a.name: self._attribute_value(a) for a in node.attribute}
        return {key: v.decode() if isinstance(v, bytes) else v for key, v in found.items()}

    def axes(self, node: Any) -> Sequence[int] | None:
        """The axes of a reduction; None for all."""
        axes: Any = self.attributes(node).get("axes")
        if axes is None and len(node.input) > 1 and node.input[1]:
            axes = self.known(node.input[1])
        return None if axes is None else [int(axis) for axis in axes]

    def is_over_rows(self, node: Any) -> bool:
        """Whether a reduction or normalisation works along the last axis alone."""
        count = len(self.shape(node.input[0]))
        attributes = self.attributes(node)
        if node.op_type.startswith("Reduce"):
            axes = self.axes(node)
            if not attributes.get("keepdims", 1) or axes is None:
                return False
            return [axis % count for axis in axes] == [count - 1]
        newer = self.opset >= 13 or "Softmax" not in node.op_type
        axis = attributes.get("axis", -1 if newer else 1)
        # Before opset 13 a softmax took all axes from this one on together.
        return int(axis) % count == count - 1

    def is_final(self, node: Any) -> bool:
        """Whether the node only chooses a class: nothing but views and outputs of the network follow."""
        if node.op_type not in CLASSIFIERS:
            return False
        pending = [name for name in node.output if name]
        while pending:
            for index in self.readers.get(pending.pop(), []):
                reader = self.nodes[index]
                if reader.op_type not in VIEWS and reader.op_type != "Cast":
                    return False
                pending.extend(reader.output)
        return True

    def refuse(self, node: Any, reason: str) -> NoReturn:
        """Raise InputError that names file, node and operator."""
        raise InputError(reason, file=self.path, field=f"node {_name(node)!r}", found=operator(node))


def _name(node: Any) -> str:
    return str(node.name or node.output[0])
