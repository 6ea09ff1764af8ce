from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpred_sim.cli.main import main
from dpred_sim.designs.base import design
from dpred_sim.values.tensor import Tensor
from dpred_sim.workload.layer import Layer

rng = np.random.default_rng(7)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A convolution, a fully connected layer, and files that are wrong in all ways."""
    arrays: dict[str, Any] = {
        "a": rng.integers(0, 300, (9, 8, 20), dtype=np.int32),
        "w": rng.integers(-100, 100, (24, 3, 3, 20), dtype=np.int16),
        "w_grouped": rng.integers(-100, 100, (24, 3, 3, 10), dtype=np.int16),
        "a_fc": rng.integers(0, 300, (2, 50), dtype=np.int64),
        "a_vector": rng.integers(0, 300, 50, dtype=np.int64),
        "w_fc": rng.integers(-100, 100, (24, 50), dtype=np.int16),
        "w_flat": rng.integers(-100, 100, (4, 9 * 8 * 20), dtype=np.int16),
        "w_3d": rng.integers(-100, 100, (24, 3, 20), dtype=np.int16),
        "floats": rng.normal(size=(9, 8, 20)),
        "nan": np.full((9, 8, 20), np.nan, dtype=np.float32),
        "bools": np.ones((9, 8, 20), dtype=bool),
        "complex": np.ones((9, 8, 20), dtype=complex),
        "dates": np.zeros((9, 8, 20), dtype="datetime64[s]"),
        "text": np.full((9, 8, 20), "x"),
        "record": np.zeros((9, 8), dtype=[("x", "i4")]),
        "empty": np.zeros((0, 8, 20), dtype=np.int16),
        "scalar": np.array(3),
        "six_axes": np.zeros((1,) * 6, dtype=np.int16),
        "large": np.full((9, 8, 20), 70_000),
        "negative": np.full((9, 8, 20), -40_000),
        "unsigned64": np.full((9, 8, 20), 2**64 - 1, dtype=np.uint64),
    }
    paths = {}
    for name, array in arrays.items():
        paths[name] = tmp_path / f"{name}.npy"
        np.save(paths[name], array)
    np.save(tmp_path / "objects.npy", np.array([{}, []], dtype=object), allow_pickle=True)
    whole = paths["a"].read_bytes()
    huge = b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little")
    header = "{'descr': '<i4', 'fortran_order': False, 'shape': (%s), }"
    texts = {
        "truncated": whole[:-5],
        "no_data": whole[:128],
        "half_header": whole[:40],
        "magic_only": whole[:6],
        "nothing": b"",
        "not_numpy": b"PK\x03\x04 this is a zip",
        "long_header": b"\x93NUMPY\x02\x00" + (2**31 - 1).to_bytes(4, "little") + b"{" * 20_000,
        "long_held_header": b"\x93NUMPY\x02\x00" + (20_000).to_bytes(4, "little") + b" " * 20_000,
        "promises": huge + (header % "1 << 40,").ljust(118).encode(),
        "vast": huge + (header % "1000000000, 1000000000").ljust(118).encode(),
        "negative_shape": huge + (header % "-1, 8, 20").ljust(118).encode(),
        "nested": huge + ("(" * 117).ljust(118).encode(),
        "code": huge + "__import__('os').system('true')".ljust(118).encode(),
        "version9": b"\x93NUMPY\x09\x00" + whole[8:],
    }
    for name, data in texts.items():
        (tmp_path / f"{name}.npy").write_bytes(data)
    for name in ("objects", *texts):
        paths[name] = tmp_path / f"{name}.npy"
    paths["missing"] = tmp_path / "missing.npy"
    paths["folder"] = tmp_path
    return paths


def words(
    files: dict[str, Path], a: str = "a", w: str = "w", *more: str, name: str = "dpred_stripes"
) -> list[str]:
    return ["layer", "--design", name, "--activations", str(files[a]), "--weights", str(files[w]), *more]


def load(files: dict[str, Path], name: str) -> Tensor:
    return Tensor(np.load(files[name]), 16)


@pytest.mark.parametrize("name", ["dadiannao", "stripes", "dpred_stripes"])
def test_a_convolution(files: dict[str, Path], name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words(files, name=name), "--stride", "2", "--padding", "1,0,1,0", "--json"]) == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    layer = Layer.conv2d("x", load(files, "a"), load(files, "w"), stride=2, padding=(1, 0, 1, 0))
    cycles = design(name).layer_cycles(layer)
    assert err == "" and report["kind"] == "conv"
    assert (report["cycles"], report["steps"], report["macs"]) == (cycles.total, cycles.steps, layer.macs)
    assert report["macs_per_cycle"] == pytest.approx(layer.macs / cycles.total, abs=1e-3)
    assert report["output_shape"] == [5, 3, 24]


def test_groups_dilation_and_design_parameters(files, capsys) -> None:
    more = ["--groups", "2", "--dilation", "2,1", "--set", "columns=4", "--set", "tiles=2"]
    assert main([*words(files, "a", "w_grouped", *more), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    layer = Layer.conv2d("x", load(files, "a"), load(files, "w_grouped"), groups=2, dilation=(2, 1))
    assert report["cycles"] == design("dpred_stripes", columns=4, tiles=2).layer_cycles(layer).total
    assert report["parameters"]["columns"] == 4 and report["parameters"]["tiles"] == 2


@pytest.mark.parametrize(("a", "w"), [("a_fc", "w_fc"), ("a_vector", "w_fc"), ("a", "w_flat")])
def test_fully_connected(files, capsys, a: str, w: str) -> None:
    assert main([*words(files, a, w), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    layer = Layer.linear("x", load(files, a), load(files, w))
    assert report["kind"] == "linear"
    assert report["cycles"] == design("dpred_stripes").layer_cycles(layer).total


def test_precision_makes_stripes_faster(files, capsys) -> None:
    totals = []
    for more in ([], ["--precision-activations", "9"]):
        assert main([*words(files, "a", "w", *more, name="stripes"), "--json"]) == 0
        totals.append(json.loads(capsys.readouterr().out)["cycles"])
    assert totals[1] * 16 == totals[0] * 9


def test_mean_widths_and_codec_sizes(files, capsys) -> None:
    from dpred_sim.codecs.base import codec
    from dpred_sim.values.widths import group_widths

    assert main([*words(files), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    x = load(files, "a")
    assert report["activations"]["mean_width"] == pytest.approx(float(group_widths(x).mean()), abs=1e-4)
    sizes = {row["codec"]: row for row in report["codecs"]["activations"]}
    assert sizes["raw"]["size_bits"] == 9 * 8 * 20 * 16 and sizes["raw"]["of_raw"] == 1
    for mode in ("plain", "zeros", "adaptive"):
        assert sizes[f"dpred mode={mode}"]["size_bits"] == codec("dpred", mode=mode).encode(x).size_bits


def test_the_text_says_the_same(files, capsys) -> None:
    main([*words(files), "--json"])
    report = json.loads(capsys.readouterr().out)
    assert main(words(files)) == 0
    out = capsys.readouterr().out
    assert out.startswith("conv layer, 16 bit: activations 9x8x20, weights 24x3x3x20, outputs 7x6x24")
    assert f"cycles       {report['cycles']:,}\n" in out and f"steps        {report['steps']:,}\n" in out
    assert "dpred_stripes lanes=16" in out and "raw" in out


BAD_FILES = {
    "missing": "no such .npy file",
    "folder": "folder",
    "truncated": "truncated",
    "no_data": "truncated",
    "half_header": "not a readable .npy file",
    "magic_only": "not a readable .npy file",
    "nothing": "not a readable .npy file",
    "not_numpy": "not a readable .npy file",
    "long_header": "not a readable .npy file",
    "long_held_header": "not a readable .npy file",
    "promises": "not a readable .npy file",
    "vast": "truncated",
    "negative_shape": "no shape of a tensor",
    "nested": "not a readable .npy file",
    "code": "not a readable .npy file",
    "version9": "unknown .npy version",
    "objects": "Python objects",
    "floats": "dtype float64",
    "nan": "dtype float32",
    "bools": "dtype bool",
    "complex": "dtype complex128",
    "dates": "integers expected",
    "text": "integers expected",
    "record": "integers expected",
    "empty": "at least one value",
    "scalar": "(H, W, C)",
    "six_axes": "no shape of a tensor",
    "large": "out of the range",
    "negative": "out of the range",
    "unsigned64": "out of the range",
}


@pytest.mark.parametrize("bad", BAD_FILES)
@pytest.mark.parametrize("place", ["activations", "weights"])
def test_bad_files_are_one_line_and_exit_2(files, capsys, bad: str, place: str) -> None:
    line = words(files, bad, "w") if place == "activations" else words(files, "a", bad)
    assert main(line) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    if place == "activations" or bad != "scalar":
        assert BAD_FILES[bad] in err
    if bad != "scalar":
        assert str(files[bad]) in err
    assert main([*line, "--json"]) == 2
    assert json.loads(capsys.readouterr().err)["error"] == "InputError"


@pytest.mark.parametrize(
    ("more", "part"),
    [
        (["--bits", "12"], "bits"),
        (["--bits", "8"], "out of the range"),
        (["--stride", "0"], "stride"),
        (["--stride", "1,2,3"], "--stride"),
        (["--stride", "x"], "--stride"),
        (["--padding", "1,2"], "--padding"),
        (["--padding", "-1"], "padding"),
        (["--dilation", "9"], "kernel"),
        (["--groups", "7"], "groups"),
        (["--groups", "0"], "groups"),
        (["--precision-activations", "17"], "precision"),
        (["--precision-activations", "5"], "9..16"),
        (["--precision-weights", "0"], "precision"),
        (["--set", "columns"], "--set"),
        (["--set", "colums=3"], "did you mean 'columns'"),
        (["--set", "columns=0"], "columns"),
        (["--set", "columns=many"], "columns"),
        (["--set", "columns=4", "--set", "columns=5"], "set twice"),
        (["--design", "no_such"], "unknown design"),
    ],
)
def test_bad_options_are_one_line_and_exit_2(files, capsys, more: list[str], part: str) -> None:
    assert main(words(files, "a", "w", *more)) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and part in err


@pytest.mark.parametrize(
    ("a", "w", "more"),
    [
        ("a", "w_fc", []),
        ("a_fc", "w", []),
        ("a", "w_3d", []),
        ("a", "w_grouped", []),
        ("a_fc", "w_fc", ["--stride", "2"]),
        ("a_fc", "w_fc", ["--groups", "2"]),
    ],
)
def test_shapes_that_do_not_fit_exit_2(files, capsys, a: str, w: str, more: list[str]) -> None:
    assert main(words(files, a, w, *more)) == 2
    assert capsys.readouterr().err.count("\n") == 1
