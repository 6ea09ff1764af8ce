"""`run --verify`: what it says, and which layers it looks at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dpred_sim.cli.main import main

SCRIPT = """
import numpy as np
import dpred_sim as dp


def workload(*, bits, seed):
    rng = np.random.default_rng(seed)
    network, shape = dp.Network(), (6, 6, 20)
    for i, kernel in enumerate([(24, 1, 1, 20), (16, 3, 3, 24)]):
        a = dp.Tensor(rng.integers(0, 100, shape), bits=bits)
        w = dp.Tensor(rng.integers(-50, 50, kernel), bits=bits)
        network.add(dp.Layer.conv2d(f"conv{i + 1}", a, w, padding=kernel[1] // 2))
        shape = (6, 6, kernel[0])
    a = dp.Tensor(rng.integers(0, 100, 6 * 6 * 16), bits=bits)
    network.add(dp.Layer.linear("fc", a, dp.Tensor(rng.integers(-9, 9, (10, 6 * 6 * 16)), bits=bits)))
    return dp.Workload("small", network, bits, source="random numbers", synthetic=True)
"""


@pytest.fixture
def script(tmp_path: Path) -> str:
    path = tmp_path / "small.py"
    path.write_text(SCRIPT)
    return str(path)


def test_the_report_says_what_was_verified(script: str, capsys: Any) -> None:
    assert main(["run", script, "--verify", "--no-live"]) == 0
    out = capsys.readouterr().out
    assert " 1,450 outputs of 3 layers, computed the way the tiles do, equal a plain convolution." in out
    assert main(["run", script, "--no-live"]) == 0
    assert "Verified" not in capsys.readouterr().out


def test_the_document_says_it_too(script: str, capsys: Any) -> None:
    assert main(["run", script, "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert "verified" not in plain
    assert main(["run", script, "--verify", "--layers", "conv?", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    verified = document.pop("verified")
    assert document == plain
    assert (verified["layers"], verified["values"]) == (2, 36 * (24 + 16))
    assert verified["containers"] > 0


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--layers", "conv*"], "there is no --verify"),
        (
            ["--verify", "--layers", "pool*"],
            "no layer has such a name; found 'pool*'; allowed: conv1, conv2, fc",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(script: str, options: list[str], text: str, capsys: Any) -> None:
    assert main(["run", script, "--no-live", *options]) == 2
    captured = capsys.readouterr()
    assert "--layers" in captured.err and text in captured.err and not captured.out
