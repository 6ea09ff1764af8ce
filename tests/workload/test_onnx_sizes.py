"""Photos and sounds of a size that a model cannot take: the error says which file, and what sets the size."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import numpy as np
import pytest

from dpred_sim.errors import InputError
from dpred_sim.workload.load import load_workload
from tests.workload.onnx_models import ModelBuilder

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
Image = pytest.importorskip("PIL.Image")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPRED_SIM_CACHE", str(tmp_path / "cache"))


def photo(path: Path, size: tuple[int, int]) -> Path:
    Image.fromarray(np.zeros((*size, 3), np.uint8)).save(path)
    return path


def sound(path: Path, samples: int) -> Path:
    with wave.open(str(path), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(16000)
        stream.writeframes(np.zeros(samples, "<i2").tobytes())
    return path


def fully_connected(folder: Path, rank: int) -> Path:
    """A model that leaves its sizes open and takes only 8 x 8, or 64 samples."""
    if rank == 4:
        m = ModelBuilder((1, 3, "h", "w"))
        m.node("Flatten", [m.conv("x", "c", 4, 3, pads=[1, 1, 1, 1])], "f")
        m.node("Gemm", ["f", m.random("w", 256, 2), m.random("b", 2)], "y")
    else:
        m = ModelBuilder((1, "n"))
        m.node("MatMul", ["x", m.random("w", 64, 2)], "y")
    return m.save(folder / "net.onnx")


def test_a_photo_of_a_size_that_the_model_cannot_take(tmp_path: Path) -> None:
    model, large = fully_connected(tmp_path, 4), photo(tmp_path / "large.png", (20, 10))
    with pytest.raises(InputError) as caught:
        load_workload(model, inputs=[large])
    text = str(caught.value)
    assert text.startswith("large.png: x: the model does not take this input")
    assert "(1, 3, 20, 10)" in text and "`resize` or `crop` in net.preprocessing.json" in text
    assert "cannot load the model" not in text.partition(":")[0] and "/tmp" not in text
    (tmp_path / "net.preprocessing.json").write_text(json.dumps({"resize": [8, 8]}))
    assert load_workload(model, inputs=[large]).macs == 8 * 8 * 4 * 27 + 256 * 2


def test_a_sound_of_a_length_that_the_model_cannot_take(tmp_path: Path) -> None:
    model, long = fully_connected(tmp_path, 2), sound(tmp_path / "long.wav", 100)
    with pytest.raises(
        InputError, match=r"^long.wav: x: .*\(1, 100\).*`samples` or `frame` in net.preprocessing"
    ):
        load_workload(model, inputs=[long])
    (tmp_path / "net.preprocessing.json").write_text(json.dumps({"samples": 64}))
    assert load_workload(model, inputs=[long]).macs == 64 * 2


@pytest.mark.parametrize(("samples", "said"), [(100, '"samples": 64'), (50, "give a longer sound")])
def test_a_sound_of_another_length_than_the_models(tmp_path: Path, samples: int, said: str) -> None:
    m = ModelBuilder((1, 64))
    m.node("MatMul", ["x", m.random("w", 64, 2)], "y")
    with pytest.raises(InputError, match=f"s.wav: x: .*{said}"):
        load_workload(m.save(tmp_path / "net.onnx"), inputs=[sound(tmp_path / "s.wav", samples)])


def test_an_array_of_another_size_is_named_as_it_is(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 3, 9, 9), np.float32))
    with pytest.raises(InputError, match=r"x.npy.*allowed: an array of another shape"):
        load_workload(fully_connected(tmp_path, 4), inputs=[tmp_path / "x.npy"])
