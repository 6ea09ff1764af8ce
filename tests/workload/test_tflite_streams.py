"""Streaming int8 models: written here, converted, and compared with a call-by-call computation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpred_sim.errors import InputError
from dpred_sim.workload.trained.tflite_file import read_tflite
from dpred_sim.workload.trained.tflite_streams import convert_streams
from tests.workload.lite_models import RESOURCE, Graph, write

pytest.importorskip("tflite")

BANDS, STEP, CALLS = 6, 2, 40
SCALE = {"x": 0.1, "a": 0.04, "d": 0.05, "m": 0.03, "y": 0.02}
ZERO = {"x": -20, "a": -128, "d": 3, "m": -128, "y": 10}


class Net:
    """Two rows a call: a 5-row convolution, depthwise ones of 3 and 6 rows on halves, joined, 1 x 1, FC."""

    def __init__(self, start: int | None = None) -> None:
        rng = np.random.default_rng(5)
        self.main, self.first = Graph(), Graph()
        self.weights: dict[str, tuple[Any, Any, Any]] = {}
        self.start = start
        g = self.main

        def weights(name: str, *shape: int, source: str, filters: int) -> list[int]:
            values = rng.integers(-127, 128, shape).astype(np.int8)
            scales = rng.uniform(0.002, 0.006, filters).astype(np.float32)
            bias = rng.integers(-300, 300, filters).astype(np.int32)
            self.weights[name] = (values, scales, bias)
            return [g.constant(values, scales), g.constant(bias, scales * SCALE[source])]

        g.operator("CALL_ONCE", [], [])
        x = g.tensor([1, STEP, BANDS], scale=SCALE["x"], zero=ZERO["x"])
        rows = g.tensor([1, STEP, 1, BANDS], scale=SCALE["x"], zero=ZERO["x"])
        g.operator("RESHAPE", [x, g.constant(np.array([1, STEP, 1, BANDS], np.int32))], [rows])
        both = self.stream("one", rows, 3, STEP, BANDS, "x")
        a = g.tensor([1, 1, 1, 4], scale=SCALE["a"], zero=ZERO["a"])
        conv = {"Padding": 1, "StrideH": 1, "StrideW": 1, "FusedActivationFunction": 1}
        parts = weights("a", 4, 5, 1, BANDS, source="x", filters=4)
        g.operator("CONV_2D", [both, *parts], [a], "Conv2DOptions", **conv)
        past = self.stream("two", a, 5, 1, 4, "a")
        halves = [g.tensor([1, 6, 1, 2], scale=SCALE["a"], zero=ZERO["a"]) for _ in range(2)]
        sizes, axis = g.constant(np.array([2, 2], np.int32)), g.constant(np.array(3, np.int32))
        g.operator("SPLIT_V", [past, sizes, axis], halves)
        made = []
        for half, count in zip(halves, (3, 6), strict=True):
            seen = self.last(half, count, 2, "a")
            out = g.tensor([1, 1, 1, 2], scale=SCALE["d"], zero=ZERO["d"])
            options = {**conv, "FusedActivationFunction": 0, "DepthMultiplier": 1}
            parts = weights(f"d{count}", 1, count, 1, 2, source="a", filters=2)
            g.operator("DEPTHWISE_CONV_2D", [seen, *parts], [out], "DepthwiseConv2DOptions", **options)
            made.append(out)
        joined = g.tensor([1, 1, 1, 4], scale=SCALE["d"], zero=ZERO["d"])
        g.operator("CONCATENATION", made, [joined], "ConcatenationOptions", Axis=3)
        m = g.tensor([1, 1, 1, 3], scale=SCALE["m"], zero=ZERO["m"])
        parts = weights("m", 3, 1, 1, 4, source="d", filters=3)
        g.operator("CONV_2D", [joined, *parts], [m], "Conv2DOptions", **conv)
        y = g.tensor([1, 1], scale=SCALE["y"], zero=ZERO["y"])
        parts = weights("y", 1, 3, source="m", filters=1)
        g.operator("FULLY_CONNECTED", [m, *parts], [y], "FullyConnectedOptions", FusedActivationFunction=0)
        p = g.tensor([1, 1], scale=1 / 256, zero=-128)
        g.operator("LOGISTIC", [y], [p])
        g.inputs, g.outputs = [x], [p]

    def stream(self, name: str, new: int, history: int, step: int, channels: int, fmt: str) -> int:
        """`history` rows of a variable and the `step` new ones; the last ones are kept."""
        g, f = self.main, self.first
        handle, past, both = (
            g.tensor([], RESOURCE),
            g.tensor([1, history, 1, channels], scale=SCALE[fmt], zero=ZERO[fmt]),
            g.tensor([1, history + step, 1, channels], scale=SCALE[fmt], zero=ZERO[fmt]),
        )
        g.operator("VAR_HANDLE", [], [handle], "VarHandleOptions", SharedName=name)
        g.operator("READ_VARIABLE", [handle], [past])
        g.operator("CONCATENATION", [past, new], [both], "ConcatenationOptions", Axis=1)
        g.operator("ASSIGN_VARIABLE", [handle, self.last(both, history, channels, fmt)], [])
        there = f.tensor([], RESOURCE)
        value = ZERO[fmt] if self.start is None else self.start
        f.operator("VAR_HANDLE", [], [there], "VarHandleOptions", SharedName=name)
        f.operator(
            "ASSIGN_VARIABLE", [there, f.constant(np.full((1, history, 1, channels), value, np.int8))], []
        )
        return both

    def last(self, source: int, count: int, channels: int, fmt: str) -> int:
        g = self.main
        out = g.tensor([1, count, 1, channels], scale=SCALE[fmt], zero=ZERO[fmt])
        ends = ([0, -count, 0, 0], [0, 0, 0, channels], [1, 1, 1, 1])
        parts = [g.constant(np.array(values, np.int32)) for values in ends]
        options = {"BeginMask": 13, "EndMask": 15}
        g.operator("STRIDED_SLICE", [source, *parts], [out], "StridedSliceOptions", **options)
        return out

    def save(self, path: Path) -> Path:
        path.write_bytes(write([self.main, self.first]))
        return path


def rounded(real: Any, fmt: str) -> Any:
    return np.clip(np.floor(real / SCALE[fmt] + 0.5) + ZERO[fmt], -128, 127).astype(int)


def call_by_call(net: Net, x: Any) -> Any:
    """Probabilities: integers all the way, the last rows of each tensor kept from call to call."""
    w = net.weights
    kept = {"one": np.full((3, BANDS), ZERO["x"]), "two": np.full((5, 4), ZERO["a"])}
    out = []
    for call in range(CALLS):
        new = rounded(x[STEP * call : STEP * call + STEP], "x")
        rows = np.concatenate([kept["one"], new])
        kept["one"] = rows[-3:]
        values, scales, bias = w["a"]
        total = np.einsum("kric,rc->k", values.astype(int), rows - ZERO["x"]) + bias
        a = np.maximum(rounded(total * scales * SCALE["x"], "a"), ZERO["a"])
        past = np.concatenate([kept["two"], a[None]])
        kept["two"] = past[-5:]
        joined = []
        for count, half in ((3, past[-3:, :2]), (6, past[-6:, 2:])):
            values, scales, bias = w[f"d{count}"]
            total = (values[0, :, 0].astype(int) * (half - ZERO["a"])).sum(0) + bias
            joined.append(rounded(total * scales * SCALE["a"], "d"))
        d = np.concatenate(joined)
        values, scales, bias = w["m"]
        total = values[:, 0, 0].astype(int) @ (d - ZERO["d"]) + bias
        m = np.maximum(rounded(total * scales * SCALE["d"], "m"), ZERO["m"])
        values, scales, bias = w["y"]
        y = rounded((values.astype(int) @ (m - ZERO["m"]) + bias) * scales * SCALE["m"], "y")
        out.append(1 / (1 + np.exp(-(y[0] - ZERO["y"]) * SCALE["y"])))
    return np.array(out)


def test_a_whole_recording_gives_what_call_after_call_gives(tmp_path: Path) -> None:
    ort = pytest.importorskip("onnxruntime")
    net = Net()
    x = np.random.default_rng(1).normal(0, 4, (STEP * CALLS, BANDS)).astype(np.float32)
    session = ort.InferenceSession(convert_streams(net.save(tmp_path / "n.tflite")).SerializeToString())
    (found,) = session.run(None, {"input": x.T[None, :, :, None]})
    wanted = call_by_call(net, x)
    assert found.shape == (1, 1, CALLS, 1) and len(set(wanted)) > 10
    # A value just between two integers may round either way; one step of the logit is 0.02.
    assert np.abs(found.ravel() - wanted).max() < 0.02
    assert np.mean(np.abs(found.ravel() - wanted) < 1e-5) > 0.7


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    net = Net()
    main, first = read_tflite(net.save(tmp_path / "n.tflite"))
    assert [o.kind for o in main.operators] == [o[0] for o in net.main.operators]
    assert [o.inputs for o in main.operators] == [tuple(o[1]) for o in net.main.operators]
    for found, wanted in zip(main.tensors, net.main.tensors, strict=True):
        assert found.shape == tuple(wanted["shape"]) and (found.scales is None) == (wanted["scale"] is None)
        if wanted["values"] is not None:
            assert np.array_equal(found.values, wanted["values"])
        if found.scales is not None:
            assert np.array_equal(found.scales, wanted["scale"]) and found.zero_point == wanted["zero"]
    assert {o.options["SharedName"] for o in first.operators if o.kind == "VAR_HANDLE"} == {b"one", b"two"}


def replaced(net: Net, kind: str, **options: Any) -> None:
    for i, (found, inputs, outputs, table, old) in enumerate(net.main.operators):
        if found == kind:
            net.main.operators[i] = (found, inputs, outputs, table, {**old, **options})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda net: net.main.operator("SOFTMAX", [0], [0]), "an operator that is not converted"),
        (lambda net: replaced(net, "CONV_2D", FusedActivationFunction=3), "its activation"),
        (lambda net: replaced(net, "CONV_2D", DilationHFactor=2), "dilation"),
        (lambda net: replaced(net, "STRIDED_SLICE", BeginMask=15), "something else than the last rows"),
        (lambda net: replaced(net, "CONCATENATION", Axis=2), "joins something else"),
        (lambda net: net.main.tensors[0].update(kind=0), "is not int8"),
    ],
)
def test_what_is_not_converted_is_named(tmp_path: Path, change: Callable[[Net], None], said: str) -> None:
    net = Net()
    change(net)
    with pytest.raises(InputError) as caught:
        convert_streams(net.save(tmp_path / "n.tflite"))
    assert said in str(caught.value)


def test_variables_that_start_with_something_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the variable one starts with something else than zeros"):
        convert_streams(Net(start=7).save(tmp_path / "n.tflite"))


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    data = Net().save(tmp_path / "n.tflite").read_bytes()
    path = tmp_path / "bad.tflite"
    path.write_bytes(b"\0" * 100)
    with pytest.raises(InputError, match="not a TensorFlow Lite model"):
        convert_streams(path)
    for end in range(8, len(data), 97):
        path.write_bytes(data[:end])
        with pytest.raises(InputError):
            convert_streams(path)
