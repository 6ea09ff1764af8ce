"""The record holds what the components told, and reading gives it back."""

from __future__ import annotations

import itertools
import json
import shutil
import zipfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpred_sim.components.probe import NO_SPAN, NullProbe
from dpred_sim.errors import InputError
from dpred_sim.observe.record import writer as writer_module
from dpred_sim.observe.record.format import FLOATS, TABLES, decode, encode
from dpred_sim.observe.record.reader import Record
from dpred_sim.observe.record.selection import Selection
from dpred_sim.observe.record.writer import Recorder
from dpred_sim.simulation.engine import Simulation
from dpred_sim.simulation.result import RunResult
from dpred_sim.simulation.systems import load_topology
from dpred_sim.topology.graph import Topology
from dpred_sim.workload.load import load_workload
from tests.networks import random_workload


class Heard(NullProbe):
    """Keeps what it hears, and passes it on."""

    active = True

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.spans: list[tuple] = []
        self.counters: list[tuple] = []
        self.transfers: list[tuple] = []
        self.uses: list[tuple] = []

    def span(self, *row) -> int:
        self.spans.append((*row, *(NO_SPAN, NO_SPAN, 0)[len(row) - 5 :]))
        return self.recorder.span(*row)

    def span_group(self, components, state, start_ps, end_ps, layer, cause) -> None:
        rows = [(name, state, start_ps, end_ps, layer, NO_SPAN, cause, 0) for name in components]
        self.spans += rows
        self.recorder.span_group(components, state, start_ps, end_ps, layer, cause)

    def counter(self, *row) -> None:
        self.counters.append(row)
        self.recorder.counter(*row)

    def transfer(self, *row) -> int:
        self.transfers.append(row)
        return self.recorder.transfer(*row)

    def use(self, transfers, span) -> None:
        self.uses += [(transfer, span) for transfer in transfers]
        self.recorder.use(transfers, span)


@pytest.fixture(scope="module")
def topology() -> Topology:
    return load_topology("dpred_stripes_ddr4", set=["nodes.activations.size=64 KiB"])


def recorded(path: Path, topology: Topology, layers: int = 5) -> tuple[Simulation, RunResult, Heard]:
    recorder = Recorder(path)
    heard = Heard(recorder)
    simulation = Simulation(random_workload(6, layers=layers), topology, probe=heard)
    recorder.begin(simulation)
    result = simulation.run()
    size = recorder.finish(simulation, result)
    assert size == path.stat().st_size
    return simulation, result, heard


@pytest.fixture(scope="module")
def run(topology, tmp_path_factory):
    """A record of several chunks a table, and what was told."""
    before = writer_module.CHUNK_ROWS
    writer_module.CHUNK_ROWS = 5
    try:
        path = tmp_path_factory.mktemp("record") / "run.dpred"
        return path, *recorded(path, topology)
    finally:
        writer_module.CHUNK_ROWS = before


int64 = st.integers(-(2**63), 2**63 - 1)


@given(st.lists(st.tuples(*[int64] * len(TABLES["transfers"])), min_size=1))
def test_any_integers_come_back(rows):
    array = np.array(rows, dtype=np.int64)
    columns = decode("transfers", encode("transfers", array))
    assert np.array_equal(np.stack([columns[name] for name in TABLES["transfers"]], axis=1), array)


@given(st.lists(st.tuples(*[st.integers(0, 2**53)] * 3, st.floats(allow_nan=False)), min_size=1))
def test_counters_keep_their_fractions(rows):
    array = np.array(rows, dtype=np.float64)
    columns = decode("counters", encode("counters", array))
    for place, name in enumerate(TABLES["counters"]):
        assert columns[name].tolist() == array[:, place].tolist()
        assert (columns[name].dtype.kind == "f") == (name in FLOATS)


