"""Trace folders: what is written, that a run takes it, and that damage is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpred_sim.errors import InputError
from dpred_sim.workload.capture import capture, file_subject
from dpred_sim.workload.load import load_workload
from dpred_sim.workload.profile_search import profile_model
from dpred_sim.workload.traces import TraceFolder, write_trace
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
    builder.node("Relu", [builder.conv("x", "a/1", 6, 3, pads=[1, 1, 1, 1])], "ra")
    builder.conv("ra", "b", 6, 6, pads=[1, 1, 1, 1])
    builder.node("Relu", [builder.node("Add", ["b", "ra"], "s")], "out")
    return builder.save(tmp_path / "net.onnx")


@pytest.fixture
def inputs(tmp_path: Path) -> list[Path]:
    return [save_input(tmp_path / f"{i}.npy", SHAPE, seed=i) for i in range(4)]


@pytest.fixture
def trace(model: Path, inputs: list[Path], tmp_path: Path) -> Path:
    return write_trace(file_subject(model, inputs[:3]), tmp_path / "trace").path


def values_of(found: Any) -> list[bytes]:
    tensors = [t for n in found.network for t in (n.layer.activations, n.layer.weights, n.layer.outputs)]
    return [tensor.load().digest.encode() for tensor in tensors if tensor is not None]


def test_a_trace_holds_what_is_captured_of_every_input(trace: Path, model: Path, inputs: list[Path]) -> None:
    for index in range(3):
        found = TraceFolder(trace, index)
        alone = capture(file_subject(model, inputs[index : index + 1]))
        for kind in ("activations", "weights"):
            for name, about in found.description[kind].items():
                array = found.read(f"{kind}/{name}")
                assert np.array_equal(array, alone.read(f"{kind}/{name}"))
                assert list(array.shape) == about["shape"] and array.dtype == np.float32
    together = capture(file_subject(model, inputs[:3])).description
    for key in ("layers", "outputs", "versions", "files"):
        assert found.description[key] == together[key]
    for kind in ("activations", "weights"):
        for name, about in together[kind].items():
            assert {key: found.description[kind][name][key] for key in about} == about
    # Plain files that numpy reads, one a tensor and input.
    files = sorted(path.relative_to(trace).as_posix() for path in trace.rglob("*.npy"))
    assert len(files) == 3 * 3 + 2 and all(np.load(trace / path).dtype == np.float32 for path in files)
    for index, path in enumerate(inputs[:3]):
        assert np.array_equal(np.load(trace / f"inputs/{index}.npz")["x"], np.load(path))


@pytest.mark.parametrize("bits", [8, 16])
def test_a_trace_is_the_workload_of_its_model_and_inputs(
    trace: Path, model: Path, inputs: list[Path], bits: int
) -> None:
    for rule in ("profiled", "full_range", "common"):
        found = load_workload(trace, bits=bits, quantise=rule)
        # A model would be profiled on the way.
        own = "full_range" if (bits, rule) == (16, "profiled") else rule
        direct = load_workload(model, bits=bits, quantise=own, inputs=inputs[:3])
        assert values_of(found) == values_of(direct)
    assert found.name == "net" and "0.npy" in found.source and "3 inputs" in found.source
    with pytest.raises(InputError, match="has its own inputs"):
        load_workload(trace, inputs=[inputs[0]])


def test_a_profile_in_the_folder_is_taken(trace: Path, model: Path, inputs: list[Path]) -> None:
    from dpred_sim.workload.profile import write_profile

    subject = TraceFolder(trace).subject()
    profile = profile_model(subject)
    # The same as from the model and the files: the trace keeps what the model was fed with.
    direct = profile_model(file_subject(model, inputs[:3]))
    assert (profile.activations, profile.weights) == (direct.activations, direct.weights)
    write_profile(trace / "profile.json", profile)
    found = load_workload(trace)
    assert "precisions of profile.json" in found.source
    for node in found.network:
        assert node.layer.weights is not None
        assert node.layer.weights.precision == profile.weights[node.name].precision
    before = values_of(found)
    assert values_of(load_workload(trace, quantise="full_range")) != before
    write_profile(trace / "profile.json", type(profile)("0" * 64, profile.activations, profile.weights, {}))
    with pytest.raises(InputError, match="belongs to another model"):
        load_workload(trace)


def test_the_model_of_a_trace_is_found_and_checked(trace: Path, model: Path, tmp_path: Path) -> None:
    found = TraceFolder(trace)
    assert found.subject().model().samefile(model)
    moved = model.rename(tmp_path / "elsewhere.onnx")
    with pytest.raises(InputError, match="name it with --model"):
        found.subject().model()
    assert found.subject(moved).model() == moved
    moved.write_bytes(moved.read_bytes() + b"\0")
    with pytest.raises(InputError, match="another model"):
        found.subject(moved).model()


def test_the_same_inputs_give_the_same_trace(
    trace: Path, model: Path, inputs: list[Path], tmp_path: Path
) -> None:
    again = write_trace(file_subject(model, inputs[:3]), tmp_path / "again").path
    for path in sorted(trace.rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (again / path.relative_to(trace)).read_bytes()
    moved = again.rename(tmp_path / "moved")
    assert TraceFolder(moved).key == TraceFolder(trace).key


def test_an_existing_folder_is_replaced_only_when_it_is_a_trace(
    trace: Path, model: Path, inputs: list[Path], tmp_path: Path
) -> None:
    subject = file_subject(model, inputs[3:])
    with pytest.raises(InputError, match="the trace folder exists"):
        write_trace(subject, trace)
    assert write_trace(subject, trace, force=True).inputs == ["3.npy"]
    other = tmp_path / "papers"
    other.mkdir()
    (other / "thesis.txt").write_text("years")
    with pytest.raises(InputError, match="not a trace folder"):
        write_trace(subject, other, force=True)
    assert (other / "thesis.txt").read_text() == "years"
    with pytest.raises(InputError, match="not a folder"):
        write_trace(subject, model, force=True)


def test_a_capture_that_fails_leaves_nothing(model: Path, inputs: list[Path], tmp_path: Path) -> None:
    np.save(inputs[1], np.full(SHAPE, 1e38, np.float32))
    before = set(tmp_path.iterdir())
    with pytest.raises(InputError, match="not finite"):
        write_trace(file_subject(model, inputs[:2]), tmp_path / "t")
    assert set(tmp_path.iterdir()) == before


def layers(trace: Path, change: Callable[[Any], None]) -> None:
    path = trace / "layers.json"
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))


def first_file(trace: Path) -> Path:
    return trace / json.loads((trace / "layers.json").read_text())["activations"]["n_b"]["files"][0]["file"]


def rewrite(trace: Path, array: Any) -> None:
    np.save(first_file(trace), array)


def climb(found: Any) -> None:
    found["weights"]["n_b"]["files"][0]["file"] = "../net.onnx"


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing file": (lambda t: first_file(t).unlink(), "a file is missing"),
    "cut short": (lambda t: first_file(t).write_bytes(first_file(t).read_bytes()[:700]), "cut short"),
    "more values": (lambda t: first_file(t).write_bytes(bytes(9000)), "another file"),
    "other values": (lambda t: rewrite(t, np.ones((8, 8, 6), np.float32)), "was changed"),
    "other shape": (lambda t: rewrite(t, np.ones((6, 8, 8), np.float32)), "another array"),
    "other type": (lambda t: rewrite(t, np.ones((8, 8, 6), np.int32)), "another array"),
    "not a number": (lambda t: rewrite(t, np.full((8, 8, 6), np.nan, np.float32)), "not finite"),
    "garbage": (lambda t: first_file(t).write_bytes(b"x" * first_file(t).stat().st_size), "cannot be read"),
    "no description": (lambda t: (t / "layers.json").unlink(), "no importer reads such a workload folder"),
    "not JSON": (lambda t: (t / "layers.json").write_text("{"), "layers.json:1"),
    "another schema": (lambda t: layers(t, lambda d: d.update(schema="dpred-trace/9")), "dpred-trace/1"),
    "no layers": (lambda t: layers(t, lambda d: d.pop("layers")), "layers: missing"),
    "no weights": (lambda t: layers(t, lambda d: d["weights"].pop("n_b")), "layer n_b: no weights"),
    "unknown tensor": (lambda t: layers(t, lambda d: d["activations"].pop("n_a/1")), "no tensor is called"),
    "a path out": (lambda t: layers(t, climb), "a path out of the folder"),
    "an input too few": (lambda t: layers(t, lambda d: d["inputs"].pop()), "files for 2 input"),
    "a range of nothing": (
        lambda t: layers(t, lambda d: d["activations"]["n_b"].update(low=float("nan"))), "a range from nan"
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(DAMAGE))
def test_damage_is_named(trace: Path, kind: str) -> None:
    spoil, said = DAMAGE[kind]
    load_workload(trace)
    shutil.rmtree(trace.parent / "cache")
    spoil(trace)
    with pytest.raises(InputError) as caught:
        values_of(load_workload(trace))
    assert said in str(caught.value) and str(trace) in str(caught.value)


def test_a_link_out_of_the_folder_is_not_followed(trace: Path, tmp_path: Path) -> None:
    path = first_file(trace)
    path.rename(tmp_path / "outside.npy")
    path.symlink_to(tmp_path / "outside.npy")
    with pytest.raises(InputError, match="outside its folder"):
        load_workload(trace)
