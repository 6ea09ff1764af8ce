"""The folded graph of an ONNX model: operators, tensors, shapes, and what is data and what is not.

Three kinds of tensors: constants; *control*, which shapes, constants and whole numbers that are fed
(token ids, masks) decide and no accelerator stores; and data, everything else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from numpy.typing import NDArray

from dpred_sim.errors import InputError
from dpred_sim.workload.importers.onnx_model import Feeds, Model, Runner, import_onnx
from dpred_sim.workload.importers.onnx_ops import (
    CLASSIFIERS,
    CONTROL,
    DYNAMIC,
    SUPPORTED,
    VIEWS,
    advice,
)
from dpred_sim.workload.importers.onnx_recurrent import expand_recurrent

STANDARD = ("", "ai.onnx", "com.microsoft")
"""Domains whose operators are known by their name."""


class Graph:
    """Look-ups on the folded graph of a model; shapes are those of a run on `feed`.

    Raises InputError for an operator that is not supported.
    """

    def __init__(self, model: Model, proto: Any, feed: Feeds) -> None:
        onnx, _ = import_onnx()
        self.path: Path = model.path
        expand_recurrent(self.path, proto)
        self.nodes = list(proto.graph.node)
        self.outputs = [value.name for value in proto.graph.output]
        self.initialisers = {tensor.name: tensor for tensor in proto.graph.initializer}
        self.opset = max((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), default=1)
        self._attribute_value: Callable[[Any], Any] = onnx.helper.get_attribute_value
        self._to_array: Callable[[Any], NDArray[Any]] = onnx.numpy_helper.to_array
        for node in self.nodes:
            if node.domain not in STANDARD or node.op_type not in SUPPORTED:
                self.unsupported(node)
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
        """Data that is in memory at the start: what the model is fed with, and rows that ids choose."""
        self._sort_out({spec.name: spec.is_whole and len(spec.shape) < 4 for spec in model.specs})
        made = [name for node in self.nodes for name in node.output if name]
        control = [name for name in made if name in self.control]
        runner = Runner(self.path, proto, control, made)
        self._shapes = {**runner.shapes(fed), **{name: value.shape for name, value in fed.items()}}
        self._known = {**fed, **dict(zip(control, runner.run(control, fed), strict=True))}
        self.constants = set(self.initialisers) | self.control | {""}

    def _sort_out(self, is_control: Mapping[str, bool]) -> None:
        """Tell control from data."""
        self.control = {name for name in self.inputs if is_control[name]}
        self.given = [name for name in self.inputs if name not in self.control and name in self.readers]
        for node in self.nodes:
            read = [name for name in node.input if name and name not in self.initialisers]
            made = [name for name in node.output if name]
            if node.op_type == DYNAMIC:
                # The scale and zero point of a tensor that is quantised as it comes.
                self.control.update(made[1:])
            elif self._looks_up(node):
                self.given.append(made[0])
            elif node.op_type in CONTROL or all(name in self.control for name in read):
                self.control.update(made)

    def _looks_up(self, node: Any) -> bool:
        """Whether the node takes rows of a constant table that fed ids choose: an embedding."""
        if node.op_type != "Gather" or node.input[0] not in self.initialisers:
            return False
        table = self.initialisers[node.input[0]]
        return len(table.dims) == 2 and table.data_type == 1 and node.input[1] in self.control

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
        raise InputError(reason, file=self.path, field=f"node {_name(node)!r}", found=_operator(node))

    def unsupported(self, node: Any) -> NoReturn:
        """Raise InputError for an operator that is not known, with what to do about it."""
        raise InputError(
            f"unsupported operator: {advice(node.op_type, node.domain)}",
            file=self.path,
            field=f"node {_name(node)!r}",
            found=_operator(node),
            allowed="the operators in docs/importer.md",
        )


def _name(node: Any) -> str:
    return str(node.name or node.output[0])


def _operator(node: Any) -> str:
    domain = f"{node.domain}." if node.domain not in ("", "ai.onnx") else ""
    return f"{domain}{node.op_type}"
