"""The live view and the replay as somebody at a terminal meets them."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from dpred_sim.cli.main import main
from tests.cli.screen import Screen, program

SIZES = [(80, 24), (160, 50)]
SCRIPT = """
import numpy as np
import dpred_sim as dp


def workload(*, bits, seed):
    rng = np.random.default_rng(seed)
    network = dp.Network()
    shape = (24, 24, 32)
    for i in range(4):
        a = dp.Tensor(rng.integers(0, 200, shape), bits=bits)
        w = dp.Tensor(rng.integers(-60, 60, (64, 3, 3, shape[2])), bits=bits)
        network.add(dp.Layer.conv2d(f"conv{i + 1}", a, w, padding=1))
        shape = (24, 24, 64)
    return dp.Workload("small", network, bits, source="random numbers", synthetic=True)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a workload, its results and its record, made without a view."""
    folder = tmp_path_factory.mktemp("view")
    (folder / "small.py").write_text(SCRIPT)
    words = ["run", str(folder / "small.py"), "--no-live", "--out", str(folder / "plain")]
    assert main(words) == 0
    assert main([*words[:-1], str(folder / "recorded"), "--trace", str(folder / "small.dpred")]) == 0
    return folder


def shown(text: str, label: str) -> str:
    """The line of the screen that begins with a label."""
    return next((line for line in text.splitlines() if line.startswith(label)), "")


@pytest.mark.parametrize(("columns", "rows"), SIZES)
def test_a_run_is_watched_paused_stepped_and_finished(
    made: Path, tmp_path: Path, columns: int, rows: int
) -> None:
    out, record = tmp_path / "out", tmp_path / "run.dpred"
    words = program("run", str(made / "small.py"), "--pace", "60s", "--out", str(out), "--trace", str(record))
    with Screen(words, columns, rows) as screen:
        first = screen.until("small on dpred_stripes_ddr4", "SYNTHETIC values", "60 s a run", "space pause")
        assert shown(first, "run ") and shown(first, "layer ") and shown(first, "DRAM ")
        for name in ("dram", "weight_dma", "activations", "dispatcher", "tile[*] x16"):
            assert re.search(rf"^{re.escape(name)} ", first, re.MULTILINE), name
        assert ("groups of 16 values" in first) == (columns >= 120)
        assert all(line.strip() for line in first.splitlines()[:8]), "no hole at the top"

        screen.press(" ")
        screen.until("paused", "space go on")
        seen = []
        for key in ("e", "e", "p", "p"):
            screen.press(key)
            seen.append(shown(screen.until("paused"), "run "))
        screen.press("l")
        screen.until("2 of 4  conv2", "paused")
        screen.press("n")
        screen.until("3 of 4  conv3", "paused")
        screen.press("b")
        screen.until("cannot go back")

        screen.press("\r")
        screen.until("  tile.0  ", "  tile.15 ", "busy ")
        screen.press("\x1b[A\x1b[A")
        screen.press("?")
        screen.until("pause, go on", "leave the view")
        screen.press("?")
        screen.until("component", gone="pause, go on")

        screen.press("0 ")
        assert screen.end() == 0
        assert screen.is_restored()
        assert "total of 4" in screen.text or "next: dpred-sim" in screen.text
    for name in ("run.json", "layers.csv", "components.csv"):
        assert (out / name).read_bytes() == (made / "plain" / name).read_bytes(), name
        assert (out / name).read_bytes() == (made / "recorded" / name).read_bytes(), name
    assert record.read_bytes() == (made / "small.dpred").read_bytes()


@pytest.mark.parametrize(("columns", "rows"), SIZES)
def test_a_record_is_replayed_forward_and_back(made: Path, columns: int, rows: int) -> None:
    words = program("replay", str(made / "small.dpred"), "--pace", "100s", "--follow", "dispatcher,tile.3")
    with Screen(words, columns, rows) as screen:
        screen.until("small on dpred_stripes_ddr4", "replay", "100 s a run")
        screen.press("n")
        screen.until("2 of 4  conv2")
        screen.press(" n")
        third = screen.until("3 of 4  conv3", "paused")
        screen.press("p")
        screen.until("pass of", "paused")
        screen.press("e")
        stepped = screen.until("conv3", "tile.3")
        assert shown(stepped, "run ") != shown(third, "run ")
        screen.press("L")
        again = screen.until("3 of 4  conv3", "paused")
        screen.press("b")
        screen.until("2 of 4  conv2")
        screen.press("n")
        assert shown(screen.until("3 of 4  conv3"), "bytes") == shown(again, "bytes") == shown(third, "bytes")
        screen.press("0 ")
        screen.until("100%", "4 of 4", "paused")
        screen.press("b")
        screen.until("4 of 4  conv4", gone="100%  4 of 4")
        screen.press("q")
        assert screen.end() == 0 and screen.is_restored()
        assert "Traceback" not in screen.text


@pytest.mark.parametrize("command", ["run", "replay"])
def test_ctrl_c_gives_the_terminal_back(made: Path, tmp_path: Path, command: str) -> None:
    record = tmp_path / "half.dpred"
    words = {
        "run": ["run", str(made / "small.py"), "--pace", "600s", "--trace", str(record)],
        "replay": ["replay", str(made / "small.dpred"), "--pace", "600s"],
    }[command]
    with Screen(program(*words), 80, 24) as screen:
        screen.until("space pause")
        screen.press("\x03")
        assert screen.end() == 130
        assert screen.is_restored() and "interrupted" in screen.text and "Traceback" not in screen.text
    if command == "run":
        with Screen(program("replay", str(record), "--text"), 80, 24) as screen:
            assert screen.end() == 0 and "this run did not end" in screen.raw.decode()


def test_sigterm_gives_the_terminal_back_and_leaves_no_half_of_a_record(made: Path, tmp_path: Path) -> None:
    words = program("run", str(made / "small.py"), "--pace", "600s", "--trace", str(tmp_path / "x.dpred"))
    with Screen(words, 80, 24) as screen:
        screen.until("space pause")
        screen.process.terminate()
        assert screen.end() == 143 and screen.is_restored()
    assert not list(tmp_path.iterdir())


BROKEN = """
import sys
from dpred_sim.simulation.engine import Simulation
from dpred_sim.cli.main import main
from dpred_sim.errors import Deadlock

