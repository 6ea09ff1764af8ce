"""The search for a profile: the fewest bits that leave a network's output as it was.

One tensor at a time (each stored tensor and each layer's weights) is rounded to fewer and fewer bits;
the smallest precision is kept whose relative L2 change of the network's output, before a final
softmax, is at most `tolerance` on every calibration input. Then all tensors are rounded together, and
every precision is raised by one bit until that changes the output by `joint_tolerance` at most. It
stands in for a profile on labelled data.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.errors import DpredError, InputError
from dpred_sim.workload.capture import (
    InputFile,
    Subject,
    file_inputs,
    file_subject,
    folded_model,
    read_input,
    versions,
)
from dpred_sim.workload.images import preprocessing_beside
from dpred_sim.workload.importers.onnx_graph import Graph
from dpred_sim.workload.importers.onnx_layers import Plan, plan_layers
from dpred_sim.workload.importers.onnx_model import Feeds, import_onnx, plain_session, run_session
from dpred_sim.workload.profile import SUFFIX, Format, Profile, write_profile
from dpred_sim.workload.quantised import quantise

MOST = 16
"""The widest precision that is tried."""

LEAST_INPUTS = 3
"""Fewer calibration inputs make a profile that does not hold on others."""

Report = Callable[[str], None]


def profile_model(
    subject: Subject,
    *,
    held_out: Sequence[InputFile] = (),
    tolerance: float = 0.01,
    joint_tolerance: float = 0.05,
    report: Report = lambda line: None,
) -> Profile:
    """Search the profile of a model on the subject's inputs, and measure its error on others.

    `held_out` are inputs that the search does not see; `report` is told what is being done. Takes
    seconds to minutes. Raises InputError for fewer than three inputs and for whatever is wrong with
    model or inputs.
    """
    if len(subject.inputs) < LEAST_INPUTS:
        raise InputError(
            "a profile needs more calibration inputs",
            field="inputs",
            found=len(subject.inputs),
            allowed=f"{LEAST_INPUTS} or more",
        )
    if not 0 < tolerance <= joint_tolerance:
        raise InputError(
            "tolerances", found=(tolerance, joint_tolerance), allowed="0 < tolerance <= joint tolerance"
        )
    network = _Network(subject)
    formats = {}
    for i, tensor in enumerate(network.tensors, 1):
        formats[tensor] = network.smallest(tensor, tolerance)
        found = formats[tensor]
        report(f"{i}/{len(network.tensors)} {tensor.kind} {tensor.name}: {found.precision} bits")
    added = 0
    errors = network.errors(formats)
    while max(errors) > joint_tolerance and any(f.precision < MOST for f in formats.values()):
        added += 1
        formats = {t: replace(f, precision=min(MOST, f.precision + 1)) for t, f in formats.items()}
        errors = network.errors(formats)
        report(f"all together: {max(errors):.2%} with {added} more bit(s)")
    unseen = [network.error_on(item, formats) for item in held_out]
    about = {
        "rule": "smallest precision with a relative L2 change of the output before softmax of at most "
        "`tolerance`, one tensor at a time, on every calibration input; then one more bit everywhere "
        "(`added_bits` times) until all together change it by `joint_tolerance` at most",
        "tolerance": tolerance,
        "joint_tolerance": joint_tolerance,
        "added_bits": added,
        "joint_error": max(errors),
        "calibration": _about_inputs(subject.inputs, errors),
        "held_out_error": max(unseen, default=None),
        "held_out": _about_inputs(held_out, unseen),
        "preprocessing": subject.preprocessing.to_dict(),
        "versions": versions(),
    }
    kinds = {
        kind: {t.name: f for t, f in formats.items() if t.kind == kind} for kind in ("activations", "weights")
    }
    return Profile(subject.model_sha256, kinds["activations"], kinds["weights"], about)


def _about_inputs(items: Sequence[InputFile], errors: Sequence[float]) -> list[dict[str, Any]]:
    return [
        {"name": item.name, "sha256": item.sha256, "error": round(error, 6)}
        for item, error in zip(items, errors, strict=True)
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the profile of a model: the program `python -m dpred_sim.workload.profile`."""
    parser = argparse.ArgumentParser(
        prog="python -m dpred_sim.workload.profile", description="Search the profile of an ONNX model."
    )
    parser.add_argument("model", type=Path, help="the ONNX file")
    parser.add_argument(
        "--input", type=Path, action="append", default=[], help="calibration input (3 or more)"
    )
    parser.add_argument("--held-out", type=Path, action="append", default=[], help="input to measure on only")
    parser.add_argument("--tolerance", type=float, default=0.01, help="change by one tensor (default 0.01)")
    parser.add_argument("--joint-tolerance", type=float, default=0.05, help="by all (default 0.05)")
    parser.add_argument("--out", type=Path, help=f"the profile (default MODEL{SUFFIX})")
    given = parser.parse_args(arguments)
    try:
        subject = file_subject(given.model, given.input, preprocessing_beside(given.model))
        profile = profile_model(
            subject,
            held_out=file_inputs(given.held_out),
            tolerance=given.tolerance,
            joint_tolerance=given.joint_tolerance,
            report=lambda line: print(line, file=sys.stderr),
        )
        write_profile(given.out or given.model.with_suffix(SUFFIX), profile)
    except DpredError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


