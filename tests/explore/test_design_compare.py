"""Designs beside baselines of equal peak: sums, ideals, refusals, and what is printed."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest

from dpred_sim.cli.main import main
from dpred_sim.designs.base import DESIGNS
from dpred_sim.errors import InputError
from dpred_sim.explore.design_equal import terms
from dpred_sim.explore.design_points import KINDS, compare_designs
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
    points = [point for point in comparison.points if point.name == "dadiannao"]
    assert [(point.label, point.summary().speedup) for point in points] == [("equal peak", 1), ("auto", 1)]


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
    assert names.count("rnn.h[0..5]") == 6 and "rnn.h[0]" not in names


def head_of(table: str) -> list[str]:
    return next(line.split() for line in table.splitlines() if line.startswith("design"))


def test_a_table_that_is_too_wide_goes_without_some_columns():
    found = compare_designs(sequence(), ["dadiannao", "stripes"])
    kinds, cycles = ["fc", "rnn", "mm"], ["design", "base"]
    own = ["design", "configuration", "peak"]
    with_ideals = [head for kind in kinds for head in (kind, "ideal")]
    expected = [
        [*own, *with_ideals, "all", "ideal", *cycles],
        [*own, *kinds, "all", "ideal", *cycles],
        [*own, *kinds, "all", "ideal"],
        [*own, *kinds, "all"],
    ]
    widths = [max(map(len, design_table(found, width).splitlines())) for width in (None, 75, 60, 55)]
    tables = [design_table(found, width) for width in (None, 75, 60, 55)]
    assert [head_of(table) for table in tables] == expected
    assert widths[1:] <= [75, 60, 55] and widths[0] > 75
    assert "in --json and --csv only: the ideal of each kind of layer, cycles" in tables[3].replace("\n", " ")
    assert "csv only" not in tables[0]


def test_the_longest_names_and_all_kinds_fit():
    """Every design on a workload with every kind of layer, some of it refused."""
    found = compare_designs(sequence())
    layers = [
        replace(layer, kind=kind)
        for kind in KINDS
        for layer in (replace(found.points[0].layers[0], layer=f"{kind} layer", refused="no"),)
    ]
    wide = replace(found, points=tuple(replace(point, layers=tuple(layers)) for point in found.points))
    assert wide.kinds() == list(KINDS)
    for line in design_table(wide).splitlines():
        assert len(line) <= 80 or "refuses" in line


def test_a_refusal_is_reported_and_left_out_of_both_sums(monkeypatch):
    cls = DESIGNS.get("stripes")
    honest = cls.schedule

    def schedule(self, layer, rows=None, split=None):
        if layer.name == "layer0":
            raise InputError("no such layer here", field=layer.name)
        return honest(self, layer, rows, split)

    monkeypatch.setattr(cls, "schedule", schedule)
    comparison = compare_designs(random_workload(21, layers=5), ["stripes"])
    point, _ = comparison.points
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
    assert max(len(line) for line in text.splitlines()) <= 80


@pytest.fixture
def plugged(monkeypatch):
    def plug(cls, name):
        get, names = DESIGNS.get, DESIGNS.names
        monkeypatch.setattr(DESIGNS, "get", lambda which: cls if which == name else get(which))
        monkeypatch.setattr(DESIGNS, "names", lambda: [*names(), name])

    return plug


def test_an_inherited_point_that_does_not_fit_is_an_error(plugged):
    class Halved(DESIGNS.get("stripes")):
        """Two cycles a bit."""

        def of_nest(self, nest):
            schedule = super().of_nest(nest)
            schedule.cost *= 2
            return schedule

    plugged(Halved, "halved")
    for unequal in (False, True):
        with pytest.raises(InputError, match="inherited from Stripes does not fit, equal peak") as error:
            compare_designs(random_workload(21, layers=5), ["halved"], unequal=unequal)
        assert error.value.field == "design halved: equal_peak"
        assert error.value.found == "2,048 multiply-accumulates a cycle"


def test_an_inherited_point_of_another_design_is_an_error(plugged):
    stripes = DESIGNS.get("stripes")
    parent = type(
        "Parent", (stripes,), {"equal_peak": classmethod(lambda cls, bits: stripes.equal_peak(bits))}
    )
    plugged(type("Child", (parent,), {}), "child")
    with pytest.raises(InputError, match="inherited from Parent does not fit") as error:
        compare_designs(random_workload(21, layers=5), ["child"])
    assert error.value.found == "Stripes"


def test_an_inherited_point_that_fits_is_taken(plugged):
    plugged(type("Same", (DESIGNS.get("stripes"),), {}), "same")
    ours, theirs = (
        compare_designs(random_workload(21, layers=5), [name]).points for name in ("same", "stripes")
    )
    assert [point.summary() for point in ours] == [point.summary() for point in theirs]


@pytest.fixture
def unlike(monkeypatch):
    """Gives dpred_stripes one point, at which the design is changed."""
    cls = DESIGNS.get("dpred_stripes")
    honest = cls.equal_peak

    def change(**changes):
        def points(cls, bits):
            found = honest(bits)[0]
            return (replace(found, design=replace(found.design, **changes)),)

        monkeypatch.setattr(cls, "equal_peak", classmethod(points))

    return change


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tiles": 8}, {"peak": "2,048 against 4,096"}),
        ({"tile_split": "auto"}, {"tile_split": "auto against filters"}),
        ({"space_to_depth": False}, {"space_to_depth": "false against true"}),
        (
            {"columns": 32, "depthwise": "one_tile"},
            {"peak": "8,192 against 4,096", "depthwise": "one_tile against spread"},
        ),
    ],
)
def test_unequal_terms_are_refused_or_said(changes, words, unlike):
    unlike(**changes)
    workload = random_workload(21, layers=5)
    with pytest.raises(InputError, match="unequal terms") as error:
        compare_designs(workload, ["dadiannao", "dpred_stripes"])
    assert error.value.found == "; ".join(f"{key} {how}" for key, how in words.items())
    found = compare_designs(workload, ["dadiannao", "dpred_stripes"], unequal=True)
    assert [point.unequal for point in found.points] == [{}, {}, words]
    table = design_table(found).splitlines()
    (row,) = [line for line in table if line.startswith("dpred_stripes")]
    assert row.endswith(" ".join(words))
    assert any(line.startswith("UNEQUAL: dpred_stripes, equal peak: ") for line in table)
    rows = list(csv.DictReader(io.StringIO(design_csv(found))))
    assert {row["unequal"] for row in rows if row["design"] == "dpred_stripes"} == {error.value.found}
    assert {row["unequal"] for row in rows if row["design"] == "dadiannao"} == {""}
    document = found.to_dict()["designs"][-1]
    assert document["unequal"] == words
    assert document["measured_peak_macs_per_cycle"] == pytest.approx(found.points[-1].measured_peak)


def test_a_peak_that_is_not_the_one_said_is_unequal(monkeypatch):
    def wrong(cls, bits):
        (found, _) = honest(bits)
        return (replace(found, peak=1000),)

    honest = DESIGNS.get("stripes").equal_peak
    monkeypatch.setattr(DESIGNS.get("stripes"), "equal_peak", classmethod(wrong))
    with pytest.raises(InputError) as error:
        compare_designs(random_workload(21, layers=5), ["stripes"])
    assert error.value.found == "peak 4,096, said to be 1,000"


def test_unequal_on_the_command_line(unlike, capsys):
    unlike(tiles=8)
    words = ["design", "compare", "alexnet", "--designs", "dpred_stripes"]
    assert main(words) == 2
    assert "--unequal" in capsys.readouterr().err
    assert main([*words, "--unequal"]) == 0
    assert "UNEQUAL: dpred_stripes, equal peak: peak 2,048 against 4,096" in capsys.readouterr().out


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("name", DESIGNS.names())
def test_points_are_on_equal_terms(name, bits):
    """With freedom for the tiles too: one point with `auto` beside each that has more than one tile."""
    points = DESIGNS.get(name).equal_peak(bits)
    for point in points:
        assert terms(name, DESIGNS.get(name), point, bits).unequal == {}
    free = [point for point in points if point.label.endswith("auto")]
    assert len(free) == sum(point.baseline.tiles > 1 for point in points) / 2
    assert all(point.baseline.tile_split == "auto" for point in free)


def test_json_and_csv(capsys):
    words = ["design", "compare", "alexnet", "--designs", "stripes,dpred_stripes"]
    assert main([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["seed"] == 0
    assert main([*words, "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {row["design"] for row in rows} == {"stripes", "dpred_stripes"}
    assert sum(row["scope"] == "layer" for row in rows) == 4 * 8


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
