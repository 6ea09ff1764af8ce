"""The program `dpred-sim`: commands found by scanning this folder, and what becomes of their errors.

Every module here that has a function `add_to(app)` registers its commands with it: a new command is one
new file. Command bodies import what they need, so that starting costs little.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import os
import pkgutil
import sys
from collections.abc import Sequence
from typing import Annotated, Any, cast

import typer

from dpred_sim import __version__
from dpred_sim.errors import DpredError

PROGRAM = "dpred-sim"
INTERRUPTED = 130
OWN_BUG = 70
BAD_USAGE = 2

UsageError = typer.BadParameter.__mro__[1]
"""Base of all wrong command lines, wherever the installed typer keeps it."""


def build_app() -> typer.Typer:
    """The whole command line, one `add_to` a module of this folder."""
    app = typer.Typer(
        name=PROGRAM,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog="Example:  dpred-sim run alexnet --baseline dadiannao_ddr4",
    )
    app.callback()(_program)
    package = importlib.import_module("dpred_sim.cli")
    for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda found: found.name):
        if module.name == "main" or module.name.startswith("_"):
            continue
        importlib.import_module(f"dpred_sim.cli.{module.name}").add_to(app)
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"{PROGRAM} {__version__}")
        raise typer.Exit()


def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
    traceback: Annotated[
        bool, typer.Option("--traceback", help="Show where an error came from; allowed anywhere.")
    ] = False,
) -> None:
    """Simulate deep-learning accelerators with per-group dynamic precision, on real values."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (default: `sys.argv[1:]`) and return its exit code.

    0 done, 1 the simulation failed, 2 bad input, 130 interrupted, 70 a bug of the program itself.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    own = words[: words.index("--")] if "--" in words else words
    as_json = "--json" in own
    with_traceback = "--traceback" in own
    if with_traceback:
        words.remove("--traceback")
    try:
        code = _invoke(words)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except SystemExit as stop:
        if isinstance(stop.__context__, BrokenPipeError):  # how rich, which draws the help, leaves
            return _reader_left()
        raise
    except Exception as error:
        if isinstance(error, BrokenPipeError):
            return _reader_left()
        code, report = _describe(error)
        _print_error(error, report, as_json=as_json, with_traceback=with_traceback or code == OWN_BUG)
        return code
    except KeyboardInterrupt as error:
        report = {"error": "Interrupted", "message": str(error) or "interrupted"}
        _print_error(error, report, as_json=as_json, with_traceback=with_traceback)
        return INTERRUPTED


def _invoke(words: list[str]) -> int:
    command = cast(Any, typer.main.get_command(build_app()))
    _no_help_unasked(command)
    try:
        with command.make_context(PROGRAM, words or ["--help"]) as context:
            command.invoke(context)
    except typer.Exit as stop:
        return stop.exit_code
    return 0


def _no_help_unasked(command: Any) -> None:
    """A group without its command is a wrong command line like any other, not a call for help on stdout."""
    for below in getattr(command, "commands", {}).values():
        below.no_args_is_help = False
        _no_help_unasked(below)


def _describe(error: Exception) -> tuple[int, dict[str, Any]]:
    """Exit code of an error, and the error as a JSON-ready object."""
    if isinstance(error, DpredError):
        return error.exit_code, error.to_dict()
    if isinstance(error, UsageError):
        return BAD_USAGE, {"error": "UsageError", "message": _usage_text(error)}
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EIO, errno.EDQUOT):
        return 1, {"error": "OutputError", "message": f"cannot write the output: {error.strerror}"}
    if isinstance(error, MemoryError):
        return 1, {"error": "OutOfMemory", "message": "not enough memory for this run"}
    text = f"{type(error).__name__}: {error}"
    return OWN_BUG, {
        "error": "InternalError",
        "message": f"{text}; this is a bug of {PROGRAM}: please report it",
    }


def _usage_text(error: Any) -> str:
    context = getattr(error, "ctx", None)
    text = " ".join(error.format_message().split()).rstrip(".")
    if text == "Missing command" and context is not None:
        text += f"; allowed: {', '.join(sorted(context.command.commands))}"
    return text if context is None else f"{text} (see {context.command_path} --help)"


def _print_error(
    error: BaseException, report: dict[str, Any], *, as_json: bool, with_traceback: bool
) -> None:
    """One JSON object on stderr, or one line of text; a traceback before it when wanted."""
    import traceback

    trace = "".join(traceback.format_exception(error)) if with_traceback else ""
    if sys.stderr is None:
        return
    try:
        if as_json:
            print(json.dumps(report | ({"traceback": trace} if trace else {})), file=sys.stderr)
            return
        if trace:
            print(trace, file=sys.stderr, end="")
        text = str(error) if isinstance(error, DpredError) else report["message"]
        label = "error:" if report["error"] != "Interrupted" else ""
        if label and _coloured(sys.stderr):
            label = typer.style(label, fg="red", bold=True)
        print(f"{label} {text}".strip(), file=sys.stderr)
    except OSError:
        pass  # nobody reads stderr


def _coloured(stream: Any) -> bool:
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _reader_left() -> int:
    """Whoever read stdout closed it: nothing more to say, and nothing for Python to flush at exit."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(devnull, sys.stdout.fileno())
    return 0
