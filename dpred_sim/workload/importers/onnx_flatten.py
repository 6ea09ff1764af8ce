"""One flat graph: functions are inlined, branches taken, loops unrolled, lists of tensors resolved.

The given input decides which branch of an If is taken and how many turns a Loop or Scan runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from dpred_sim.errors import InputError
from dpred_sim.workload.importers.onnx_ops import SEQUENCES
from dpred_sim.workload.importers.onnx_runtime import (
    Feeds,
    import_onnx,
    plain_session,
    run_session,
    without_constants,
)

MOST_NODES = 100_000
"""Loops that are unrolled to more operators are refused."""

FLOW = ("If", "Loop", "Scan")


def flatten(path: Path, proto: Any, feed: Feeds) -> None:
    """Make one flat graph of a model, in place.

    Raises InputError, with node and operator, for control flow that cannot be resolved.
    """
    onnx, _ = import_onnx()
    if proto.functions:
        inlined = onnx.inliner.inline_local_functions(without_constants(proto))
        replace_nodes(proto, inlined.graph.node)
        del proto.functions[:], proto.opset_import[:]
        proto.opset_import.extend(inlined.opset_import)
    if any(node.op_type in (*FLOW, *SEQUENCES) for node in proto.graph.node):
        flattening = _Flattening(path, proto, feed)
        flattening.run(list(proto.graph.node))
        replace_nodes(proto, flattening.nodes)


def replace_nodes(proto: Any, nodes: Sequence[Any]) -> None:
    """Put copies of `nodes`, which may be of the same graph, in the place of a model's nodes."""
    onnx, _ = import_onnx()
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del proto.graph.node[:]
    proto.graph.node.extend(copies)


def prune(proto: Any) -> None:
    """Drop the nodes of a flat graph that no output needs, in place."""
    needed = {value.name for value in proto.graph.output}
    kept = []
    for node in reversed(proto.graph.node):
        if needed & set(node.output):
            needed.update(node.input)
            kept.append(node)
    if len(kept) < len(proto.graph.node):
        replace_nodes(proto, kept[::-1])


