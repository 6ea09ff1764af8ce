"""What commands show and read of plug-ins: parameters with defaults, a line of description, settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from dpred_sim.errors import InputError


def parameter_defaults(cls: Callable[..., Any]) -> dict[str, Any]:
    """Parameters of a plug-in with their defaults; None where there is none."""
    return {
        name: None if parameter.default is inspect.Parameter.empty else parameter.default
        for name, parameter in inspect.signature(cls).parameters.items()
        if name != "self"
    }


def first_line(cls: Callable[..., Any]) -> str:
    """First line of a plug-in's docstring."""
    return (inspect.getdoc(cls) or "").partition("\n")[0]


def shown(parameters: dict[str, Any]) -> str:
    """Parameters on one line, as `--set` takes them."""
    return " ".join(f"{key}={_written(value)}" for key, value in parameters.items())


def parse_settings(settings: Iterable[str]) -> dict[str, Any]:
    """Parameters from words such as `columns=8`: whole numbers, true and false, else text.

    Raises InputError for a word without `=` and for a key given twice.
    """
    parameters: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        key = key.strip()
        if not equals or not key:
            raise InputError("not a setting", field="--set", found=setting, allowed="K=V, such as columns=8")
        if key in parameters:
            raise InputError("set twice", field="--set", found=key)
        parameters[key] = _value(value.strip())
    return parameters


def listing(rows: list[dict[str, Any]]) -> str:
    """Plug-ins as text: name and description, parameters below."""
    lines = []
    for row in rows:
        lines.append(f"{row['name']}: {row['description']}")
        if row["parameters"]:
            lines += _wrapped(shown(row["parameters"]))
    return "\n".join(lines)


def described(name: str, cls: Callable[..., Any]) -> dict[str, Any]:
    """A plug-in as one JSON-ready object."""
    return {"name": name, "description": first_line(cls), "parameters": parameter_defaults(cls)}


def _wrapped(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(
        text, width=100, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False
    )


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _value(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    try:
        return int(text)
    except ValueError:
        return text
