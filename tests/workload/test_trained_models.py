"""Networks built of bare weights against plain numpy, conversion and its cache, prepared inputs."""

from __future__ import annotations

import io
import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpred_sim.errors import InputError
from dpred_sim.workload.fetch import fetch
from dpred_sim.workload.load import load_workload
from dpred_sim.workload.trained import inputs as preparing
from dpred_sim.workload.trained.architectures import (
    LITE0_BLOCKS,
    efficientnet_lite0,
    resemblyzer,
    waifu2x_vgg7,
)
from dpred_sim.workload.trained.inputs import KINDS, manifest_input, own_input, recording
from dpred_sim.workload.trained.manifest import Manifest, read_manifest, shipped
from dpred_sim.workload.trained.mel import mel_bands
from dpred_sim.workload.trained.model import convert, model_key, onnx_model
from tests.trained import TRAINED, need
from tests.workload.keras_oracle import LAYERS
from tests.workload.test_manifest import GOOD

RNG = np.random.default_rng(3)


def run(proto: Any, x: Any) -> Any:
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(proto.SerializeToString())
    return session.run(None, {session.get_inputs()[0].name: x.astype(np.float32)})[0]


def keras(kind: str, x: Any, weights: dict[str, Any], **config: Any) -> Any:
    base = {"padding": "same", "use_bias": False, "activation": "linear", "strides": (1, 1)}
    return LAYERS[kind]("l", {**base, **config}, weights, [x])


def draw(*shape: int, low: float = -1) -> Any:
    return RNG.uniform(low, 1, shape).astype(np.float32)


def test_waifu2x_is_seven_convolutions() -> None:
    channels = (3, 4, 5, 4, 6, 5, 4, 3)
    weights = {}
    x = h = draw(20, 18, 3)
    for i in range(1, 8):
        w, b = draw(channels[i], channels[i - 1], 3, 3), draw(channels[i])
        weights[f"conv{i}/W"], weights[f"conv{i}/b"] = w, b
        parts = {"l/kernel": w.transpose(2, 3, 1, 0), "l/bias": b}
        h = keras("Conv2D", h, parts, padding="valid", use_bias=True)
        h = np.where(h > 0, h, 0.1 * h) if i < 7 else h
    found = run(waifu2x_vgg7(weights), x.transpose(2, 0, 1)[None])[0].transpose(1, 2, 0)
    assert found.shape == (6, 4, 3) and np.allclose(found, h, rtol=1e-4, atol=1e-3)


