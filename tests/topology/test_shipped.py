"""Every shipped system loads, says what it is, and has the peak that its comment states."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dpred_sim.components.base import kinds
from dpred_sim.components.dram.standard import load_standard
from dpred_sim.explore.peak import peak_macs_per_cycle
from dpred_sim.locate import ready_made, ready_made_names
from dpred_sim.simulation.systems import load_topology
from dpred_sim.topology.convert import convert, json_schema
from dpred_sim.topology.document import parse_yaml
from dpred_sim.topology.graph import DRAM

NAMES = ready_made_names("topologies", ".yaml")
MEMORIES = {"lpddr4": 2, "lpddr5": 4, "ddr5": 2, "hbm2": 16, "hbm3": 32}
"""Other memories, with their number of channels."""
FAMILY = {
    "dadiannao_ddr4": ("dadiannao", "raw"),
    "dadiannao_dpred_ddr4": ("dadiannao", "dpred"),
    "stripes_ddr4": ("stripes", "raw"),
    "dpred_stripes_raw_ddr4": ("dpred_stripes", "raw"),
    "dpred_stripes_ddr4": ("dpred_stripes", "dpred"),
    "dadiannao_8b_ddr4": ("dadiannao", "raw"),
    "dpred_stripes_8b_ddr4": ("dpred_stripes", "dpred"),
    "dpred_stripes_2ch": ("dpred_stripes", "dpred"),
    "dpred_stripes_edge": ("dpred_stripes", "dpred"),
    "scnn_ddr4": ("scnn", "zero_rle"),
    "scnn_8b_ddr4": ("scnn", "zero_rle"),
    "scnn_dpred_ddr4": ("scnn_dpred", "dpred"),
    "scnn_dpred_8b_ddr4": ("scnn_dpred", "dpred"),
    **{f"dpred_stripes_{memory}": ("dpred_stripes", "dpred") for memory in MEMORIES},
    **{f"dadiannao_{memory}": ("dadiannao", "raw") for memory in MEMORIES},
}
OWN_MEMORIES = ("scnn",)
"""Systems whose buffers and links are not those of the baseline of 4096 multipliers."""


def test_the_expected_systems_are_shipped() -> None:
    assert set(FAMILY) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_what_its_comment_says(name: str) -> None:
    system = load_topology(name)
    assert system.name == name
    assert len(system.description.splitlines()) >= 3
    stated = re.search(r"Peak: (\d+) (\d+)-bit multiply-accumulates", system.description)
    assert stated is not None
    peak, bits = int(stated.group(1)), int(stated.group(2))
    assert peak_macs_per_cycle(system, bits) == pytest.approx(peak, rel=1e-3)
    if name in FAMILY:
        stores = {node.parameters.stores.codec for node in system.of_kind(DRAM)}
        designs = {system.node(cluster.tiles[0]).parameters.design for cluster in system.clusters}
        assert (designs, stores) == ({FAMILY[name][0]}, {FAMILY[name][1]})


@pytest.mark.parametrize("name", NAMES)
def test_the_links_at_dram_are_at_least_as_wide_as_its_peak(name: str) -> None:
    system = load_topology(name)
    channels = system.of_kind(DRAM)
    peak = {
        node.id: load_standard(node.parameters.standard).peak_bits_per_second(node.parameters.bus)
        for node in channels
    }
    stated = re.search(r"at most ([\d.]+) GB/s, ([\d.]+) bit a cycle", system.description)
    assert stated is not None
    assert sum(peak.values()) / 8e9 == pytest.approx(float(stated.group(1)))
    assert sum(peak.values()) / system.clocks["core"] == pytest.approx(float(stated.group(2)))
    for link in system.links:
        joined = [id for id in peak if id in (*link.sources, *link.targets)]
        if joined and link.width_bits is not None:
            width = link.width_bits * system.clocks[link.clock]
            assert width >= sum(peak[id] for id in joined)


@pytest.mark.parametrize(
    "name",
    [n for n in NAMES if n in FAMILY and n.endswith("_ddr4") and not n.startswith(OWN_MEMORIES)],
)
def test_comparisons_differ_in_tiles_and_storage_only(name: str) -> None:
    system, reference = load_topology(name), load_topology("dadiannao_ddr4")
    assert system.links == reference.links
    assert system.clocks == reference.clocks
    for id, node in system.nodes.items():
        if node.kind == DRAM:
            assert node.parameters.model_copy(update={"stores": None}) == reference.nodes[
                id
            ].parameters.model_copy(update={"stores": None})
        elif node.kind != "tile":
            assert node == reference.nodes[id]


@pytest.mark.parametrize("memory", MEMORIES)
def test_other_memories_differ_in_dram_and_what_is_at_it_only(memory: str) -> None:
    reference = load_topology("dpred_stripes_ddr4")
    for family in ("dpred_stripes", "dadiannao"):
        system = load_topology(f"{family}_{memory}")
        assert len(system.of_kind(DRAM)) == MEMORIES[memory]
        assert re.search(rf"from {MEMORIES[memory]} channels of", " ".join(system.description.split()))
        for name in ("dispatcher", "activations", "weights.3"):
            one, other = system.node(name).parameters, reference.node(name).parameters
            wide = {"converter": None} if hasattr(one, "converter") else {}
            assert one.model_copy(update=wide) == other.model_copy(update=wide)
        on_chip = [link for link in reference.links if "dram" not in link.name]
        assert [link for link in system.links if "dram" not in link.name] == on_chip
    # whatever the channels bring, the converters take: 20 bit is the densest group
    system = load_topology(f"dpred_stripes_{memory}")
    standard = load_standard(system.of_kind(DRAM)[0].parameters.standard)
    peak = standard.peak_bits_per_second() / system.clocks["core"] * MEMORIES[memory]
    for name in ("activations", "weights.0"):
        converter = system.node(name).parameters.converter
        assert converter.groups * converter.units >= peak / 20


@pytest.mark.parametrize("name", NAMES)
def test_it_survives_conversion(name: str, tmp_path: Path) -> None:
    system = load_topology(name)
    convert(system, tmp_path / "system.json")
    assert load_topology(tmp_path / "system.json") == system
    assert load_topology(name, ["nodes.tile.count=3"]) != system


@pytest.mark.parametrize("name", NAMES)
def test_the_schema_knows_every_key(name: str) -> None:
    definitions = json_schema(kinds())["$defs"]
    document = parse_yaml((ready_made("topologies") / f"{name}.yaml").read_text(), name).data
    for node in document["nodes"].values():
        described = definitions[f"kind_{node['kind']}"]
        unknown = set(node) - set(described["properties"])
        assert not unknown or described["additionalProperties"]
        assert set(described["required"]) <= set(node)


def test_the_way_of_outputs_is_no_bottleneck_for_any_container() -> None:
    """The densest container has 20 bit a raw group of 256; DRAM at its peak takes that many raw bits."""
    system = load_topology("dpred_stripes_ddr4")
    raw = 204.8 / 20 * 256
    assert system.link("activations->dram").width_bits >= raw
    converter = system.node("dram").parameters.converter
    assert converter.groups * converter.units >= 204.8 / 20
