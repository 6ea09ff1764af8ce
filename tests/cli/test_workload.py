"""`dpred-sim workload list` and `show`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dpred_sim import locate
from dpred_sim.cli.main import main
from dpred_sim.cli.workload import ready_made_workloads


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["workload", *words])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_list_says_what_each_workload_is(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "list")
    assert (code, err) == (0, "")
    lines = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert lines["alexnet"].split()[1] == "synthetic"
    assert "5 convolutions" in lines["alexnet"]
    assert {"vgg19", "resnet50"} <= set(lines)


def test_list_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "list", "--json")
    assert (code, err) == (0, "")
    found = {entry["name"]: entry for entry in json.loads(out)["workloads"]}
    assert found["vgg19"]["values"] == "synthetic"
    assert Path(found["vgg19"]["file"]).name == "vgg19.py"


def test_list_reads_scripts_and_runs_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locate, "ready_made", lambda folder: tmp_path)
    (tmp_path / "real_one.py").write_text(
        '"""A net.\n\nValues: real, from photographs.\n"""\nraise SystemExit\n'
    )
    (tmp_path / "silent.py").write_text("x = 1\n")
    (tmp_path / "broken.py").write_text("x = = 1\n")
    found = {entry["name"]: (entry["values"], entry["description"]) for entry in ready_made_workloads()}
    assert found["real_one"] == ("real", "A net.")
    assert found["silent"] == ("not stated", "")
    assert found["broken"][1].startswith("(not a script")


def test_show_prints_the_layer_table(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "show", "alexnet", "--no-values")
    assert (code, err) == (0, "")
    assert out.startswith("alexnet, 16 bit: synthetic values (seed 0) at the published precisions\n")
    (conv2,) = [line.split() for line in out.splitlines() if line.startswith("conv2 ")]
    assert conv2[:6] == ["conv2", "conv", "conv1", "27x27x96", "7", "256x5x5x48"]
    assert conv2[-5:] == ["13x13x256", "223.9", "M", "307.2", "k"]
    assert out.rstrip().endswith("8 layers, 724.4 M multiply-accumulates, 61.0 M weights")


def sequences(folder: Path) -> str:
    """A script with an LSTM of 3 steps, a product of two activations and a depthwise convolution."""
    path = folder / "mixed.py"
    path.write_text(
        "import numpy as np\nimport dpred_sim as dp\n"
        "def t(*shape):\n"
        "    return dp.Tensor(np.arange(np.prod(shape)).reshape(shape) % 7 - 3, 16, True, 4)\n"
        "def workload(*, bits, seed):\n"
        "    net = dp.Network()\n"
        "    net.lstm('lstm', t(3, 8), t(16, 8), t(16, 4), t(3, 4), t(3, 16))\n"
        "    net.add(dp.Layer.matmul('scores', t(3, 4), t(3, 4), t(3, 3)), 'lstm', second='lstm')\n"
        "    net.given('image', t(4, 4, 8))\n"
        "    net.add(dp.Layer.conv2d('dw', t(4, 4, 8), t(8, 3, 3, 1), groups=8, padding=1), 'image')\n"
        "    return dp.Workload('mixed', net, bits, source='counted', synthetic=True)\n"
    )
    return str(path)


def test_show_names_recurrent_steps_products_and_depthwise_layers(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, err = run(capsys, "show", sequences(tmp_path))
    assert (code, err) == (0, "")
    assert out.startswith("mixed, 16 bit: SYNTHETIC counted\n")
    lines = {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}
    assert lines["lstm.x"][1] == "linear"
    assert lines["lstm.h[0..2]"][1:5] == ["recurrent", "lstm.h[-1]", "+", "lstm.x"]
    assert lines["lstm.h[0..2]"][-2:] == [str(3 * 16 * 4), "64"]
    assert lines["scores"][1:5] == ["matmul", "lstm", "x", "lstm"]
    assert lines["dw"][1] == "depthwise"
    # Weights of the steps count once, the second operand is no weight.
    assert "weights" not in lines["scores"] and f"{16 * 8 + 16 * 4 + 72} weights" in out


def test_show_looks_at_values_by_kind(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = run(capsys, "show", sequences(tmp_path), "--json", "--group-size", "4")
    document = json.loads(out)
    layers = {layer["name"]: layer for layer in document["layers"]}
    assert code == 0
    # -3 -2 -1 0 | 1 2 3 -3 | ...: 64 values, of which 0 is every seventh; each group of 4 needs 3 bits
    # but those without 2, 3, -3: -1 0 1 and a neighbour, which is 2 or -2.
    found = layers["lstm.h[0]"]["values"]["weights"]
    assert (found["values"], found["zeros"], found["precision_bits"], found["signed"]) == (64, 9, 4, True)
    values = [[(i % 7) - 3 for i in range(start, start + 4)] for start in range(0, 64, 4)]
    widths = [max(max(1, (v if v >= 0 else ~v).bit_length()) + 1 for v in group) for group in values]
    assert found["groups_by_width"] == {str(w): widths.count(w) for w in sorted(set(widths))}
    weights = document["values"]["weights"]
    # Steps share their weights; the second operand counts where it is used.
    assert weights["values"] == 16 * 8 + 64 + 3 * 4 + 72
    assert document["values"]["outputs"]["values"] == 3 * 16 + 3 * 4 + 3 * 3
    assert "values" not in json.loads(run(capsys, "show", sequences(tmp_path), "--json", "--no-values")[1])


def test_show_prints_shares_of_widths(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "show", "alexnet", "--bits", "8")
    conv2 = next(line.split() for line in out.splitlines() if line.startswith("conv2 "))
    assert conv2[4] == "7" and 30 < float(conv2[5]) < 40 and 4 < float(conv2[6]) < 7
    rows = [line.split() for line in out.splitlines() if line.split()[:1] in (["weights"], ["outputs"])]
    for row in rows:
        shares = [0.0 if word == "." else float(word) for word in row[-8:]]
        assert sum(shares) == pytest.approx(100, abs=0.5)
        mean = sum(share * width for width, share in enumerate(shares, start=1)) / 100
        assert mean == pytest.approx(float(row[-9]), abs=0.05)


def test_show_marks_strides_shortcuts_and_signed_tensors(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    _, out, _ = run(capsys, "show", "resnet50", "--no-values")
    lines = {line.split()[0]: " ".join(line.split()) for line in out.splitlines() if line.strip()}
    assert "512x1x1x1024 /2" in lines["res5a_branch2a"]
    assert "res5a_branch2b + res5a_branch1 " in lines["res5a_branch2c"]
    assert "avg 7x7 /7 1x1x2048" in lines["res5c_branch2c"]


def test_show_as_json_has_every_number(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "show", "resnet50", "--bits", "8", "--json", "--no-values")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert (document["name"], document["bits"], document["synthetic"]) == ("resnet50", 8, True)
    assert document["macs"] == sum(layer["macs"] for layer in document["layers"])
    assert document["weight_values"] == sum(layer["weight_values"] for layer in document["layers"])
    layers = {layer["name"]: layer for layer in document["layers"]}
    project, join = layers["res2a_branch1"], layers["res2a_branch2c"]
    assert project["read_by"] == ["res2a_branch2c"] and join["shortcut"] == "res2a_branch1"
    assert (project["outputs_signed"], join["outputs_signed"]) == (True, False)
    assert join["activations_shape"] == [56, 56, 64] and join["weights_shape"] == [256, 1, 1, 64]
    assert layers["conv1"]["pool"] == {
        "mode": "max",
        "size": [3, 3],
        "stride": [2, 2],
        "padding": [0, 0, 1, 1],
    }
    assert {layer["activations_precision_bits"] for layer in document["layers"]} == {8}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["show", "alexnett"], "did you mean 'alexnet'"),
        (["show", "nowhere/net.py"], "no such workload file"),
        (["show", "alexnet", "--bits", "9"], "allowed: 8, 16"),
        (["show", "alexnet", "--group-size", "0"], "group_size"),
        (["show", "alexnet", "--quantise", "full_range"], "takes no 'quantise'"),
        (["show", "alexnet", "--input", "photo.png"], "no such input file"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(
    capsys: pytest.CaptureFixture[str], words: list[str], text: str
) -> None:
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert text in err and err.count("\n") == 1


def test_a_mistake_as_json_is_one_object_on_stderr(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "net.py"
    path.write_text("\n1 / 0\n")
    code, out, err = run(capsys, "show", str(path), "--json")
    assert (code, out) == (2, "")
    report = json.loads(err)
    assert (report["file"], report["line"]) == (str(path), 2)


@pytest.mark.parametrize("words", [[], ["list"], ["show"]])
def test_help_has_an_example(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    code, out, _ = run(capsys, *words, "--help")
    assert code == 0
    assert "dpred-sim workload" in out.partition("Example")[2]


def test_showing_a_workload_needs_no_heavy_package() -> None:
    text = (
        "import sys; from dpred_sim.cli.main import main; code = main(['workload', 'show', 'alexnet']);"
        "heavy = {'onnx', 'onnxruntime', 'PIL', 'simpy', 'networkx', 'ruamel'} & set(sys.modules);"
        "sys.exit(code or (f'imported {heavy}' if heavy else 0))"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
