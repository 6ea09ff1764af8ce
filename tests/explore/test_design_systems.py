"""The ready-made system of a design is the design at its own point of comparison."""

from __future__ import annotations

import pytest

from dpred_sim.designs.base import DESIGNS
from dpred_sim.explore.peak import design_peak
from dpred_sim.locate import ready_made_names
from dpred_sim.simulation.build import tile_design
from dpred_sim.simulation.systems import load_topology

SYSTEMS = {
    "cnvlutin": "equal peak",
    "dpred_loom": "equal peak",
    "dpred_stripes": "equal peak",
    "dpred_tartan": "dynamic widths",
    "laconic": "equal peak",
    "loom": "equal peak",
    "pragmatic": "equal peak",
    "scnn": "1024 MACs",
    "scnn_dpred": "1024 MACs",
    "stripes": "equal peak",
    "tartan": "equal peak",
}
CASES = [
    (name, bits)
    for family in SYSTEMS
    for bits, name in ((16, f"{family}_ddr4"), (8, f"{family}_8b_ddr4"))
    if name in ready_made_names("topologies", ".yaml")
]


def point(name: str, label: str, bits: int):
    (found,) = [point for point in DESIGNS.get(name).equal_peak(bits) if point.label == label]
    return found


@pytest.mark.parametrize(("system", "bits"), CASES)
def test_a_system_has_the_tiles_of_its_point(system, bits):
    family = system.removesuffix("_ddr4").removesuffix("_8b")
    name = family if family in DESIGNS.names() else "tartan"
    assert tile_design(load_topology(system)) == point(name, SYSTEMS[family], bits).design


@pytest.mark.parametrize("bits", [8, 16])
def test_bit_fusion_and_its_baselines(bits):
    found = point("bit_fusion", "per MAC", bits)
    baseline = {8: "dadiannao_512_8b_ddr4", 16: "dadiannao_128_ddr4"}[bits]
    assert tile_design(load_topology("bit_fusion_8b_ddr4")) == found.design
    assert tile_design(load_topology(baseline)) == found.baseline


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("name", ["scnn", "scnn_dpred"])
def test_the_dense_baseline_of_scnn(name, bits):
    found = point(name, "1024 MACs", bits)
    system = load_topology("dadiannao_1024_8b_ddr4" if bits == 8 else "dadiannao_1024_ddr4")
    assert tile_design(system) == found.baseline


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("name", DESIGNS.names())
def test_the_peak_of_a_point_is_what_the_design_does(name, bits):
    """With values that need all their bits, or have all of them set."""
    for found in DESIGNS.get(name).equal_peak(bits):
        assert design_peak(found.design, bits) == pytest.approx(found.peak, rel=1e-3)
        assert design_peak(found.baseline, bits) == pytest.approx(found.peak, rel=1e-3)
