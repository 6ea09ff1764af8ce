"""Trace files tell what the record tells, and all formats tell the same."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpred_sim.cli.main import main
from dpred_sim.errors import InputError, MissingExtra
from dpred_sim.observe.record import writer as writer_module
from dpred_sim.observe.record.format import TABLES
from dpred_sim.observe.record.reader import Record
from dpred_sim.observe.record.selection import Selection
from dpred_sim.observe.record.writer import Recorder
from dpred_sim.observe.trace.export import FORMATS, expected_bytes, export
from dpred_sim.observe.trace.pages import KEPT, Pages
from dpred_sim.simulation.engine import Simulation
from dpred_sim.simulation.result import RunResult
from dpred_sim.simulation.systems import load_topology
from dpred_sim.workload.load import load_workload
from dpred_sim.workload.workload import Workload
from tests.networks import random_workload
from tests.observe.trace.trace_files import READERS, Told

SYSTEMS = {
    "one channel": ("dpred_stripes_ddr4", ["nodes.activations.size=64 KiB"]),
    "two channels": ("dpred_stripes_2ch", ["nodes.activations.size=64 KiB", "nodes.weights.size=16 KiB"]),
}


CLUSTERS = """\
schema: dpred-topology/1
name: clusters
clocks: {core: 1 GHz}
nodes:
  dram:        {kind: dram_channel, standard: DDR4-3200, stores: {codec: dpred}}
  activations: {kind: buffer, holds: [activations, outputs], size: 64 KiB, port: 4096 bit}
  weights:     {kind: buffer, holds: [weights], size: 64 KiB, port: 4096 bit}
  dispatcher:  {kind: dispatcher, count: 2}
  tile:        {kind: tile, count: 8, design: dpred_stripes, rows: 16, columns: 16, lanes: 16}
links:
  - {between: [dram, activations], width: 256 bit}
  - {from: dram, to: weights, width: 256 bit}
  - {from: activations, to: "dispatcher[*]", medium: bus, width: 4096 bit}
  - {from: dispatcher.0, to: "tile[0..3]", medium: broadcast, width: 4096 bit}
  - {from: dispatcher.1, to: "tile[4..7]", medium: broadcast, width: 4096 bit}
  - {from: weights, to: "tile[*]", medium: broadcast, width: 4096 bit}
  - {from: "tile[*]", to: activations, medium: bus, width: 4096 bit}
"""


def record_run(path: Path, workload: Workload, topology: str, settings: list[str]) -> RunResult:
    recorder = Recorder(path)
    simulation = Simulation(workload, load_topology(topology, set=settings), probe=recorder)
    recorder.begin(simulation)
    result = simulation.run()
    recorder.finish(simulation, result)
    return result


@pytest.fixture(scope="module", params=SYSTEMS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunResult]:
    """A record of many small chunks, and the result of the run."""
    before = writer_module.CHUNK_ROWS
    writer_module.CHUNK_ROWS = 3
    try:
        path = tmp_path_factory.mktemp("trace") / "run.dpred"
        return path, record_run(path, random_workload(6, layers=5), *SYSTEMS[request.param])
    finally:
        writer_module.CHUNK_ROWS = before


@pytest.fixture(scope="module")
def told(run: tuple[Path, RunResult]) -> dict[str, Told]:
    """The run in every format, read back."""
    return exported(run[0])


def exported(path: Path, selection: Selection | None = None) -> dict[str, Told]:
    found = {}
    with Record(path) as record:
        for ending, read in READERS.items():
            target = path.with_name(f"out{ending}")
            size = export(record, target, selection or Selection(), force=True)
            assert size == target.stat().st_size
            found[ending] = read(target)
    return found


def statistics(result: RunResult, name: str) -> dict[str, Any]:
    return {row.component: row.value for row in result.components if row.statistic == name}


def check_against_statistics(told: Told, result: RunResult) -> None:
    """Busy time of every track, and waits of every tile, are the run's statistics."""
    busy = told.busy()
    expected = statistics(result, "busy_ps")
    assert len(expected) > 15
    assert {name: busy.get(name, 0) for name in expected} == expected
    waits: Counter[tuple[str, str]] = Counter()
    for component, name, category, start, end, _ in told.slices:
        if category == "wait":
            waits[component, name.removeprefix("wait ")] += end - start
    reasons = 0
    for row in result.components:
        if row.kind == "tile" and row.statistic.startswith("wait_"):
            reason = row.statistic.removeprefix("wait_").removesuffix("_ps")
            assert waits[row.component, reason] == row.value
            reasons += row.value > 0
    assert reasons


