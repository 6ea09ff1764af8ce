"""What torch.onnx.export makes of torchvision's architectures, with dynamic axes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.architectures import FOLDER, architecture
from tests.workload.onnx_macs import macs_of_a_run
from tests.workload.onnx_models import loaded

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

SIZES = {"alexnet": 224, "maxvit": 64, "maxvit_script": 64, "vision_transformer": 32}
"""Sizes of the photo where the architecture takes no other, or where 64 is too small."""

NAMES = sorted(path.stem for path in FOLDER.glob("*.onnx"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPRED_SIM_CACHE", str(tmp_path / "cache"))


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
    found = macs_of_a_run(model, {x.name: photo})
    if "ConvTranspose" in found:
        # Filters of its phases are filled up with zeros, which are counted.
        assert workload.macs >= sum(found.values()) > sum(found.values()) - found["ConvTranspose"]
    else:
        assert workload.macs == sum(found.values())
    pads = sum(node.layer.kind == "conv" and any(node.layer.padding) for node in workload.network)
    assert pads or not any(a.name == "pads" and any(a.ints) for n in model.graph.node for a in n.attribute)
