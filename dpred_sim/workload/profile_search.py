"""The search for a profile: the fewest bits that leave a network's output as it was.

One tensor at a time (each stored tensor and each layer's weights) is rounded to fewer and fewer bits;
the smallest precision is kept whose relative L2 change of the network's output, before a final
softmax, is at most `tolerance` on every calibration input. Then all tensors are rounded together, and
some get more bits until all together change it by `joint_tolerance` at most: see `profile_repair`. It
stands in for a profile on labelled data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, log2
from statistics import median_high
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.errors import InputError, nearest
from dpred_sim.workload.capture import Captor, InputFile, Subject, versions
from dpred_sim.workload.importers.onnx_recurrent import GATES
from dpred_sim.workload.importers.onnx_rounding import switches, with_rounding
from dpred_sim.workload.importers.onnx_runtime import Feeds, plain_session, run_session
from dpred_sim.workload.inputs import Feed, read_feed
from dpred_sim.workload.profile import Format, Profile
from dpred_sim.workload.profile_repair import REPAIRS, everywhere, fewest, helped, repaired
from dpred_sim.workload.quantised import quantise

MOST = 16
"""The widest precision that is tried."""

GUESS = 9
"""Where the search begins; each tensor's begins at what the one before needed."""

LEAST_INPUTS = 3
"""Fewer calibration inputs make a profile that does not hold on others."""

Report = Callable[[str], None]
"""Told what was found, a line a tensor: "37/108 weights conv1: 8 bits"."""


def profile_model(
    subject: Subject,
    *,
    held_out: Sequence[InputFile] = (),
    tolerance: float = 0.01,
    joint_tolerance: float = 0.05,
    repair: str = REPAIRS[0],
    exact_shortcuts: bool = False,
    least_inputs: int = LEAST_INPUTS,
    report: Report = lambda line: None,
) -> Profile:
    """Search the profile of a model on the subject's inputs, and measure its error on others.

    `held_out` are inputs that the search does not see; `report` is told what is being done. `repair` says
    where bits are added: see `profile_repair`. With `exact_shortcuts` additions read tensors as they
    were before rounding, and the output is what it was, so that only what goes into products, pooling and
    the like counts; tensors that nothing else reads get the median of the others' precisions. Where no
    number of bits keeps to the joint tolerance, all tensors get more as long as each bit lowers the change.
    Takes seconds to minutes. Raises InputError for fewer than `least_inputs` inputs and for whatever is
    wrong with model or inputs.
    """
    if len(subject.inputs) < least_inputs:
        raise InputError(
            "a profile needs more calibration inputs",
            field="inputs",
            found=len(subject.inputs),
            allowed=f"{least_inputs} or more",
        )
    if not 0 < tolerance <= joint_tolerance:
        raise InputError(
            "tolerances", found=(tolerance, joint_tolerance), allowed="0 < tolerance <= joint tolerance"
        )
    if repair not in REPAIRS:
        raise InputError(
            f"unknown repair{nearest(repair, REPAIRS)}", field="repair", found=repair, allowed=REPAIRS
        )
    network = _Network(subject, exact_shortcuts)
    unseen_feeds = [network.feed_of(item) for item in held_out]
    formats, added, errors = _search(network, tolerance, joint_tolerance, repair, report)
    unseen = [network.error_on(feed, formats) for feed in unseen_feeds]
    about = {
        "rule": "smallest precision with a relative L2 change of the output before softmax of at most "
        "`tolerance`, one tensor at a time, on every calibration input; then more bits (`added_bits` in "
        "all), by the rule `repair`, until all together change it by `joint_tolerance` at most; "
        "where no number of bits gets there, everywhere, as long as each bit lowers the change",
        "tolerance": tolerance,
        "joint_tolerance": joint_tolerance,
        "repair": repair,
        **({"exact_shortcuts": True} if exact_shortcuts else {}),
        "added_bits": added,
        "joint_error": max(errors),
        "calibration": _about_inputs(subject.inputs, errors),
        "held_out_error": max(unseen, default=None),
        "held_out": _about_inputs(held_out, unseen),
        "preprocessing": subject.preprocessing.to_dict(),
        "versions": versions(),
    }
    kinds: dict[str, dict[str, Format]] = {"activations": {}, "weights": {}}
    for tensor, found in formats.items():
        kinds[tensor.kind].update(dict.fromkeys(tensor.names, found))
    return Profile(subject.model_sha256, kinds["activations"], kinds["weights"], about)