def check_flows(told: Told, path: Path) -> None:
    """A flow a transfer: from DRAM to the pass that needs it, or from the pass that made it to DRAM."""
    with Record(path) as record:
        transfers = list(record.transfers())
        used = {use.transfer for use in record.uses()}
        kinds = {row["name"]: row["kind"] for row in record.tracks}
        hops = defaultdict(set)
        for span in record.spans():
            if span.transfer >= 0 and kinds[span.component] != "dma":
                hops[span.transfer].add(span.component)
    assert sorted(told.flows) == list(range(len(transfers)))
    writes = 0
    for transfer in transfers:
        way = sorted(told.flows[transfer.number], key=lambda step: step[0])
        components = [component for _, component, _ in way]
        assert hops[transfer.number] <= set(components)
        assert len(set(components)) >= 2
        passes = [name for name in components if kinds[name] in ("dispatcher", "post_processing")]
        steps = [step for _, _, step in way]
        if transfer.write:
            writes += 1
            assert len(passes) == 1 and components[0] == passes[0]
            assert kinds[components[-1]] == "dram_channel" and steps[-1] == "f"
        else:
            assert kinds[components[0]] == "dram_channel"
            assert len(passes) >= (transfer.number in used)
            assert not passes or (components[-1] == passes[-1] and steps[-1] == "f")
        assert steps.count("f") <= 1 and len(passes) <= 1
    assert writes and len(used) > len(transfers) / 2


def test_perfetto_tells_the_statistics(run: tuple[Path, RunResult], told: dict[str, Told]) -> None:
    check_against_statistics(told[".pftrace"], run[1])
    check_flows(told[".pftrace"], run[0])


def test_the_tree_of_tracks_is_the_topology(run: tuple[Path, RunResult], told: dict[str, Told]) -> None:
    (bus,) = [link for link in statistics(run[1], "moved_bits") if link.endswith("->weights[*]")]
    for ending, one in told.items():
        paths = one.paths
        assert paths["tile.3"] == ("compute", "dispatcher", "tile.3"), ending
        assert paths["dispatcher"] == ("compute", "dispatcher")
        assert paths[bus] == ("links", bus)
        assert paths["weights.0->tile.0"] == ("links", "weights[i]->tile[i]", "weights.0->tile.0")
        assert paths["weights.unpack"][-2:] == ("weights", "weights.unpack")
        assert paths["weight_dma"] == ("transfer engines", "weight_dma")
        assert paths["layers"] == ("layers",)
        channels = {
            name: path for name, path in paths.items() if name.startswith("dram.") and name[5:].isdigit()
        }
        assert channels or paths["dram"] == ("DRAM", "dram")
        assert all(path == ("DRAM", "dram", name) for name, path in channels.items())
    perfetto = told[".pftrace"]
    assert perfetto.lanes["weight_dma"] > 1, "requests in flight at a time have tracks side by side"
    assert perfetto.lanes["tile.3"] == perfetto.lanes["dispatcher"] == 1


def test_all_formats_tell_the_same(told: dict[str, Told]) -> None:
    first = told[".pftrace"]
    for one in (told[".json"], told[".parquet"]):
        assert without_totals(one) == without_totals(first)
        assert one.counters == first.counters
        assert one.busy() == first.busy()
        assert {n: {(t, c) for t, c, _ in way} for n, way in one.flows.items()} == {
            n: {(t, c) for t, c, _ in way} for n, way in first.flows.items()
        }
    ends = [
        {(n, c) for n, way in one.flows.items() for _, c, step in way if step == "f"}
        for one in (first, told[".json"])
    ]
    assert ends[0] == ends[1]


def without_totals(told: Told) -> Counter[Any]:
    """Slices, without the totals of layers, which the table does not hold."""
    return Counter((*row[:5], () if row[2] == "layer" else row[5]) for row in told.slices)


def test_layers_and_counters_are_those_of_the_run(run: tuple[Path, RunResult], told: dict[str, Told]) -> None:
    path, result = run
    one = told[".pftrace"]
    layers = [(name, start, end) for component, name, _, start, end, _ in one.slices if component == "layers"]
    assert layers == [(layer.name, layer.start_ps, layer.end_ps) for layer in result.layers]
    for key in ("activations", "weights"):
        values = [getattr(layer, f"mean_width_{key}") or 0.0 for layer in result.layers]
        starts = [layer.start_ps for layer in result.layers]
        assert one.counters["layers", f"mean_width_{key}_bits"] == list(zip(starts, values, strict=True))
    expected = defaultdict(list)
    with Record(path) as record:
        for counter in record.counters():
            expected[counter.component, counter.name].append((counter.time_ps, counter.value))
        assert expected
        assert {key: one.counters[key] for key in expected} == expected
        names = {name for _, name in one.counters}
        assert {"pending_requests", "level_bits", "in_flight_bytes", "bytes_per_second"} <= names
    moved = sum(
        rate * (later - time) / 1e12
        for (_, name), values in one.counters.items()
        if name == "bytes_per_second"
        for (time, rate), (later, _) in pairwise(values)
    )
    assert moved == pytest.approx(result.traffic["system_traffic"]["stored_bytes"], rel=1e-6)


