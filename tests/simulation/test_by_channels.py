"""Designs whose tiles keep a block's outputs while the channels of whole planes pass by."""

from __future__ import annotations

import itertools
import json
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpred_sim.codecs.base import codec
from dpred_sim.components.planning import reserve_bits
from dpred_sim.errors import InputError
from dpred_sim.schedule.placement import POINTER_BITS
from dpred_sim.simulation.engine import Simulation
from dpred_sim.simulation.systems import load_topology
from dpred_sim.workload.layer import Layer, Pool
from dpred_sim.workload.network import Network
from dpred_sim.workload.workload import Workload
from tests.networks import random_sequence, random_workload, spiky
from tests.simulation.test_concat import branches

BASES = {name: load_topology(name) for name in ("scnn_ddr4", "scnn_dpred_ddr4")}


def one_layer(layer: Layer, shortcut: bool = False) -> Workload:
    network = Network()
    if shortcut:
        rng = np.random.default_rng(3)
        first = Layer.conv2d(
            "first",
            layer.activations,
            spiky(rng, (64, 1, 1, 64), 16, True),
            spiky(rng, (12, 12, 64), 16, False),
        )
        network.add(first)
        network.add(layer, reads="input", shortcut="first")
    else:
        network.add(layer)
    return Workload("one", network, 16, source="random values", synthetic=True)


