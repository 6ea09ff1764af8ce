from __future__ import annotations

import io
from collections import Counter

import pytest
from fake_runs import component, components, snapshot
from rich.console import Console

from dpred_sim.observe.frame import Frames, Heading, Size, fold, state_text

HEADING = Heading(
    "resnet50_thin", "trained weights on photos, " + "profiled " * 12, False, "dpred_stripes_ddr4", 16
)
SIZES = [(80, 24), (100, 30), (120, 40), (200, 60), (60, 20), (40, 12), (20, 6), (10, 3), (8, 2), (1, 1)]


def drawn(frame, width: int, height: int, **options) -> list[str]:
    """What a console of that size prints, line by line."""
    stream = io.StringIO()
    console = Console(
        file=stream, width=width, height=height, force_terminal=True, color_system=None, **options
    )
    console.print(frame)
    return stream.getvalue().rstrip("\n").split("\n")


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("done", [0.0, 0.5, 1.0])
def test_a_frame_fits_its_terminal(width: int, height: int, done: float) -> None:
    shot = snapshot(done, layer_name="model/stage_{}/block/convolution_with_a_long_name/Conv_output_0")
    size = Size(width, height)
    frame = Frames(HEADING).frame(shot, 3.0, size)
    assert frame.plain.count("\n") + 1 == size.rows <= max(1, height - 1)
    assert size.rows <= 30
    lines = drawn(frame, width, height)
    assert len(lines) <= max(1, height - 1)
    assert max(len(line) for line in lines) <= width


def test_every_frame_of_one_terminal_has_the_same_height() -> None:
    frames = Frames(HEADING)
    size = Size(80, 24)
    shots = [snapshot(0.0, recent=0, offchip=0, time_ps=0), snapshot(0.3, recent=2), snapshot(1.0, parts=())]
    assert {frames.frame(shot, 1.0, size).plain.count("\n") for shot in shots} == {22}


def test_a_terminal_with_24_rows_shows_all_kinds_of_things() -> None:
    text = Frames(HEADING).frame(snapshot(0.5), 4.0, Size(80, 24)).plain
    assert "resnet50_thin on dpred_stripes_ddr4, 16 bit" in text
    assert "values: trained weights" in text and "SYNTHETIC" not in text
    assert " 50%  0:04, 0:04 left" in text
    assert "28 of 54  layer27" in text and " 25%" in text
    assert "10.0 MiB stored of 30.0 MiB raw = 0.333" in text
    assert "act. 4.31 bit" in text and "wgt." not in text
    for name in ("dram", "activations", "weights[*] x16", "tile[*] x16", "dispatcher", "sequencer"):
        assert f"\n{name} " in text
    assert "12 busy, 4 wait for weights" in text
    assert "waits for next layer" in text
    assert text.rstrip().endswith("dram -> weights.15        weights      layer27   1,331 of 4,096 B")


def test_synthetic_values_are_labelled_on_every_size() -> None:
    heading = Heading("alexnet", "drawn with seed 0", True, "dpred_stripes_ddr4", 16)
    for width, height in ((120, 40), (80, 24), (40, 10)):
        assert "SYNTHETIC values" in Frames(heading).frame(snapshot(), 1.0, Size(width, height)).plain


def test_bandwidth_is_what_moved_since_a_few_frames_ago() -> None:
    frames, size = Frames(HEADING), Size(100, 30)
    moved = [0, 0, 25_600_000, 25_600_000, 25_600_000, 38_400_000, 64_000_000, 89_600_000]
    shown = []
    for i, count in enumerate(moved):
        text = frames.frame(snapshot(0.1, time_ps=i * 10**9, offchip=count), 1.0, size).plain
        shown.append(float(text.partition(" of 25.6 GB/s now")[0].split()[-1]))
    assert shown == [0.0, 0.0, 12.8, 8.5, 6.4, 9.6, 9.6, 16.0]
    # no simulated time has passed: the last figure stays
    again = frames.frame(snapshot(0.1, time_ps=7 * 10**9, offchip=moved[-1]), 1.0, size).plain
    assert "16.0 of 25.6 GB/s now" in again


