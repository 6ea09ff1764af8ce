"""Designs beside baselines of equal peak: sums, ideals, refusals, and what is printed."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest

from dpred_sim.cli.main import main
from dpred_sim.designs.base import DESIGNS
from dpred_sim.explore.design_points import compare_designs
from dpred_sim.explore.design_tables import design_csv, design_table
from dpred_sim.workload.layer import Layer
from dpred_sim.workload.network import Network
from dpred_sim.workload.workload import Workload
from tests.networks import random_workload, spiky

NAMES = ["dadiannao", "stripes", "dpred_stripes", "pragmatic", "laconic", "cnvlutin", "tartan", "loom"]


@pytest.fixture(scope="module")
def comparison():
    return compare_designs(random_workload(21, layers=5), NAMES)


@pytest.mark.parametrize("name", DESIGNS.names())
@pytest.mark.parametrize("bits", [8, 16])
def test_points_are_of_one_peak(name, bits):
    """With all bits needed a baseline of C x R x T x lanes units does `peak` products a cycle."""
    points = DESIGNS.get(name).equal_peak(bits)
    assert points
    assert len({point.label for point in points}) == len(points)
    for point in points:
        base = point.baseline
        assert base.lanes * base.rows * base.tiles * base.columns == point.peak
        assert point.full_work in (1, bits, bits * bits)


def test_cycles_are_those_of_the_designs(comparison):
    workload = random_workload(21, layers=5)
    layers = [node.layer for node in workload.network if node.layer.weights is not None]
    for name in NAMES:
        for point in DESIGNS.get(name).equal_peak(16):
            (found,) = [p for p in comparison.points if (p.name, p.label) == (name, point.label)]
            assert [layer.cycles for layer in found.layers] == [
                point.design.layer_cycles(layer).total for layer in layers
            ]
            total = found.summary()
            assert total.baseline_cycles == sum(point.baseline.layer_cycles(layer).total for layer in layers)
            assert total.speedup == total.baseline_cycles / total.cycles
            ideal = sum(
                point.baseline.layer_cycles(layer).total
                * point.design.work_bits(layer)
                / (point.full_work * layer.macs)
                for layer in layers
            )
            assert total.ideal_cycles == pytest.approx(ideal)


def test_the_baseline_against_itself_is_one(comparison):
    (point,) = [point for point in comparison.points if point.name == "dadiannao"]
    assert point.summary().speedup == 1


def test_kinds_add_up(comparison):
    for point in comparison.points:
        parts = [point.summary(kind) for kind in comparison.kinds()]
        assert sum(part.cycles for part in parts) == point.summary().cycles
        assert sum(part.macs for part in parts) == point.summary().macs


def sequence(steps: int = 6) -> Workload:
    """An LSTM, a linear layer, and a product of two of its outputs."""
    rng = np.random.default_rng(4)
    network = Network()
    hidden, scores = (spiky(rng, (steps, width), 16, True) for width in (20, steps))
    weights = [spiky(rng, (4 * 20, depth), 16, True) for depth in (24, 20)]
    name = network.lstm("rnn", spiky(rng, (steps, 24), 16, False), *weights, hidden)
    keys = spiky(rng, (steps, 20), 16, True)
    network.add(Layer.linear("keys", hidden, spiky(rng, (20, 20), 16, True), keys), name)
    network.add(Layer.matmul("scores", hidden, keys, scores), name, second="keys")
    return Workload("sequence", network, 16, source="random values", synthetic=True)


def test_recurrent_layers_and_products_are_kinds_of_their_own():
    workload = sequence()
    found = compare_designs(workload, ["dadiannao", "stripes", "scnn"])
    assert found.kinds() == ["fc", "recurrent", "matmul"]
    for point in found.points:
        kinds = {layer.layer: layer.kind for layer in point.layers}
        steps = {f"rnn.h[{step}]": "recurrent" for step in range(6)}
        assert kinds == {"rnn.x": "fc", **steps, "keys": "fc", "scores": "matmul"}
        assert [line.layer for line in point.lines()] == ["rnn.x", "rnn.h[0..5]", "keys", "scores"]
        line = point.lines()[1]
        own = [layer for layer in point.layers if layer.kind == "recurrent"]
        assert line.cycles == sum(layer.cycles for layer in own)
        assert line.ideal_cycles == pytest.approx(sum(layer.ideal_cycles for layer in own))
        assert line.cycles == point.summary("recurrent").cycles
    names = [row["name"] for row in csv.DictReader(io.StringIO(design_csv(found)))]
    assert names.count("rnn.h[0..5]") == 3 and "rnn.h[0]" not in names


def test_kinds_go_without_their_ideals_where_the_table_is_too_wide():
    found = compare_designs(sequence(), ["dadiannao", "stripes"])
    wide, narrow = design_table(found, None), design_table(found, 80)
    head = next(line for line in wide.splitlines() if line.startswith("design"))
    short = next(line for line in narrow.splitlines() if line.startswith("design"))
    assert (head.count("ideal"), short.count("ideal")) == (4, 1)
    assert "recurrent" in short and "matmul" in short
    assert "the ideal of each kind of layer" in narrow and "the ideal of each kind" not in wide


def test_a_refusal_is_reported_and_left_out_of_both_sums(monkeypatch):
    from dpred_sim.errors import InputError

    cls = DESIGNS.get("stripes")
    honest = cls.schedule

    def schedule(self, layer, rows=None):
        if layer.name == "layer0":
            raise InputError("no such layer here", field=layer.name)
        return honest(self, layer, rows)

    monkeypatch.setattr(cls, "schedule", schedule)
    comparison = compare_designs(random_workload(21, layers=5), ["stripes"])
    (point,) = comparison.points
    assert [name for name, _ in point.refusals()] == ["layer0"]
    assert point.summary().refused == 1
    assert "no such layer here" in design_table(comparison)


def test_a_design_that_names_no_point_is_taken_with_its_defaults(monkeypatch):
    monkeypatch.setattr(DESIGNS.get("stripes"), "equal_peak", classmethod(lambda cls, bits: ()))
    workload = random_workload(21, layers=5)
    comparison = compare_designs(workload, ["stripes"])
    (point,) = comparison.points
    layers = [node.layer for node in workload.network if node.layer.weights is not None]
    made = DESIGNS.get("stripes")()
    assert point.summary().cycles == sum(made.layer_cycles(layer).total for layer in layers)
    assert (point.label, point.peak, point.summary().speedup) == ("defaults", None, None)
    assert "stripes, defaults: names no configuration of equal peak" in design_table(comparison)


def test_the_table_fits(comparison):
    text = design_table(comparison)
    assert "SYNTHETIC" in text
    assert max(len(line) for line in text.splitlines()) <= 120


def test_json_and_csv(capsys):
    words = ["design", "compare", "alexnet", "--designs", "stripes,dpred_stripes"]
    assert main([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["seed"] == 0
    assert main([*words, "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {row["design"] for row in rows} == {"stripes", "dpred_stripes"}
    assert sum(row["scope"] == "layer" for row in rows) == 2 * 8


@pytest.mark.parametrize(
    "words",
    [
        ["--designs", "strips"],
        ["--designs", "stripes,,loom"],
        ["--json", "--csv"],
        ["--plot", "picture.txt"],
        ["--plot", "no/such/folder/p.png"],
        ["--bits", "9"],
    ],
)
def test_bad_input_is_one_error(words, capsys):
    assert main(["design", "compare", "alexnet", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.strip() and "Traceback" not in captured.err


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_a_plot_is_drawn(suffix, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    path = tmp_path / f"designs.{suffix}"
    words = ["design", "compare", "alexnet", "--designs", "dadiannao,stripes", "--plot", str(path)]
    assert main(words) == 0
    assert path.stat().st_size > 2000
