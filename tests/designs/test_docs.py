"""The worked examples of docs/designs.md."""

import ast
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpred_sim.designs.base import DESIGNS, design
from dpred_sim.values.tensor import Tensor
from dpred_sim.workload.layer import Layer

TEXT = (Path(__file__).parents[2] / "docs" / "designs.md").read_text()
ROWS = re.findall(r"^\| `(\w+)` \|(.*?)\| (conv|fc) \| ([\d,]+) \| (.*?) \|", TEXT, re.MULTILINE)


def spiked(shape: tuple[int, ...], value: int, first: int) -> Tensor:
    values = np.full(shape, value)
    values.flat[0] = first
    return Tensor(values, bits=8)


def layer_of(name: str) -> Layer:
    if name == "fc":
        return Layer.linear("fc", spiked((1, 64), 5, 200), spiked((300, 64), 3, 100))
    return Layer.conv2d("conv", spiked((6, 6, 32), 5, 200), spiked((48, 3, 3, 32), 3, 100))


def parameters_of(text: str) -> dict[str, Any]:
    pairs = [item.split("=") for item in text.strip("` ").split(", ") if item.strip("` ")]
    return {key: ast.literal_eval(value) for key, value in pairs}


@pytest.mark.parametrize(("name", "parameters", "layer", "cycles", "arithmetic"), ROWS)
def test_worked_example(name: str, parameters: str, layer: str, cycles: str, arithmetic: str) -> None:
    stated = int(cycles.replace(",", ""))
    assert re.fullmatch(r"[\d+x/() ]+", arithmetic)
    assert eval(arithmetic.replace("x", "*")) == stated  # digits and operators only
    made = design(name, **parameters_of(parameters))
    assert made.layer_cycles(layer_of(layer)).total == stated


def test_every_design_is_described_and_worked_out() -> None:
    described = set(re.findall(r"^\| `(\w+)` \|", TEXT.split("## Work in bits")[0], re.MULTILINE))
    assert described == set(DESIGNS.names())
    assert {row[0] for row in ROWS} == set(DESIGNS.names())
