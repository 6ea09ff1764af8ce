"""Errors say where, what was found and what is allowed."""

from __future__ import annotations

import numpy as np
import pytest

from dpred_sim.errors import InputError, MissingExtra, nearest
from dpred_sim.values.tensor import LazyTensor, Tensor


def test_the_message_holds_every_known_part():
    error = InputError(
        "wrong unit",
        file="a.yaml",
        line=3,
        column=7,
        field="nodes.x.size",
        found="4 bananas",
        allowed=["bit", "B"],
    )
    assert str(error) == "a.yaml:3:7: nodes.x.size: wrong unit; found '4 bananas'; allowed: bit, B"
    assert error.to_dict()["line"] == 3
    assert "file" not in InputError("x").to_dict()


def test_long_values_are_cut():
    assert len(str(InputError("x", found="y" * 5000))) < 400


def test_hints_and_extras():
    assert nearest("dpredd", ["raw", "dpred"]) == " (did you mean 'dpred'?)"
    assert nearest("zzz", ["raw"]) == ""
    assert "dpred-sim[onnx]" in str(MissingExtra("onnx", "reading a model"))


def test_a_tensor_that_fails_when_it_is_made_names_the_users_line():
    def make() -> Tensor:
        return Tensor(np.zeros(3, dtype=np.int64) // np.array([], dtype=np.int64))

    with pytest.raises(InputError) as caught:
        LazyTensor((3,), 8, 8, False, make).load()
    assert caught.value.file == __file__
    assert "ValueError" in str(caught.value)


def test_a_lazy_tensor_must_be_what_was_declared():
    with pytest.raises(InputError, match="declared"):
        LazyTensor((4,), 8, 8, False, lambda: Tensor(np.ones(3, dtype=np.int64))).load()


@pytest.mark.parametrize(
    "values,options",
    [
        (np.zeros((0, 3), dtype=np.int64), {}),
        (np.array([1.5]), {}),
        (np.array([256]), {"bits": 8}),
        (np.array([-129]), {"bits": 8}),
        (np.array([128, -1]), {"bits": 8}),
        (np.array([-1]), {"bits": 8, "signed": False}),
        (np.array([1]), {"bits": 9}),
        (np.array([1]), {"bits": 8, "precision": 0}),
        (np.array([1]), {"bits": 8, "precision": 9}),
    ],
)
def test_tensors_refuse_what_they_cannot_hold(values, options):
    with pytest.raises(InputError):
        Tensor(values, **options)


def test_tensors_are_read_only_copies():
    values = np.array([1, 2, 3])
    tensor = Tensor(values)
    values[0] = 9
    assert tensor.values.tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="read-only"):
        tensor.values[0] = 5
