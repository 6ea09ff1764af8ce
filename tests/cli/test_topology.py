"""`dpred-sim topology`: list, check, show, convert, schema."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dpred_sim.cli.main import main
from dpred_sim.locate import ready_made_names
from dpred_sim.simulation.systems import load_topology

NAME = "dpred_stripes_ddr4"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]):
    """Runs the command: exit code, stdout, stderr."""

    def run(*words: object) -> tuple[int, str, str]:
        code = main(["topology", *(str(word) for word in words)])
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


def test_list_names_every_shipped_system(run) -> None:
    code, out, _ = run("list")
    assert code == 0
    names = ready_made_names("topologies", ".yaml")
    assert NAME in names
    for name in names:
        assert name in out
    code, out, err = run("list", "--json")
    listed = json.loads(out)["topologies"]
    assert [entry["name"] for entry in listed] == names
    assert all(entry["description"] for entry in listed)
    assert err == ""


def test_check_says_what_the_system_is(run) -> None:
    code, out, err = run("check", NAME)
    assert (code, err) == (0, "")
    assert "no mistakes" in out
    assert "16 tiles of design dpred_stripes" in out
    assert "4,096 16-bit multiply-accumulates" in out
    code, out, _ = run("check", NAME, "--set", "nodes.tile.count=4", "--json")
    told = json.loads(out)
    assert told["peak_macs_per_cycle"] == pytest.approx(1024, rel=0.01)
    assert told["clusters"] == [{"dispatcher": "dispatcher", "tiles": 4, "design": "dpred_stripes"}]


def test_check_points_at_a_mistake(run, tmp_path: Path) -> None:
    code, out, err = run("check", NAME, "--set", "nodes.tile.lane=8")
    assert (code, out) == (2, "")
    assert "did you mean 'lanes'" in err
    path = tmp_path / "broken.yaml"
    path.write_text("schema: dpred-topology/1\nnaem: x\n")
    code, out, err = run("check", path, "--json")
    assert (code, out) == (2, "")
    error = json.loads(err)
    assert (error["file"], error["line"], error["column"]) == (str(path), 2, 1)
    assert "did you mean 'name'" in error["message"]


@pytest.mark.parametrize(
    ("override", "field"),
    [
        ("nodes.dram.standard=DDR9", "nodes.dram.standard"),
        ("nodes.dram.standard=./missing.yaml", "nodes.dram.standard"),
        ("nodes.dram.bus=60 bit", "nodes.dram.bus"),
        ("nodes.dram.ranks=3", "nodes.dram.ranks"),
        ("nodes.dram.stores.codec=dperd", "nodes.dram.stores.codec"),
        ("nodes.dram.stores.group_sise=8", "nodes.dram.stores.group_sise"),
        ("nodes.dram.stores.mode=zero", "nodes.dram.stores.mode"),
        ("nodes.tile.design=dpred_stripe", "nodes.tile.design"),
        ("nodes.tile.rows=0", "nodes.tile.rows"),
        ("nodes.tile.run_ahead=much", "nodes.tile.run_ahead"),
        ("nodes.tile.tiles=4", "nodes.tile.tiles"),
        ("nodes.tile.kolumns=4", "nodes.tile.kolumns"),
    ],
)
def test_values_that_only_a_component_can_judge(run, override: str, field: str) -> None:
    code, out, err = run("check", NAME, "--set", override, "--json")
    assert (code, out) == (2, "")
    error = json.loads(err)
    assert error["field"] == field
    assert error["file"] == f"--set {override}"


def test_check_with_a_workload_lists_demands(run) -> None:
    code, out, _ = run("check", NAME, "--workload", "alexnet")
    assert code == 0
    assert "conv3" in out and "LIMITS" in out
    assert "limited in some layer by: dram" in out.splitlines()
    assert "as if nothing stayed on chip" in out
    narrow = "links.activations->dispatcher.width=64 bit"
    code, out, _ = run("check", NAME, "--workload", "alexnet", "--set", narrow, "--all", "--json")
    demands = json.loads(out)["demands"]
    limiting = {demand["where"] for demand in demands if demand["limits"]}
    assert limiting == {"dram", "activations->dispatcher"}
    assert {demand["kind"] for demand in demands} == {"link", "port", "memory", "converter"}


@pytest.mark.parametrize("options", [[], ["--expanded"], ["--set", "nodes.tile.count=2"]])
def test_show_prints_a_file_that_loads_to_the_same(run, tmp_path: Path, options: list[str]) -> None:
    code, out, _ = run("show", NAME, *options)
    assert code == 0
    path = tmp_path / "again.yaml"
    path.write_text(out)
    system = load_topology(NAME, ["nodes.tile.count=2"] if "--set" in options else [])
    assert load_topology(path) == system
    assert load_topology(path).description == system.description
    assert ("tile.1:" in out) == ("--expanded" in options)
    _, out, _ = run("show", NAME, *options, "--json")
    path = tmp_path / "again.json"
    path.write_text(out)
    assert load_topology(path) == system


def test_convert_writes_once(run, tmp_path: Path) -> None:
    path = tmp_path / "system.json"
    code, out, _ = run("convert", NAME, path)
    assert (code, out) == (0, f"wrote {path}\n")
    assert load_topology(path) == load_topology(NAME)
    code, _, err = run("convert", NAME, path)
    assert code == 2 and "--force" in err
    assert run("convert", NAME, path, "--force", "--set", "nodes.tile.count=2")[0] == 0
    assert len(load_topology(path).of_kind("tile")) == 2
    assert run("convert", NAME, tmp_path / "system.graphml")[0] == 0
    assert run("convert", NAME, tmp_path / "system.png")[0] == 2
    assert run("convert", NAME, tmp_path / "missing" / "system.json")[0] == 2


def test_schema_is_one_json_document(run) -> None:
    code, out, err = run("schema")
    assert (code, err) == (0, "")
    assert "kind_dram_channel" in json.loads(out)["$defs"]


@pytest.mark.parametrize("command", ["list", "check", "show", "convert", "schema"])
def test_every_command_has_an_example(run, command: str) -> None:
    code, out, _ = run(command, "--help")
    assert code == 0
    assert f"dpred-sim topology {command}" in out