def _search(
    network: _Network, tolerance: float, joint_tolerance: float, repair: str, report: Report
) -> tuple[dict[_Tensor, Format], int, list[float]]:
    """Formats within both tolerances, how many bits the joint one took, and the change on each input."""
    found: dict[_Tensor, Format] = {}
    alone: dict[_Tensor, float] = {}
    guess, total = GUESS, len(network.tensors)
    for done, tensor in enumerate(network.tensors, 1):
        found[tensor], alone[tensor] = network.smallest(tensor, tolerance, guess)
        guess = found[tensor].precision
        report(f"{done}/{total} {tensor.kind} {tensor.names[0]}: {guess} bits")
    if network.exact_shortcuts:
        found |= _unseen(network, found, alone)
    least = _bits(found)

    def fits(tried: Formats) -> bool:
        worst = network.worst(tried, joint_tolerance)
        more = "" if worst <= joint_tolerance else " or more"
        report(f"all together: {worst:.2%}{more} with {_bits(tried) - least} more bit(s)")
        return worst <= joint_tolerance

    if repair == "fewest":
        sizes = {tensor: network.sizes[tensor.source] for tensor in found}
        steps = fewest(found, alone, sizes, MOST)
    else:
        steps = everywhere(found, MOST)
    formats = repaired(found, steps, fits)
    errors = network.errors(formats)
    if max(errors) > joint_tolerance:
        formats = helped(found, everywhere(found, MOST), lambda tried: max(network.errors(tried)))
        errors = network.errors(formats)
        report(f"no number of bits keeps to {joint_tolerance:.1%}: as many as help, {_bits(formats) - least}")
    return formats, _bits(formats) - least, errors


def _unseen(network: _Network, found: Formats, alone: Mapping[_Tensor, float]) -> dict[_Tensor, Format]:
    """Formats of stored tensors whose rounding changes nothing: the median of the others' precisions."""
    stored = {tensor: fmt for tensor, fmt in found.items() if tensor.kind == "activations"}
    unseen = [tensor for tensor, fmt in stored.items() if alone[tensor] == 0.0 and fmt.precision <= 2]
    seen = [fmt.precision for tensor, fmt in stored.items() if tensor not in unseen]
    median = median_high(seen or [MOST])
    return {tensor: network.format(tensor, max(median, 1 + stored[tensor].signed)) for tensor in unseen}


def _bits(formats: Formats) -> int:
    """Precisions of all tensors, added up."""
    return sum(found.precision for found in formats.values())


def _about_inputs(items: Sequence[InputFile], errors: Sequence[float]) -> list[dict[str, Any]]:
    return [
        {"name": item.name, "sha256": item.sha256, "error": round(error, 6)}
        for item, error in zip(items, errors, strict=True)
    ]


@dataclass(frozen=True)
class _Tensor:
    """A tensor to be rounded: `source` is its name in the graph, `factor` what weights are scaled by.

    `names` are those of the stored tensors, or of the layers, that hold its values.
    """

    kind: str
    names: tuple[str, ...]
    source: str
    factor: float = 1.0


Formats = Mapping[_Tensor, Format]


