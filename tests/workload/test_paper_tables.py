"""The layer tables of published networks against what is published, and against other descriptions."""

from __future__ import annotations

import ast
from collections import Counter
from math import prod
from pathlib import Path

import numpy as np
import pytest

from dpred_sim.locate import ready_made
from dpred_sim.values.tensor import LazyTensor
from dpred_sim.workload.importers.base import importer_for
from dpred_sim.workload.load import load_workload
from dpred_sim.workload.views import Join, View
from dpred_sim.workload.workload import Workload

TABLES = (
    *("nin", "googlenet", "vgg_m", "vgg_s", "mobilenet_v1", "squeezenet", "yolov2", "segnet", "dncnn"),
    *("ircnn", "vdsr", "lrcn", "bilstm", "seq2seq", "alexnet_sparse", "googlenet_sparse", "resnet50_sparse"),
)


def weights(found: Workload) -> dict[int, tuple[int, ...]]:
    """Shapes of the distinct weights."""
    layers = [node.layer for node in found.network]
    return {id(x.weights): tuple(x.weights.shape) for x in layers if x.weights is not None}


def parameters(found: Workload, by_conv: int = 1, by_linear: int = 1) -> int:
    """Weights, and so many further parameters a filter (bias, batch norm)."""
    shapes = weights(found).values()
    extra = sum(shape[0] * (by_conv if len(shape) == 4 else by_linear) for shape in shapes)
    return sum(prod(shape) for shape in shapes) + extra


