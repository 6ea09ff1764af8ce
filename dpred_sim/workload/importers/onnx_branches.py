"""Control flow that the given input decides: the branch of an If that is taken replaces the node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dpred_sim.errors import InputError
from dpred_sim.workload.importers.onnx_model import Feeds, import_onnx, plain_session, run_session

MOST = 1000
"""Branches inside branches end here."""


def take_branches(path: Path, proto: Any, feed: Feeds) -> None:
    """Replace every If of the graph by its branch for this input, in place. Raises InputError."""
    for _ in range(MOST):
        place = next((i for i, node in enumerate(proto.graph.node) if node.op_type == "If"), None)
        if place is None:
            return
        nodes = list(proto.graph.node)
        node = nodes[place]
        chosen = "then_branch" if _condition(path, proto, node, feed) else "else_branch"
        branch = next(item.g for item in node.attribute if item.name == chosen)
        inlined = _inlined(proto, branch, node)
        onnx, _ = import_onnx()
        everything = [*nodes[:place], *inlined, *nodes[place + 1 :]]
        copies = [onnx.NodeProto.FromString(one.SerializeToString()) for one in everything]
        del proto.graph.node[:]
        proto.graph.node.extend(copies)
    raise InputError("the branches of the model do not end", file=path)


def _condition(path: Path, proto: Any, node: Any, feed: Feeds) -> bool:
    """The condition of a node, from those nodes alone that it depends on."""
    onnx, _ = import_onnx()
    name = node.input[0]
    for tensor in proto.graph.initializer:
        if tensor.name == name:
            return bool(onnx.numpy_helper.to_array(tensor).all())
    makers = {made: one for one in proto.graph.node for made in one.output}
    needed, pending = set(), [name]
    while pending:
        one = makers.get(pending.pop())
        if one is not None and id(one) not in needed:
            needed.add(id(one))
            pending.extend(one.input)
    part = onnx.ModelProto()
    part.CopyFrom(proto)
    del part.graph.node[:]
    part.graph.node.extend(one for one in proto.graph.node if id(one) in needed)
    if any(one.op_type in ("If", "Loop", "Scan") for one in part.graph.node):
        raise InputError(
            "a branch depends on control flow: export the branch that is used as a model of its own",
            file=path,
            field=f"node {node.name or node.output[0]!r}",
            found=node.op_type,
        )
    del part.graph.output[:]
    part.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.BOOL, None))
    session = plain_session(path, part)
    read = {value.name for value in session.get_inputs()}
    (found,) = run_session(path, session, [name], {key: value for key, value in feed.items() if key in read})
    return bool(found.all())


def _inlined(proto: Any, branch: Any, node: Any) -> list[Any]:
    """The nodes of a branch, under names of their own, with its results called as the node's."""
    onnx, _ = import_onnx()
    mark = f"{node.name or node.output[0]}/"
    made = {tensor.name for tensor in branch.initializer}
    made |= {name for one in branch.node for name in one.output if name}
    names = {name: mark + name for name in made}
    for tensor in branch.initializer:
        proto.graph.initializer.add().CopyFrom(tensor)
        proto.graph.initializer[-1].name = names[tensor.name]
    nodes = []
    for one in branch.node:
        copy = onnx.NodeProto.FromString(one.SerializeToString())
        _rename(copy, names)
        copy.name = mark + copy.name if copy.name else ""
        nodes.append(copy)
    for inner, outer in zip(branch.output, node.output, strict=True):
        source = names.get(inner.name, inner.name)
        nodes.append(onnx.helper.make_node("Identity", [source], [outer]))
    return nodes


def _rename(node: Any, names: dict[str, str]) -> None:
    """Rename what a node reads and writes, and what the graphs inside it read."""
    for field in (node.input, node.output):
        renamed = [names.get(name, name) for name in field]
        del field[:]
        field.extend(renamed)
    for attribute in node.attribute:
        for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            own = {t.name for t in graph.initializer} | {m for one in graph.node for m in one.output}
            inner = {name: new for name, new in names.items() if name not in own}
            for one in graph.node:
                _rename(one, inner)
            for value in graph.output:
                value.name = inner.get(value.name, value.name)
