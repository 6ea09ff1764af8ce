"""Compute cycles of a workload on every design, each against a baseline of the same peak.

A design says itself at which points it is compared (`Design.equal_peak`), and peaks are measured.
Memory plays no part: cycles are those of `Design.layer_cycles`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from dpred_sim.errors import InputError
from dpred_sim.explore.design_equal import Terms, refuse, terms

if TYPE_CHECKING:
    from dpred_sim.designs.base import ComparisonPoint, Design
    from dpred_sim.workload.layer import Layer
    from dpred_sim.workload.network import Node
    from dpred_sim.workload.workload import Workload

Kind = Literal["conv", "depthwise", "fc", "recurrent", "matmul"]
KINDS: dict[Kind, str] = {
    "conv": "convolutions",
    "depthwise": "depthwise",
    "fc": "fully connected",
    "recurrent": "recurrent",
    "matmul": "products of activations",
}
PRODUCTS = ("conv", "linear")
"""Kinds of layers that have something to compute."""


@runtime_checkable
class _CountsWork(Protocol):
    """A design that tells its work without waits."""

    def work_bits(self, layer: Layer) -> int: ...


@dataclass(frozen=True, slots=True)
class LayerPoint:
    """One layer on one design. Without `cycles` the design refused it, `refused` says why.

    `ideal_cycles` is what remains of the baseline's cycles when each product costs its own work only:
    baseline_cycles * work_bits / (full_work * macs). None where that is not known.
    """

    layer: str
    kind: Kind
    macs: int
    baseline_cycles: int | None
    cycles: int | None
    ideal_cycles: float | None
    refused: str | None = None
    family: str = ""
    """What steps of one recurrence have in common."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Sums over the layers that both the design and its baseline run; `refused` counts the others."""

    layers: int
    refused: int
    macs: int
    baseline_cycles: int
    cycles: int
    ideal_cycles: float | None

    @property
    def speedup(self) -> float | None:
        """Cycles of the baseline over those of the design; None without baseline or layers."""
        return self.baseline_cycles / self.cycles if self.cycles and self.baseline_cycles else None

    @property
    def ideal_speedup(self) -> float | None:
        """Speed-up if every value cost what it needs by itself and nobody waited."""
        return self.baseline_cycles / self.ideal_cycles if self.ideal_cycles else None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**asdict(self), "speedup": self.speedup, "ideal_speedup": self.ideal_speedup}


@dataclass(frozen=True, slots=True)
class DesignPoint:
    """One design at one configuration, over the whole network.

    `peak` is None, and there is no baseline, for a design that names no point and is taken with its defaults.
    `measured_peak` is what the design does with values that need all their bits, in multiply-accumulates a
    cycle, `unequal` in what it differs from its baseline.
    """

    name: str
    label: str
    peak: int | None
    measured_peak: float
    unequal: dict[str, str]
    note: str
    parameters: dict[str, Any]
    baseline_parameters: dict[str, Any] | None
    layers: tuple[LayerPoint, ...]

    def summary(self, kind: Kind | None = None) -> Summary:
        """Sums over the layers of one kind, or over all."""
        mine = [layer for layer in self.layers if kind in (None, layer.kind)]
        ran = [layer for layer in mine if layer.cycles is not None]
        ideals = [layer.ideal_cycles for layer in ran]
        known = [ideal for ideal in ideals if ideal is not None]
        return Summary(
            layers=len(mine),
            refused=len(mine) - len(ran),
            macs=sum(layer.macs for layer in ran),
            baseline_cycles=sum(layer.baseline_cycles or 0 for layer in ran),
            cycles=sum(layer.cycles or 0 for layer in ran),
            ideal_cycles=sum(known) if known and len(known) == len(ideals) else None,
        )

    def refusals(self) -> list[tuple[str, str]]:
        """(layer, reason) of what the design refuses; steps of a recurrence count as one layer."""
        return [(line.layer, line.refused) for line in self.lines() if line.refused is not None]

    def lines(self) -> list[LayerPoint]:
        """The layers, with the steps of each recurrence added up to one called "name[0..n]"."""
        found: list[LayerPoint] = []
        for _, members in groupby(self.layers, key=lambda layer: (layer.family, layer.refused is None)):
            steps = list(members)
            family = steps[0].family
            if not family or len(steps) == 1:
                found += steps
                continue
            ideals = [step.ideal_cycles for step in steps]
            found.append(
                replace(
                    steps[0],
                    layer=f"{family}[0..{len(steps) - 1}]",
                    macs=sum(step.macs for step in steps),
                    baseline_cycles=_sum(step.baseline_cycles for step in steps),
                    cycles=_sum(step.cycles for step in steps),
                    ideal_cycles=None if None in ideals else sum(x for x in ideals if x is not None),
                )
            )
        return found

    def to_dict(self, kinds: Iterable[Kind]) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "design": self.name,
            "configuration": self.label,
            "peak_macs_per_cycle": self.peak,
            "measured_peak_macs_per_cycle": round(self.measured_peak, 1),
            "unequal": self.unequal,
            "note": self.note,
            "parameters": self.parameters,
            "baseline_parameters": self.baseline_parameters,
            "kinds": {kind: self.summary(kind).to_dict() for kind in kinds},
            "total": self.summary().to_dict(),
            "layers": [asdict(layer) for layer in self.layers],
        }


