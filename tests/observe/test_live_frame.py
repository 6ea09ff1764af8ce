from __future__ import annotations

import io
from collections import Counter

import pytest
from fake_runs import component, components, snapshot
from rich.console import Console

from dpred_sim.observe.frame import Frames
from dpred_sim.observe.groups import Group, fold, state_text
from dpred_sim.observe.pen import Pen, Size
from dpred_sim.observe.status import Heading, Status
from dpred_sim.simulation.snapshot import Snapshot

HEADING = Heading(
    "resnet50_thin", "trained weights on photos, " + "profiled " * 12, False, "dpred_stripes_ddr4", 16
)
STATUS = Status(elapsed_s=4.0, left_s=4.0, speed="8 s a run", keys=True)
SIZES = [
    (80, 24),
    (100, 30),
    (120, 40),
    (160, 50),
    (200, 60),
    (60, 20),
    (40, 12),
    (20, 6),
    (10, 3),
    (8, 2),
    (1, 1),
]


def frame_of(shot: Snapshot, width: int, height: int, *, heading: Heading = HEADING, **options) -> str:
    return Frames(heading).frame(shot, STATUS, Size(width, height, **options)).plain


def drawn(frame, width: int, height: int) -> list[str]:
    """What a console of that size prints, line by line."""
    stream = io.StringIO()
    console = Console(file=stream, width=width, height=height, force_terminal=True, color_system=None)
    console.print(frame)
    return stream.getvalue().rstrip("\n").split("\n")


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("done", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("looks", ["plain", "expanded", "help"])
def test_a_frame_fits_its_terminal(width: int, height: int, done: float, looks: str) -> None:
    shot = snapshot(done, layer_name="model/stage_{}/block/convolution_with_a_long_name/Conv_output_0")
    frames = Frames(HEADING)
    frames.frame(shot, STATUS, Size(width, height))
    if looks != "plain":
        frames.key("enter" if looks == "expanded" else "?")
    lines = drawn(frames.frame(shot, STATUS, Size(width, height)), width, height)
    assert len(lines) == height
    assert {len(line) for line in lines} == {width}


def test_a_terminal_with_24_rows_shows_all_kinds_of_things() -> None:
    text = frame_of(snapshot(0.5), 80, 24)
    lines = text.splitlines()
    assert lines[0].startswith("resnet50_thin on dpred_stripes_ddr4, 16 bit")
    assert lines[0].rstrip().endswith("8 s a run")
    assert "values: trained weights" in text and "SYNTHETIC" not in text
    assert "  50%  1 ms simulated  0:04, 0:04 left" in text
    assert "  25%  28 of 54  layer27" in text
    assert "10.0 MiB stored of 30.0 MiB raw = 0.333" in text
    assert "data 60%  idle 30%  row misses 10%" in text
    assert "4.31 bit" in text and "wgt." not in text
    for name in ("dram", "activations", "weights[*] x16", "tile[*] x16", "dispatcher", "weight_dma"):
        assert f"\n{name} " in text
    assert "12 busy, 4 wait for wei" in text
    assert "waits for room in weights" in text
    assert "waits for activations" in text
    assert "\nlinks  dram->activations 50%" in text
    told = "999.995 us weight_dma layer27 read 1,331 of 4,096 B weights in 400 ns"
    assert lines[-2].split() == told.split()
    assert lines[-1].startswith(" space pause  e p l step")


def test_a_wide_terminal_has_charts_and_a_row_a_link() -> None:
    text = frame_of(snapshot(0.5), 160, 50)
    assert "groups of 16 values by width in bit" in text and "act. mean 4.31" in text
    assert "time of the DRAM data buses" in text and "row misses" in text and " 10.0%" in text
    assert "\nweights[*]->tile[*] x16 " in text and "\nlinks" not in text
    assert "space pause  e event  p pass  l layer" in text


def test_columns_are_as_high_as_their_values() -> None:
    pen = Pen(Size(80, 24))
    assert pen.columns([0, 1, 8, 16], 2, 16) == ["   █", " ▁██"]
    assert pen.spark([0, 0.01, 0.5, 1, 3]) == " ▁▄██"
    assert Pen(Size(80, 24, ascii_only=True)).spark([0, 1]).isascii()


def test_synthetic_values_are_labelled_on_every_size() -> None:
    heading = Heading("alexnet", "drawn with seed 0", True, "dpred_stripes_ddr4", 16)
    for width, height in ((160, 50), (120, 40), (80, 24), (40, 10)):
        assert "SYNTHETIC values" in frame_of(snapshot(), width, height, heading=heading)


def test_bandwidth_is_what_moved_since_a_few_frames_ago() -> None:
    frames, size = Frames(HEADING), Size(100, 30)
    moved = [0, 0, 25_600_000, 25_600_000, 25_600_000, 38_400_000, 64_000_000, 89_600_000]
    shown = []
    for i, count in enumerate(moved):
        text = frames.frame(snapshot(0.1, time_ps=i * 10**9, offchip=count), STATUS, size).plain
        shown.append(float(text.partition(" of 25.6 GB/s now")[0].split()[-1]))
    assert shown == [0.0, 0.0, 12.8, 8.5, 6.4, 9.6, 9.6, 16.0]
    # no simulated time has passed: the last figure stays
    again = frames.frame(snapshot(0.1, time_ps=7 * 10**9, offchip=moved[-1]), STATUS, size).plain
    assert "16.0 of 25.6 GB/s now" in again


def test_bandwidth_never_seems_above_peak() -> None:
    text = frame_of(snapshot(0.1, time_ps=10**9, offchip=26_000_000), 100, 30)
    assert "100%  25.6 of 25.6 GB/s now" in text


def test_a_sparkline_shows_when_a_component_was_busy_and_forgets_the_future() -> None:
    frames, size = Frames(HEADING), Size(100, 31)

    def spark(time_us: int, busy: float) -> str:
        parts = (component("tile.0", "tile", busy=busy),)
        shot = snapshot(0.1, time_ps=time_us * 10**6, parts=parts)
        row = next(x for x in frames.frame(shot, STATUS, size).plain.splitlines() if x.startswith("tile.0"))
        return row.partition("%")[2].strip(" ")

    spark(100, 1.0)
    late = spark(200, 0.5)  # nothing in the second half
    assert set(late) == {"█"} and len(late) < 20
    half = len(late)
    whole = spark(100, 1.0)  # back again: the second half has not happened
    assert set(whole) == {"█"} and len(whole) == 2 * half


def test_buffers_show_what_they_hold_and_links_wait_for_nothing() -> None:
    rows = {line.split()[0]: line for line in frame_of(snapshot(), 100, 31).splitlines() if line.strip()}
    assert "holds 2.0 of 4.0 MiB" in rows["activations"] and " 50%" in rows["activations"]
    assert "holds 3.8 of 8.0 MiB" in rows["weights[*]"]
    assert text_of({"dram": 1}, "bus") == "idle" and text_of({"busy": 2}, "bus") == "busy"


def test_more_room_shows_more_events_the_newest_last() -> None:
    small = frame_of(snapshot(), 100, 24).splitlines()
    large = frame_of(snapshot(), 100, 40).splitlines()
    traced = [sum("of 4,096 B" in line for line in lines) for lines in (small, large)]
    assert 3 <= traced[0] < traced[1]
    assert "1,331 of" in small[-2] and "1,331 of" in large[-2]


def test_many_components_leave_room_for_events_and_say_how_many_are_missing() -> None:
    kinds = tuple(component(f"part_{chr(97 + i)}", "router") for i in range(26))
    text = frame_of(snapshot(parts=kinds), 80, 24)
    shown = sum(line.startswith("part_") for line in text.splitlines())
    assert f"{26 - shown} more rows" in text
    assert text.count("of 4,096 B") == 3


def test_a_component_is_chosen_and_expanded_with_keys() -> None:
    frames, size, shot = Frames(HEADING), Size(100, 40), snapshot()
    frames.frame(shot, STATUS, size)
    assert not frames.key("x") and frames.chosen == ()
    assert frames.key("down") and frames.chosen == ("dram",)
    assert frames.key("up") and frames.chosen == ("activations->dram",)
    frames.key("escape")
    assert frames.chosen == ()
    frames.key("enter")  # tiles are what most people look for
    assert frames.chosen == tuple(f"tile.{i}" for i in range(16))
    text = frames.frame(shot, STATUS, size).plain
    assert "  tile.0  " in text and "  tile.15 " in text and "busy 47%" in text
    frames.key("enter")
    assert "  tile.15 " not in frames.frame(shot, STATUS, size).plain


def test_the_chosen_row_is_always_seen() -> None:
    frames, size, shot = Frames(HEADING), Size(80, 24), snapshot()
    frames.frame(shot, STATUS, size)
    for group in frames.groups:
        frames.key("down")
        text = frames.frame(shot, STATUS, size).plain
        assert f"\n{group.name[:12]}" in text, group.name


def test_an_expanded_component_says_where_its_time_went() -> None:
    waits = {"weights": 3 * 10**8, "layer_barrier": 2 * 10**8}
    parts = (component("tile.0", "tile", "weights", 0.5, waits_ps=waits, bits_moved=8 << 20),)
    frames, size, shot = Frames(HEADING), Size(100, 31), snapshot(parts=parts, time_ps=10**9)
    frames.frame(shot, STATUS, size)
    frames.key("enter")
    text = frames.frame(shot, STATUS, size).plain
    assert "busy 50%; waited for weights 30%, next layer 20%; 1.0 MiB moved" in text


def test_help_lists_the_keys_and_those_of_a_replay_only_there() -> None:
    frames, size = Frames(HEADING), Size(80, 24)
    frames.key("?")
    text = frames.frame(snapshot(), STATUS, size).plain
    assert "pause, go on" in text and "layer before" not in text and "at full speed" in text
    again = frames.frame(snapshot(), Status(keys=True, back=True), size).plain
    assert "layer before" in again and "replay" in again
    frames.key("escape")
    assert "pause, go on" not in frames.frame(snapshot(), STATUS, size).plain


def test_a_paused_view_says_so_and_an_answer_replaces_the_hints() -> None:
    status = Status(playing=False, keys=True, note="this is the end")
    lines = Frames(HEADING).frame(snapshot(), status, Size(80, 24)).plain.splitlines()
    assert lines[0].rstrip().endswith("paused") and lines[-1].strip() == "this is the end"


def test_instances_fold_in_the_order_of_the_way_and_the_busiest_link_comes_first() -> None:
    groups = fold(components())
    names = [group.name for group in groups]
    assert names[:3] == ["dram", "weight_dma", "activations"]
    assert names[-1] == "activations->dram" and names[-2] == "weights[*]->tile[*] x16"
    tiles = next(group for group in groups if group.name == "tile[*] x16")
    assert tiles.states == Counter(busy=12, weights=4)
    assert tiles.busy_fraction == pytest.approx(sum(range(16)) / 16 / 16)
    weights = next(group for group in groups if group.name == "weights[*] x16")
    assert weights.level_bits == sum(range(16)) << 18 and weights.capacity_bits == 16 << 22


def test_one_instance_keeps_its_name() -> None:
    assert [group.name for group in fold([component("tile.0", "tile")])] == ["tile.0"]


def text_of(states: dict[str, int], kind: str = "tile", **more) -> str:
    members = [component(f"x.{i}", kind, s, **more) for s, n in states.items() for i in range(n)]
    return state_text(Group("x", kind, tuple(members)))


@pytest.mark.parametrize(
    ("states", "text"),
    [
        ({"busy": 3}, "busy"),
        ({"weights": 1}, "waits for weights"),
        ({"output": 2}, "waits for output room"),
        ({"finished": 16}, "finished"),
        ({"busy": 1, "dram": 1}, "1 busy, 1 waits for partial sums"),
        ({"no_filters": 9, "busy": 7}, "9 idle: no filters, 7 busy"),
    ],
)
def test_state_text(states: dict[str, int], text: str) -> None:
    assert text_of(states) == text


def test_a_wait_names_who_can_end_it() -> None:
    assert text_of({"weights": 2}, waits_on="weight_dma") == "waits for weights from weight_dma"
    assert text_of({"room": 1}, "dma", waits_on="weights", in_flight_bytes=0) == "waits for room in weights"
    assert text_of({"busy": 1}, "dma", in_flight_bytes=32768) == "32.0 KiB in flight"
    assert text_of({"layer_barrier": 1}, "dma", in_flight_bytes=0) == "idle"


def test_ascii_terminals_get_ascii() -> None:
    heading = Heading("naïve", "größe", True, "t", 16)
    for width, height in ((60, 24), (160, 50)):
        text = frame_of(snapshot(), width, height, heading=heading, ascii_only=True)
        assert text.isascii() and "#" in text


def test_control_characters_of_names_do_not_reach_the_terminal() -> None:
    heading = Heading("bad\x1b[2Jname\n", "src\r\t", False, "t", 16)
    text = frame_of(snapshot(), 80, 24, heading=heading)
    assert "\x1b" not in text and text.count("\n") == 23


def test_wide_characters_do_not_overflow() -> None:
    heading = Heading("網" * 80, "値" * 80, False, "t", 16)
    frame = Frames(heading).frame(snapshot(layer_name="層{0}" * 30), STATUS, Size(50, 24))
    assert len(drawn(frame, 50, 24)) == 24


def test_nothing_to_show_yet() -> None:
    shot = snapshot(0.0, layers=1, time_ps=0, offchip=0, parts=(), recent=0)
    text = Frames(HEADING).frame(shot, Status(), Size(80, 24)).plain
    assert "-:-- left" in text and "0 B stored of 0 B raw" in text
