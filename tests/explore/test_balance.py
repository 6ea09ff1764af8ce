"""Demand against capacity, recomputed from the layer's shapes."""

from __future__ import annotations

import re

import numpy as np
import pytest

from dpred_sim.designs.base import design
from dpred_sim.explore.balance import Demand, balance
from dpred_sim.locate import ready_made_names
from dpred_sim.simulation.systems import load_topology
from dpred_sim.topology.graph import Topology
from dpred_sim.values.tensor import Tensor
from dpred_sim.workload.layer import Layer
from dpred_sim.workload.network import Network
from dpred_sim.workload.workload import Workload

BASELINE, SERIAL = "dadiannao_ddr4", "dpred_stripes_ddr4"


def tensor(shape: tuple[int, ...], scale: float, bits: int, signed: bool, seed: int) -> Tensor:
    """Mostly small values, as networks have them."""
    drawn = np.random.default_rng(seed).laplace(0, scale, shape)
    top = (1 << (bits - signed)) - 1
    values = np.clip(np.rint(drawn if signed else np.maximum(drawn, 0)), -top if signed else 0, top)
    return Tensor(values.astype(np.int64), bits, signed=signed)


def workload(bits: int, *layers: Layer) -> Workload:
    network = Network()
    for layer in layers:
        network.add(layer)
    return Workload("test", network, bits, "drawn", synthetic=True)