@dataclass(frozen=True, slots=True)
class DesignComparison:
    """All points of one workload."""

    workload: str
    source: str
    synthetic: bool
    bits: int
    points: tuple[DesignPoint, ...]
    skipped: int = 0
    """Layers without products, which no design computes."""
    provenance: dict[str, Any] = field(default_factory=dict)

    def kinds(self) -> list[Kind]:
        """The kinds of layers that the workload has."""
        present = {layer.kind for point in self.points for layer in point.layers}
        return [kind for kind in KINDS if kind in present]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        kinds = self.kinds()
        return {
            "workload": self.workload,
            "source": self.source,
            "synthetic": self.synthetic,
            "bits": self.bits,
            "layers_without_products": self.skipped,
            "provenance": self.provenance,
            "designs": [point.to_dict(kinds) for point in self.points],
        }


def compare_designs(
    workload: Workload, names: Iterable[str] | None = None, *, unequal: bool = False
) -> DesignComparison:
    """Compute cycles of the workload on the named designs (default: all), at each design's own points.

    Raises InputError for an unknown name, for a workload without a layer to compute, and, before any work,
    for a point whose design and baseline differ in peak or mapping, unless `unequal`. A layer that a design
    refuses is reported at its point and left out of that point's sums, baseline included.
    """
    from dpred_sim.designs.base import DESIGNS

    layers = [node for node in workload.network if node.layer.kind in PRODUCTS]
    if not layers:
        raise InputError("no layer has anything to compute", field=f"workload {workload.name!r}")
    chosen = list(dict.fromkeys(names)) if names is not None else DESIGNS.names()
    classes = {name: DESIGNS.get(name) for name in chosen}  # unknown names are told before any work
    offered = [
        (name, found, _terms(name, cls, found, workload.bits, unequal))
        for name, cls in classes.items()
        for found in cls.equal_peak(workload.bits) or (cls(),)
    ]
    known: dict[tuple[Design, int], int | None] = {}
    points = [_point(name, found, measured, layers, known) for name, found, measured in offered]
    return DesignComparison(
        workload=workload.name,
        source=workload.source,
        synthetic=workload.synthetic,
        bits=workload.bits,
        points=tuple(points),
        skipped=len(workload.network) - len(layers),
        provenance=workload.provenance,
    )


def _sum(counts: Iterable[int | None]) -> int | None:
    """The sum of known counts, None when one is not known."""
    known = list(counts)
    return None if None in known else sum(count for count in known if count is not None)


def kind_of(node: Node) -> Kind:
    """Under which heading a layer is summed; the projection before a recurrence is not one of its steps."""
    layer = node.layer
    if node.family:
        return "recurrent"
    if layer.second is not None:
        return "matmul"
    if layer.kind == "linear":
        return "fc"
    return "depthwise" if layer.is_depthwise else "conv"


def _terms(name: str, cls: type[Design], found: ComparisonPoint | Design, bits: int, allowed: bool) -> Terms:
    from dpred_sim.designs.base import ComparisonPoint
    from dpred_sim.explore.peak import design_peak

    if not isinstance(found, ComparisonPoint):
        return Terms(design_peak(found, bits), 0, {})
    measured = terms(name, cls, found, bits)
    if not allowed:
        refuse(name, found.label, measured)
    return measured


def _point(
    name: str,
    found: ComparisonPoint | Design,
    measured: Terms,
    nodes: list[Node],
    known: dict[tuple[Design, int], int | None],
) -> DesignPoint:
    """`known` keeps the baselines' cycles by layer, as several designs share one."""
    from dpred_sim.designs.base import ComparisonPoint

    if isinstance(found, ComparisonPoint):
        made, label, peak, note = found.design, found.label, found.peak, found.note
    else:
        made, label, peak, note = found, "defaults", None, "names no configuration of equal peak"
    rows = []
    for index, node in enumerate(nodes):
        baseline = None
        if isinstance(found, ComparisonPoint):
            key = (found.baseline, index)
            if key not in known:
                known[key] = _cycles(found.baseline, node.layer)[0]
            baseline = known[key]
        rows.append(_layer_point(found, made, node, baseline))
    reference = found.baseline if isinstance(found, ComparisonPoint) else None
    return DesignPoint(
        name,
        label,
        peak,
        measured.peak,
        measured.unequal,
        note,
        parameters_of(made),
        None if reference is None else parameters_of(reference),
        tuple(rows),
    )


def _layer_point(
    found: ComparisonPoint | Design, made: Design, node: Node, baseline: int | None
) -> LayerPoint:
    from dpred_sim.designs.base import ComparisonPoint

    layer = node.layer
    cycles, refused = _cycles(made, layer)
    if isinstance(found, ComparisonPoint) and baseline is None:
        cycles, refused = None, refused or "the baseline refuses it"
    ideal = None
    if (
        cycles is not None
        and baseline is not None
        and isinstance(found, ComparisonPoint)
        and isinstance(made, _CountsWork)
    ):
        ideal = baseline * made.work_bits(layer) / (found.full_work * layer.macs)
    kind = kind_of(node)
    return LayerPoint(layer.name, kind, layer.macs, baseline, cycles, ideal, refused, node.family)


def _cycles(design: Design, layer: Layer) -> tuple[int | None, str | None]:
    """Cycles, or why the design refuses the layer."""
    try:
        return design.layer_cycles(layer).total, None
    except InputError as error:
        return None, str(error)


def parameters_of(design: Design) -> dict[str, Any]:
    """What the design was made with."""
    from dpred_sim.registry import parameter_names

    return {name: getattr(design, name) for name in parameter_names(type(design))}
