"""`dpred-sim capture` and `dpred-sim profile`, as a user runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dpred_sim.cli.main import main
from dpred_sim.workload.profile import read_profile
from tests.workload.onnx_models import ModelBuilder, save_input

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
SHAPE = (1, 3, 8, 8)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPRED_SIM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    builder = ModelBuilder(SHAPE)
    builder.node("Relu", [builder.conv("x", "a", 6, 3)], "ra")
    builder.conv("ra", "b", 6, 6)
    return builder.save(tmp_path / "net.onnx")


@pytest.fixture
def inputs(tmp_path: Path) -> list[str]:
    return [str(save_input(tmp_path / f"{i}.npy", SHAPE, seed=i)) for i in range(4)]


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main([str(word) for word in words])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def given(inputs: list[str], option: str = "--input") -> list[str]:
    return [word for path in inputs for word in (option, path)]


def test_from_model_to_profile_to_run(
    model: Path, inputs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "trace"
    code, out, err = run(capsys, "capture", model, *given(inputs[:3]), "--out", trace)
    assert (code, err) == (0, "")
    assert "2 layers" in out and "3 input(s)" in out and f"next: dpred-sim run {trace}" in out
    code, out, err = run(capsys, "run", trace, "--no-live", "--json")
    document = json.loads(out)
    assert code == 0 and document["workload"] == "net" and "no profile.json" in document["source"]
    code, out, err = run(capsys, "profile", trace, "--held-out", inputs[3])
    assert code == 0 and "held out     changed by" in out and str(trace / "profile.json") in out
    assert "1/5 activations input: " in err
    profile = read_profile(trace / "profile.json")
    assert profile.about["held_out"][0]["name"] == "3.npy" and profile.about["held_out_error"] > 0
    code, out, err = run(capsys, "run", trace, "--no-live", "--json")
    assert "precisions of profile.json" in json.loads(out)["source"]
    code, out, err = run(capsys, "profile", trace)
    assert code == 2 and "the profile exists" in err
    loose = tmp_path / "loose.json"
    options = ["--tolerance", 0.05, "--joint", 0.2, "--out", loose, "--json"]
    code, out, err = run(capsys, "profile", trace, *options)
    assert code == 0 and json.loads(out)["about"]["tolerance"] == 0.05
    fewer = read_profile(loose)
    assert sum(f.precision for f in fewer.activations.values()) < sum(
        f.precision for f in profile.activations.values()
    )


def test_a_profile_beside_a_model(model: Path, inputs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "profile", model, *given(inputs[:3]))
    assert code == 0 and "net.profile.json" in out
    code, out, _err = run(capsys, "workload", "show", model, *given(inputs[3:]))
    assert code == 0 and "precisions of net.profile.json" in out


def test_capture_as_json(
    model: Path, inputs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["capture", model, *given(inputs[:1]), "--out", tmp_path / "t", "--json"]
    code, out, err = run(capsys, *words)
    found = json.loads(out)
    assert (found["layers"], found["inputs"], found["outputs"]) == (2, ["0.npy"], ["n_b"])
    assert found["weight_values"] == 6 * 3 * 9 + 6 * 6 * 9
    assert found["activation_values"] == 8 * 8 * 3 + 6 * 6 * 6 + 4 * 4 * 6
    code, out, err = run(capsys, *words)
    assert code == 2 and json.loads(err)["message"] == "the trace folder exists"
    assert run(capsys, *words, "--force")[0] == 0


def test_preprocessing_of_ones_own(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    image.fromarray(pixels).save(tmp_path / "p.png")
    (tmp_path / "p.json").write_text('{"order": "BGR", "scale": 1, "mean": [1, 2, 3]}')
    words = ["--input", tmp_path / "p.png", "--preprocess", tmp_path / "p.json", "--out", tmp_path / "t"]
    assert run(capsys, "capture", model, *words)[0] == 0
    fed = np.load(tmp_path / "t/inputs/0.npz")["x"]
    assert np.array_equal(fed[0].transpose(1, 2, 0), pixels[:, :, ::-1] - np.float32([1, 2, 3]))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["capture", "net.onnx", "--input", "absent.png", "--out", "t"], "no such file"),
        (["capture", "absent.onnx", "--input", "0.npy", "--out", "t"], "absent.onnx"),
        (["capture", "net.onnx", "--input", "net.onnx", "--out", "t"], "not an image"),
        (["capture", "0.npy", "--input", "0.npy", "--out", "t"], "not an ONNX model"),
        (["capture", "net.onnx", "--input", "0.npy", "--out", "net.onnx"], "not a folder"),
        (["profile", "net.onnx", "--input", "0.npy"], "more calibration inputs"),
        (["profile", "net.onnx", "--model", "net.onnx"], "goes with a trace folder"),
        (["profile", "."], "not a trace folder"),
        (["profile", "net.onnx", *given(["0.npy", "1.npy", "2.npy"]), "--tolerance", "0"], "tolerance"),
        (["run", "./"], "no importer reads such a workload folder"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_2(
    model: Path,
    inputs: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "") and said in err and len(err.strip().splitlines()) == 1
    assert "Traceback" not in err and {p for p in tmp_path.iterdir() if p.name != "cache"} == before


def test_a_run_of_a_trace_imports_no_onnx(
    model: Path, inputs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "trace"
    assert run(capsys, "capture", model, *given(inputs[:1]), "--out", trace)[0] == 0
    code = (
        "import sys; from dpred_sim.workload.load import load_workload\n"
        f"load_workload({str(trace)!r}).network.nodes[0].layer.weights.load()\n"
        "print([n for n in ('onnx', 'onnxruntime', 'PIL') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