class _Network:
    """A model in one session whose inputs say how each tensor is rounded."""

    def __init__(self, subject: Subject, exact_shortcuts: bool = False) -> None:
        captor = Captor(subject)
        graph, plan = captor.graph, captor.plan
        self.model, self.subject = captor.model, subject
        self.inputs = list(graph.inputs)
        self.tensors = _tensors(captor)
        self.constants = {
            tensor.source: array
            for tensor in self.tensors
            if tensor.kind == "weights" and (array := graph.constant(tensor.source)) is not None
        }
        stored = [t.source for t in self.tensors if t.kind == "activations"]
        self.prefix = {source: f"rounding_{i}" for i, source in enumerate(stored)}
        returned = [p.tensor for p in plan.layers if p.name in plan.outputs]
        self.exact_shortcuts = exact_shortcuts
        hidden = {node.output[0] for node in captor.folded.graph.node if node.op_type in GATES}
        rounded = self.prefix.keys() & (hidden if exact_shortcuts else set(returned))
        self.outputs = [f"{self.prefix[name]}_out" if name in rounded else name for name in returned]
        proto = with_rounding(captor.folded, self.prefix, list(self.constants), self.outputs, exact_shortcuts)
        self.session = plain_session(self.model.path, proto)
        self.exact = {name: value for prefix in self.prefix.values() for name, value in switches(prefix)}
        self.feeds = [self._fed(feed) for feed in captor.feeds]
        self.shapes = {name: array.shape for name, array in captor.feeds[0].items()}
        self.wanted = [self._output(feed) for feed in self.feeds]
        self.sizes = {name: array.size for name, array in self.constants.items()}
        """Values of each tensor, by its name in the graph."""
        self.limits = self._limits(stored)
        self._rounded: dict[_Tensor, tuple[Format, NDArray[np.float32]]] = {}
        """Weights as they were rounded last: of all together, seldom more than one changes."""
        self.order = list(range(len(self.feeds)))
        """Inputs, those first that refused a precision last: they are the likeliest to refuse the next."""

    def _fed(self, feed: Feed) -> Feed:
        return {name: array for name, array in feed.items() if name in self.inputs}

    def _limits(self, stored: Sequence[str]) -> dict[str, tuple[float, float]]:
        """Lowest and highest value of each tensor over all inputs, by its name in the graph."""
        ranges = {name: (float(array.min()), float(array.max())) for name, array in self.constants.items()}
        outs = [f"{self.prefix[name]}_out" for name in stored]
        for feed in self.feeds:
            found = run_session(self.model.path, self.session, outs, {**self.exact, **feed})
            for name, value in zip(stored, found, strict=True):
                self.sizes[name] = value.size
                low, high = ranges.get(name, (np.inf, -np.inf))
                ranges[name] = (min(low, float(value.min())), max(high, float(value.max())))
        return ranges

    def format(self, tensor: _Tensor, precision: int) -> Format:
        """The format of a tensor at some precision."""
        low, high = sorted(tensor.factor * value for value in self.limits[tensor.source])
        return Format(precision, low < 0, max(abs(low), abs(high)))

    def smallest(self, tensor: _Tensor, tolerance: float, guess: int) -> tuple[Format, float]:
        """The smallest precision within the tolerance on every input, the tensor rounded alone.

        With it comes the change of the output. A bit more halves that change about, so the search jumps
        to where it should be, and then walks down as long as precisions pass.
        """
        least = 2 if self.format(tensor, MOST).signed else 1
        tried: dict[int, float] = {}

        def error(precision: int) -> float:
            if precision not in tried:
                tried[precision] = self.worst({tensor: self.format(tensor, precision)}, tolerance)
            return tried[precision]

        precision = min(max(guess, least), MOST)
        while error(precision) > tolerance and precision < MOST:
            found = error(precision)
            jump = ceil(log2(found / tolerance)) if np.isfinite(found) else MOST
            precision = min(MOST, precision + max(1, jump - 1))
        while precision > least and error(precision - 1) <= tolerance:
            precision -= 1
        return self.format(tensor, precision), tried.get(precision, 0.0)

    def worst(self, formats: Formats, tolerance: float) -> float:
        """The largest change over the inputs; as soon as one is above the tolerance, that one."""
        rounding, worst = self._rounding(formats), 0.0
        for index in list(self.order):
            found = self._output({**self.feeds[index], **rounding})
            worst = max(worst, _change(found, self.wanted[index]))
            if worst > tolerance:
                self.order.remove(index)
                self.order.insert(0, index)
                break
        return worst

    def errors(self, formats: Formats) -> list[float]:
        """Change of the output on each calibration input, all `formats` at once."""
        rounding = self._rounding(formats)
        return [
            _change(self._output({**feed, **rounding}), wanted)
            for feed, wanted in zip(self.feeds, self.wanted, strict=True)
        ]

    def feed_of(self, item: InputFile) -> Feed:
        """Another input; raises InputError where it has another shape than the others."""
        found = read_feed(self.model.specs, item.path(), self.subject.preprocessing)
        for name, array in found.items():
            if array.shape != self.shapes[name]:
                raise InputError(
                    "all inputs must have the same shape",
                    file=item.name,
                    found=array.shape,
                    allowed=self.shapes[name],
                )
        return self._fed(found)

    def error_on(self, feed: Feed, formats: Formats) -> float:
        """Change of the output on another input."""
        return _change(self._output({**feed, **self._rounding(formats)}), self._output(feed))

    def _output(self, feed: Feeds) -> list[NDArray[Any]]:
        return run_session(self.model.path, self.session, self.outputs, {**self.exact, **feed})

    def _rounding(self, formats: Formats) -> dict[str, NDArray[Any]]:
        """What the session is fed with so that it rounds as `formats` say."""
        feed: dict[str, NDArray[Any]] = {}
        for tensor, fmt in formats.items():
            if tensor.kind == "weights":
                feed[tensor.source] = self._weights(tensor, fmt)
                continue
            step = quantise(np.zeros(1), fmt, MOST, tensor.names[0]).scale
            feed.update(switches(self.prefix[tensor.source], fmt.precision, fmt.signed, step))
        return feed

    def _weights(self, tensor: _Tensor, fmt: Format) -> NDArray[np.float32]:
        """Rounded weights, as the graph holds them."""
        before = self._rounded.get(tensor)
        if before is not None and before[0] == fmt:
            return before[1]
        scaled = self.constants[tensor.source].astype(np.float32) * np.float32(tensor.factor)
        rounded = quantise(scaled, fmt, MOST, tensor.names[0]).dequantise()
        made = (rounded / tensor.factor).astype(np.float32)
        self._rounded[tensor] = fmt, made
        return made


def _change(found: Sequence[NDArray[Any]], wanted: Sequence[NDArray[Any]]) -> float:
    """Largest relative L2 change of an output."""
    changes = []
    for have, want in zip(found, wanted, strict=True):
        size = float(np.linalg.norm(want.astype(np.float64)))
        changes.append(float(np.linalg.norm(have.astype(np.float64) - want)) / (size or 1.0))
    return max(changes)


def _tensors(captor: Captor) -> list[_Tensor]:
    """What is rounded: not what the model stores in 8 bits already, and no truth values."""
    names: dict[tuple[str, str, float], list[str]] = {}
    for planned in captor.plan.layers:
        weights = planned.weights
        if weights is not None and weights.native is None:
            names.setdefault(("weights", weights.source, weights.factor), []).append(planned.name)
        if planned.is_stored and planned.native is None and captor.is_real(planned.tensor):
            names.setdefault(("activations", planned.tensor, 1.0), []).append(planned.name)
    return [_Tensor(kind, tuple(own), source, factor) for (kind, source, factor), own in names.items()]
