"""A record played again shows what the simulation showed, at any moment, forward and back."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from dpred_sim.errors import InputError
from dpred_sim.observe.events import DEFAULT_FOLLOWED, Followed, Tap, event_line
from dpred_sim.observe.record import writer as writer_module
from dpred_sim.observe.record.reader import Record
from dpred_sim.observe.record.selection import Selection
from dpred_sim.observe.record.tracks import track_rows
from dpred_sim.observe.record.writer import Recorder
from dpred_sim.observe.replay import ReplaySource, heading_of_record
from dpred_sim.observe.source import LiveSource, heading_of
from dpred_sim.simulation.engine import Simulation
from dpred_sim.simulation.snapshot import Snapshot
from dpred_sim.simulation.systems import load_topology
from dpred_sim.topology.graph import Topology
from tests.networks import random_workload

FOLLOW = Selection(components=("dma", "dispatcher", "tile.3", "dram"))


@pytest.fixture(scope="module")
def topology() -> Topology:
    return load_topology("dpred_stripes_ddr4", set=["nodes.activations.size=64 KiB"])


@pytest.fixture(scope="module")
def played(topology, tmp_path_factory) -> tuple[Path, list[Snapshot], Simulation]:
    """A record, and what the simulation showed at the end of each layer and each few events."""
    before = writer_module.CHUNK_ROWS
    writer_module.CHUNK_ROWS = 100
    try:
        path = tmp_path_factory.mktemp("replay") / "run.dpred"
        recorder = Recorder(path)
        tap = Tap(recorder)
        simulation = Simulation(random_workload(6, layers=9), topology, probe=tap)
        recorder.begin(simulation)
        source = LiveSource(simulation, tap, recorder)
        source.follow(FOLLOW)
        source.listen(True)
        shots = []
        while source.advance(2):
            shots.append(source.snapshot())
        shots.append(source.snapshot())
        recorder.finish(simulation, simulation.result())
    finally:
        writer_module.CHUNK_ROWS = before
    return path, shots, simulation


def at(source: ReplaySource, time_ps: int) -> Snapshot:
    source.go_to_layer(source.record.layer_at(max(0, time_ps - 1)))
    source.time_ps = time_ps
    return source.snapshot()


def test_the_view_of_the_record_is_that_of_the_run(played) -> None:
    path, shots, simulation = played
    with Record(path) as record:
        source = ReplaySource(record)
        assert heading_of_record(record) == heading_of(simulation)
        compared = 0
        # Between two events of the kernel at one time the picture is not settled.
        settled = [a for a, b in pairwise(shots) if a.time_ps < b.time_ps] + shots[-1:]
        for shot in settled:
            again = at(source, shot.time_ps)
            assert again.time_ps == shot.time_ps and again.finished == shot.finished
            live = {state.name: state for state in shot.components}
            for state in again.components:
                expected = live[state.name]
                if state.kind in ("tile", "dispatcher"):
                    assert state.busy_fraction == pytest.approx(expected.busy_fraction, abs=1e-9)
                    assert sum(state.waits_ps.values()) == sum(expected.waits_ps.values())
                    compared += 1
                if state.kind == "dma":
                    assert state.kind == expected.kind
            assert [layer.name for layer in again.layers] == [layer.name for layer in shot.layers]
        assert compared > 300


def test_sums_at_the_end_are_those_of_the_run(played) -> None:
    path, shots, _ = played
    last = shots[-1]
    with Record(path) as record:
        source = ReplaySource(record)
        while source.advance(1000):
            pass
        again = source.snapshot()
    assert again.finished and again.work_done == again.work_total == last.work_total
    assert (again.offchip_bytes, again.offchip_bytes_raw) == (last.offchip_bytes, last.offchip_bytes_raw)
    assert again.layers == last.layers
    live = {state.name: state for state in last.components}
    for state in again.components:
        expected = live[state.name]
        assert state.level_bits == expected.level_bits and state.capacity_bits == expected.capacity_bits
        if state.kind not in ("buffer", "converter", "post_processing"):
            assert state.bits_moved == expected.bits_moved or state.kind == "tile", state.name
        if state.kind != "dram_channel":
            assert state.busy_fraction == pytest.approx(expected.busy_fraction, abs=1e-9), state.name
        if state.kind == "tile":
            assert state.waits_ps == {k: v for k, v in expected.waits_ps.items() if v}
    assert {state.name for state in again.components} == set(live)


def test_levels_and_bytes_agree_where_they_are_told(played) -> None:
    path, shots, _ = played
    with Record(path) as record:
        source = ReplaySource(record)
        for shot in [a for a, b in pairwise(shots) if a.time_ps < b.time_ps][::5]:
            again = at(source, shot.time_ps)
            assert again.offchip_bytes == shot.offchip_bytes
            assert again.work_done == shot.work_done
            assert again.layer_index in (shot.layer_index, shot.layer_index - 1)


def test_going_back_shows_what_was_there_before(played) -> None:
    path, *_ = played
    with Record(path) as record:
        source = ReplaySource(record)
        source.follow(FOLLOW)
        seen = [source.snapshot()]
        times = [0]
        while source.step("event"):
            seen.append(source.snapshot())
            times.append(source.time_ps)
        assert times == sorted(times) and len(set(times)) > 60
        for shot in reversed(seen):
            while source.time_ps > shot.time_ps:
                source.step("event", back=True)
            if source.time_ps != shot.time_ps:
                continue
            again = source.snapshot()
            assert again.offchip_bytes == shot.offchip_bytes
            assert {c.name: c.busy_fraction for c in again.components} == pytest.approx(
                {c.name: c.busy_fraction for c in shot.components}
            )
        assert source.time_ps == 0


def test_layers_are_stepped_through_both_ways(played) -> None:
    path, *_ = played
    with Record(path) as record:
        source = ReplaySource(record)
        starts = [start for start, _ in record.layer_windows]
        seen = [source.time_ps]
        while source.step("layer"):
            seen.append(source.time_ps)
        assert seen == starts and source.time_ps == record.time_ps
        back = []
        while source.time_ps:
            source.step("layer", back=True)
            back.append(source.time_ps)
        assert back == starts[::-1]
        source.step("layer", back=True)
        assert source.time_ps == 0
        with pytest.raises(InputError, match="no such layer"):
            source.go_to_layer(9)


def test_passes_are_stepped_through_both_ways(played) -> None:
    path, _, simulation = played
    with Record(path) as record:
        source = ReplaySource(record)
        forward = []
        while source.step("pass"):
            forward.append(source.time_ps)
        ends = {
            span.end_ps
            for span in record.spans(Selection(components=("dispatcher", "post_processing")))
            if span.state == "busy"
        }
        assert set(forward) | {record.time_ps} == ends | {record.time_ps}
        source.step("pass", back=True)
        backward = [source.time_ps]
        while source.time_ps:
            source.step("pass", back=True)
            backward.append(source.time_ps)
        assert backward[:-1] == sorted(ends - {record.time_ps}, reverse=True)
    assert len(ends) <= sum(cluster.passes for cluster in simulation.system.machine.clusters)


def test_events_of_the_record_are_those_of_the_tap(played) -> None:
    path, shots, _ = played
    with Record(path) as record:
        source = ReplaySource(record)
        source.follow(FOLLOW)
        every = [event_line(event) for event in source.events()]
    lines: dict[str, None] = {}
    for shot in shots:
        lines.update(dict.fromkeys(event_line(event) for event in shot.events))
    assert len(lines) > 90
    assert set(lines) <= set(every)
    # All that happened was told; the tap forgets none that ended within the last few.
    assert len(set(every) - set(lines)) < 0.02 * len(every)


def test_a_live_step_stops_at_the_next_followed_event_pass_or_layer(topology) -> None:
    tap = Tap()
    simulation = Simulation(random_workload(6, layers=4), topology, probe=tap)
    source = LiveSource(simulation, tap)
    source.follow(Selection(components=("dispatcher",), layers=("layer2",)))
    source.listen(True)
    assert source.step("event")
    events = source.snapshot().events
    assert len(events) == 1 and events[0].layer == "layer2" and events[0].component == "dispatcher"
    assert len(simulation.layers) == 2
    passes = sum(cluster.passes for cluster in simulation.system.machine.clusters)
    assert source.step("pass")
    assert sum(cluster.passes for cluster in simulation.system.machine.clusters) == passes + 1
    assert source.step("layer") and len(simulation.layers) == 3
    assert not source.step("layer") and simulation.result().complete


def test_a_closed_tap_hears_nothing_and_costs_nothing(topology) -> None:
    tap = Tap()
    simulation = Simulation(random_workload(6, layers=4), topology, probe=tap)
    source = LiveSource(simulation, tap)
    source.follow(Selection())
    assert not simulation.probe.active
    while source.advance(100):
        pass
    assert source.snapshot().events == () and tap._sent == 0
    alone = Simulation(random_workload(6, layers=4), topology).run()
    assert simulation.result().to_json() == alone.to_json()


def test_what_is_followed_by_default_and_by_name(topology) -> None:
    rows = track_rows(Simulation(random_workload(6, layers=2), topology))
    assert set(Followed(rows, Selection()).kinds.values()) == set(DEFAULT_FOLLOWED)
    assert "layer_barrier" in Followed(rows, Selection()).hidden
    tiles = Followed(rows, Selection(components=("tile",)))
    assert set(tiles.kinds) == {f"tile.{i}" for i in range(16)} and not tiles.hidden
    with pytest.raises(InputError, match="did you mean 'dram'"):
        Followed(rows, Selection(components=("darm",)))
