"""Every operator of the importer: values against onnxruntime, MACs against a count of our own."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpred_sim.errors import InputError
from dpred_sim.simulation.engine import simulate
from dpred_sim.simulation.systems import load_topology
from dpred_sim.workload.capture import Captor, file_subject
from dpred_sim.workload.layer import Layer
from dpred_sim.workload.profile_search import profile_model
from dpred_sim.workload.workload import Workload
from tests.workload.onnx_macs import count_macs
from tests.workload.onnx_models import ModelBuilder, captured, conv, loaded, save_input

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPRED_SIM_CACHE", str(tmp_path / "cache"))


def reference(path: Path, feed: dict[str, Any]) -> list[Any]:
    """What onnxruntime makes of the file as it is."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, feed)


def owner(name: str) -> str:
    """The tensor that a step of a recurrence is a row of."""
    return re.sub(r"(\.h)?\[-?\d+\]$", "", name)


def products(workload: Workload, description: Any) -> dict[str, Any]:
    """The sums of every layer with weights, from its stored integers: what the hardware computes."""
    about = description["activations"]
    found = {}
    for node in workload.network:
        layer = node.layer
        if layer.weights is None:
            continue
        scale = about[owner(node.reads)]["scale"]
        x = layer.activations.load().values * scale
        w = layer.weights.load().values.astype(np.float64)
        if layer.second is not None:
            w = w * about[node.second]["scale"]
        else:
            w = w * np.asarray(description["weights"][owner(node.name)]["scale"]).reshape(
                -1, *[1] * (w.ndim - 1)
            )
        if layer.kind == "conv":
            found[node.name] = conv(layer, x, w)
            if layer.second is not None:
                found[node.name] = found[node.name][:, 0]
        else:
            found[node.name] = x.reshape(layer.height, -1) @ w.T
    return found


def checked(
    builder: ModelBuilder, folder: Path, opset: int = 17, macs: dict[str, int] | None = None
) -> tuple[Workload, Any]:
    """Import a model without biases: stored outputs are the layers' sums, MACs those of an own count.

    `macs` are counts that the lowering changes, by operator.
    """
    path = builder.save(folder / "m.onnx", opset=opset)
    x = save_input(folder / "x.npy", builder.shape)  # type: ignore[arg-type]
    workload, integers = loaded(path, x)
    about = integers.description["activations"]
    for name, sums in products(workload, integers.description).items():
        outputs = next(node.layer.outputs for node in workload.network if node.name == name)
        assert outputs is not None
        stored = outputs.load().values * about[name]["scale"]
        cropped = stored == 0
        assert np.allclose(np.where(cropped, 0, sums), stored, atol=2e-3 * max(1, np.abs(stored).max())), name
    counted = {**count_macs(onnx.load(str(path)), {"x": tuple(np.load(x).shape)}), **(macs or {})}
    assert workload.macs == sum(counted.values())
    # What comes out is what onnxruntime gives.
    wanted = reference(path, {"x": np.load(x)})[0]
    floats = captured(path, x)
    last = floats.read(f"activations/{floats.description['outputs'][0]}")
    assert np.allclose(np.sort(last[last != 0].ravel()), np.sort(wanted[wanted != 0].ravel()), atol=1e-5)
    return workload, integers


def plain(builder: ModelBuilder, source: str, output: str, kind: str, *shape: int, **rest: Any) -> str:
    return builder.node(kind, [source, builder.random(f"w_{output}", *shape)], output, **rest)


@pytest.mark.parametrize(
    ("shape", "weights", "attributes"),
    [
        ((1, 4, 11), (6, 4, 3), {"pads": [2, 1], "strides": [2]}),
        ((1, 4, 11), (6, 2, 3), {"group": 2, "dilations": [2]}),
        ((5, 4, 11), (6, 4, 3), {"auto_pad": "SAME_UPPER", "strides": [3]}),
        ((1, 4, 9, 7), (6, 4, 3, 2), {"pads": [1, 0, 1, 1]}),
        ((1, 4, 9, 7), (4, 1, 3, 3), {"group": 4}),
        ((1, 6, 9, 7), (12, 3, 3, 1), {"group": 2, "strides": [2, 1], "dilations": [1, 2]}),
        ((3, 4, 6, 5), (6, 4, 3, 3), {"pads": [1, 1, 1, 1]}),
        ((3, 4, 6, 5), (6, 4, 1, 3), {}),
        ((1, 4, 5, 6, 7), (6, 4, 3, 3, 3), {"pads": [1, 1, 1, 1, 1, 1]}),
        ((1, 4, 5, 6, 7), (6, 2, 2, 3, 2), {"group": 2, "strides": [2, 1, 2], "dilations": [1, 2, 1]}),
        ((1, 4, 5, 6, 7), (4, 1, 3, 1, 3), {"group": 4}),
        ((2, 4, 5, 6, 7), (6, 4, 1, 1, 1), {}),
    ],
)
def test_convolutions_over_one_to_three_axes(tmp_path: Path, shape, weights, attributes) -> None:
    builder = ModelBuilder((1, shape[0] * shape[1], *shape[2:]))
    builder.node("Reshape", ["x", builder.constant("b", shape, np.int64)], "xb")
    plain(builder, "xb", "c", "Conv", *weights, **attributes)
    # A second one reads what the first one wrote.
    spatial = len(shape) - 2
    plain(builder, "c", "d", "Conv", 5, weights[0], *[1] * spatial)
    workload, _ = checked(builder, tmp_path)
    assert [node.layer.kind for node in workload.network if node.layer.kind != "move"] == ["conv", "conv"]


