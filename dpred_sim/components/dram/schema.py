"""Shape of a DRAM standard file, and its reader."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from dpred_sim.errors import InputError, nearest
from dpred_sim.units import parse_bits, parse_quantity


def _quantity(*dimensions: str) -> Callable[[str], str]:
    """A validator that leaves the text as it is; errors as pydantic wants them."""

    def check(text: str) -> str:
        try:
            parse_quantity(text, *dimensions)
        except InputError as error:
            raise ValueError(f"{error.message}; allowed: {error.allowed}") from None
        return text

    return check


def _check_bits(text: str) -> str:
    try:
        parse_bits(text)
    except InputError as error:
        raise ValueError(error.message) from None
    return text


Time = Annotated[str, AfterValidator(_quantity("time"))]
_Either = Annotated[str, AfterValidator(_quantity("time", "cycles"))]
TimeOrClocks = _Either | list[_Either]
Clocks = Annotated[str, AfterValidator(_quantity("cycles"))]
Bits = Annotated[str, AfterValidator(_check_bits)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Organisation(_Strict):
    """What a device and a channel are made of."""

    density: Bits
    """Of one device (of one channel's share of a stack for HBM)."""
    device_width: Bits
    bus: Bits
    """Width of a channel."""
    ranks: int = 1
    bank_groups: int
    banks_per_group: int
    page: Bits
    """Row of one device."""
    burst_length: int
    transfers_per_clock: int = 2
    """Data transfers a command clock: 2 for DDR, 8 for LPDDR5 with WCK:CK = 4:1."""


class TimingFile(_Strict):
    """Timing under the JEDEC names. `tREFI`, `tRFC` are times; latencies may be clocks."""

    tCK: Time
    CL: Clocks
    CWL: Clocks
    tRCD: TimeOrClocks | None = None
    tRCDRD: TimeOrClocks | None = None
    tRCDWR: TimeOrClocks | None = None
    tRP: TimeOrClocks
    tRAS: TimeOrClocks
    tRC: TimeOrClocks | None = None
    tCCD_S: TimeOrClocks
    tCCD_L: TimeOrClocks | None = None
    tCCD_L_WR: TimeOrClocks | None = None
    """Writes in one bank group, where it differs from reads (DDR5)."""
    tRRD_S: TimeOrClocks
    tRRD_L: TimeOrClocks | None = None
    tFAW: TimeOrClocks
    tWR: TimeOrClocks
    tRTP: TimeOrClocks
    tWTR_S: TimeOrClocks
    tWTR_L: TimeOrClocks | None = None
    tRTW: TimeOrClocks | None = None
    """Read to write command; default CL + burst + 2 nCK - CWL."""
    tRTRS: TimeOrClocks = "2 nCK"
    tREFI: Time
    tRFC: Time
    tREFIpb: Time | None = None
    tRFCpb: Time | None = None


class StandardFile(_Strict):
    """A whole file."""

    schema_: Literal["dpred-dram/1"] = Field(alias="schema")
    name: str
    protocol: str
    source: str
    mapping: str | None = None
    refresh: Literal["all_bank", "per_bank"] = "all_bank"
    organisation: Organisation
    timing: TimingFile


def read_standard_file(path: Path) -> StandardFile:
    """Read and check one file; raises InputError with file, line and field."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        document = YAML(typ="rt", pure=True).load(path.read_text(encoding="utf-8"))
    except MarkedYAMLError as error:
        mark = error.problem_mark
        raise InputError(
            str(error.problem),
            file=path,
            line=None if mark is None else mark.line + 1,
            column=None if mark is None else mark.column + 1,
        ) from None
    except (YAMLError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"not a YAML file: {error}", file=path) from None
    if not isinstance(document, dict):
        raise InputError("a DRAM standard is a mapping", file=path, allowed=list(StandardFile.model_fields))
    try:
        parsed = StandardFile.model_validate(_plain(document))
    except ValidationError as error:
        raise _input_error(error, document, path) from None
    if parsed.timing.tRCD is None and parsed.timing.tRCDRD is None:
        raise InputError("tRCD is missing", file=path, field="timing.tRCD")
    return parsed


def _plain(node: Any) -> Any:
    """Strings, ints, lists and dicts without the reader's own classes."""
    if isinstance(node, dict):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(value) for value in node]
    if isinstance(node, str):
        return str(node)
    return node


def _input_error(error: ValidationError, document: Any, path: Path) -> InputError:
    """The first problem that pydantic found, with its line."""
    # an unknown key first: it often is the missing one, misspelt
    first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    keys = [part for part in first["loc"] if not (isinstance(part, str) and "[" in part)]
    node, line = document, None
    names: list[str] = []
    for part in keys:
        if isinstance(node, dict) and part in node:
            line = node.lc.value(part)[0] + 1 if hasattr(node, "lc") else line
            node = node[part]
            names.append(str(part))
        elif isinstance(node, list) and isinstance(part, int) and part < len(node):
            node = node[part]
            names.append(str(part))
        elif first["type"] in ("missing", "extra_forbidden"):
            names.append(str(part))
    message = str(first["msg"]).removeprefix("Value error, ")
    allowed: list[str] | None = None
    if first["type"] == "extra_forbidden":
        models: dict[str, type[BaseModel]] = {"organisation": Organisation, "timing": TimingFile}
        model = models.get(names[0], StandardFile)
        allowed = [field.alias or name for name, field in model.model_fields.items()]
        message = f"unknown key{nearest(names[-1], allowed)}"
    elif first["type"] == "string_type":
        message = "a quantity needs a unit, such as '13.75 ns' or '22 nCK'"
    found = None if isinstance(node, dict) else node
    return InputError(message, file=path, line=line, field=".".join(names), found=found, allowed=allowed)