def test_every_format_says_what_it_is_and_its_scale(told: dict[str, Told]) -> None:
    for one in told.values():
        assert "random6 on dpred_stripes" in str(one.facts["run"])
        assert "SYNTHETIC" in str(one.facts["run"])
        assert int(one.facts["time_ps"]) > 0 and one.facts["source"] == "random values, seed 6"
    assert told[".pftrace"].facts["time"] == "1 ns here is 1 ps of the run"
    assert "1 ns here is 1 ps" in told[".json"].facts["time"]
    assert "picoseconds" in told[".parquet"].facts["time"]


def test_waits_say_what_ended_them(run: tuple[Path, RunResult], told: dict[str, Told]) -> None:
    with Record(run[0]) as record:
        spans = list(record.spans())
    expected = Counter(
        (span.component, span.start_ps, spans[span.cause].transfer)
        for span in spans
        if span.state != "busy" and span.cause >= 0 and spans[span.cause].transfer >= 0
    )
    assert expected
    found = Counter(
        (component, start, dict(notes)["ended_by_transfer"])
        for component, _, category, start, _, notes in told[".pftrace"].slices
        if category == "wait" and "ended_by_transfer" in dict(notes)
    )
    assert found == expected


# filters


SELECTIONS = {
    "component": Selection(components=("tile.3",)),
    "kinds": Selection(components=("dram_channel", "dma")),
    "links": Selection(components=("dram*->activations", "weights[i]->tile[i]")),
    "layers": Selection(layers=("layer1", "layer2*")),
    "window": Selection(start_ps=2_000_000, end_ps=9_000_000),
    "all": Selection(components=("dma", "tile"), layers=("layer2",), start_ps=1, end_ps=50_000_000),
}


@pytest.mark.parametrize("name", SELECTIONS)
def test_filters_take_what_they_say(name: str, run: tuple[Path, RunResult], told: dict[str, Told]) -> None:
    selection = SELECTIONS[name]
    path = run[0]
    with Record(path) as record:
        rows = {row["name"]: (row["name"], row["group"], row["kind"]) for row in record.tracks}
        windows = dict(zip(record.layers, record.layer_windows, strict=True))
        expected = Counter(
            (span.component, span.start_ps, span.end_ps)
            for span in record.spans()
            if selection.takes_component(*rows[span.component])
            and selection.takes_layer(span.layer or "")
            and span.end_ps >= selection.start_ps
            and span.start_ps < selection.end_ps
        )
        times = [windows[layer] for layer in record.layers if selection.takes_layer(layer)]
        counters = Counter(
            (c.component, c.name, c.time_ps)
            for c in record.counters()
            if selection.takes_component(*rows[c.component])
            and selection.start_ps <= c.time_ps < selection.end_ps
            and (not selection.layers or any(start <= c.time_ps < end for start, end in times))
        )
    assert 0 < sum(expected.values()) < len(told[".pftrace"].slices)
    parts = exported(path, selection)
    for one in parts.values():
        found = Counter(
            (c, start, end) for c, _, category, start, end, _ in one.slices if category != "layer"
        )
        assert found == expected
        recorded = {key for key in one.counters if key[1] != "bytes_per_second" and key[0] != "layers"}
        assert Counter((*key, time) for key in recorded for time, _ in one.counters[key]) == counters
        shown = {name for component, name, *_ in one.slices if component == "layers"}
        assert shown == {
            layer
            for layer, (start, end) in windows.items()
            if selection.takes_layer(layer) and start < selection.end_ps and end >= selection.start_ps
        }
    assert without_totals(parts[".json"]) == without_totals(parts[".pftrace"])


# a real network


def test_a_real_network(tmp_path: Path) -> None:
    workload = load_workload("resnet50_thin")
    if workload.name != "resnet50_thin":
        pytest.skip("offline: the committed fixture stands in for the network")
    path = tmp_path / "run.dpred"
    result = record_run(path, workload, "dpred_stripes_ddr4", [])
    told = exported(path)
    check_against_statistics(told[".pftrace"], result)
    check_flows(told[".pftrace"], path)
    assert told[".json"].busy() == told[".parquet"].busy() == told[".pftrace"].busy()
    assert len(told[".pftrace"].slices) > 25_000
    with Record(path) as record:
        for ending, made in FORMATS.items():
            size = (tmp_path / f"out{ending}").stat().st_size
            assert expected_bytes(record, made) == pytest.approx(size, rel=0.1)


