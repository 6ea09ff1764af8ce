"""What components tell an observer, and that nobody who looks changes anything."""

from __future__ import annotations

from collections import defaultdict

import pytest

from dpred_sim.components.probe import NO_SPAN, STATES
from dpred_sim.errors import Deadlock, InvariantBroken
from dpred_sim.simulation.engine import Simulation
from dpred_sim.simulation.systems import load_topology
from tests.networks import random_workload


class Recorder:
    active = True

    def __init__(self) -> None:
        self.spans: list[tuple[str, str, int, int, str, int, int, int]] = []
        self.counters: list[tuple[str, str, int, float]] = []
        self.transfers: list[tuple] = []
        self.uses: list[tuple[int, int]] = []

    def span(self, component, state, start_ps, end_ps, layer, transfer=NO_SPAN, cause=NO_SPAN, bits=0) -> int:
        self.spans.append((component, state, start_ps, end_ps, layer, transfer, cause, bits))
        return len(self.spans) - 1

    def counter(self, component, name, time_ps, value) -> None:
        self.counters.append((component, name, time_ps, value))

    def transfer(
        self, engine, what, layer, write, address, size_bytes, raw_bits, time_ps, cause=NO_SPAN
    ) -> int:
        self.transfers.append((engine, what, layer, write, address, size_bytes, raw_bits, time_ps, cause))
        return len(self.transfers) - 1

    def use(self, transfers, span) -> None:
        self.uses += [(transfer, span) for transfer in transfers]


@pytest.fixture
def topology():
    return load_topology("dpred_stripes_ddr4", set=["nodes.activations.size=64 KiB"])


def test_spans_of_every_tile_fill_the_run_without_gaps(topology):
    probe = Recorder()
    simulation = Simulation(random_workload(6, layers=5), topology, probe=probe)
    result = simulation.run()
    tiles = defaultdict(list)
    for component, state, start, end, *_ in probe.spans:
        assert state in STATES
        assert start <= end
        if component.startswith("tile.") and "->" not in component:
            tiles[component].append((start, end, state))
    assert len(tiles) == 16
    for spans in tiles.values():
        now = 0
        for start, end, _ in spans:
            assert start == now
            now = end
        assert now == result.time_ps
    statistics = {(row.component, row.statistic): row.value for row in result.components}
    for tile, spans in tiles.items():
        busy = sum(end - start for start, end, state in spans if state == "busy")
        assert busy == statistics[(tile, "busy_ps")]


def test_a_wait_names_the_transfer_that_ended_it(topology):
    probe = Recorder()
    Simulation(random_workload(6, layers=3), topology, probe=probe).run()
    causes = [
        (span, probe.spans[span[6]]) for span in probe.spans if span[1] != "busy" and span[6] != NO_SPAN
    ]
    causes = [pair for pair in causes if pair[0][1] != "no_filters"]
    assert causes
    for wait, cause in causes:
        assert wait[1] in ("weights", "activations")
        assert probe.transfers[cause[5]][1] in ("weights", "activations", "shortcut")
        assert cause[3] == wait[3]


def test_transfers_add_up(topology):
    probe = Recorder()
    result = Simulation(random_workload(6, layers=5), topology, probe=probe).run()
    moved = [size for *_, size, _, _, _ in probe.transfers]
    assert sum(moved) == result.traffic["system_traffic"]["stored_bytes"]
    arrived = [span for span in probe.spans if span[0].endswith("_dma") and span[1] == "busy"]
    assert [span[7] // 8 for span in sorted(arrived, key=lambda span: span[5])] == moved


def test_an_observer_may_know_spans_and_counters_only(topology):
    class Short:
        def __init__(self):
            self.spans, self.counters = [], 0

        def span(self, component, state, start_ps, end_ps, layer, transfer, cause):
            self.spans.append((component, state, start_ps, end_ps, layer, transfer, cause))
            return len(self.spans) - 1

        def counter(self, component, name, time_ps, value):
            self.counters += 1

    short, long = Short(), Recorder()
    for probe in (short, long):
        Simulation(random_workload(6, layers=3), topology, probe=probe).run()
    assert short.spans == [span[:7] for span in long.spans]
    assert short.counters == len(long.counters)


def test_looking_changes_nothing(topology):
    workload = random_workload(6, layers=5)
    alone = Simulation(workload, topology).run().to_json()
    assert Simulation(workload, topology, probe=Recorder()).run().to_json() == alone


@pytest.mark.parametrize("method", ["span", "counter", "transfer", "use"])
def test_an_observer_that_fails_is_detached_and_reported(topology, method, monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError("observer broke")

    monkeypatch.setattr(Recorder, method, fail)
    workload = random_workload(6, layers=3)
    with pytest.warns(UserWarning, match="Recorder failed and is detached"):
        result = Simulation(workload, topology, probe=Recorder()).run()
    assert result.to_json() == Simulation(workload, topology).run().to_json()


def test_a_deadlock_says_who_waits_for_what_since_when(topology):
    simulation = Simulation(random_workload(6, layers=3), topology)
    arbiter = simulation.system.machine.memory._arbiters[0]
    arbiter.weights.clear()
    simulation.system.machine.memory.read = lambda *_: None
    with pytest.raises(Deadlock, match=r"dispatcher waits for \w+ since \d+ ps") as caught:
        simulation.run()
    assert "layer0" in str(caught.value)
    assert caught.value.exit_code == 1


def test_a_lost_byte_is_noticed(topology, monkeypatch):
    simulation = Simulation(random_workload(6, layers=3), topology)
    simulation.system.machine.weight_dma.bytes = -1
    with pytest.raises(InvariantBroken, match="cannot be trusted"):
        simulation.run()


def test_a_lost_product_is_noticed(topology):
    simulation = Simulation(random_workload(7, layers=3), topology)
    while simulation.sequencer.current is None:
        simulation.advance(1)
    own = next(passes for passes in simulation.sequencer.current.passes if passes)
    own[-1].macs -= 1
    with pytest.raises(InvariantBroken, match="multiply-accumulates"):
        simulation.run()


def test_a_run_that_is_stopped_has_a_partial_result(topology):
    simulation = Simulation(random_workload(6, layers=5), topology)
    while len(simulation.layers) < 2:
        assert simulation.advance(1)
    result = simulation.result()
    assert not result.complete
    assert len(result.layers) == 2
    assert result.time_ps >= result.layers[-1].end_ps
