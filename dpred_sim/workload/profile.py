"""Profiles: for every tensor of a network, how many bits its values need.

A profile is a JSON file, committed with a model or kept beside it. It fixes for each stored tensor and
each layer's weights the precision (sign included), whether values are signed, and the largest
magnitude, so that the integers made with it depend on nothing else. `dpred-sim profile` makes one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from dpred_sim.cache import write_atomic
from dpred_sim.errors import InputError

SCHEMA = "dpred-profile/1"
SUFFIX = ".profile.json"
"""A profile beside a model is called after it: `net.onnx`, `net.profile.json`."""


MOST_BITS = 16
"""The width of values whose low-order bits a profile leaves away."""

UNPROFILED = (
    "Its values are unprofiled: every tensor keeps all 16 bits of its range, low-order bits that the network "
    "does not need included, so that bytes and cycles are far more than with a profile."
)
"""What is said of a 16-bit workload with real values and no profile."""


@dataclass(frozen=True, slots=True)
class Format:
    """How the values of one tensor become integers: `precision` bits hold magnitudes up to `limit`."""

    precision: int
    signed: bool
    limit: float


@dataclass(frozen=True)
class Profile:
    """Formats of `activations` (stored tensors by name, `input` among them) and `weights` (by layer).

    `about` says how they were found: tolerances, calibration inputs, errors, versions. JSON-ready.
    """

    model_sha256: str
    activations: Mapping[str, Format]
    weights: Mapping[str, Format]
    about: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The profile, JSON-ready."""
        return {
            "schema": SCHEMA,
            "model_sha256": self.model_sha256,
            "about": dict(self.about),
            **{
                kind: {
                    name: {"precision": f.precision, "signed": f.signed, "limit": f.limit}
                    for name, f in formats.items()
                }
                for kind, formats in (("activations", self.activations), ("weights", self.weights))
            },
        }


def beside(model: Path) -> Path | None:
    """The profile beside a model, if there is one."""
    path = model.with_suffix(SUFFIX)
    return path if path.is_file() else None


def format_about(
    place: Path | None,
    model_sha256: str,
    bits: int,
    rule: str,
    missing: str,
    about: dict[str, Any],
    called: str = "",
) -> tuple[Profile | None, str]:
    """The profile in the file `place` that a rule takes, and how values are quantised, in words.

    What decides the integers is entered in `about`, and where a profile is missing what that does: see
    `Workload.notes`. `missing` is the name of a profile that is not there, `called` what one is called
    instead of its file. Raises InputError for a profile of another model.
    """
    about["quantise"] = rule
    how = f"{bits} bits, {rule.replace('_', ' ')}"
    name, comma, options = rule.partition(",")
    if name.strip() != "profiled":
        return None, how
    if place is None:
        about["quantise"] = f"full_range{comma}{options}"
        if bits == MOST_BITS:
            about["notes"] = [UNPROFILED]
        return None, f"{bits} bits, full range of each tensor (no {missing}){comma}{options}"
    profile = read_profile(place)
    if profile.model_sha256 != model_sha256:
        raise InputError(
            "the profile belongs to another model",
            file=place,
            field="model_sha256",
            found=profile.model_sha256,
            allowed=model_sha256,
        )
    about["profile"] = profile_about(place, profile)
    what = "ranges" if bits == 8 else "precisions"
    return profile, f"{bits} bits, {what} of {called or place.name}{comma}{options}"


def profile_about(path: Path, profile: Profile) -> dict[str, Any]:
    """What a workload's provenance says of a profile: file, SHA-256 of its content, how it was made."""
    digest = hashlib.sha256(json.dumps(profile.to_dict(), sort_keys=True).encode()).hexdigest()
    return {"file": path.name, "sha256": digest, **profile.about}


def write_profile(path: Path, profile: Profile) -> None:
    """Write a profile, one tensor a line."""
    found = profile.to_dict()
    lines = [f'"{key}": {json.dumps(found[key])}' for key in ("schema", "model_sha256")]
    lines.append(f'"about": {json.dumps(found["about"], indent=1)}')
    for kind in ("activations", "weights"):
        entries = [f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in found[kind].items()]
        lines.append(f'"{kind}": {{\n' + ",\n".join(entries) + "\n}")
    text = "{\n" + ",\n".join(lines) + "\n}\n"

    def write(stream: IO[bytes]) -> None:
        stream.write(text.encode("utf-8"))

    write_atomic(path, write)


def read_profile(path: Path) -> Profile:
    """Read a profile; raises InputError with the place of what is wrong."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=path) from error
    except UnicodeDecodeError as error:
        raise InputError("not UTF-8 text", file=path) from error
    except json.JSONDecodeError as error:
        raise InputError(error.msg, file=path, line=error.lineno, column=error.colno) from error
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        schema = found.get("schema") if isinstance(found, dict) else type(found).__name__
        raise InputError("not a profile", file=path, field="schema", found=schema, allowed=SCHEMA)
    keys = {"model_sha256": str, "about": dict, "activations": dict, "weights": dict}
    for key, kind in keys.items():
        if not isinstance(found.get(key), kind):
            raise InputError("missing, or of the wrong kind", file=path, field=key, allowed=kind.__name__)
    formats = {
        kind: {name: _format(path, f"{kind}: {name}", value) for name, value in found[kind].items()}
        for kind in ("activations", "weights")
    }
    return Profile(found["model_sha256"], formats["activations"], formats["weights"], found["about"])


def _format(path: Path, field: str, value: Any) -> Format:
    try:
        precision, signed, limit = value["precision"], value["signed"], float(value["limit"])
        right = set(value) == {"precision", "signed", "limit"} and isinstance(signed, bool)
        right = (
            right
            and isinstance(precision, int)
            and 1 + signed <= precision <= 16
            and 0 <= limit < float("inf")
        )
    except (TypeError, KeyError, ValueError):
        right = False
    if not right:
        raise InputError(
            "not a format",
            file=path,
            field=field,
            found=str(value),
            allowed='{"precision": 1..16 (2..16 signed), "signed": true or false, "limit": a magnitude}',
        )
    return Format(precision, signed, limit)
