"""The count of a graph's products, which every import is held against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpred_sim.errors import InputError
from dpred_sim.workload.importers import onnx_count, onnx_layers, onnx_ops, onnx_plan, onnx_quantised
from dpred_sim.workload.importers.onnx_graph import Graph
from dpred_sim.workload.importers.onnx_model import read_model
from tests.workload.onnx_macs import count_macs
from tests.workload.onnx_models import ModelBuilder, loaded, save_input

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPRED_SIM_CACHE", str(tmp_path / "cache"))


def model(folder: Path) -> tuple[Path, Path]:
    m = ModelBuilder((1, 3, 8, 8))
    m.node("MaxPool", [m.conv("x", "a", 4, 3, pads=[1, 1, 1, 1])], "p", kernel_shape=[2, 2], strides=[2, 2])
    m.node("Flatten", [m.node("Relu", ["p"], "r")], "f")
    m.node("MatMul", ["f", m.random("w", 64, 5)], "y")
    return m.save(folder / "m.onnx"), save_input(folder / "x.npy", (1, 3, 8, 8))


def test_the_count_is_that_of_the_operators(tmp_path: Path) -> None:
    path, x = model(tmp_path)
    feed = {"x": np.load(x)}
    proto = read_model(path).proto
    found = onnx_count.Count(path, proto, feed, lambda: proto).products()
    assert [(p.name, p.operator, p.macs) for p in found] == [
        ("n_a", "Conv", 8 * 8 * 4 * 27),
        ("n_y", "MatMul", 64 * 5),
    ]
    assert sum(p.macs for p in found) == sum(count_macs(proto, {"x": (1, 3, 8, 8)}).values())
    exact = onnx_count.Count(path, proto, feed, lambda: proto).products(exact=True)
    assert exact == found


def test_an_import_that_loses_a_layer_is_an_error_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, x = model(tmp_path)
    whole = onnx_layers._Planner.plan

    def without_the_last(self: Any) -> Any:
        plan = whole(self)
        return onnx_plan.Plan(plan.layers[:-1], plan.outputs[:0], plan.origins)

    monkeypatch.setattr(onnx_layers._Planner, "plan", without_the_last)
    with pytest.raises(
        InputError, match=r"node 'n_y': products of the model are not in the layers.*MatMul, 320"
    ):
        loaded(path, x)


def test_an_import_that_takes_products_for_control_is_an_error_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    m = ModelBuilder((1, 6))
    m.node("MatMul", [m.node("Cast", ["ids"], "f", to=1), m.random("v", 6, 9)], "h")
    m.node("Add", [m.node("MatMul", ["x", m.random("w", 6, 9)], "g"), "h"], "y")
    path = m.save(tmp_path / "m.onnx")
    proto = onnx.load(str(path))
    proto.graph.input.append(onnx.helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, [1, 6]))
    onnx.save(proto, str(path))
    np.savez(tmp_path / "x.npz", x=np.ones((1, 6), np.float32), ids=np.ones((1, 6), np.int64))
    sort_out = Graph._sort_out

    def lose(self: Any, is_control: Any) -> None:
        sort_out(self, is_control)
        self.control.update({"f", "h", "n_h"})
        self.given = [name for name in self.given if name != "f"]

    with monkeypatch.context() as broken:
        broken.setattr(Graph, "_sort_out", lose)
        with pytest.raises(InputError, match=r"node 'n_h': products of the model.*1 node"):
            loaded(path, tmp_path / "x.npz")
    workload, _ = loaded(path, tmp_path / "x.npz")
    assert workload.macs == 2 * 6 * 9


def test_a_layer_of_another_size_is_an_error_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, x = model(tmp_path)
    monkeypatch.setitem(onnx_count.COUNTED, "Conv", lambda node, shape, out: 7)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"node 'n_a': products.*'n_a' \(Conv, 7\), 'n_a' \(Conv, 6,912\)"):
        loaded(path, x)


def test_every_quantised_operator_that_is_read_is_rewritten(tmp_path: Path) -> None:
    path, _ = model(tmp_path)
    rewriting = onnx_quantised._Rewriting(path, read_model(path).proto)
    assert set(rewriting.quantised) == onnx_ops.QUANTISED
    products = {name for name in onnx_ops.READ if name in onnx_count.COUNTED} | {"Einsum"}
    assert products == {*onnx_count.COUNTED, "Einsum"}
    assert set(onnx_count.COUNTED) >= onnx_ops.LAYERS
