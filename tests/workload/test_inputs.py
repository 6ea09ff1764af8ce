"""Files as inputs: sound, token ids, several arrays; external data that must not be read."""

from __future__ import annotations

import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpred_sim.errors import InputError
from dpred_sim.workload.images import Preprocessing, preprocessing_from
from dpred_sim.workload.inputs import InputSpec, read_feed
from dpred_sim.workload.load import load_workload
from tests.workload.onnx_models import ModelBuilder, captured, loaded, save_input

SOUND = InputSpec("audio", (None, None))
TEXT = (
    InputSpec("input_ids", (None, None), "int64"),
    InputSpec("attention_mask", (None, None), "int64"),
    InputSpec("token_type_ids", (None, None), "int64"),
)
PLAIN = Preprocessing()


def sound(path: Path, samples: Any, rate: int = 16000, channels: int = 1, width: int = 2) -> Path:
    with wave.open(str(path), "wb") as stream:
        stream.setnchannels(channels)
        stream.setsampwidth(width)
        stream.setframerate(rate)
        stream.writeframes(np.asarray(samples, dtype=f"<i{width}").tobytes())
    return path


def test_sound_is_scaled_and_cut_into_frames(tmp_path: Path) -> None:
    samples = np.arange(-5000, 5000, 7)
    path = sound(tmp_path / "s.wav", samples)
    whole = read_feed([SOUND], path, PLAIN)["audio"]
    assert whole.shape == (1, len(samples)) and np.array_equal(whole[0], samples.astype(np.float32) / 32768)
    frames = read_feed([SOUND], path, Preprocessing(frame=576, hop=512, rate=16000))["audio"]
    count = (len(samples) - 576) // 512 + 1
    assert frames.shape == (count, 576)
    for i, frame in enumerate(frames):
        assert np.array_equal(frame, whole[0, 512 * i : 512 * i + 576])
    assert read_feed([SOUND], path, Preprocessing(samples=600, frame=200))["audio"].shape == (3, 200)