def test_windows_of_three_axes_are_laid_out_by_a_memory_layer(tmp_path: Path) -> None:
    builder = ModelBuilder((1, 2, 5, 6, 8))
    plain(builder, "x", "c", "Conv", 4, 2, 3, 3, 3, pads=[1, 1, 1, 1, 1, 1])
    workload, _ = checked(builder, tmp_path)
    move, layer = (node.layer for node in workload.network)
    # 3 x 3 outer taps side by side in the channels, rows for every outer window, the last axis convolved.
    assert (move.kind, move.output_shape) == ("move", (5 * 6, 8, 9 * 2))
    assert layer.weights is not None and layer.weights.shape == (4, 1, 3, 18)


@pytest.mark.parametrize(
    ("kernel", "stride", "attributes", "same"),
    [
        (2, 2, {}, True),
        (4, 4, {}, True),
        (3, 1, {"pads": [1, 1, 1, 1]}, False),
        (4, 2, {"pads": [1, 1, 1, 1]}, False),
        (3, 2, {"pads": [1, 0, 1, 1], "output_padding": [1, 0]}, False),
        (3, 2, {"dilations": [2, 1]}, False),
        (2, 3, {}, False),
        (3, 2, {"auto_pad": "SAME_UPPER"}, False),
        (3, 2, {"auto_pad": "SAME_LOWER"}, False),
        (5, 2, {"output_shape": [12, 9]}, False),
    ],
)
@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolutions(
    tmp_path: Path, kernel: int, stride: int, attributes: dict[str, Any], same: bool, groups: int
) -> None:
    builder = ModelBuilder((1, 4, 6, 5))
    rest = {"strides": [stride, stride], "group": groups, **attributes}
    plain(builder, "x", "t", "ConvTranspose", 4, 6 // groups, kernel, kernel, **rest)
    path = builder.save(tmp_path / "t.onnx")
    _, integers = loaded(path, save_input(tmp_path / "x.npy", (1, 4, 6, 5)))
    # Counted as the hardware does it: filters for each phase of the stride, all windows, padding included.
    found = next(layer for layer in integers.description["layers"] if layer["operator"] == "ConvTranspose")
    about = integers.description
    rows, columns, filters = about["activations"][found["name"]]["shape"]
    taps = about["weights"][found["name"]]["shape"][1:]
    counted = rows * columns * filters * int(np.prod(taps))
    plain(builder, "t", "c", "Conv", 3, 6, 3, 3)
    workload, _ = checked(builder, tmp_path, macs={"ConvTranspose": counted})
    assert filters == 6 * stride**2 and taps[-1] == 4 // groups
    if same:
        # A stride that divides the kernel wastes nothing.
        own = count_macs(onnx.load(str(path)), {"x": (1, 4, 6, 5)})
        assert own == {"ConvTranspose": counted}
    assert simulate(workload, load_topology("dpred_stripes_ddr4")).complete


def test_a_transposed_convolution_over_one_axis(tmp_path: Path) -> None:
    builder = ModelBuilder((3, 4, 6))
    plain(builder, "x", "t", "ConvTranspose", 4, 5, 4, strides=[4])
    plain(builder, "t", "c", "Conv", 3, 5, 3)
    checked(builder, tmp_path)


@pytest.mark.parametrize(
    ("shape", "build"),
    [
        ((1, 6, 8), lambda m: plain(m, "x", "p", "MatMul", 8, 5)),
        ((6, 8), lambda m: plain(m, "x", "p", "Gemm", 8, 5, alpha=0.5)),
        ((8, 6), lambda m: plain(m, "x", "p", "Gemm", 8, 5, transA=1)),
        ((6, 8), lambda m: plain(m, "x", "p", "Gemm", 5, 8, transB=1)),
        ((8, 6), lambda m: m.node("MatMul", [m.random("w", 5, 8), "x"], "p")),
        ((1, 3, 8, 6), lambda m: m.node("MatMul", [m.random("w", 5, 8), "x"], "p")),
        ((1, 6, 8), lambda m: m.node("MatMul", ["x", m.node("Transpose", ["x"], "t", perm=[0, 2, 1])], "p")),
        ((6, 8), lambda m: m.node("Gemm", ["x", "x"], "p", transB=1)),
        ((8, 6), lambda m: m.node("Gemm", ["x", "x"], "p", transA=1)),
        ((1, 3, 6, 8), lambda m: plain(m, "x", "p", "MatMul", 3, 8, 5)),
        ((1, 3, 6, 8), lambda m: plain(m, "x", "p", "MatMul", 8, 5)),
    ],
)
def test_products(tmp_path: Path, shape: Sequence[int], build: Callable[[ModelBuilder], Any]) -> None:
    builder = ModelBuilder(shape)
    build(builder)
    # A convolution or product must have weights somewhere for there to be a network.
    last = builder.nodes[-1].output[0]
    columns = {"p": reference_shape(builder, tmp_path)[-1]}
    plain(builder, last, "q", "MatMul", columns["p"], 3)
    checked(builder, tmp_path)


def reference_shape(builder: ModelBuilder, folder: Path) -> tuple[int, ...]:
    path = builder.save(folder / "shape.onnx")
    return reference(path, {"x": np.zeros(tuple(builder.shape), np.float32)})[0].shape  # type: ignore[arg-type]


MOVED: dict[str, Callable[[ModelBuilder], str]] = {
    "Resize": lambda m: m.node(
        "Resize", ["a", "", m.constant("s", [1, 1, 2, 2])], "m", mode="nearest"
    ),
    "Upsample": lambda m: m.node("Upsample", ["a", m.constant("s", [1, 1, 2, 2])], "m"),
    "Pad": lambda m: m.node("Pad", ["a", m.constant("p", [0, 0, 1, 2] * 2, np.int64)], "m", mode="reflect"),
    "LRN": lambda m: m.node("LRN", ["a"], "m", size=3),
    "Concat": lambda m: m.node("Concat", ["a", "x", "a"], "m", axis=1),
    "Mul": lambda m: m.node("Mul", ["a", m.node("GlobalAveragePool", ["a"], "g")], "m"),
    "Sub": lambda m: m.node("Sub", ["a", m.node("ReduceMax", ["a"], "g", axes=[2, 3])], "m"),
    "MaxPool": lambda m: m.node("MaxPool", ["a"], "m", kernel_shape=[2, 2], dilations=[2, 2]),
    "Softmax": lambda m: m.node("Softmax", ["a"], "m", axis=1),
    "InstanceNormalization": lambda m: m.node(
        "InstanceNormalization", ["a", m.constant("s", np.ones(6)), m.constant("b", np.zeros(6))], "m"
    ),
    "CumSum": lambda m: m.node("CumSum", ["a", m.constant("i", 2, np.int64)], "m"),
    "Slice": lambda m: m.node(
        "Slice", ["a", *(m.constant(k, [v], np.int64) for k, v in (("f", 2), ("t", 5), ("i", 1)))], "m"
    ),
    "Split": lambda m: split(m),
    "DepthToSpace": lambda m: m.node(
        "DepthToSpace", [m.node("Concat", ["a", "a"], "aa", axis=1)], "m", blocksize=2, mode="CRD"
    ),
    "SpaceToDepth": lambda m: m.node("SpaceToDepth", ["a"], "m", blocksize=2),
    "Transpose": lambda m: m.node("Transpose", ["a"], "m", perm=[0, 1, 3, 2]),
    "Gather": lambda m: m.node("Gather", ["a", m.constant("i", [3, 0, 3], np.int64)], "m", axis=1),
    "Expand": lambda m: m.node(
        "Expand", [m.node("GlobalMaxPool", ["a"], "g"), m.constant("e", [1, 6, 3, 4], np.int64)], "m"
    ),
    "Where": lambda m: m.node("Where", [m.node("Greater", ["a", m.constant("z", 0)], "b"), "a", "x"], "m"),
}  # fmt: skip
OLD = {"Upsample": 9, "Sub": 11}


def split(m: ModelBuilder) -> str:
    m.node("Split", ["a"], "m", axis=1)
    m.nodes[-1].output.append("other")
    return "m"


@pytest.mark.parametrize("operator", sorted(MOVED))
def test_what_has_no_products_is_carried_as_data_movement(tmp_path: Path, operator: str) -> None:
    """Between two convolutions: the second one computes with what onnxruntime's operator gave."""
    builder = ModelBuilder((1, 6, 8, 6))
    plain(builder, "x", "c", "Conv", 6, 6, 1, 1)
    builder.node("Tanh", ["c"], "a")
    MOVED[operator](builder)
    opset = OLD.get(operator, 17)
    path = builder.save(tmp_path / "shape.onnx", ["m"], opset=opset)
    x = np.load(save_input(tmp_path / "x.npy", (1, 6, 8, 6)))
    (middle,) = reference(path, {"x": x})
    builder.nodes.append(onnx.helper.make_node("Relu", ["m"], ["r"], name="n_r"))
    plain(builder, "r", "d", "Conv", 4, middle.shape[1], 1, 1)
    path = builder.save(tmp_path / "m.onnx", opset=opset)
    workload, integers = loaded(path, tmp_path / "x.npy")
    floats = captured(path, tmp_path / "x.npy")
    last = workload.network.nodes[-1]
    read = floats.read(f"activations/{last.reads}")
    wanted = np.maximum(middle[0].transpose(1, 2, 0), 0)
    assert np.allclose(read, wanted, atol=1e-6)
    sums = products(workload, integers.description)[last.name]
    out = reference(path, {"x": x})[0][0].transpose(1, 2, 0)
    assert np.allclose(sums, out, atol=2e-3 * max(1, np.abs(out).max()))
    assert workload.macs == sum(count_macs(onnx.load(str(path)), {"x": x.shape}).values())
    moves = [node for node in workload.network if node.layer.weights is None]
    assert moves, "the operator left no trace in the network"
    result = simulate(workload, load_topology("dpred_stripes_ddr4", set=["nodes.activations.size=8 KiB"]))
    assert result.complete
    moved = {layer.name: layer.traffic for layer in result.layers}
    for node in moves:
        traffic = moved[node.name]
        assert (
            sum(t.read_bytes + t.write_bytes for t in traffic.values()) > 0 or node.layer.outputs is not None
        )


def follow_relu(m: ModelBuilder) -> None:
    m.node("Relu", ["m"], "r")
    plain(m, "r", "d", "Conv", 40, 40, 1, 1)
    m.node("Add", ["d", "r"], "o")


def follow_gate(m: ModelBuilder) -> None:
    m.node("Mul", ["m", m.node("GlobalAveragePool", ["m"], "g")], "q")
    plain(m, "q", "d", "Conv", 8, 40, 1, 1)


def follow_rows(m: ModelBuilder) -> None:
    m.node("Flatten", [m.node("GlobalAveragePool", ["m"], "g")], "f")
    plain(m, "f", "d", "MatMul", 40, 3)


def follow_slice(m: ModelBuilder) -> None:
    ends = [m.constant(name, [value], np.int64) for name, value in (("f", 10), ("t", 30), ("i", 1))]
    plain(m, m.node("Slice", ["m", *ends], "s"), "d", "Conv", 8, 20, 1, 1)


FOLLOWERS: dict[str, Callable[[ModelBuilder], Any]] = {
    "conv": lambda m: plain(m, "m", "d", "Conv", 8, 40, 1, 1),
    "pool": lambda m: plain(m, m.node("MaxPool", ["m"], "p", kernel_shape=[2, 2]), "d", "Conv", 8, 40, 1, 1),
    "relu": follow_relu,
    "residual": lambda m: m.node("Add", [plain(m, "m", "d", "Conv", 40, 40, 1, 1), "m"], "o"),
    "nested": lambda m: plain(m, m.node("Concat", ["x", "m"], "mm", axis=1), "d", "Conv", 8, 48, 1, 1),
    "gate": follow_gate,
    "rows": follow_rows,
    "product": lambda m: m.node("MatMul", ["m", m.node("Transpose", ["m"], "t", perm=[0, 1, 3, 2])], "d"),
    "slice": follow_slice,
}


@pytest.mark.parametrize("buffer", ["36 KiB", "4 MiB"])
@pytest.mark.parametrize("follower", sorted(FOLLOWERS))
def test_a_concatenation_moves_nothing_whoever_reads_it(tmp_path: Path, follower: str, buffer: str) -> None:
    builder = ModelBuilder((1, 8, 12, 12))
    for name, filters in (("a", 16), ("b", 24)):
        builder.node("Relu", [plain(builder, "x", f"c{name}", "Conv", filters, 8, 1, 1)], name)
    builder.node("Concat", ["a", "b"], "m", axis=1)
    FOLLOWERS[follower](builder)
    path, x = builder.save(tmp_path / "m.onnx"), save_input(tmp_path / "x.npy", (1, 8, 12, 12))
    workload, integers = loaded(path, x)
    assert workload.macs == sum(count_macs(onnx.load(str(path)), {"x": (1, 8, 12, 12)}).values())
    network = workload.network
    assert network.joins["n_m"] == ("n_ca", "n_cb") and "n_m" not in [node.name for node in network]
    image, weights = np.load(x)[0], [builder.constants[f"w_c{name}"][:, :, 0, 0] for name in "ab"]
    sums = [np.einsum("chw,fc->hwf", image, kernels) for kernels in weights]
    together = np.maximum(np.concatenate(sums, -1), 0)
    about = integers.description["activations"]
    assert about["n_ca"]["scale"] == about["n_cb"]["scale"]
    joined = network.tensor("n_m")
    assert joined is not None
    assert np.allclose(joined.load().values * about["n_ca"]["scale"], together, atol=about["n_ca"]["scale"])
    topology = load_topology("dpred_stripes_ddr4", set=[f"nodes.activations.size={buffer}"])
    assert simulate(workload, topology).complete


def test_a_concatenation_is_read_once_by_each_reader(tmp_path: Path) -> None:
    builder = ModelBuilder((1, 8, 16, 16))
    for name in "ab":
        plain(builder, "x", name, "Conv", 16, 8, 1, 1)
    builder.node("Concat", ["a", "b"], "m", axis=1)
    plain(builder, "m", "d", "Conv", 8, 32, 1, 1)
    path, x = builder.save(tmp_path / "m.onnx"), save_input(tmp_path / "x.npy", (1, 8, 16, 16))
    workload, _ = loaded(path, x)
    # Nothing fits on chip: both parts go out once and come in once, uncompressed.
    topology = load_topology("dadiannao_ddr4", set=["nodes.activations.size=8 KiB"])
    traffic = {x.name: x.traffic for x in simulate(workload, topology).layers}
    values = 16 * 16 * 16
    for name in ("n_a", "n_b"):
        assert 2 * values <= traffic[name]["outputs"].write_bytes <= 2 * values * 1.1
    assert 2 * values * 2 <= traffic["n_d"]["activations"].read_bytes <= 2 * values * 2 * 1.1


def test_tensors_side_by_side_have_one_step_in_every_format(tmp_path: Path) -> None:
    from dpred_sim.workload.profile import Format, Profile
    from dpred_sim.workload.quantised import Values
    from dpred_sim.workload.quantised import integers as made

    builder = ModelBuilder((1, 8, 6, 6))
    for name in "ab":
        plain(builder, "x", name, "Conv", 16, 8, 1, 1)
    builder.constants["w_b"] *= 9
    plain(builder, builder.node("Concat", ["a", "b"], "m", axis=1), "d", "Conv", 8, 32, 1, 1)
    path, x = builder.save(tmp_path / "m.onnx"), save_input(tmp_path / "x.npy", (1, 8, 6, 6))
    subject = file_subject(path, [x])
    for bits in (8, 16):
        about = made(Values(subject, bits, "full_range", None, "", {})).description["activations"]
        assert about["n_a"]["scale"] == about["n_b"]["scale"]
        assert about["n_a"]["precision"] == about["n_b"]["precision"] == bits
    names = ("input", "n_a", "n_b", "n_d")
    formats = {name: Format(8, True, about[name]["high"]) for name in names}
    weights = {name: Format(8, True, 4.0) for name in names[1:]}
    profile = Profile(subject.model_sha256, formats, weights, {})
    about = made(Values(subject, 16, "profiled", profile, "", {})).description["activations"]
    # The finer one stays, the other gets the bits that its range is larger by.
    assert about["n_a"]["scale"] == about["n_b"]["scale"]
    assert about["n_a"]["precision"] == 8 < about["n_b"]["precision"] <= 12
    assert about["n_d"]["precision"] == 8


def test_a_slice_reads_only_what_it_takes(tmp_path: Path) -> None:
    builder = ModelBuilder((1, 8, 16, 16))
    plain(builder, "x", "a", "Conv", 32, 8, 1, 1)
    ends = [builder.constant(k, [v], np.int64) for k, v in (("f", 8), ("t", 16), ("i", 1))]
    builder.node("Slice", ["a", *ends], "s")
    plain(builder, "s", "d", "Conv", 8, 8, 1, 1)
    workload, _ = checked(builder, tmp_path)
    (move,) = (node for node in workload.network if node.layer.kind == "move")
    assert [(part.name, part.rows, part.channels) for part in move.parts] == [("n_a", (0, 16), (8, 16))]


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("pieces", [True, False])
def test_a_normalisation_of_rows_is_one_layer_or_none(tmp_path: Path, stored: bool, pieces: bool) -> None:
    """Behind a product that nobody else reads it is fused, with other readers it is one memory layer."""
    builder = ModelBuilder((1, 5, 8))
    plain(builder, "x", "a", "MatMul", 8, 8)
    if pieces:
        mean = builder.node("ReduceMean", ["a"], "mean", axes=[-1])
        centred = builder.node("Sub", ["a", mean], "centred")
        square = builder.node("Pow", [centred, builder.constant("two", 2)], "square")
        variance = builder.node("ReduceMean", [square], "variance", axes=[-1])
        shifted = builder.node("Add", [variance, builder.constant("eps", 1e-5)], "shifted")
        builder.node("Div", [centred, builder.node("Sqrt", [shifted], "root")], "n")
    else:
        builder.node("LayerNormalization", ["a", builder.constant("g", np.ones(8))], "n")
    plain(builder, "n", "b", "MatMul", 8, 8)
    outputs = ["b"]
    if stored:
        builder.node("Add", ["b", "a"], "s")
        outputs = ["s"]
    path, x = builder.save(tmp_path / "m.onnx", outputs), save_input(tmp_path / "x.npy", (1, 5, 8))
    workload, _ = loaded(path, x)
    kinds = [node.layer.kind for node in workload.network]
    assert kinds == (["linear", "add", "linear"] if stored else ["linear", "linear"])
    floats = captured(path, x)
    read = floats.read(f"activations/{workload.network.nodes[-1].reads}")
    rows = np.load(x)[0] @ builder.constants["w_a"]
    wanted = (rows - rows.mean(-1, keepdims=True)) / np.sqrt(rows.var(-1, keepdims=True) + 1e-5)
    assert np.allclose(read, wanted, atol=1e-4)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "GRU that resets before", "RNN"])
