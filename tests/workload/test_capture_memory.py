"""What a capture keeps in memory, and how models are handed to onnxruntime."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dpred_sim.errors import InputError
from tests.workload.onnx_models import ModelBuilder, save_input

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

LAYERS, CHANNELS, SIDE = 8, 16, 256

MEASURE = """
import resource, sys
from pathlib import Path
from dpred_sim.workload.capture import file_subject
from dpred_sim.workload.traces import write_trace

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

model, small, large, out = map(Path, sys.argv[1:])
write_trace(file_subject(model, [small]), out / "small")
before = peak()
write_trace(file_subject(model, [large]), out / "large")
print(peak() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ru_maxrss is in KiB on Linux")
def test_a_capture_keeps_what_is_stored_and_little_else(tmp_path: Path) -> None:
    # Five tensors a layer, of which one is stored.
    builder = ModelBuilder((1, 3, "height", "width"))
    source, channels = "x", 3
    for i in range(LAYERS):
        made = builder.conv(source, f"c{i}", CHANNELS, channels, kernel=1)
        gate = builder.node("Sigmoid", [made], f"s{i}")
        product = builder.node("Mul", [made, gate], f"m{i}")
        source = builder.node("LeakyRelu", [builder.node("Relu", [product], f"r{i}")], f"l{i}")
        channels = CHANNELS
    model = builder.save(tmp_path / "net.onnx")
    small = save_input(tmp_path / "small.npy", (1, 3, 8, 8))
    large = save_input(tmp_path / "large.npy", (1, 3, SIDE, SIDE))
    command = [sys.executable, "-c", MEASURE, str(model), str(small), str(large), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    stored = 4 * SIDE * SIDE * (3 + LAYERS * CHANNELS)
    # The libraries are in memory before. Twice: what one layer has on its way, and what is being written.
    assert int(done.stdout) < 2 * stored


def test_a_model_is_written_as_it_is(tmp_path: Path) -> None:
    from dpred_sim.workload.importers.onnx_runtime import write_model

    builder = ModelBuilder((1, 3, 8, 8))
    builder.node("Relu", [builder.conv("x", "a", 6, 3)], "ra")
    builder.conv("ra", "b", 6, 6)
    proto = onnx.load(str(builder.save(tmp_path / "net.onnx")))
    proto.producer_name, proto.graph.doc_string = "somebody", "a network"
    onnx.helper.set_model_props(proto, {"key": "value"})
    before = proto.SerializeToString()
    write_model(tmp_path / "net.onnx", proto, tmp_path / "written.onnx")
    assert onnx.load(str(tmp_path / "written.onnx")) == proto
    assert proto.SerializeToString() == before and len(proto.graph.initializer) == 4


def test_a_model_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dpred_sim.workload.importers import onnx_model, onnx_runtime

    model = ModelBuilder((1, 2, 4, 4))
    model.conv("x", "a", 4, 2)
    path = model.save(tmp_path / "net.onnx")
    monkeypatch.setattr(onnx_runtime, "LARGEST", 100)
    read = onnx_model.read_model(path)
    with pytest.raises(InputError, match="too large for onnxruntime"):
        onnx_model.fold(read, {"x": np.zeros((1, 2, 4, 4), np.float32)})