def test_several_clusters(tmp_path: Path) -> None:
    """Each cluster has a pass of its own that needs a transfer first."""
    path = tmp_path / "clusters.yaml"
    path.write_text(CLUSTERS)
    record_path = tmp_path / "run.dpred"
    result = record_run(record_path, random_workload(4, layers=4), str(path), [])
    told = exported(record_path)
    check_against_statistics(told[".pftrace"], result)
    check_flows(told[".pftrace"], record_path)
    assert without_totals(told[".json"]) == without_totals(told[".pftrace"])
    paths = told[".pftrace"].paths
    assert paths["tile.3"] == ("compute", "dispatcher", "dispatcher.0", "tile.3")
    assert paths["tile.4"] == ("compute", "dispatcher", "dispatcher.1", "tile.4")
    with Record(record_path) as record:
        needed = Counter(use.transfer for use in record.uses())
    assert max(needed.values()) == 2


def test_a_run_that_was_stopped(tmp_path: Path) -> None:
    path = tmp_path / "run.dpred"
    recorder = Recorder(path)
    topology = load_topology("dpred_stripes_ddr4", set=SYSTEMS["one channel"][1])
    simulation = Simulation(random_workload(6, layers=5), topology, probe=recorder)
    recorder.begin(simulation)
    while len(simulation.layers) < 2:
        assert simulation.advance(1)
    recorder.finish(simulation, simulation.result())
    told = exported(path)
    for one in told.values():
        assert "not complete" in str(one.facts["run"]) and int(one.facts["complete"]) == 0
        layers = [row[1] for row in one.slices if row[0] == "layers"]
        assert len(layers) in (2, 3) and layers[:2] == [layer.name for layer in simulation.layers]
    assert without_totals(told[".json"]) == without_totals(told[".pftrace"])


# reading by number


def test_rows_are_found_by_number_with_few_chunks_in_memory(run: tuple[Path, RunResult]) -> None:
    with Record(run[0]) as record:
        pages = Pages(record)
        for table in ("spans", "transfers"):
            count = record.rows[table]
            assert record.chunk_count(table) > KEPT
            rows = [
                row
                for columns in record.chunks(table)
                for row in zip(*(columns[name].tolist() for name in TABLES[table]), strict=True)
            ]
            for number in np.random.default_rng(0).integers(0, count, 200).tolist():
                assert pages.row(table, number) == rows[number]
            assert len(pages._lists) <= 2 * KEPT and len(pages._arrays) <= 4 * KEPT
            for number in (-1, count):
                with pytest.raises(IndexError):
                    pages.row(table, number)