def test_recurrences_in_every_direction(tmp_path: Path, kind: str, direction: str) -> None:
    steps, channels, units = 4, 6, 5
    kind, _, before = kind.partition(" that ")
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    ways = 2 if direction == "bidirectional" else 1
    builder = ModelBuilder((steps, 1, channels))
    names = [
        builder.random("w", ways, gates * units, channels),
        builder.random("r", ways, gates * units, units),
        builder.random("b", ways, 2 * gates * units),
    ]
    rest = {"linear_before_reset": int(not before)} if kind == "GRU" else {}
    builder.node(kind, ["x", *names], "y", hidden_size=units, direction=direction, **rest)
    turned = builder.node("Transpose", ["y"], "t", perm=[0, 2, 1, 3])
    shape = builder.constant("s", [steps, ways * units], np.int64)
    plain(builder, builder.node("Reshape", [turned, shape], "f"), "o", "MatMul", ways * units, 3)
    path, x = builder.save(tmp_path / "m.onnx"), save_input(tmp_path / "x.npy", (steps, 1, channels))
    workload, integers = loaded(path, x)
    assert workload.macs == sum(count_macs(onnx.load(str(path)), {"x": (steps, 1, channels)}).values())
    last = workload.network.nodes[-1]
    out = reference(path, {"x": np.load(x)})[0]
    assert np.allclose(products(workload, integers.description)[last.name], out, atol=2e-3)
    if direction == "reverse":
        order = [node.name for node in workload.network if ".h[" in node.name]
        assert order == [f"n_y.h[{t}]" for t in reversed(range(steps))]
        rows = [node.shortcut_row for node in workload.network if ".h[" in node.name]
        assert rows == list(reversed(range(steps)))
    assert simulate(workload, load_topology("dpred_stripes_ddr4")).complete
    if before:
        # The gates and the hidden states computed anew: the first product opens the way for the second.
        for node in workload.network:
            if ".r[" in node.name:
                way = 1 if ".reverse" in node.name else 0
                check_reset(workload, integers.description, node, builder.constants, way)