def test_what_was_told_is_what_is_read(run):
    path, _, result, heard = run
    with Record(path) as record:
        assert min(len(record._chunks[table]) for table in TABLES) > 1
        assert [tuple(row[1:]) for row in record.spans()] == heard.spans
        assert [tuple(row[1:]) for row in record.transfers()] == heard.transfers
        assert [tuple(row) for row in record.counters()] == heard.counters
        assert [tuple(row) for row in record.uses()] == heard.uses
        assert [row.number for row in record.spans()] == list(range(len(heard.spans)))
        assert record.complete and record.failed is None and record.time_ps == result.time_ps
        assert record.run == json.loads(result.to_json())
        assert record.head["configuration"] == result.configuration
        windows = [(layer.start_ps, layer.end_ps) for layer in result.layers]
        assert record.layer_windows == windows
        assert [record.layer_at(end - 1) for _, end in windows] == list(range(len(windows)))


def test_recording_changes_nothing_and_the_same_run_makes_the_same_bytes(
    run, topology, tmp_path, monkeypatch
):
    path, _, result, _ = run
    monkeypatch.setattr(writer_module, "CHUNK_ROWS", 5)
    again = tmp_path / "again.dpred"
    _, second, _ = recorded(again, topology)
    alone = Simulation(random_workload(6, layers=5), topology).run()
    assert second.to_json() == alone.to_json() == result.to_json()
    assert again.read_bytes() == path.read_bytes()


def test_busy_time_of_every_track_is_its_statistic(run):
    path, _, result, _ = run
    busy: dict[str, int] = defaultdict(int)
    with Record(path) as record:
        for span in record.spans():
            assert span.start_ps <= span.end_ps
            if span.state == "busy":
                busy[span.component] += span.end_ps - span.start_ps
    rows = {row.component: row.value for row in result.components if row.statistic == "busy_ps"}
    assert len(rows) > 30
    assert {name: busy[name] for name in rows} == rows
    moved = {row.component: row.value for row in result.components if row.statistic == "moved_bits"}
    with Record(path) as record:
        bits: dict[str, int] = defaultdict(int)
        for span in record.spans():
            bits[span.component] += span.bits
    assert {name: bits[name] for name in moved} == moved


def test_a_transfer_can_be_followed_from_dram_to_the_pass_that_needs_it(run):
    path, *_ = run
    with Record(path) as record:
        kinds = {row["name"]: row["kind"] for row in record.tracks}
        spans = list(record.spans())
        transfers = list(record.transfers())
        uses = list(record.uses())
    ways: dict[int, list] = defaultdict(list)
    for span in spans:
        if span.transfer != NO_SPAN:
            ways[span.transfer].append(span)
    assert sorted(ways) == list(range(len(transfers)))
    needed = {}
    for use in uses:
        needed.setdefault(use.transfer, use.span)
    read = 0
    for transfer in transfers:
        way = {kinds[span.component]: span for span in ways[transfer.number]}
        engine, dram = way["dma"], way["dram_channel"]
        assert engine.component == transfer.engine and engine.start_ps == transfer.sent_ps
        assert engine.start_ps <= dram.start_ps <= dram.end_ps <= engine.end_ps
        assert dram.bits == transfer.size_bytes * 8
        hops = [span for kind, span in way.items() if kind in ("point", "bus", "converter")]
        # Reads leave DRAM before they cross the links, writes after.
        first, last = (engine.start_ps, dram.end_ps) if transfer.write else (dram.start_ps, engine.end_ps)
        assert hops and all(first <= hop.start_ps and hop.end_ps <= last for hop in hops)
        if transfer.write:
            made = spans[transfer.cause]
            assert made.state == "busy" and kinds[made.component] in ("dispatcher", "post_processing")
            assert made.end_ps <= transfer.sent_ps
        elif transfer.number in needed:
            read += 1
            work = spans[needed[transfer.number]]
            assert work.state == "busy" and kinds[work.component] in ("dispatcher", "post_processing")
            assert engine.end_ps <= work.start_ps and work.layer == transfer.layer
    assert read > 0.9 * sum(not transfer.write for transfer in transfers)


SELECTIONS = [
    Selection(),
    Selection(components=("tile.3",)),
    Selection(components=("tile", "dram")),
    Selection(components=("broadcast", "*->dram")),
    Selection(layers=("layer[12]", "layer1")),
    Selection(start_ps=2_000_000, end_ps=9_000_000),
    Selection(components=("dma",), layers=("layer2", "layer*3"), start_ps=1, end_ps=50_000_000),
]


