"""Captured values as integers, and the workload made of them.

The integers of one format are kept in the cache beside the capture, so that a run that finds them
opens one small file and reads tensors when they are looked at.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.cache import cache_folder
from dpred_sim.errors import InputError, nearest
from dpred_sim.values.quantise import (
    Quantised,
    QuantisedChannels,
    quantise_8bit,
    quantise_8bit_channels,
    quantise_fixed,
)
from dpred_sim.values.tensor import LazyTensor, Tensor, TensorSource
from dpred_sim.workload.capture import Arrays, Captured, InMemory, key_of
from dpred_sim.workload.layer import Layer, Pool
from dpred_sim.workload.network import INPUT, Network, Part, Reset
from dpred_sim.workload.profile import Format, Profile, profile_about
from dpred_sim.workload.record import DAMAGED, open_record, write_record
from dpred_sim.workload.rules import Rule, parse_rule
from dpred_sim.workload.workload import Workload

RULES = ("profiled", "full_range", "common")
"""How a tensor's format is found.

`profiled`: precision and range of a profile (at 8 bits its range alone); without a profile as
`full_range`. `full_range`: all `bits` for the range of each tensor over all inputs. `common`: at 16
bits one fixed-point format for all weights and one for all activations; at 8 bits as `full_range`.
What the model itself stores in 8 bits stays as it is, at 8 bits and with `profiled`. Options behind a
comma prune weights first, or give them a scale for each filter: see `rules`.
"""

QUANTISED = 3
"""Part of every key: raise it when the integers of a capture change."""

KINDS = ("activations", "weights")

__all__ = [
    "KINDS",
    "RULES",
    "Values",
    "integers",
    "profile_about",
    "quantise",
    "real_workload",
    "workload_of",
]


def check_rule(rule: str, bits: int | None = None) -> None:
    """Raise InputError for an unknown rule, or options behind it that `rules.parse_rule` refuses."""
    parse_rule(rule, RULES, bits)


@dataclass(frozen=True)
class Values:
    """What a workload with real values is made of: a subject and the format of its integers.

    `source` and `provenance` go into the workload.
    """

    subject: Captured
    bits: int
    rule: str
    profile: Profile | None
    source: str
    provenance: Mapping[str, Any]

    @property
    def parsed(self) -> Rule:
        """The rule with its options."""
        return parse_rule(self.rule, RULES, self.bits)

    @property
    def key(self) -> str:
        """SHA-256 of all that decides the integers."""
        profile = (
            self.profile.to_dict() if self.profile is not None and self.parsed.name == "profiled" else None
        )
        formats = None if profile is None else [profile[kind] for kind in KINDS]
        return key_of([self.subject.key, QUANTISED, self.bits, self.rule, formats])

    @property
    def path(self) -> Path:
        """Where the integers are kept."""
        return cache_folder("traces", f"{self.key[:32]}-int{self.bits}.npz")


def real_workload(values: Values) -> Workload:
    """The workload of captured values, from the cache or made now.

    Raises InputError for what is wrong with model, inputs or profile; MissingExtra when something has
    to be captured and the extra [onnx] is not there.
    """
    found = integers(values)
    restore = partial(_quantise, values)
    return workload_of(found, values.subject.name, values.source, values.provenance, restore)


def integers(values: Values) -> Arrays:
    """The integers of all tensors with their description, from the cache or made now.

    The description is that of the capture, with `bits`, `rule`, `most_saturated` (the largest share of
    a tensor's values that is out of its format's range), and `signed`, `precision` and `scale` of every
    tensor. Errors are those of `real_workload`.
    """
    check_rule(values.rule, values.bits)
    return _cached(values) or _quantise(values)


def _cached(values: Values) -> Arrays | None:
    record = open_record(values.path)
    try:
        if record is None or record.description["key"] != values.key:
            return None
        return record if values.subject.is_current(record.description) else None
    except DAMAGED:
        return None


def _quantise(values: Values) -> Arrays:
    """The integers of all tensors, made from the capture and kept in the cache."""
    captured = values.subject.captured()
    description = json.loads(json.dumps(captured.description))
    description.update(key=values.key, bits=values.bits, rule=values.rule)
    arrays: dict[str, NDArray[Any]] = {}
    most = 0.0
    joins, rule = _joins(description), values.parsed
    for kind in KINDS:
        for name, about in description[kind].items():
            array = captured.read(f"{kind}/{name}")
            if kind == "weights":
                array = rule.prepared(array, name)
            made: Quantised | QuantisedChannels | None
            made = as_stored(array, about, values.bits) if _keeps(values, about) else None
            if made is not None:
                about["as_stored"] = True
                limit = np.inf
            elif kind == "weights" and rule.per_channel:
                made, limit = quantise_8bit_channels(array, name=name), np.inf
            else:
                fmt = _joined_format(values, description, kind, name, joins.get(name, (name,)))
                made, limit = quantise(array, fmt, values.bits, name), fmt.limit
            arrays[f"{kind}/{name}"] = made.tensor.values
            about.update(
                signed=made.tensor.signed,
                precision=made.tensor.precision,
                scale=about["native"]["scale"] if about.get("as_stored") else np.asarray(made.scale).tolist(),
            )
            most = max(most, _saturated(array, limit, made))
    description["most_saturated"] = most
    try:
        write_record(values.path, description, arrays)
    except OSError as error:
        print(f"the cache cannot be written, the integers are not kept: {error}", file=sys.stderr)
    return InMemory(json.loads(json.dumps(description, sort_keys=True)), arrays)


def _keeps(values: Values, about: Mapping[str, Any]) -> bool:
    """Whether a tensor that the model stores in 8 bits stays as it is."""
    return "native" in about and (values.bits == 8 or values.parsed.name == "profiled")


def as_stored(array: NDArray[Any], about: Mapping[str, Any], bits: int) -> Quantised | None:
    """The integers that the model itself stores, less their zero point; None where they need more bits.

    An asymmetric tensor can need 9 bits once it is relative to zero.
    """
    steps = np.array(about["native"]["scale"], dtype=np.float64).reshape(-1, *[1] * (array.ndim - 1))
    if steps.size == 1:
        steps = steps.reshape(())
    whole = np.rint(array / steps).astype(np.int64)
    low, high = int(whole.min()), int(whole.max())
    if steps.size == 1:
        # The range over all inputs decides, as it does for every other format.
        low = min(low, round(about["low"] / float(steps)))
        high = max(high, round(about["high"] / float(steps)))
    signed = low < 0
    needed = max(high.bit_length(), (~low).bit_length() if signed else 0) + signed
    precision = max(needed, 8)
    if precision > bits:
        return None
    tensor = Tensor(whole, bits=bits, signed=signed, precision=precision)
    return Quantised(tensor, float(steps.max()))


def quantise(array: NDArray[Any], fmt: Format, bits: int, name: str) -> Quantised:
    """An array in a format; at 8 bits all of them are used and the precision does not matter."""
    if bits == 8:
        return quantise_8bit(array, signed=fmt.signed, limit=fmt.limit, name=name)
    return quantise_fixed(array, fmt.precision, bits, signed=fmt.signed, limit=fmt.limit, name=name)


def _format(values: Values, description: Mapping[str, Any], kind: str, name: str) -> Format:
    """The format of a tensor by the rule."""
    if values.parsed.name == "profiled" and values.profile is not None:
        formats = values.profile.activations if kind == "activations" else values.profile.weights
        if name not in formats:
            raise InputError(
                f"the profile belongs to another model: no {kind} are called so{nearest(name, formats)}",
                field="profile",
                found=name,
            )
        return formats[name]
    about = description[kind][name]
    signed, limit = about["low"] < 0, max(abs(about["low"]), abs(about["high"]))
    if values.parsed.name == "common" and values.bits == 16:
        everything = description[kind].values()
        limit = max(max(abs(other["low"]), abs(other["high"])) for other in everything)
        # One step for all: a non-negative tensor gives up the bit of the sign.
        if not signed and any(other["low"] < 0 for other in everything):
            return Format(values.bits - 1, False, limit)
    return Format(values.bits, signed, limit)


def _joins(description: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Stored tensors that lie side by side in some concatenation, directly or by others, by each of them."""
    groups: dict[str, set[str]] = {}
    for layer in description["layers"]:
        if layer["kind"] == "concat":
            together = set().union(*(groups.get(name, {name}) for name in layer["joins"]))
            groups.update(dict.fromkeys(together, together))
    return {name: tuple(sorted(together)) for name, together in groups.items()}


