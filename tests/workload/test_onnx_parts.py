"""Padding and biases that are operators of their own, several images at once, and tensors without values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpred_sim.errors import InputError
from dpred_sim.workload.workload import Workload
from tests.workload.onnx_models import ModelBuilder, captured, loaded, save_input

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPRED_SIM_CACHE", str(tmp_path / "cache"))


def imported(m: ModelBuilder, folder: Path, opset: int = 17) -> Workload:
    """The workload of a model whose last layer gives what onnxruntime gives."""
    path, x = m.save(folder / "m.onnx", opset=opset), save_input(folder / "x.npy", m.shape)  # type: ignore[arg-type]
    workload, _ = loaded(path, x)
    floats = captured(path, x)
    (wanted,) = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(
        None, {"x": np.load(x)}
    )
    stored = floats.read(f"activations/{floats.description['outputs'][0]}")
    stored, wanted = (np.sort(a[a != 0].ravel()) for a in (stored, wanted))
    assert np.allclose(stored, wanted, atol=1e-4)
    return workload


def pad(
    m: ModelBuilder, source: str, output: str, pads: list[int], opset: int = 17, **attributes: Any
) -> str:
    if opset < 11:
        return m.node("Pad", [source], output, pads=pads, **attributes)
    return m.node("Pad", [source, m.constant(f"{output}_pads", pads, np.int64)], output, **attributes)


@pytest.mark.parametrize("opset", [9, 10, 11, 13, 18, 21])
@pytest.mark.parametrize("attributes", [{}, {"pads": [1, 0, 0, 2]}, {"auto_pad": "VALID"}])
def test_a_pad_is_the_padding_of_the_convolution(
    tmp_path: Path, opset: int, attributes: dict[str, Any]
) -> None:
    m = ModelBuilder((1, 3, 6, 7))
    m.conv(pad(m, "x", "p", [0, 0, 2, 1, 0, 0, 1, 3], opset), "c", 4, 3, **attributes)
    workload = imported(m, tmp_path, opset)
    (node,) = workload.network.nodes
    own = attributes.get("pads", [0] * 4)
    assert node.layer.padding == tuple(a + b for a, b in zip((2, 1, 1, 3), own, strict=True))


def test_a_pad_goes_into_all_convolutions_that_read_it(tmp_path: Path) -> None:
    m = ModelBuilder((1, 3, 6, 7))
    twice = pad(m, pad(m, "x", "p", [0, 0, 1, 1, 0, 0, 1, 1]), "q", [0, 0, 0, 1, 0, 0, 0, 1])
    m.node("Add", [m.conv(twice, "a", 4, 3), m.conv(twice, "b", 4, 3)], "y")
    workload = imported(m, tmp_path)
    assert [(n.layer.kind, n.layer.padding) for n in workload.network] == [("conv", (1, 2, 1, 2))] * 2


@pytest.mark.parametrize(
    ("pads", "attributes"),
    [
        ([0, 0, 1, 1, 0, 0, 1, 1], {"mode": "reflect"}),
        ([0, 0, 1, 1, 0, 0, 1, 1], {"mode": "edge"}),
        ([0, 1, 0, 0, 0, 0, 0, 0], {}),
        ([0, 0, -1, 0, 0, 0, 1, 0], {}),
    ],
)
def test_other_pads_are_data_movement(tmp_path: Path, pads: list[int], attributes: dict[str, Any]) -> None:
    m = ModelBuilder((1, 3, 6, 7))
    channels = 3 + pads[1]
    m.conv(pad(m, m.conv("x", "a", 3, 3, 1), "p", pads, **attributes), "c", 4, channels)
    workload = imported(m, tmp_path)
    assert [node.layer.kind for node in workload.network] == ["conv", "move", "conv"]


def test_a_pad_of_another_number_is_data_movement(tmp_path: Path) -> None:
    m = ModelBuilder((1, 3, 6, 7))
    m.constant("pads", [0, 0, 1, 1, 0, 0, 1, 1], np.int64)
    m.conv(m.node("Pad", [m.conv("x", "a", 3, 3, 1), "pads", m.constant("one", 1)], "p"), "c", 4, 3)
    assert [node.layer.kind for node in imported(m, tmp_path).network] == ["conv", "move", "conv"]


@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_a_computed_bias_is_added_behind_the_product(tmp_path: Path, beta: float) -> None:
    m = ModelBuilder((3, 6))
    bias = m.node("MatMul", ["x", m.random("v", 6, 4)], "c")
    m.node("Gemm", [m.node("Relu", ["x"], "r"), m.random("w", 6, 4), bias], "y", beta=beta)
    assert imported(m, tmp_path).macs == 2 * 3 * 6 * 4


def test_a_sum_behind_a_product_is_one_of_stored_tensors(tmp_path: Path) -> None:
    """onnxruntime makes a Gemm of a MatMul and the Add behind it, whatever is added."""
    m = ModelBuilder((3, 6))
    first = m.node("MatMul", ["x", m.random("v", 6, 6)], "a")
    m.node("Add", [m.node("MatMul", [first, m.random("w", 6, 6)], "b"), first], "y")
    workload = imported(m, tmp_path)
    assert workload.macs == 2 * 3 * 6 * 6 and workload.network.nodes[-1].shortcut is not None


@pytest.mark.parametrize("kernel", [2, 3, 4])
@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolutions_of_several_images(tmp_path: Path, kernel: int, groups: int) -> None:
    m = ModelBuilder((1, 12, 5, 4))
    m.node("Reshape", ["x", m.constant("form", [3, 4, 5, 4], np.int64)], "b")
    w = m.random("w", 4, 6 // groups, kernel, kernel)
    pads = [kernel // 2 - 1] * 4
    m.node("ConvTranspose", ["b", w], "y", strides=[2, 2], pads=pads, group=groups)
    workload = imported(m, tmp_path)
    own = 12 * 5 * 4 * 6 // groups * kernel**2
    # Filters of the four phases are as large as the largest, and windows reach into the padding.
    assert workload.macs == own if kernel == 2 else workload.macs >= own


def test_several_rows_are_not_one(tmp_path: Path) -> None:
    """A matrix that is flattened into one row is laid out anew: a layer reads rows as they are stored."""
    m = ModelBuilder((3, 6))
    first = m.node("MatMul", ["x", m.random("v", 6, 5)], "a")
    m.node(
        "MatMul",
        [m.node("Reshape", [first, m.constant("f", [1, 15], np.int64)], "r"), m.random("w", 15, 2)],
        "y",
    )
    workload = imported(m, tmp_path)
    assert workload.macs == 3 * 6 * 5 + 15 * 2


def test_tensors_without_values_take_no_part(tmp_path: Path) -> None:
    m = ModelBuilder((3, 6))
    zero, three = m.constant("zero", [0], np.int64), m.constant("three", [3], np.int64)
    first = m.node("MatMul", ["x", m.random("v", 6, 6)], "a")
    m.node("Slice", [first, zero, zero, zero], "none")
    m.node("MatMul", ["none", m.random("w", 6, 6)], "still_none")
    m.node("Concat", ["still_none", m.node("Slice", [first, zero, three, zero], "all")], "both", axis=0)
    m.node("MatMul", ["both", m.random("u", 6, 2)], "y")
    workload = imported(m, tmp_path)
    assert workload.macs == 3 * 6 * 6 + 3 * 6 * 2


def test_inputs_that_find_different_numbers_of_boxes_are_named(tmp_path: Path) -> None:
    m = ModelBuilder((1, 6))
    m.node("NonZero", [m.node("Relu", ["x"], "r")], "where")
    m.node("Gather", [m.random("table", 6, 4), m.node("Slice", ["where", *_one_row(m)], "rows")], "found")
    m.node("MatMul", ["found", m.random("w", 4, 3)], "y")
    path = m.save(tmp_path / "m.onnx")
    files = []
    for count in (2, 3):
        values = np.full((1, 6), -1, np.float32)
        values[0, :count] = 1
        files.append(tmp_path / f"{count}.npy")
        np.save(files[-1], values)
    assert loaded(path, files[0])[0].macs == 2 * 4 * 3
    with pytest.raises(InputError, match=r"the inputs give tensors of different sizes.*or one alone"):
        loaded(path, *files)


def _one_row(m: ModelBuilder) -> list[str]:
    return [m.constant(name, [value], np.int64) for name, value in (("from", 1), ("to", 2), ("axis", 0))]