@dataclass(frozen=True)
class _Tensor:
    """A tensor to be rounded: `source` is its name in the graph, `factor` what weights are scaled by."""

    kind: str
    name: str
    source: str
    factor: float = 1.0


Formats = Mapping[_Tensor, Format]


class _Network:
    """A model in one session whose inputs say how each tensor is rounded."""

    def __init__(self, subject: Subject) -> None:
        self.model, folded, feeds = folded_model(subject)
        self.subject = subject
        graph = Graph(self.model, folded, feeds[0])
        plan = plan_layers(graph, subject.renames)
        if any(planned.settings.get("kind") == "recurrence" for planned in plan.layers):
            # The projected input of an LSTM or GRU is no tensor of the model: rounding it changes nothing.
            raise InputError("a model with LSTM or GRU cannot be profiled", file=self.model.path)
        self.constants = {
            name: array
            for name in dict.fromkeys(p.weights.source for p in plan.layers if p.weights)
            if (array := graph.constant(name)) is not None
        }
        self.tensors = _tensors(plan)
        stored = [t.source for t in self.tensors if t.kind == "activations"]
        self.prefix = {source: f"rounding_{i}" for i, source in enumerate(stored)}
        self.outputs = [f"{self.prefix[p.tensor]}_out" for p in plan.layers if p.name in plan.outputs]
        self.session = plain_session(
            self.model.path, _with_rounding(folded, self.prefix, list(self.constants))
        )
        self.exact = {
            f"{prefix}_{part}": np.array(value, dtype=bool if part == "on" else np.float32)
            for prefix in self.prefix.values()
            for part, value in (("on", False), ("scale", 1), ("low", 0), ("high", 0))
        }
        self.feeds = [{self.model.spec.name: feed} for feed in feeds]
        self.wanted = [self._output(feed) for feed in self.feeds]
        self.limits = self._limits(stored)

    def _limits(self, stored: Sequence[str]) -> dict[str, tuple[float, float]]:
        """Lowest and highest value of each tensor over all inputs, by its name in the graph."""
        ranges = {name: (float(array.min()), float(array.max())) for name, array in self.constants.items()}
        outs = [f"{self.prefix[name]}_out" for name in stored]
        for feed in self.feeds:
            found = run_session(self.model.path, self.session, outs, {**self.exact, **feed})
            for name, value in zip(stored, found, strict=True):
                low, high = ranges.get(name, (0.0, 0.0))
                ranges[name] = (min(low, float(value.min())), max(high, float(value.max())))
        return ranges

    def format(self, tensor: _Tensor, precision: int) -> Format:
        """The format of a tensor at some precision."""
        low, high = sorted(tensor.factor * value for value in self.limits[tensor.source])
        return Format(precision, low < 0, max(abs(low), abs(high)))

    def smallest(self, tensor: _Tensor, tolerance: float) -> Format:
        """The smallest precision within the tolerance on every input, the tensor rounded alone.

        From below, because the change need not shrink with every bit.
        """
        least = 2 if self.format(tensor, MOST).signed else 1
        for precision in range(least, MOST):
            rounding = self._rounding({tensor: self.format(tensor, precision)})
            if all(error <= tolerance for error in self._errors(rounding)):
                return self.format(tensor, precision)
        return self.format(tensor, MOST)

    def errors(self, formats: Formats) -> list[float]:
        """Change of the output on each calibration input, all `formats` at once."""
        return list(self._errors(self._rounding(formats)))

    def error_on(self, item: InputFile, formats: Formats) -> float:
        """Change of the output on another input."""
        array = read_input(self.model.spec, item.path(), self.subject.preprocessing)
        feed = {self.model.spec.name: array}
        return self._change(self._output({**feed, **self._rounding(formats)}), self._output(feed))

    def _errors(self, rounding: Feeds) -> Iterator[float]:
        for feed, wanted in zip(self.feeds, self.wanted, strict=True):
            yield self._change(self._output({**feed, **rounding}), wanted)

    def _output(self, feed: Feeds) -> list[NDArray[Any]]:
        return run_session(self.model.path, self.session, self.outputs, {**self.exact, **feed})

    def _change(self, found: Sequence[NDArray[Any]], wanted: Sequence[NDArray[Any]]) -> float:
        """Largest relative L2 change of an output."""
        changes = []
        for have, want in zip(found, wanted, strict=True):
            size = float(np.linalg.norm(want.astype(np.float64)))
            changes.append(float(np.linalg.norm(have.astype(np.float64) - want)) / (size or 1.0))
        return max(changes)

    def _rounding(self, formats: Formats) -> dict[str, NDArray[Any]]:
        """What the session is fed with so that it rounds as `formats` say."""
        feed: dict[str, NDArray[Any]] = {}
        for tensor, fmt in formats.items():
            if tensor.kind == "weights":
                exact = self.constants[tensor.source]
                scaled = exact.astype(np.float32) * np.float32(tensor.factor)
                rounded = quantise(scaled, fmt, MOST, tensor.name).dequantise()
                feed[tensor.source] = (rounded / tensor.factor).astype(np.float32)
                continue
            prefix = self.prefix[tensor.source]
            step = quantise(np.zeros(1), fmt, MOST, tensor.name).scale
            low, high = (-(1 << fmt.precision - 1), (1 << fmt.precision - 1) - 1)
            if not fmt.signed:
                low, high = 0, (1 << fmt.precision) - 1
            feed[f"{prefix}_on"] = np.array(True)
            for part, value in (("scale", step), ("low", low), ("high", high)):
                feed[f"{prefix}_{part}"] = np.array(value, dtype=np.float32)
        return feed