def check_reset(workload: Workload, description: Any, node: Any, constants: Any, way: int) -> None:
    about, units = description["activations"], node.layer.output_channels
    state = node.layer.activations.load().values[0] * about[owner(node.reads)]["scale"]
    added = workload.network.tensor(node.shortcut).load().values[node.shortcut_row]  # type: ignore[union-attr]
    added = (added * about[node.shortcut]["scale"]).reshape(units, 2)[:, 1]
    gate = constants["r"][way, units : 2 * units] @ state + constants["b"][way, 4 * units : 5 * units]
    wanted = state / (1 + np.exp(-(added + gate)))
    stored = node.layer.outputs.load().values[0] * about[owner(node.name)]["scale"]
    assert np.allclose(stored, wanted, atol=2e-3)


def test_an_initial_state_that_is_fed(tmp_path: Path) -> None:
    builder = ModelBuilder((3, 1, 4))
    names = [builder.random("w", 1, 20, 4), builder.random("r", 1, 20, 5)]
    builder.node("LSTM", ["x", *names, "", "", "h", "c"], "y", hidden_size=5)
    builder.nodes[-1].output.extend(["hn", "cn"])
    flat = builder.node("Squeeze", ["y", builder.constant("i", [1, 2], np.int64)], "f")
    plain(builder, flat, "o", "MatMul", 5, 2)
    path = builder.save(tmp_path / "m.onnx", ["o", "hn", "cn"])
    model = onnx.load(str(path))
    model.graph.input.extend(onnx.helper.make_tensor_value_info(name, 1, [1, 1, 5]) for name in "hc")
    onnx.save(model, str(path))
    rng = np.random.default_rng(2)
    fed = {"x": rng.normal(size=(3, 1, 4)), "h": rng.normal(size=(1, 1, 5)), "c": rng.normal(size=(1, 1, 5))}
    fed = {name: values.astype(np.float32) for name, values in fed.items()}
    np.savez(tmp_path / "x.npz", **fed)
    workload, integers = loaded(path, tmp_path / "x.npz")
    floats = captured(path, tmp_path / "x.npz")
    first = next(node for node in workload.network if node.name == "n_y.h[0]")
    assert first.reads == "h"
    state = first.layer.activations.load().values * integers.description["activations"]["h"]["scale"]
    assert np.allclose(state, fed["h"][0], atol=1e-3)
    assert np.allclose(floats.read("activations/n_y.c"), reference(path, fed)[2][0], atol=1e-6)
    # Rounding finds its way to and out of the recurrence.
    profile = profile_model(file_subject(path, [tmp_path / "x.npz"] * 3))
    assert set(profile.activations) == {"input", "h", "c", "n_y.x", "n_y", "n_y.c", "n_o"}
    assert profile.about["joint_error"] <= 0.05
    assert simulate(workload, load_topology("dpred_stripes_ddr4")).complete


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 15, 17, 19, 21, 23])
def test_opsets_since_seven(tmp_path: Path, opset: int) -> None:
    builder = ModelBuilder((1, 3, 8, 8))
    builder.node("Relu", [builder.conv("x", "c", 6, 3)], "r")
    builder.node("MaxPool", ["r"], "p", kernel_shape=[2, 2], strides=[2, 2])
    builder.node("Flatten", ["p"], "f")
    builder.node("Gemm", ["f", builder.random("g", 54, 4), builder.random("h", 4)], "g1")
    builder.node("Softmax", ["g1"], "out", axis=1)
    path, x = builder.save(tmp_path / "m.onnx", opset=opset), save_input(tmp_path / "x.npy", (1, 3, 8, 8))
    workload, _ = loaded(path, x)
    assert [node.layer.kind for node in workload.network] == ["conv", "linear"]


