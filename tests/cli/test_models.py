"""`dpred-sim models list` and `fetch`, on a manifest of local packages."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import pytest

from dpred_sim.cli.main import main
from dpred_sim.workload.trained import manifest as manifests
from dpred_sim.workload.trained.manifest import Manifest, read_manifest
from tests.workload.test_manifest import GOOD

MODEL, PHOTO = b"onnx " * 50, b"png " * 50


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """Two models: `m` in a local package, `other` in one that nobody has; npm is a stand-in."""
    monkeypatch.setenv("DPRED_SIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DPRED_SIM_OFFLINE", raising=False)
    pack(tmp_path / "p.tgz", {"a/m.onnx": MODEL, "i.png": PHOTO})
    client = tmp_path / "bin" / "npm"
    client.parent.mkdir()
    found = f'p@1.0) for last; do :; done; cp "{tmp_path}/p.tgz" "$last";;'
    client.write_text(f"#!/bin/sh\ncase $2 in\n{found}\n*) echo not found; exit 1;;\nesac\n")
    client.chmod(0o755)
    monkeypatch.setenv("PATH", str(client.parent), prepend=":")
    zero = "0" * 64
    text = GOOD.replace("[packages.p]", '[packages.p]\nregistry = "npm"')
    text = text.replace(f'sha256 = "{zero}"\nsize = 3', f'sha256 = "{sha256(PHOTO).hexdigest()}"\nsize = 200')
    text = text.replace(f'sha256 = "{zero}", size = 4', f'sha256 = "{sha256(MODEL).hexdigest()}", size = 250')
    other = text[text.index("[models.m]") :].replace("[models.m]", "[models.other]")
    other = other.replace('package = "p"', 'package = "nobody-has-this"')
    other = other.replace(sha256(MODEL).hexdigest(), sha256(b"another").hexdigest())
    entry = 'registry = "npm"\nversion = "2.0"\nsize = 5\nlicence = "no licence field"\n'
    (tmp_path / "manifest.toml").write_text(f"{text}[packages.nobody-has-this]\n{entry}{other}")
    manifest = read_manifest(tmp_path / "manifest.toml")
    monkeypatch.setattr(manifests, "shipped", lambda: manifest)
    return manifest


def pack(path: Path, files: Mapping[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def test_list_is_a_table_and_json(local: Manifest, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "list"]) == 0
    head, _, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["model", "network", "layers", "size", "package", "licence", "note", "here"]
    assert first.split() == ["m", "a", "net", "1", "0.0", "MB", "p", "1.0", "MIT", "no"]
    assert second.startswith("other ")
    assert main(["models", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["models"]
    assert [(row["name"], row["cached"], row["package_licence"]) for row in rows] == [
        ("m", False, "MIT"),
        ("other", False, "no licence field"),
    ]
    assert rows[0]["size_bytes"] == 250 and rows[0]["files"][0]["sha256"] == sha256(MODEL).hexdigest()


def test_fetch_brings_the_model_and_its_inputs_once(
    local: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["models", "fetch", "m"]) == 0
    said = capsys.readouterr()
    assert said.out == "m: fetched\n" and said.err == "fetching p 1.0\n"
    assert sorted(path.read_bytes() for path in (tmp_path / "cache" / "models").iterdir()) == [MODEL, PHOTO]
    monkeypatch.setenv("DPRED_SIM_OFFLINE", "1")
    assert main(["models", "fetch", "m", "m"]) == 0
    said = capsys.readouterr()
    assert said.out == "m: already here\n" and said.err == ""
    assert main(["models", "list", "--json"]) == 0
    assert [row["cached"] for row in json.loads(capsys.readouterr().out)["models"]] == [True, False]
    assert main(["models", "fetch", "m", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"fetched": [{"name": "m", "was_cached": True}]}


def test_all_fetches_what_can_be_had_and_says_what_cannot(
    local: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "fetch", "all"]) == 2
    said = capsys.readouterr()
    assert said.out == "m: fetched\n"
    (line,) = [line for line in said.err.splitlines() if line.startswith("error:")]
    assert "nobody-has-this 2.0 cannot be downloaded" in line and "1 of 2 not complete: other" in line


@pytest.mark.parametrize("name", ["n", "models/m", ""])
def test_an_unknown_model_is_refused_before_anything_is_fetched(
    local: Manifest, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "fetch", "m", name]) == 2
    assert "unknown model" in capsys.readouterr().err and not (tmp_path / "cache").exists()


def test_a_package_with_another_file_fails_and_keeps_nothing(
    local: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack(tmp_path / "p.tgz", {"a/m.onnx": MODEL, "i.png": PHOTO[::-1]})
    assert main(["models", "fetch", "m", "--json"]) == 2
    said = capsys.readouterr()
    error = json.loads(said.err.splitlines()[-1])
    assert "another file than the manifest says" in error["message"] and said.out == ""
    assert not (tmp_path / "cache").exists()
