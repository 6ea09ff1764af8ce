"""Pydantic's complaints as errors that point into the file."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from dpred_sim.errors import nearest
from dpred_sim.topology.document import Document, Path_


def validated(
    model: Any, value: Any, document: Document, path: Path_, *, key: bool = False, known: tuple[str, ...] = ()
) -> Any:
    """`value` through a pydantic model or type adapter.

    Raises the first problem (unknown keys before others) as an InputError that points at its place.
    `known` are keys that are allowed there and checked elsewhere.
    """
    try:
        if isinstance(model, TypeAdapter):
            return model.validate_python(value)
        return model.model_validate(value)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=True)
    problem = min(problems, key=lambda p: p["type"] != "extra_forbidden")
    context = problem.get("ctx", {})
    here: Path_ = path + tuple(problem["loc"])
    allowed = context.get("allowed") or context.get("expected")
    if problem["type"] == "extra_forbidden":
        if "key" in context:
            raise document.error(problem["msg"], (*here, context["key"]), key=True, found=context["key"])
        names = _fields(model, tuple(problem["loc"])[:-1], known)
        found = str(here[-1])
        raise document.error(
            f"unknown key{nearest(found, names)}", here, key=True, found=found, allowed=names
        )
    if problem["type"] == "missing":
        raise document.error(f"the key {here[-1]!r} is missing", here[:-1], key=True)
    message = problem["msg"].removeprefix("Value error, ").replace("Input should be", "should be")
    raise document.error(message, here, key=key, found=problem["input"], allowed=allowed)


def _fields(model: Any, loc: tuple[str | int, ...], known: tuple[str, ...]) -> list[str]:
    """Names of the keys of the model at `loc` below `model`."""
    for part in loc:
        field = (
            model.model_fields.get(str(part))
            if isinstance(model, type) and issubclass(model, BaseModel)
            else None
        )
        model = None if field is None else field.annotation
        known = ()
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return list(known)
    return [*known, *(field.alias or name for name, field in model.model_fields.items())]
