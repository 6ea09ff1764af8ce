"""The format reference lists every key of every kind with its default, and its example works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dpred_sim.components.base import kinds
from dpred_sim.simulation.systems import load_topology
from dpred_sim.topology.build import KEYS
from dpred_sim.topology.schema import Converter, LinkDeclaration

TEXT = (Path(__file__).parents[2] / "docs" / "topologies.md").read_text(encoding="utf-8")


def rows(heading: str) -> dict[str, list[str]]:
    """Rows of the tables below a heading, by the names in their first column."""
    _, _, rest = TEXT.partition(f"\n{heading}\n")
    assert rest, f"no heading {heading!r}"
    section = re.split(r"\n#+ ", rest)[0]
    found = {}
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        for name in re.findall(r"`([a-z_]+)`", cells[0]) if line.startswith("| `") else []:
            found[name] = cells[1:]
    return found


@pytest.mark.parametrize("kind", sorted(kinds()))
def test_every_key_of_every_kind(kind: str) -> None:
    fields = kinds()[kind].model_fields
    documented = rows(f"### {kind}")
    assert set(documented) == set(fields)
    for name, field in fields.items():
        shown = documented[name][1]
        if field.is_required():
            assert shown == "required", name
        elif isinstance(field.default, str | int):
            assert str(field.default) in shown.strip("`").split(), name


def test_the_converter_the_links_and_the_top_level() -> None:
    converter = rows("### converter")
    assert {name: cells[1].strip("`") for name, cells in converter.items()} == {
        "groups": str(Converter().groups),
        "latency": f"{Converter().latency} cycle",
        "units": str(Converter().units),
    }
    keys = {field.alias or name for name, field in LinkDeclaration.model_fields.items()}
    assert {key for key in rows("## Links") if key in keys | {"between"}} == keys | {"between"}
    assert set(rows("## Top level")) == set(KEYS)


def test_the_example_loads(tmp_path: Path) -> None:
    example = re.search(r"```yaml\n(# What.*?)```", TEXT, re.DOTALL)
    assert example is not None
    path = tmp_path / "my_system.yaml"
    path.write_text(example.group(1))
    system = load_topology(path)
    assert system.name == "my_system"
    overrides = re.findall(r'^--set "(.*)"$', TEXT, re.MULTILINE)
    assert len(overrides) == 5
    assert system.with_set(overrides) != system
