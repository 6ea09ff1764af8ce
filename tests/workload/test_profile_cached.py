"""Models without a profile: one is made on the way, or the result says that there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dpred_sim.cli.main import main
from dpred_sim.workload import profile_cached
from dpred_sim.workload.load import load_workload
from dpred_sim.workload.profile import UNPROFILED
from tests.workload.onnx_models import ModelBuilder, save_input

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPRED_SIM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    m = ModelBuilder((1, 3, 8, 8))
    m.conv(m.node("Relu", [m.conv("x", "a", 4, 3)], "r"), "b", 4, 4)
    return m.save(tmp_path / "net.onnx")


@pytest.fixture
def inputs(tmp_path: Path) -> list[Path]:
    return [save_input(tmp_path / f"{seed}.npy", (1, 3, 8, 8), seed=seed) for seed in range(3)]


def precisions(workload: Any) -> list[int]:
    return [
        t.precision for n in workload.network for t in (n.layer.activations, n.layer.weights, n.layer.outputs)
    ]


def test_three_inputs_make_a_profile_on_the_way(
    model: Path, inputs: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    alone = load_workload(model, inputs=inputs[:2])
    assert alone.notes == (UNPROFILED,) and min(precisions(alone)) == 16
    assert capsys.readouterr().err == ""
    found = load_workload(model, inputs=inputs)
    told = capsys.readouterr()
    assert "net has no profile: one is made on 3 inputs" in told.err and "all together" in told.err
    assert not told.out
    assert "(ranges over 3 inputs); 16 bits, precisions of a profile made on them" in found.source
    assert found.notes == () and max(precisions(found)) < 16
    assert len(found.provenance["profile"]["calibration"]) == 3
    # Nothing is left beside the model, and the second time it is there.
    assert not list(model.parent.glob("*.profile.json"))
    again = load_workload(model, inputs=inputs)
    assert capsys.readouterr().err == ""
    assert precisions(again) == precisions(found) and again.source == found.source


def test_it_is_the_profile_that_the_command_makes(model: Path, inputs: list[Path], tmp_path: Path) -> None:
    on_the_way = precisions(load_workload(model, inputs=inputs))
    given = [word for path in inputs for word in ("--input", str(path))]
    assert main(["profile", str(model), *given]) == 0
    assert precisions(load_workload(model, inputs=inputs)) == on_the_way


@pytest.mark.parametrize(("bits", "rule"), [(8, "profiled"), (16, "full_range"), (16, "common")])
def test_what_needs_no_profile_makes_none(
    model: Path, inputs: list[Path], monkeypatch: pytest.MonkeyPatch, bits: int, rule: str
) -> None:
    monkeypatch.setattr(profile_cached, "profile_model", None)
    found = load_workload(model, bits=bits, inputs=inputs, quantise=rule)
    assert found.notes == ()


def test_a_damaged_profile_in_the_cache_is_made_again(
    model: Path, inputs: list[Path], tmp_path: Path
) -> None:
    before = precisions(load_workload(model, inputs=inputs))
    (kept,) = (tmp_path / "cache" / "profiles").rglob("*.profile.json")
    kept.write_text("{")
    assert precisions(load_workload(model, inputs=inputs)) == before
    assert kept.read_text() != "{"


def test_a_run_says_that_values_are_unprofiled_and_proposes_the_profile(
    model: Path, inputs: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(model), "--input", str(inputs[0]), "--no-live"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Its values are unprofiled: every tensor keeps all 16 bits" in text
    assert f"next: dpred-sim profile {model} --input {inputs[0]} --input INPUT2 --input INPUT3" in text
