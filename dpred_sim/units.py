"""Quantities with units: "4 MiB", "1 GHz", "13.75 ns", "22 nCK", "256 bit".

A bare number is never a quantity: it is a count. Time is in integer picoseconds, information in bits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from dpred_sim.errors import InputError

_NUMBER = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z/]+)\s*$")

_LONG_EXPONENT = re.compile(r"[eE][+-]?[0-9]{3,}")

_SI = {"k": 10**3, "M": 10**6, "G": 10**9}
_IEC = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}

UNITS: dict[str, dict[str, Fraction]] = {
    "information": {
        "bit": Fraction(1),
        "B": Fraction(8),
        **{f"{prefix}b": Fraction(factor) for prefix, factor in _IEC.items()},
        **{f"{prefix}bit": Fraction(factor) for prefix, factor in {**_IEC, **_SI}.items()},
        **{f"{prefix}B": Fraction(8 * factor) for prefix, factor in {**_IEC, **_SI}.items()},
    },
    "frequency": {"Hz": Fraction(1), "kHz": Fraction(10**3), "MHz": Fraction(10**6), "GHz": Fraction(10**9)},
    "time": {
        "ps": Fraction(1),
        "ns": Fraction(10**3),
        "us": Fraction(10**6),
        "ms": Fraction(10**9),
        "s": Fraction(10**12),
    },
    "cycles": {"cycle": Fraction(1), "cycles": Fraction(1), "nCK": Fraction(1)},
}
"""Units by dimension, each with its factor to bit, Hz, ps and cycle."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number of base units (bit, Hz, ps, cycle) of one dimension."""

    value: Fraction
    dimension: str


def parse_quantity(text: object, *dimensions: str) -> Quantity:
    """Read a quantity of one of `dimensions`.

    Raises InputError when the text is no quantity, carries no unit, or a unit of another dimension.
    """
    allowed = [unit for dimension in dimensions for unit in UNITS[dimension]]
    example = ", ".join(f"'4 {next(iter(UNITS[dimension]))}'" for dimension in dimensions)
    if not isinstance(text, str):
        raise InputError(f"a quantity needs a unit, such as {example}", found=text, allowed=allowed)
    match = _NUMBER.match(text)
    if match is None or _LONG_EXPONENT.search(text):
        raise InputError(f"not a quantity such as {example}", found=text, allowed=allowed)
    number, unit = match.groups()
    for dimension in dimensions:
        factor = UNITS[dimension].get(unit)
        if factor is not None:
            return Quantity(Fraction(number) * factor, dimension)
    raise InputError(f"wrong unit {unit!r}", found=text, allowed=allowed)


def parse_bits(text: object) -> int:
    """Information as a whole number of bits ("4 MiB", "256 bit")."""
    return _whole(parse_quantity(text, "information"), text, "bits")


def parse_hertz(text: object) -> int:
    """A frequency in Hz ("1 GHz")."""
    return _whole(parse_quantity(text, "frequency"), text, "Hz")


def parse_time_ps(text: object) -> int:
    """A time in picoseconds, rounded ("13.75 ns")."""
    return round(parse_quantity(text, "time").value)


def period_ps(hertz: int) -> int:
    """The period of a clock, rounded once to whole picoseconds."""
    return max(1, round(Fraction(10**12, hertz)))


def _whole(quantity: Quantity, text: object, unit: str) -> int:
    if quantity.value.denominator != 1 or quantity.value <= 0:
        raise InputError(f"not a positive whole number of {unit}", found=text)
    return int(quantity.value)


def format_bytes(count: float) -> str:
    """Bytes for people: "1.5 MiB"."""
    for unit in ("B", "KiB", "MiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def format_time(ps: float) -> str:
    """A time for people, three digits: "1.52 ms"."""
    for unit, factor in (("s", 10**12), ("ms", 10**9), ("us", 10**6), ("ns", 10**3)):
        # What rounds up to 1000 of a unit belongs to the next larger one.
        if abs(ps) >= factor * 0.9995:
            return f"{ps / factor:.3g} {unit}"
    return f"{ps:.0f} ps"
