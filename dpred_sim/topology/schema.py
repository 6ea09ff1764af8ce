"""What a topology file may say: quantities, the base of all component parameters, links.

The models are used at the boundary only, and are the source of the JSON Schema for editors.
Quantities are written with their unit and kept as whole base units: bits, Hz, cycles, picoseconds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    StringConstraints,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from dpred_sim.errors import InputError
from dpred_sim.units import parse_bits, parse_hertz, parse_quantity, parse_time_ps

SCHEMA = "dpred-topology/1"
"""First key of every topology file: which version of the format it follows."""

MAX_COUNT = 4096
"""Most instances of one node."""

UNLIMITED = "unlimited"
"""Width of a link that never limits."""

_MAX_BITS = 1 << 60
_MAX_HERTZ = 10**12
_MAX_CYCLES = 10**9
_MAX_PS = 10**15
_NUMBER = r"[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?"
_LONG_EXPONENT = re.compile(r"[eE][+-]?[0-9]{3,}")
_MAX_TEXT = 64


def format_bits(bits: int) -> str:
    """Bits as a file writes them: "256 bit", "4 MiB"; exact."""
    for unit, size in (("GiB", 1 << 33), ("MiB", 1 << 23), ("KiB", 1 << 13)):
        if bits % size == 0 and bits >= 1 << 17:
            return f"{bits // size} {unit}"
    return f"{bits} bit"


def format_hertz(hertz: int) -> str:
    """A frequency as a file writes it: "1.2 GHz"; exact."""
    for unit, factor in (("GHz", 10**9), ("MHz", 10**6), ("kHz", 10**3)):
        if hertz >= factor:
            return f"{_decimal(Fraction(hertz, factor))} {unit}"
    return f"{hertz} Hz"


def format_cycles(cycles: int) -> str:
    """Cycles as a file writes them: "4 cycle"."""
    return f"{cycles} cycle"


def format_ps(ps: int) -> str:
    """A time as a file writes it: "13.75 ns"; exact."""
    return f"{_decimal(Fraction(ps, 10**3))} ns"


def format_width(bits: int | None) -> str:
    """Width of a link as a file writes it: "256 bit" or "unlimited"."""
    return UNLIMITED if bits is None else f"{bits} bit"


def _decimal(value: Fraction) -> str:
    whole, rest = divmod(value.numerator, value.denominator)
    if rest == 0:
        return str(whole)
    digits = ""
    while rest:
        digit, rest = divmod(rest * 10, value.denominator)
        digits += str(digit)
    return f"{whole}.{digits}"


def _read_cycles(text: object) -> int:
    value = parse_quantity(text, "cycles").value
    if value.denominator != 1:
        raise InputError("not a whole number of cycles", found=text)
    return int(value)


def _checked(text: object, parse: Callable[[object], int], maximum: int, show: Callable[[int], str]) -> int:
    """Read a quantity; errors carry what is allowed, and huge numbers are refused unread."""
    out_of_range = PydanticCustomError("quantity", "out of range", {"allowed": f"at most {show(maximum)}"})
    if isinstance(text, str) and (len(text) > _MAX_TEXT or _LONG_EXPONENT.search(text)):
        raise out_of_range
    try:
        value = parse(text)
    except InputError as error:
        raise PydanticCustomError(
            "quantity", "{message}", {"message": error.message, "allowed": error.allowed}
        ) from None
    if value > maximum:
        raise out_of_range
    return value


def _quantity(parse: Callable[[object], int], maximum: int, show: Callable[[int], str]) -> BeforeValidator:
    def read(text: object) -> int:
        return _checked(text, parse, maximum, show)

    return BeforeValidator(read)


def _text_schema(units: str, *examples: str) -> WithJsonSchema:
    return WithJsonSchema(
        {"type": "string", "pattern": rf"^\s*{_NUMBER}\s*({units})\s*$", "examples": list(examples)}
    )


_BITS = r"bit|B|[KMG]ib|[KMG]i?bit|[kMG]bit|[KMG]iB|[kMG]B"

Bits = Annotated[
    int,
    _quantity(parse_bits, _MAX_BITS, format_bits),
    PlainSerializer(format_bits, return_type=str, when_used="json"),
    _text_schema(_BITS, "256 bit", "4 MiB"),
]
"""Information in bits, written "256 bit" or "4 MiB"; positive."""

Hertz = Annotated[
    int,
    _quantity(parse_hertz, _MAX_HERTZ, format_hertz),
    PlainSerializer(format_hertz, return_type=str, when_used="json"),
    _text_schema("[kMG]?Hz", "1 GHz"),
]
"""A frequency in Hz, written "1 GHz"; positive, at most 1 THz (the period is whole picoseconds)."""

Cycles = Annotated[
    int,
    _quantity(_read_cycles, _MAX_CYCLES, format_cycles),
    PlainSerializer(format_cycles, return_type=str, when_used="json"),
    _text_schema("cycles?|nCK", "4 cycle"),
]
"""Cycles of the component's clock, written "4 cycle"; zero allowed."""

