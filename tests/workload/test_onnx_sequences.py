"""LSTM, GRU and attention out of ONNX files: layers, and values against onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dpred_sim.errors import InputError
from dpred_sim.simulation.engine import simulate
from dpred_sim.simulation.systems import load_topology
from dpred_sim.values.quantise import quantise_fixed
from dpred_sim.workload.capture import file_subject
from dpred_sim.workload.profile_search import LEAST_INPUTS, profile_model
from tests.workload.onnx_models import ModelBuilder, captured, loaded, save_input

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
STEPS, CHANNELS, UNITS = 5, 6, 8


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPRED_SIM_CACHE", str(tmp_path / "cache"))


def recurrent(path: Path, kind: str, whole: bool, **attributes) -> Path:
    gates = 4 if kind == "LSTM" else 3
    builder = ModelBuilder((1, STEPS, CHANNELS))
    builder.node("Transpose", ["x"], "t", perm=[1, 0, 2])
    names = [builder.random("w", 1, gates * UNITS, CHANNELS), builder.random("r", 1, gates * UNITS, UNITS)]
    names.append(builder.random("b", 1, 2 * gates * UNITS))
    builder.node(kind, ["t", *names], "y", hidden_size=UNITS, **attributes)
    builder.nodes[-1].output.append("last")
    flat = builder.node("Squeeze", ["y" if whole else "last", builder.constant("a", [1], np.int64)], "flat")
    shape = builder.constant("s", [STEPS if whole else 1, UNITS], np.int64)
    builder.node("Gemm", [builder.node("Reshape", [flat, shape], "f"), builder.random("o", UNITS, 3)], "out")
    return builder.save(path)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_a_recurrence_is_captured(tmp_path: Path, kind: str, whole: bool) -> None:
    rest = {} if kind == "LSTM" else {"linear_before_reset": 1}
    model = recurrent(tmp_path / "m.onnx", kind, whole, **rest)
    x = save_input(tmp_path / "x.npy", (1, STEPS, CHANNELS))
    workload, integers = loaded(model, x)
    nodes = workload.network.nodes
    assert [node.name for node in nodes] == ["n_y.x", *(f"n_y.h[{t}]" for t in range(STEPS)), "n_out"]
    assert nodes[-1].reads == ("n_y" if whole else f"n_y.h[{STEPS - 1}]")

    # The steps computed anew from what was captured give the captured hidden states.
    def real(tensor, name, kind="activations"):
        return tensor.load().values * integers.description[kind][name]["scale"]

    bias = np.asarray(onnx_constant(model, "b"))[0]
    gates = 4 if kind == "LSTM" else 3
    over = bias[gates * UNITS :].reshape(gates, UNITS).T
    state, cell = np.zeros(UNITS), np.zeros(UNITS)
    for step, node in enumerate(nodes[1:-1]):
        added = real(workload.network.tensor("n_y.x"), "n_y.x")[step].reshape(UNITS, gates)
        assert np.abs(real(node.layer.activations, "n_y")[0] - state).max() < 2e-3
        weights = real(node.layer.weights, "n_y", "weights")
        product = (weights @ state).reshape(UNITS, gates) + over
        if kind == "LSTM":
            i, o, f, c = (added + product).T
            cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(c)
            state = sigmoid(o) * np.tanh(cell)
        else:
            update, reset = (sigmoid((added + product)[:, gate]) for gate in (0, 1))
            new = np.tanh(added[:, 2] + reset * product[:, 2])
            state = (1 - update) * new + update * state
        assert np.abs(real(node.layer.outputs, "n_y")[0] - state).max() < 2e-3
    assert simulate(workload, load_topology("dpred_stripes_ddr4")).complete


def onnx_constant(model: Path, name: str):
    import onnx

    found = next(t for t in onnx.load(str(model)).graph.initializer if t.name == name)
    return onnx.numpy_helper.to_array(found)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "GRU that resets before"])
def test_the_hidden_state_of_a_profiled_recurrence_is_rounded_at_every_step(
    tmp_path: Path, kind: str
) -> None:
    kind, _, before = kind.partition(" that ")
    rest = {} if kind == "LSTM" or before else {"linear_before_reset": 1}
    model = recurrent(tmp_path / "m.onnx", kind, True, **rest)
    inputs = [save_input(tmp_path / f"x{i}.npy", (1, STEPS, CHANNELS), seed=i) for i in range(LEAST_INPUTS)]
    profile = profile_model(file_subject(model, inputs), tolerance=0.02, joint_tolerance=0.05)
    gates = 4 if kind == "LSTM" else 3
    constants = {name: onnx_constant(model, name) for name in ("w", "r", "b", "o")}

    def at(values, name, kind="activations", rounded=True):
        if not rounded:
            return values
        fmt = getattr(profile, kind)[name]
        made = quantise_fixed(values, fmt.precision, signed=fmt.signed, limit=fmt.limit)
        return made.dequantise()

    def network(x, rounded):
        by_unit = np.swapaxes(constants["w"][0].reshape(gates, UNITS, CHANNELS), 0, 1).reshape(-1, CHANNELS)
        if before:
            return in_two(x, rounded)
        w = at(by_unit, "n_y.x", "weights", rounded)
        r = at(constants["r"][0], "n_y", "weights", rounded).reshape(gates, UNITS, UNITS)
        over, later = constants["b"][0].reshape(2, gates, UNITS)
        x = at(x, "input", rounded=rounded)
        added = at(x @ w.T + over.T.reshape(-1), "n_y.x", rounded=rounded).reshape(STEPS, UNITS, gates)
        state, cell, states = np.zeros(UNITS), np.zeros(UNITS), []
        for step in range(STEPS):
            product = r @ state + later
            if kind == "LSTM":
                i, o, f, c = added[step].T + product
                cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(c)
                state = sigmoid(o) * np.tanh(cell)
            else:
                update, reset = (sigmoid(added[step, :, gate] + product[gate]) for gate in (0, 1))
                new = np.tanh(added[step, :, 2] + reset * product[2])
                state = (1 - update) * new + update * state
            state = at(state, "n_y", rounded=rounded)
            states.append(state)
        out = np.stack(states) @ at(constants["o"], "n_out", "weights", rounded)
        return at(out, "n_out", rounded=rounded)

    def in_two(x, rounded):
        apart = constants["w"][0].reshape(3, UNITS, CHANNELS)
        both = np.swapaxes(apart[:2], 0, 1).reshape(-1, CHANNELS)
        r = at(constants["r"][0], "n_y", "weights", rounded).reshape(3, UNITS, UNITS)
        over, later = constants["b"][0].reshape(2, 3, UNITS)
        x = at(x, "input", rounded=rounded)
        gates_in = x @ at(both, "n_y.x", "weights", rounded).T + over[:2].T.reshape(-1)
        gates_in = at(gates_in, "n_y.x", rounded=rounded).reshape(STEPS, UNITS, 2)
        new_in = at(x @ at(apart[2], "n_y.xh", "weights", rounded).T + over[2], "n_y.xh", rounded=rounded)
        state, states = np.zeros(UNITS), []
        for step in range(STEPS):
            update, reset = (
                sigmoid(gates_in[step, :, gate] + r[gate] @ state + later[gate]) for gate in (0, 1)
            )
            opened = at(reset * state, "n_y.r", rounded=rounded)
            new = np.tanh(new_in[step] + r[2] @ opened + later[2])
            state = at((1 - update) * new + update * state, "n_y", rounded=rounded)
            states.append(state)
        out = np.stack(states) @ at(constants["o"], "n_out", "weights", rounded)
        return at(out, "n_out", rounded=rounded)

    for path, told in zip(inputs, profile.about["calibration"], strict=True):
        x = np.load(path)[0]
        wanted = network(x, False)
        change = np.linalg.norm(network(x, True) - wanted) / np.linalg.norm(wanted)
        assert told["error"] == pytest.approx(change, rel=0.15) and change <= 0.05
    # Rounding means something: fewer bits than all, in the recurrence too.
    assert profile.activations["n_y"].precision < 12 and profile.weights["n_y"].precision < 14


@pytest.mark.parametrize(
    ("kind", "attributes", "reason"),
    [
        ("LSTM", {"clip": 1.0}, "clip"),
        ("LSTM", {"activations": ["Relu", "Tanh", "Tanh"]}, "default activations"),
    ],
)
def test_other_recurrences_are_refused(tmp_path: Path, kind: str, attributes: dict, reason: str) -> None:
    model = recurrent(tmp_path / "m.onnx", kind, True, **attributes)
    with pytest.raises(InputError, match=reason):
        captured(model, save_input(tmp_path / "x.npy", (1, STEPS, CHANNELS)))


def block(path: Path, heads: int, depth: int) -> Path:
    width = heads * depth
    builder = ModelBuilder((1, STEPS, width))
    split = builder.constant("split", [1, STEPS, heads, depth], np.int64)
    for part in "qkv":
        product = builder.node("MatMul", ["x", builder.random(f"w{part}", width, width)], f"{part}0")
        biased = builder.node("Add", [product, builder.random(f"b{part}", width)], f"{part}1")
        shaped = builder.node("Reshape", [biased, split], f"{part}2")
        order = [0, 2, 3, 1] if part == "k" else [0, 2, 1, 3]
        builder.node("Transpose", [shaped], part, perm=order)
    scores = builder.node("MatMul", ["q", "k"], "scores")
    scaled = builder.node("Mul", [scores, builder.constant("scale", depth**-0.5)], "scaled")
    shares = builder.node("Softmax", [scaled], "shares", axis=-1)
    mixed = builder.node("MatMul", [shares, "v"], "mixed")
    back = builder.node("Transpose", [mixed], "back", perm=[0, 2, 1, 3])
    joined = builder.node("Reshape", [back, builder.constant("join", [1, STEPS, width], np.int64)], "joined")
    out = builder.node("MatMul", [joined, builder.random("wo", width, width)], "o")
    builder.node("Add", [out, "x"], "sum")
    return builder.save(path)


@pytest.mark.parametrize("heads", [1, 2])
def test_attention_is_captured(tmp_path: Path, heads: int) -> None:
    depth = 8
    model = block(tmp_path / "m.onnx", heads, depth)
    workload, integers = loaded(model, save_input(tmp_path / "x.npy", (1, STEPS, heads * depth)))
    network = workload.network
    found = {node.name: node for node in network}
    assert set(found) == {"n_k0", "n_q0", "n_v0", "n_scores", "n_mixed", "n_o"}
    about = integers.description["activations"]
    scores, mixed, out = (found[name] for name in ("n_scores", "n_mixed", "n_o"))
    assert (scores.second, mixed.second, out.shortcut) == ("n_k0", "n_v0", "input")

    def product(node):
        layer = node.layer
        values = layer.activations.load().values.astype(float).reshape(STEPS, heads, -1)
        weights = layer.weights.load().values.astype(float).reshape(heads, layer.filters // heads, -1)
        found = np.einsum("tgc,gkc->tgk", values, weights)
        return found * about[node.reads]["scale"] * about[node.second]["scale"]

    exponents = np.exp(product(scores) * depth**-0.5)
    shares = (exponents / exponents.sum(-1, keepdims=True)).reshape(STEPS, -1)
    stored = scores.layer.outputs.load().values * about["n_scores"]["scale"]
    assert np.abs(shares - stored).max() < 2e-3
    stored = mixed.layer.outputs.load().values * about["n_mixed"]["scale"]
    assert np.abs(product(mixed).reshape(STEPS, -1) - stored).max() < 2e-2
    assert simulate(workload, load_topology("dpred_stripes_ddr4"), verify=True).complete
