"""Numbers of docs/tables.md are those that the package gives today, and every drawn network has its rows."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from dpred_sim.cli.workload import ready_made_workloads
from dpred_sim.explore.traffic import forms
from dpred_sim.workload.load import load_workload

DOCS = Path(__file__).resolve().parents[2] / "docs"
TEXT = (DOCS / "tables.md").read_text(encoding="utf-8")
NAMES = [entry["name"] for entry in ready_made_workloads() if entry["values"] == "synthetic"]


def make_tables():
    spec = importlib.util.spec_from_file_location("make_tables", DOCS / "make_tables.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def rows(bits: int) -> dict[str, list[str]]:
    (section,) = [part for part in TEXT.split("\n## ") if part.startswith(f"{bits} bits: ")]
    lines = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return {cells[0].strip("`"): cells for cells in lines}


@pytest.mark.parametrize("bits", [16, 8])
def test_every_network_has_a_row(bits: int) -> None:
    assert set(NAMES) == set(rows(bits)) - {"network", "arithmetic mean", "geometric mean"}


@pytest.mark.parametrize(("name", "bits"), [("nin", 16), ("squeezenet", 16), ("googlenet_sparse", 8)])
def test_rows(name: str, bits: int) -> None:
    module = make_tables()
    wanted = forms(module.CODECS, [16])
    *shares, cycles, base = module.row(load_workload(name, bits=bits), wanted)
    found = rows(bits)[name][3:]
    assert found == [*(f"{share:.3f}" for share in shares), f"{cycles:,.0f}", f"{base / cycles:.2f}"]


def test_means() -> None:
    for bits in (16, 8):
        found = rows(bits)
        for place in (3, 6, -1):
            mean = sum(float(found[name][place]) for name in NAMES) / len(NAMES)
            assert float(found["arithmetic mean"][place]) == pytest.approx(mean, abs=0.006)
