"""Models that are quantised already: values against onnxruntime, integers as they are stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpred_sim.errors import InputError
from dpred_sim.simulation.engine import simulate
from dpred_sim.simulation.systems import load_topology
from dpred_sim.workload.quantised import integers
from tests.workload.onnx_macs import count_macs
from tests.workload.onnx_models import ModelBuilder, captured, loaded, save_input

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
INPUT_STEP, STEP = 0.02, 0.05


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPRED_SIM_CACHE", str(tmp_path / "cache"))


def reference(path: Path, x: Any, outputs: list[str]) -> list[Any]:
    """What onnxruntime makes of the file as it is, tensors in between included."""
    model = onnx.load(str(path))
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in outputs)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})


def scale(m: ModelBuilder, name: str, value: Any) -> str:
    return m.constant(name, value)


def quantised(m: ModelBuilder, source: str, output: str, step: float, zero: int = 128) -> str:
    inputs = [source, scale(m, f"{output}_s", step), m.constant(f"{output}_z", zero, np.uint8)]
    return m.node("QuantizeLinear", inputs, output)


def real(m: ModelBuilder, source: str, output: str, form: str) -> str:
    return m.node("DequantizeLinear", [source, f"{form}_s", f"{form}_z"], output)


def int8_weights(
    m: ModelBuilder, name: str, *shape: int, per_channel: int | None = None
) -> tuple[str, str, str]:
    values = m.rng.integers(-127, 128, shape)
    m.constant(name, values, np.int8)
    count = 1 if per_channel is None else shape[per_channel]
    steps = m.rng.uniform(0.002, 0.01, count).astype(np.float32)
    form = () if per_channel is None else (count,)
    return (
        name,
        m.constant(f"{name}_s", steps.reshape(form)),
        m.constant(f"{name}_z", np.zeros(form), np.int8),
    )


def built(kind: str, per_channel: bool, zero: int) -> ModelBuilder:
    """Two convolutions with a ReLU between, as one of the ways in which quantised models are written."""
    axis = 0 if per_channel else None
    m = ModelBuilder((1, 3, 8, 8))
    quantised(m, "x", "xq", INPUT_STEP)
    m.constant("y_s", STEP)
    m.constant("y_z", zero, np.uint8)
    m.constant("z_s", STEP)
    m.constant("z_z", 128, np.uint8)
    first = int8_weights(m, "w1", 8, 3, 3, 3, per_channel=axis)
    second = int8_weights(m, "w2", 4, 8, 1, 1, per_channel=axis)
    if kind == "QLinearConv":
        m.constant("b1", m.rng.integers(-500, 500, 8), np.int32)
        m.node("QLinearConv", ["xq", "xq_s", "xq_z", *first, "y_s", "y_z", "b1"], "y", pads=[1] * 4)
        m.node("QLinearConv", ["y", "y_s", "y_z", *second, "z_s", "z_z"], "z")
    else:
        sums = []
        for source, form, weights, name in (("xq", "xq", first, "y"), ("y", "y", second, "z")):
            x = real(m, source, f"{source}_real", form)
            rest = {} if axis is None else {"axis": axis}
            w = m.node("DequantizeLinear", list(weights), f"{name}_w", **rest)
            sums.append(m.node("Conv", [x, w], f"{name}_sum", pads=[1 - (name == "z")] * 4))
            made = m.node("Relu", [sums[-1]], f"{name}_r") if name == "y" else sums[-1]
            m.node("QuantizeLinear", [made, f"{name}_s", f"{name}_z"], name)
    real(m, "z", "out", "z")
    return m


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("zero", [0, 128])
@pytest.mark.parametrize("kind", ["QLinearConv", "QDQ"])
def test_convolutions_in_8_bits_keep_what_is_stored(
    tmp_path: Path, kind: str, zero: int, per_channel: bool
) -> None:
    m = built(kind, per_channel, zero)
    path = m.save(tmp_path / "m.onnx")
    x = save_input(tmp_path / "x.npy", (1, 3, 8, 8))
    xq, y, z = reference(path, np.load(x), ["xq", "y", "z"])
    # In real numbers, up to one in the last place: onnxruntime rounds in its own way.
    floats = captured(path, x)
    names = list(floats.description["activations"])
    assert len(names) == 3
    wanted = [(q.astype(int) - o)[0].transpose(1, 2, 0) for q, o in ((xq, 128), (y, zero), (z, 128))]
    for name, integer, step in zip(names, wanted, (INPUT_STEP, STEP, STEP), strict=True):
        found = floats.read(f"activations/{name}") / step
        assert np.abs(found - np.rint(found)).max() < 1e-3
        assert np.abs(found - integer).max() < 1.001 and np.abs(found - integer).mean() < 0.02
    for bits in (8, 16):
        workload, _record = loaded(path, x, bits=bits, rule="profiled")
        layers = [node.layer for node in workload.network]
        for layer, name in zip(layers, ("w1", "w2"), strict=True):
            assert layer.weights is not None and layer.outputs is not None
            assert np.array_equal(layer.weights.load().values, m.constants[name].transpose(0, 2, 3, 1))
            assert (layer.weights.precision, layer.weights.signed) == (8, True)
        stored = layers[0].outputs
        assert stored is not None
        assert np.abs(stored.load().values.astype(int) - wanted[1]).max() <= 1
        assert stored.signed == (zero == 128 and kind == "QLinearConv")
        assert layers[0].activations.precision == 8
        assert workload.provenance["tensors_in_8_bits"] == workload.provenance["tensors_as_stored"] == 5
        assert simulate(workload, load_topology("dpred_stripes_ddr4"), verify=True).complete
    assert workload.macs == sum(count_macs(onnx.load(str(path)), {"x": (1, 3, 8, 8)}).values())
    # Full range asks for 16 bits, and gets them.
    full, _ = loaded(path, x, bits=16, rule="full_range")
    assert full.network.nodes[0].layer.weights.precision == 16  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["QLinearConv", "QDQ"])
def test_damaged_models_run_or_are_refused(tmp_path: Path, kind: str) -> None:
    """Bytes changed at random: whatever comes of it is one clear error, or a network."""
    data = built(kind, True, 0).save(tmp_path / "m.onnx").read_bytes()
    x = save_input(tmp_path / "x.npy", (1, 3, 8, 8))
    rng, refused = np.random.default_rng(3), 0
    for _ in range(60):
        spoiled = bytearray(data)
        for place in rng.integers(0, len(data), 3):
            spoiled[place] = rng.integers(256)
        (tmp_path / "m.onnx").write_bytes(spoiled)
        try:
            captured(tmp_path / "m.onnx", x)
        except InputError as error:
            refused += "m.onnx" in str(error)
    assert refused > 20


def test_an_asymmetric_tensor_needs_9_bits_relative_to_zero(tmp_path: Path) -> None:
    m = ModelBuilder((1, 3, 4, 4))
    quantised(m, "x", "xq", INPUT_STEP, zero=30)
    m.node("DequantizeLinear", [*int8_weights(m, "w", 4, 3, 1, 1)], "wr")
    m.node("Conv", [real(m, "xq", "xr", "xq"), "wr"], "out")
    path = m.save(tmp_path / "m.onnx")
    x = save_input(tmp_path / "x.npy", (1, 3, 4, 4), scale=4)
    wide, _ = loaded(path, x, bits=16, rule="profiled")
    values = wide.network.nodes[0].layer.activations
    assert values.precision == 9 and values.signed
    assert (values.load().values.min(), values.load().values.max()) == (-30, 225)
    # In 8 bits it cannot stay as it is: rounded anew, and the workload tells.
    narrow, _ = loaded(path, x, bits=8, rule="profiled")
    assert narrow.network.nodes[0].layer.activations.precision == 8
    assert narrow.provenance["tensors_in_8_bits"] == 2 and narrow.provenance["tensors_as_stored"] == 1


def test_weights_with_a_zero_point_are_stored_less_it(tmp_path: Path) -> None:
    m = ModelBuilder((1, 3, 4, 4))
    quantised(m, "x", "xq", INPUT_STEP)
    m.constant("w", m.rng.integers(0, 240, (4, 3, 1, 1)), np.uint8)
    m.constant("w_s", 0.01)
    m.constant("w_z", 120, np.uint8)
    m.node("Conv", [real(m, "xq", "xr", "xq"), real(m, "w", "wr", "w")], "out")
    path = m.save(tmp_path / "m.onnx")
    x = save_input(tmp_path / "x.npy", (1, 3, 4, 4))
    layer = loaded(path, x, bits=8, rule="profiled")[0].network.nodes[0].layer
    assert layer.weights is not None
    assert np.array_equal(
        layer.weights.load().values, m.constants["w"].transpose(0, 2, 3, 1).astype(int) - 120
    )
    found = captured(path, x).read("activations/n_out")
    (wanted,) = reference(path, np.load(x), ["out"])
    assert np.allclose(found, wanted[0].transpose(1, 2, 0), atol=1e-5)


def test_products_of_integers_that_are_quantised_as_they_come(tmp_path: Path) -> None:
    """DynamicQuantizeLinear and MatMulInteger, as onnxruntime's dynamic quantisation writes them."""
    m = ModelBuilder((1, 6, 16))
    m.nodes.append(onnx.helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], name="n_q"))
    for name, columns in (("a", 8), ("b", 5)):
        m.constant(f"w_{name}", m.rng.integers(-100, 100, (16, columns)), np.int8)
        m.constant(f"wz_{name}", 3, np.int8)
        m.node("MatMulInteger", ["q", f"w_{name}", "z", f"wz_{name}"], f"{name}_sum")
        m.node("Cast", [f"{name}_sum"], f"{name}_real", to=1)
        m.node("Mul", ["s", scale(m, f"{name}_s", 0.01)], f"{name}_step")
        m.node("Mul", [f"{name}_real", f"{name}_step"], f"{name}_out")
    path = m.save(tmp_path / "m.onnx", ["a_out", "b_out"])
    x = save_input(tmp_path / "x.npy", (1, 6, 16))
    workload, _record = loaded(path, x, bits=16, rule="profiled")
    # The tensor is stored once, whoever quantises it; both products read it.
    assert [(node.name, node.reads) for node in workload.network] == [
        ("n_a_sum", "input"),
        ("n_b_sum", "input"),
    ]
    assert workload.macs == 6 * 16 * (8 + 5)
    floats = captured(path, x)
    wanted = reference(path, np.load(x), ["a_out", "b_out"])
    for node, want in zip(workload.network, wanted, strict=True):
        assert np.allclose(floats.read(f"activations/{node.name}"), want[0], atol=1e-5)
        letter = node.name[2]
        assert node.layer.weights is not None
        assert np.array_equal(node.layer.weights.load().values, m.constants[f"w_{letter}"].T.astype(int) - 3)
    assert np.array_equal(floats.read("activations/input"), np.load(x)[0])


