"""The profile search against a brute-force one in numpy, and profiles as files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpred_sim.errors import InputError
from dpred_sim.values.quantise import quantise_fixed
from dpred_sim.workload.capture import file_inputs, file_subject
from dpred_sim.workload.profile import Format, Profile, read_profile, write_profile
from tests.workload.onnx_models import ModelBuilder, save_input

SHAPE = (1, 3, 6, 6)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPRED_SIM_CACHE", str(tmp_path / "cache"))


class Network:
    """conv 1x1, ReLU, flatten, Gemm, softmax: as a model and in numpy."""

    def __init__(self, folder: Path) -> None:
        pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")
        model = ModelBuilder(SHAPE)
        model.node("Relu", [model.conv("x", "c", 8, 3, kernel=1)], "r")
        model.node("Flatten", ["r"], "f")
        model.node("Gemm", ["f", model.random("w_g", 288, 10), model.random("b_g", 10)], "g", alpha=1.5)
        model.node("Softmax", ["g"], "out", axis=1)
        self.constants = model.constants
        self.path = model.save(folder / "net.onnx")
        self.inputs = [save_input(folder / f"{i}.npy", SHAPE, seed=i) for i in range(5)]
        arrays = [np.load(path)[0].reshape(3, 36) for path in self.inputs]
        limits = [[np.abs(t).max() for t in self.tensors(a)] for a in arrays[:3]]
        self.limits = np.max(limits, axis=0)
        self.arrays = arrays

    def tensors(self, x: Any, rounded: dict[int, int] | None = None) -> list[Any]:
        """Input, weights, outputs of the convolution, weights, outputs of the Gemm; some of them rounded."""
        rounded = rounded or {}

        def at(index: int, values: Any) -> Any:
            if index not in rounded:
                return values
            signed = index != 2
            limit = float(self.limits[index])
            return quantise_fixed(values, rounded[index], signed=signed, limit=limit).dequantise()

        w, v = self.constants["w_c"][:, :, 0, 0], 1.5 * self.constants["w_g"]
        x, w = at(0, x), at(1, w)
        r = at(2, np.maximum(w @ x + self.constants["b_c"][:, None], 0))
        v = at(3, v)
        return [x, w, r, v, at(4, r.reshape(-1) @ v + self.constants["b_g"])]

    def change(self, x: Any, rounded: dict[int, int]) -> float:
        wanted = self.tensors(x)[-1]
        return float(np.linalg.norm(self.tensors(x, rounded)[-1] - wanted) / np.linalg.norm(wanted))


@pytest.fixture
def network(tmp_path: Path) -> Network:
    return Network(tmp_path)


def search(network: Network, **options: Any) -> Profile:
    from dpred_sim.workload.profile_search import profile_model

    subject = file_subject(network.path, network.inputs[:3])
    return profile_model(subject, held_out=file_inputs(network.inputs[3:]), **options)


def in_order(profile: Profile) -> list[Format]:
    acts, weights = profile.activations, profile.weights
    return [acts["input"], weights["n_c"], acts["n_c"], weights["n_g"], acts["n_g"]]


@pytest.mark.parametrize("tolerance", [0.002, 0.01, 0.1])
def test_precisions_are_the_smallest_within_the_tolerance(network: Network, tolerance: float) -> None:
    # With a wide joint tolerance nothing is added to what each tensor needs.
    profile = search(network, tolerance=tolerance, joint_tolerance=1.0)
    assert profile.about["added_bits"] == 0
    for index, found in enumerate(in_order(profile)):
        assert found.signed == (index != 2)
        assert found.limit == pytest.approx(float(network.limits[index]), rel=1e-5)
        passing = [
            precision
            for precision in range(2, 17)
            if all(network.change(x, {index: precision}) <= tolerance for x in network.arrays[:3])
        ]
        assert found.precision == min(passing)


@pytest.mark.parametrize("repair", ["everywhere", "fewest"])
def test_all_together_change_the_output_by_the_joint_tolerance_at_most(network: Network, repair: str) -> None:
    alone = in_order(search(network, tolerance=0.05, joint_tolerance=1.0))
    profile = search(network, tolerance=0.05, joint_tolerance=0.05, repair=repair)
    about = profile.about
    more = [f.precision - a.precision for f, a in zip(in_order(profile), alone, strict=True)]
    assert min(more) >= 0 and sum(more) == about["added_bits"] >= 1 and about["repair"] == repair

    def changes(formats: list[Format]) -> list[float]:
        return [network.change(x, {i: f.precision for i, f in enumerate(formats)}) for x in network.arrays]

    assert max(changes(alone)[:3]) > 0.05
    found = changes(in_order(profile))
    assert max(found[:3]) <= 0.05
    if repair == "everywhere":
        assert len(set(more)) == 1
        one_less = [Format(f.precision - 1, f.signed, f.limit) for f in in_order(profile)]
        assert max(changes(one_less)[:3]) > 0.05
    else:
        assert min(more) == 0
    assert [item["error"] for item in about["calibration"]] == pytest.approx(found[:3], rel=0.02)
    assert [item["error"] for item in about["held_out"]] == pytest.approx(found[3:], rel=0.02)
    assert about["joint_error"] == pytest.approx(max(found[:3]), rel=0.02)


def test_exact_shortcuts_leave_what_is_added_unrounded(tmp_path: Path) -> None:
    from dpred_sim.workload.profile_search import profile_model

    pytest.importorskip("onnxruntime")
    model = ModelBuilder(SHAPE)
    # Large values pass by a convolution with small weights: only the shortcut needs their precision.
    model.constants["small"] = np.full((1,), 0.01, np.float32)
    model.node("Relu", [model.conv("x", "c", 3, 3, kernel=1)], "r")
    model.node("Mul", ["r", "small"], "scaled")
    model.node("Add", [model.conv("scaled", "d", 3, 3, kernel=1), "r"], "out")
    subject = file_subject(
        model.save(tmp_path / "net.onnx"),
        [save_input(tmp_path / f"{i}.npy", SHAPE, seed=i) for i in range(3)],
    )
    kept, exact = (profile_model(subject, exact_shortcuts=flag) for flag in (False, True))
    assert "exact_shortcuts" not in kept.about and exact.about["exact_shortcuts"] is True
    assert exact.activations["n_c"].precision <= kept.activations["n_c"].precision - 3
    assert exact.weights["n_c"].precision == kept.weights["n_c"].precision


def test_what_only_additions_read_gets_the_median_and_the_output_stays_exact(tmp_path: Path) -> None:
    from dpred_sim.workload.profile_search import profile_model

    pytest.importorskip("onnxruntime")
    model = ModelBuilder(SHAPE)
    model.conv("x", "a", 8, 3, kernel=1)
    model.node("Relu", ["a"], "r")
    model.conv("r", "b", 8, 8, kernel=1)
    model.conv("r", "shortcut", 8, 8, kernel=1)
    model.node("Add", ["b", "shortcut"], "sum")
    model.conv("sum", "d", 8, 8, kernel=1)
    model.node("Relu", ["d"], "out")
    subject = file_subject(
        model.save(tmp_path / "net.onnx"),
        [save_input(tmp_path / f"{i}.npy", SHAPE, seed=i) for i in range(3)],
    )
    found = profile_model(subject, joint_tolerance=1.0, exact_shortcuts=True)
    bits = {name: fmt.precision for name, fmt in found.activations.items()}
    # The second of the added convolutions stores the sum; the first is read by the addition alone.
    assert list(bits) == ["input", "n_a", "n_b", "n_shortcut", "n_d"]
    others = sorted(bits[name] for name in ("input", "n_a", "n_shortcut"))
    assert others[0] > 2 and bits["n_b"] == bits["n_d"] == others[1]


def test_fewer_inputs_where_the_caller_says_so(network: Network) -> None:
    from dpred_sim.workload.profile_search import profile_model

    with pytest.raises(InputError, match="allowed: 1 or more"):
        profile_model(file_subject(network.path, []), least_inputs=1)
    found = profile_model(file_subject(network.path, network.inputs[:1]), least_inputs=1)
    assert len(found.about["calibration"]) == 1


def test_bits_that_do_not_help_are_not_added(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    from dpred_sim.workload import profile_search

    # With 8 bits at most nothing gets near 1 %, as one tensor needs more; the others' bits are no help.
    monkeypatch.setattr(profile_search, "MOST", 8)
    said: list[str] = []
    found = profile_search.profile_model(
        file_subject(network.path, network.inputs), joint_tolerance=0.01, report=said.append
    )
    assert found.about["joint_error"] > 0.01 and found.about["added_bits"] == 0
    assert min(fmt.precision for fmt in in_order(found)) < 8
    assert said[-1] == "no number of bits keeps to 1.0%: as many as help, 0"


def test_a_profile_needs_inputs_and_sensible_tolerances(network: Network) -> None:
    from dpred_sim.workload.profile_search import profile_model

    with pytest.raises(InputError, match="more calibration inputs"):
        profile_model(file_subject(network.path, network.inputs[:2]))
    with pytest.raises(InputError, match="tolerances"):
        search(network, tolerance=0.1, joint_tolerance=0.05)
    with pytest.raises(InputError, match="unknown repair"):
        search(network, repair="few")


def test_a_profile_survives_its_file(tmp_path: Path) -> None:
    formats = {"a/b": Format(7, False, 0.1 + 0.2), "c": Format(2, True, 0.0)}
    profile = Profile(
        "0" * 64, formats, {"é": Format(16, True, 1e-30)}, {"tolerance": 0.01, "inputs": [1, 2]}
    )
    write_profile(tmp_path / "p.json", profile)
    assert read_profile(tmp_path / "p.json") == profile


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": "dpred-profile/9"}, "dpred-profile/1"),
        ({"weights": []}, "weights"),
        ({"model_sha256": None}, "model_sha256"),
        ({"activations": {"x": {"precision": 0, "signed": False, "limit": 1}}}, "activations: x"),
        ({"activations": {"x": {"precision": 1, "signed": True, "limit": 1}}}, "activations: x"),
        ({"activations": {"x": {"precision": 8, "signed": 1, "limit": 1}}}, "activations: x"),
        ({"activations": {"x": {"precision": 8, "signed": True, "limit": -1}}}, "activations: x"),
        ({"activations": {"x": {"precision": 8, "signed": True}}}, "activations: x"),
        ({"activations": {"x": 8}}, "activations: x"),
        ({"activations": {"x": {"precision": 8, "signed": True, "limit": "inf"}}}, "activations: x"),
    ],
)
def test_what_is_wrong_in_a_profile_is_named(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    found = {"schema": "dpred-profile/1", "model_sha256": "0", "about": {}, "activations": {}, "weights": {}}
    path = tmp_path / "p.json"
    path.write_text(json.dumps({**found, **change}))
    with pytest.raises(InputError) as caught:
        read_profile(path)
    assert said in str(caught.value) and caught.value.file == str(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "\xff"])
def test_files_that_are_no_profiles(tmp_path: Path, text: str) -> None:
    path = tmp_path / "p.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"p\.json"):
        read_profile(path)
