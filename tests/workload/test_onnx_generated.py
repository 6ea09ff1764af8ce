"""Forty random graphs: their products are those that they counted while they were built."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from tests.workload.generated_onnx import Generated, graphs
from tests.workload.onnx_models import captured, loaded

pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(made=graphs())
def test_a_generated_graph_is_imported_whole(made: Generated) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        patch.setenv("DPRED_SIM_CACHE", str(folder / "cache"))
        feed = made.save(folder / "m.onnx")
        np.savez(folder / "x.npz", **feed)
        options = ort.SessionOptions()
        options.log_severity_level = 4
        # Its optimisations compute something else now and then: a Transpose before a product with a vector.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = ort.InferenceSession(str(folder / "m.onnx"), options, providers=["CPUExecutionProvider"])
        (wanted,) = session.run(None, feed)
        workload, _ = loaded(folder / "m.onnx", folder / "x.npz")
        assert workload.macs == made.macs
        floats = captured(folder / "m.onnx", folder / "x.npz")
        last = floats.read(f"activations/{floats.description['outputs'][0]}")
        assert np.allclose(np.sort(last.ravel()), np.sort(wanted.ravel()), atol=1e-4, rtol=1e-4)
