"""Errors a user can meet, and the exit code that each of them becomes."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from traceback import walk_tb
from typing import Any


class DpredError(Exception):
    """Base of every error that the package raises on purpose."""

    exit_code = 1

    def to_dict(self) -> dict[str, Any]:
        """The error as one JSON-ready object."""
        return {"error": type(self).__name__, "message": str(self)}


class InputError(DpredError):
    """Something that the user gave is wrong.

    Says where (`file`, `line`, `column`, `field`), what was `found` and what is `allowed`;
    parts that are unknown are None and are left out of the message.
    """

    exit_code = 2

    def __init__(
        self,
        message: str,
        *,
        file: str | Path | None = None,
        line: int | None = None,
        column: int | None = None,
        field: str | None = None,
        found: object = None,
        allowed: object = None,
    ) -> None:
        self.message = message
        self.file = None if file is None else str(file)
        self.line = line
        self.column = column
        self.field = field
        self.found = found
        self.allowed = allowed
        super().__init__(self._text())

    def _text(self) -> str:
        where = ""
        if self.file is not None:
            where = self.file
            if self.line is not None:
                where += f":{self.line}"
                if self.column is not None:
                    where += f":{self.column}"
            where += ": "
        text = where + (f"{self.field}: " if self.field else "") + self.message
        if self.found is not None:
            text += f"; found {_shown(self.found)}"
        if self.allowed is not None:
            text += f"; allowed: {_shown(self.allowed, quote=False)}"
        return text

    def to_dict(self) -> dict[str, Any]:
        """The error as one JSON-ready object, a key for each known part."""
        parts = {
            "error": type(self).__name__,
            "message": self.message,
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "field": self.field,
            "found": None if self.found is None else _shown(self.found, quote=False),
            "allowed": None if self.allowed is None else _shown(self.allowed, quote=False),
        }
        return {key: value for key, value in parts.items() if value is not None}


class MissingExtra(InputError):
    """An optional dependency is not installed; the message names the extra that brings it."""

    def __init__(self, extra: str, purpose: str) -> None:
        self.extra = extra
        super().__init__(f"{purpose} needs the extra [{extra}]: pip install 'dpred-sim[{extra}]'")


class SimulationError(DpredError):
    """The simulation itself failed."""


class Deadlock(SimulationError):
    """Events ran out and work is left; the message names who waits for what, since when."""


class InvariantBroken(SimulationError):
    """A guarantee of every run does not hold: the result cannot be trusted."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint such as " (did you mean 'dpred'?)", or an empty string."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""


def blame(error: Exception) -> Exception:
    """What to raise for an exception from code that a user may have written.

    When a frame outside this package and outside installed ones is a user's, that is an InputError
    naming the innermost such line (with what an InputError said already); else the exception itself:
    the fault is ours, or nobody's line is to blame.
    """
    if isinstance(error, DpredError) and (not isinstance(error, InputError) or error.file is not None):
        return error
    package = Path(__file__).resolve().parent
    places = [(Path(frame.f_code.co_filename), line) for frame, line in walk_tb(error.__traceback__)]
    theirs = [
        (file, line)
        for file, line in places
        if file.is_file() and package not in file.resolve().parents and "site-packages" not in file.parts
    ]
    if not theirs:
        return error
    file, line = theirs[-1]
    if isinstance(error, InputError):
        return InputError(
            error.message, file=file, line=line, field=error.field, found=error.found, allowed=error.allowed
        )
    return InputError(f"raised {type(error).__name__}: {error}", file=file, line=line)


def _shown(value: object, *, quote: bool = True) -> str:
    if isinstance(value, str):
        text = repr(value) if quote else value
    elif isinstance(value, list | tuple | set | frozenset):
        text = ", ".join(str(item) for item in value)
    else:
        text = str(value)
    return text if len(text) <= 300 else text[:297] + "..."
