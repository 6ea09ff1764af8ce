"""Control flow that the inputs fix, functions, lists of tensors and Einsum: values against onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpred_sim.errors import InputError
from tests.workload.onnx_models import ModelBuilder, captured, loaded, save_input

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
helper = onnx.helper
FLOAT, INT, BOOL = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.BOOL


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPRED_SIM_CACHE", str(tmp_path / "cache"))


def info(name: str, kind: int = FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, None)


def node(kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> Any:
    return helper.make_node(kind, list(inputs), [output], name=f"n_{output}", **attributes)


def constant(output: str, values: Any, dtype: Any = np.int64) -> Any:
    return node("Constant", [], output, value=onnx.numpy_helper.from_array(np.asarray(values, dtype), output))


def macs_of(path: Path, folder: Path, shape: Sequence[int]) -> int:
    """Multiply-accumulates of a model, whose last layer stores what onnxruntime gives."""
    x = save_input(folder / "x.npy", shape)
    workload, _ = loaded(path, x)
    floats = captured(path, x)
    wanted = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"x": np.load(x)})
    stored = floats.read(f"activations/{floats.description['outputs'][-1]}")
    assert np.allclose(np.sort(stored.ravel()), np.sort(wanted[-1].ravel()), atol=1e-5)
    return workload.macs


def loop_body(
    m: ModelBuilder, inner: Sequence[Any], state: str, stacked: Sequence[str], condition: Any
) -> Any:
    return helper.make_graph(
        [*inner, condition],
        "body",
        [
            helper.make_tensor_value_info("turn", INT, []),
            helper.make_tensor_value_info("going", BOOL, []),
            info("state"),
        ],
        [info("go_on", BOOL), info(state), *(info(name) for name in stacked)],
        [onnx.numpy_helper.from_array(np.float32(m.rng.normal(0, 0.5, (6, 6))), "inside")],
    )


ALWAYS = ("Identity", ["going"], "go_on")


@pytest.mark.parametrize("turns", ["constant", "shape", "condition"])
@pytest.mark.parametrize("opset", [11, 13, 21])
def test_a_loop_is_unrolled(tmp_path: Path, turns: str, opset: int) -> None:
    m = ModelBuilder((3, 6))
    inner = [
        node("MatMul", ["state", "outer"], "a"),
        node("MatMul", ["a", "inside"], "b"),
        node("Relu", ["b"], "c"),
    ]
    m.random("outer", 6, 6)
    going = node(*ALWAYS)
    most = m.constant("most", 3, np.int64)
    if turns == "shape":
        m.node("Gather", [m.node("Shape", ["x"], "s"), m.constant("zero", 0, np.int64)], "rows")
        most = "rows"
    elif turns == "condition":
        # It ends by itself after the third turn.
        inner.append(constant("two", 2))
        going, most = node("Less", ["turn", "two"], "go_on"), ""
    body = loop_body(m, inner, "c", ["a"], going)
    made = helper.make_node(
        "Loop", [most, m.constant("begin", True, bool), "x"], ["last", "all"], name="loop", body=body
    )
    m.nodes.append(made)
    m.node("MatMul", ["all", m.random("w", 6, 2)], "y")
    path = m.save(tmp_path / "m.onnx", opset=opset)
    # No output needs the second product of the last turn.
    assert macs_of(path, tmp_path, (3, 6)) == (2 * 3 - 1) * 3 * 6 * 6 + 3 * 3 * 6 * 2


def test_both_results_of_a_loop(tmp_path: Path) -> None:
    m = ModelBuilder((3, 6))
    inner = [node("MatMul", ["state", "inside"], "a"), node("Tanh", ["a"], "c")]
    body = loop_body(m, inner, "c", ["a"], node(*ALWAYS))
    m.nodes.append(
        helper.make_node(
            "Loop", [m.constant("most", 4, np.int64), "", "x"], ["last", "all"], name="l", body=body
        )
    )
    m.node("MatMul", ["last", m.random("v", 6, 5)], "z")
    path = m.save(tmp_path / "m.onnx", ["all", "z"])
    assert macs_of(path, tmp_path, (3, 6)) == 4 * 3 * 6 * 6 + 3 * 6 * 5


@pytest.mark.parametrize("reverse", [0, 1])
def test_a_scan_is_unrolled(tmp_path: Path, reverse: int) -> None:
    m = ModelBuilder((5, 6))
    body = helper.make_graph(
        [
            node("Unsqueeze", ["each", "axis"], "row"),
            node("MatMul", ["row", "w"], "p"),
            node("Add", ["p", "state"], "new"),
            node("Identity", ["new"], "out"),
        ],
        "body",
        [info("state"), info("each")],
        [info("new"), info("out")],
    )
    m.constant("axis", [0], np.int64)
    m.random("w", 6, 4)
    m.constant("zero", np.zeros((1, 4)))
    m.nodes.append(
        helper.make_node(
            "Scan",
            ["zero", "x"],
            ["last", "all"],
            name="scan",
            body=body,
            num_scan_inputs=1,
            scan_input_directions=[reverse],
            scan_output_directions=[reverse],
        )
    )
    m.node("MatMul", ["all", m.random("v", 4, 2)], "y")
    assert macs_of(m.save(tmp_path / "m.onnx"), tmp_path, (5, 6)) == 5 * 6 * 4 + 5 * 4 * 2


def test_a_branch_inside_a_loop(tmp_path: Path) -> None:
    m = ModelBuilder((3, 6))
    then = helper.make_graph([node("MatMul", ["state", "inside"], "t")], "then", [], [info("t")])
    other = helper.make_graph([node("Relu", ["state"], "e")], "else", [], [info("e")])
    inner = [
        constant("one", 1),
        node("Equal", ["turn", "one"], "is_one"),
        node("If", ["is_one"], "c", then_branch=then, else_branch=other),
    ]
    body = loop_body(m, inner, "c", [], node(*ALWAYS))
    m.nodes.append(
        helper.make_node("Loop", [m.constant("most", 3, np.int64), "", "x"], ["last"], name="l", body=body)
    )
    m.node("MatMul", ["last", m.random("v", 6, 5)], "z")
    # The first and the last turn only rectify.
    assert macs_of(m.save(tmp_path / "m.onnx"), tmp_path, (3, 6)) == 3 * 6 * 6 + 3 * 6 * 5


def test_lists_of_tensors_are_resolved(tmp_path: Path) -> None:
    m = ModelBuilder((4, 6))
    m.node("SplitToSequence", ["x", m.constant("two", 2, np.int64)], "parts", axis=0)
    m.node("SequenceAt", ["parts", m.constant("first", 0, np.int64)], "a")
    m.node("SequenceInsert", ["parts", m.node("MatMul", ["a", m.random("w", 6, 6)], "p")], "more")
    m.node("SequenceErase", ["more", "first"], "less")
    m.node("ConcatFromSequence", ["less"], "stacked", axis=0, new_axis=1)
    m.node("MatMul", ["stacked", m.random("v", 6, 3)], "y")
    assert macs_of(m.save(tmp_path / "m.onnx"), tmp_path, (4, 6)) == 2 * 6 * 6 + 2 * 2 * 6 * 3


def test_functions_of_the_model_are_inlined(tmp_path: Path) -> None:
    m = ModelBuilder((4, 6))
    m.node("Twice", ["x", m.random("w", 6, 6)], "y", domain="my.own")
    path = m.save(tmp_path / "m.onnx")
    proto = onnx.load(str(path))
    body = [node("MatMul", ["a", "b"], "c"), node("MatMul", ["c", "b"], "d")]
    opset = [helper.make_opsetid("", 17)]
    proto.functions.append(helper.make_function("my.own", "Twice", ["a", "b"], ["d"], body, opset))
    proto.opset_import.append(helper.make_opsetid("my.own", 1))
    onnx.save(proto, str(path))
    assert macs_of(path, tmp_path, (4, 6)) == 2 * 4 * 6 * 6


def test_operators_that_onnx_defines_by_others(tmp_path: Path) -> None:
    m = ModelBuilder((1, 2, 5, 8))
    m.node("Attention", ["x", m.node("Relu", ["x"], "k"), m.node("Neg", ["x"], "v")], "y")
    m.node("Abs", ["y"], "out")
    path = m.save(tmp_path / "m.onnx", opset=23)
    assert macs_of(path, tmp_path, (1, 2, 5, 8)) == 2 * (2 * 5 * 5 * 8)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ([constant("no", False, bool), node("Identity", ["no"], "go_on")], None),
        ([node("Identity", ["going"], "go_on")], "more than"),
    ],
)
def test_a_loop_without_a_number_of_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: list[Any], said: str | None
) -> None:
    monkeypatch.setattr("dpred_sim.workload.importers.onnx_flatten.MOST_NODES", 200)
    m = ModelBuilder((3, 6))
    graph = loop_body(m, [node("MatMul", ["state", "inside"], "a"), *body[:-1]], "a", [], body[-1])
    m.nodes.append(helper.make_node("Loop", ["", "", "x"], ["last"], name="endless", body=graph))
    m.node("Neg", ["last"], "y")
    path = m.save(tmp_path / "m.onnx")
    if said is None:
        assert macs_of(path, tmp_path, (3, 6)) == 3 * 6 * 6
        return
    with pytest.raises(InputError, match="unrolled, the model has more than 200 operators"):
        loaded(path, save_input(tmp_path / "x.npy", (3, 6)))


EQUATIONS = [
    ("ij,jk->ik", (3, 4), (4, 5), 3 * 4 * 5),
    ("ij,kj->ki", (3, 4), (5, 4), 3 * 4 * 5),
    ("bij,bjk->bik", (2, 3, 4), (2, 4, 5), 2 * 3 * 4 * 5),
    ("bhid,bhjd->bhij", (2, 2, 3, 4), (2, 2, 5, 4), 2 * 2 * 3 * 5 * 4),
    ("...ij,jk->...ik", (2, 3, 4), (4, 5), 2 * 3 * 4 * 5),
    ("bijc,hkc->bhijk", (1, 2, 3, 4), (3, 5, 4), 2 * 3 * 3 * 5 * 4),
    ("ij,jk", (3, 4), (4, 5), 3 * 4 * 5),
    ("ijs,jk->ki", (3, 4, 2), (4, 5), 3 * 4 * 5),
    ("ij,ij->ij", (3, 4), (3, 4), 0),
    ("i,j->ji", (3,), (4,), 0),
    ("ij,ij->", (3, 4), (3, 4), 12),
]


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize(("equation", "first", "second", "macs"), EQUATIONS)
def test_einsum_is_products(
    tmp_path: Path, equation: str, first: Sequence[int], second: Sequence[int], macs: int, fixed: bool
) -> None:
    size = int(np.prod(first)) + int(np.prod(second))
    m = ModelBuilder((1, size))
    m.node("Split", ["x", m.constant("cut", [np.prod(first), np.prod(second)], np.int64)], "p", axis=1)
    m.nodes[-1].output[:] = ["p", "q"]
    m.node("Reshape", ["p", m.constant("fa", first, np.int64)], "a")
    other = (
        m.random("w", *second) if fixed else m.node("Reshape", ["q", m.constant("fb", second, np.int64)], "b")
    )
    m.node("Einsum", ["a", other], "e", equation=equation)
    m.node("Reshape", ["e", m.constant("flat", [1, -1], np.int64)], "r")
    columns = np.einsum(equation, np.ones(first), np.ones(second)).size
    m.node("MatMul", ["r", m.random("v", columns, 2)], "y")
    found = macs_of(m.save(tmp_path / "m.onnx"), tmp_path, (1, size))
    assert found == macs + columns * 2


def test_einsum_of_three_operands_and_a_diagonal(tmp_path: Path) -> None:
    m = ModelBuilder((3, 4))
    m.node("Einsum", ["x", m.random("a", 4, 5), m.random("b", 5, 2)], "y", equation="ij,jk,kl->li")
    assert macs_of(m.save(tmp_path / "m.onnx"), tmp_path, (3, 4)) == 3 * 4 * 5 + 3 * 5 * 2
    m = ModelBuilder((4, 4))
    m.node("Einsum", ["x", m.random("a", 4, 5)], "y", equation="ii,ik->k")
    with pytest.raises(InputError, match=r"node 'n_y': a diagonal.*Einsum"):
        loaded(m.save(tmp_path / "d.onnx"), save_input(tmp_path / "x.npy", (4, 4)))