def _joined_format(
    values: Values, description: Mapping[str, Any], kind: str, name: str, group: Sequence[str]
) -> Format:
    """The format of a tensor: those that are read as one need one step.

    With a profile each gets as many bits more as the finest of them asks for; else all have one format.
    """
    own = _format(values, description, kind, name)
    if kind == "weights" or len(group) == 1:
        return own
    formats = [_format(values, description, kind, other) for other in group]
    if values.bits == 16 and values.parsed.name == "profiled" and values.profile is not None:
        steps = [quantise(np.zeros(1), fmt, values.bits, name).scale for fmt in formats]
        more = round(np.log2(quantise(np.zeros(1), own, values.bits, name).scale / min(steps)))
        return replace(own, precision=min(values.bits, own.precision + more))
    signed, limit = any(fmt.signed for fmt in formats), max(fmt.limit for fmt in formats)
    return Format(max(fmt.precision for fmt in formats), signed, limit)


def _saturated(array: NDArray[Any], limit: float, made: Quantised | QuantisedChannels) -> float:
    """The share of values outside the format's range: an input may exceed what was calibrated."""
    low = -limit if made.tensor.signed else 0.0
    return float(((array > limit) | (array < low)).mean())


def workload_of(
    found: Arrays,
    name: str,
    source: str,
    provenance: Mapping[str, Any],
    restore: Callable[[], Arrays] | None = None,
) -> Workload:
    """The workload of integers in a record.

    `restore` makes the record again when it turns out to be damaged; without it that is an InputError.
    """
    reader = _Reader(found, restore)
    description = found.description
    tensors: dict[str, dict[str, TensorSource]]
    tensors = {kind: {n: reader.tensor(kind, n) for n in description[kind]} for kind in KINDS}
    network = Network()
    if INPUT in tensors["activations"]:
        network.given(INPUT, tensors["activations"][INPUT])
    for settings in description["layers"]:
        _enter(network, settings, tensors["activations"], tensors["weights"])
    kept = [a for kind in KINDS for a in description[kind].values() if "native" in a]
    if kept:
        provenance = {
            **provenance,
            "tensors_in_8_bits": len(kept),
            "tensors_as_stored": sum(a.get("as_stored", False) for a in kept),
        }
    about = {**provenance, "capture_versions": description["versions"]}
    if "most_saturated" in description:
        about["most_saturated"] = description["most_saturated"]
    return Workload(name, network, description["bits"], source, False, about)


