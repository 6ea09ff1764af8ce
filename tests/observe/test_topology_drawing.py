"""Drawings of topologies: everything is there once, nothing overlaps, colours follow utilisation."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from functools import cache
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from dpred_sim.cli.main import main
from dpred_sim.errors import InputError, MissingExtra
from dpred_sim.locate import ready_made_names
from dpred_sim.observe.drawing.constraints import Line
from dpred_sim.observe.drawing.draw import draw_file, text_drawing
from dpred_sim.observe.drawing.picture import draw_picture, utilisation_colour
from dpred_sim.observe.drawing.placing import Drawing, Rectangle, cell_frame, place
from dpred_sim.observe.drawing.scene import Box, Scene, Wire, make_scene
from dpred_sim.observe.drawing.text import MEDIA, draw_text
from dpred_sim.observe.drawing.usage import Usage, read_usage
from dpred_sim.simulation.engine import simulate
from dpred_sim.simulation.systems import load_topology
from dpred_sim.topology.graph import Topology
from tests.networks import random_workload
from tests.topology.systems_under_test import load_checked

HEADING = "component,kind,statistic,unit,value\n"
SHIPPED = ready_made_names("topologies", ".yaml")


def fabric_file(columns: int, rows: int, *, ring: bool = False, shuffled: bool = False) -> str:
    """A mesh (or with `ring` one closed line) of routers with a component at each."""
    count = columns * rows
    parts = ["dram", "activations", *(f"tile.{n}" for n in range(count - 4)), "dispatcher", "weights"]
    routers = [f"r.{n * 7 % count if shuffled else n}" for n in range(count)]
    pairs = [(n, n + 1) for n in range(count) if n % columns < columns - 1]
    pairs += [(n, n + columns) for n in range(count - columns)]
    if ring:
        pairs = [(n, (n + 1) % count) for n in range(count)]
    return "\n".join(
        [
            "schema: dpred-topology/1",
            "name: fabric",
            "clocks: {core: 1 GHz, noc: 2 GHz}",
            "nodes:",
            "  dram: {kind: dram_channel, standard: DDR4-3200}",
            "  activations: {kind: buffer, holds: [activations, outputs], size: 4 MiB, port: 4096 bit}",
            "  weights: {kind: buffer, holds: [weights], size: 4 MiB, port: 4096 bit}",
            "  dispatcher: {kind: dispatcher}",
            f"  tile: {{kind: tile, count: {count - 4}, design: serial, rows: 16, columns: 16, lanes: 16}}",
            f"  r: {{kind: router, count: {count}, clock: noc}}",
            "links:",
            *(
                f"  - {{between: [{part}, {router}], width: 512 bit}}"
                for part, router in zip(parts, routers, strict=True)
            ),
            *(f"  - {{between: [{routers[a]}, {routers[b]}], width: 256 bit}}" for a, b in pairs),
        ]
    )


CLUSTERS = """\
schema: dpred-topology/1
name: clusters
clocks: {core: 1 GHz, slow: 500 MHz}
nodes:
  dram: {kind: dram_channel, count: 2, standard: DDR4-3200}
  hub: {kind: router}
  activations: {kind: buffer, holds: [activations, outputs], size: 4 MiB, port: 4096 bit}
  weights: {kind: buffer, holds: [weights], count: 2, size: 4 MiB, port: 4096 bit}
  dispatcher: {kind: dispatcher, count: 2}
  tile: {kind: tile, count: 8, design: serial, rows: 16, columns: 16, lanes: 16}
links:
  - {between: [dram.0, hub], width: 256 bit}
  - {between: [dram.1, hub], width: 256 bit}
  - {between: [hub, activations], width: 256 bit, clock: slow}
  - {from: hub, to: "weights[*]", width: 256 bit, medium: bus}
  - {from: activations, to: "dispatcher[*]", width: 256 bit, medium: bus}
  - {from: dispatcher.0, to: "tile[0..3]", medium: broadcast, width: 4096 bit}
  - {from: dispatcher.1, to: "tile[4..7]", medium: broadcast, width: 4096 bit}
  - {from: weights.0, to: "tile[0..3]", medium: bus, width: 4096 bit}
  - {from: weights.1, to: "tile[4..7]", medium: bus, width: 4096 bit}
  - {from: "tile[*]", to: [activations, "weights[*]"], medium: bus, width: 4096 bit}