def test_an_opset_that_is_too_old_is_refused(tmp_path: Path) -> None:
    builder = ModelBuilder((1, 3, 8, 8))
    builder.conv("x", "c", 6, 3)
    path = builder.save(tmp_path / "m.onnx", opset=6)
    with pytest.raises(InputError, match="opset that is too old; found 6"):
        loaded(path, save_input(tmp_path / "x.npy", (1, 3, 8, 8)))


def test_a_branch_that_the_input_decides(tmp_path: Path) -> None:
    """An If on a whole number that is fed: the branch that is taken becomes part of the network."""
    info = onnx.helper.make_tensor_value_info
    rng = np.random.default_rng(0)
    branches = {}
    for name, filters in (("then_branch", 4), ("else_branch", 5)):
        weights = onnx.numpy_helper.from_array(rng.normal(size=(filters, 3, 1, 1)).astype(np.float32), "w")
        node = onnx.helper.make_node("Conv", ["x", "w"], ["y"])
        branches[name] = onnx.helper.make_graph([node], name, [], [info("y", 1, None)], [weights])
    nodes = [
        onnx.helper.make_node("Equal", ["rate", "wide"], ["is_wide"]),
        onnx.helper.make_node("If", ["is_wide"], ["out"], name="choice", **branches),
    ]
    wide = onnx.numpy_helper.from_array(np.array(16, dtype=np.int64), "wide")
    inputs = [info("x", 1, [1, 3, 4, 4]), info("rate", 7, [])]
    graph = onnx.helper.make_graph(nodes, "g", inputs, [info("out", 1, None)], [wide])
    path = tmp_path / "m.onnx"
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path
    )
    for rate, filters in ((16, 4), (8, 5)):
        np.savez(tmp_path / "x.npz", x=np.ones((1, 3, 4, 4), np.float32), rate=np.array(rate))
        workload, _ = loaded(path, tmp_path / "x.npz")
        assert [node.layer.filters for node in workload.network] == [filters]