def test_integer_convolutions_and_quantised_products(tmp_path: Path) -> None:
    m = ModelBuilder((1, 3, 6, 6))
    quantised(m, "x", "xq", INPUT_STEP)
    m.constant("w", m.rng.integers(-100, 100, (4, 3, 3, 3)), np.int8)
    m.node("ConvInteger", ["xq", "w", "xq_z"], "sum")
    m.node("Mul", [m.node("Cast", ["sum"], "r", to=1), scale(m, "c", 1e-4)], "small")
    m.node("Reshape", ["small", m.constant("rows", [4, 16], np.int64)], "rows2")
    quantised(m, "rows2", "rq", STEP, 100)
    weights = int8_weights(m, "v", 16, 5)
    m.constant("o_s", STEP)
    m.constant("o_z", 90, np.uint8)
    m.node("QLinearMatMul", ["rq", "rq_s", "rq_z", *weights, "o_s", "o_z"], "o")
    real(m, "o", "out", "o")
    path = m.save(tmp_path / "m.onnx")
    x = save_input(tmp_path / "x.npy", (1, 3, 6, 6))
    workload, _ = loaded(path, x, bits=16, rule="profiled")
    assert workload.macs == sum(count_macs(onnx.load(str(path)), {"x": (1, 3, 6, 6)}).values())
    (o,) = reference(path, np.load(x), ["o"])
    last = workload.network.nodes[-1].layer
    assert last.outputs is not None
    assert np.abs(last.outputs.load().values.astype(int) - (o.astype(int) - 90)).max() <= 1
    assert simulate(workload, load_topology("dpred_stripes_ddr4")).complete


