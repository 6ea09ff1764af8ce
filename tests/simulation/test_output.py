"""The folder that a run leaves."""

from __future__ import annotations

import csv
import json

import pytest

from dpred_sim.errors import InputError
from dpred_sim.simulation.engine import simulate
from dpred_sim.simulation.systems import load_topology
from tests.networks import random_workload


@pytest.fixture(scope="module")
def result():
    return simulate(random_workload(2, layers=4), load_topology("dpred_stripes_ddr4"))


def test_all_files_and_the_same_bytes_again(result, tmp_path):
    first, second = result.write(tmp_path / "a"), result.write(tmp_path / "b")
    names = {"run.json", "layers.csv", "components.csv", "provenance.json"}
    assert {path.name for path in first.iterdir()} == names
    for name in names - {"provenance.json"}:
        assert (first / name).read_bytes() == (second / name).read_bytes()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_tables_agree_with_the_document(result, tmp_path):
    folder = result.write(tmp_path / "a")
    document = json.loads((folder / "run.json").read_text())
    assert document["complete"] is True
    with (folder / "layers.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["layer"] for row in rows] == [layer["name"] for layer in document["layers"]]
    assert sum(int(row["cycles"]) for row in rows) == document["total_cycles"]
    with (folder / "components.csv").open() as stream:
        components = list(csv.DictReader(stream))
    assert set(components[0]) == {"component", "kind", "statistic", "unit", "value"}
    assert document["configuration"]["topology"]["name"] == "dpred_stripes_ddr4"


def test_nothing_is_overwritten_unasked(result, tmp_path):
    folder = result.write(tmp_path / "a")
    with pytest.raises(InputError, match="exists"):
        result.write(folder)
    result.write(folder, force=True)
    other = tmp_path / "other"
    other.mkdir()
    (other / "precious.txt").write_text("x")
    with pytest.raises(InputError, match="not a result folder"):
        result.write(other, force=True)
    assert (other / "precious.txt").read_text() == "x"
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="not a folder"):
        result.write(tmp_path / "file", force=True)
    with pytest.raises(InputError):
        result.write(tmp_path / "file" / "below")