@pytest.mark.parametrize(
    ("kind", "domain", "said"),
    [
        ("DeformConv", "", "separate models"),
        ("STFT", "", "Fourier basis"),
        ("Mystery", "", "replace it"),
        ("Mystery", "my.own", "at most ORT_ENABLE_BASIC"),
        ("Conv", "my.own", "at most ORT_ENABLE_BASIC"),
        ("TreeEnsembleRegressor", "ai.onnx.ml", "export the neural network alone"),
    ],
)
def test_what_cannot_be_carried_is_named_with_what_to_do(
    tmp_path: Path, kind: str, domain: str, said: str
) -> None:
    builder = ModelBuilder((1, 4))
    builder.node(
        "MatMul", [plain(builder, "x", "a", kind, 4, 4, domain=domain), builder.random("w", 4, 3)], "y"
    )
    path = builder.save(tmp_path / "m.onnx")
    with pytest.raises(InputError) as caught:
        loaded(path, save_input(tmp_path / "x.npy", (1, 4)))
    text = str(caught.value)
    assert "node 'n_a'" in text and kind in text and said in text and "docs/importer.md" in text


@pytest.mark.parametrize("name", ["squeezenet", "shufflenet"])
def test_models_that_the_onnx_package_ships(tmp_path: Path, name: str) -> None:
    """Structure and MACs of published networks; their constants are not trained."""
    path = Path(onnx.__file__).parent / "backend/test/data/light" / f"light_{name}.onnx"
    if not path.is_file():
        pytest.skip("the onnx package ships no light models")
    model = onnx.load(str(path))
    constants = {tensor.name for tensor in model.graph.initializer}
    (reads,) = (value.name for value in model.graph.input if value.name not in constants)
    x = save_input(tmp_path / "x.npy", (1, 3, 224, 224), scale=0.1)
    workload, _ = loaded(path, x)
    assert workload.macs == sum(count_macs(model, {reads: (1, 3, 224, 224)}).values())
    operators = [node.op_type for node in model.graph.node]
    compute = [node for node in workload.network if node.layer.weights is not None]
    assert len(compute) == operators.count("Conv") + operators.count("Gemm")
    assert len(workload.network.joins) == operators.count("Concat")


