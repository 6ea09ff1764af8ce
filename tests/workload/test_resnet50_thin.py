"""The ready-made network with real values: its structure, its values recomputed, its profile, its fixture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dpred_sim as dp
from dpred_sim.errors import InputError
from dpred_sim.locate import ready_made
from dpred_sim.values.tensor import TensorSource
from dpred_sim.workload.layer import Layer
from dpred_sim.workload.load import load_workload
from dpred_sim.workload.network import INPUT, Node
from dpred_sim.workload.profile import read_profile
from dpred_sim.workload.record import Record
from dpred_sim.workload.trained.inputs import preprocessing_of
from dpred_sim.workload.trained.manifest import shipped
from dpred_sim.workload.workload import Workload
from tests.workload.onnx_models import conv, pooled

DATA = ready_made("workloads") / "data" / "resnet50_thin"
STAGES = (3, 4, 6, 3)


@pytest.fixture(scope="module")
def whole() -> Callable[[int], Workload]:
    """The whole network at some bits; skips where model or photo are not to be had."""
    found: dict[int, Workload] = {}

    def get(bits: int) -> Workload:
        if bits not in found:
            pytest.importorskip("onnxruntime")
            found[bits] = load_workload("resnet50_thin", bits=bits)
        if found[bits].name != "resnet50_thin":
            pytest.skip(f"offline: {found[bits].provenance['reason']}")
        return found[bits]

    return get


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPRED_SIM_OFFLINE", "1")
    monkeypatch.setenv("DPRED_SIM_CACHE", str(tmp_path / "cache"))


def values(tensor: TensorSource | None) -> Any:
    assert tensor is not None
    return tensor.load().values.astype(np.float32)


def unexplained(layer: Layer, x: Any, w: Any, out: Any, shortcut: Any) -> float:
    """What is left of a layer's outputs when convolution, shortcut and a bias a filter are taken away.

    Integers are compared: the three factors are fitted, a filter's bias as the mean of what is left where
    the ReLU lets values pass. Returns the relative size of the rest: rounding noise, a few per cent, where
    values in another order would leave nearly all.
    """
    made = conv(layer, x, w).astype(np.float64)
    if layer.pool is not None and layer.pool.mode == "max":
        # A bias commutes with max pooling.
        made = pooled(layer.pool, made)
    parts = [made] if shortcut is None else [made, shortcut.astype(np.float64)]
    passed = out > 0 if out.min() >= 0 else np.ones_like(out, bool)
    count = np.maximum(passed.sum((0, 1)), 1)

    def centred(array: Any) -> Any:
        return np.where(passed, array - np.where(passed, array, 0).sum((0, 1)) / count, 0).ravel()

    target, terms = centred(out), np.stack([centred(part) for part in parts], axis=1)
    factors = np.linalg.lstsq(terms, target, rcond=None)[0]
    assert (factors > 0).all()
    return float(np.linalg.norm(target - terms @ factors) / np.linalg.norm(target))


def check_nodes(found: Workload, nodes: list[Node], most: float, inside: bool = False) -> None:
    for node in nodes:
        layer = node.layer
        shortcut = values(found.network.tensor(node.shortcut)) if node.shortcut else None
        x, w, out = values(layer.activations), values(layer.weights), values(layer.outputs)
        if inside and layer.kernel != (1, 1):
            # At the edges of a crop the neighbours are missing.
            layer = Layer.conv2d("inside", layer.activations, layer.weights, padding=0)  # type: ignore[arg-type]
            out = out[1:-1, 1:-1]
        rest = unexplained(layer, x, w, out, shortcut)
        assert rest < most, f"{node.name}: {rest:.3f}"


@pytest.mark.network
@pytest.mark.parametrize("bits", [8, 16])
def test_the_structure_is_the_published_one(whole: Callable[[int], Workload], bits: int) -> None:
    found = whole(bits)
    assert (found.bits, found.synthetic, found.provenance["inputs"][0]["name"]) == (bits, False, "coffee.png")
    assert "coffee.png" in found.source and f"{bits} bits" in found.source
    kinds = [node.layer.kind for node in found.network]
    assert kinds == ["conv"] * 53 + ["linear"]
    # Counted by hand from the layer table: half the filters of ResNet-50, stride in the first 1 x 1.
    weights = sum(int(np.prod(node.layer.weights.shape)) for node in found.network if node.layer.weights)
    macs, count = 112 * 112 * 64 * 147, 64 * 147
    size, channels = 56, 64
    for stage, depth in enumerate(STAGES):
        filters = 32 << stage
        for block in range(depth):
            size = size // 2 if block == 0 and stage > 0 else size
            project = channels * 4 * filters if block == 0 else 0
            block_weights = channels * filters + 13 * filters * filters + project
            macs, count = macs + size * size * block_weights, count + block_weights
            channels = 4 * filters
    assert (found.macs, weights) == (macs + 1024 * 2, count + 1024 * 2)
    shortcuts = {node.name: node.shortcut for node in found.network if node.shortcut}
    assert len(shortcuts) == sum(STAGES) and all(name.endswith("branch2c") for name in shortcuts)
    assert shortcuts["stage1_block0_branch2c"] == "stage1_block0_proj_shortcut"
    assert shortcuts["stage1_block1_branch2c"] == "stage1_block0_branch2c"
    pools = {node.name: node.layer.pool.mode for node in found.network if node.layer.pool}
    assert pools == {"conv1": "max", "stage3_block2_branch2c": "average"}


@pytest.mark.network
@pytest.mark.parametrize(("bits", "most"), [(16, 0.08), (8, 0.12)])
def test_every_kind_of_layer_recomputed(whole: Callable[[int], Workload], bits: int, most: float) -> None:
    """Convolution, stride, padding, projection, shortcut, max pooling: outputs follow from the operands."""
    found = whole(bits)
    wanted = (
        "conv1",
        "stage0_block0_proj_shortcut",
        "stage0_block0_branch2b",
        "stage0_block0_branch2c",
        "stage1_block0_branch2a",
        "stage2_block1_branch2c",
        "stage3_block1_branch2b",
    )
    check_nodes(found, [node for node in found.network if node.name in wanted], most)


@pytest.mark.network
def test_formats_are_those_of_the_profile(whole: Callable[[int], Workload]) -> None:
    profile = read_profile(DATA / "profile.json")
    found = whole(16)
    assert found.provenance["model_sha256"] == profile.model_sha256
    assert set(profile.weights) == {node.name for node in found.network}
    assert set(profile.activations) == {INPUT, *profile.weights}
    for node in found.network:
        for tensor, fmt in (
            (node.layer.weights, profile.weights[node.name]),
            (node.layer.outputs, profile.activations[node.name]),
            (node.layer.activations, profile.activations[node.reads]),
        ):
            assert tensor is not None
            assert (tensor.precision, tensor.signed) == (fmt.precision, fmt.signed)
    for node in whole(8).network:
        assert node.layer.outputs is not None and node.layer.outputs.precision == 8
        assert node.layer.outputs.signed == profile.activations[node.name].signed
    # Only what no ReLU follows has a sign.
    signed = {name for name, fmt in profile.activations.items() if fmt.signed}
    projections = {f"stage{i}_block0_proj_shortcut" for i in range(4)}
    assert signed == {INPUT, "fc", *projections}


@pytest.mark.network
def test_an_input_of_ones_own(whole: Callable[[int], Workload], tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    from PIL import Image

    photo = whole(16)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "mine.png")
    found = load_workload("resnet50_thin", inputs=[tmp_path / "mine.png"])
    assert "mine.png" in found.source
    first, second = (w.network.nodes[0].layer for w in (found, photo))
    assert not np.array_equal(values(first.activations), values(second.activations))
    assert np.array_equal(values(first.weights), values(second.weights))


def test_the_committed_profile_keeps_its_promise() -> None:
    about = read_profile(DATA / "profile.json").about
    assert (about["tolerance"], about["joint_tolerance"]) == (0.01, 0.05)
    assert len(about["calibration"]) >= 3 and len(about["held_out"]) >= 3
    seen = {item["sha256"] for item in about["calibration"]}
    assert not seen & {item["sha256"] for item in about["held_out"]}
    assert max(item["error"] for item in about["calibration"]) <= about["joint_tolerance"]
    assert {item["error"] for item in about["held_out"]}
    # The photo that runs by default is none of those that the profile was made with.
    entry = shipped().models["resnet50_thin"]
    assert entry.inputs[0] not in entry.calibration
    assert about["preprocessing"] == preprocessing_of(entry.preprocessing).to_dict()


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("bits", [8, 16])
def test_offline_a_real_piece_of_the_network_stands_in(bits: int) -> None:
    found = load_workload("resnet50_thin", bits=bits)
    assert (found.name, found.bits, found.synthetic) == ("resnet50_thin_fixture", bits, False)
    assert found.source.startswith("offline: committed fixture of 4 layers") and "cropped" in found.source
    assert [(n.name, n.reads, n.shortcut) for n in found.network] == [
        ("stage0_block0_proj_shortcut", INPUT, None),
        ("stage0_block0_branch2a", INPUT, None),
        ("stage0_block0_branch2b", "stage0_block0_branch2a", None),
        ("stage0_block0_branch2c", "stage0_block0_branch2b", "stage0_block0_proj_shortcut"),
    ]
    profile = read_profile(DATA / "profile.json")
    for node in found.network:
        assert node.layer.outputs is not None
        wanted = profile.activations[node.name].precision if bits == 16 else 8
        assert node.layer.outputs.precision == wanted
    check_nodes(found, list(found.network), 0.12, inside=True)


@pytest.mark.usefixtures("offline")
def test_the_piece_is_simulated_like_any_workload() -> None:
    result = dp.simulate(load_workload("resnet50_thin"), dp.load_topology("dpred_stripes_ddr4"), verify=True)
    assert result.complete and len(result.layers) == 4 and result.total_cycles > 0
    assert result.source.startswith("offline: committed fixture") and not result.synthetic


@pytest.mark.usefixtures("offline")
def test_offline_nothing_stands_in_for_what_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "mine.png").write_bytes(b"")
    with pytest.raises(InputError, match="DPRED_SIM_OFFLINE=1"):
        load_workload("resnet50_thin", inputs=[tmp_path / "mine.png"])
    with pytest.raises(InputError, match="DPRED_SIM_OFFLINE=1"):
        load_workload("resnet50_thin", quantise="full_range")


def test_fixture_and_licence_lie_together() -> None:
    assert "Copyright (c) 2016, Yahoo Inc." in (DATA / "LICENSE").read_text()
    for bits in (8, 16):
        path = DATA / f"fixture-int{bits}.npz"
        Record(path).check()
        assert path.stat().st_size < 100_000


@pytest.mark.network
@pytest.mark.parametrize("bits", [8, 16])
def test_the_fixture_is_cut_out_of_the_network(whole: Callable[[int], Workload], bits: int) -> None:
    record = Record(DATA / f"fixture-int{bits}.npz")
    rows, columns = (slice(*record.description["of"][axis]) for axis in ("rows", "columns"))
    layers = {node.name: node.layer for node in whole(bits).network}
    for name in record.description["of"]["layers"]:
        assert np.array_equal(record.read(f"weights/{name}"), layers[name].weights.load().values)  # type: ignore[union-attr]
        full = layers[name].outputs.load().values  # type: ignore[union-attr]
        # Another machine's floating point may round one value in thousands the other way.
        part = record.read(f"activations/{name}").astype(int)
        assert np.abs(part - full[rows, columns]).max() <= 1