def conv(filters: int = 64, depth: int = 64, size: int = 12, **options) -> Layer:
    rng = np.random.default_rng(2)
    weights = spiky(rng, (filters, 3, 3, depth // options.get("groups", 1)), 16, True)
    acts, outputs = spiky(rng, (size, size, depth), 16, False), spiky(rng, (size, size, filters), 16, False)
    return Layer.conv2d("c", acts, weights, outputs, padding=1, **options)


def random_system(seed: int):
    """Small grids and buffers, raw or compressed; layers may not fit."""
    rnd = random.Random(seed)
    x, y = rnd.choice([(8, 8), (4, 4), (2, 3), (1, 1)])
    changes = [
        f"nodes.tile.grid_x={x}",
        f"nodes.tile.grid_y={y}",
        f"nodes.tile.count={x * y}",
        f"nodes.tile.accumulators={rnd.choice([14, 32, 256, 1024])}",
        f"nodes.tile.group_passes={rnd.choice(['joined', 'separate', 'separate'])}",
        f"nodes.activations.size={rnd.choice([8, 16, 24, 32, 64, 4096])} KiB",
        f"nodes.weights.size={rnd.choice([1, 2, 4, 16, 512])} KiB",
        f"nodes.dram.stores.codec={rnd.choice(['zero_rle', 'dpred'])}",
    ]
    if rnd.random() < 0.3:
        changes += ["nodes.activations.stores.codec=dpred", "nodes.weights.stores.codec=zero_rle"]
    base = BASES[rnd.choice(sorted(BASES))]
    for node in ("dram", "activations", "weights"):
        base = base.with_set([f"nodes.{node}.stores={{codec: dpred}}"])
    return base.with_set(changes)


@given(seed=st.integers(0, 100_000))
@settings(max_examples=40, deadline=None)
def test_random_runs_keep_every_guarantee(seed):
    rnd = random.Random(seed)
    make = rnd.choice([random_workload, random_workload, random_sequence])
    workload = make(seed, bits=rnd.choice([8, 16]))
    try:
        simulation = Simulation(workload, random_system(seed), batch=rnd.choice([1, 1, 2]))
    except InputError as error:
        assert "fit" in str(error) or "too small" in str(error)
        return
    result = simulation.run()  # raises Deadlock or InvariantBroken when a guarantee does not hold
    assert sum(layer.cycles for layer in result.layers) == result.total_cycles


def test_planes_that_stay_are_read_once_and_outputs_written_once():
    layer = conv()
    (found,) = Simulation(one_layer(layer), BASES["scnn_ddr4"]).run().layers
    assert found.compute_cycles == found.ideal_cycles
    rle = codec("zero_rle", run_bits=4)
    least = (rle.size_bits(layer.activations) + 12 * POINTER_BITS) // 8
    assert least <= found.traffic["activations"].read_bytes <= least + 64
    assert found.traffic["weights"].raw_read_bytes == layer.weights.values.size * 2
    assert found.traffic["outputs"].raw_write_bytes == 12 * 12 * 64 * 2


def test_planes_that_do_not_stay_come_slab_by_slab_for_every_pass():
    """Four passes of 16 filters, each reading four slabs of 16 channels."""
    layer = conv()
    changes = ["nodes.tile.accumulators=64", "nodes.activations.size=20 KiB"]
    simulation = Simulation(one_layer(layer), BASES["scnn_ddr4"].with_set(changes))
    (job,) = simulation.jobs
    assert [job.slab(0, n) for n in range(job.slabs)] == [(0, 16), (16, 32), (32, 48), (48, 64)]
    assert len(job.schedule.blocks) == 4
    (found,) = simulation.run().layers
    assert found.traffic["activations"].raw_read_bytes == 4 * layer.activations.values.size * 2
    assert found.compute_cycles == found.ideal_cycles
    assert simulation.system.machine.activations.peak_bits <= 20 * 1024 * 8


def test_a_shortcut_that_does_not_stay_comes_for_the_filters_of_a_pass():
    layer = conv()
    workload = one_layer(layer, shortcut=True)
    changes = ["nodes.tile.accumulators=64", "nodes.activations.size=24 KiB"]
    found = Simulation(workload, BASES["scnn_ddr4"].with_set(changes)).run().layers[1]
    # All of it once, a fourth a pass, and none twice: nothing is left on chip of the layer before.
    assert found.traffic["shortcut"].raw_read_bytes == 12 * 12 * 64 * 2


def test_groups_stream_the_channels_of_their_own_group():
    layer = conv(groups=2)
    changes = ["nodes.tile.accumulators=64", "nodes.activations.size=20 KiB"]
    simulation = Simulation(one_layer(layer), BASES["scnn_ddr4"].with_set(changes))
    (job,) = simulation.jobs
    assert [job.slab(b, n) for b in (0, 2) for n in range(job.slabs)] == [
        (first, first + 16) for first in (0, 16, 32, 48)
    ]
    (found,) = simulation.run().layers
    assert found.traffic["activations"].raw_read_bytes == 2 * layer.activations.values.size * 2


def test_a_weight_buffer_smaller_than_a_block_streams_it():
    layer = conv()
    simulation = Simulation(one_layer(layer), BASES["scnn_ddr4"].with_set(["nodes.weights.size=48 KiB"]))
    (job,) = simulation.jobs
    (block,) = job.blocks
    assert block.room[-1] > 48 * 1024 * 8
    (found,) = simulation.run().layers
    assert found.traffic["weights"].raw_read_bytes == layer.weights.values.size * 2
    assert simulation.system.machine.weights[0].peak_bits <= 48 * 1024 * 8


@pytest.mark.parametrize(
    ("change", "message", "allowed"),
    [
        ("nodes.tile.accumulators=1", "a unit's part of a row of outputs, 2 of them, does not fit", ">= 2"),
        (
            "nodes.activations.size=4 KiB",
            "buffer 'activations' is too small for the plane of a slab of channels and its outputs",
            "at least",
        ),
        ("nodes.weights.size=64 B", "the weights of one step", "at least"),
        ("nodes.tile.count=63", "each unit of the 8 x 8 grid is a tile", "64"),
    ],
)
def test_what_the_hardware_could_not_run_is_refused_before_time_starts(change, message, allowed):
    with pytest.raises(InputError, match=message) as caught:
        Simulation(one_layer(conv()), BASES["scnn_ddr4"].with_set([change]))
    error = caught.value
    assert "layer 'c'" in str(error.field) or error.field == "nodes.tile.count"
    assert error.found is not None and allowed in str(error.allowed)


def test_sixteen_bit_values_are_refused_on_eight_bit_multipliers():
    with pytest.raises(InputError, match="of 16 bits do not fit multipliers of 8 bits"):
        Simulation(one_layer(conv()), load_topology("scnn_8b_ddr4"))


@pytest.mark.parametrize("name", sorted(BASES))
def test_outputs_are_verified(name):
    from dpred_sim.simulation.verify import verify_workload

    workload = random_workload(8, layers=3)
    found = verify_workload(workload, BASES[name])
    layers = [node.layer for node in workload.network if node.layer.weights is not None]
    assert found["layers"] == len(layers)
    assert found["values"] == sum(layer.windows * layer.filters for layer in layers)


CUT = ["nodes.tile.grid_x=2", "nodes.tile.grid_y=2", "nodes.tile.count=4", "nodes.tile.accumulators=24"]
"""A 12 x 12 plane on a grid of 2 x 2: a unit's 36 outputs of a filter do not fit.

6 bands of 2 rows let 16 passes of 4 filters read 6 x 4 rows each, 3 bands of 4 rows 32 passes 3 x 6 rows.
"""


@pytest.mark.parametrize("name", sorted(BASES))
def test_bands_of_a_plane_read_their_rows_once_and_weights_stay(name):
    layer = conv()
    simulation = Simulation(one_layer(layer), BASES[name].with_set(CUT))
    (job,) = simulation.jobs
    assert (job.bands, len(job.schedule.blocks), job.slabs) == (6, 16, 1)
    geometry = job.geometry
    assert geometry.first_row.tolist() == [0, 1, 3, 5, 7, 9]
    assert geometry.last_row.tolist() == [2, 4, 6, 8, 10, 11]
    assert geometry.bricks.tolist() == [12 * rows for rows in (3, 4, 4, 4, 4, 3)]
    (found,) = simulation.run().layers
    assert found.macs == 12 * 12 * 64 * 64 * 9
    assert found.compute_cycles == found.ideal_cycles == job.schedule.total
    assert found.traffic["weights"].raw_read_bytes == layer.weights.values.size * 2
    assert found.traffic["activations"].raw_read_bytes == layer.activations.values.size * 2
    assert found.traffic["outputs"].raw_write_bytes == 12 * 12 * 64 * 2
    # Blocks read their band anew from the buffer, halo rows too.
    stored = simulation.system.machine.activations
    assert stored.read_bits == pytest.approx(int(job.work.brick_bits[0]) * 22 * 12 * 16, rel=0.01)


def test_weights_that_do_not_stay_come_anew_for_every_band():
    layer = conv()
    changes = [*CUT, "nodes.weights.size=48 KiB"]
    simulation = Simulation(one_layer(layer), BASES["scnn_ddr4"].with_set(changes))
    (found,) = simulation.run().layers
    assert found.traffic["weights"].raw_read_bytes == 6 * layer.weights.values.size * 2
    assert found.traffic["activations"].raw_read_bytes == layer.activations.values.size * 2
    assert simulation.system.machine.weights[0].peak_bits <= 48 * 1024 * 8


@pytest.mark.parametrize("shortcut", [False, True])
def test_the_smallest_buffer_that_holds_a_band_runs(shortcut):
    workload, base = one_layer(conv(), shortcut), BASES["scnn_ddr4"].with_set(CUT)
    roomy = Simulation(workload, base)
    least = reserve_bits(roomy.system.machine, roomy.jobs, roomy.sequencer.tensors)
    assert Simulation(workload, base.with_set([f"nodes.activations.size={least} bit"])).run().complete
    with pytest.raises(InputError, match="too small for one band of the plane and its outputs"):
        Simulation(workload, base.with_set([f"nodes.activations.size={least - 1} bit"]))


@pytest.mark.parametrize("size", ["28 KiB", "4 MiB"])
def test_a_shortcut_comes_once_for_all_bands(size):
    workload = one_layer(conv(), shortcut=True)
    topology = BASES["scnn_ddr4"].with_set([*CUT, f"nodes.activations.size={size}"])
    first, second = Simulation(workload, topology).run().layers
    assert second.traffic["shortcut"].read_bytes == first.traffic["outputs"].write_bytes
    assert (size == "4 MiB") == (first.traffic["outputs"].write_bytes == 0)


def test_a_pooled_position_is_complete_with_the_band_of_its_last_window():
    """Pools of 3 x 3 every 2 rows over bands of 2 rows: the first band completes nothing."""
    pool = Pool("max", (3, 3), (2, 2), (0, 0, 0, 0))
    bare = conv()
    outputs = spiky(np.random.default_rng(4), (5, 5, 64), 16, False)
    layer = Layer.conv2d("c", bare.activations, bare.weights, outputs, padding=1, pool=pool)
    simulation = Simulation(one_layer(layer), BASES["scnn_ddr4"].with_set(CUT))
    (job,) = simulation.jobs
    assert job.geometry.outputs.tolist() == [0, 0, 5, 10, 15, 20, 25]
    (found,) = simulation.run().layers
    assert found.traffic["outputs"].raw_write_bytes == 5 * 5 * 64 * 2


@pytest.mark.parametrize("name", sorted(BASES))
def test_outputs_of_bands_are_verified(name):
    from dpred_sim.simulation.verify import verify_workload

    assert verify_workload(one_layer(conv(depth=16)), BASES[name].with_set(CUT))["values"] == 12 * 12 * 64


def test_more_of_anything_is_never_slower_with_bands():
    workload = one_layer(conv(), shortcut=True)
    for node, sizes in {"activations": (28, 40, 80, 4096), "weights": (8, 32, 4096)}.items():
        times = []
        for size in sizes:
            topology = BASES["scnn_ddr4"].with_set([*CUT, f"nodes.{node}.size={size} KiB"])
            times.append(Simulation(workload, topology).run().time_ps)
        assert all(more <= less * 1.01 + 320_000 for less, more in itertools.pairwise(times)), times


@given(seed=st.integers(0, 100_000))
@settings(max_examples=15, deadline=None)
def test_random_bands_keep_every_guarantee(seed):
    rnd = random.Random(seed)
    rows = rnd.choice([1, 2, 3])
    changes = [
        f"nodes.tile.grid_x={rows}",
        "nodes.tile.grid_y=1",
        f"nodes.tile.count={rows}",
        f"nodes.tile.accumulators={rnd.randint(14, 40)}",
        f"nodes.tile.group_passes={rnd.choice(['joined', 'separate'])}",
        f"nodes.activations.size={rnd.choice([16, 24, 32, 64, 4096])} KiB",
        f"nodes.weights.size={rnd.choice([2, 4, 16, 512])} KiB",
    ]
    try:
        simulation = Simulation(
            random_workload(seed), BASES["scnn_ddr4"].with_set(changes), batch=rnd.choice([1, 2])
        )
    except InputError as error:
        assert "fit" in str(error) or "too small" in str(error)
        return
    assert simulation.run().complete  # raises when a guarantee does not hold


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("size", ["56 KiB", "80 KiB", "100 KiB", "128 KiB", "200 KiB"])
def test_slabs_of_concatenated_tensors(size, groups):
    """Slabs that span parts, of which some rows stayed on chip: bytes are conserved."""
    changes = ["nodes.tile.accumulators=128", f"nodes.activations.size={size}"]
    result = Simulation(branches(groups), BASES["scnn_ddr4"].with_set(changes)).run()
    assert result.complete


def two_grids(tmp_path, changes):
    """The system with every part at the grid twice."""
    document = BASES["scnn_ddr4"].to_dict()
    nodes, links = document["nodes"], document["links"]
    for name in ("dispatcher", "tile", "weights"):
        nodes[f"{name}_b"] = dict(nodes[name])
    for link in list(links):
        twin = {key: value for key, value in link.items() if key != "name"}
        for end in ("from", "to"):
            name = str(twin[end]).split("[")[0]
            if name in ("dispatcher", "tile", "weights"):
                twin[end] = str(twin[end]).replace(name, f"{name}_b", 1)
        if (twin["from"], twin["to"]) != (link["from"], link["to"]):
            links.append(twin)
    path = tmp_path / "two.json"
    path.write_text(json.dumps(document))
    twins = [change.replace("nodes.tile.", "nodes.tile_b.") for change in changes if "tile" in change]
    return load_topology(path, [*changes, *twins])


def test_two_grids_share_the_passes_of_a_layer(tmp_path):
    """Each takes every other pass, also where planes come slab by slab."""
    topology = two_grids(tmp_path, ["nodes.tile.accumulators=64", "nodes.activations.size=20 KiB"])
    simulation = Simulation(one_layer(conv()), topology)
    (job,) = simulation.jobs
    assert job.slabs > 1 and job.shares(2) == [[0, 2], [1, 3]]
    (found,) = simulation.run().layers
    assert found.compute_cycles == found.ideal_cycles < job.schedule.total
    # Both read the same slabs, so each sweep comes once for the two of them.
    assert found.traffic["activations"].raw_read_bytes == 2 * 12 * 12 * 64 * 2


@pytest.mark.parametrize("filters", [64, 3, 2])
@pytest.mark.parametrize("weights", ["4 KiB", "512 KiB"])
def test_two_grids_share_the_bands_of_a_plane(tmp_path, filters, weights):
    """Also where one of them has fewer passes, or none; weights stay or come anew."""
    topology = two_grids(tmp_path, [*CUT, f"nodes.weights.size={weights}", f"nodes.weights_b.size={weights}"])
    layer = conv(filters)
    simulation = Simulation(one_layer(layer), topology)
    (job,) = simulation.jobs
    assert job.bands > 1
    (found,) = simulation.run().layers
    assert found.compute_cycles == found.ideal_cycles
    assert found.traffic["activations"].raw_read_bytes == layer.activations.values.size * 2