def conv(side: int, filters: int, channels: int, kernel: int, groups: int = 1) -> int:
    return side * side * filters * (channels // groups) * kernel * kernel


def test_parameters_are_the_published_ones() -> None:
    """To the last one, with biases, where the count of a released model is known."""
    assert parameters(load_workload("googlenet")) == 6_998_552  # bvlc_googlenet, and Keras' Inception v1
    assert parameters(load_workload("squeezenet")) == 1_248_424  # squeezenet v1.0 of Caffe and torchvision
    # Batch norm has two parameters a filter that are trained; the fully connected layer a bias.
    assert parameters(load_workload("mobilenet_v1"), 2) == 4_231_976
    assert parameters(load_workload("ircnn")) == 185_857
    # MatConvNet gives 393 MiB for both, which are floats.
    for name in ("vgg_m", "vgg_s"):
        assert round(parameters(load_workload(name)) * 4 / 2**20) == 393
    assert round(parameters(load_workload("nin")) / 1e6, 1) == 7.6  # a model file of 30 MB
    assert round(parameters(load_workload("segnet")) / 1e6, 1) == 29.4  # 29.46 M in ENet (1606.02147)
    assert round(parameters(load_workload("dncnn"), 0) / 1e6, 2) == 0.55  # 0.56 M with batch norm
    assert round(parameters(load_workload("vdsr"), 0) / 1e3) == 665  # 665 k (1511.04587, 20 layers)


def test_multiply_accumulates_are_the_published_ones() -> None:
    macs = {name: load_workload(name).macs for name in TABLES}
    assert round(macs["mobilenet_v1"] / 1e6) == 569  # 569 M mult-adds (1704.04861)
    assert macs["googlenet"] == pytest.approx(1.5e9, rel=0.06)  # "1.5 billion multiply-adds" (1409.4842)
    assert macs["squeezenet"] == pytest.approx(837e6, rel=0.01)  # convnet-burden
    assert round(macs["vgg_m"] / 1e9) == 2 and round(macs["vgg_s"] / 1e9) == 3  # the same
    assert macs["nin"] == pytest.approx(1.1e9, rel=0.01)  # Netscope
    assert macs["alexnet_sparse"] == load_workload("alexnet").macs
    assert macs["resnet50_sparse"] == load_workload("resnet50").macs


def script(name: str) -> dict[str, object]:
    """The names that a workload script defines."""
    path = ready_made("workloads") / f"{name}.py"
    names: dict[str, object] = {"__name__": name}
    exec(compile(path.read_text(), str(path), "exec"), names)
    return names


def test_yolov2_on_coco() -> None:
    """Darknet's page: 62.94 Bn operations at 608 x 608; Keras' count of parameters with batch norm."""
    found = script("yolov2")["table"](16, 0, side=608, outputs=425).workload("yolov2", "")  # type: ignore[operator]
    assert round(2 * found.macs / 1e9, 2) == pytest.approx(62.94, abs=0.2)
    last = [shape for shape in weights(found).values() if shape[0] == 425]
    assert parameters(found, 4) - 3 * 425 == 50_983_561 and len(last) == 1


def test_segnet_at_the_size_others_measured() -> None:
    """ENet's table 1: 286.03 G operations at 640 x 360."""
    found = script("segnet")["table"](16, 0, height=360, width=640).workload("segnet", "")  # type: ignore[operator]
    assert 2 * found.macs == pytest.approx(286.03e9, rel=0.01)


def test_counts_layer_by_layer() -> None:
    """Sums over the papers' tables, written down once more."""
    nin = [
        *(conv(54, 96, 3, 11), 2 * conv(54, 96, 96, 1), conv(27, 256, 96, 5), 2 * conv(27, 256, 256, 1)),
        *(conv(13, 384, 256, 3), 2 * conv(13, 384, 384, 1), conv(6, 1024, 384, 3)),
        *(conv(6, 1024, 1024, 1), conv(6, 1000, 1024, 1)),
    ]
    assert load_workload("nin").macs == sum(nin)
    fc = 512 * 36 * 4096 + 4096 * 4096 + 4096 * 1000
    vgg_m = [conv(109, 96, 3, 7), conv(26, 256, 96, 5), conv(13, 512, 256, 3), 2 * conv(13, 512, 512, 3)]
    assert load_workload("vgg_m").macs == sum(vgg_m) + fc
    vgg_s = [conv(109, 96, 3, 7), conv(35, 256, 96, 5), conv(18, 512, 256, 3), 2 * conv(18, 512, 512, 3)]
    assert load_workload("vgg_s").macs == sum(vgg_s) + fc
    pixels = 256 * 256
    for name, layers in (("dncnn", 17), ("ircnn", 7), ("vdsr", 20)):
        assert load_workload(name).macs == pixels * 9 * (64 + (layers - 2) * 64 * 64 + 64)


def test_recurrent_networks_layer_by_layer() -> None:
    lstm = 4 * 1000 * (1000 + 1000)
    alexnet = load_workload("alexnet")
    captions = 2 * lstm + 8801 * 1000
    lrcn = load_workload("lrcn")
    assert parameters(lrcn, 0, 0) == parameters(alexnet, 0, 0) + 4000 * 1000 + captions
    assert lrcn.macs == alexnet.macs + 4000 * 1000 + 20 * captions
    fc8 = 4096 * 1000
    bilstm = load_workload("bilstm")
    assert parameters(bilstm, 0, 0) == parameters(alexnet, 0, 0) - fc8 + 2 * (4000 * 4096 + captions)
    assert bilstm.macs == alexnet.macs - fc8 + 2 * (4000 * 4096 + 20 * captions)
    # 384 M parameters, of which 64 M are recurrent connections (1409.3215): embeddings are looked up.
    seq2seq = load_workload("seq2seq")
    assert parameters(seq2seq, 0, 0) == 64_000_000 + 80_000 * 1000
    assert parameters(seq2seq, 0, 0) + (160_000 + 80_000) * 1000 == 384_000_000
    assert seq2seq.macs == 25 * (64_000_000 + 80_000_000)


def onnx_convolutions(name: str) -> list[tuple[int, ...]]:
    """(filters, height, width, channels a filter) of the convolutions of a model that comes with onnx."""
    onnx = pytest.importorskip("onnx")
    path = next(Path(onnx.__file__).parent.rglob(f"light_{name}.onnx"), None)
    if path is None:
        pytest.skip("this onnx comes without its light models")
    graph = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
    shapes = {
        value.name: tuple(size.dim_value for size in value.type.tensor_type.shape.dim)
        for value in (*graph.value_info, *graph.input)
    }
    found = [shapes[node.input[1]] for node in graph.node if node.op_type == "Conv"]
    return [(k, y, x, c) for k, c, y, x in found]


def test_structures_are_those_of_the_models_that_come_with_onnx() -> None:
    googlenet = [shape for shape in weights(load_workload("googlenet")).values() if len(shape) == 4]
    assert Counter(googlenet) == Counter(onnx_convolutions("inception_v1"))
    # Theirs is v1.1, whose fire modules are the same ones behind another first layer.
    squeezenet = [shape for shape in weights(load_workload("squeezenet")).values() if len(shape) == 4]
    theirs = onnx_convolutions("squeezenet")
    assert squeezenet[2:] == theirs[2:] and squeezenet[0] == (96, 7, 7, 3)


def test_googlenet_s_planes() -> None:
    network = load_workload("googlenet").network
    assert [network.tensor_shape(name) for name in ("conv2", "3a", "3b", "4a", "4e", "5a", "5b")] == [
        *((28, 28, 192), (28, 28, 256), (14, 14, 480), (14, 14, 512), (7, 7, 832), (7, 7, 832), (1, 1, 1024))
    ]
    assert len(network.joins) == 9 and all(len(parts) == 4 for parts in network.joins.values())


def test_published_precisions() -> None:
    nin = load_workload("nin").network
    expected = [8, 8, 7, 9, 7, 8, 8, 9, 9, 8, 7, 8]
    assert [node.layer.activations.precision for node in nin] == expected
    googlenet = {node.name: node.layer.activations.precision for node in load_workload("googlenet").network}
    modules = [googlenet[f"{name}_1x1"] for name in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")]
    assert (googlenet["conv1"], googlenet["conv2"], modules) == (10, 8, [9, 8, 8, 9, 10, 8, 9, 10, 8])
    for name, bits in (("mobilenet_v1", 10), ("squeezenet", 9)):
        assert {node.layer.activations.precision for node in load_workload(name).network} == {bits}


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("name", TABLES)
def test_what_is_stored_is_what_is_computed_on(name: str, bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(self: LazyTensor) -> None:
        raise AssertionError("values were made")

    monkeypatch.setattr(LazyTensor, "load", load)
    found = load_workload(name, bits=bits)
    assert (found.bits, found.synthetic, found.name) == (bits, True, name)
    for node in found.network:
        layer = node.layer
        written = found.network.tensor(node.reads)
        assert layer.activations is written or node.name.partition(".h[")[1]
        assert layer.outputs is not None
        for tensor in (layer.activations, layer.outputs, layer.weights):
            assert tensor is None or (tensor.bits == bits and tensor.precision <= bits)
        if layer.weights is not None:
            assert layer.weights.precision == min(11, bits)
        if isinstance(layer.activations, Join):
            assert len({part.precision for part in layer.activations.parts}) == 1


@pytest.mark.parametrize("name", TABLES)
def test_docstrings_say_where_shapes_and_precisions_are_from(name: str) -> None:
    path = ready_made("workloads") / f"{name}.py"
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    values = text.splitlines()[2]
    assert values.startswith("Values: synthetic, ") and ("published" in values or "assumed" in values)
    assert "et al." in text or "Redmon" in text
    assert "ssumption" in text
    assert importer_for(path).suffixes == (".py",)


def nonzero_share(name: str, layers: tuple[str, ...] = ()) -> float:
    network = load_workload(name).network
    zeros = values = 0
    for node in network:
        if node.layer.weights is not None and (not layers or node.name in layers):
            drawn = node.layer.weights.load().values
            zeros += int(np.count_nonzero(drawn == 0))
            values += drawn.size
    return 1 - zeros / values


def test_sparse_networks_have_the_published_zeros() -> None:
    convolutions = ("conv1", "conv2", "conv3", "conv4", "conv5")
    left = (0.84, 0.38, 0.35, 0.37, 0.37)
    for layer, share in zip(convolutions, left, strict=True):
        # Rounding makes a few more zeros of what is left.
        assert nonzero_share("alexnet_sparse", (layer,)) == pytest.approx(share, abs=0.012)
    found = load_workload("alexnet_sparse")
    pruned = found.provenance["weight_sparsity"]
    shapes = {node.name: node.layer.weights.shape for node in found.network if node.layer.weights is not None}
    kept = sum(prod(shapes[name]) * (1 - share) for name, share in pruned.items())
    assert kept == pytest.approx(6.7e6, rel=0.02)  # 6.7 M weights are left (1506.02626)
    kept = (1 - load_workload("googlenet_sparse").provenance["weight_sparsity"]["conv1"]) * 6.99e6
    assert kept == pytest.approx(2.37e6, rel=0.01)  # 1611.05128
    assert nonzero_share("resnet50_sparse", ("res5c_branch2b",)) == pytest.approx(0.4, abs=0.01)


def test_unpooling_and_passthrough_move_every_value() -> None:
    network = load_workload("segnet").network
    moved = next(node.layer for node in network if node.name == "unpool5")
    assert isinstance(moved.outputs, View) and moved.outputs.shape == (23, 30, 512)
    small, large = moved.activations.load().values, moved.outputs.load().values
    assert np.array_equal(large[::2, ::2], small) and np.count_nonzero(large) == np.count_nonzero(small)
    reorg = next(node.layer for node in load_workload("yolov2").network if node.name == "reorg")
    assert reorg.outputs is not None
    fine, coarse = reorg.activations.load().values, reorg.outputs.load().values
    assert coarse.shape == (13, 13, 256)
    assert np.array_equal(coarse[2, 3, 64:128], fine[4, 7]) and np.array_equal(
        np.sort(coarse.ravel()), np.sort(fine.ravel())
    )
