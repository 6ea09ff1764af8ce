"""Sums of integer products, which are whole numbers in the file: what may follow them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dpred_sim.errors import InputError
from tests.workload.onnx_models import ModelBuilder, captured, loaded, save_input

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPRED_SIM_CACHE", str(tmp_path / "cache"))


def begun() -> ModelBuilder:
    m = ModelBuilder((1, 3, 6, 6))
    m.nodes.append(onnx.helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], name="n_q"))
    m.constant("w", m.rng.integers(-100, 100, (4, 3, 3, 3)), np.int8)
    m.node("ConvInteger", ["q", "w", "z"], "sum")
    return m


def agrees(
    m: ModelBuilder, folder: Path, macs: int, outputs: list[str] | None = None, atol: float = 1e-4
) -> None:
    path, x = m.save(folder / "m.onnx", outputs), save_input(folder / "x.npy", m.shape)  # type: ignore[arg-type]
    workload, _ = loaded(path, x)
    assert workload.macs == macs
    floats = captured(path, x)
    (wanted,) = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(
        None, {"x": np.load(x)}
    )
    stored = floats.read(f"activations/{floats.description['outputs'][0]}")
    # The model computes with quantised activations, the import with those before.
    size = np.abs(wanted).max()
    assert np.abs(np.sort(stored.ravel()) - np.sort(wanted.ravel())).max() <= atol + 0.02 * size


@pytest.mark.parametrize("way", ["constant", "computed", "reshaped", "subtracted", "rectified"])
def test_a_whole_bias_behind_an_integer_convolution(tmp_path: Path, way: str) -> None:
    m = begun()
    bias = m.constant("b", m.rng.integers(-5000, 5000, (1, 4, 1, 1)), np.int32)
    if way == "computed":
        bias = m.node("Cast", [m.node("Identity", [m.random("f", 1, 4, 1, 1)], "i")], "b32", to=6)
    source = (
        m.node("Reshape", ["sum", m.constant("form", [1, 4, 4, 4], np.int64)], "r")
        if way == "reshaped"
        else "sum"
    )
    total = m.node("Sub" if way == "subtracted" else "Add", [source, bias], "t")
    if way == "rectified":
        total = m.node("Max", [total, m.constant("zero", [0], np.int32)], "c")
    m.node(
        "Mul",
        [m.node("Cast", [total], "real", to=1), m.node("Mul", ["s", m.constant("step", 1e-3)], "f2")],
        "y",
    )
    agrees(m, tmp_path, 4 * 4 * 4 * 27)


def test_sums_that_are_dequantised(tmp_path: Path) -> None:
    m = begun()
    m.node("DequantizeLinear", ["sum", m.constant("step", 1e-3)], "real")
    m.node("Mul", ["real", "s"], "y")
    agrees(m, tmp_path, 4 * 4 * 4 * 27)


def test_another_operator_on_sums_is_refused_by_name(tmp_path: Path) -> None:
    m = begun()
    m.node("Cast", [m.node("Mod", ["sum", m.constant("seven", 7, np.int32)], "m")], "y", to=1)
    with pytest.raises(InputError, match=r"node 'n_m': an operator on sums.*Cast them to float.*Mod"):
        loaded(m.save(tmp_path / "m.onnx"), save_input(tmp_path / "x.npy", (1, 3, 6, 6)))


@pytest.mark.parametrize("directions", [1, 2])
def test_an_lstm_whose_weights_are_in_8_bits(tmp_path: Path, directions: int) -> None:
    m = ModelBuilder((5, 1, 6))
    held = []
    for name, rows in (("w", 6), ("r", 4)):
        held.append(m.constant(name, m.rng.integers(-100, 100, (directions, rows, 16)), np.int8))
        m.constant(f"{name}_s", np.full(directions, 5e-3))
        m.constant(f"{name}_z", np.full(directions, 3), np.int8)
    m.node(
        "DynamicQuantizeLSTM",
        ["x", *held, m.random("b", directions, 32), "", "", "", "", "w_s", "w_z", "r_s", "r_z"],
        "y",
        domain="com.microsoft",
        hidden_size=4,
        direction="bidirectional" if directions == 2 else "forward",
    )
    path = m.save(tmp_path / "m.onnx")
    proto = onnx.load(str(path))
    proto.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    onnx.save(proto, str(path))
    x = save_input(tmp_path / "x.npy", (5, 1, 6))
    workload, _ = loaded(path, x)
    assert workload.macs == directions * 5 * 16 * (6 + 4)
    floats = captured(path, x)
    (wanted,) = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(
        None, {"x": np.load(x)}
    )
    stored = np.concatenate(
        [floats.read(f"activations/{name}").ravel() for name in floats.description["outputs"]]
    )
    assert np.abs(np.sort(stored) - np.sort(wanted.ravel())).max() < 0.03