@pytest.mark.parametrize("selection", SELECTIONS)
def test_a_selection_is_what_a_look_at_every_row_finds(run, selection):
    path, *_ = run
    if selection.layers[:1] == ("layer[12]",):
        with Record(path) as record, pytest.raises(InputError, match="no layer has such a name"):
            list(record.spans(selection))  # brackets are no sets
        return
    with Record(path) as record:
        tracks = {row["name"]: (row["name"], row["group"], row["kind"]) for row in record.tracks}

        def taken(component, first, last, layer=None) -> bool:
            return (
                selection.takes_component(*tracks[component])
                and (layer is None or selection.takes_layer(layer))
                and last >= selection.start_ps
                and first < selection.end_ps
            )

        expected = [s for s in record.spans() if taken(s.component, s.start_ps, s.end_ps, s.layer)]
        assert list(record.spans(selection)) == expected and expected
        sent = [t for t in record.transfers() if taken(t.engine, t.sent_ps, t.sent_ps, t.layer)]
        assert list(record.transfers(selection)) == sent
        values = [c for c in record.counters() if taken(c.component, c.time_ps, c.time_ps)]
        assert list(record.counters(selection)) == values


def test_an_unknown_name_is_refused_with_the_nearest(run):
    path, *_ = run
    with Record(path) as record, pytest.raises(InputError, match=r"did you mean 'tile\.1"):
        list(record.spans(Selection(components=("tiel.1",))))


def test_bandwidth_adds_up_to_what_was_moved(run):
    path, _, result, _ = run
    width = 777_777
    with Record(path) as record:
        values = [row for row in record.bandwidth(width) if row.component == "dram"]
    moved = sum(row.value * (after.time_ps - row.time_ps) / 1e12 for row, after in itertools.pairwise(values))
    assert moved == pytest.approx(result.traffic["system_traffic"]["stored_bytes"], rel=1e-9)
    assert values[-1].value == 0 and max(row.value for row in values) <= 1.001 * result.peak_bytes_per_second


def test_a_run_that_is_stopped_leaves_an_incomplete_record(topology, tmp_path):
    recorder = Recorder(tmp_path / "half.dpred")
    simulation = Simulation(random_workload(6, layers=5), topology, probe=recorder)
    recorder.begin(simulation)
    while len(simulation.layers) < 2:
        assert simulation.advance(1)
    simulation.advance(3)
    recorder.finish(simulation, simulation.result(), failed="Deadlock: nobody moves")
    with Record(tmp_path / "half.dpred") as record:
        assert not record.complete and record.failed == "Deadlock: nobody moves"
        assert len(record.layer_windows) == 3 and len(record.layers) == 5 and len(record.widths) == 2
        assert record.layer_windows[2] == (record.layer_windows[1][1], record.time_ps)


def test_a_discarded_record_leaves_nothing(topology, tmp_path):
    recorder = Recorder(tmp_path / "run.dpred")
    recorder.begin(Simulation(random_workload(6, layers=2), topology, probe=recorder))
    assert len(list(tmp_path.iterdir())) == 1
    recorder.discard()
    assert not list(tmp_path.iterdir())


def test_a_full_disk_stops_the_record_and_not_the_run(topology, tmp_path, monkeypatch):
    monkeypatch.setattr(writer_module, "CHUNK_ROWS", 5)
    recorder = Recorder(tmp_path / "run.dpred")
    simulation = Simulation(random_workload(6, layers=3), topology, probe=recorder)
    recorder.begin(simulation)

    def full(data) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(recorder._zip.fp, "write", full, raising=False)
    result = simulation.run()
    assert result.complete and recorder.error is not None
    assert not any(recorder._rows.values()), "nothing piles up"
    with pytest.raises(InputError, match=r"run\.dpred: the record could not be written .*No space"):
        recorder.finish(simulation, result)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["run.txt", "run"])
