"""Pruned weights and scales by channel, from `--quantise` to the integers of a captured network."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dpred_sim.cli.main import main
from dpred_sim.errors import InputError
from dpred_sim.values.quantise import pruned, quantise_8bit_channels
from dpred_sim.workload.capture import file_subject
from dpred_sim.workload.load import load_workload
from dpred_sim.workload.traces import TraceFolder, write_trace
from tests.workload.onnx_models import ModelBuilder, save_input

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
SHAPE = (1, 3, 8, 8)


@pytest.fixture
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DPRED_SIM_CACHE", str(tmp_path / "cache"))
    builder = ModelBuilder(SHAPE)
    builder.node("Relu", [builder.conv("x", "a", 6, 3, pads=[1, 1, 1, 1])], "ra")
    builder.node("Relu", [builder.conv("ra", "b", 6, 6, pads=[1, 1, 1, 1])], "out")
    model = builder.save(tmp_path / "net.onnx")
    return write_trace(file_subject(model, [save_input(tmp_path / "0.npy", SHAPE)]), tmp_path / "trace").path


def real_weights(trace: Path) -> dict[str, np.ndarray]:
    folder = TraceFolder(trace)
    return {name: np.asarray(folder.read(f"weights/{name}")) for name in folder.description["weights"]}


def test_pruned_weights(trace: Path) -> None:
    dense, sparse = load_workload(trace), load_workload(trace, quantise="profiled,prune=0.75")
    for node, other in zip(dense.network, sparse.network, strict=True):
        assert node.layer.weights is not None and other.layer.weights is not None
        before, after = node.layer.weights.load().values, other.layer.weights.load().values
        # The range stays that of the dense weights, so that what is left keeps its integers.
        left = pruned(real_weights(trace)[node.name], 0.75) != 0
        assert np.array_equal(after, np.where(left, before, 0))
        acts = node.layer.activations.load().values
        assert np.array_equal(acts, other.layer.activations.load().values)
    assert "prune=0.75" in sparse.source and sparse.provenance["quantise"] == "full_range,prune=0.75"


def test_scales_by_channel(trace: Path) -> None:
    found = load_workload(trace, bits=8, quantise="full_range,per_channel")
    for node in found.network:
        assert node.layer.weights is not None
        expected = quantise_8bit_channels(real_weights(trace)[node.name]).tensor.values
        assert np.array_equal(node.layer.weights.load().values, expected)
    again = load_workload(trace, bits=8, quantise="full_range,per_channel,prune=0.5")  # another key
    weights = again.network.nodes[0].layer.weights
    assert weights is not None and (weights.load().values == 0).mean() >= 0.5


def test_what_is_refused(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="scales by channel are for 8 bits; found '16 bits'"):
        load_workload(trace, quantise="profiled,per_channel")
    assert main(["workload", "show", str(trace), "--quantise", "profiled,prune=3", "--json"]) == 2
    error = json.loads(capsys.readouterr().err)
    assert (error["field"], error["found"], error["allowed"]) == ("quantise: prune", "3", "0 to 1")
