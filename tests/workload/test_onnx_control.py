"""What fed whole numbers decide: shapes, indices and masks are control, what is multiplied is data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpred_sim.errors import InputError
from dpred_sim.workload.workload import Workload
from tests.workload.onnx_models import ModelBuilder, captured, loaded

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPRED_SIM_CACHE", str(tmp_path / "cache"))


def imported(
    builder: ModelBuilder, folder: Path, feed: dict[str, Any], opset: int = 17
) -> tuple[Workload, Any]:
    """The workload of a model with these inputs, whose last layer gives what onnxruntime gives."""
    path = builder.save(folder / "m.onnx", opset=opset)
    proto = onnx.load(str(path))
    del proto.graph.input[:]
    for name, values in feed.items():
        kind = onnx.helper.np_dtype_to_tensor_dtype(values.dtype)
        proto.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, values.shape))
    onnx.save(proto, str(path))
    np.savez(folder / "x.npz", **feed)
    workload, _ = loaded(path, folder / "x.npz")
    floats = captured(path, folder / "x.npz")
    (wanted,) = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, feed)
    last = floats.read(f"activations/{floats.description['outputs'][0]}")
    assert np.allclose(np.sort(last.ravel()), np.sort(wanted.ravel()), atol=1e-5)
    return workload, floats


IDS = np.array([[3, 1, 4, 1, 5, 9]])


def linear(m: ModelBuilder, source: str, output: str, rows: int, columns: int) -> str:
    return m.node("MatMul", [source, m.random(f"w_{output}", rows, columns)], output)


def test_products_of_what_ids_are_compared_with(tmp_path: Path) -> None:
    m = ModelBuilder((1, 6))
    m.node("Equal", ["ids", m.constant("one", 1, np.int64)], "same")
    m.node("Cast", ["same"], "mask", to=1)
    linear(m, linear(m, "mask", "a", 6, 32), "b", 32, 2)
    workload, floats = imported(m, tmp_path, {"ids": IDS})
    assert workload.macs == 6 * 32 + 32 * 2
    assert np.array_equal(floats.read("activations/input"), [[0, 1, 0, 1, 0, 0]])


def test_columns_of_whole_numbers_are_features(tmp_path: Path) -> None:
    m = ModelBuilder((1, 6))
    m.node("Cast", ["ids"], "f", to=1)
    m.node(
        "Div", [m.node("Sub", ["f", m.random("mean", 6)], "s"), m.constant("deviation", np.full(6, 2.0))], "n"
    )
    m.node("Gemm", ["n", m.random("w", 4, 6), m.random("b", 4)], "g", transB=1)
    workload, floats = imported(m, tmp_path, {"ids": IDS})
    assert workload.macs == 4 * 6
    wanted = (IDS - m.constants["mean"].astype(np.float32)) / 2
    assert np.allclose(floats.read("activations/input"), wanted, atol=1e-6)


def test_whole_numbers_beside_real_features_are_stored_too(tmp_path: Path) -> None:
    m = ModelBuilder((1, 6))
    m.node("Concat", ["x", m.node("Cast", ["ids"], "f", to=1)], "both", axis=1)
    linear(m, "both", "out", 10, 3)
    x = np.random.default_rng(1).normal(size=(1, 4)).astype(np.float32)
    workload, floats = imported(m, tmp_path, {"x": x, "ids": IDS})
    assert workload.macs == 10 * 3
    held = [floats.read(f"activations/{name}").ravel() for name in floats.description["activations"]]
    for values in (x, IDS):
        assert any(v.size == values.size and np.allclose(v, values.ravel(), atol=1e-6) for v in held)


def test_one_hot_rows_are_multiplied(tmp_path: Path) -> None:
    m = ModelBuilder((1, 6))
    m.constant("values", [0, 1])
    m.node("OneHot", ["ids", m.constant("depth", 10, np.int64), "values"], "rows", axis=-1)
    linear(m, linear(m, "rows", "a", 10, 8), "b", 8, 3)
    workload, _ = imported(m, tmp_path, {"ids": IDS})
    assert workload.macs == 6 * 10 * 8 + 6 * 8 * 3


def test_a_recurrence_over_what_ids_are_made_of(tmp_path: Path) -> None:
    m = ModelBuilder((1, 6))
    m.node("Unsqueeze", [m.node("Cast", ["ids"], "f", to=1), m.constant("two", [2], np.int64)], "u")
    m.node("Transpose", ["u"], "t", perm=[1, 0, 2])
    m.node("LSTM", ["t", m.random("w", 1, 16, 1), m.random("r", 1, 16, 4)], "y", hidden_size=4)
    workload, _ = imported(m, tmp_path, {"ids": IDS})
    assert workload.macs == 6 * 16 * (1 + 4)


def test_two_tensors_of_whole_numbers_are_multiplied(tmp_path: Path) -> None:
    m = ModelBuilder((1, 6))
    m.node("Cast", ["ids"], "f", to=1)
    m.node("MatMul", [m.node("Transpose", ["f"], "t"), "f"], "outer")
    linear(m, "outer", "y", 6, 2)
    workload, _ = imported(m, tmp_path, {"ids": IDS})
    assert workload.macs == 6 * 6 + 6 * 6 * 2


def test_masks_and_shapes_stay_control(tmp_path: Path) -> None:
    m = ModelBuilder((1, 6))
    m.node("Gather", [m.random("table", 12, 8), "ids"], "e")
    m.node("Cast", [m.node("Greater", ["ids", m.constant("one", 1, np.int64)], "more")], "mask", to=1)
    m.node("MatMul", ["e", m.node("Transpose", ["e"], "t", perm=[0, 2, 1])], "scores")
    m.node("Add", ["scores", "mask"], "masked")
    m.node("MatMul", [m.node("Softmax", ["masked"], "p", axis=-1), "e"], "y")
    workload, floats = imported(m, tmp_path, {"ids": IDS})
    assert workload.macs == 2 * 6 * 6 * 8
    assert not any(name == "mask" for name in floats.description["activations"])


def test_weights_of_another_kind_are_refused_by_name(tmp_path: Path) -> None:
    m = ModelBuilder((1, 6))
    m.node(
        "Cast", [m.node("MatMul", ["ids", m.constant("w", np.ones((6, 2)), np.int64)], "whole")], "y", to=1
    )
    with pytest.raises(InputError, match=r"node 'n_whole': its weights are int64"):
        imported(m, tmp_path, {"ids": IDS})


def test_a_model_without_products_says_which_operators_it_has(tmp_path: Path) -> None:
    m = ModelBuilder((1, 6))
    m.node("Relu", ["x"], "y")
    with pytest.raises(InputError, match=r"no operator with products.*Relu.*Conv"):
        imported(m, tmp_path, {"x": np.ones((1, 6), np.float32)})


@pytest.mark.parametrize("computed", ["sum", "product", "shape", "transposed"])
def test_weights_that_are_computed_of_constants(tmp_path: Path, computed: str) -> None:
    m = ModelBuilder((1, 6))
    if computed == "sum":
        m.node("Add", [m.random("a", 6, 4), m.random("b", 4)], "w")
    elif computed == "product":
        m.node(
            "Add",
            [m.random("a", 6, 4), m.node("MatMul", [m.random("u", 6, 2), m.random("v", 2, 4)], "uv")],
            "w",
        )
    elif computed == "transposed":
        m.node("Transpose", [m.random("a", 4, 6)], "w", perm=[1, 0])
    else:
        m.node("Concat", [m.node("Shape", ["x"], "s"), m.constant("four", [4], np.int64)], "to", axis=0)
        m.node("Slice", ["to", m.constant("i", [1], np.int64), m.constant("j", [3], np.int64)], "form")
        m.node("Expand", [m.random("a", 6, 1), "form"], "w")
    m.node("MatMul", ["x", "w"], "y")
    x = np.random.default_rng(1).normal(size=(1, 6)).astype(np.float32)
    workload, _ = imported(m, tmp_path, {"x": x})
    # What only constants are multiplied with is done before the network runs.
    assert workload.macs == 6 * 4 and len(workload.network) == 1


@pytest.mark.parametrize(
    ("first", "second"), [((3, 6), (6,)), ((6,), (6, 4)), ((2, 3, 6), (6,)), ((6,), (6,))]
)
@pytest.mark.parametrize("constant", [0, 1, None])
def test_products_with_vectors(
    tmp_path: Path, first: tuple[int, ...], second: tuple[int, ...], constant: int | None
) -> None:
    m = ModelBuilder((1, 24))
    names, feed = [], {}
    for index, shape in enumerate((first, second)):
        values = np.random.default_rng(index).normal(size=shape).astype(np.float32)
        if index == constant:
            names.append(m.constant("w", values))
        else:
            feed[f"x{index}"] = values
            names.append(m.node("Relu", [f"x{index}"], f"r{index}"))
    m.node("Abs", [m.node("MatMul", names, "y")], "out")
    workload, _ = imported(m, tmp_path, feed)
    assert workload.macs == np.matmul(*(np.ones(s, int) for s in (first, second))).sum()