def test_sound_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    good = sound(tmp_path / "good.wav", np.zeros(100))
    cases: list[tuple[Path, Preprocessing, str]] = [
        (sound(tmp_path / "slow.wav", np.zeros(100), 8000), Preprocessing(rate=16000), "another sample rate"),
        (sound(tmp_path / "stereo.wav", np.zeros(100), channels=2), PLAIN, "1 channel of 16 bits"),
        (sound(tmp_path / "wide.wav", np.zeros(100), width=4), PLAIN, "1 channel of 16 bits"),
        (sound(tmp_path / "none.wav", []), PLAIN, "empty"),
        (good, Preprocessing(frame=101), "shorter than one frame"),
    ]
    (tmp_path / "cut.wav").write_bytes(good.read_bytes()[:-60])
    (tmp_path / "text.wav").write_text("no sound")
    cases += [(tmp_path / "cut.wav", PLAIN, "cut short"), (tmp_path / "text.wav", PLAIN, "not a .wav file")]
    for path, settings, said in cases:
        with pytest.raises(InputError, match=said) as caught:
            read_feed([SOUND], path, settings)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", "[101, 7592, 102]"),
        ("a.json", "[[101, 7592, 102]]"),
        ("a.json", '{"input_ids": [101, 7592, 102]}'),
        ("a.txt", "101 7592\n102\n"),
    ],
)
def test_token_ids_alone_are_one_text_without_padding(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    feed = read_feed(TEXT, tmp_path / name, PLAIN)
    assert list(feed) == ["input_ids", "attention_mask", "token_type_ids"]
    assert feed["input_ids"].tolist() == [[101, 7592, 102]] and feed["input_ids"].dtype == np.int64
    assert feed["attention_mask"].tolist() == [[1, 1, 1]] and feed["token_type_ids"].tolist() == [[0, 0, 0]]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.json", "[1.5]", "not a list of whole numbers"),
        ("a.json", "[]", "not a list of whole numbers"),
        ("a.json", "[[1, 2], [3]]", "not a list of whole numbers"),
        ("a.json", '"text"', "not a list of whole numbers"),
        ("a.json", "[1,", "a.json:1"),
        ("a.json", '{"ids": [1]}', "no such input"),
        ("a.json", '{"attention_mask": [1]}', "an input of the model is missing"),
        ("a.txt", "1 two 3", "with blanks between"),
        ("a.json", "[[[1]]]", "not the shape"),
    ],
)
def test_token_ids_that_do_not_fit_are_refused(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    if "missing" in said:
        specs = (InputSpec("input_ids", (1, None, 4), "int64"), TEXT[1])
    else:
        specs = TEXT
    with pytest.raises(InputError, match=said):
        read_feed(specs, tmp_path / name, PLAIN)


def test_several_inputs_come_in_one_file(tmp_path: Path) -> None:
    specs = (InputSpec("x", (1, 3, None)), InputSpec("rate", (), "int64"))
    np.savez(tmp_path / "a.npz", x=np.ones((3, 5)), rate=np.array(8))
    feed = read_feed(specs, tmp_path / "a.npz", PLAIN)
    assert feed["x"].shape == (1, 3, 5) and feed["rate"].shape == () and feed["rate"] == 8
    for arrays, said in (
        ({"x": np.ones((3, 5))}, "an input of the model is missing"),
        ({"x": np.ones((3, 5)), "rat": np.array(8)}, "did you mean 'rate'"),
        ({"x": np.ones((3, 5)), "rate": np.array(8.5)}, "whole numbers are needed"),
        ({"x": np.full((3, 5), np.inf), "rate": np.array(8)}, "not finite"),
    ):
        np.savez(tmp_path / "b.npz", **arrays)
        with pytest.raises(InputError, match=said):
            read_feed(specs, tmp_path / "b.npz", PLAIN)
    small = (InputSpec("x", (None,), "int8"),)
    np.save(tmp_path / "c.npy", np.array([300]))
    with pytest.raises(InputError, match="values that int8 cannot"):
        read_feed(small, tmp_path / "c.npy", PLAIN)


def test_a_text_model_looks_its_tokens_up(tmp_path: Path) -> None:
    """Rows of the table that ids choose are the input; the mask is no tensor of the network."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    builder = ModelBuilder((1, "tokens"))
    rows = builder.node("Gather", [builder.random("table", 50, 8), "x"], "rows")
    builder.node("Cast", ["mask"], "real", to=1)
    shown = builder.node("Unsqueeze", ["real", builder.constant("i", [2], np.int64)], "shown")
    builder.node("MatMul", [builder.node("Mul", [rows, shown], "kept"), builder.random("w", 8, 4)], "out")
    path = builder.save(tmp_path / "m.onnx")
    model = onnx.load(str(path))
    del model.graph.input[:]
    model.graph.input.extend(
        onnx.helper.make_tensor_value_info(name, 7, [1, "tokens"]) for name in ("x", "mask")
    )
    onnx.save(model, str(path))
    (tmp_path / "ids.json").write_text(json.dumps({"x": [3, 3, 49], "mask": [1, 1, 0]}))
    workload, _ = loaded(path, tmp_path / "ids.json")
    floats = captured(path, tmp_path / "ids.json")
    table = builder.constants["table"]
    assert np.array_equal(floats.read("activations/input"), table[[3, 3, 49]])
    names = [node.name for node in workload.network]
    assert names == ["n_kept", "n_out"]
    wanted = table[[3, 3, 49]] * np.array([[1], [1], [0]])
    assert np.allclose(floats.read("activations/n_kept"), wanted)
    assert workload.network.nodes[0].reads == "input"


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname", "inner/../../secret.bin", "link.bin"])
def test_external_data_outside_the_folder_is_not_read(tmp_path: Path, location: str) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    folder = tmp_path / "model"
    folder.mkdir()
    builder = ModelBuilder((1, 3, 6, 8))
    builder.conv("x", "c", 4, 3)
    path = builder.save(folder / "m.onnx")
    onnx.save(
        onnx.load(str(path)), str(path), save_as_external_data=True, location="ok.bin", size_threshold=0
    )
    (tmp_path / "secret.bin").write_bytes((folder / "ok.bin").read_bytes())
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    model = onnx.load(str(path), load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="outside the model's folder: not read"):
        load_workload(path, inputs=[save_input(tmp_path / "x.npy", (1, 3, 6, 8))])


def test_external_data_that_is_cut_short_is_named(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    builder = ModelBuilder((1, 3, 6, 8))
    builder.conv("x", "c", 4, 3)
    path = builder.save(tmp_path / "m.onnx")
    onnx.save(onnx.load(str(path)), str(path), save_as_external_data=True, location="w.bin", size_threshold=0)
    data = (tmp_path / "w.bin").read_bytes()
    (tmp_path / "w.bin").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="external data is cut short: 'w_c'"):
        load_workload(path, inputs=[save_input(tmp_path / "x.npy", (1, 3, 6, 8))])


@pytest.mark.parametrize("fit", ["stretch", "cover", "contain"])
def test_photos_of_other_proportions(tmp_path: Path, fit: str) -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, :20] = 200
    image.fromarray(pixels).save(tmp_path / "p.png")
    spec = InputSpec("x", (1, 3, None, None))
    settings = Preprocessing(resize=(20, 20), fit=fit, fill=100, filter="nearest", scale=1.0)
    found = read_feed([spec], tmp_path / "p.png", settings)["x"][0, 0]
    assert found.shape == (20, 20)
    row = found[10]
    if fit == "stretch":
        assert row.tolist() == [200] * 10 + [0] * 10
    elif fit == "cover":
        assert row.tolist() == [200] * 10 + [0] * 10 and (found == found[0]).all()
    else:
        # Half the height: above and below is what fills up.
        assert (found[:5] == 100).all() and (found[15:] == 100).all() and set(row) == {0, 200}
    if fit == "stretch":
        last = InputSpec("x", (1, None, None, None))
        assert read_feed([last], tmp_path / "p.png", Preprocessing(layout="HWC"))["x"].shape == (1, 20, 40, 3)
        assert read_feed([last], tmp_path / "p.png", Preprocessing(layout="CHW"))["x"].shape == (1, 3, 20, 40)
        cut = read_feed([spec], tmp_path / "p.png", Preprocessing(crop=(8, 6), resize=(10, 10)))["x"]
        assert cut.shape == (1, 3, 8, 6)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"fit": "squeeze"}, "stretch, cover, contain"),
        ({"filter": "linear"}, "bilinear"),
        ({"layout": "NCHW"}, "CHW, HWC"),
        ({"rate": 0}, "not a positive number"),
        ({"frame": 2.5}, "whole numbers"),
        ({"crop": [3]}, "2 whole numbers"),
        ({"hops": 3}, "did you mean 'hop'"),
    ],
)
def test_preprocessing_that_is_wrong(found: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        preprocessing_from(found, Path("p.json"))


def test_preprocessing_survives_json() -> None:
    settings = Preprocessing(resize=(4, 5), fit="contain", rate=8000, hop=3, mean=(1.0, 2.0, 3.0))
    assert preprocessing_from(settings.to_dict(), Path("p.json")) == settings
    # Hashes of captures made before the later keys hold.
    assert set(PLAIN.to_dict()) == {"resize", "order", "scale", "mean", "deviation"}
