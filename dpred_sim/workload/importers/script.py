"""Workload scripts: Python files that define `workload(*, bits, seed) -> Workload`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from itertools import count
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import Any

from dpred_sim.errors import InputError
from dpred_sim.workload.importers.base import Importer, register
from dpred_sim.workload.workload import Workload

_numbers = count()
_now_running: set[Path] = set()


@register("script")
class ScriptImporter(Importer):
    """Runs a script as a module of its own and calls its function `workload`.

    The function takes the keywords `bits` and `seed`, and `inputs` and `quantise` if it wants them.
    Helper modules beside the script can be imported while it runs. What the script prints goes to
    stderr, so that stdout stays the caller's.
    """

    suffixes = (".py",)

    def load(self, path: Path, *, bits: int, quantise: str, inputs: Sequence[Path], seed: int) -> Workload:
        """The workload that the script returns.

        Raises InputError with the script's file and line for whatever goes wrong inside it.
        """
        code = _compiled(path)
        options: dict[str, Any] = {"bits": bits, "seed": seed, "inputs": inputs, "quantise": quantise}
        with _running(path) as module:
            exec(code, module.__dict__)
            function = getattr(module, "workload", None)
            if function is None:
                raise InputError("the script defines no function workload(*, bits, seed)", file=path)
            found = function(**_arguments(path, function, options))
        if not isinstance(found, Workload):
            raise InputError(
                "workload() returns something else than a Workload",
                file=path,
                line=_line_of(function),
                found=type(found).__name__,
                allowed="a dpred_sim.Workload",
            )
        if found.bits != bits:
            raise InputError(
                "workload() returns values of another width than it was asked for",
                file=path,
                line=_line_of(function),
                field="bits",
                found=found.bits,
                allowed=bits,
            )
        return found


def _compiled(path: Path) -> CodeType:
    """The script's code; no byte code is left beside the file. Raises InputError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=path) from error
    if b"\0" in data:
        raise InputError("a binary file, not a workload script", file=path)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            "not UTF-8 text", file=path, line=line, found=f"byte {data[error.start]:#04x}"
        ) from error
    if not text.strip():
        raise InputError("the script is empty", file=path)
    try:
        return compile(text, str(path), "exec", dont_inherit=True)
    except SyntaxError as error:
        raise _syntax_error(path, error) from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"cannot be compiled: {error}", file=path) from error


@contextmanager
def _running(path: Path) -> Iterator[ModuleType]:
    """A fresh module for the script, known to the import system while the script runs.

    Turns any exception of the script into one InputError; an interrupt passes. Modules imported from
    beside the script are forgotten afterwards: another folder may hold others of the same name.
    """
    place = path.resolve()
    if place in _now_running:
        raise InputError("the script loads itself: put that behind `if __name__ == '__main__'`", file=path)
    name = f"dpred_sim_workload_{next(_numbers)}"
    spec = spec_from_file_location(name, path, loader=SourceFileLoader(name, str(path)))
    if spec is None:
        raise InputError("cannot be run as a script", file=path)
    module = module_from_spec(spec)
    before = set(sys.modules)
    search, folder = list(sys.path), place.parent
    # Last on the path: a helper must not hide an installed module.
    sys.path.append(str(folder))
    sys.modules[name] = module
    _now_running.add(place)
    try:
        with redirect_stdout(sys.stderr):
            yield module
    except (Exception, SystemExit) as error:
        raise _script_error(path, error) from error
    finally:
        _now_running.discard(place)
        sys.modules.pop(name, None)
        sys.path[:] = search
        for other in set(sys.modules) - before:
            file = getattr(sys.modules[other], "__file__", None)
            if "." not in other and file is not None and Path(file).parent == folder:
                del sys.modules[other]


def _arguments(path: Path, function: Any, options: dict[str, Any]) -> dict[str, Any]:
    """The options that the function takes, by its signature."""
    if not callable(function):
        raise InputError("`workload` is not a function", file=path, found=type(function).__name__)
    signature = inspect.signature(function)
    parameters = signature.parameters.values()
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
    named = {p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
    optional = {"inputs": bool(options["inputs"]), "quantise": options["quantise"] != "profiled"}
    for option, given in optional.items():
        if takes_all or option in named:
            continue
        if given:
            raise InputError(
                f"this workload takes no {option!r}: its function workload() has no such parameter",
                file=path,
                line=_line_of(function),
                field=option,
            )
        options.pop(option)
    try:
        signature.bind(**options)
    except TypeError as error:
        raise InputError(
            f"workload() cannot be called with the keywords {', '.join(options)}: {error}",
            file=path,
            line=_line_of(function),
        ) from error
    return options


def _script_error(path: Path, error: BaseException) -> InputError:
    """What went wrong in the script, as one InputError with the script's line."""
    if isinstance(error, InputError) and (type(error) is not InputError or error.file is not None):
        return error
    line = _last_line_in(path, error.__traceback__)
    if isinstance(error, InputError):
        return InputError(
            error.message, file=path, line=line, field=error.field, found=error.found, allowed=error.allowed
        )
    if isinstance(error, SyntaxError) and Path(error.filename or "").is_file():
        return _syntax_error(Path(error.filename or ""), error)
    text = " ".join(str(error).split())
    return InputError(
        f"{type(error).__name__}: {text}" if text else type(error).__name__, file=path, line=line
    )


def _syntax_error(path: Path, error: SyntaxError) -> InputError:
    return InputError(
        f"{type(error).__name__}: {error.msg}", file=path, line=error.lineno, column=error.offset
    )


def _last_line_in(path: Path, traceback: TracebackType | None) -> int | None:
    """The innermost line of the script that the exception passed through."""
    line = None
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == str(path):
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line


def _line_of(function: Callable[..., Any]) -> int | None:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return None if code is None else code.co_firstlineno
