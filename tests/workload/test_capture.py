"""Captures and integers in the cache: made once, checked, made again when something is wrong with them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dpred_sim.errors import InputError
from dpred_sim.workload import capture as capturing
from dpred_sim.workload.capture import capture, file_subject
from dpred_sim.workload.crop import cropped
from dpred_sim.workload.load import load_workload
from dpred_sim.workload.quantised import InMemory, Values, integers, real_workload, workload_of
from dpred_sim.workload.record import DAMAGED, Record, open_record, write_record
from tests.workload.onnx_models import ModelBuilder, save_input

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

SHAPE = (1, 3, 8, 8)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DPRED_SIM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "traces"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    builder = ModelBuilder(SHAPE)
    builder.node("Relu", [builder.conv("x", "a", 6, 3, pads=[1, 1, 1, 1])], "ra")
    builder.conv("ra", "b", 6, 6, pads=[1, 1, 1, 1])
    builder.node("Relu", [builder.node("Add", ["b", "ra"], "s")], "out")
    return builder.save(tmp_path / "net.onnx")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return save_input(tmp_path / "x.npy", SHAPE)


def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry more each time a model is really run."""
    made: list[int] = []
    make = capturing._make

    def counted(subject: capturing.Subject):  # type: ignore[no-untyped-def]
        made.append(1)
        return make(subject)

    monkeypatch.setattr(capturing, "_make", counted)
    return made


def all_values(model: Path, image: Path, bits: int = 16) -> list[bytes]:
    found = load_workload(model, bits=bits, inputs=[image])
    tensors = [t for n in found.network for t in (n.layer.activations, n.layer.weights, n.layer.outputs)]
    return [tensor.load().digest.encode() for tensor in tensors if tensor is not None]