def _enter(
    network: Network,
    settings: Mapping[str, Any],
    stored: dict[str, TensorSource],
    weights: Mapping[str, TensorSource],
) -> None:
    """Append what one entry of a description says to the network."""
    name, kind = settings["name"], settings["kind"]
    if kind == "reset":
        # A part of the recurrence that follows.
        return
    if kind == "given":
        network.given(name, stored[name])
    elif kind == "move":
        parts = [Part(p["name"], tuple(p["rows"]), tuple(p["channels"])) for p in settings["parts"]]
        network.move(name, parts, stored[name], [stored[part.name] for part in parts])
    elif kind == "concat":
        network.concat(name, settings["joins"])
        joined = network.tensor(name)
        if joined is not None:
            stored[name] = joined
    elif kind == "recurrence":
        initial, reset = settings.get("initial"), settings.get("reset")
        network.recurrence(
            name,
            weights[name],
            stored[name],
            settings["gates"],
            settings["reads"],
            None if initial is None else stored[initial],
            settings.get("reverse", False),
            initial,
            None if reset is None else Reset(weights[reset], stored[reset], settings["reset_reads"]),
        )
        for part in network.stacks[name]:
            state = network.tensor(part)
            if state is not None:
                stored[part] = state
    else:
        network.add(
            _layer(settings, stored, weights),
            reads=settings["reads"],
            shortcut=settings.get("shortcut"),
            second=settings.get("second"),
        )


def _layer(
    settings: Mapping[str, Any], stored: Mapping[str, TensorSource], weights: Mapping[str, TensorSource]
) -> Layer:
    name, kind = settings["name"], settings["kind"]
    activations, outputs = stored[settings["reads"]], stored[name]
    pool = _pool(settings["pool"]) if "pool" in settings else None
    if kind == "add":
        return Layer.add(name, activations, outputs)
    if kind == "pool" and pool is not None:
        return Layer.pooling(name, activations, pool, outputs)
    if kind == "matmul":
        second, flag = stored[settings["second"]], settings["transposed"]
        return Layer.matmul(name, activations, second, outputs, transposed=flag, groups=settings["groups"])
    if kind == "linear":
        return Layer.linear(name, activations, weights[name], outputs)
    return Layer.conv2d(
        name,
        activations,
        weights[name],
        outputs,
        stride=tuple(settings["stride"]),
        padding=tuple(settings["padding"]),
        dilation=tuple(settings["dilation"]),
        groups=settings["groups"],
        pool=pool,
    )


def _pool(found: Mapping[str, Any]) -> Pool:
    top, left, bottom, right = found["padding"]
    (height, width), (down, across) = found["size"], found["stride"]
    return Pool(found["mode"], (height, width), (down, across), (top, left, bottom, right))


class _Reader:
    """Reads tensors out of a record, and has it made again when it is damaged."""

    def __init__(self, found: Arrays, restore: Callable[[], Arrays] | None) -> None:
        self.found = found
        self.restore = restore

    def tensor(self, kind: str, name: str) -> LazyTensor:
        about = self.found.description[kind][name]
        shape, bits = tuple(about["shape"]), self.found.description["bits"]
        precision, signed = about["precision"], about["signed"]
        form = (bits, signed, precision)

        def make() -> Tensor:
            return Tensor.adopt(
                self.read(f"{kind}/{name}", shape, f"{'i' if signed else 'u'}{bits // 8}"), *form
            )

        return LazyTensor(shape, bits, precision, signed, make)

    def read(self, key: str, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """An array of the record; one of another shape or dtype counts as damage."""
        try:
            array = self.found.read(key)
            if array.shape != shape or array.dtype != np.dtype(dtype):
                raise ValueError(f"{key} is {array.dtype} {array.shape}")
            return array
        except DAMAGED as error:
            if self.restore is None:
                file = getattr(self.found, "path", None)
                raise InputError(f"the file is damaged: {error}", file=file) from error
        self.found = self.restore()
        return self.found.read(key)
