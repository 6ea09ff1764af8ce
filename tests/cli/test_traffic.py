"""`dpred-sim traffic`."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from dpred_sim.cli.main import main
from tests.test_readme import PYTHON  # a small workload script

SCRIPT = PYTHON[0]


@pytest.fixture
def script(tmp_path: Path) -> str:
    path = tmp_path / "mine.py"
    path.write_text(SCRIPT)
    return str(path)


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["traffic", *words])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_two_widths_of_two_workloads(capsys: pytest.CaptureFixture[str], script: str) -> None:
    code, out, err = run(capsys, script, script, "--bits", "16,8", "--group-sizes", "16", "--layers")
    assert (code, err) == (0, "")
    assert out.count("mine, 16 bit: size in each codec") == 4  # a table and one of layers, twice
    assert out.count("2 workloads, 8 bit: total traffic") == 1
    assert out.count("arithmetic mean") == 2


def test_json_and_csv_say_the_same(capsys: pytest.CaptureFixture[str], script: str) -> None:
    words = (script, "--codecs", "dpred,raw", "--group-sizes", "8,16")
    code, out, _ = run(capsys, *words, "--json")
    document = json.loads(out)
    assert code == 0
    (found,) = document["workloads"]
    assert [row["codec"] for row in found["codecs"]][:2] == ["raw", "dpred plain"]
    ratio = {(row["codec"], row["group_size"]): row["ratio"]["total"]["mean"] for row in found["codecs"]}
    assert document["means"][0]["codecs"][1]["total"]["arithmetic"] == ratio["dpred plain", 8]
    code, out, _ = run(capsys, *words, "--csv")
    rows = [row for row in csv.DictReader(io.StringIO(out)) if row["layer"] == "*" and row["kind"] == "total"]
    assert {
        (row["codec"], int(row["group_size"]) if row["group_size"] else None): float(row["ratio"])
        for row in rows
    } == ratio


def test_a_plot_is_drawn(capsys: pytest.CaptureFixture[str], script: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "traffic.svg"
    code, _, err = run(capsys, script, "--codecs", "dpred,bdi", "--plot", str(path))
    assert (code, err) == (0, "")
    text = path.read_text()
    assert text.startswith("<?xml") and "SYNTHETIC" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--bits", "12"), "value width"),
        (("--bits", "16,"), "a name is empty"),
        (("--bits", "many"), "not numbers"),
        (("--group-sizes", "-8"), "not numbers"),
        (("--group-sizes", "0"), "group_size"),
        (("--codecs", "bdii"), "did you mean 'bdi'"),
        (("--json", "--csv"), "one format at a time"),
        (("--plot", "x.pdf"), "unknown kind of picture"),
        (("--input", "a.png", "more.py"), "inputs belong to one network"),
        (("--input", "none.png"), "no such input file"),
    ],
)
def test_what_is_refused(
    capsys: pytest.CaptureFixture[str], script: str, words: tuple[str, ...], message: str
) -> None:
    code, out, err = run(capsys, script, *words)
    assert (code, out) == (2, "")
    assert message in err and "Traceback" not in err and len(err.splitlines()) == 1