def test_a_capture_serves_every_format_and_every_later_run(
    model: Path, image: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = runs(monkeypatch)
    first = all_values(model, image)
    assert all_values(model, image) == first and all_values(model, image, bits=8) != first
    load_workload(model, inputs=[image], quantise="common")
    assert made == [1]
    assert len(list(cache.glob("*-float.npz"))) == 1 and len(list(cache.glob("*-int16.npz"))) == 2


def test_another_input_model_or_preprocessing_is_another_capture(
    model: Path, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = runs(monkeypatch)
    first = all_values(model, image)
    save_input(image, SHAPE, seed=5)
    assert all_values(model, image) != first
    builder = ModelBuilder(SHAPE, seed=9)
    builder.conv("x", "a", 6, 3)
    builder.save(model)
    all_values(model, image)
    (tmp_path / "net.preprocessing.json").write_text('{"order": "BGR"}')
    all_values(model, image)
    assert len(made) == 4


def test_external_data_that_changes_is_noticed(
    model: Path, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx.save(
        onnx.load(str(model)),
        str(tmp_path / "big.onnx"),
        save_as_external_data=True,
        location="big.bin",
        size_threshold=0,
    )
    made = runs(monkeypatch)
    first = all_values(tmp_path / "big.onnx", image)
    assert all_values(tmp_path / "big.onnx", image) == first and made == [1]
    data = bytearray((tmp_path / "big.bin").read_bytes())
    data[:64] = bytes(64)
    (tmp_path / "big.bin").write_bytes(data)
    assert all_values(tmp_path / "big.onnx", image) != first and made == [1, 1]


def test_the_same_inputs_give_the_same_bytes(model: Path, image: Path, cache: Path) -> None:
    found = []
    for _ in range(2):
        all_values(model, image)
        found.append({path.name: path.read_bytes() for path in cache.iterdir()})
        for path in cache.iterdir():
            path.unlink()
    assert found[0] == found[1] and len(found[0]) == 2


@pytest.mark.parametrize("kind", ["float", "int16"])
@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "replaced"])
def test_a_damaged_file_is_made_again(
    model: Path, image: Path, cache: Path, kind: str, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = all_values(model, image)
    (path,) = cache.glob(f"*-{kind}.npz")
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0x55
    path.write_bytes(
        {"empty": b"", "cut": whole[: len(whole) // 2], "flipped": bytes(flipped), "replaced": b"text"}[
            damage
        ]
    )
    if kind == "float":
        for other in cache.glob("*-int16.npz"):
            other.unlink()
    made = runs(monkeypatch)
    assert all_values(model, image) == wanted
    assert path.read_bytes() == whole
    assert made == ([1] if kind == "float" else [])


def test_damage_that_appears_while_a_workload_is_used(model: Path, image: Path, cache: Path) -> None:
    wanted = all_values(model, image)
    found = load_workload(model, inputs=[image])
    (path,) = cache.glob("*-int16.npz")
    data = bytearray(path.read_bytes())
    data[200:-2000] = bytes(len(data) - 2200)
    with path.open("r+b") as stream:
        stream.write(data)
    tensors = [t for n in found.network for t in (n.layer.activations, n.layer.weights, n.layer.outputs)]
    assert [tensor.load().digest.encode() for tensor in tensors if tensor is not None] == wanted


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_that_cannot_be_written_only_costs_time(model: Path, image: Path, cache: Path) -> None:
    cache.parent.mkdir()
    cache.parent.chmod(0o500)
    assert len(all_values(model, image)) == 6


def test_a_cache_that_is_no_folder_only_costs_time(
    model: Path,
    image: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wanted = all_values(model, image)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DPRED_SIM_CACHE", str(tmp_path / "file"))
    assert all_values(model, image) == wanted
    assert "the cache cannot be written" in capsys.readouterr().err


def test_a_cached_run_imports_no_onnx(model: Path, image: Path) -> None:
    code = (
        "import sys; from dpred_sim.workload.load import load_workload\n"
        f"w = load_workload({str(model)!r}, inputs=[{str(image)!r}])\n"
        "w.network.nodes[0].layer.weights.load()\n"
        "print([n for n in ('onnx', 'onnxruntime', 'PIL') if n in sys.modules])"
    )
    said = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert [one.stdout.strip() for one in said] == ["['onnx', 'onnxruntime']", "[]"]


def test_the_description_of_a_capture(model: Path, image: Path) -> None:
    found = capture(file_subject(model, [image]))
    assert found.description["outputs"] == ["n_b"]
    assert set(found.description["activations"]) == {"input", "n_a", "n_b"}
    for kind in ("activations", "weights"):
        for name, about in found.description[kind].items():
            array = found.read(f"{kind}/{name}")
            assert array.dtype == np.float32 and list(array.shape) == about["shape"]
            assert (about["low"], about["high"]) == (array.min(), array.max())


def test_records_are_npz_files_and_are_never_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "r.npz"
    arrays = {"a/b": np.arange(6, dtype=np.int16).reshape(2, 3), "c": np.zeros((1, 1), np.uint8)}
    write_record(path, {"text": "é"}, arrays)
    record = Record(path)
    assert record.description["text"] == "é"
    for name, array in arrays.items():
        assert np.array_equal(record.read(name), array) and record.read(name).dtype == array.dtype
    with np.load(path, allow_pickle=False) as plain:
        assert np.array_equal(plain[record.description["members"]["a/b"]], arrays["a/b"])
    with pytest.raises(DAMAGED):
        record.read("absent")
    np.savez(path, description=np.array([{}], dtype=object))
    assert open_record(path) is None and open_record(tmp_path / "none.npz") is None


def test_a_crop_is_a_network_of_its_own(model: Path, image: Path) -> None:
    values = Values(file_subject(model, [image]), 16, "full_range", None, "test", {})
    whole = real_workload(values)
    description, arrays = cropped(integers(values), ["n_a", "n_b"], slice(2, 7), slice(1, 5))
    piece = workload_of(InMemory(description, arrays), "piece", "cropped", {})
    assert [(n.name, n.reads, n.shortcut) for n in piece.network] == [
        ("n_a", "input", None),
        ("n_b", "n_a", "n_a"),
    ]
    for part, full in zip(piece.network, whole.network, strict=True):
        assert part.layer.output_shape == (5, 4, 6)
        assert part.layer.outputs is not None and full.layer.outputs is not None
        assert np.array_equal(part.layer.outputs.load().values, full.layer.outputs.load().values[2:7, 1:5])
    description, arrays = cropped(integers(values), ["n_b"], slice(0, 4), slice(0, 4))
    alone = workload_of(InMemory(description, arrays), "piece", "cropped", {})
    assert [(n.name, n.reads, n.shortcut) for n in alone.network] == [("n_b", "input", "input")]
    for names in (["n_b", "n_a"], ["n_c"]):
        with pytest.raises(InputError):
            cropped(integers(values), names, slice(0, 4), slice(0, 4))