TimePs = Annotated[
    int,
    _quantity(parse_time_ps, _MAX_PS, format_ps),
    PlainSerializer(format_ps, return_type=str, when_used="json"),
    _text_schema("ps|ns|us|ms|s", "13.75 ns"),
]
"""A time in picoseconds, written "13.75 ns"."""


def _width(text: object) -> int | None:
    return None if text == UNLIMITED else _checked(text, parse_bits, _MAX_BITS, format_bits)


Count = Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
"""A bare number of things, at least 1."""


def _scalar(value: object) -> object:
    if isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise PydanticCustomError("scalar", "not a single value", {"allowed": "a number, a word, true or false"})


Scalar = Annotated[
    bool | int | float | str,
    PlainValidator(_scalar),
    WithJsonSchema({"type": ["boolean", "number", "string"]}),
]
"""Value of a parameter whose meaning another part of the package knows."""

Name = Annotated[str, StringConstraints(strict=True, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=64)]
"""A name: letters, digits and underscores, not starting with a digit."""


class Parameters(BaseModel):
    """Base of the parameters of every component kind: fields of one node of a topology file.

    `forwards` says that routes may pass through a component of this kind (routers do; memories,
    buffers, dispatchers and tiles are ends of a route).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    forwards: ClassVar[bool] = False

    clock: Name = Field(default="core", description="Clock domain of the component.")


class Stores(BaseModel):
    """How a memory stores values: a codec by name and its parameters, as further keys.

    The codec and its parameters are checked by whoever knows the codecs; see `load.load`.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, Scalar] = Field(init=False)

    codec: str = Field(default="raw", strict=True, description="Name of a codec.")

    @property
    def options(self) -> dict[str, Any]:
        """Parameters of the codec that the file gives."""
        return dict(self.__pydantic_extra__ or {})


class Converter(BaseModel):
    """Packs and unpacks groups where a transfer's encoding differs from the memory's.

    No source gives figures for such a unit: all defaults are assumptions. 16 groups of 16 values a
    cycle keep a raw 16-bit pallet (4096 bit) flowing, so that by default the converter limits nothing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    groups: Count = Field(default=16, description="Groups a unit converts in one cycle (assumption).")
    latency: Cycles = Field(default=4, description="Cycles from a group's entry to its exit (assumption).")
    units: Count = Field(default=1, description="Units working side by side (assumption).")


class Repeated(BaseModel):
    """Keys that every node of a file may carry, whatever its kind."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str = Field(strict=True, description="Component kind.")
    count: Annotated[int, Field(strict=True, ge=1, le=MAX_COUNT)] | None = Field(
        default=None, description="Makes this many instances, called name.0, name.1 and so on."
    )


Medium = Literal["point", "bus", "broadcast"]


def _references(value: object) -> tuple[str, ...]:
    items = value if isinstance(value, list | tuple) else [value]
    texts = ["".join(item.split()) for item in items if isinstance(item, str)]
    if len(texts) != len(items) or not all(texts) or not texts:
        raise PydanticCustomError(
            "reference",
            "not a reference to nodes",
            {"allowed": "a node's name, name[*], name[0..3], name[3], name[i], or a list of them"},
        )
    return tuple(texts)


References = Annotated[
    tuple[str, ...],
    BeforeValidator(_references),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}],
            "examples": ["dram", "tile[*]", "tile[0..3]", "weights[i]"],
        }
    ),
]
"""Nodes that a link joins, as written in the file."""

Width = Annotated[
    int | None,
    BeforeValidator(_width),
    PlainSerializer(format_width, return_type=str, when_used="json"),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": rf"^\s*{_NUMBER}\s*({_BITS})\s*$"},
                {"const": UNLIMITED},
            ],
            "examples": ["256 bit", UNLIMITED],
        }
    ),
]
"""Bits that enter a link in one cycle of its clock; None is unlimited."""


class LinkDeclaration(BaseModel):
    """One entry of `links`, after `between` was taken apart into its two directions."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    name: Annotated[str, StringConstraints(strict=True, pattern=r"^[^\s=]+$", max_length=400)] | None = Field(
        default=None, description="Name in reports and --set; default from->to."
    )
    sources: References = Field(alias="from", description="Where data comes from.")
    targets: References = Field(alias="to", description="Where data goes.")
    medium: Medium = Field(
        default="point",
        description="point: one sender, one receiver. bus: one transfer at a time, one arbiter. "
        "broadcast: one sender, all receivers get every transfer.",
    )
    width: Width = Field(description="Bits a cycle, or unlimited.")
    latency: Cycles = Field(
        default=1, description="Cycles from the entry of a bit to its arrival (assumption)."
    )
    clock: Name = Field(default="core", description="Clock domain of the link.")


class RouteDeclaration(BaseModel):
    """One entry of `routes`: the links to take where the shortest path is not the one wanted."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    source: str = Field(alias="from", strict=True, description="Instance where the route starts.")
    target: str = Field(alias="to", strict=True, description="Instance where the route ends.")
    via: Annotated[list[Annotated[str, Field(strict=True)]], Field(min_length=1)] = Field(
        description="Names of the links, in order."
    )