def lstm(x: Any, w: dict[str, Any], layer: int) -> Any:
    """Hidden states (T, H) of a torch LSTM layer: gates in the order i, f, g, o."""
    names = [f"model_state.lstm.{part}_l{layer}" for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    ih, hh, bi, bh = (w[name].astype(float) for name in names)
    units = hh.shape[1]
    h, c, states = np.zeros(units), np.zeros(units), []
    for row in x:
        i, f, g, o = np.split(ih @ row + bi + hh @ h + bh, 4)
        i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
        c = f * c + i * np.tanh(g)
        h = o * np.tanh(c)
        states.append(h)
    return np.array(states)


def test_resemblyzer_is_three_lstms_and_a_layer() -> None:
    weights = {"model_state.linear.weight": draw(6, 7), "model_state.linear.bias": draw(6)}
    for layer in range(3):
        for part, width in (("weight_ih", 7 if layer else 40), ("weight_hh", 7)):
            weights[f"model_state.lstm.{part}_l{layer}"] = draw(28, width)
        for part in ("bias_ih", "bias_hh"):
            weights[f"model_state.lstm.{part}_l{layer}"] = draw(28)
    x = draw(9, 40)
    h = x.astype(float)
    for layer in range(3):
        h = lstm(h, weights, layer)
    wanted = np.maximum(weights["model_state.linear.weight"] @ h[-1] + weights["model_state.linear.bias"], 0)
    assert (wanted > 0).any()
    found = run(resemblyzer(weights), x[None])
    assert np.allclose(found[0], wanted, rtol=1e-4, atol=1e-4)


def test_efficientnet_lite0_block_by_block() -> None:
    """Thin, with the published kernels and strides; residual adds where a block keeps its shape."""
    kernels = (3, 3, 3, 5, 5, 3, 3, 3, 5, 5, 5, 5, 5, 5, 5, 3)
    stages = (4, 6, 6, 8, 8, 8, 8, 8, 5, 5, 5, 9, 9, 9, 9, 10)
    halved = {1, 3, 5, 11}
    weights: dict[str, Any] = {}
    x = h = draw(224, 224, 3)

    def conv(h: Any, name: str, norm: str, shape: tuple[int, ...], stride: int, relu: bool) -> Any:
        w = weights[f"{name}.weight"] = draw(*shape) / np.float32(np.sqrt(np.prod(shape[1:])))
        parts = [
            weights.setdefault(f"{norm}.{p}", draw(shape[0], low=0.5)) for p in ("weight", "running_var")
        ]
        shifts = [weights.setdefault(f"{norm}.{p}", draw(shape[0])) for p in ("bias", "running_mean")]
        if "depthwise" in name:
            kernel = {"l/depthwise_kernel": w.transpose(2, 3, 0, 1)}
            h = keras("DepthwiseConv2D", h, kernel, strides=(stride, stride))
        elif shape[2] == 1:
            h = h @ w[:, :, 0, 0].T.astype(float)
        else:
            h = keras("Conv2D", h, {"l/kernel": w.transpose(2, 3, 1, 0)}, strides=(stride, stride))
        h = (h - shifts[1]) / np.sqrt(parts[1] + 1e-3) * parts[0] + shifts[0]
        return np.clip(h, 0, 6) if relu else h

    h = conv(h, "_conv_stem", "_bn0", (5, 3, 3, 3), 2, True)
    channels = 5
    for i in range(LITE0_BLOCKS):
        block, before = f"_blocks.{i}", h
        inner = channels if i == 0 else 2 * channels
        if i > 0:
            h = conv(h, f"{block}._expand_conv", f"{block}._bn0", (inner, channels, 1, 1), 1, True)
        shape = (inner, 1, kernels[i], kernels[i])
        h = conv(h, f"{block}._depthwise_conv", f"{block}._bn1", shape, 2 if i in halved else 1, True)
        h = conv(h, f"{block}._project_conv", f"{block}._bn2", (stages[i], inner, 1, 1), 1, False)
        if h.shape == before.shape:
            h = h + before
        channels = stages[i]
    h = conv(h, "_conv_head", "_bn1", (12, channels, 1, 1), 1, True).mean(axis=(0, 1))
    weights["_fc.weight"], weights["_fc.bias"] = draw(11, 12), draw(11)
    wanted = weights["_fc.weight"] @ h + weights["_fc.bias"]
    found = run(efficientnet_lite0(weights), x.transpose(2, 0, 1)[None])[0]
    assert np.allclose(found, wanted, rtol=1e-3, atol=1e-3)


# Conversion


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """A manifest with one waifu2x of made-up weights, already in the cache; nothing can be downloaded."""
    from hashlib import sha256

    monkeypatch.setenv("DPRED_SIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DPRED_SIM_OFFLINE", "1")
    weights = {f"conv{i}/W": draw(3, 3, 3, 3) for i in range(1, 8)} | {
        f"conv{i}/b": draw(3) for i in range(1, 8)
    }
    stream = io.BytesIO()
    np.savez(stream, **weights)
    data = stream.getvalue()
    digest = sha256(data).hexdigest()
    text = GOOD.replace(f'sha256 = "{"0" * 64}", size = 4', f'sha256 = "{digest}", size = {len(data)}')
    text = text.replace('loader = "onnx"', 'loader = "npz"\nbuild = "waifu2x_vgg7"').replace(
        "m.onnx", "m.npz"
    )
    (tmp_path / "m.toml").write_text(text)
    manifest = read_manifest(tmp_path / "m.toml")
    (source,) = manifest.model_sources("m")
    source.cached.parent.mkdir(parents=True)
    source.cached.write_bytes(data)
    return manifest


def test_a_model_is_converted_once(small: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx = pytest.importorskip("onnx")
    path = onnx_model(small, "m")
    assert [node.op_type for node in onnx.load(str(path)).graph.node] == ["Conv", "LeakyRelu"] * 6 + ["Conv"]
    small.model_sources("m")[0].cached.unlink()
    assert onnx_model(small, "m") == path
    entry = small.models["m"]
    assert model_key(entry)[:16] in path.name
    assert model_key(entry) != model_key(entry.model_copy(update={"build": "resemblyzer"}))


def test_a_file_that_the_loader_does_not_read_leaves_nothing(small: Manifest, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    entry = small.models["m"]
    (source,) = small.model_sources("m")
    for data, said in (
        (b"no zip", "not an .npz file"),
        (source.cached.read_bytes()[:-30], "not an .npz file"),
    ):
        (tmp_path / "bad.npz").write_bytes(data)
        with pytest.raises(InputError, match=said):
            convert(entry, [tmp_path / "bad.npz"])
    np.savez(tmp_path / "bad.npz", **{"conv1/W": np.array([print], object)})
    with pytest.raises(InputError, match="without pickle"):
        convert(entry, [tmp_path / "bad.npz"])
    np.savez(tmp_path / "bad.npz", **{"conv1/W": draw(3, 3, 3, 3)})
    with pytest.raises(InputError, match=r"lacks a tensor that waifu2x_vgg7 has; found .*conv1/b"):
        convert(entry, [tmp_path / "bad.npz"])
    assert not list((tmp_path / "cache").rglob("*.onnx"))


# Inputs


def sound(path: Path, samples: Any, rate: int = 16_000, channels: int = 1) -> Path:
    with wave.open(str(path), "wb") as stream:
        stream.setnchannels(channels)
        stream.setsampwidth(2)
        stream.setframerate(rate)
        stream.writeframes(np.asarray(samples, "<i2").tobytes())
    return path


def made(kind: str, path: Path, cut: Any, **settings: Any) -> Any:
    return np.load(io.BytesIO(KINDS[kind][1](path, cut, settings)))


def test_frames_carry_the_end_of_the_one_before(tmp_path: Path) -> None:
    samples = RNG.integers(-30_000, 30_000, 40_000)
    path = sound(tmp_path / "a.wav", samples)
    cut = {"start": 0.5, "length": 0.25}
    found = made("frames", path, cut, size=512, context=64, mirrored=32)
    piece = samples[8000:12_000] / 32_768
    assert found.shape == (1, 1, 7, 32 * 19) and found.dtype == np.float32
    frames = found[0, 0]
    assert not frames[0, :64].any()
    for i, frame in enumerate(frames):
        assert np.allclose(frame[64:576], piece[512 * i : 512 * (i + 1)])
        assert np.array_equal(frame[576:], frame[575 - 32 : 575][::-1])
        assert i == 0 or np.array_equal(frame[:64], frames[i - 1, 512:576])


@pytest.mark.network
def test_silero_vad_is_what_its_package_ships(tmp_path: Path) -> None:
    """The rebuilt graph against the package's own on 10 s of speech, which is found there."""
    need("silero_vad")
    ort = pytest.importorskip("onnxruntime")
    manifest = shipped()
    (model,) = fetch(manifest.model_sources("silero_vad"))
    frames = np.load(manifest_input(manifest, "silero_vad", "speech_1").path())
    rebuilt = ort.InferenceSession(str(onnx_model(manifest, "silero_vad")))
    found = rebuilt.run(None, {"input": frames})[0].ravel()
    source = manifest.input_source("speech_1")
    assert source is not None
    samples = np.concatenate([np.zeros(64, np.float32), recording(fetch([source])[0], {"length": 10.0})])
    whole = np.stack([samples[512 * i : 512 * i + 576] for i in range(len(frames[0, 0]))])
    state = {name: np.zeros((1, 1, 128), np.float32) for name in ("h", "c")}
    wanted = ort.InferenceSession(str(model)).run(None, {"input": whole, **state})[0]
    assert np.allclose(found, wanted, atol=1e-4) and len(wanted) == 312
    assert 0.1 < (wanted > 0.5).mean() < 0.9


def test_mel_bands_against_a_slow_computation(tmp_path: Path) -> None:
    """Discrete Fourier sums window by window, and triangles written out; a tone lands in its band."""
    samples = RNG.normal(0, 0.1, 2000).astype(np.float32)
    found = mel_bands(samples, 16_000, 400, 160, 40)
    assert found.shape == (13, 40)
    padded = np.concatenate([np.zeros(200), samples, np.zeros(200)])
    n = np.arange(400)
    frame = padded[5 * 160 : 5 * 160 + 400] * np.sin(np.pi * n / 400) ** 2
    power = np.array([abs(np.sum(frame * np.exp(-2j * np.pi * k * n / 400))) ** 2 for k in range(201)])

    def hertz(mel: float) -> float:
        return mel * 200 / 3 if mel < 15 else 1000 * np.exp((mel - 15) * np.log(6.4) / 27)

    top = 15 + np.log(8) / (np.log(6.4) / 27)
    for band in (0, 7, 20, 39):
        low, middle, high = (hertz(top * (band + i) / 41) for i in range(3))
        total = 0.0
        for k in range(201):
            f = 40.0 * k
            weight = (f - low) / (middle - low) if f <= middle else (high - f) / (high - middle)
            total += max(0.0, weight) * 2 / (high - low) * power[k]
        assert found[5, band] == pytest.approx(total, rel=1e-4)
    tone = mel_bands(
        np.sin(2 * np.pi * 1000 * np.arange(8000) / 16_000).astype(np.float32), 16_000, 400, 160, 40
    )
    assert np.argmax(tone[20]) == round(15 / top * 41) - 1
    bands = made(
        "mel",
        sound(tmp_path / "a.wav", samples * 32_767),
        {},
        window=400,
        hop=160,
        bands=40,
        loudness=-30.0,
        frames=10,
    )
    loud = samples * 10 ** (-30 / 20) / np.sqrt(np.mean(samples.astype(float) ** 2))
    assert bands.shape == (1, 10, 40)
    assert np.allclose(bands[0], mel_bands(loud, 16_000, 400, 160, 40)[:10], rtol=0.02, atol=1e-7)


@pytest.mark.parametrize(
    ("rate", "channels", "count", "cut", "said"),
    [
        (8000, 1, 100, {}, "1 channel(s), 2 bytes a sample, 8000 Hz"),
        (16_000, 2, 100, {}, "2 channel(s)"),
        (16_000, 1, 100, {"start": 0, "length": 1}, "shorter than what is needed"),
        (16_000, 1, 0, {}, "shorter than what is needed"),
    ],
)
def test_a_recording_of_another_kind_is_refused(
    tmp_path: Path, rate: int, channels: int, count: int, cut: Any, said: str
) -> None:
    path = sound(tmp_path / "a.wav", np.zeros(count * channels), rate, channels)
    with pytest.raises(InputError) as caught:
        recording(path, cut)
    assert said in str(caught.value)
    (tmp_path / "b.wav").write_bytes(path.read_bytes()[:20])
    with pytest.raises(InputError, match=r"not a \.wav file"):
        recording(tmp_path / "b.wav", {})


def test_silence_and_short_sound_are_refused(tmp_path: Path) -> None:
    path = sound(tmp_path / "a.wav", np.zeros(100))
    with pytest.raises(InputError, match="silent"):
        made("mel", path, {}, window=400, hop=160, bands=40, loudness=-30.0)
    with pytest.raises(InputError, match="shorter than one frame"):
        made("frames", path, {}, size=512, context=64, mirrored=0)


def test_token_ids_of_one_text(tmp_path: Path) -> None:
    path = tmp_path / "ids.json"
    path.write_text(json.dumps({"texts": [{"ids": [1, 2]}, {"ids": [101, 7, 9, 102]}]}))
    found = made("tokens", path, {"item": 1})
    assert found["input_ids"].tolist() == [[101, 7, 9, 102]] and found["input_ids"].dtype == np.int64
    assert found["attention_mask"].tolist() == [[1] * 4] and not found["token_type_ids"].any()
    for text in ("[]", "{", '{"texts": []}', '{"texts": [{"ids": ["a"]}]}'):
        path.write_text(text)
        with pytest.raises(InputError, match="not a list of token ids"):
            made("tokens", path, {})


def test_a_piece_of_a_photo_is_kept_and_made_once(
    small: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    image.fromarray(pixels).save(tmp_path / "i.png")
    entry = small.inputs["i"].model_copy(
        update={"package": None, "member": "i.png", "cut": {"rows": [3, 20], "columns": [10, 50]}}
    )
    manifest = small.model_copy(update={"inputs": {"i": entry}})
    folder = tmp_path / "made" / "data"
    folder.mkdir(parents=True)
    (tmp_path / "i.png").rename(folder / "i.png")
    monkeypatch.setattr(preparing, "ready_made", lambda name: tmp_path / "made")
    found = manifest_input(manifest, "m", "i")
    assert not (tmp_path / "cache" / "inputs").exists()
    path = found.path()
    assert np.array_equal(np.asarray(image.open(path)), pixels[3:20, 10:50])
    (folder / "i.png").unlink()
    assert found.path() == path and found.name == "i"


def test_a_users_array_is_taken_as_it_is(small: Manifest, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros(3))
    found = own_input(small, "m", tmp_path / "x.npy")
    assert found.path() == tmp_path / "x.npy" and len(found.sha256) == 64
    with pytest.raises(InputError, match="cannot be read"):
        own_input(small, "m", tmp_path / "none.npy")


@pytest.mark.parametrize("name", TRAINED)
def test_products_are_those_that_a_run_of_the_file_shows(name: str) -> None:
    """Every multiply-accumulate of a real model is in a layer."""
    import onnx

    from dpred_sim.workload.capture import read_inputs
    from dpred_sim.workload.importers.onnx_model import read_model
    from dpred_sim.workload.trained.script import subject
    from tests.workload.onnx_macs import macs_of_a_run

    need(name)
    one = subject(name)
    path = one.model()
    (feed, *_) = read_inputs(read_model(path).specs, one)
    counted = macs_of_a_run(onnx.load(str(path)), feed)
    assert load_workload(name).macs >= sum(counted.values()) > 0
    if "ConvTranspose" not in counted:
        assert load_workload(name).macs == sum(counted.values())
