"""Overrides change the document before it is checked; a path that leads nowhere is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from systems_under_test import EXAMPLE

from dpred_sim.errors import InputError
from dpred_sim.topology.graph import Topology

Make = Callable[..., Topology]


def test_values_of_nodes_links_and_clocks(make: Make) -> None:
    system = make(
        set=[
            "nodes.activations.size=1 MiB",
            "nodes.dram.level=ideal",
            "nodes.dram.stores.codec=raw",
            "nodes.weights.stores={codec: dpred, mode: zeros}",
            "nodes.activations.holds.1=outputs",
            "nodes.tile.run_ahead=2",
            "links.dram->activations.width=512 bit",
            "links.weights[i]->tile[i].latency=3 cycle",
            "clocks.core=1.2 GHz",
            "name=other",
        ]
    )
    assert system.node("activations").parameters.size == 8 << 20
    assert system.node("dram").parameters.level == "ideal"
    assert system.node("dram").parameters.stores.codec == "raw"
    assert system.node("weights.2").parameters.stores.options == {"mode": "zeros"}
    assert system.node("tile.0").parameters.options["run_ahead"] == 2
    assert system.link("dram->activations").width_bits == 512
    assert system.link("activations->dram").width_bits == 256
    assert [system.link(f"weights.{i}->tile.{i}").latency_cycles for i in range(4)] == [3] * 4
    assert system.clocks == {"core": 1_200_000_000}
    assert system.name == "other"


def test_links_with_a_name(make: Make) -> None:
    system = make(
        EXAMPLE,
        ("{between: [dram", "{name: fill, between: [dram"),
        ('{from: "weights[i]"', '{name: feed, from: "weights[i]"'),
        set=["links.fill.forward.width=512 bit", "links.feed.width=1 bit"],
    )
    assert system.link("fill.forward").width_bits == 512
    assert system.link("fill.backward").width_bits == 256
    assert system.link("feed.3").width_bits == 1
    assert system.link("fill.forward").sources == ("dram",)
    assert system.link("fill.backward").sources == ("activations",)


def test_a_count_takes_the_paired_nodes_along(make: Make) -> None:
    system = make(set=["nodes.tile.count=2"])
    assert len(system.of_kind("tile")) == 2
    assert len(system.buffers("weights")) == 2
    assert [link.name for link in system.links if link.group == "weights[i]->tile[i]"] == [
        "weights.0->tile.0",
        "weights.1->tile.1",
    ]
    assert len(make(set=["nodes.weights.count=8"]).of_kind("tile")) == 8


def test_a_count_of_its_own_wins(make: Make, refused: Callable[..., InputError]) -> None:
    assert len(make(set=["nodes.tile.count=8", "nodes.weights.count=8"]).of_kind("tile")) == 8
    error = refused(set=("nodes.tile.count=8", "nodes.weights.count=2"))
    assert "same count" in str(error)


def test_later_overrides_win(make: Make) -> None:
    assert len(make(set=["nodes.tile.count=2", "nodes.tile.count=3"]).of_kind("tile")) == 3


def test_a_loaded_system_changes_and_stays(make: Make) -> None:
    system = make()
    smaller = system.with_set(["nodes.tile.count=2"])
    assert len(smaller.of_kind("tile")) == 2
    assert len(system.of_kind("tile")) == 4
    again = smaller.with_set(["nodes.tile.rows=8"])
    assert len(again.of_kind("tile")) == 2
    assert again.node("tile.1").parameters.options["rows"] == 8
    assert system == make()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("nodes.tyle.count=8", "did you mean 'tile'?"),
        ("nodes.tile.cuont=8", "did you mean 'count'?"),
        ("nodes.tile.lane=8", "did you mean 'lanes'?"),
        ("nodes.tile.count=8000", "4096"),
        ("nodes.tile.count=", "needs a value"),
        ("nodes.tile.count", "path=value"),
        ("nodes.tile=8", "which key"),
        ("nodes.tile.=8", "which key"),
        ("nodes.tile..x=8", "empty name"),
        ("nodes.activations.holds.7=weights", "no such item"),
        ("nodes.activations.holds.x=weights", "no such item"),
        ("nodes.activations.size.x.y=3", "no further keys"),
        ("nodes.activations.size=4", "needs a unit"),
        ("nodes.activations.sise=4 MiB", "did you mean 'size'?"),
        ("nodes.dram.stores.cdec=raw", "did you mean 'codec'?"),
        ("links.dram->activation.width=1 bit", "did you mean 'dram->activations'?"),
        ("links.dram->activations=1 bit", "which key"),
        ("links.dram->activations.with=1 bit", "did you mean 'width'?"),
        ("links.dram->activations.width=512", "needs a unit"),
        ("clocks.cor=1 GHz", "did you mean 'core'?"),
        ("clocks.core=1", "needs a unit"),
        ("node.tile.count=8", "did you mean 'nodes'?"),
        ("name.x=a", "no further keys"),
        ("=3", "unknown path"),
        ("nodes.tile.rows=&a 3", "anchors"),
        ("nodes.tile.rows=!!python/name:os.system x", "tags"),
        ("nodes.tile.rows={a: [", "not YAML"),
        ("nodes.tile.rows=\x00", "not YAML"),
        ("nodes.tile.rows=" + "9" * 20_000, "too long"),
    ],
)
def test_overrides_that_lead_nowhere(refused: Callable[..., InputError], override: str, words: str) -> None:
    error = refused(set=(override,))
    assert words in str(error)
    if override.startswith("nodes.tile.count=8000"):
        assert error.file == "--set nodes.tile.count=8000"
        assert error.line is None


def test_a_structural_mistake_by_an_override_names_it(refused: Callable[..., InputError]) -> None:
    error = refused(set=("links.dram->weights[*].to=weights[0]",))
    assert "unreachable memory" in str(error)
