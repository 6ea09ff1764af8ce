"""Traffic tables against a count of one value at a time, over inputs and workloads."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from dpred_sim.codecs.base import CODECS, codec
from dpred_sim.errors import InputError
from dpred_sim.explore.traffic import TOTAL, Traffic, forms, geometric_mean, means, measure
from dpred_sim.explore.traffic_tables import layer_table, means_table, traffic_csv, traffic_table
from dpred_sim.simulation.engine import simulate
from dpred_sim.simulation.paper_traffic import KINDS, counted
from dpred_sim.simulation.systems import load_topology
from dpred_sim.values.tensor import Tensor
from dpred_sim.workload.layer import Layer
from dpred_sim.workload.load import load_workload
from dpred_sim.workload.network import Network
from dpred_sim.workload.workload import Workload
from tests.networks import random_workload
from tests.property import codec_oracle as oracle
from tests.property.test_codecs import apack_bits

HEADER = {8: 3, 16: 4}


def slow_bits(x: Tensor, label: str, size: int) -> int:
    """Length of a container, counted a value at a time."""
    name, _, word = label.partition(" ")
    values = [value for group in oracle.groups(x, size) for value in group]
    if name == "raw":
        return x.bits * len(values)
    if name == "per_layer":
        return HEADER[x.bits] + x.precision * len(values)
    if name == "zero_rle":
        return sum(oracle.zero_rle_bits(x, size, int(word)))
    if name == "apack":
        header, groups = apack_bits(x, size)
        return header + sum(groups)
    if name in ("bitmap", "bdi"):
        return sum({"bitmap": oracle.bitmap_bits, "bdi": oracle.bdi_bits}[name](x, size))
    header, groups = oracle.dpred_bits(x, size, word)
    return header + sum(groups)


def slow_ratios(found: Workload, label: str, size: int) -> dict[str, float]:
    """The ratio of each kind of data and of all, counted from the layers themselves."""
    stored, raw = dict.fromkeys((*KINDS, TOTAL), 0), dict.fromkeys((*KINDS, TOTAL), 0)
    for node in found.network:
        for kind in KINDS:
            tensor = getattr(node.layer, kind)
            if tensor is None:
                continue
            word = label
            if label == "dpred auto":
                word = "dpred offline" if kind == "weights" else "dpred adaptive"
            bits = slow_bits(tensor.load(), word, size)
            for one in (kind, TOTAL):
                stored[one] += bits
                raw[one] += tensor.load().values.size * tensor.bits
    return {kind: stored[kind] / raw[kind] for kind in raw}


@pytest.mark.parametrize("bits", [16, 8])
def test_ratios_are_those_of_an_independent_count(bits: int) -> None:
    found = random_workload(6, bits=bits, layers=3)
    assert all(node.layer.outputs is not None for node in found.network)
    wanted = forms(None, (8, 256))
    traffic = measure([("", found)], wanted)
    assert {form.label.split()[0] for form in wanted} == set(CODECS.names())
    for index, form in enumerate(wanted):
        expected = slow_ratios(found, form.label, form.codec.group_size)
        assert {kind: traffic.mean(index, kind) for kind in expected} == pytest.approx(expected), form.title


def test_it_is_the_paper_traffic_of_a_run() -> None:
    found = random_workload(11)
    for name in ("dpred", "bdi", "raw"):
        result = simulate(found, load_topology("dpred_stripes_ddr4", set=[f"nodes.dram.stores.codec={name}"]))
        label = "dpred auto" if name == "dpred" else name
        (form,) = [form for form in forms([name], [16]) if form.label == label]
        traffic = measure([("", found)], [form])
        paper = result.traffic["paper_traffic"]
        for kind in KINDS:
            ratio = traffic.mean(0, kind)
            raw = paper[f"{kind}_raw_bytes"]
            assert ratio is not None and abs(ratio * raw - paper[f"{kind}_bytes"]) < 1


def recurrent() -> Workload:
    rng = np.random.default_rng(3)
    tensor = partial(Tensor, bits=16, signed=True)
    network = Network()
    network.lstm(
        "lstm",
        tensor(rng.integers(-90, 90, (5, 12))),
        tensor(rng.integers(-90, 90, (32, 12))),
        tensor(rng.integers(-90, 90, (32, 8))),
        tensor(rng.integers(-90, 90, (5, 8))),
    )
    return Workload("lstm", network, 16, "random")


def test_shared_weights_count_once_and_unknown_outputs_raw() -> None:
    found = recurrent()
    items = list(counted(found))
    assert [item.layer for item in items if item.kind == "weights"] == ["lstm.x", "lstm.h[0]"]
    projected = next(item for item in items if item.kind == "outputs" and item.layer == "lstm.x")
    assert projected.source is None and projected.raw_bits == 5 * 32 * 16
    traffic = measure([("", found)], forms(["dpred"], [16]))
    assert traffic.samples[0].ratio(0, "outputs", "lstm.x") == 1.0


def test_the_second_operand_counts_as_weights_stored_like_activations() -> None:
    rng = np.random.default_rng(4)
    one, other = (Tensor(rng.integers(0, 50, (6, 16)), 16, False) for _ in range(2))
    network = Network()
    network.given("kept", other)
    network.add(Layer.matmul("product", one, other, None), second="kept")
    (item,) = [item for item in counted(Workload("m", network, 16, "random")) if item.kind == "weights"]
    assert (item.role, item.source) == ("activations", other)


def images(seed: int, shift: int) -> Workload:
    """One network on another input: the same weights."""
    rng = np.random.default_rng(seed)
    weights = Tensor(np.random.default_rng(0).integers(-20, 20, (8, 3, 3, 16)), 8, True)
    image = Tensor(np.clip(rng.poisson(3, (9, 9, 16)) + shift, 0, 255), 8, False)
    network = Network()
    network.add(Layer.conv2d("conv", image, weights, None, padding=1))
    return Workload("net", network, 8, f"input {seed}")


def test_tables_are_learned_on_the_other_inputs() -> None:
    wanted = forms(["apack"])
    inputs = [(f"{seed}.png", images(seed, shift=40 * (seed == 3))) for seed in (1, 2, 3)]
    traffic = measure(inputs, wanted)
    alone = [measure([one], wanted) for one in inputs]
    assert not traffic.hindsight and all(one.hindsight == {0} for one in alone)
    found, hindsight = traffic.ratios(0, "activations"), [one.ratios(0, "activations")[0] for one in alone]
    assert all(a >= b for a, b in zip(found, hindsight, strict=True))
    assert found[0] < 0.2 + hindsight[0]  # 2.png is like it; 3.png is unlike both
    assert found[2] > 1 > hindsight[2]
    # Weights are known beforehand, whatever the inputs.
    assert len(set(traffic.ratios(0, "weights"))) == 1
    others = [w.network.nodes[0].layer.activations for _, w in inputs[1:]]
    first = inputs[0][1].network.nodes[0].layer.activations
    expected = codec("apack").learned(others).size_bits(first)
    assert traffic.samples[0].entries[1].stored_bits == (expected,)


def test_inputs_of_two_networks_are_refused() -> None:
    with pytest.raises(InputError, match=r"another network than the first one; found 'b\.png'"):
        measure([("a.png", random_workload(1)), ("b.png", random_workload(3, layers=2))], forms(["raw"]))


def test_means_over_inputs_and_workloads() -> None:
    wanted = forms(["raw", "dpred"], [16])
    inputs = [(f"{seed}.png", images(seed, shift=0)) for seed in (1, 2)]
    several, other = measure(inputs, wanted), measure([("", random_workload(6, bits=8))], wanted)
    ratios = several.ratios(1)
    assert several.mean(1) == pytest.approx(sum(ratios) / 2)
    rows = means([several, other])
    pair = (several.mean(1), other.mean(1))
    assert rows[1][TOTAL]["arithmetic"] == pytest.approx(sum(pair) / 2, abs=1e-6)
    assert rows[1][TOTAL]["geometric"] == pytest.approx((pair[0] * pair[1]) ** 0.5, abs=1e-6)
    assert rows[0][TOTAL] == {"arithmetic": 1.0, "geometric": 1.0}
    assert geometric_mean([]) is None and geometric_mean([0.0, 1.0]) == 0.0


def traffic_of(seed: int = 6) -> Traffic:
    return measure([("", random_workload(seed, bits=8))], forms(["raw", "apack", "dpred"], [8, 16]))


def test_tables_show_the_ratios() -> None:
    traffic = traffic_of()
    lines = traffic_table(traffic).splitlines()
    plain = next(line.split() for line in lines if line.startswith("dpred plain") and " 16 " in line)
    index = [form.title for form in traffic.forms].index("dpred plain 16")
    expected = [f"{traffic.mean(index, kind):.3f}" for kind in (*KINDS, TOTAL)]
    assert plain[3:7] == expected
    assert plain[7] == f"{8 * (traffic.mean(index) or 0):.2f}"
    assert any(line.startswith("apack *") for line in lines) and "hindsight" in lines[-1]
    assert "SYNTHETIC" in lines[1]
    by_layer = layer_table(traffic).splitlines()
    assert [line.split()[0] for line in by_layer if line.startswith("layer")][1:] == traffic.layers
    network = next(line.split() for line in by_layer if line.startswith("network"))
    assert expected[3] in network


def test_means_table_marks_synthetic_values() -> None:
    one, other = traffic_of(6), replace(traffic_of(7), synthetic=False, workload="real_net")
    lines = means_table([one, other]).splitlines()
    assert any(line.startswith(f"{one.workload} (synthetic)") for line in lines)
    assert any(line.startswith("real_net  ") for line in lines)
    assert any(line.startswith("geometric mean") for line in lines)


def test_csv_lines_add_up() -> None:
    traffic = traffic_of()
    rows = list(csv.DictReader(io.StringIO(traffic_csv([traffic]))))
    for form in traffic.forms:
        own = [
            row
            for row in rows
            if row["codec"] == form.label and row["group_size"] == str(form.group_size or "")
        ]
        total = next(row for row in own if (row["layer"], row["kind"]) == ("*", TOTAL))
        parts = [row for row in own if row["layer"] != "*"]
        for key in ("stored_bits", "raw_bits"):
            assert sum(int(row[key]) for row in parts) == int(total[key])


def test_a_real_network_s_piece() -> None:
    """Real values: the zero flags pay for activations, not for weights, and apack beats the containers."""
    found = load_workload("resnet50_thin", bits=16)
    traffic = measure([("", found)], forms(None, [16]))
    at = {form.label: index for index, form in enumerate(traffic.forms)}

    def ratio(label: str, kind: str = TOTAL) -> float:
        return traffic.mean(at[label], kind) or 0.0

    assert ratio("dpred zeros", "activations") < ratio("dpred plain", "activations")
    assert ratio("dpred zeros", "weights") > ratio("dpred plain", "weights")
    assert ratio("apack") < ratio("dpred auto") < ratio("per_layer") < ratio("zero_rle 4")


def test_unknown_codecs_and_group_sizes() -> None:
    with pytest.raises(InputError, match="did you mean 'bitmap'"):
        forms(["bitmaps"])
    with pytest.raises(InputError, match="group_size"):
        forms(None, [16, 0])