def test_what_is_planned_does_not_depend_on_the_values(tmp_path: Path) -> None:
    builder = ModelBuilder((1, 6, 8, 6))
    plain(builder, "x", "c", "Conv", 6, 6, 1, 1)
    builder.node("Mul", ["c", builder.node("GlobalAveragePool", ["c"], "g")], "m")
    path = builder.save(tmp_path / "m.onnx")
    plans = []
    for seed in (1, 2):
        x = save_input(tmp_path / f"{seed}.npy", (1, 6, 8, 6), seed=seed)
        plans.append([layer.settings for layer in Captor(file_subject(path, [x])).plan.layers])
    assert plans[0] == plans[1]


def test_layers_are_layers(tmp_path: Path) -> None:
    """A move reads what it reads: its rows are those of all it reads, its outputs of any shape."""
    import dpred_sim as dp

    a, b = dp.Tensor(np.ones((4, 3, 2), int), bits=16), dp.Tensor(np.ones((5, 7), int), bits=16)
    layer = Layer.move("m", a, (6, 2, 9), [b])
    assert (layer.source_rows, layer.conv_height, layer.filters, layer.macs) == (9, 9, 9, 0)
    assert layer.output_shape == (6, 2, 9)
    with pytest.raises(InputError, match="shapes do not fit"):
        Layer.move("m", a, (6, 0, 9))
