"""Every mistake of a file is an InputError that says where it is and what is allowed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from systems_under_test import EXAMPLE, load_checked

from dpred_sim.errors import InputError
from dpred_sim.topology.document import MAX_YAML_BYTES

Refused = Callable[..., InputError]

LINE_OF = {
    line.split(":")[0].strip(): number for number, line in enumerate(EXAMPLE.splitlines(), 1) if ":" in line
}
BUFFER = "size: 4 MiB, banks: 16, port: 4096 bit"
TILE = "design: serial, rows: 16, columns: 16, lanes: 16"
BUS = 'to: "weights[*]", medium: bus, width: 256 bit'


def place(text: str, part: str) -> tuple[int, int]:
    """Line and column of a part of the example after a change."""
    before, _, _ = text.partition(part)
    before = before.removesuffix('"')
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


CASES = [
    # what to replace, by what, the part that the error points at, its field, words of the message
    ("size: 4 MiB", "size: 4 MHz", "4 MHz", "nodes.activations.size", "wrong unit 'MHz'"),
    ("size: 4 MiB", "size: 4", "4, banks", "nodes.activations.size", "needs a unit"),
    ("size: 4 MiB", "size: -4 MiB", "-4 MiB", "nodes.activations.size", "not a quantity"),
    ("size: 4 MiB", "size: 0 MiB", "0 MiB", "nodes.activations.size", "not a positive"),
    ("size: 4 MiB", "size: .nan", ".nan", "nodes.activations.size", "not a finite number"),
    ("size: 4 MiB", "size: 1e999", "1e999", "nodes.activations.size", "not a finite number"),
    ("size: 4 MiB", "size: nan MiB", "nan MiB", "nodes.activations.size", "not a quantity"),
    ("size: 4 MiB", "size: 1e99999999 MiB", "1e99999999", "nodes.activations.size", "out of range"),
    ("size: 4 MiB", "size: 9999999999 GiB", "9999999999", "nodes.activations.size", "out of range"),
    ("size: 4 MiB", "size: ~", "~", "nodes.activations.size", "needs a unit"),
    ("size: 4 MiB", "size: [4 MiB]", "[4 MiB]", "nodes.activations.size", "needs a unit"),
    ("size: 4 MiB", "sise: 4 MiB", "sise", "nodes.activations.sise", "did you mean 'size'?"),
    ("size: 4 MiB, ", "", "activations: {", "nodes.activations", "the key 'size' is missing"),
    ("banks: 16", "banks: 16 bit", "16 bit", "nodes.activations.banks", "valid integer"),
    ("banks: 16", "banks: 0", "0, port", "nodes.activations.banks", "greater than or equal to 1"),
    ("banks: 16", "banks: true", "true", "nodes.activations.banks", "valid integer"),
    ("banks: 16", "banks: 16, banks: 8", "banks: 8", "nodes.activations.banks", "the same key twice"),
    ("[activations, outputs]", "[]", "[]", "nodes.activations.holds", "at least 1"),
    ("[activations, outputs]", "[activation]", "activation]", "nodes.activations.holds[0]", "should be"),
    ("[activations, outputs]", "[outputs, outputs]", "[outputs", "nodes.activations.holds", "twice"),
    ("stores: {codec: dpred}", "stores: {codec: dpredd}", "dpredd", "nodes.dram.stores.codec", "'dpred'?"),
    ("stores: {codec: dpred}", "stores: {codec: dpred, mod: x}", "mod", "nodes.dram.stores.mod", "'mode'?"),
    (
        "stores: {codec: dpred}",
        "stores: {codec: dpred, mode: [1]}",
        "[1]",
        "nodes.dram.stores.mode",
        "single",
    ),
    (
        "stores: {codec: dpred}",
        "stores: {codec: dpred, mode: 1.5}",
        "1.5",
        "nodes.dram.stores.mode",
        "bad value",
    ),
    (
        "kind: dispatcher",
        "kind: dispatch",
        "dispatch}",
        "nodes.dispatcher.kind",
        "did you mean 'dispatcher'?",
    ),
    ("kind: dispatcher", "latency: 1 cycle", "dispatcher:  {", "nodes.dispatcher", "'kind' is missing"),
    ("kind: dispatcher", "kind: [dispatcher]", "[dispatcher]", "nodes.dispatcher.kind", "valid string"),
    (
        "kind: dispatcher",
        "kind: dispatcher, reuse: some",
        "some",
        "nodes.dispatcher.reuse",
        "'window' or 'none'",
    ),
    ("kind: dispatcher", "kind: dispatcher, clock: cor", "cor}", "nodes.dispatcher.clock", "mean 'core'?"),
    ("kind: dispatcher", "kind: dispatcher, latency: 1 ns", "1 ns", "nodes.dispatcher.latency", "wrong unit"),
    ("kind: dispatcher", "kind: dispatcher, latency: 0.5 cycle", "0.5", "nodes.dispatcher.latency", "whole"),
    ("lanes: 16", "lane: 16", "lane", "nodes.tile.lane", "did you mean 'lanes'?"),
    ("lanes: 16", "tiles: 16", "tiles", "nodes.tile.tiles", "how many a dispatcher feeds"),
    ("lanes: 16", "lanes: {a: 1}", "{a: 1}", "nodes.tile.lanes", "single value"),
    ("design: serial, ", "", "tile:   ", "nodes.tile", "the key 'design' is missing"),
    ("design: serial", "design: cereal", "cereal", "nodes.tile.design", "did you mean 'serial'?"),
    ("count: 4, design", "cuont: 4, design", "cuont", "nodes.tile.cuont", "did you mean 'count'?"),
    ("count: 4, design", "count: 0, design", "0, design", "nodes.tile.count", "greater than"),
    ("count: 4, design", "count: -1, design", "-1, design", "nodes.tile.count", "greater than"),
    ("count: 4, design", "count: 4097, design", "4097", "nodes.tile.count", "less than or equal to 4096"),
    ("count: 4, design", "count: 1000000000000, design", "1000000000000", "nodes.tile.count", "4096"),
    ("count: 4, design", "count: four, design", "four", "nodes.tile.count", "valid integer"),
    (
        "count: 4, design",
        "count: 8, design",
        '{from: "weights[i]"',
        "links.weights[i]->tile[i]",
        "same count",
    ),
    ("count: 4, design", "design", '{from: "weights[i]"', "links.weights[i]->tile[i]", "same count"),
    ("{kind: dispatcher}", "dispatcher", "dispatcher\n", "nodes.dispatcher", "a node is a mapping"),
    ("  dispatcher:  {kind", "  dis-patcher:  {kind", "dis-patcher", "nodes.dis-patcher", "not a name"),
    (
        "width: 256 bit, latency: 4 cycle}\n  - {from: dram",
        "latency: 4 cycle}\n  - {from: dram",
        "{between",
        "links.dram->activations",
        "'width' is missing",
    ),
    (BUS, BUS.replace("256 bit", "256"), "256, lat", "links.dram->weights[*].width", "needs a unit"),
    (BUS, BUS.replace("256 bit", "0 bit"), "0 bit", "links.dram->weights[*].width", "not a positive"),
    (BUS, BUS.replace("256 bit", "infinite"), "infinite", "links.dram->weights[*].width", "not a quantity"),
    (
        BUS,
        BUS.replace("bus", "buss"),
        "buss",
        "links.dram->weights[*].medium",
        "'point', 'bus' or 'broadcast'",
    ),
    (BUS, BUS.replace("medium: bus, ", ""), '{from: dram, to: "wei', "links.dram->weights[*]", "joins one"),
    (BUS, BUS.replace("[*]", ""), 'weights", medium', "links.dram->weights.to", "has 4 instances"),
    (BUS, BUS.replace("[*]", "[0..9]"), "weights[0..9]", "links.dram->weights[0..9].to", "no such instance"),
    (BUS, BUS.replace("[*]", "[3..1]"), "weights[3..1]", "links.dram->weights[3..1].to", "no such instance"),
    (BUS, BUS.replace("[*]", "[j]"), "weights[j]", "links.dram->weights[j].to", "not a reference"),
    (BUS, BUS.replace("weights[*]", "wieghts[*]"), "wieghts", "links.dram->wieghts[*].to", "'weights'?"),
    (BUS, BUS.replace('"weights[*]"', "3"), "3, medium", "links[2].to", "not a reference"),
    (BUS, BUS.replace('"weights[*]"', "[]"), "[]", "links[2].to", "not a reference"),
    (
        BUS,
        BUS.replace('"weights[*]"', '["weights[*]", "weights[0]"]'),
        '["weights',
        "links.dram->weights[*],weights[0].to",
        "twice",
    ),
    (BUS, f"{BUS}, speed: 3", "speed", "links.dram->weights[*].speed", "unknown key"),
    (BUS, f"{BUS}, clock: slow", "slow", "links.dram->weights[*].clock", "no such clock"),
    (BUS, f"{BUS}, name: a b", "a b", "links.a b.name", "pattern"),
    ("[dram, activations], w", "[dram, dram], w", "{between", "links.dram->dram", "to itself"),
    ("[dram, activations], w", "[dram], w", "[dram]", "links[0].between", "not a pair"),
    (
        "[dram, activations], w",
        "[dram, activations], to: dram, w",
        "dram, width",
        "links[0].to",
        "not also 'to'",
    ),
    (
        "{from: activations, to: dispatcher",
        "{from: activations, to: dram",
        "{from: activations, to: dram",
        "links.activations->dram",
        "two links are called",
    ),
    (
        '{from: dispatcher, to: "tile[*]"',
        '{from: ["weights[0]", dispatcher], to: "tile[*]"',
        '["weights[0]", d',
        "links.weights[0],dispatcher->tile[*].from",
        "one sender",
    ),
    ("schema: dpred-topology/1", "schema: dpred-topology/2", "dpred-topology/2", "schema", "not a format"),
    ("schema: dpred-topology/1\n", "", None, None, "'schema' is missing"),
    ("name: example", "name: [a]", "[a]", "name", "valid string"),
    ("name: example", "name: my example", "my example", "name", "pattern"),
    ("name: example", "nam: example", "nam:", "nam", "did you mean 'name'?"),
    ("name: example", "name: example\nmesh: {x: 4, y: 4}", "mesh", "mesh", "unknown key"),
    ("clocks: {core: 1 GHz}", "clocks: {cores: 1 GHz}", "{cores", "clocks", "'core' is missing"),
    ("clocks: {core: 1 GHz}", "clocks: {}", "{}", "clocks", "empty"),
    ("clocks: {core: 1 GHz}", "clocks: 1 GHz", "1 GHz", "clocks", "not a mapping"),
    ("clocks: {core: 1 GHz}", "clocks: {core: 1}", "1}", "clocks.core", "needs a unit"),
    ("clocks: {core: 1 GHz}", "clocks: {core: 0 GHz}", "0 GHz", "clocks.core", "not a positive"),
    ("clocks: {core: 1 GHz}", "clocks: {core: 9000 GHz}", "9000", "clocks.core", "out of range"),
    ("clocks: {core: 1 GHz}", "clocks: {core: 1 GHz, a.b: 1 GHz}", "a.b", "clocks.a.b", "pattern"),
    ("clocks: {core: 1 GHz}", "clocks: &c {core: 1 GHz}", "&c", "clocks", "anchors"),
    ("clocks: {core: 1 GHz}", "clocks: *c", "*c", None, "undefined alias"),
    ("clocks: {core: 1 GHz}", "clocks: !!python/object:os.system {core: 1}", "!!py", "clocks", "tags"),
    ("clocks: {core: 1 GHz}", "clocks: {core: !hz 1 GHz}", "!hz", "clocks.core", "tags"),
    ("clocks: {core: 1 GHz}", "clocks: {<<: {core: 1 GHz}}", "<<", "clocks", "a key is a word"),
    ("clocks: {core: 1 GHz}", "clocks: {1: 1 GHz}", "1: 1", "clocks", "a key is a word"),
    ("clocks: {core: 1 GHz}", "clocks: {core: 1 GHz", None, None, "not YAML"),
    ("clocks: {core: 1 GHz}", "clocks:\n\tcore: 1 GHz", "\tcore", None, "not YAML"),
    ("clocks: {core: 1 GHz}", "clocks: {core: 1 GHz}\n---\nname: b", "---", None, "another document"),
    ("schema: dpred-topology/1", "%YAML 1.1\n---\nschema: dpred-topology/1", "%YAML", None, "directives"),
]


@pytest.mark.parametrize(
    ("old", "new", "part", "field", "words"), CASES, ids=[f"{i}-{c[1][:30]}" for i, c in enumerate(CASES)]
)
def test_a_mistake_is_pointed_at(
    refused: Refused, old: str, new: str, part: str | None, field: str | None, words: str
) -> None:
    text = EXAMPLE.replace(old, new, 1)
    assert text != EXAMPLE
    error = refused(text=text)
    assert words in str(error)
    assert error.exit_code == 2
    assert error.file is not None and error.file.endswith("system.yaml")
    assert error.field == field
    if part is not None:
        assert (error.line, error.column) == place(text, part)


def test_the_message_is_one_line_with_place_found_and_allowed(refused: Refused) -> None:
    error = refused(("size: 4 MiB", "size: 4 MHz"))
    text = str(error)
    assert "\n" not in text
    assert f"system.yaml:8:{place(EXAMPLE, '4 MiB')[1]}: nodes.activations.size: wrong unit 'MHz'" in text
    assert "found '4 MHz'" in text
    assert "allowed: bit, B, " in text


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "the file is empty"),
        (b" \n\n", "the file is empty"),
        (b"# nothing\n", "says nothing"),
        (b"\x00\x01\x02\x03binary\xff", "not UTF-8"),
        (b"PK\x03\x04", "not YAML"),
        (b"name: \xff\n", "not UTF-8"),
        (EXAMPLE.encode("utf-16"), "not UTF-8"),
        (b"- a\n- b\n", "a topology is a mapping"),
        (b"text", "a topology is a mapping"),
        (b"3", "a topology is a mapping"),
        (b"[" * 100_000, "nested too deeply"),
        (b"a: " * 5000 + b"b", "not YAML"),
        (b"# " + b"x" * MAX_YAML_BYTES, "too big"),
        (b"a: &a [x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "anchors and aliases"),
        (b"a: &a\n  b: *a\n", "anchors and aliases"),
        (b"a: " + b"9" * 10_000, "unknown key"),
    ],
)
def test_what_is_no_topology_at_all(tmp_path: Path, raw: bytes, words: str) -> None:
    path = tmp_path / "system.yaml"
    path.write_bytes(raw)
    with pytest.raises(InputError) as caught:
        load_checked(path)
    assert words in str(caught.value) or (words == "unknown key" and "finite" in str(caught.value))
    assert str(path) == caught.value.file


@pytest.mark.parametrize("cut", [0.1, 0.3, 0.5, 0.7, 0.9, 0.97])
def test_a_truncated_file(refused: Refused, cut: float) -> None:
    refused(text=EXAMPLE[: int(len(EXAMPLE) * cut)])


def test_files_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    for reference, words in [
        (tmp_path / "missing.yaml", "no such topology file"),
        (tmp_path / "folder.yaml", "is a directory"),
        (tmp_path, "is a directory"),
        ("dpred_stripes_ddr44", "did you mean 'dpred_stripes_ddr4'?"),
        ("x" * 5000, "no"),
        ("x" * 5000 + ".yaml", "no"),
        ("a\0b.yaml", "no"),
        ("", ""),
    ]:
        with pytest.raises(InputError) as caught:
            load_checked(reference)
        assert words in str(caught.value)


def test_a_suffix_that_is_no_topology(tmp_path: Path) -> None:
    path = tmp_path / "system.toml"
    path.write_text(EXAMPLE)
    with pytest.raises(InputError, match="YAML or JSON"):
        load_checked(path)


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "system.yml"
    path.write_bytes(b"\xef\xbb\xbf" + EXAMPLE.encode())
    assert load_checked(path).name == "example"


@pytest.mark.parametrize(
    ("changes", "words", "line"),
    [
        (
            [("dram_channel, standard: DDR4-3200, bus: 64 bit, stores: {codec: dpred}", "router")],
            "kind 'dram_channel'",
            "nodes",
        ),
        ([(f"kind: tile, count: 4, {TILE}", "kind: router, count: 4")], "kind 'tile'", "nodes"),
        ([("kind: dispatcher", "kind: router")], "kind 'dispatcher'", "nodes"),
        ([("holds: [weights]", "holds: [outputs]")], "no buffer holds weights", "nodes"),
        ([("[activations, outputs]", "[activations]")], "no buffer holds outputs", "nodes"),
        ([("[activations, outputs]", "[outputs]")], "no buffer holds activations", "nodes"),
        (
            [("between: [dram, activations]", "from: dram, to: activations")],
            "unreachable memory",
            "activations",
        ),
        (
            [("between: [dram, activations]", "from: activations, to: dram")],
            "unreachable memory",
            "activations",
        ),
        (
            [('from: dram, to: "weights[*]"', 'from: dram, to: "weights[1..3]"')],
            "unreachable memory",
            "weights",
        ),
        (
            [("from: activations, to: dispatcher", "from: dispatcher, to: activations")],
            "to this dispatcher",
            "dispatcher",
        ),
        (
            [('to: "tile[*]", medium: broadcast', 'to: "tile[0..2]", medium: broadcast')],
            "nobody feeds this tile",
            "tile",
        ),
        (
            [('from: "weights[i]", to: "tile[i]"', 'from: "weights[0]", to: "tile[0]"')],
            "weights to this tile",
            "tile",
        ),
        ([('{from: "tile[*]", to: act', '{from: "tile[1..3]", to: act')], "no way from this tile", "tile"),
    ],
)
def test_systems_that_cannot_work(
    refused: Refused, changes: list[tuple[str, str]], words: str, line: str
) -> None:
    error = refused(*changes)
    assert words in str(error)
    assert error.line == LINE_OF[line]
    assert error.file is not None and error.field is not None


def test_the_instance_that_cannot_work_is_named(refused: Refused) -> None:
    error = refused(('{from: "tile[*]", to: act', '{from: "tile[0..2]", to: act'))
    assert error.field == "nodes.tile.3"


def test_a_memory_of_no_use(refused: Refused) -> None:
    error = refused(("  dispatcher:  {", "  spare: {kind: dram_channel, standard: X}\n  dispatcher:  {"))
    assert "unreachable memory" in str(error)
    assert error.field == "nodes.spare"


def test_outputs_that_nobody_can_read_back(refused: Refused) -> None:
    error = refused(
        ("  dispatcher:  {", "  attic: {kind: dram_channel, standard: X}\n  dispatcher:  {"),
        (
            "  - {between: [dram, activations], width: 256 bit, latency: 4 cycle}\n",
            "  - {from: dram, to: activations, width: 256 bit}\n"
            "  - {from: activations, to: attic, width: 256 bit}\n"
            '  - {from: attic, to: "weights[*]", medium: bus, width: 256 bit}\n',
        ),
    )
    assert "cannot be read back" in str(error)


def test_a_dispatcher_without_tiles(refused: Refused) -> None:
    error = refused(
        ("  dispatcher:  {", "  second: {kind: dispatcher}\n  dispatcher:  {"),
        ("links:\n", "links:\n  - {from: activations, to: second, width: 1 bit}\n"),
    )
    assert "feeds no tile" in str(error)
    assert error.field == "nodes.second"


def test_a_tile_with_two_dispatchers(refused: Refused) -> None:
    error = refused(
        ("  dispatcher:  {", "  second: {kind: dispatcher}\n  dispatcher:  {"),
        (
            "links:\n",
            "links:\n"
            "  - {from: activations, to: second, width: 1 bit}\n"
            "  - {from: second, to: 'tile[2]', width: 1 bit}\n",
        ),
    )
    assert "two dispatchers feed this tile" in str(error)
    assert error.field == "nodes.tile.2"


def test_tiles_in_lockstep_are_alike(refused: Refused) -> None:
    error = refused(
        ("links:\n", f"  odd: {{kind: tile, {TILE.replace('lanes: 16', 'lanes: 8')}}}\nlinks:\n"),
        ('to: "tile[*]"', 'to: ["tile[*]", odd]'),
        ('from: "tile[*]"', 'from: ["tile[*]", odd]'),
        ("links:\n", 'links:\n  - {from: "weights[0]", to: odd, width: 1 bit}\n'),
    )
    assert "lockstep" in str(error)
    assert error.field == "nodes.odd"


def test_a_data_path_does_not_lead_through_other_buffers(refused: Refused) -> None:
    """Filling weights through the activation buffer would be a path that nothing models."""
    error = refused(('{from: dram, to: "weights[*]"', '{from: activations, to: "weights[*]"'))
    assert "unreachable memory" in str(error)


def test_too_many_components(refused: Refused) -> None:
    more = "".join(f"  more{i}: {{kind: router, count: 4096}}\n" for i in range(4))
    assert "too many components" in str(refused(("links:\n", f"{more}links:\n")))


def test_too_many_ends(refused: Refused) -> None:
    more = "  all: {kind: router, count: 4096}\n"
    links = "".join(
        f'  - {{name: l{i}, from: dram, to: "all[*]", medium: bus, width: 1 bit}}\n' for i in range(70)
    )
    assert "too many ends" in str(refused(("links:\n", f"{more}links:\n{links}")))


def test_the_same_node_in_two_spellings(refused: Refused) -> None:
    error = refused(("links:\n", f"  tile.2: {{kind: tile, {TILE}}}\nlinks:\n"))
    assert "is there already" in str(error)
    assert "no count" in str(refused(("links:\n", f"  extra.2: {{kind: tile, count: 2, {TILE}}}\nlinks:\n")))