def test_what_names_a_span_is_found_wherever_it_lies(run: tuple[Path, RunResult]) -> None:
    with Record(run[0]) as record:
        pages = Pages(record)
        expected = defaultdict(list)
        for use in record.uses():
            expected[use.span].append(use.transfer)
        named = sorted(expected)
        low, high = named[len(named) // 3], named[len(named) // 2]
        found = pages.naming("uses", "span", "transfer", (low, high))
        assert found == {span: expected[span] for span in named if low <= span <= high}


# the commands and bad input


@pytest.fixture
def record_path(run: tuple[Path, RunResult]) -> Path:
    return run[0]


def test_running_into_a_trace_is_recording_and_converting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "net.py"
    script.write_text(
        "from tests.networks import random_workload\n"
        "def workload(*, bits, seed):\n    return random_workload(6, layers=2)\n"
    )
    base = ["run", str(script), "--no-live", "--json"]
    documents = []
    for name in ("a.dpred", "a.pftrace", "a.json", "a.parquet"):
        assert main([*base, "--trace", name]) == 0
        printed = capsys.readouterr()
        documents.append(printed.out)
        assert f"{name}: {Path(name).stat().st_size:,} bytes" in printed.err
        assert ("expected" in printed.err) == (name != "a.dpred")
        if name != "a.dpred":
            other = f"b{Path(name).suffix}"
            assert main(["trace", "convert", "a.dpred", other]) == 0
            assert Path(other).read_bytes() == Path(name).read_bytes()
            printed = capsys.readouterr()
            assert printed.out.startswith(f"wrote {other}: ") and "expected" in printed.err
    assert main(base) == 0
    assert {*documents} == {capsys.readouterr().out}
    assert main([*base, "--trace", "a.json"]) == 2
    assert "--force replaces it" in capsys.readouterr().err
    assert main([*base, "--trace", "a.json", "--force"]) == 0
    names = {f"{base}{ending}" for base in "ab" for ending in READERS} | {"a.dpred", "net.py"}
    assert {path.name for path in tmp_path.iterdir() if path.name != "__pycache__"} == names


def test_show_says_what_is_inside(record_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "show", str(record_path)]) == 0
    text = capsys.readouterr().out
    assert "random6 on dpred_stripes" in text and "complete" in text and "tile.15 (16)" in text
    assert ".pftrace" in text and "layer1" in text
    assert main(["trace", "show", str(record_path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    with Record(record_path) as record:
        assert document["rows"] == record.rows
        assert list(document["layers"]) == record.layers


def test_wrong_input_is_said_and_leaves_nothing(
    record_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.dpred"
    text.write_text("no record")
    short = tmp_path / "short.dpred"
    short.write_bytes(record_path.read_bytes()[:-300])
    there = tmp_path / "there.json"
    there.write_text("mine")
    folder = tmp_path / "folder.json"
    folder.mkdir()
    before = sorted(tmp_path.iterdir())

    def refused(*words: str) -> str:
        assert main(["trace", "convert", *words]) == 2
        assert sorted(tmp_path.iterdir()) == before and there.read_text() == "mine"
        return capsys.readouterr().err

    record, out = str(record_path), str(tmp_path / "out.pftrace")
    assert "not a kind of trace file" in refused(record, str(tmp_path / "out.vcd"))
    assert "*.pftrace, *.json, *.parquet" in refused(record, str(tmp_path / "out"))
    assert "text.dpred" in refused(str(text), out)
    assert "short.dpred" in refused(str(short), out)
    assert "no such record" in refused(str(tmp_path / "none.dpred"), out)
    assert "--force replaces it" in refused(record, str(there))
    assert "a folder is in the place" in refused(record, str(folder))
    assert "no component has such a name" in refused(record, out, "--component", "tle*")
    assert "no layer has such a name" in refused(record, out, "--layer", "conv9")
    assert "--from" in refused(record, out, "--from", "12")
    assert "an empty window" in refused(record, out, "--from", "2us", "--to", "1us")


@pytest.fixture(params=TABLES)
def damaged(request: pytest.FixtureRequest, record_path: Path, tmp_path: Path) -> Iterator[Path]:
    """A record of which the last chunk of a table is not what it should be."""
    path = tmp_path / "damaged.dpred"
    with zipfile.ZipFile(record_path) as source, zipfile.ZipFile(path, "w") as target:
        last = max(name for name in source.namelist() if name.startswith(f"{request.param}/"))
        for name in source.namelist():
            target.writestr(name, b"nonsense" if name == last else source.read(name))
    yield path


@pytest.mark.parametrize("ending", READERS)
def test_a_damaged_record_makes_no_file(damaged: Path, ending: str) -> None:
    with Record(damaged) as record, pytest.raises(InputError, match=r"\.npy is damaged"):
        export(record, damaged.with_name(f"out{ending}"))
    assert [path.name for path in damaged.parent.iterdir()] == ["damaged.dpred"]


@pytest.mark.parametrize(
    ("ending", "package", "extra"), [(".pftrace", "perfetto", "trace"), (".parquet", "pyarrow", "tables")]
)
def test_a_missing_library_is_named_by_its_extra(
    ending: str, package: str, extra: str, record_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with Record(record_path) as record, pytest.raises(MissingExtra, match=rf"\[{extra}\]"):
        export(record, tmp_path / f"out{ending}")
    assert not list(tmp_path.iterdir())
    with Record(record_path) as record:
        export(record, tmp_path / "out.json")


def test_a_run_that_cannot_be_written_is_refused_before_it_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder.json").mkdir()
    for name, said in (("run.vcd", "*.dpred"), ("folder.json", "a folder is in the place")):
        assert main(["run", "alexnet", "--no-live", "--trace", str(tmp_path / name)]) == 2
        assert said in capsys.readouterr().err


def test_the_example_of_the_docs_adds_up_busy_time(run: tuple[Path, RunResult], tmp_path: Path) -> None:
    text = (Path(__file__).resolve().parents[3] / "docs" / "trace_files.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    with Record(run[0]) as record:
        export(record, tmp_path / "run.parquet")
    done = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [ast.literal_eval(line) for line in done.stdout.splitlines()]
    busy = {row["component"]: row["ps_sum"] for row in rows if row["state"] == "busy"}
    assert busy["tile.0"] == statistics(run[1], "busy_ps")["tile.0"]
