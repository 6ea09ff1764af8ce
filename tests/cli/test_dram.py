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
    told = result["closed_form"]
    assert told == {"name": "bank groups interleaved", "fraction_of_peak": pytest.approx(expected)}
    assert sum(result["breakdown"].values()) == pytest.approx(1)
    assert result["row_hit_rate"] > 0.9


@pytest.mark.parametrize("name", standard_names())
def test_writes_agree_with_their_closed_form(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    result = bench(capsys, name, "--pattern", "seq_write", "--requests", "2000")
    told = result["closed_form"]
    assert told["name"] == "bank groups interleaved"
    assert result["fraction_of_peak"] == pytest.approx(told["fraction_of_peak"], rel=0.015)
    timing = load_standard(name).timing
    lost = timing.tRFC + timing.tRP + timing.tRCDWR + timing.CWL + timing.tWR
    assert told["fraction_of_peak"] == pytest.approx(1 - lost / timing.tREFI)


def test_the_closed_form_stands_beside_what_was_measured(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["DDR4-3200", "--request", "64B", "--pattern"]
    one_group = bench(capsys, *words, "strided", "--stride", "256B", "--requests", "5000")
    timing = load_standard("DDR4-3200").timing
    left = 1 - (timing.tRFC + timing.tRP + timing.tRCDRD) / timing.tREFI
    assert one_group["closed_form"]["name"] == "one bank group"
    assert one_group["closed_form"]["fraction_of_peak"] == pytest.approx(left * 4 / 8)
    assert one_group["fraction_of_peak"] == pytest.approx(left * 4 / 8, rel=0.02)
    one_bank = bench(capsys, *words, "strided", "--stride", "128KiB", "--requests", "1500")
    assert one_bank["closed_form"]["name"] == "one bank"
    assert one_bank["fraction_of_peak"] == pytest.approx(
        one_bank["closed_form"]["fraction_of_peak"], rel=0.02
    )
    flat = bench(capsys, *words, "random", "--level", "bandwidth", "--requests", "5000")
    assert flat["closed_form"] == {"name": "data bus always busy", "fraction_of_peak": 1}
    assert flat["fraction_of_peak"] == pytest.approx(1, rel=0.015)
    still = bench(capsys, *words, "random", "--refresh", "none", "--requests", "50")
    assert still["closed_form"]["fraction_of_peak"] == pytest.approx(4 * 4 / timing.tFAW)
    assert main(["dram", "bench", *words, "random", "--level", "burst", "--requests", "100"]) == 0
    assert "closed form: 0.446 of peak (random bursts); measured " in capsys.readouterr().out
    assert main(["dram", "bench", *words, "random", "--level", "burst", "--requests", "100", "--csv"]) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert row["closed_form"] == "random bursts"
    assert float(row["closed_form_fraction_of_peak"]) == pytest.approx(0.446, abs=0.0005)


@pytest.mark.parametrize(
    "words",
    [
        ["--pattern", "rw21"],
        ["--pattern", "random"],
        ["--pattern", "random", "--request", "100B"],
        ["--pattern", "strided", "--stride", "16KiB", "--request", "64B"],
        ["--mapping", "ro ra ba bg co"],
        ["--rate", "0.5"],
        ["--outstanding", "2"],
        ["--page", "closed"],
        ["--ranks", "2"],
        ["--level", "ideal"],
        ["--request", "32B"],
    ],
)
def test_there_is_no_closed_form_where_none_holds(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(capsys, "DDR4-3200", "--requests", "50", *words)["closed_form"] is None


def test_ideal_takes_no_time(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["DDR4-3200", "--level", "ideal", "--requests", "5"]
    result = bench(capsys, *words)
    assert (result["time_ps"], result["bandwidth_gbps"], result["fraction_of_peak"]) == (0, None, None)
    assert main(["dram", "bench", *words]) == 0
    assert "no time passes" in capsys.readouterr().out
    assert main(["dram", "bench", *words, "--csv"]) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert row["bandwidth_gbps"] == ""


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
    assert "closed form: 92.6 %" in plot.read_text()
    drawn = plot.read_bytes()
    assert main(words) == 0
    assert plot.read_bytes() == drawn
    picture = tmp_path / "bars.png"
    assert main([*words[:-1], str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    capsys.readouterr()
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
        (["DDR4-3200", "--plot", "x.gif"], "--plot"),
        (["DDR4-3200", "--ranks", "3"], "ranks"),
        (["DDR4-3200", "--csv"], "--csv"),
        (["DDR4-3200", "--request", "16GiB"], "--request"),
        (["DDR4-3200", "--request", "0B"], "--request"),
        (["DDR4-3200", "--pattern", "strided", "--stride", "100B"], "--stride"),
        (["DDR4-3200", "--pattern", "strided", "--stride", "1GiB"], "--stride"),
        (["DDR4-3200", "--stride", "0B"], "--stride"),
        (["DDR4-3200", "--rate=-1"], "--rate"),
        (["DDR4-3200", "--rate", "nan"], "--rate"),
        (["DDR4-3200", "--rate", "inf"], "--rate"),
        (["DDR4-3200", "--rate", "10.5"], "--rate"),
        (["DDR4-3200", "--rate", "0.5,"], "--rate"),
        (["DDR4-3200", "--rate", "0.5", "--outstanding", "2"], "--outstanding"),
        (["DDR4-3200", "--bank-queue", "4"], "--bank-queue"),
        (["DDR4-3200", "--level", "bandwidth", "--queue", "4"], "--queue"),
        (["DDR4-3200", "--level", "ideal", "--mapping", "ro co"], "mapping"),
        (["DDR4-3200", "--mapping", ""], "mapping"),
        (["DDR4-3200", "--bus", "60bit"], "bus"),
        (["DDR4-3200", "--plot", "none/x.svg"], "--plot"),
        (["DDR4-3200", "--plot", "folder.svg"], "--plot"),
        (["DDR4-3200", "--trace-out", "none/x"], "--trace-out"),
        (["DDR4-3200", "--trace-out", "folder.svg"], "--trace-out"),
        (["DDR4-3200", "--trace-out", "x", "--trace-format", "vcd"], "format"),
        (["DDR4-3200", "--trace-out", "x", "--mapping", "ro"], "mapping"),
        (["DDR4-3200", "--trace-out", "x", "--plot", "x.gif"], "--plot"),
        (["./bad.yaml"], None),
        (["./empty.yaml"], None),
        (["DDR4-3200", "--pattern", "file:empty.trace"], None),
        (["DDR4-3200", "--pattern", "file:folder.svg"], None),
    ],
)
def test_wrong_words_end_with_2(
    words: list[str],
    field: str | None,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.svg").mkdir()
    (tmp_path / "bad.yaml").write_text("name: [")
    for name in ("empty.yaml", "empty.trace"):
        (tmp_path / name).write_text("")
    before = sorted(tmp_path.rglob("*"))
    assert main(["dram", "bench", "--requests", "2", "--json", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert json.loads(captured.err).get("field") == field
    assert sorted(tmp_path.rglob("*")) == before


def test_a_wrong_line_of_a_trace_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    trace = tmp_path / "t.trace"
    trace.write_text("LD 0x0\nST 0x40\ngarbage\n")
    assert main(["dram", "bench", "DDR4-3200", "--pattern", f"file:{trace}", "--json"]) == 2
    error = json.loads(capsys.readouterr().err)
    assert (error["file"], error["line"]) == (str(trace), 3)


@pytest.mark.parametrize("option", ["--plot", "--trace-out"])
def test_what_cannot_be_written_leaves_nothing(
    option: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dpred_sim.cache.os.replace", full)
    assert main(["dram", "bench", "DDR4-3200", "--requests", "2", option, str(tmp_path / "x.svg")]) == 2
    assert "cannot be written: No space left on device" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", ["ramulator", "dramsim3"])
def test_both_formats_of_traces_go_round(
    form: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    trace = tmp_path / "t.trace"
    words = ["DDR4-3200", "--pattern", "rw21", "--request", "256B", "--requests", "60"]
    bench(capsys, *words, "--trace-out", str(trace), "--trace-format", form)
    assert len(trace.read_text().splitlines()) == 60 * 4
    again = bench(capsys, "DDR4-3200", "--pattern", f"file:{trace}")
    assert again["counters"]["write_bytes"] == 20 * 256
    assert again["counters"]["read_bytes"] == 40 * 256
