"""The program as such: exit codes, errors, help, start-up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from dpred_sim.cli.main import build_app, main
from dpred_sim.errors import Deadlock, InputError

ROOT = Path(__file__).resolve().parents[2]


def program(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """`python -m dpred_sim` as a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, "-m", "dpred_sim", *words],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        **options,
    )


def commands() -> list[tuple[str, ...]]:
    """The words of every command and group of the program."""

    def walk(command: Any, words: tuple[str, ...]) -> list[tuple[str, ...]]:
        found = [words]
        for name, below in sorted(getattr(command, "commands", {}).items()):
            found += walk(below, (*words, name))
        return found

    return walk(typer.main.get_command(build_app()), ())


@pytest.fixture
def with_command(monkeypatch: pytest.MonkeyPatch):
    """Put a command `fail` into the program that raises what the test gives."""
    from dpred_sim.cli import design

    def put(error: BaseException) -> None:
        def fail(as_json: bool = typer.Option(False, "--json")) -> None:
            raise error

        def add_to(app: typer.Typer) -> None:
            app.command("fail")(fail)

        monkeypatch.setattr(design, "add_to", add_to)

    return put


def test_all_commands_are_there() -> None:
    found = {" ".join(words) for words in commands()}
    expected = {"run", "layer", "design list", "codec list", "workload list", "workload show"}
    expected |= {f"topology {verb}" for verb in ("check", "show", "convert", "schema")}
    assert expected <= found


@pytest.mark.parametrize("words", commands(), ids=lambda words: " ".join(words) or "dpred-sim")
def test_every_help_has_an_example(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--help"]) == 0
    out, err = capsys.readouterr()
    example = " ".join(out.partition("Example")[2].split())
    assert f"dpred-sim {' '.join(words)}".strip() in example
    assert err == ""


def test_no_words_are_a_call_for_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "Usage: dpred-sim" in capsys.readouterr().out


def test_version_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("dpred-sim ")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["desig"], "Did you mean 'design'"),
        (["run"], "WORKLOAD"),
        (["run", "alexnet", "--bits"], "--bits"),
        (["run", "alexnet", "--bits", "many"], "--bits"),
        (["run", "alexnet", "--no-such-option"], "--no-such-option"),
        (["run", "alexnet", "more"], "more"),
        (["layer"], "--design"),
        (["design"], "Missing command; allowed: "),
        (["workload"], "Missing command; allowed: "),
        (["design", "list", "--jsno"], "--jsno"),
    ],
)
def test_a_wrong_command_line_is_one_message_and_exit_2(
    words: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    assert part in err
    assert main([*words, "--json"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    report = json.loads(err)
    assert report["error"] == "UsageError" or words == ["run", "alexnet", "--bits"]


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (
            InputError("bad", file="a.yaml", line=3, field="size", found=1, allowed="2"),
            2,
            "a.yaml:3: size: bad",
        ),
        (Deadlock("tile.0 waits for weights"), 1, "tile.0 waits for weights"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (KeyboardInterrupt("stopped, see runs/x"), 130, "stopped, see runs/x"),
        (MemoryError(), 1, "not enough memory"),
        (OSError(28, "No space left on device"), 1, "No space left on device"),
        (typer.BadParameter("not that"), 2, "not that"),
    ],
)
def test_errors_become_exit_codes_without_traceback(
    error: BaseException, code: int, text: str, with_command, capsys: pytest.CaptureFixture[str]
) -> None:
    with_command(error)
    assert main(["fail"]) == code
    out, err = capsys.readouterr()
    assert out == "" and text in err and err.count("\n") == 1 and "Traceback" not in err
    assert main(["fail", "--json"]) == code
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert text.split(": ")[-1] in json.loads(err)["message"]
    assert main(["fail", "--traceback"]) == code
    assert "Traceback" in capsys.readouterr().err


def test_an_error_keeps_its_parts_in_json(with_command, capsys: pytest.CaptureFixture[str]) -> None:
    with_command(InputError("bad", file="a.yaml", line=3, column=7, field="size", found=1, allowed="2"))
    main(["fail", "--json"])
    assert json.loads(capsys.readouterr().err) == {
        "error": "InputError",
        "message": "bad",
        "file": "a.yaml",
        "line": 3,
        "column": 7,
        "field": "size",
        "found": "1",
        "allowed": "2",
    }


def test_a_bug_shows_its_traceback_and_asks_for_a_report(
    with_command, capsys: pytest.CaptureFixture[str]
) -> None:
    with_command(ZeroDivisionError("oops"))
    assert main(["fail"]) == 70
    err = capsys.readouterr().err
    assert "Traceback" in err and "raise error" in err
    assert err.splitlines()[-1].startswith("error: ZeroDivisionError: oops; this is a bug")
    assert main(["fail", "--json"]) == 70
    report = json.loads(capsys.readouterr().err)
    assert report["error"] == "InternalError" and "Traceback" in report["traceback"]


def test_json_after_two_dashes_is_no_option(with_command, capsys: pytest.CaptureFixture[str]) -> None:
    with_command(InputError("bad"))
    assert main(["fail", "--", "--json"]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_colour_only_on_a_terminal(with_command, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    with_command(InputError("bad"))
    main(["fail"])
    assert "\x1b" not in capsys.readouterr().err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    main(["fail"])
    assert "\x1b[" in capsys.readouterr().err
    monkeypatch.setenv("NO_COLOR", "1")
    main(["fail"])
    assert "\x1b" not in capsys.readouterr().err


def test_the_module_is_the_program() -> None:
    done = program("design", "list", "--json")
    assert done.returncode == 0 and done.stderr == ""
    assert {row["name"] for row in json.loads(done.stdout)["designs"]} >= {"dadiannao", "stripes"}
    assert program("desig").returncode == 2


@pytest.mark.parametrize("words", [("--help",), ("design", "list"), ("run", "--help")])
def test_a_reader_that_leaves_is_no_error(words: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "dpred_sim", *words],
            stdout=pipe,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            timeout=60,
        )
    assert done.returncode == 0 and done.stderr == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "dpred_sim", "design", "list"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            timeout=60,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot write the output") and "Traceback" not in done.stderr


def test_starting_imports_nothing_heavy() -> None:
    """What makes `--version` quick, told by imports: times differ from machine to machine."""
    code = (
        "import sys; from dpred_sim.cli.main import main; main(['--version']); "
        "print([m for m in ('numpy', 'networkx', 'simpy', 'pydantic.main', 'ruamel.yaml', 'rich.console') "
        "if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
    )
    assert done.stdout.splitlines()[-1] == "[]"
