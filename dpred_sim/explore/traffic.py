"""What each codec makes of a workload's values: sizes by layer and kind, over inputs and workloads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import exp, log
from typing import Any

from dpred_sim.codecs.base import CODECS, Codec, codec
from dpred_sim.errors import InputError, nearest
from dpred_sim.simulation.paper_traffic import KINDS, Counted, container_bits, counted
from dpred_sim.values.layout import check_group_size
from dpred_sim.workload.workload import Workload

TOTAL = "total"
GROUP_SIZES = (8, 16, 32, 64, 128, 256)
DEFAULT_GROUP_SIZE = 16


@dataclass(frozen=True, slots=True)
class Form:
    """One way to store: a codec with its parameters. `label` leaves the group size out."""

    label: str
    codec: Codec
    swept: bool

    @property
    def group_size(self) -> int | None:
        """Values of a group, where comparisons show several."""
        return self.codec.group_size if self.swept else None

    @property
    def title(self) -> str:
        """The label with the group size, if that tells forms apart."""
        return f"{self.label} {self.codec.group_size}" if self.swept else self.label


def forms(names: Sequence[str] | None = None, group_sizes: Sequence[int] = GROUP_SIZES) -> tuple[Form, ...]:
    """All variants of the named codecs (default: all there are), those that are swept at every group size.

    Raises InputError for an unknown codec or a group size that is not positive.
    """
    for size in group_sizes:
        check_group_size(size)
    known = sorted(CODECS.names(), key=lambda name: (CODECS.get(name).rank, name))
    for name in names or ():
        if name not in known:
            raise InputError(f"unknown codec{nearest(name, known)}", field="codec", found=name, allowed=known)
    found = []
    for name in known:
        if names is not None and name not in names:
            continue
        kind = CODECS.get(name)
        for word, parameters in kind.variants.items():
            for size in dict.fromkeys(group_sizes) if kind.swept else (DEFAULT_GROUP_SIZE,):
                made = codec(name, group_size=size, **parameters)
                found.append(Form(f"{name} {word}".strip(), made, kind.swept))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of one layer: its raw bits, and its bits in each form."""

    layer: str
    kind: str
    raw_bits: int
    stored_bits: tuple[int, ...]


@dataclass(frozen=True)
class Sample:
    """The traffic of one input."""

    name: str
    source: str
    entries: tuple[Entry, ...]

    def ratio(self, form: int, kind: str = TOTAL, layer: str | None = None) -> float | None:
        """Stored bits over raw bits; None where there is nothing of that kind."""
        stored = raw = 0
        for entry in self.entries:
            if kind in (TOTAL, entry.kind) and layer in (None, entry.layer):
                stored += entry.stored_bits[form]
                raw += entry.raw_bits
        return stored / raw if raw else None