def test_the_ending_says_what_it_is(tmp_path, name):
    with pytest.raises(InputError, match=r"not a kind of trace file; found .*allowed: \*\.dpred"):
        Recorder(tmp_path / name)


def test_an_existing_file_is_kept_unless_forced(run, tmp_path):
    path = tmp_path / "run.dpred"
    shutil.copy(run[0], path)
    with pytest.raises(InputError, match="the file exists; --force replaces it"):
        Recorder(path)
    Recorder(path, force=True).discard()
    assert path.read_bytes() == run[0].read_bytes()
    (tmp_path / "folder.dpred").mkdir()
    with pytest.raises(InputError, match="a folder is in the place"):
        Recorder(tmp_path / "folder.dpred", force=True)


def everything(path: Path) -> tuple:
    with Record(path) as record:
        return (
            list(record.spans()),
            list(record.transfers()),
            list(record.counters()),
            list(record.uses()),
            record.layer_windows,
            record.run,
        )


def test_no_record_at_all(tmp_path):
    with pytest.raises(InputError, match="no such record"):
        Record(tmp_path / "none.dpred")
    for content in (b"", b"PK", b"hello\n" * 100):
        (tmp_path / "bad.dpred").write_bytes(content)
        with pytest.raises(InputError, match=r"bad\.dpred: not a record, or cut short"):
            Record(tmp_path / "bad.dpred")
    with pytest.raises(InputError, match="cannot read"):
        Record(tmp_path)
    with zipfile.ZipFile(tmp_path / "other.dpred", "w") as other:
        other.writestr("head.json", '{"schema": "dpred-record/9"}')
    with pytest.raises(InputError, match=r"schema: not a record of this kind; found 'dpred-record/9'"):
        Record(tmp_path / "other.dpred")
    with zipfile.ZipFile(tmp_path / "list.dpred", "w") as other:
        other.writestr("head.json", "[1]")
    with pytest.raises(InputError, match=r"head\.json is damaged \(not an object\)"):
        Record(tmp_path / "list.dpred")


def test_a_record_that_is_cut_short_is_refused(run, tmp_path):
    whole = run[0].read_bytes()
    path = tmp_path / "short.dpred"
    for size in range(0, len(whole), max(1, len(whole) // 97)):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError):
            everything(path)


def test_damage_is_one_clear_error_or_does_not_matter(run, tmp_path):
    whole = run[0].read_bytes()
    expected = everything(run[0])
    path = tmp_path / "bad.dpred"
    draw = np.random.default_rng(1)
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        for place in draw.integers(0, len(whole), draw.integers(1, 4)):
            damaged[place] ^= int(draw.integers(1, 256))
        path.write_bytes(bytes(damaged))
        try:
            assert everything(path) == expected
        except InputError as error:
            refused += 1
            assert "bad.dpred" in str(error)
    assert refused > 100


def test_a_pass_names_what_it_waited_for_and_nothing_that_comes_later(tmp_path):
    # Its fully connected layers wait for weights, pass after pass.
    path = tmp_path / "alexnet.dpred"
    recorder = Recorder(path)
    simulation = Simulation(load_workload("alexnet"), load_topology("dpred_stripes_ddr4"), probe=recorder)
    recorder.begin(simulation)
    recorder.finish(simulation, simulation.run())
    with Record(path) as record:
        spans = list(record.spans())
        uses: dict[int, set[int]] = defaultdict(set)
        for use in record.uses():
            uses[use.span].add(use.transfer)
    arrived = {s.transfer: s.end_ps for s in spans if s.component.endswith("_dma") and s.transfer != NO_SPAN}
    passes = [s for s in spans if s.component == "dispatcher" and s.state == "busy"]
    waited = [s for s in spans if s.component == "dispatcher" and s.state in ("weights", "activations")]
    caused = [s for s in waited if s.cause != NO_SPAN]
    assert len(caused) > 100
    for wait in caused:
        following = min((p for p in passes if p.start_ps >= wait.end_ps), key=lambda p: p.start_ps)
        assert spans[wait.cause].transfer in uses[following.number]
    for item in passes:
        assert all(arrived[transfer] <= item.start_ps for transfer in uses[item.number])
