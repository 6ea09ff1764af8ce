"""`design list` and `codec list`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dpred_sim.cli.main import main
from dpred_sim.codecs.base import CODECS, codec
from dpred_sim.designs.base import DESIGNS, design
from dpred_sim.values.tensor import Tensor


@pytest.mark.parametrize(("noun", "registry"), [("design", DESIGNS), ("codec", CODECS)])
def test_lists_name_every_plugin_with_its_parameters(noun: str, registry, capsys) -> None:
    assert main([noun, "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)[f"{noun}s"]
    assert [row["name"] for row in rows] == registry.names()
    assert all(row["description"] for row in rows)
    assert main([noun, "list"]) == 0
    text = capsys.readouterr().out
    for row in rows:
        assert f"{row['name']}: {row['description']}" in text
        for key in row["parameters"]:
            assert f"{key}=" in text


def test_defaults_of_a_design_are_its_own(capsys) -> None:
    main(["design", "list", "--json"])
    rows = {row["name"]: row["parameters"] for row in json.loads(capsys.readouterr().out)["designs"]}
    for name, parameters in rows.items():
        made = design(name)
        assert {key: getattr(made, key) for key in parameters} == parameters


def test_sizes_of_a_tensor(tmp_path: Path, capsys) -> None:
    values = np.random.default_rng(3).integers(-20, 100, (5, 40)) * np.arange(40)
    path = tmp_path / "x.npy"
    np.save(path, values)
    assert main(["codec", "list", "--tensor", str(path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    sizes = {row["codec"]: row for row in report["codecs"]}
    x = Tensor(values, 16)
    assert sizes["raw"]["size_bits"] == 200 * 16
    for mode in ("plain", "zeros"):
        row = sizes[f"dpred mode={mode}"]
        assert row["size_bits"] == codec("dpred", mode=mode).encode(x).size_bits
        assert row["of_raw"] == pytest.approx(row["size_bits"] / 3200, abs=1e-6)
    assert {name.split()[0] for name in sizes} == set(CODECS.names())
    assert main(["codec", "list", "--tensor", str(path)]) == 0
    text = capsys.readouterr().out
    assert f"{sizes['zero_rle']['size_bits']:,}" in text


def test_precision_of_a_tensor(tmp_path: Path, capsys) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.full((2, 16), 100))
    assert main(["codec", "list", "--tensor", str(path), "--precision", "7", "--json"]) == 0
    sizes = {row["codec"]: row["size_bits"] for row in json.loads(capsys.readouterr().out)["codecs"]}
    assert sizes["per_layer"] < sizes["raw"] * 7.5 / 16
    assert main(["codec", "list", "--tensor", str(path), "--precision", "6"]) == 2
    assert "precision" in capsys.readouterr().err


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_bad_tensor_exits_2(tmp_path: Path, capsys, more: list[str]) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.full((2, 16), 0.5))
    assert main(["codec", "list", "--tensor", str(path), *more]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "float64" in err
    assert main(["codec", "list", "--tensor", str(tmp_path / "none.npy"), *more]) == 2