@dataclass(frozen=True)
class Traffic:
    """The traffic of one workload at one width, for one or several inputs.

    `hindsight` are the forms whose activations were sized with what was learned on them.
    """

    workload: str
    bits: int
    synthetic: bool
    forms: tuple[Form, ...]
    samples: tuple[Sample, ...]
    hindsight: frozenset[int] = frozenset()
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def layers(self) -> list[str]:
        """Names of the layers, in order."""
        return list(dict.fromkeys(entry.layer for entry in self.samples[0].entries))

    def ratios(self, form: int, kind: str = TOTAL, layer: str | None = None) -> list[float]:
        """The ratio of every input."""
        found = [sample.ratio(form, kind, layer) for sample in self.samples]
        return [ratio for ratio in found if ratio is not None]

    def mean(self, form: int, kind: str = TOTAL, layer: str | None = None) -> float | None:
        """Arithmetic mean over inputs."""
        return arithmetic_mean(self.ratios(form, kind, layer))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: bits of every tensor in every form, and the ratios of the network."""
        rows = []
        for index, form in enumerate(self.forms):
            ratios: dict[str, Any] = {}
            for kind in (*KINDS, TOTAL):
                found = self.ratios(index, kind)
                if found:
                    ratios[kind] = {
                        "mean": _rounded(self.mean(index, kind)),
                        "lowest": _rounded(min(found)),
                        "highest": _rounded(max(found)),
                    }
            rows.append(
                {
                    "codec": form.label,
                    "group_size": form.group_size,
                    "hindsight": index in self.hindsight,
                    "ratio": ratios,
                }
            )
        return {
            "workload": self.workload,
            "bits": self.bits,
            "synthetic": self.synthetic,
            "ratio_to": f"{self.bits} bits a value",
            "codecs": rows,
            "inputs": [
                {
                    "input": sample.name,
                    "source": sample.source,
                    "tensors": [
                        {
                            "layer": entry.layer,
                            "kind": entry.kind,
                            "raw_bits": entry.raw_bits,
                            "stored_bits": list(entry.stored_bits),
                        }
                        for entry in sample.entries
                    ],
                }
                for sample in self.samples
            ],
        }


def measure(workloads: Sequence[tuple[str, Workload]], wanted: Sequence[Form]) -> Traffic:
    """Traffic of one network on several inputs: (name of the input, workload) each.

    What a codec learns offline, it learns for activations on the other inputs; with one input only on
    that one, which is said in `hindsight`. Raises InputError when the workloads are not one network.
    """
    columns = [list(counted(workload)) for _, workload in workloads]
    for (name, _), items in zip(workloads, columns, strict=True):
        same = [(item.layer, item.kind) for item in items] == [(i.layer, i.kind) for i in columns[0]]
        if not same:
            raise InputError("an input makes another network than the first one", field="input", found=name)
    entries: list[list[Entry]] = [[] for _ in columns]
    hindsight: set[int] = set()
    # Tensor by tensor, so that values are made once.
    for row in zip(*columns, strict=True):
        for number, item in enumerate(row):
            others = [other for index, other in enumerate(row) if index != number]
            sizes = []
            for index, form in enumerate(wanted):
                made = _taught(form.codec, item, others)
                if item.source is not None and made.needs_hindsight(item.role):
                    hindsight.add(index)
                sizes.append(container_bits(made, item))
            entries[number].append(Entry(item.layer, item.kind, item.raw_bits, tuple(sizes)))
    first = workloads[0][1]
    samples = tuple(
        Sample(name, workload.source, tuple(found))
        for (name, workload), found in zip(workloads, entries, strict=True)
    )
    return Traffic(first.name, first.bits, first.synthetic, tuple(wanted), samples, frozenset(hindsight))


def _taught(made: Codec, item: Counted, others: Sequence[Counted]) -> Codec:
    """The codec with what it learns of this tensor on other inputs; weights are known beforehand."""
    if item.role == "weights" or item.source is None or not made.needs_hindsight(item.role):
        return made
    return made.learned([other.source for other in others if other.source is not None])


def arithmetic_mean(values: Iterable[float]) -> float | None:
    """None of nothing."""
    found = list(values)
    return sum(found) / len(found) if found else None


def geometric_mean(values: Iterable[float]) -> float | None:
    """None of nothing; 0 where a value is 0."""
    found = list(values)
    if not found or min(found) <= 0:
        return 0.0 if found else None
    return exp(sum(map(log, found)) / len(found))


def means(traffics: Sequence[Traffic]) -> list[dict[str, Any]]:
    """Arithmetic and geometric means over workloads of one width, a row a form, JSON-ready."""
    rows = []
    for index, form in enumerate(traffics[0].forms):
        row: dict[str, Any] = {"codec": form.label, "group_size": form.group_size}
        for kind in (*KINDS, TOTAL):
            found = [ratio for traffic in traffics if (ratio := traffic.mean(index, kind)) is not None]
            row[kind] = {
                "arithmetic": _rounded(arithmetic_mean(found)),
                "geometric": _rounded(geometric_mean(found)),
            }
        rows.append(row)
    return rows


def _rounded(ratio: float | None) -> float | None:
    return None if ratio is None else round(ratio, 6)
