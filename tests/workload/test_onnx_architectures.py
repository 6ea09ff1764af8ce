"""What torch.onnx.export makes of torchvision's architectures, with dynamic axes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.architectures import FOLDER, architecture
from tests.workload.onnx_models import loaded

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

SIZES = {"alexnet": 224, "maxvit": 64, "maxvit_script": 64, "vision_transformer": 32}
"""Sizes of the photo where the architecture takes no other, or where 64 is too small."""

NAMES = sorted(path.stem for path in FOLDER.glob("*.onnx"))
COUNTED = {"Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPRED_SIM_CACHE", str(tmp_path / "cache"))


def counted(model: Any, feed: dict[str, Any]) -> dict[str, int]:
    """Multiply-accumulates by operator, from the shapes that a run of the file itself shows."""
    names = {t.name: np.array(t.dims) for t in model.graph.initializer}
    # What only constants decide is computed before the network runs.
    decided, nodes = set(feed), []
    for node in model.graph.node:
        if node.op_type != "Shape" and decided & set(node.input):
            decided.update(node.output)
            nodes += [node] if node.op_type in COUNTED else []
    wanted = dict.fromkeys(name for node in nodes for name in (*node.input[:2], node.output[0]))
    run = onnx.ModelProto()
    run.CopyFrom(model)
    del run.graph.output[:]
    asked = [name for name in wanted if name not in names]
    run.graph.node.extend(onnx.helper.make_node("Shape", [name], [f"{name}.s"]) for name in asked)
    run.graph.output.extend(onnx.helper.make_empty_tensor_value_info(f"{name}.s") for name in asked)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(run.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names |= dict(zip(asked, session.run(None, feed), strict=True))
    found: dict[str, int] = {}
    for node in nodes:
        first, second, out = (names[name] for name in (node.input[0], node.input[1], node.output[0]))
        if node.op_type == "Einsum":
            left = node.attribute[0].s.decode().replace(" ", "").partition("->")[0].split(",")
            sizes = dict(zip("".join(left), (*first, *second), strict=True))
            found["Einsum"] = found.get("Einsum", 0) + int(np.prod(list(sizes.values())))
            continue
        each = {
            "Conv": np.prod(out) * np.prod(second[1:]),
            "ConvTranspose": np.prod(first) * np.prod(second[1:]),
        }.get(node.op_type, np.prod(out) * first[-1])
        found[node.op_type] = found.get(node.op_type, 0) + int(each)
    return found


def test_all_families_are_there() -> None:
    assert len({name.removesuffix("_script") for name in NAMES}) >= 25
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 10e6


@pytest.mark.parametrize("name", NAMES)
def test_an_architecture_is_imported_whole(tmp_path: Path, name: str) -> None:
    model = architecture(name)
    (x,) = model.graph.input
    axes = [axis.dim_value or axis.dim_param for axis in x.type.tensor_type.shape.dim]
    assert isinstance(axes[2], str) and isinstance(axes[3], str)
    size = SIZES.get(name, 96 if "inception" in name or "rcnn" in name else 64)
    photo = np.random.default_rng(0).uniform(0, 1, (1, 3, size, size)).astype(np.float32)
    path = tmp_path / f"{name}.onnx"
    onnx.save(model, str(path))
    np.save(tmp_path / "x.npy", photo)
    workload, _ = loaded(path, tmp_path / "x.npy")
    found = counted(model, {x.name: photo})
    if "ConvTranspose" in found:
        # Filters of its phases are filled up with zeros, which are counted.
        assert workload.macs >= sum(found.values()) > sum(found.values()) - found["ConvTranspose"]
    else:
        assert workload.macs == sum(found.values())
    pads = sum(node.layer.kind == "conv" and any(node.layer.padding) for node in workload.network)
    assert pads or not any(a.name == "pads" and any(a.ints) for n in model.graph.node for a in n.attribute)
