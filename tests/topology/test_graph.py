"""What a loaded system says of itself, and the ways through it."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from systems_under_test import EXAMPLE, KINDS, load_checked

from dpred_sim.errors import InputError
from dpred_sim.topology.graph import Cluster, Link, Node, Topology

Make = Callable[..., Topology]

ROUTERS = """\
  left: {kind: router}
  right: {kind: router, delay: 1.5 ns}
links:
  - {from: dram, to: left, width: 8 bit}
  - {from: left, to: right, width: 8 bit}
  - {from: right, to: dispatcher, width: 8 bit}
"""


def test_nodes_and_links_of_the_example(make: Make) -> None:
    system = make()
    assert list(system.nodes) == [
        "dram",
        "activations",
        *(f"weights.{i}" for i in range(4)),
        "dispatcher",
        *(f"tile.{i}" for i in range(4)),
    ]
    assert (system.node("weights.2").group, system.node("weights.2").index) == ("weights", 2)
    assert [(link.name, link.medium) for link in system.links] == [
        ("dram->activations", "point"),
        ("activations->dram", "point"),
        ("dram->weights[*]", "bus"),
        ("activations->dispatcher", "point"),
        ("dispatcher->tile[*]", "broadcast"),
        *((f"weights.{i}->tile.{i}", "point") for i in range(4)),
        ("tile[*]->activations", "bus"),
    ]
    assert system.link("dram->weights[*]").targets == tuple(f"weights.{i}" for i in range(4))
    assert system.clusters == (Cluster("dispatcher", tuple(f"tile.{i}" for i in range(4))),)
    assert [node.id for node in system.buffers("outputs")] == ["activations"]
    assert system.description == "The system that the tests start from.\nIt is limited by nothing."
    assert system.period_ps() == 1000


def test_references_name_parts_of_a_group(make: Make) -> None:
    link = '  - {from: ["tile[1..2]", "tile[0]"], to: dram, medium: bus, width: 1 bit}\n'
    system = make(EXAMPLE + link)
    assert system.link("tile[1..2],tile[0]->dram").sources == ("tile.1", "tile.2", "tile.0")


@pytest.mark.parametrize("text", ["dram", "dram[*]", "dram[0]", "dram.0", " dram ", "dram[ * ]"])
def test_a_single_instance_by_any_reference(make: Make, text: str) -> None:
    system = make(EXAMPLE, ("{from: dram,", f'{{from: "{text}",'))
    assert system.link(f"{text.replace(' ', '')}->weights[*]").sources == ("dram",)


def test_pairing_with_a_single_node_makes_a_link_for_each(make: Make) -> None:
    system = make(
        EXAMPLE,
        ("[dram, activations]", '["dram[i]", activations]'),
        ("{kind: dram_channel,", "{kind: dram_channel, count: 2,"),
        ("{from: dram,", '{from: "dram[*]",'),
    )
    assert system.link("dram.1->activations").sources == ("dram.1",)
    assert system.link("activations->dram.0").targets == ("dram.0",)
    assert system.readable("weights.3") == ("dram.0", "dram.1")
    assert system.writable("activations") == ("dram.0", "dram.1")


def test_unknown_names_name_the_nearest(make: Make) -> None:
    system = make()
    with pytest.raises(InputError, match=r"did you mean 'tile\.3'"):
        system.node("tile.33")
    with pytest.raises(InputError, match="did you mean 'dram->activations'"):
        system.link("dram->activation")


def test_routes_of_the_example(make: Make) -> None:
    system = make()
    assert system.routes("dram", "weights.3") == ("dram->weights[*]",)
    assert system.routes("dispatcher", "tile.1") == ("dispatcher->tile[*]",)
    assert system.routes("weights.2", "tile.2") == ("weights.2->tile.2",)
    with pytest.raises(InputError, match="no way"):
        system.routes("weights.2", "tile.1")
    with pytest.raises(InputError, match="no such component"):
        system.routes("dram", "tile.9")


def test_routes_pass_through_routers_only(make: Make) -> None:
    system = make(EXAMPLE, ("links:\n", ROUTERS))
    assert system.routes("dram", "dispatcher") == ("dram->left", "left->right", "right->dispatcher")
    assert not make().reaches("dram", "dispatcher")
    assert system.node("right").parameters.delay == 1500


def test_a_named_route_is_taken(make: Make) -> None:
    way = "[dram->left, left->right, right->dispatcher]"
    short = "  - {from: dram, to: dispatcher, width: 8 bit}\n"
    text = EXAMPLE.replace("links:\n", ROUTERS) + short
    assert make(text).routes("dram", "dispatcher") == ("dram->dispatcher",)
    named = make(text + f"routes:\n  - {{from: dram, to: dispatcher, via: {way}}}\n")
    assert named.routes("dram", "dispatcher") == ("dram->left", "left->right", "right->dispatcher")
    assert named != make(text)


@pytest.mark.parametrize(
    ("route", "words"),
    [
        ("{from: dram, to: tile, via: [dram->left]}", "no such component"),
        ("{from: dram, to: left, via: []}", "at least 1"),
        ("{from: dram, to: left, via: [dram->lift]}", "did you mean 'dram->left'?"),
        ("{from: dram, to: right, via: [dram->left]}", "does not end there"),
        ("{from: dram, to: right, via: [left->right]}", "does not go on"),
        ("{from: dram, to: dispatcher, via: [dram->activations, activations->dispatcher]}", "that forward"),
        ("{from: dram, to: left}", "'via' is missing"),
        ("{from: dram, to: left, via: [dram->left], x: 1}", "unknown key"),
        ("dram", "a route is a mapping"),
    ],
)
def test_routes_that_lead_nowhere(refused: Callable[..., InputError], route: str, words: str) -> None:
    text = EXAMPLE.replace("links:\n", ROUTERS) + f"routes:\n  - {route}\n"
    error = refused(text=text)
    assert words in str(error)
    assert error.line == text.count("\n")


def parts(count: int, links: list[tuple[list[int], list[int]]]) -> Topology:
    """Routers with the given links, without a file."""
    router = KINDS["router"]()
    nodes = {f"r.{i}": Node(f"r.{i}", "r", i, "router", router) for i in range(count)}
    made = tuple(
        Link(
            f"l{n}",
            "bus",
            tuple(dict.fromkeys(f"r.{i}" for i in sources)),
            tuple(dict.fromkeys(f"r.{i}" for i in targets)),
            8,
            1,
            "core",
        )
        for n, (sources, targets) in enumerate(links)
    )
    return Topology("parts", {"core": 10**9}, nodes, made)


ends = st.lists(st.integers(0, 6), min_size=1, max_size=3)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(ends, ends), min_size=1, max_size=9))
def test_routes_are_shortest_and_first_in_the_file(links: list[tuple[list[int], list[int]]]) -> None:
    system = parts(7, links)
    simple = nx.DiGraph()
    simple.add_nodes_from(system.nodes)
    simple.add_edges_from((s, t) for link in system.links for s in link.sources for t in link.targets)
    lengths = dict(nx.all_pairs_shortest_path_length(simple))
    for source in system.nodes:
        for target in system.nodes:
            if source == target:
                continue
            assert system.reaches(source, target) == (target in lengths[source])
            if not system.reaches(source, target):
                continue
            way = system.routes(source, target)
            assert len(way) == lengths[source][target]
            here = {source}
            for name in way:
                assert here & set(system.link(name).sources)
                here = set(system.link(name).targets)
            assert target in here
            if len(way) == 1:
                first = next(x for x in system.links if source in x.sources and target in x.targets)
                assert way == (first.name,)


def test_the_graph_of_networkx(make: Make) -> None:
    graph = make().graph
    assert isinstance(graph, nx.MultiDiGraph)
    assert graph.nodes["activations"]["size"] == "4 MiB"
    assert graph.nodes["activations"]["holds"] == '["activations", "outputs"]'
    assert graph.edges["dram", "activations", "dram->activations"]["width"] == "256 bit"
    bus = "link:dram->weights[*]"
    assert nx.shortest_path(graph, "dram", "weights.3") == ["dram", bus, "weights.3"]
    assert graph.nodes[bus]["medium"] == "bus"
    assert graph.number_of_edges() == 2 + 5 + 1 + 5 + 4 + 5
    for _, values in graph.nodes(data=True):
        assert all(isinstance(value, str | int | float | bool) for value in values.values())


def test_ideal_memory(make: Make) -> None:
    system = make()
    ideal = system.with_ideal_memory()
    assert ideal.node("dram").parameters.level == "ideal"
    assert {link.name: link.width_bits for link in ideal.links if link.width_bits is None} == {
        "dram->activations": None,
        "activations->dram": None,
        "dram->weights[*]": None,
    }
    changed = {"dram"}
    assert all(ideal.node(id) == node for id, node in system.nodes.items() if id not in changed)
    assert ideal.with_set(["nodes.tile.count=2"]).node("dram").parameters.level == "ideal"
    assert system.link("dram->activations").width_bits == 256


def test_stores(make: Make) -> None:
    system = make().with_stores("dpred", group_size=8)
    assert system.node("dram").parameters.stores.codec == "dpred"
    assert system.node("dram").parameters.stores.options == {"group_size": 8}
    assert system.with_stores("raw").node("dram").parameters.stores.options == {}
    assert system.node("activations").parameters.stores.codec == "raw"
    with pytest.raises(InputError, match="did you mean 'dpred'"):
        system.with_stores("dperd")
    with pytest.raises(InputError, match="did you mean 'mode'"):
        system.with_stores("dpred", mod="zeros")
    with pytest.raises(InputError, match="single value"):
        system.with_stores("dpred", mode=["zeros"])


def test_both_changes_meet(make: Make) -> None:
    system = make()
    assert system.with_ideal_memory().with_stores("raw") == system.with_stores("raw").with_ideal_memory()


@pytest.mark.parametrize("expanded", [False, True])
def test_the_document_loads_to_an_equal_system(make: Make, tmp_path: Path, expanded: bool) -> None:
    system = make(set=["nodes.dram.stores.mode=zeros"])
    document = system.to_dict(expanded=expanded)
    for suffix in (".json", ".yaml"):
        path = tmp_path / f"again{suffix}"
        path.write_text(json.dumps(document), encoding="utf-8")
        again = load_checked(path)
        assert again == system
        assert again.to_dict(expanded=expanded) == document
    assert document["nodes"]["dram"]["level"] == "banked"
    assert ("count" in document["nodes"].get("tile", {})) is not expanded


def test_two_spellings_resolve_to_the_same(make: Make) -> None:
    spelled = make(EXAMPLE, ("4 MiB", "4096 KiB"), ("512 KiB", "0.5 MiB"), ("1 GHz", "1000 MHz"))
    assert spelled == make()
    assert spelled.to_dict() == make().to_dict()


def test_a_system_survives_pickling(make: Make) -> None:
    import systems_under_test

    system = make()
    bare = systems_under_test.load(Path(system.file), KINDS)
    assert pickle.loads(pickle.dumps(bare)) == system
    assert pickle.loads(pickle.dumps(bare)).with_set(["nodes.tile.count=2"]) == system.with_set(
        ["nodes.tile.count=2"]
    )
