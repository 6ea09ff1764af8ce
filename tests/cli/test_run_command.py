from __future__ import annotations

import json
import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from dpred_sim.cli.main import main
from dpred_sim.cli.run import baseline_for
from dpred_sim.locate import ready_made_names

ROOT = Path(__file__).resolve().parents[2]
STYLE = re.compile(r"\x1b\[[0-9;]*m")

SCRIPT = """
import numpy as np
import dpred_sim as dp

print("the script was read")


def workload(*, bits, seed):
    rng = np.random.default_rng(seed)
    network = dp.Network()
    shape, shapes = (24, 24, 32), [(48, 1, 1, 32), (64, 3, 3, 48)]
    for i, kernel in enumerate(shapes):
        a = dp.Tensor(rng.integers(0, 1 << (bits // 2), shape), bits=bits)
        w = dp.Tensor(rng.integers(-(1 << (bits // 3)), 1 << (bits // 3), kernel), bits=bits)
        network.add(dp.Layer.conv2d(f"conv{i + 1}", a, w, padding=kernel[1] // 2))
        shape = (24, 24, kernel[0])
    a = dp.Tensor(rng.integers(0, 100, 24 * 24 * 64).astype(int), bits=bits)
    network.add(dp.Layer.linear("fc", a, dp.Tensor(rng.integers(-9, 9, (10, 24 * 24 * 64)), bits=bits)))
    return dp.Workload("small", network, bits, source="random numbers", synthetic=True)


if __name__ == "__main__":
    dp.run_script(__file__)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "small.py"
    path.write_text(SCRIPT)
    return path


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "NO_COLOR": "1"}


def start(script: Path, *words: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "dpred_sim", "run", str(script), *words],
        stdout=subprocess.PIPE,
        stderr=options.pop("stderr", subprocess.PIPE),
        text=True,
        env=environment(),
        **options,
    )


def test_the_report_of_a_run(script: Path, capsys) -> None:
    assert main(["run", str(script)]) == 0
    out, err = capsys.readouterr()
    assert "small on dpred_stripes_ddr4, 16 bit, batch 1, seed 0" in out
    assert "SYNTHETIC values: random numbers" in out
    for name in ("conv1", "conv2", "fc", "total of 3"):
        assert f"\n{name} " in out
    assert out.count("small (SYNTHETIC values) in ") == 1
    last = out.rstrip().splitlines()
    assert last[-2].startswith("next: dpred-sim run ") and "--baseline dadiannao_ddr4" in last[-2]
    assert Path(last[-1].removeprefix("edit: ")).is_file()
    assert [line.split(":")[0] for line in err.splitlines()] == [
        "the script was read",
        "layer 1/3 conv1",
        "layer 2/3 conv2",
        "layer 3/3 fc",
    ]


def test_no_live_keeps_stderr_empty(script: Path, capsys) -> None:
    assert main(["run", str(script), "--no-live"]) == 0
    assert capsys.readouterr().err == "the script was read\n"


def test_json_is_one_document_and_nothing_else(script: Path, capsys) -> None:
    assert main(["run", str(script), "--json"]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document["workload"] == "small" and len(document["layers"]) == 3
    assert err == "the script was read\n"


def test_the_next_command_runs_as_printed(script: Path, capsys) -> None:
    main(["run", str(script), "--no-live", "--seed", "3", "--set", "nodes.tile.rows=8"])
    line = capsys.readouterr().out.rstrip().splitlines()[-2]
    words = shlex.split(line.removeprefix("next: "))
    assert words[0] == "dpred-sim"
    assert words[-6:] == ["--set", "nodes.tile.rows=8", "--seed", "3", "--baseline", "dadiannao_ddr4"]
    assert main([*words[1:], "--no-live"]) == 0
    after = capsys.readouterr().out.rstrip().splitlines()[-2]
    assert after.startswith("next: dpred-sim ") and "--baseline" not in after


def test_a_comparison(script: Path, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "out"
    line = ["run", str(script), "--baseline", "dadiannao_ddr4", "--no-live"]
    assert main([*line, "--out", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "small: dpred_stripes_ddr4 against dadiannao_ddr4, 16 bit, SYNTHETIC values" in out
    assert "stored:" in out and "whole network, times as fast" in out
    assert "times as fast as dadiannao_ddr4 with raw storage" in out
    assert main([*line, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    comparison = document["comparison"]
    assert len(comparison["cells"]) == 8
    assert comparison == json.loads((folder / "comparison.json").read_text())
    own = [
        c
        for c in comparison["cells"]
        if (c["compute"], c["storage"], c["memory"]) == ("design", "compressed", "real")
    ]
    assert own[0]["cycles"] == document["total_cycles"]
    assert all(c["cycles"] >= c["conv_cycles"] > 0 for c in comparison["cells"])


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["alexnt"], "did you mean 'alexnet'"),
        (["no/such.py"], "no such workload file"),
        (["{tmp}"], "no importer reads such a workload folder"),
        (["{script}", "--topology", "dpred_strips_ddr4"], "did you mean 'dpred_stripes_ddr4'"),
        (["{script}", "--topology", "none.yaml"], "no such topology file"),
        (["{script}", "--set", "nodes.tile.count"], "nodes.tile.count"),
        (["{script}", "--set", "nodes.tiles.count=8"], "tiles"),
        (["{script}", "--set", "nodes.tile.count=-1"], "nodes.tile.count"),
        (["{script}", "--bits", "12"], "bits"),
        (["{script}", "--seed", "-1"], "seed"),
        (["{script}", "--batch", "0"], "--batch"),
        (["{script}", "--input", "{tmp}/none.png"], "none.png"),
        (["{script}", "--pace", "soon"], "--pace"),
        (["{script}", "--pace", "-3s"], "--pace"),
        (["{script}", "--pace", "3"], "--pace"),
        (["{script}", "--pace", "3 MiB"], "--pace"),
        (["{script}", "--force"], "--force"),
        (["{script}", "--baseline", "dadianao_ddr4"], "did you mean 'dadiannao_ddr4'"),
        (["{script}", "--topology", "{script}"], "small.py"),
        (["{script}", "--out", "{script}"], "this is not a folder"),
        (["{script}", "--out", "{tmp}"], "--force"),
        (["{tmp}/raises.py"], "raises.py:1"),
        (["{tmp}/binary.py"], "binary.py"),
        (["{script}", "--set", "clocks.core=2 GHz", "--baseline", "dadiannao_ddr4"], "clock"),
    ],
)
def test_bad_input_is_one_line_exit_2_and_nothing_written(
    script: Path, tmp_path: Path, capsys, words: list[str], part: str
) -> None:
    (tmp_path / "raises.py").write_text("1 / 0\n")
    (tmp_path / "binary.py").write_bytes(bytes(range(256)))
    before = sorted(tmp_path.iterdir())
    line = ["run", *(word.format(script=script, tmp=tmp_path) for word in words)]
    assert main(line) == 2
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    error = err.splitlines()[-1]
    assert error.startswith("error: ") and part in error
    assert out == ""
    assert main([*line, "--json"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and json.loads(err.splitlines()[-1])["error"] == "InputError"
    assert sorted(path for path in tmp_path.iterdir() if path.name != "__pycache__") == before


def test_results_do_not_depend_on_how_they_are_shown(script: Path, tmp_path: Path, capsys) -> None:
    shown = {
        "no": ["--no-live"],
        "plain": ["--live"],
        "paced": ["--live", "--pace", "500ms"],
        "json": ["--json"],
    }
    for name, words in shown.items():
        assert main(["run", str(script), *words, "--out", str(tmp_path / name)]) == 0
    capsys.readouterr()
    for file in ("run.json", "layers.csv", "components.csv"):
        assert len({(tmp_path / name / file).read_bytes() for name in shown}) == 1


def test_an_existing_folder_is_replaced_only_by_force(script: Path, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "new" / "out"
    line = ["run", str(script), "--no-live", "--out", str(folder)]
    assert main(line) == 0
    (folder / "mine.txt").write_text("kept")
    assert main(line) == 2
    assert (folder / "mine.txt").exists() and "--force" in capsys.readouterr().err
    assert main([*line, "--force"]) == 0
    assert json.loads((folder / "run.json").read_text())["complete"] is True


def test_a_failing_view_does_not_fail_the_run(script: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    from dpred_sim.observe.plain import PlainView

    def fail(*args: object) -> None:
        raise ZeroDivisionError("no room")

    main(["run", str(script), "--no-live"])
    expected = capsys.readouterr().out
    monkeypatch.setattr(PlainView, "update", fail)
    assert main(["run", str(script), "--live", "--pace", "30s"]) == 0
    out, err = capsys.readouterr()
    assert out == expected
    assert err.count("\n") == 2 and "the view stopped (ZeroDivisionError: no room)" in err
    monkeypatch.setattr(PlainView, "__init__", fail)
    assert main(["run", str(script), "--live"]) == 0
    out, err = capsys.readouterr()
    assert out == expected and err.count("\n") == 2 and "no view" in err


@pytest.mark.parametrize("as_json", [False, True])
def test_ctrl_c_stops_the_run_and_leaves_what_was_done(script: Path, tmp_path: Path, as_json: bool) -> None:
    folder = tmp_path / "out"
    more = ["--json"] if as_json else []
    with start(script, "--live", "--pace", "40s", "--out", str(folder), *more) as process:
        assert process.stderr is not None
        seen = ""
        while "layer 1/3" not in seen:
            seen = process.stderr.readline()
            assert seen, "the run ended"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    last = err.splitlines()[-1]
    assert str(folder) in (json.loads(last)["message"] if as_json else last)
    assert out == "" or not as_json
    document = json.loads((folder / "run.json").read_text())
    assert document["complete"] is False
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "small.py"]


def on_a_terminal(script: Path, *words: str, rows: int = 30, columns: int = 100) -> tuple[int, str, str]:
    """Exit code, what stdout (a pipe) got, what the terminal behind stderr got."""
    import fcntl
    import struct
    import termios

    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    with start(script, *words, stderr=slave) as process:
        os.close(slave)
        drawn = b""
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if select.select([master], [], [], 0.1)[0]:
                try:
                    part = os.read(master, 1 << 16)
                except OSError:
                    break
                drawn += part
        assert process.stdout is not None
        out = process.stdout.read()
    os.close(master)
    return process.returncode, out, STYLE.sub("", drawn.decode())


def test_on_a_terminal_the_view_is_live_and_stdout_stays_clean(script: Path) -> None:
    code, out, drawn = on_a_terminal(script, "--pace", "1s")
    assert code == 0
    assert "\x1b" not in out and "total of 3" in out
    assert "\x1b[?25l" in drawn and drawn.rindex("\x1b[?25h") > drawn.rindex("\x1b[?25l")
    assert drawn.count("small on dpred_stripes_ddr4") >= 4 and "SYNTHETIC values" in drawn
    assert "tile[*] x16" in drawn and " 100%" in drawn


def test_on_a_terminal_json_and_no_live_draw_nothing(script: Path) -> None:
    for words in (["--json"], ["--no-live"]):
        code, _, drawn = on_a_terminal(script, *words)
        assert code == 0 and "\x1b" not in drawn


def test_a_script_is_a_program(script: Path) -> None:
    done = subprocess.run(
        [sys.executable, script.name, "--topology", "stripes_ddr4", "--json"],
        cwd=script.parent,
        capture_output=True,
        text=True,
        env=environment(),
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.partition("\n")[2])["topology"] == "stripes_ddr4"
    wrong = subprocess.run(
        [sys.executable, script.name, "--bits", "7"],
        cwd=script.parent,
        capture_output=True,
        text=True,
        env=environment(),
        timeout=60,
    )
    assert wrong.returncode == 2 and "bits" in wrong.stderr and "Traceback" not in wrong.stderr


@pytest.mark.parametrize(
    ("topology", "baseline"),
    [
        ("dpred_stripes_ddr4", "dadiannao_ddr4"),
        ("stripes_ddr4", "dadiannao_ddr4"),
        ("dpred_stripes_8b_ddr4", "dadiannao_8b_ddr4"),
        ("dpred_stripes_2ch", "dadiannao_ddr4"),
        ("scnn_ddr4", "dadiannao_1024_ddr4"),
        ("scnn_dpred_8b_ddr4", "dadiannao_1024_8b_ddr4"),
        ("bit_fusion_8b_ddr4", "dadiannao_512_8b_ddr4"),
        ("mine.yaml", "dadiannao_ddr4"),
        ("dadiannao_ddr4", None),
        ("dadiannao_dpred_ddr4", None),
    ],
)
def test_the_baseline_that_is_proposed(topology: str, baseline: str | None) -> None:
    assert baseline_for(topology, ready_made_names("topologies", ".yaml")) == baseline
