"""`dram list` and `dram bench`."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from dpred_sim.cli.main import main
from dpred_sim.components.dram.standard import FOLDER, load_standard, standard_names


def bench(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    assert main(["dram", "bench", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_list_names_every_standard(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dram", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["standards"]
    assert [row["name"] for row in rows] == standard_names()
    assert main(["dram", "list"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in standard_names())


@pytest.mark.parametrize("name", standard_names())
def test_sequential_agrees_with_the_closed_form(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    timing = load_standard(name).timing
    expected = 1 - (timing.tRFC + timing.tRP + timing.tRCDRD) / timing.tREFI
    result = bench(capsys, name, "--pattern", "seq_read", "--requests", "2000")
    assert result["fraction_of_peak"] == pytest.approx(expected, rel=0.015)
    assert sum(result["breakdown"].values()) == pytest.approx(1)
    assert result["row_hit_rate"] > 0.9


@pytest.mark.parametrize("pattern", ["seq_write", "rw21", "rw21_aligned", "random", "random_rw", "strided"])
@pytest.mark.parametrize("level", ["bandwidth", "banked", "burst"])
def test_every_pattern_on_every_level(pattern: str, level: str, capsys: pytest.CaptureFixture[str]) -> None:
    result = bench(
        capsys, "DDR4-3200", "--pattern", pattern, "--level", level, "--request", "1KiB", "--requests", "100"
    )
    assert 0 < result["fraction_of_peak"] <= 1
    assert result["requests"] == 100
    assert result["p99_latency_ns"] >= result["mean_latency_ns"] > 0
    assert set(result["breakdown"]) == {
        "busy", "row_misses", "activate_windows", "column_spacing", "turns", "refresh", "idle",
    }  # fmt: skip
    assert sum(result["breakdown"].values()) == pytest.approx(1)


def test_rates_make_a_curve(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    plot = tmp_path / "curve.svg"
    result = bench(
        capsys, "DDR4-3200", "--rate", "0.2,0.5", "--rate", "0.8", "--requests", "800", "--plot", str(plot)
    )
    points = result["points"]
    assert [point["offered_fraction"] for point in points] == [0.2, 0.5, 0.8]
    latencies = [point["mean_latency_ns"] for point in points]
    assert latencies == sorted(latencies)
    for point in points:
        assert point["fraction_of_peak"] == pytest.approx(point["offered_fraction"], rel=0.05)
    assert ElementTree.parse(plot).getroot().tag.endswith("svg")


def test_text_csv_and_bars(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    plot = tmp_path / "bars.svg"
    words = ["dram", "bench", "HBM2", "--requests", "50", "--plot", str(plot)]
    assert main(words) == 0
    assert "of peak" in capsys.readouterr().out
    assert "row misses" in plot.read_text()
    assert main([*words, "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 1
    assert float(rows[0]["busy_fraction"]) > 0
    assert int(rows[0]["activates"]) > 0


def test_a_trace_goes_round(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    trace = tmp_path / "t.trace"
    first = bench(
        capsys,
        "DDR4-3200",
        "--pattern",
        "random_rw",
        "--request",
        "64B",
        "--requests",
        "500",
        "--trace-out",
        str(trace),
    )
    again = bench(capsys, "DDR4-3200", "--pattern", f"file:{trace}", "--request", "64B")
    for key in ("fraction_of_peak", "row_hit_rate", "counters"):
        assert again[key] == first[key]


def test_a_standard_of_ones_own(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    text = (FOLDER / "DDR4-3200.yaml").read_text().replace("tRFC: 350 ns", "tRFC: 1000 ns")
    mine.write_text(text.replace("name: DDR4-3200", "name: mine"))
    result = bench(capsys, str(mine), "--requests", "2000")
    assert result["standard"] == "mine"
    assert result["fraction_of_peak"] == pytest.approx(1 - 1027.5 / 7800, rel=0.015)


def test_options_reach_the_channel(capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "DDR4-3200",
        "--pattern",
        "strided",
        "--stride",
        "256B",
        "--request",
        "64B",
        "--requests",
        "3000",
    ]
    interleaved = bench(capsys, *words)
    assert interleaved["fraction_of_peak"] == pytest.approx(0.475, rel=0.03)
    assert bench(capsys, *words, "--mapping", "ro ra ba bg co")["fraction_of_peak"] > 0.8
    assert bench(capsys, *words, "--refresh", "none")["breakdown"]["refresh"] == 0
    # bursts that already wait for a row keep it open; alone, each closes it behind itself
    assert bench(capsys, *words, "--page", "closed", "--outstanding", "1")["row_hit_rate"] == 0
    assert bench(capsys, *words, "--page", "open", "--outstanding", "1")["row_hit_rate"] > 0.9
    narrow = bench(capsys, "DDR4-3200", "--bus", "32 bit", "--requests", "200")
    assert narrow["peak_gbps"] == pytest.approx(12.8)
    one = bench(
        capsys,
        "DDR4-3200",
        "--outstanding",
        "1",
        "--request",
        "64B",
        "--pattern",
        "random",
        "--requests",
        "500",
    )
    assert one["mean_latency_ns"] == pytest.approx(44.5, rel=0.05)
    random = ["DDR4-3200", "--level", "burst", "--pattern", "random", "--requests", "100"]
    deep = bench(capsys, *random)["fraction_of_peak"]
    assert bench(capsys, *random, "--queue", "2", "--bank-queue", "0")["fraction_of_peak"] < deep - 0.05


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["DDR4"], None),
        (["DDR4-3200", "--pattern", "sequential"], "pattern"),
        (["DDR4-3200", "--request", "2"], "--request"),
        (["DDR4-3200", "--request", "3bit"], "--request"),
        (["DDR4-3200", "--rate", "fast"], "--rate"),
        (["DDR4-3200", "--rate", "0"], "--rate"),
        (["DDR4-3200", "--mapping", "ro co"], "mapping"),
        (["DDR4-3200", "--level", "gate"], "level"),
        (["DDR4-3200", "--refresh", "per_bank"], "refresh"),
        (["DDR4-3200", "--plot", "x.png"], "--plot"),
        (["DDR4-3200", "--ranks", "3"], "ranks"),
        (["DDR4-3200", "--csv"], "--csv"),
    ],
)
def test_wrong_words_end_with_2(
    words: list[str], field: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dram", "bench", *words, "--requests", "2", "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert json.loads(captured.err).get("field") == field
