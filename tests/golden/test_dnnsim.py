"""Compute cycles and bit work of the designs against a public simulator (see tests/data/dnnsim*)."""

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

DATA = Path(__file__).parents[1] / "data"
FOLDERS = ("dnnsim", "dnnsim_sparse")
MANIFESTS = {folder: json.loads((DATA / folder / "manifest.json").read_text()) for folder in FOLDERS}


@cache
def layer_of(folder: str, case: str) -> Layer:
    """The layer of a case, channel last and x along the width."""
    about = MANIFESTS[folder]["cases"][case]
    shape = about["layer"]
    arrays = {
        name: np.load(DATA / folder / about[name]).astype(np.int64) for name in ("activations", "weights")
    }
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


def design_of(folder: str, case: str, configuration: str) -> Design:
    about = MANIFESTS[folder]["configurations"][configuration]
    parameters = dict(about["parameters"])
    if about["design"] == "scnn":
        parameters["fully_connected"] = "folded"
    override: dict[str, Any] = MANIFESTS[folder]["cases"][case].get("parameter_override", {})
    if override and about["design"] != "scnn":
        special = [values for pattern, values in override.items() if fnmatch(configuration, pattern)]
        parameters.update(special[0] if special else override["default"])
    return design(about["design"], **parameters)


def known(kind: str) -> list[tuple[str, str, str]]:
    """(folder, case, configuration) of all results."""
    return [
        (folder, case, name)
        for folder, manifest in MANIFESTS.items()
        for case, about in manifest["cases"].items()
        for name in about.get(kind, {})
    ]


@pytest.mark.parametrize(("folder", "case", "configuration"), known("results"))
def test_compute_cycles(folder: str, case: str, configuration: str) -> None:
    expected = MANIFESTS[folder]["cases"][case]["results"][configuration]["compute_cycles"]
    assert design_of(folder, case, configuration).layer_cycles(layer_of(folder, case)).total == expected


@pytest.mark.parametrize(("folder", "case", "configuration"), known("work_bits"))
def test_work_bits(folder: str, case: str, configuration: str) -> None:
    made: Any = design_of(folder, case, configuration)
    expected = MANIFESTS[folder]["cases"][case]["work_bits"][configuration]
    assert made.work_bits(layer_of(folder, case)) == expected


@pytest.mark.parametrize(
    ("folder", "case", "parameters", "cycles"),
    [
        ("dnnsim", "fc_profiled_512x64_16b", {}, 35),
        ("dnnsim", "fc_512x300_8b", {}, 71),
        ("dnnsim_sparse", "pruned90_fc_190x70_8b", {}, 12),
        *(
            ("dnnsim_sparse", "pruned90_fc_190x70_8b", {"shape": "L", "lookahead": h, "lookaside": d}, cycles)
            for h, d, cycles in ((2, 5, 13), (1, 3, 14), (4, 7, 13))
        ),
    ],
)
def test_promoted_weights_of_other_columns(
    folder: str, case: str, parameters: dict[str, Any], cycles: int
) -> None:
    """Fully connected, serial, 16 columns: the simulator is wrong here; these are the recomputation's."""
    made = design("tactical", back="serial", columns=16, **parameters)
    assert made.layer_cycles(layer_of(folder, case)).total == cycles


def test_lines_and_promotions() -> None:
    """How many lines each filter set executes, and how many weights move."""
    compared = 0
    for case, about in MANIFESTS["dnnsim_sparse"]["cases"].items():
        for configuration, found in about["lines"].items():
            made: Any = design_of("dnnsim_sparse", case, configuration)
            nest = made.nest(layer_of("dnnsim_sparse", case))
            promoted = made.promoted(nest)
            lines = promoted.executed.sum(axis=0).tolist()
            expected = found["lines"]
            assert promoted.promotions == found["promotions"] and nest.inner == found["of"]
            if "sum" in expected:
                assert sum(lines) == expected["sum"]
            else:
                assert lines == list(expected.values())
            compared += 1
    assert compared >= 10


def test_every_result_is_compared() -> None:
    for manifest in MANIFESTS.values():
        configurations = manifest["configurations"].values()
        assert {about["design"] for about in configurations} <= set(DESIGNS.names())
    assert len(known("results")) >= 330 and len(known("work_bits")) >= 100
