"""Compute cycles and bit work of the designs against a public simulator (see tests/data/dnnsim)."""

import json
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpred_sim.designs.base import DESIGNS, Design, design
from dpred_sim.values.tensor import Tensor
from dpred_sim.workload.layer import Layer

DATA = Path(__file__).parents[1] / "data" / "dnnsim"
MANIFEST = json.loads((DATA / "manifest.json").read_text())
CASES = MANIFEST["cases"]


@cache
def layer_of(case: str) -> Layer:
    """The layer of a case, channel last and x along the width."""
    about = CASES[case]
    shape = about["layer"]
    arrays = {name: np.load(DATA / about[name]).astype(np.int64) for name in ("activations", "weights")}
    kinds = {"activations": about["activations_signed"], "weights": about["weights_signed"]}
    precision = {"activations": about["activation_precision"], "weights": about["weight_precision"]}
    if shape["type"] == "conv":
        arrays["activations"] = arrays["activations"][0].transpose(2, 1, 0)
        arrays["weights"] = arrays["weights"].transpose(0, 3, 2, 1)
    made = {
        name: Tensor(array, about["data_width"], kinds[name], precision[name])
        for name, array in arrays.items()
    }
    if shape["type"] == "fc":
        return Layer.linear(case, made["activations"], made["weights"])
    return Layer.conv2d(
        case,
        made["activations"],
        made["weights"],
        stride=shape["stride"],
        padding=shape["pad"],
        groups=shape["groups"],
    )


def design_of(case: str, configuration: str) -> Design:
    about = MANIFEST["configurations"][configuration]
    parameters = dict(about["parameters"])
    if about["design"] == "scnn":
        parameters["fully_connected"] = "folded"
    override: dict[str, Any] = CASES[case].get("parameter_override", {})
    if override and about["design"] != "scnn":
        special = [values for pattern, values in override.items() if fnmatch(configuration, pattern)]
        parameters.update(special[0] if special else override["default"])
    return design(about["design"], **parameters)


def known(kind: str) -> list[tuple[str, str]]:
    """(case, configuration) of all results whose design exists."""
    return [
        (case, name)
        for case, about in CASES.items()
        for name in about.get(kind, {})
        if MANIFEST["configurations"][name]["design"] in DESIGNS.names()
    ]


@pytest.mark.parametrize(("case", "configuration"), known("results"))
def test_compute_cycles(case: str, configuration: str) -> None:
    expected = CASES[case]["results"][configuration]["compute_cycles"]
    assert design_of(case, configuration).layer_cycles(layer_of(case)).total == expected


@pytest.mark.parametrize(("case", "configuration"), known("work_bits"))
def test_work_bits(case: str, configuration: str) -> None:
    made: Any = design_of(case, configuration)
    assert made.work_bits(layer_of(case)) == CASES[case]["work_bits"][configuration]


def test_every_result_is_compared() -> None:
    assert {about["design"] for about in MANIFEST["configurations"].values()} <= set(DESIGNS.names())
    assert len(known("results")) == sum(len(about["results"]) for about in CASES.values()) >= 200