def test_bandwidth_never_seems_above_peak() -> None:
    text = Frames(HEADING).frame(snapshot(0.1, time_ps=10**9, offchip=26_000_000), 1.0, Size(100, 30)).plain
    assert "100%  25.6 of 25.6 GB/s now" in text


def test_buffers_show_what_they_hold_and_links_wait_for_nothing() -> None:
    lines = Frames(HEADING).frame(snapshot(), 1.0, Size(100, 31)).plain.splitlines()
    rows = {line.split()[0]: line for line in lines}
    assert "holds 2.0 MiB of 4.0 MiB" in rows["activations"] and rows["activations"].endswith(" 50%")
    assert "holds 3.8 MiB of 8.0 MiB" in rows["weights[*]"]
    assert state_text(Counter(dram=1), "bus") == "idle" and state_text(Counter(busy=2), "bus") == "busy"


def test_more_room_shows_more_transfers_the_newest_last() -> None:
    small = Frames(HEADING).frame(snapshot(), 1.0, Size(100, 24)).plain.splitlines()
    large = Frames(HEADING).frame(snapshot(), 1.0, Size(100, 31)).plain.splitlines()
    traced = [sum("of 4,096 B" in line for line in lines) for lines in (small, large)]
    assert 3 <= traced[0] < traced[1]
    assert "1,331 of" in small[-1] and "1,331 of" in large[-1]


def test_many_components_leave_room_for_transfers_and_say_how_many_are_missing() -> None:
    kinds = tuple(component(f"part_{chr(97 + i)}", "router") for i in range(26))
    text = Frames(HEADING).frame(snapshot(parts=kinds), 1.0, Size(80, 24)).plain
    shown = sum(line.startswith("part_") for line in text.splitlines())
    assert f"and {26 - shown} more" in text
    assert text.count("of 4,096 B") == 3


def test_instances_fold_and_links_come_last() -> None:
    groups = fold(components())
    names = [group.name for group in groups]
    assert names[-1] == "weights[*]->tile[*] x16" and names[0] == "dram"
    tiles = next(group for group in groups if group.name == "tile[*] x16")
    assert tiles.states == Counter(busy=12, weights=4)
    assert tiles.busy_fraction == pytest.approx(sum(range(16)) / 16 / 16)
    weights = next(group for group in groups if group.name == "weights[*] x16")
    assert weights.level_bits == sum(range(16)) << 18 and weights.capacity_bits == 16 << 22


def test_one_instance_keeps_its_name() -> None:
    assert [group.name for group in fold([component("tile.0", "tile")])] == ["tile.0"]


@pytest.mark.parametrize(
    ("states", "text"),
    [
        ({"busy": 3}, "busy"),
        ({"weights": 1}, "waits for weights"),
        ({"output": 2}, "waits for output room"),
        ({"finished": 16}, "finished"),
        ({"busy": 1, "dram": 1}, "1 busy, 1 waits for dram"),
        ({"no_filters": 9, "busy": 7}, "9 idle: no filters, 7 busy"),
    ],
)
def test_state_text(states: dict[str, int], text: str) -> None:
    assert state_text(Counter(states)) == text


def test_ascii_terminals_get_ascii() -> None:
    heading = Heading("naïve", "größe", True, "t", 16)
    text = Frames(heading).frame(snapshot(), 1.0, Size(60, 24, ascii_only=True)).plain
    assert text.isascii() and "#" in text


def test_control_characters_of_names_do_not_reach_the_terminal() -> None:
    heading = Heading("bad\x1b[2Jname\n", "src\r\t", False, "t", 16)
    text = Frames(heading).frame(snapshot(), 1.0, Size(80, 24)).plain
    assert "\x1b" not in text and text.count("\n") == 22


def test_wide_characters_do_not_overflow() -> None:
    heading = Heading("網" * 80, "値" * 80, False, "t", 16)
    frame = Frames(heading).frame(snapshot(layer_name="層{0}" * 30), 1.0, Size(50, 24))
    assert len(drawn(frame, 50, 24)) == 23


def test_nothing_to_show_yet() -> None:
    shot = snapshot(0.0, layers=1, time_ps=0, offchip=0, parts=(), recent=0)
    text = Frames(HEADING).frame(shot, 0.0, Size(80, 24)).plain
    assert "-:-- left" in text and "0 B stored of 0 B raw" in text