def conv(
    name: str, side: int, channels: int, filters: int, kernel: int, bits: int = 16, **more: int
) -> Layer:
    groups = more.get("groups", 1)
    return Layer.conv2d(
        name,
        tensor((side, side, channels), 20, bits, False, 1),
        tensor((filters, kernel, kernel, channels // groups), 20, bits, True, 2),
        padding=kernel // 2,
        **more,
    )


def of(demands: list[Demand], where: str, what: str) -> Demand:
    (found,) = [d for d in demands if (d.where, d.what) == (where, what) and d.kind != "converter"]
    return found


def test_demands_of_one_layer_on_the_bit_parallel_baseline() -> None:
    layer = conv("c", side=8, channels=32, filters=256, kernel=3)
    demands = balance(workload(16, layer), load_topology(BASELINE))
    cycles = 64 * 9 * 2
    assert of(demands, "weights", "weights").demand == 16 * 16 * 16
    assert of(demands, "weights[i]->tile[i]", "weights").demand == 16 * 16 * 16
    bricks = 64 * 9 * 32 * 16 / cycles
    assert of(demands, "activations->dispatcher", "activations").demand == pytest.approx(bricks)
    assert of(demands, "dispatcher->tile[*]", "activations").demand == pytest.approx(bricks)
    assert of(demands, "tile[*]->activations", "outputs").demand == pytest.approx(64 * 256 * 16 / cycles)
    stored = (layer.weights.values.size + layer.activations.values.size + 64 * 256) * 16
    assert of(demands, "dram", "all").demand == pytest.approx(stored / cycles, rel=0.01)
    assert not [d for d in demands if d.limits and d.where != "dram"]
    assert not [d for d in demands if d.kind == "converter"]


def test_demands_follow_the_cycles_of_the_design() -> None:
    layer = conv("c", side=8, channels=32, filters=256, kernel=3)
    demands = balance(workload(16, layer), load_topology(SERIAL))
    cycles = design("dpred_stripes").layer_cycles(layer).total
    assert of(demands, "weights", "weights").demand == pytest.approx(4 * 9 * 2 * 16 * 16 * 16 / cycles)
    assert of(demands, "tile[*]->activations", "outputs").demand == pytest.approx(64 * 256 * 16 / cycles)


def test_a_narrow_path_is_marked_with_its_slowdown() -> None:
    layer = conv("c", side=8, channels=32, filters=256, kernel=3)
    narrow = load_topology(BASELINE, ["links.weights[i]->tile[i].width=1024 bit"])
    demand = of(balance(workload(16, layer), narrow), "weights[i]->tile[i]", "weights")
    assert demand.limits
    assert demand.slowdown == pytest.approx(3)
    assert demand.utilisation == 4


def test_one_bus_for_all_weights_divides_its_width() -> None:
    layer = conv("c", side=8, channels=32, filters=256, kernel=3)
    shared = [
        "links.weights[i]->tile[i].name=feed",
        "links.feed.from=weights[*]",
        "links.feed.to=tile[*]",
        "links.feed.medium=bus",
    ]
    system = load_topology(BASELINE, shared[:1]).with_set(shared[1:])
    demand = of(balance(workload(16, layer), system), "feed", "weights")
    assert demand.demand == 16 * 16 * 16 * 16
    assert demand.slowdown == pytest.approx(15)


def test_a_link_with_a_slower_clock_carries_less() -> None:
    layer = conv("c", side=8, channels=32, filters=256, kernel=3)
    system = load_topology(BASELINE)
    document = system.to_dict()
    document["clocks"]["half"] = "500 MHz"
    for link in document["links"]:
        if link["from"] == "weights[i]":
            link["clock"] = "half"
    demand = of(balance(workload(16, layer), _from(document)), "weights[i]->tile[i]", "weights")
    assert demand.capacity == 2048
    assert demand.slowdown == pytest.approx(1)


def _from(document: dict[str, object]) -> Topology:
    import json
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "system.json"
        path.write_text(json.dumps(document))
        return load_topology(path)


def test_reading_every_step_anew_costs_more() -> None:
    layer = conv("c", side=8, channels=32, filters=256, kernel=3)
    once = of(balance(workload(16, layer), load_topology(SERIAL)), "activations->dispatcher", "activations")
    system = load_topology(SERIAL, ["nodes.dispatcher.reuse=none"])
    anew = of(balance(workload(16, layer), system), "activations->dispatcher", "activations")
    cycles = design("dpred_stripes").layer_cycles(layer).total
    assert anew.demand == pytest.approx(64 * 9 * 32 * 16 / cycles)
    assert once.demand < anew.demand


def test_a_link_narrower_than_dram_limits_what_dram_limits() -> None:
    layer = conv("fc", side=1, channels=512, filters=4096, kernel=1)
    wide = balance(workload(16, layer), load_topology(SERIAL))
    assert of(wide, "dram", "all").limits
    assert not of(wide, "dram->weights[*]", "weights").limits
    assert of(wide, "dram->weights[*]", "weights").demand == pytest.approx(204.8)
    narrow = load_topology(SERIAL, ["links.dram->weights[*].width=128 bit"])
    assert of(balance(workload(16, layer), narrow), "dram->weights[*]", "weights").limits


def test_a_fully_connected_layer_reads_weights_at_the_pace_of_its_steps() -> None:
    """128 chunks x 4 blocks, one step a cycle: the 4096-bit paths are full and limit nothing."""
    layer = Layer.linear("fc", tensor((2048,), 20, 16, False, 1), tensor((1000, 2048), 20, 16, True, 2))
    demand = of(balance(workload(16, layer), load_topology(SERIAL)), "weights[i]->tile[i]", "weights")
    assert 0.95 * 4096 < demand.demand <= 4096
    assert not demand.limits


def test_a_slow_converter_is_marked() -> None:
    layer = conv("fc", side=1, channels=512, filters=4096, kernel=1)
    for groups, limits in ((16, False), (1, True)):
        system = load_topology(SERIAL, [f"nodes.weights.converter.groups={groups}"])
        (found,) = [
            d for d in balance(workload(16, layer), system) if (d.kind, d.where) == ("converter", "weights")
        ]
        assert found.limits is limits
        assert found.unit == "group/cycle"


AWKWARD = [
    ("first", 20, 3, 64, 7, {"stride": 2}),
    ("wide", 10, 64, 256, 1, {}),
    ("narrow", 10, 256, 64, 1, {}),
    ("middle", 10, 64, 64, 3, {}),
    ("depthwise", 10, 64, 64, 3, {"groups": 64}),
]


BALANCED = re.compile(r".*_(ddr4|ddr5|lpddr4|lpddr5|hbm2|hbm3)")


@pytest.mark.parametrize(
    "name", [n for n in ready_made_names("topologies", ".yaml") if BALANCED.fullmatch(n)]
)
def test_no_path_on_chip_limits_the_shipped_comparisons(name: str) -> None:
    bits = 8 if "_8b_" in name else 16
    scale = 4 if bits == 8 else 60
    system = load_topology(name)
    for label, side, channels, filters, kernel, more in AWKWARD:
        layer = Layer.conv2d(
            label,
            tensor((side, side, channels), scale, bits, False, 1),
            tensor((filters, kernel, kernel, channels // more.get("groups", 1)), scale, bits, True, 2),
            padding=kernel // 2,
            **more,
        )
        limits = [d for d in balance(workload(bits, layer), system) if d.limits and d.kind != "memory"]
        assert not limits, limits
