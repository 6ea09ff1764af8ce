"""Whether a design and its baseline are compared on equal terms: peak, and mapping of layers to tiles.

Peaks are measured (`peak.design_peak`), not declared. Memories play no part here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dpred_sim.errors import InputError
from dpred_sim.explore.peak import design_peak

if TYPE_CHECKING:
    from dpred_sim.designs.base import ComparisonPoint, Design

TOLERANCE = 0.005
"""By how much a measured peak may be off: start-up of designs whose steps overlap."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a point of comparison measures up to."""

    peak: float
    """Multiply-accumulates a cycle of the design."""
    baseline_peak: float
    unequal: dict[str, str]
    """What differs, `peak` or a parameter of the mapping: how it is here, against there."""


def terms(name: str, cls: type[Design], point: ComparisonPoint, bits: int) -> Terms:
    """The terms of a point of the design `name`, made by `cls`.

    Raises InputError where the design has not said itself how it is compared, but inherits it, and its peak
    is not the one that is claimed, or the point is another design's; and for a design that refuses the layer
    that should fill it.
    """
    peak, against = (_measured(name, one, bits) for one in (point.design, point.baseline))
    owner = next(base for base in cls.__mro__ if "equal_peak" in vars(base))
    other = not isinstance(point.design, cls)
    if owner is not cls and (other or _off(peak, point.peak)):
        raise InputError(
            f"a point of comparison that is inherited from {owner.__name__} does not fit, {point.label}",
            field=f"design {name}: equal_peak",
            found=type(point.design).__name__ if other else f"{peak:,.0f} multiply-accumulates a cycle",
            allowed=f"{cls.__name__ if other else f'{point.peak:,}'}, or an equal_peak of its own",
        )
    unequal = {}
    if _off(peak, against):
        unequal["peak"] = f"{peak:,.0f} against {against:,.0f}"
    elif _off(peak, point.peak):
        unequal["peak"] = f"{peak:,.0f}, said to be {point.peak:,}"
    ours, theirs = point.design.mapping, point.baseline.mapping
    unequal |= {
        key: f"{_text(value)} against {_text(theirs[key])}"
        for key, value in ours.items()
        if key in theirs and theirs[key] != value
    }
    return Terms(peak, against, unequal)


def refuse(name: str, label: str, found: Terms) -> None:
    """Raises InputError where the terms are unequal."""
    if found.unequal:
        raise InputError(
            f"design and baseline are compared on unequal terms, {label}",
            field=f"design {name}: equal_peak",
            found="; ".join(f"{key} {how}" for key, how in found.unequal.items()),
            allowed="equal peak and mapping, or --unequal to see it all the same",
        )


def _measured(name: str, design: Design, bits: int) -> float:
    try:
        return design_peak(design, bits)
    except InputError as error:
        raise InputError(
            f"the peak cannot be measured: {error}", field=f"design {name}: filling", found=design.filling()
        ) from error


def _off(peak: float, other: float) -> bool:
    return abs(peak / other - 1) > TOLERANCE


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
