"""SCALE-Sim topologies: shapes from lines, drawn values, and broken lines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dpred_sim.errors import InputError
from dpred_sim.simulation.engine import Simulation
from dpred_sim.simulation.systems import load_topology
from dpred_sim.workload.load import load_workload

HEAD = "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,\n"
CONVOLUTIONS = (
    HEAD
    + "Conv1, 18, 18, 3, 3, 3, 16, 1,\nConv2, 16, 16, 1, 1, 16, 32, 2,\n\nConv3, 10, 10, 3, 3, 32, 8, 1,\n"
)
PRODUCTS = "Layer, M, N, K,\nqk, 64, 48, 32,\nav, 64, 16, 48,\n"


def topology(folder: Path, text: str) -> Path:
    path = folder / "net.csv"
    path.write_text(text)
    return path


def test_convolutions(tmp_path: Path) -> None:
    found = load_workload(topology(tmp_path, CONVOLUTIONS), seed=3)
    nodes = list(found.network)
    assert (found.name, found.synthetic) == ("net", True) and "seed 3" in found.source
    assert [node.layer.output_shape for node in nodes] == [(16, 16, 16), (8, 8, 32), (8, 8, 8)]
    assert [node.layer.macs for node in nodes] == [16 * 16 * 16 * 27, 8 * 8 * 32 * 16, 8 * 8 * 8 * 9 * 32]
    # The third one's plane is padded: it is another tensor than what the second writes.
    assert [node.reads for node in nodes] == ["input", "Conv1", "Conv3.activations"]
    assert nodes[1].layer.activations is nodes[0].layer.outputs
    for node in nodes:
        assert node.layer.weights is not None
        assert (node.layer.activations.precision, node.layer.weights.precision) == (9, 11)


def test_products(tmp_path: Path) -> None:
    first, second = (node.layer for node in load_workload(topology(tmp_path, PRODUCTS), bits=8).network)
    assert (first.activations.shape, first.output_shape) == ((64, 32), (64, 48))
    assert first.weights is not None and first.weights.shape == (48, 32)
    assert second.activations is first.outputs and second.macs == 64 * 16 * 48
    assert first.activations.precision == 8


def test_values_follow_the_seed(tmp_path: Path) -> None:
    path = topology(tmp_path, PRODUCTS)
    drawn = [
        load_workload(path, seed=seed).network.nodes[0].layer.activations.load().values for seed in (0, 0, 1)
    ]
    assert np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[0], drawn[2])


@pytest.mark.parametrize("text", [CONVOLUTIONS, PRODUCTS])
def test_it_runs(tmp_path: Path, text: str) -> None:
    found = load_workload(topology(tmp_path, text))
    assert Simulation(found, load_topology("dpred_stripes_ddr4")).run().complete


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"net\.csv: no layers"),
        (HEAD, r"net\.csv: no layers"),
        ("Conv1, 18, 18, 3, 3, 3, 16, 1\n", r"net\.csv:1: not the head of a SCALE-Sim topology"),
        (
            HEAD + "Conv1, 18, 18, 3, 3, 3, 16\n",
            r"net\.csv:2: too few fields; found 7; allowed: a name and ifmap",
        ),
        (
            HEAD + "Conv1, 18, x, 3, 3, 3, 16, 1,\n",
            r"net\.csv:2: ifmap width: not a positive number; found 'x'",
        ),
        (
            HEAD + "Conv1, 18, 18, 3, 3, 0, 16, 1,\n",
            r"net\.csv:2: channels: not a positive number; found '0'",
        ),
        (HEAD + "Conv1, 18, 18, 3, 3, 3, 16, 1.5,\n", r"strides: not a positive number"),
        (HEAD + "Conv1, 2, 18, 3, 3, 3, 16, 1,\n", r"net\.csv:2: layer 'Conv1': weights: shapes do not fit"),
        (HEAD + "A, 5, 5, 3, 3, 3, 4, 1,\nA, 5, 5, 3, 3, 3, 4, 1,\n", r"net\.csv:3: .*have the same name"),
        ("Layer, M, N, K,\nqk, 64, 48,,\n", r"net\.csv:2: k: not a positive number; found ''"),
        ("Layer, M, N, K,\nqk, 64, 48\n", r"net\.csv:2: too few fields"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_workload(topology(tmp_path, text))


def test_binary_files_and_options(tmp_path: Path) -> None:
    path = topology(tmp_path, PRODUCTS)
    with pytest.raises(InputError, match="they are drawn"):
        load_workload(path, quantise="common")
    with pytest.raises(InputError, match="they are drawn"):
        load_workload(path, inputs=[path])
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read as text"):
        load_workload(path)
