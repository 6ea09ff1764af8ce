"""Numbers of docs/results.md are those that the package gives today."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from dpred_sim.explore.design_points import compare_designs
from dpred_sim.explore.design_tables import design_table
from dpred_sim.simulation.engine import simulate
from dpred_sim.simulation.systems import load_topology
from dpred_sim.values.tensor import Tensor
from dpred_sim.workload.load import load_workload

DOCS = Path(__file__).resolve().parents[2] / "docs"
TEXT = (DOCS / "results.md").read_text(encoding="utf-8")
CHEAP = ["cnvlutin", "dadiannao", "dpred_stripes", "loom", "pragmatic", "stripes", "tartan"]


def make_results():
    if str(DOCS) not in sys.path:
        sys.path.insert(0, str(DOCS))
    spec = importlib.util.spec_from_file_location("make_results", DOCS / "make_results.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def section(title: str) -> str:
    (found,) = [part for part in TEXT.split("\n### ") if part.startswith(title + "\n")]
    return found.split("\n## ")[0]


@pytest.mark.parametrize("bits", [8, 16])
def test_compute_cycles(bits):
    rows = [
        line.split()
        for line in design_table(compare_designs(load_workload("alexnet", bits=bits), CHEAP)).splitlines()
    ]
    quoted = [line.split() for line in section(f"alexnet, {bits} bits").splitlines()]
    ours = [row for row in rows if row and row[0] in CHEAP and len(row) > 8]
    assert len(ours) >= len(CHEAP)
    assert all(row in quoted for row in ours)


@pytest.mark.parametrize("system", ["dadiannao_ddr4", "dpred_stripes_ddr4", "dpred_stripes_8b_ddr4"])
def test_runs(system):
    bits = 8 if "_8b_" in system else 16
    run = simulate(load_workload("alexnet", bits=bits), load_topology(system))
    cells = make_results().Row(run, 4096, None).cells()
    lines = section(f"alexnet, {bits} bits, SYNTHETIC").splitlines()
    (row,) = [line.strip("| ").split(" | ") for line in lines if line.startswith(f"| `{system}` ")]
    same = [place for place in range(len(cells)) if place not in (4, 5)]  # what it is compared with
    assert [row[place] for place in same] == [cells[place] for place in same]


def test_studies():
    """One assumption at a time, the cheap ones."""
    module = make_results()
    workload = load_workload("alexnet", bits=16)
    for title, rows in (
        ("loom: precision of alexnet's weights", module.loom_rows(workload)),
        ("loom: rows in use, alexnet", module.loom_idle_rows(workload)),
        ("pragmatic: alexnet", module.pragmatic_rows(workload)),
    ):
        text = section(title)
        for row in rows:
            assert "| " + " | ".join(row) + " |" in text
    studies = sys.modules["studies"]
    name, layers, changes = studies.scnn_variants(workload)[-2]
    times = studies.speedup(layers, studies.point("scnn", 16, "1024 MACs"), **changes)
    assert f"| {name} | {times:.2f} |" in section("scnn: alexnet")


def test_pruning_keeps_the_largest_magnitudes():
    make_results()
    values = np.array([[[0, -9, 5, 1]], [[2, -3, 8, -7]]])
    kept = sys.modules["studies"].pruned(Tensor(values, bits=8, signed=True), 0.5).values
    assert kept.tolist() == [[[0, -9, 5, 0]], [[0, 0, 8, -7]]]


def test_every_system_has_its_rows_or_a_reason():
    module = make_results()
    for bits in module.BITS:
        for system in module.systems(bits):
            assert f"| `{system}` " in section(f"resnet50_thin, {bits} bits, real values")
    for system in module.LEFT_OUT:
        assert f"`{system}` is left out" in TEXT