"""


def systems() -> dict[str, Any]:
    """How to get each system that is drawn here."""
    files = {
        "mesh 4x4": fabric_file(4, 4),
        "mesh 4x4 shuffled": fabric_file(4, 4, shuffled=True),
        "mesh 9x3": fabric_file(9, 3),
        "ring 7": fabric_file(7, 1, ring=True),
        "ring 8": fabric_file(8, 1, ring=True),
        "clusters": CLUSTERS,
    }
    return {name: None for name in SHIPPED} | files


SYSTEMS = systems()


@pytest.fixture(params=SYSTEMS)
def topology(request: pytest.FixtureRequest) -> Topology:
    return system(request.param)


@cache
def system(name: str) -> Topology:
    if SYSTEMS[name] is None:
        return load_topology(name)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "system.yaml"
        path.write_text(SYSTEMS[name], encoding="utf-8")
        return load_checked(path)


@cache
def placed(name: str, width: int) -> Drawing:
    return place(make_scene(system(name)), width)


@pytest.fixture(params=[(name, width) for name in SYSTEMS for width in (80, 110)], ids=str)
def drawing(request: pytest.FixtureRequest) -> Drawing:
    return placed(*request.param)


def overlap(a: Rectangle, b: Rectangle) -> bool:
    return a.x <= b.right and b.x <= a.right and a.y <= b.bottom and b.y <= a.bottom


def test_every_component_and_every_link_is_drawn_once(topology: Topology) -> None:
    scene = make_scene(topology)
    components = [id for box in scene.boxes for id in box.ids]
    assert Counter(components) == Counter(list(topology.nodes))
    links = [name for wire in scene.wires for name in wire.links]
    links += [name for box in scene.boxes if box.fabric for name in box.fabric.links]
    assert Counter(links) == Counter(link.name for link in topology.links)


def test_boxes_and_wires_keep_apart(drawing: Drawing) -> None:
    for a, b in combinations(drawing.rectangles, 2):
        assert not overlap(a, b)
    for box, frame in zip(drawing.scene.boxes, drawing.rectangles, strict=True):
        if box.fabric is not None:
            cells = [cell_frame(box.fabric, cell, frame, drawing) for cell in box.fabric.cells]
            assert all(overlap(cell, frame) and cell.right < frame.right for cell in cells)
            assert not any(overlap(a, b) for a, b in combinations(cells, 2))
    taken: dict[tuple[int, int], int] = {}
    for route in drawing.routes:
        for part in route.segments:
            across = Rectangle(part.x1, part.y1, part.x2 - part.x1 + 1, part.y2 - part.y1 + 1)
            assert not any(overlap(across, frame) for frame in drawing.rectangles), route
            if part.y1 == part.y2:
                for x in range(part.x1, part.x2 + 1):
                    assert taken.setdefault((x, part.y1), route.wire) == route.wire


def test_wires_end_at_the_boxes_that_they_join(drawing: Drawing) -> None:
    for route in drawing.routes:
        wire = drawing.scene.wires[route.wire]
        ends = Counter(at_frame(drawing, tip.x + tip.way, tip.y) for tip in route.tips)
        assert ends == Counter(set(wire.sources) | set(wire.targets))
        heads = {at_frame(drawing, tip.x + tip.way, tip.y) for tip in route.tips if tip.arrow}
        assert heads == set(wire.targets)
        assert connected([(p.x1, p.y1, p.x2, p.y2) for p in route.segments])


def at_frame(drawing: Drawing, x: int, y: int) -> int:
    (found,) = [n for n, r in enumerate(drawing.rectangles) if x in (r.x, r.right) and r.y < y < r.bottom]
    return found


def connected(parts: list[tuple[int, int, int, int]]) -> bool:
    reached, waiting = set(), [parts[0]]
    while waiting:
        x1, y1, x2, y2 = waiting.pop()
        reached.add((x1, y1, x2, y2))
        waiting += [
            p
            for p in parts
            if p not in reached and p[0] <= x2 + 1 and x1 <= p[2] + 1 and p[1] <= y2 and y1 <= p[3]
        ]
    return reached == set(parts)


@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("name", SYSTEMS)
def test_text_fits_in_80_columns_and_says_everything(name: str, ascii_only: bool) -> None:
    drawing = placed(name, 80)
    text = draw_text(drawing, ascii_only=ascii_only)
    assert max(map(len, text.splitlines())) <= 80
    assert not ascii_only or text.isascii()
    assert all(line == line.rstrip() for line in text.splitlines())
    words = re.sub(r"[^\w.%]+", "", text)
    for box in drawing.scene.boxes:
        assert box.fabric is not None or all(part in words for part in box.title.split())
    assert all(MEDIA[wire.medium] in text for wire in drawing.scene.wires)
    if drawing.sizes.narrow < 2:
        for wire in drawing.scene.wires:
            assert wire.label[0].replace(" ", "") in words


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("mesh 4x4", "r x16: 4 x 4 mesh"),
        ("mesh 4x4 shuffled", "r x16: 4 x 4 mesh"),
        ("mesh 9x3", "r x27: 9 x 3 mesh"),
        ("ring 7", "r x7: ring"),
        ("ring 8", "r x8: ring"),
    ],
)
def test_networks_are_recognised_and_neighbours_stand_side_by_side(
    name: str, title: str, tmp_path: Path
) -> None:
    (box,) = make_scene(system(name)).boxes
    assert box.title == title
    assert box.fabric is not None
    cells = box.fabric.cells
    assert len({(cell.column, cell.row) for cell in cells}) == len(cells)
    far = []
    for strand in box.fabric.strands:
        a, b = cells[strand.first], cells[strand.second]
        assert strand.both and len(strand.links) == 2
        if abs(a.column - b.column) + abs(a.row - b.row) != 1:
            far.append(strand)
    assert len(far) == (1 if name == "ring 7" else 0)
    assert all(len(cell.attached) == 1 and len(cell.links) == 2 for cell in cells)


def test_the_way_of_the_data_goes_from_left_to_right() -> None:
    drawing = place(make_scene(load_topology("dpred_stripes_2ch")), 80)
    x = {box.kind: frame.x for box, frame in zip(drawing.scene.boxes, drawing.rectangles, strict=True)}
    assert x["dram_channel"] < x["buffer"] < x["dispatcher"] < x["tile"]
    titles = [box.title for box in drawing.scene.boxes]
    assert titles == ["dram x2", "activations", "weights x16", "dispatcher", "tile x16"]
    assert drawing.scene.boxes[0].lines == ("DDR4-3200", "64 bit bus", "stores dpred")
    assert drawing.scene.boxes[4].lines == ("dpred_stripes", "rows 16", "columns 16", "lanes 16")
    assert [wire.label for wire in drawing.scene.wires][:3] == [
        ("2 x", "256 bit"),
        ("2 x", "4096 bit"),
        ("512 bit",),
    ]
    straight = [len({part.y1 for part in route.segments}) == 1 for route in drawing.routes]
    assert all(straight)


def test_a_clock_of_its_own_is_said() -> None:
    scene = make_scene(system("clusters"))
    assert scene.notes == ("clocks: core 1 GHz, slow 500 MHz",)
    labels = [wire.label for wire in scene.wires]
    assert labels.count(("256 bit", "at 500 MHz")) == 2
    assert labels.count(("4 x", "4096 bit")) == 0
    assert labels.count(("2 x", "4096 bit")) == 2


@pytest.mark.parametrize("seed", range(0, 100, 10))
def test_any_boxes_and_wires_keep_apart(seed: int) -> None:
    """Tangles of up to 8 boxes and 10 wires with up to 4 ends, as no sane system has them."""
    for draw in map(random.Random, range(seed, seed + 10)):
        count = draw.randint(2, 8)
        boxes = tuple(
            Box(f"b{n}", (f"b{n}",), "buffer", ("x",) * draw.randint(0, 4), float(draw.randint(0, 4)))
            for n in range(count)
        )
        wires = []
        for n in range(draw.randint(1, 10)):
            ends = draw.sample(range(count), min(count, draw.choice([2, 2, 2, 3, 4])))
            cut = draw.randint(1, len(ends) - 1)
            wires.append(Wire((f"w{n}",), "bus", tuple(ends[:cut]), tuple(ends[cut:]), ("256 bit",)))
        drawing = place(Scene("tangle", (), boxes, tuple(wires), {}), 80)
        assert not any(overlap(a, b) for a, b in combinations(drawing.rectangles, 2))
        for route in drawing.routes:
            wire = wires[route.wire]
            for p in route.segments:
                part = Rectangle(p.x1, p.y1, p.x2 - p.x1 + 1, p.y2 - p.y1 + 1)
                assert not any(overlap(part, frame) for frame in drawing.rectangles)
            ends = Counter(at_frame(drawing, tip.x + tip.way, tip.y) for tip in route.tips)
            assert ends == Counter({*wire.sources, *wire.targets})
            assert connected([(p.x1, p.y1, p.x2, p.y2) for p in route.segments])


# after a run


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "one"
    result = simulate(random_workload(6, layers=3), load_topology("dpred_stripes_ddr4"))
    result.write(folder)
    return folder


def test_links_show_how_busy_they_were(run_folder: Path) -> None:
    topology = load_topology("dpred_stripes_ddr4")
    document = json.loads((run_folder / "run.json").read_text())
    busy = {
        row["component"]: row["value"] / document["time_ps"]
        for row in document["components"]
        if row["statistic"] == "busy_ps"
    }
    scene = make_scene(topology, read_usage(run_folder, topology))
    for wire in scene.wires:
        assert wire.utilisation == max(busy[name] for name in wire.links)
        assert wire.label[-1] in (f"{100 * wire.utilisation:.0f} %", "<1 %")
    (tiles,) = [box for box in scene.boxes if box.kind == "tile"]
    assert tiles.cells == tuple(busy[id] for id in tiles.ids)
    assert any(wire.utilisation for wire in scene.wires)
    picture = draw_picture(place(scene, 110), "svg").decode()
    for wire in scene.wires:
        assert utilisation_colour(wire.utilisation or 0.0) in picture
    assert scene.wires[0].label[-1] in text_drawing(topology, scene.usage)


def test_colours_follow_utilisation() -> None:
    colours = [utilisation_colour(n / 100) for n in range(101)]
    assert len(set(colours)) == 101
    assert (colours[0], colours[50], colours[100]) == ("#8fb3d9", "#f0b429", "#c81d25")
    assert utilisation_colour(-1) == colours[0] and utilisation_colour(2) == colours[100]
    blue = [int(colour[5:], 16) for colour in colours]
    assert blue[:51] == sorted(blue[:51], reverse=True)


def test_a_busy_link_has_another_colour_than_an_idle_one() -> None:
    topology = load_topology("dadiannao_ddr4")
    pictures = []
    for share in (0.0, 0.25, 0.9):
        values = {"activations->dispatcher": {"busy_ps": 1000 * share}}
        drawing = place(make_scene(topology, Usage("made up", 1000, values)), 110)
        picture = draw_picture(drawing, "svg").decode()
        assert utilisation_colour(share) in picture
        pictures.append(Counter(re.findall(r"stroke: (#\w+)", picture)))
    assert len({frozenset(colours.items()) for colours in pictures}) == 3
    assert pictures[0][utilisation_colour(0.0)] == pictures[1][utilisation_colour(0.0)] + 1


def test_links_of_networks_show_how_busy_they_were() -> None:
    topology = system("ring 7")
    shares = {link.name: n / 100 for n, link in enumerate(topology.links, 3)}
    usage = Usage("made up", 1000, {name: {"busy_ps": 1000 * share} for name, share in shares.items()})
    scene = make_scene(topology, usage)
    (fabric,) = [box.fabric for box in scene.boxes if box.fabric is not None]
    picture = draw_picture(place(scene, 110), "svg").decode()
    text = draw_text(place(scene, 80))
    for part in (*fabric.strands, *fabric.cells):
        assert part.utilisation == max(shares[name] for name in part.links)
        assert utilisation_colour(part.utilisation) in picture
    for strand in fabric.strands:
        assert f"{100 * (strand.utilisation or 0):.0f}%" in text


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_pictures_are_the_same_bytes_again(kind: str) -> None:
    for name in ("dpred_stripes_2ch", "ring 7"):
        drawing = place(make_scene(system(name)), 110)
        assert draw_picture(drawing, kind) == draw_picture(drawing, kind)


def test_a_picture_says_what_the_text_says() -> None:
    drawing = place(make_scene(load_topology("loom_ddr4")), 110)
    picture = draw_picture(drawing, "svg").decode()
    shown = re.findall(r">([^<>]+)</text>", picture)
    for box in drawing.scene.boxes:
        assert shown.count(box.title) == 1
    for wire in drawing.scene.wires:
        assert " ".join(wire.label) in shown


# the command


def test_the_command_writes_each_kind(
    tmp_path: Path, run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    starts = {"svg": b"<?xml", "png": b"\x89PNG", "txt": b"dpred_stripes_ddr4\n"}
    for kind, start in starts.items():
        path = tmp_path / f"system.{kind}"
        words = ["topology", "draw", "dpred_stripes_ddr4", "--out", str(path), "--run", str(run_folder)]
        assert main(words) == 0
        assert path.read_bytes().startswith(start)
        assert main(words) == 2
        assert "--force replaces it" in capsys.readouterr().err
        assert main([*words, "--force"]) == 0
    assert main(["topology", "draw", "dpred_stripes_ddr4", "--run", str(run_folder)]) == 0
    drawn = capsys.readouterr().out
    assert drawn.endswith((tmp_path / "system.txt").read_text(encoding="utf-8"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["system.png", "system.svg", "system.txt"]


def test_wrong_input_is_said(tmp_path: Path, run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*words: str) -> str:
        before = sorted(tmp_path.iterdir())
        assert main(["topology", "draw", *words]) == 2
        assert sorted(tmp_path.iterdir()) == before
        return capsys.readouterr().err

    assert "allowed: .svg, .png, .txt" in refused("loom_ddr4", "--out", str(tmp_path / "x.pdf"))
    assert "no such folder" in refused("loom_ddr4", "--out", str(tmp_path / "no" / "x.svg"))
    assert "not a result folder" in refused("loom_ddr4", "--run", str(tmp_path))
    assert "another system" in refused("loom_ddr4", "--run", str(run_folder))
    told = refused("dpred_stripes_ddr4", "--set", "nodes.tile.count=8", "--run", str(run_folder))
    assert "found 'dpred_stripes_ddr4'" in told
    assert "unknown topology" in refused("nonesuch")
    assert "--force" in refused("loom_ddr4", "--force")


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        ("run.json", "{", "not JSON"),
        ("run.json", "[]", "not a result"),
        ("run.json", '{"schema": "other"}', "allowed: dpred-run/1"),
        ("components.csv", "a,b\n", "wrong columns"),
        (
            "components.csv",
            "component,kind,statistic,unit,value\ndram,x,y,z,much\n",
            "components.csv:2: not a statistic",
        ),
        (
            "components.csv",
            "component,kind,statistic,unit,value\ndram,x\n",
            "components.csv:2: not a statistic",
        ),
        ("components.csv", None, "cannot be read"),
    ],
)
def test_damaged_result_folders_are_refused(
    file: str, text: str | None, told: str, tmp_path: Path, run_folder: Path
) -> None:
    folder = tmp_path / "damaged"
    folder.mkdir()
    for path in run_folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / file).unlink()
    if text is not None:
        (folder / file).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=re.escape(told)):
        read_usage(folder, load_topology("dpred_stripes_ddr4"))


def test_without_matplotlib_the_error_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r"\[plots\]"):
        draw_file(load_topology("loom_ddr4"), tmp_path / "x.svg")
    draw_file(load_topology("loom_ddr4"), tmp_path / "x.txt")


def test_positions_keep_their_distances() -> None:
    line = Line()
    a, b, c = line.new(), line.new(2), line.new()
    line.behind(a, b, 5)
    line.behind(b, c, 1)
    assert not line.join(a, c)
    assert line.solve() == [0, 5, 6]
    d = line.new()
    assert line.join(d, b)
    assert line.solve() == [0, 5, 6, 5]
