"""The code in CONTRIBUTING.md does what the text says: every block is put in place and used."""

from __future__ import annotations

import re
import sys
import tomllib
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from dpred_sim.codecs.base import CODECS
from dpred_sim.components.base import KINDS
from dpred_sim.designs.base import DESIGNS
from dpred_sim.registry import Registry
from dpred_sim.workload.importers.base import IMPORTERS

TEXT = (Path(__file__).resolve().parent.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
REGISTRIES: tuple[Registry, ...] = (CODECS, DESIGNS, KINDS, IMPORTERS)


@dataclass(frozen=True)
class Block:
    """A fenced block; its first line is a comment with the path where it belongs."""

    language: str
    text: str

    @property
    def path(self) -> str:
        return self.text.partition("\n")[0].removeprefix("# ")


def sections() -> dict[str, list[Block]]:
    """The blocks below each heading that starts with "Add"."""
    found = {}
    for section in re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]:
        title, _, body = section.partition("\n")
        if title.startswith("Add "):
            found[title] = [
                Block(*match) for match in re.findall(r"^```(\w+)\n(.*?)^```$", body, re.M | re.S)
            ]
    return found


SECTIONS = sections()


@pytest.fixture(autouse=True)
def _registries_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    for registry in REGISTRIES:
        registry.names()
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))


def put(block: Block, folder: Path) -> Path:
    path = folder / block.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(block.text, encoding="utf-8")
    return path


def imported(path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    name = f"contributing_{path.stem}"
    spec = spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


def test_each_kind_of_part_has_its_page() -> None:
    parts = ("codec", "design", "component kind", "DRAM standard", "workload")
    assert list(SECTIONS) == [f"Add a {part}" for part in parts]


@pytest.mark.parametrize("title", SECTIONS)
def test_the_blocks_of_a_page_work_together(
    title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    checks = 0
    for block in SECTIONS[title]:
        path = put(block, tmp_path)
        if block.language != "python" or block.path.startswith("workloads/"):
            continue
        module = imported(path, monkeypatch)
        for name, check in vars(module).items():
            if name.startswith("test_"):
                check()
                checks += 1
    assert checks or title == "Add a DRAM standard"


def test_a_page_fits_a_screen_or_two() -> None:
    lines = {title: sum(block.text.count("\n") for block in blocks) for title, blocks in SECTIONS.items()}
    assert max(lines.values()) < 90, lines


def test_the_codec_of_the_page_keeps_its_promises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    from dpred_sim.codecs.base import codec
    from dpred_sim.errors import InputError
    from dpred_sim.values.tensor import Tensor

    imported(put(SECTIONS["Add a codec"][0], tmp_path), monkeypatch)
    draw = np.random.default_rng(1)
    for shape in [(5,), (3, 4, 3), (2, 3, 37), (20, 3, 3, 1), (7, 40)]:
        for bits, signed in [(8, True), (8, False), (16, True), (16, False)]:
            values = (draw.laplace(0, 100, shape)).astype(int)
            low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
            x = Tensor(np.clip(values, low, high), bits=bits, signed=signed, precision=bits - 1)
            made = codec("whole_bytes", group_size=8)
            encoded = made.encode(x)
            assert made.size_bits(x) == encoded.size_bits
            assert len(encoded.payload) == -(-encoded.size_bits // 8)
            back = made.decode(encoded)
            assert np.array_equal(back.values, x.values)
            assert (back.bits, back.signed, back.precision) == (x.bits, x.signed, x.precision)
    short = type(encoded)(encoded.payload, encoded.size_bits - 1, x.shape, x.bits, x.signed, x.precision)
    with pytest.raises(InputError, match="damaged"):
        made.decode(short)


def test_the_dram_standard_of_the_page_loads(tmp_path: Path) -> None:
    from dpred_sim.components.dram.standard import load_standard

    (block,) = [b for b in SECTIONS["Add a DRAM standard"] if b.language == "yaml"]
    standard = load_standard(put(block, tmp_path))
    assert standard.name == Path(block.path).stem
    assert standard.peak_bits_per_second() == pytest.approx(64 * 2400e6, rel=1e-3)
    assert standard.capacity_bytes() == 8 * 2**30
    assert (standard.timing.tRCDRD, standard.timing.tRP) == (16, 16)


def test_the_entry_points_of_the_text_are_those_of_the_registries() -> None:
    (block,) = re.findall(r"^```toml\n(.*?)^```$", TEXT, re.M | re.S)
    (group,) = tomllib.loads(block)["project"]["entry-points"]
    groups = {registry.group for registry in REGISTRIES}
    assert group in groups
    assert groups == set(re.findall(r"`(dpred_sim\.\w+)`", TEXT))