def _tensors(plan: Plan) -> list[_Tensor]:
    found = []
    for planned in plan.layers:
        if planned.weights is not None:
            found.append(_Tensor("weights", planned.name, planned.weights.source, planned.weights.factor))
        found.append(_Tensor("activations", planned.name, planned.tensor))
    return found


def _with_rounding(folded: Any, prefixes: Mapping[str, str], constants: Sequence[str]) -> Any:
    """The model with a switchable rounding behind each tensor in `prefixes`; `constants` can be fed."""
    onnx, _ = import_onnx()
    helper, kinds = onnx.helper, onnx.TensorProto
    proto = onnx.ModelProto()
    proto.CopyFrom(folded)
    proto.ir_version = max(proto.ir_version, 4)
    element = kinds.FLOAT
    half = helper.make_tensor("rounding_half", element, [], [0.5])
    proto.graph.initializer.append(half)
    nodes: list[Any] = []
    for node in [None, *proto.graph.node]:
        if node is not None:
            outputs = list(node.output)
            renamed = [f"{prefixes[name]}_out" if name in prefixes else name for name in node.input]
            del node.input[:]
            node.input.extend(renamed)
            nodes.append(node)
        else:
            outputs = [value.name for value in proto.graph.input]
        nodes.extend(_switch(helper, name, prefixes[name]) for name in outputs if name in prefixes)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del proto.graph.node[:]
    proto.graph.node.extend(copies)
    for prefix in prefixes.values():
        proto.graph.input.append(helper.make_tensor_value_info(f"{prefix}_on", kinds.BOOL, []))
        proto.graph.input.extend(
            helper.make_tensor_value_info(f"{prefix}_{part}", element, [])
            for part in ("scale", "low", "high")
        )
        proto.graph.output.append(helper.make_empty_tensor_value_info(f"{prefix}_out"))
    known = {value.name for value in proto.graph.input}
    for tensor in proto.graph.initializer:
        if tensor.name in constants and tensor.name not in known:
            proto.graph.input.append(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    return proto


def _switch(helper: Any, name: str, prefix: str) -> Any:
    """A node that passes the tensor `name` on, rounded or not."""
    steps = (
        ("Div", [name, f"{prefix}_scale"], "a"),
        ("Add", [f"{prefix}_a", "rounding_half"], "b"),
        ("Floor", [f"{prefix}_b"], "c"),
        ("Max", [f"{prefix}_c", f"{prefix}_low"], "d"),
        ("Min", [f"{prefix}_d", f"{prefix}_high"], "e"),
        ("Mul", [f"{prefix}_e", f"{prefix}_scale"], "rounded"),
    )
    rounded = [helper.make_node(kind, inputs, [f"{prefix}_{out}"]) for kind, inputs, out in steps]
    exact = [helper.make_node("Identity", [name], [f"{prefix}_exact"])]
    branches = {
        f"{branch}_branch": helper.make_graph(
            body, f"{prefix}_{branch}", [], [helper.make_empty_tensor_value_info(body[-1].output[0])]
        )
        for branch, body in (("then", rounded), ("else", exact))
    }
    return helper.make_node("If", [f"{prefix}_on"], [f"{prefix}_out"], **branches)