@pytest.mark.parametrize(
    "operator",
    [
        "QLinearAdd",
        "QLinearMul",
        "QLinearSigmoid",
        "QLinearSoftmax",
        "QLinearGlobalAveragePool",
        "QLinearConcat",
    ],
)
def test_quantised_operators_of_onnxruntime(tmp_path: Path, operator: str) -> None:
    m = ModelBuilder((1, 4, 6, 6))
    quantised(m, "x", "a", INPUT_STEP)
    m.constant("o_s", STEP)
    m.constant("o_z", 128, np.uint8)
    form = ["a_s", "a_z"]
    inputs = {
        "QLinearAdd": ["a", *form, "a", *form, "o_s", "o_z"],
        "QLinearMul": ["a", *form, "a", *form, "o_s", "o_z"],
        "QLinearSigmoid": ["a", *form, "o_s", "o_z"],
        "QLinearSoftmax": ["a", *form, "o_s", "o_z"],
        "QLinearGlobalAveragePool": ["a", *form, "o_s", "o_z"],
        "QLinearConcat": ["o_s", "o_z", "a", *form, "a", *form],
    }[operator]
    rest = {"QLinearConcat": {"axis": 1}, "QLinearSoftmax": {"axis": -1, "opset": 17}}.get(operator, {})
    m.node(operator, inputs, "o", domain="com.microsoft", **rest)
    channels = 8 if operator == "QLinearConcat" else 4
    m.node("Conv", [real(m, "o", "r", "o"), m.random("w", 3, channels, 1, 1)], "out")
    path = m.save(tmp_path / "m.onnx")
    model = onnx.load(str(path))
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, str(path))
    x = save_input(tmp_path / "x.npy", (1, 4, 6, 6))
    floats = captured(path, x)
    workload, _ = loaded(path, x)
    o, out = reference(path, np.load(x), ["o", "out"])
    read = floats.read(f"activations/{workload.network.nodes[-1].reads}") / STEP
    assert np.abs(read - (o.astype(int) - 128)[0].transpose(1, 2, 0)).max() < 1.001
    last = floats.read(f"activations/{workload.network.nodes[-1].name}")
    assert np.abs(last - out[0].transpose(1, 2, 0)).max() < 4 * STEP


def test_what_only_moves_values_moves_quantised_ones(tmp_path: Path) -> None:
    m = ModelBuilder((1, 4, 6, 6))
    quantised(m, "x", "a", INPUT_STEP)
    m.node("MaxPool", ["a"], "p", kernel_shape=[2, 2], strides=[2, 2])
    m.node("Transpose", ["p"], "t", perm=[0, 1, 3, 2])
    m.node("DequantizeLinear", [*int8_weights(m, "w", 3, 4, 1, 1)], "wr")
    m.node("Conv", [real(m, "t", "r", "a"), "wr"], "out")
    path = m.save(tmp_path / "m.onnx")
    x = save_input(tmp_path / "x.npy", (1, 4, 6, 6))
    workload, record = loaded(path, x, bits=8, rule="profiled")
    (p,) = reference(path, np.load(x), ["t"])
    conv = workload.network.nodes[-1].layer
    assert np.array_equal(conv.activations.load().values, (p.astype(int) - 128)[0].transpose(1, 2, 0))
    assert integers is not None and record.description["bits"] == 8
