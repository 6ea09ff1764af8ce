"""ONNX files and their inputs as a user gives them: what is read, and how the rest is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpred_sim.errors import InputError
from dpred_sim.workload.load import load_workload
from tests.workload.onnx_models import ModelBuilder, save_input

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

SHAPE = (1, 3, 6, 8)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPRED_SIM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    builder = ModelBuilder(SHAPE)
    builder.node("Relu", [builder.conv("x", "c", 4, 3)], "out")
    return builder.save(tmp_path / "net.onnx")


def photo(path: Path, size: tuple[int, int] = (8, 6), mode: str = "RGB", seed: int = 0) -> Path:
    from PIL import Image

    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def refused(reference: Path, *inputs: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        load_workload(reference, inputs=inputs, **options)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize("bits", [8, 16])
def test_an_array_gives_a_real_workload(model: Path, tmp_path: Path, bits: int) -> None:
    found = load_workload(model, bits=bits, inputs=[save_input(tmp_path / "x.npy", SHAPE)])
    assert (found.name, found.bits, found.synthetic) == ("net", bits, False)
    assert found.source.startswith("net.onnx on x.npy; ")
    assert f"{bits} bits, full range of each tensor (no net.profile.json)" in found.source
    assert len(found.provenance["model_sha256"]) == 64
    assert found.provenance["quantise"] == "full_range"
    json.dumps(found.provenance)
    for node in found.network:
        for tensor in (node.layer.activations, node.layer.weights, node.layer.outputs):
            assert tensor is not None and tensor.bits == bits
            assert tensor.load().shape == tensor.shape


def test_an_array_may_lack_the_batch_axis_and_come_in_an_npz(model: Path, tmp_path: Path) -> None:
    plain = save_input(tmp_path / "x.npy", SHAPE)
    wanted = load_workload(model, inputs=[plain]).network.nodes[0].layer.activations.load()
    np.save(tmp_path / "y.npy", np.load(plain)[0].astype(np.float64))
    np.savez(tmp_path / "one.npz", anything=np.load(plain))
    np.savez(tmp_path / "two.npz", x=np.load(plain), other=np.ones(3))
    for name in ("y.npy", "one.npz", "two.npz"):
        found = load_workload(model, inputs=[tmp_path / name]).network.nodes[0].layer.activations.load()
        assert np.array_equal(found.values, wanted.values)


def test_a_photo_is_scaled_to_the_model(model: Path, tmp_path: Path) -> None:
    found = load_workload(model, inputs=[photo(tmp_path / "p.png", (8, 6))])
    tensor = found.network.nodes[0].layer.activations
    assert tensor.shape == (6, 8, 3) and not tensor.signed
    from PIL import Image

    pixels = np.asarray(Image.open(tmp_path / "p.png"), dtype=float)
    values = tensor.load().values
    # RGB from 0 to 1 in proportion to the pixels, channel last.
    ratio = values.astype(float).max() / pixels.max()
    assert np.abs(values - pixels * ratio).max() < 1e-3 * values.max()


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_photos_of_another_size_and_kind_are_converted(model: Path, tmp_path: Path, mode: str) -> None:
    found = load_workload(model, inputs=[photo(tmp_path / "p.png", (50, 31), mode)])
    values = found.network.nodes[0].layer.activations.load().values
    assert values.shape == (6, 8, 3)
    assert np.array_equal(values[..., 0], values[..., 1]) == (mode == "L")


def test_sizes_that_the_input_decides(tmp_path: Path) -> None:
    builder = ModelBuilder(("N", 3, "H", "W"))
    builder.node("GlobalAveragePool", [builder.conv("x", "c", 4, 3)], "out")
    path = builder.save(tmp_path / "m.onnx")
    for size in ((9, 7), (12, 5)):
        image = photo(tmp_path / f"{size[0]}.png", size)
        assert load_workload(path, inputs=[image]).network.nodes[0].layer.activations.shape == (
            size[1],
            size[0],
            3,
        )
    text = refused(path, save_input(tmp_path / "two.npy", (2, 3, 9, 7)))
    assert "(2, 3, 9, 7)" in text and "(1, 3, any, any)" in text


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_precisions_are_computed_in_single(tmp_path: Path, dtype: Any) -> None:
    found = []
    for kind in (np.float32, dtype):
        builder = ModelBuilder(SHAPE)
        builder.node("Relu", [builder.conv("x", "c", 4, 3)], "out")
        # The same numbers in all precisions.
        builder.constants = {k: v.astype(np.float16).astype(kind) for k, v in builder.constants.items()}
        path = builder.save(tmp_path / "m.onnx")
        proto = onnx.load(str(path))
        for value in (proto.graph.input[0], proto.graph.output[0]):
            value.type.tensor_type.elem_type = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind))
        onnx.save(proto, str(path))
        layer = load_workload(path, inputs=[save_input(tmp_path / "x.npy", SHAPE)]).network.nodes[0].layer
        assert layer.weights is not None and layer.outputs is not None
        found.append([tensor.load().values for tensor in (layer.activations, layer.weights, layer.outputs)])
    assert all(np.array_equal(a, b) for a, b in zip(*found, strict=True))


def test_shapes_that_the_file_notes_for_another_size_do_not_matter(tmp_path: Path) -> None:
    builder = ModelBuilder((1, 3, "H", "W"))
    builder.node("Relu", [builder.conv("x", "c", 4, 3)], "out")
    path = builder.save(tmp_path / "m.onnx")
    proto = onnx.load(str(path))
    proto.graph.value_info.append(onnx.helper.make_tensor_value_info("c", 1, [1, 4, 30, 30]))
    onnx.save(proto, str(path))
    found = load_workload(path, inputs=[save_input(tmp_path / "x.npy", SHAPE)])
    assert found.network.nodes[0].layer.output_shape == (4, 6, 4)


def test_a_photo_is_turned_as_its_camera_says(model: Path, tmp_path: Path) -> None:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    upright, turned = Image.fromarray(pixels), Image.fromarray(np.rot90(pixels))
    upright.save(tmp_path / "upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter to the right to see it upright
    turned.save(tmp_path / "turned.png", exif=exif)
    found = [
        load_workload(model, inputs=[tmp_path / name]).network.nodes[0].layer.activations.load().values
        for name in ("upright.png", "turned.png")
    ]
    assert np.array_equal(*found)


def test_values_are_the_first_inputs_and_ranges_those_of_all(model: Path, tmp_path: Path) -> None:
    small = save_input(tmp_path / "small.npy", SHAPE, seed=1)
    large = save_input(tmp_path / "large.npy", SHAPE, seed=2, scale=4.0)
    alone = load_workload(model, inputs=[small]).network.nodes[0].layer.activations.load()
    both = load_workload(model, inputs=[small, large])
    beside = both.network.nodes[0].layer.activations.load()
    assert "ranges over 2 inputs" in both.source
    # The larger range costs two bits or more of the same values.
    assert np.abs(beside.values).max() * 3.9 < np.abs(alone.values).max()
    assert np.corrcoef(beside.values.ravel(), alone.values.ravel())[0, 1] > 0.999


def test_preprocessing_beside_the_model(model: Path, tmp_path: Path) -> None:
    image = photo(tmp_path / "p.png", (20, 10))
    settings = {
        "resize": [10, 20],
        "order": "BGR",
        "scale": 1,
        "mean": [104, 117, 123],
        "deviation": [2, 2, 2],
    }
    (tmp_path / "net.preprocessing.json").write_text(json.dumps(settings))
    found = load_workload(model, inputs=[image])
    assert found.provenance["preprocessing"]["order"] == "BGR"
    from PIL import Image

    pixels = np.asarray(Image.open(image), dtype=float)[2:8, 6:14, ::-1]
    wanted = (pixels - [104, 117, 123]) / 2
    values = found.network.nodes[0].layer.activations.load().values.astype(float)
    scale = np.abs(wanted).max() / np.abs(values).max()
    assert np.abs(values * scale - wanted).max() < 0.02


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "net.preprocessing.json:1"),
        ("[]", "not a JSON object"),
        ('{"ordr": "BGR"}', "did you mean 'order'"),
        ('{"order": "RGBA"}', "RGB, BGR"),
        ('{"resize": [0, 3]}', "not a size"),
        ('{"resize": 256}', "2 whole numbers"),
        ('{"mean": ["a"]}', "1 or 3 numbers"),
        ('{"scale": true}', "wrong value"),
        ('{"deviation": [0.0]}', "a deviation of zero"),
        ('{"resize": [4, 4]}', "smaller than the model's input"),
    ],
)
def test_wrong_preprocessing_is_refused(model: Path, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "net.preprocessing.json").write_text(text)
    assert said in refused(model, photo(tmp_path / "p.png"))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "there is no graph in it"),
        (b"this is no model, it is text", "not an ONNX model"),
        (bytes(range(256)) * 8, "not an ONNX model"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 64, "not an ONNX model"),
    ],
)
def test_files_that_are_no_models(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "bad.onnx").write_bytes(data)
    text = refused(tmp_path / "bad.onnx", save_input(tmp_path / "x.npy", SHAPE))
    assert said in text and "bad.onnx" in text


def test_a_truncated_model_is_refused(model: Path, tmp_path: Path) -> None:
    data = model.read_bytes()
    image = save_input(tmp_path / "x.npy", SHAPE)
    for length in range(10, len(data), 97):
        (tmp_path / "cut.onnx").write_bytes(data[:length])
        assert "cut.onnx" in refused(tmp_path / "cut.onnx", image)


def test_external_data_is_read_and_its_absence_named(model: Path, tmp_path: Path) -> None:
    image = save_input(tmp_path / "x.npy", SHAPE)
    wanted = load_workload(model, inputs=[image]).network.nodes[0].layer.weights
    onnx.save(
        onnx.load(str(model)),
        str(tmp_path / "big.onnx"),
        save_as_external_data=True,
        location="big.bin",
        size_threshold=0,
    )
    found = load_workload(tmp_path / "big.onnx", inputs=[image]).network.nodes[0].layer.weights
    assert wanted is not None and found is not None
    assert np.array_equal(found.load().values, wanted.load().values)
    (tmp_path / "big.bin").unlink()
    assert "external data is missing; found 'big.bin'" in refused(tmp_path / "big.onnx", image)


def test_an_input_is_needed(model: Path) -> None:
    assert "give --input FILE" in refused(model)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((1, 3, 8, 6), np.float32), "allowed: (1, 3, 6, 8)"),
        (np.zeros((2, 3, 6, 8), np.float32), "found '(2, 3, 6, 8)'"),
        (np.zeros(5, np.float32), "not the shape"),
        (np.float32(3), "not the shape"),
        (np.full(SHAPE, np.nan, np.float32), "not finite"),
        (np.full(SHAPE, np.inf, np.float32), "not finite"),
        (np.zeros(SHAPE, complex), "not a real array"),
        (np.full(SHAPE, "text"), "not a real array"),
    ],
)
def test_arrays_that_do_not_fit(model: Path, tmp_path: Path, array: Any, said: str) -> None:
    np.save(tmp_path / "x.npy", array)
    text = refused(model, tmp_path / "x.npy")
    assert said in text and "x.npy" in text


def test_inputs_that_cannot_be_read(model: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(photo(tmp_path / "p.png").read_bytes()[:60])
    (tmp_path / "text.jpg").write_text("not a photo")
    (tmp_path / "text.npy").write_text("not an array")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "many.npz", a=np.ones(2), b=np.ones(3))
    for name, said in (
        ("broken.png", "not an image"),
        ("text.jpg", "not an image"),
        ("text.npy", "without pickle"),
        ("objects.npy", "without pickle"),
        ("many.npz", "which array is the input?"),
        ("absent.png", "no such input file"),
    ):
        text = refused(model, tmp_path / name)
        assert said in text and name in text


def test_a_photo_for_a_model_that_reads_no_image(tmp_path: Path) -> None:
    builder = ModelBuilder((1, 12))
    builder.node("MatMul", ["x", builder.random("w", 12, 4)], "out")
    path = builder.save(tmp_path / "m.onnx")
    assert "give an .npy file" in refused(path, photo(tmp_path / "p.png"))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite(tmp_path: Path, value: float) -> None:
    builder = ModelBuilder(SHAPE)
    builder.conv("x", "c", 4, 3)
    builder.constants["w_c"][1, 1, 1, 1] = value
    text = refused(builder.save(tmp_path / "m.onnx"), save_input(tmp_path / "x.npy", SHAPE))
    assert "weights are not all finite" in text and "n_c" in text


def test_values_that_overflow_on_the_way(tmp_path: Path) -> None:
    builder = ModelBuilder(SHAPE)
    builder.node("Exp", [builder.conv("x", "c", 4, 3)], "out")
    path = builder.save(tmp_path / "m.onnx")
    assert "outputs of 'n_c'" in refused(path, save_input(tmp_path / "x.npy", SHAPE, scale=1e4))


def test_a_fixed_batch_and_one_file_for_two_inputs_are_refused(tmp_path: Path) -> None:
    builder = ModelBuilder((4, 3, 6, 8))
    builder.conv("x", "c", 4, 3)
    image = save_input(tmp_path / "x.npy", SHAPE)
    assert "batch 1" in refused(builder.save(tmp_path / "batch.onnx"), image)
    builder = ModelBuilder(SHAPE)
    builder.conv("x", "c", 4, 3)
    path = builder.save(tmp_path / "two.onnx")
    model = onnx.load(str(path))
    model.graph.input.append(onnx.helper.make_tensor_value_info("y", 1, [1]))
    onnx.save(model, str(path))
    text = refused(path, image)
    assert "which input of the model is it" in text and "x (1, 3, 6, 8) float32, y (1) float32" in text


def test_an_unknown_quantisation_is_named(model: Path, tmp_path: Path) -> None:
    text = refused(model, save_input(tmp_path / "x.npy", SHAPE), quantise="profile")
    assert "did you mean 'profiled'" in text and "full_range" in text


def test_one_format_for_all_tensors_of_a_kind(tmp_path: Path) -> None:
    builder = ModelBuilder(SHAPE)
    builder.node("Relu", [builder.conv("x", "c", 4, 3)], "r")
    builder.conv("r", "d", 4, 4)
    builder.constants["w_d"] *= 16
    path, image = builder.save(tmp_path / "m.onnx"), save_input(tmp_path / "x.npy", SHAPE)
    load_workload(path, inputs=[image], quantise="common")
    from dpred_sim.workload.capture import file_subject
    from dpred_sim.workload.quantised import Values, integers

    description = integers(Values(file_subject(path, [image]), 16, "common", None, "", {})).description
    for kind in ("activations", "weights"):
        assert len({about["scale"] for about in description[kind].values()}) == 1
        assert {about["precision"] for about in description[kind].values()} <= {15, 16}
    assert not description["activations"]["n_c"]["signed"]


def test_a_profile_beside_the_model_decides(model: Path, tmp_path: Path) -> None:
    image = save_input(tmp_path / "x.npy", SHAPE)
    digest = load_workload(model, inputs=[image]).provenance["model_sha256"]
    profile = {
        "schema": "dpred-profile/1",
        "model_sha256": digest,
        "about": {"tolerance": 0.01},
        "activations": {
            "input": {"precision": 6, "signed": True, "limit": 1.0},
            "n_c": {"precision": 5, "signed": False, "limit": 8.0},
        },
        "weights": {"n_c": {"precision": 7, "signed": True, "limit": 2.0}},
    }
    place = tmp_path / "net.profile.json"
    place.write_text(json.dumps(profile))
    found = load_workload(model, inputs=[image])
    layer = found.network.nodes[0].layer
    assert layer.weights is not None and layer.outputs is not None
    tensors = (layer.activations, layer.weights, layer.outputs)
    assert [tensor.precision for tensor in tensors] == [6, 7, 5]
    assert "precisions of net.profile.json" in found.source
    assert found.provenance["profile"]["tolerance"] == 0.01
    # Values beyond the limit saturate, and the share of them is told: 1.0 is a deviation of the input.
    values = layer.activations.load().values
    assert (values.min(), values.max()) == (-32, 31)
    assert 0.2 < found.provenance["most_saturated"] < 0.45
    full = load_workload(model, inputs=[image], quantise="full_range")
    assert full.network.nodes[0].layer.activations.precision == 16

    place.write_text(json.dumps({**profile, "model_sha256": "0" * 64}))
    assert "belongs to another model" in refused(model, image)
    place.write_text(json.dumps({**profile, "weights": {"n_d": profile["weights"]["n_c"]}}))
    assert "did you mean 'n_d'" in refused(model, image)


def test_the_program_refuses_without_a_traceback(model: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dpred_sim", "workload", "show", str(model), "--input"]
    for name, code in (("x.npy", 0), ("bad.npy", 2)):
        save_input(tmp_path / name, SHAPE if code == 0 else (1, 2))
        done = subprocess.run([*command, str(tmp_path / name)], capture_output=True, text=True, check=False)
        assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