advance = Simulation.advance

def broken(self, max_events=1):
    if self.env.now > 2_000_000:
        raise {error}
    return advance(self, max_events)

Simulation.advance = broken
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [("Deadlock('nobody moves')", 1, "nobody moves"), ("RuntimeError('a bug')", 70, "a bug")],
)
def test_an_error_gives_the_terminal_back(
    made: Path, tmp_path: Path, error: str, code: int, said: str
) -> None:
    record = tmp_path / "failed.dpred"
    words = ["run", str(made / "small.py"), "--pace", "5s", "--trace", str(record)]
    with Screen([sys.executable, "-c", BROKEN.replace("{error}", error), *words], 80, 24) as screen:
        assert screen.end() == code
        assert screen.is_restored() and said in screen.text
    # A failed simulation leaves its record, a bug of the program does not.
    assert record.exists() == (code == 1)
    assert sorted(tmp_path.iterdir()) == ([record] if code == 1 else [])


def test_ctrl_z_gives_the_terminal_back_and_the_view_comes_again(made: Path) -> None:
    shell = shutil.which("bash")
    if shell is None:
        pytest.skip("job control needs a shell")
    with Screen([shell, "--norc", "--noprofile", "-i"], 80, 24, folder=made, PS1="ready> ") as screen:
        screen.until("ready>")
        ours = " ".join(program("replay", "small.dpred", "--pace", "600s"))
        screen.press(f"{ours}\r")
        screen.until("space pause", "600 s a run")
        screen.press("\x1a")
        screen.until("Stopped", "ready>", gone="space pause")
        assert b"\x1b[?1049l" in screen.raw[-2000:] and b"\x1b[?25h" in screen.raw[-2000:]
        screen.press("stty -a | grep -o ' icanon'; stty -a | grep -o ' echo '\r")
        screen.until("\n icanon", "\n echo")
        screen.press("fg\r")
        screen.until("space pause", "600 s a run")
        screen.press(" ")
        screen.until("paused")
        screen.press("q")
        screen.until("ready>", gone="paused")
        screen.press("exit\r")
        assert screen.end() == 0 and screen.is_restored()


def test_the_view_follows_the_size_of_its_terminal(made: Path) -> None:
    with Screen(program("replay", str(made / "small.dpred"), "--pace", "600s"), 80, 24) as screen:
        screen.until("space pause")
        for columns, rows in ((60, 20), (160, 50), (30, 8), (100, 30)):
            screen.resize(columns, rows)
            text = screen.until("run     ", "component" if rows >= 20 else "layer", last=" space")
            assert text.splitlines()[0].startswith("small on")
            assert ("groups of 16 values" in text) == (columns >= 120)
        screen.press("q")
        assert screen.end() == 0 and screen.is_restored()


def test_without_a_keyboard_there_are_no_keys_and_it_ends_by_itself(made: Path) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    try:
        words = program("replay", str(made / "small.dpred"), "--pace", "2s")
        with Screen(words, 80, 24, stdin=nothing) as screen:
            screen.until("small on dpred_stripes_ddr4", "2 s a run")
            assert "space pause" not in screen.text
            assert screen.end() == 0 and screen.is_restored()
            assert "100%" in screen.text, "the last frame stays"
    finally:
        os.close(nothing)


def test_no_colour_and_no_unicode(made: Path) -> None:
    words = program("replay", str(made / "small.dpred"), "--pace", "600s")
    more = {"NO_COLOR": "1", "PYTHONIOENCODING": "ascii", "LANG": "C", "PYTHONUTF8": "0"}
    with Screen(words, 80, 24, **more) as screen:
        text = screen.until("space pause", "##")
        assert text.isascii() and screen.raw.isascii()
        colours = {
            code for codes in re.findall(rb"\x1b\[([0-9;]*)m", screen.raw) for code in codes.split(b";")
        }
        assert not colours & {str(code).encode() for code in (*range(30, 38), 38, *range(90, 98))}
        screen.press("q")
        assert screen.end() == 0


def test_a_dumb_terminal_gets_lines(made: Path) -> None:
    with Screen(program("run", str(made / "small.py")), 80, 24, TERM="dumb") as screen:
        assert screen.end() == 0
        assert b"layer 1/4 conv1" in screen.raw and b"\x1b[?" not in screen.raw
    with Screen(program("replay", str(made / "small.dpred")), 80, 24, TERM="dumb") as screen:
        assert screen.end() == 0
        assert b"dispatcher  conv1  pass of" in screen.raw and b"\x1b[?" not in screen.raw