class _Flattening:
    def __init__(self, path: Path, proto: Any, feed: Feeds) -> None:
        self.onnx, _ = import_onnx()
        self.path, self.proto, self.feed = path, proto, feed
        self.opset = max(o.version for o in proto.opset_import if o.domain in ("", "ai.onnx"))
        self.nodes: list[Any] = []
        """What is flat already, in order."""
        self.makers: dict[str, Any] = {}
        self.constants = {tensor.name: tensor for tensor in proto.graph.initializer}
        self.lists: dict[str, list[str]] = {}
        """Lists of tensors, by the name of the list."""
        self.held: set[str] = set()
        """Graphs inside nodes whose constants are entered."""
        self.resolve: dict[str, Callable[[Any], None]] = {
            "If": self._if,
            "Loop": self._loop,
            "Scan": self._scan,
            "SequenceEmpty": lambda node: self._list(node, []),
            "SequenceConstruct": lambda node: self._list(node, list(node.input)),
            "SequenceInsert": self._insert,
            "SequenceErase": self._erase,
            "SequenceAt": self._at,
            "SequenceLength": self._length,
            "ConcatFromSequence": self._concat,
            "SplitToSequence": self._split,
        }

    def run(self, nodes: Sequence[Any]) -> None:
        """Flatten nodes behind those that are flat already."""
        for node in nodes:
            if node.op_type == "Identity" and node.input[0] in self.lists:
                self._list(node, self.lists[node.input[0]])
            elif node.op_type in self.resolve and node.domain in ("", "ai.onnx"):
                self.resolve[node.op_type](node)
            else:
                self._append(node)

    def _append(self, node: Any) -> None:
        if len(self.nodes) >= MOST_NODES:
            self._refuse(
                node, f"unrolled, the model has more than {MOST_NODES:,} operators: export fewer turns"
            )
        self.nodes.append(node)
        self.makers.update((name, node) for name in node.output if name)

    def _refuse(self, node: Any, reason: str) -> NoReturn:
        field = f"node {node.name or node.output[0]!r}"
        raise InputError(reason, file=self.path, field=field, found=node.op_type)

    # Pieces

    def _node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self._append(self.onnx.helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def _constant(self, name: str, values: Any) -> str:
        if name not in self.constants:
            tensor = self.onnx.numpy_helper.from_array(np.asarray(values), name)
            self.proto.graph.initializer.append(tensor)
            self.constants[name] = self.proto.graph.initializer[-1]
        return name

    def _unsqueezed(self, name: str, output: str, axis: int) -> str:
        if self.opset < 13:
            return self._node("Unsqueeze", [name], output, axes=[axis])
        return self._node("Unsqueeze", [name, self._constant(f"axis.{axis}", np.array([axis]))], output)

    def _stacked(self, names: Sequence[str], output: str, axis: int, node: Any) -> None:
        """Tensors side by side along a new axis."""
        if not names:
            self._refuse(node, f"runs no turn for this input, so that {output!r} is empty: not modelled")
        each = [self._unsqueezed(name, f"{output}.{i}", axis) for i, name in enumerate(names)]
        self._node("Concat", each, output, axis=axis)

    def _value(self, node: Any, name: str) -> NDArray[Any]:
        """What a tensor holds for this input, from those nodes alone that it depends on."""
        while name in self.makers and self.makers[name].op_type == "Identity":
            name = self.makers[name].input[0]
        if name in self.constants:
            return np.asarray(self.onnx.numpy_helper.to_array(self.constants[name]))
        if name in self.feed:
            return self.feed[name]
        if name in self.makers and _is_tensor(self.makers[name]):
            return np.asarray(self.onnx.numpy_helper.to_array(self.makers[name].attribute[0].t))
        if name not in self.makers:
            self._refuse(node, f"reads {name!r}, which is not there")
        needed, pending, read = set(), [name], {name}
        while pending:
            made = self.makers.get(pending.pop())
            if made is not None and id(made) not in needed:
                needed.add(id(made))
                pending.extend(made.input)
                read.update(made.input)
        part = type(self.proto)(ir_version=max(self.proto.ir_version, 4))
        part.opset_import.extend(self.proto.opset_import)
        part.graph.name = "part"
        part.graph.node.extend(one for one in self.nodes if id(one) in needed)
        part.graph.initializer.extend(self.constants[key] for key in sorted(read & set(self.constants)))
        part.graph.input.extend(
            value for value in self.proto.graph.input if value.name in read - set(self.constants)
        )
        part.graph.output.append(self.onnx.helper.make_empty_tensor_value_info(name))
        fed = {value.name: self.feed[value.name] for value in part.graph.input}
        (found,) = run_session(self.path, plain_session(self.path, part), [name], fed)
        return found

    def _body(self, node: Any, key: str) -> tuple[Any, str]:
        """A graph inside a node, its constants entered once, and how their names begin."""
        body = next((item.g for item in node.attribute if item.name == key), None)
        if body is None:
            self._refuse(node, f"has no {key}")
        mark = f"{node.name or node.output[0]}/{key}/"
        if mark not in self.held:
            self.held.add(mark)
            for tensor in body.initializer:
                self._enter(mark, tensor.name, tensor)
            for one in body.node:
                if _is_tensor(one):
                    self._enter(mark, one.output[0], one.attribute[0].t)
        return body, mark

    def _enter(self, mark: str, name: str, tensor: Any) -> None:
        self.proto.graph.initializer.add().CopyFrom(tensor)
        held = self.proto.graph.initializer[-1]
        held.name = mark + name
        self.constants[held.name] = held

    def _take(self, node: Any, key: str, given: Sequence[str], turn: str = "") -> list[str]:
        """Flatten the graph inside a node, with `given` for its inputs; returns the names of its outputs."""
        body, mark = self._body(node, key)
        constant = {tensor.name for tensor in body.initializer}
        constant |= {one.output[0] for one in body.node if _is_tensor(one)}
        names = {name: mark + name for name in constant}
        for one in body.node:
            names |= {name: f"{mark}{turn}{name}" for name in one.output if name and name not in constant}
        names |= {value.name: name for value, name in zip(body.input, given, strict=True)}
        nodes = []
        for one in body.node:
            if not _is_tensor(one):
                copy = self.onnx.NodeProto.FromString(one.SerializeToString())
                _rename(copy, names)
                copy.name = f"{mark}{turn}{copy.name}" if copy.name else ""
                nodes.append(copy)
        self.run(nodes)
        return [names.get(value.name, value.name) for value in body.output]

    def _result(self, source: str, output: str) -> None:
        """What control flow gives, under the name that the node gives it."""
        if not output:
            return
        if source in self.lists:
            self.lists[output] = self.lists[source]
        else:
            self._node("Identity", [source], output)

    # Control flow

    def _if(self, node: Any) -> None:
        chosen = "then_branch" if self._value(node, node.input[0]).all() else "else_branch"
        for source, output in zip(self._take(node, chosen, []), node.output, strict=True):
            self._result(source, output)

    def _loop(self, node: Any) -> None:
        most, condition, *state = node.input
        turns = int(self._value(node, most)) if most else None
        going = bool(self._value(node, condition)) if condition else True
        condition = condition or self._constant("always", np.array(True))
        stacks: list[list[str]] = [[] for _ in node.output[len(state) :]]
        count = 0
        while going and (turns is None or count < turns):
            given = [self._constant(f"turn.{count}", np.array(count)), condition, *state]
            condition, *made = self._take(node, "body", given, f"{count}/")
            state = made[: len(state)]
            for stack, name in zip(stacks, made[len(state) :], strict=True):
                stack.append(name)
            count += 1
            going = bool(self._value(node, condition).all())
        self._outputs(node, state, stacks, [0] * len(stacks))

    def _scan(self, node: Any) -> None:
        if self.opset < 9:
            self._refuse(node, "a Scan of opset 8 has another form: save the model with opset 9 or newer")
        attributes = {a.name: self.onnx.helper.get_attribute_value(a) for a in node.attribute}
        count = attributes["num_scan_inputs"]
        state, scanned = list(node.input[:-count]), list(node.input[-count:])
        stacks: list[list[str]] = [[] for _ in node.output[len(state) :]]
        axes = attributes.get("scan_input_axes", [0] * count)
        back = attributes.get("scan_input_directions", [0] * count)
        turns = int(self._shape(node, scanned[0])[axes[0]])
        for turn in range(turns):
            given = []
            for name, axis, reverse in zip(scanned, axes, back, strict=True):
                place = turns - 1 - turn if reverse else turn
                index = self._constant(f"turn.{place}", np.array(place))
                made = f"{node.name or node.output[0]}/{turn}/{name}"
                given.append(
                    made if made in self.makers else self._node("Gather", [name, index], made, axis=axis)
                )
            found = self._take(node, "body", [*state, *given], f"{turn}/")
            state = found[: len(state)]
            for stack, name in zip(stacks, found[len(state) :], strict=True):
                stack.append(name)
        if any(attributes.get("scan_output_directions", [])):
            ways = attributes["scan_output_directions"]
            stacks = [stack[::-1] if way else stack for stack, way in zip(stacks, ways, strict=True)]
        self._outputs(node, state, stacks, attributes.get("scan_output_axes", [0] * len(stacks)))

    def _outputs(
        self, node: Any, state: Sequence[str], stacks: Sequence[Sequence[str]], axes: Sequence[int]
    ) -> None:
        for source, output in zip(state, node.output, strict=False):
            self._result(source, output)
        for stack, output, axis in zip(stacks, node.output[len(state) :], axes, strict=True):
            if output:
                self._stacked(stack, output, axis, node)

    def _shape(self, node: Any, name: str) -> NDArray[Any]:
        made = f"{name}.flat_shape"
        if made not in self.makers:
            self._node("Shape", [name], made)
        return self._value(node, made)

    # Lists of tensors

    def _list(self, node: Any, names: Sequence[str]) -> None:
        self.lists[node.output[0]] = list(names)

    def _of(self, node: Any) -> list[str]:
        if node.input[0] not in self.lists:
            self._refuse(node, "a list of tensors that is fed is not modelled: feed the tensors themselves")
        return self.lists[node.input[0]]

    def _insert(self, node: Any) -> None:
        names = list(self._of(node))
        place = int(self._value(node, node.input[2])) if len(node.input) > 2 and node.input[2] else len(names)
        names.insert(place, node.input[1])
        self._list(node, names)

    def _erase(self, node: Any) -> None:
        names = list(self._of(node))
        place = int(self._value(node, node.input[1])) if len(node.input) > 1 and node.input[1] else -1
        del names[place]
        self._list(node, names)

    def _at(self, node: Any) -> None:
        self._node("Identity", [self._of(node)[int(self._value(node, node.input[1]))]], node.output[0])

    def _length(self, node: Any) -> None:
        count = self._constant(f"turn.{len(self._of(node))}", np.array(len(self._of(node))))
        self._node("Identity", [count], node.output[0])

    def _concat(self, node: Any) -> None:
        attributes = {a.name: a.i for a in node.attribute}
        if attributes.get("new_axis", 0):
            self._stacked(self._of(node), node.output[0], attributes["axis"], node)
        else:
            self._node("Concat", self._of(node), node.output[0], axis=attributes["axis"])

    def _split(self, node: Any) -> None:
        attributes = {a.name: a.i for a in node.attribute}
        axis, output = attributes.get("axis", 0), node.output[0]
        size = int(self._shape(node, node.input[0])[axis])
        parts = self._value(node, node.input[1]) if len(node.input) > 1 and node.input[1] else np.array(1)
        if parts.ndim == 0:
            whole, rest = divmod(size, int(parts))
            parts = np.array([int(parts)] * whole + [rest] * (rest > 0))
        squeezed = len(node.input) < 2 and not attributes.get("keepdims", 1)
        names, first = [], 0
        for i, count in enumerate(parts.tolist()):
            place = np.array(first) if squeezed else np.arange(first, first + count)
            index = self._constant(f"{output}.{i}.index", place)
            names.append(self._node("Gather", [node.input[0], index], f"{output}.{i}", axis=axis))
            first += count
        self._list(node, names)


def _is_tensor(node: Any) -> bool:
    """Whether a node holds a constant as a tensor."""
    return node.op_type == "Constant" and len(node.attribute) == 1 and node.attribute[0].name == "value"


def _rename(node: Any, names: Mapping[str, str]) -> None:
    """Rename what a node reads and writes, and what the graphs inside it read."""
    for field in (node.input, node.output):
        renamed = [names.get(name, name) for name in field]
        del field[:]
        field.extend(renamed)
    for attribute in node.attribute:
        for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            own = {t.name for t in graph.initializer} | {m for one in graph.node for m in one.output}
            own |= {value.name for value in graph.input}
            inner = {name: new for name, new in names.items() if name not in own}
            for one in graph.node:
                _rename(one, inner)
            for value in graph.output:
                value.name = inner.get(value.name, value.name)
