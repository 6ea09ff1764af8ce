"""The ready-made system of a design is the design at its own point of comparison."""

from __future__ import annotations

import numpy as np
import pytest

from dpred_sim.designs.base import DESIGNS
from dpred_sim.explore.peak import design_peak
from dpred_sim.locate import ready_made_names
from dpred_sim.simulation.build import tile_design
from dpred_sim.simulation.systems import load_topology
from dpred_sim.values.tensor import Tensor
from dpred_sim.workload.layer import Layer

SYSTEMS = {
    "cnvlutin": "equal peak",
    "dpred_loom": "equal peak",
    "dpred_stripes": "equal peak",
    "dpred_tartan": "dynamic widths",
    "laconic": "equal peak",
    "loom": "equal peak",
    "pragmatic": "equal peak",
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
@pytest.mark.parametrize("name", [name for name in DESIGNS.names() if not name.startswith("scnn")])
def test_the_peak_of_a_point_is_what_the_design_does(name, bits):
    """With values that need all their bits, or have all of them set."""
    for found in DESIGNS.get(name).equal_peak(bits):
        assert design_peak(found.design, bits) == pytest.approx(found.peak, rel=1e-3)
        assert design_peak(found.baseline, bits) == pytest.approx(found.peak, rel=1e-3)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("name", ["scnn", "scnn_dpred"])
def test_the_peak_of_scnn_is_reached_on_a_plane_that_fills_its_grid(name, bits):
    """Tiles of 2 x 2 positions and no zeros: no two products of a block fall into one bank."""
    (found,) = DESIGNS.get(name).equal_peak(bits)
    full = (1 << bits) - 1
    x, w = (Tensor(np.full(shape, full), bits) for shape in ((16, 16, 8), (256, 1, 1, 8)))
    cycles = found.design.layer_cycles(Layer.conv2d("peak", x, w))
    assert cycles.macs / cycles.total == found.peak
