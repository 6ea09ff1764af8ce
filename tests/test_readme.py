"""Every command and every Python block of the README runs; pasted output is what comes out."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PHOTOS = ("photo.png", "photo2.png", "photo3.png", "photo4.png")
ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
CONSOLE = [block for kind, block in BLOCKS if kind == "console"]
PYTHON = [block for kind, block in BLOCKS if kind == "python"]
COMMANDS = [line[2:] for block in CONSOLE for line in block.splitlines() if line.startswith("$ ")]
MAKE = [command for command in COMMANDS if command.startswith("make ")]
(RECORD,) = [command for command in COMMANDS if "--trace alexnet.dpred" in command]
OTHERS = [command for command in COMMANDS if not command.startswith("make ")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder with the files that the README's commands name."""
    for name in ("workloads", "topologies"):
        (tmp_path / name).symlink_to(ROOT / name)
    rng = np.random.default_rng(0)
    np.save(tmp_path / "acts.npy", rng.integers(0, 200, (8, 8, 16)).astype(np.int16))
    np.save(tmp_path / "weights.npy", rng.integers(-60, 60, (32, 3, 3, 16)).astype(np.int16))
    return tmp_path


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    words = shlex.split(command)
    if words[0] == "dpred-sim":
        words = [sys.executable, "-m", "dpred_sim", *words[1:]]
    elif words[0] == "python":
        words = [sys.executable, *words[1:]]
    if "model.onnx" in words or "traces/model" in words:
        make_model(folder)
    if "traces/model" in words and "capture" not in words:
        make_trace(folder, "run" in words)
    environment = {**os.environ, "COLUMNS": "120"}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)


def make_model(folder: Path) -> None:
    """A small network and a photo for it."""
    onnx = pytest.importorskip("onnx")
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(1)
    weights = onnx.numpy_helper.from_array(rng.normal(size=(8, 3, 3, 3)).astype(np.float32), "w")
    nodes = [
        onnx.helper.make_node("Conv", ["x", "w"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        onnx.helper.make_node("Relu", ["c"], ["y"], name="relu"),
    ]
    tensor = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes,
        "small",
        [tensor("x", onnx.TensorProto.FLOAT, [1, 3, 16, 16])],
        [tensor("y", onnx.TensorProto.FLOAT, [1, 8, 16, 16])],
        [weights],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    for name in PHOTOS:
        image.fromarray(rng.integers(0, 255, (20, 24, 3)).astype(np.uint8)).save(folder / name)


def make_trace(folder: Path, profiled: bool) -> None:
    """What the commands before leave: a trace, and its profile."""
    inputs = [word for name in PHOTOS[:3] for word in ("--input", name)]
    steps = [["capture", "model.onnx", *inputs, "--out", "traces/model"]]
    if profiled:
        steps.append(["profile", "traces/model"])
    for words in steps:
        subprocess.run(
            [sys.executable, "-m", "dpred_sim", *words], cwd=folder, check=True, capture_output=True
        )


@pytest.mark.parametrize("command", OTHERS)
def test_commands(command: str, folder: Path) -> None:
    if "alexnet.dpred" in command and command != RECORD:  # it needs what another command makes
        assert run(RECORD, folder).returncode == 0
    done = run(command, folder)
    if "models fetch" in command and ("cannot be downloaded" in done.stderr or "forbids" in done.stderr):
        pytest.skip("offline")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.strip()


def test_pasted_output(folder: Path) -> None:
    (block,) = [block for block in CONSOLE if "\n..." in block]
    command, *lines = block.splitlines()
    done = run(command[2:], folder)
    if "fixture" in done.stdout.splitlines()[0]:
        pytest.skip("offline: the committed fixture stands in for the network")
    printed = done.stdout.splitlines()
    place = 0
    for line in lines:
        if line == "...":
            continue
        found = [i for i in range(place, len(printed)) if same(line, printed[i])]
        assert found, f"the README shows {line!r}"
        place = found[0] + 1


NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


def same(pasted: str, printed: str) -> bool:
    """Equal but for spaces and two per cent: captured values differ a little between machines."""
    words = [re.sub(r"\s+", " ", NUMBER.sub("#", line)).strip() for line in (pasted, printed)]
    numbers = [[float(n.replace(",", "")) for n in NUMBER.findall(line)] for line in (pasted, printed)]
    return words[0] == words[1] and numbers[0] == pytest.approx(numbers[1], rel=0.02, abs=8)


def test_make_targets() -> None:
    """They are what this very test runs under, so they are only looked at, not run."""
    for command in MAKE:
        done = subprocess.run(
            ["make", "--dry-run", *command.split()[1:]], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    dry = subprocess.run(["make", "--dry-run", "run"], cwd=ROOT, capture_output=True, text=True).stdout
    assert "workloads/resnet50_thin.py" in dry and "--topology dpred_stripes_ddr4" in dry


@pytest.mark.parametrize("block", PYTHON, ids=range(len(PYTHON)))
def test_python_blocks(block: str, tmp_path: Path) -> None:
    path = tmp_path / "block.py"
    path.write_text(block, encoding="utf-8")
    command = [sys.executable, str(path), *(["--no-live"] if "run_script" in block else [])]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", TEXT)
    assert targets
    for target in targets:
        assert target.startswith("https://") or (ROOT / target).is_file(), target
