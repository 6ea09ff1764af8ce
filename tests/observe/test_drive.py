from __future__ import annotations

import io
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from fake_runs import FakeSource, layer_result, run_result, snapshot
from rich.console import Console

from dpred_sim.errors import InputError
from dpred_sim.observe.drive import drive
from dpred_sim.observe.frame import Frames
from dpred_sim.observe.live import LiveView, frame_svg
from dpred_sim.observe.pace import Pace, parse_pace
from dpred_sim.observe.pen import Size
from dpred_sim.observe.plain import PlainView
from dpred_sim.observe.record.selection import Selection
from dpred_sim.observe.status import Heading, Status
from dpred_sim.simulation.snapshot import Snapshot

HEADING = Heading("tiny", "captured from photos", False, "dpred_stripes_ddr4", 16)


class Ticks:
    """Wall time that passes only in sleeps, and a little with each look at it."""

    def __init__(self, look_s: float = 0.001) -> None:
        self.now_s = 0.0
        self.look_s = look_s
        self.slept_s = 0.0

    def now(self) -> float:
        self.now_s += self.look_s
        return self.now_s

    def keys(self, presses: Sequence[tuple[float, str]] = (), has_keys: bool = False) -> FakeKeys:
        return FakeKeys(self, presses, has_keys or bool(presses))


class FakeKeys:
    """Keys that are pressed at given times."""

    in_front = True
    suspend_wanted = False

    def __init__(self, ticks: Ticks, presses: Sequence[tuple[float, str]], has_keys: bool) -> None:
        self.ticks = ticks
        self.presses = list(presses)
        self.has_keys = has_keys
        self.suspended = 0

    def wait(self, seconds: float) -> list[str]:
        assert 0 <= seconds <= 0.1
        self.ticks.now_s += seconds
        self.ticks.slept_s += seconds
        pressed = [key for at, key in self.presses if at <= self.ticks.now_s]
        self.presses = [press for press in self.presses if press[0] > self.ticks.now_s]
        if "suspend" in pressed:
            pressed.remove("suspend")
            self.suspend_wanted = True
        return pressed

    def suspend(self) -> None:
        self.suspend_wanted = False
        self.suspended += 1
        self.ticks.now_s += 100


@dataclass
class Recorder:
    wants_events = True
    keeps_last = True
    chosen: tuple[str, ...] = ()
    shots: list[Snapshot] = field(default_factory=list)
    statuses: list[Status] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    pressed: list[str] = field(default_factory=list)
    ticks: Ticks | None = None
    hidden: int = 0
    closed: int = 0

    def update(self, shot: Snapshot, status: Status) -> None:
        self.shots.append(shot)
        self.statuses.append(status)
        self.times.append(self.ticks.now_s if self.ticks else status.elapsed_s)

    def key(self, key: str) -> bool:
        self.pressed.append(key)
        return key != "x"

    def hide(self) -> None:
        self.hidden += 1

    def close(self) -> None:
        self.closed += 1


def played(source: FakeSource, presses: Sequence[tuple[float, str]], pace: Pace, **options):
    ticks = Ticks(look_s=0.0005)
    seen, keys = Recorder(ticks=ticks), ticks.keys(presses)
    complete = drive(source, seen, pace=pace, keys=keys, now=ticks.now, **options)
    assert seen.closed == 1
    return complete, seen, ticks, keys


def test_a_run_without_display_just_runs() -> None:
    source = FakeSource()
    assert drive(source)
    assert source.done == 1


def test_frames_come_at_4_hz_and_the_last_shows_the_end() -> None:
    source = FakeSource(events=3 * 10**6)
    ticks = Ticks(look_s=0.002)
    seen = Recorder(ticks=ticks)
    assert drive(source, seen, now=ticks.now)
    assert seen.closed == 1 and seen.shots[-1].finished and not seen.shots[0].finished
    gaps = [after - before for before, after in zip(seen.times, seen.times[1:], strict=False)]
    assert len(gaps) > 5
    assert all(0.25 <= gap < 0.27 for gap in gaps[:-1])


def test_a_dear_display_takes_a_small_part_of_the_time() -> None:
    ticks = Ticks(look_s=0.002)

    class Dear(Recorder):
        def update(self, shot: Snapshot, status: Status) -> None:
            super().update(shot, status)
            ticks.now_s += 0.1

    seen = Dear()
    drive(FakeSource(events=3 * 10**7), seen, now=ticks.now)
    assert len(seen.shots) > 5
    assert 0.1 * len(seen.shots) < 0.05 * ticks.now_s + 0.2


def test_at_full_speed_events_are_gathered_only_before_a_frame() -> None:
    source, ticks = FakeSource(events=10**6), Ticks(look_s=0.002)
    drive(source, Recorder(), now=ticks.now)
    assert any(source.listening)
    assert sum(source.listening) < 0.2 * len(source.listening)


@pytest.mark.parametrize("events", [3, 100, 10_000, 1_000_000])
@pytest.mark.parametrize("by_time", [False, True])
def test_a_paced_run_follows_the_wall_clock(events: int, by_time: bool) -> None:
    source = FakeSource(events=events)
    pace = Pace(slowdown=8 / (source.whole.time_ps * 1e-12)) if by_time else Pace(8.0)
    ticks = Ticks(look_s=0.0001)
    seen = Recorder(ticks=ticks)
    assert drive(source, seen, pace=pace, keys=ticks.keys(), now=ticks.now)
    if events > 100:
        assert ticks.now_s == pytest.approx(8.0, rel=0.15)
        for shot, elapsed in list(zip(seen.shots, seen.times, strict=True))[3:-1]:
            assert shot.work_done / shot.work_total == pytest.approx(elapsed / 8, abs=0.08)
    assert seen.shots[-1].finished and all(source.listening[1:-1])


def test_full_speed_never_sleeps() -> None:
    ticks = Ticks()
    drive(FakeSource(), Recorder(), keys=ticks.keys(), now=ticks.now)
    assert ticks.slept_s == 0


def test_a_run_stops_between_events_when_told_to() -> None:
    source, seen = FakeSource(events=10**6), Recorder()
    assert not drive(source, seen, stop=lambda: len(source.calls) >= 3)
    assert len(source.calls) == 3 and 0 < source.done < 1
    assert seen.closed == 1 and not seen.shots[-1].finished


def test_a_paced_run_stops_in_its_sleep() -> None:
    source, ticks = FakeSource(events=1000), Ticks()
    keys = ticks.keys()
    assert not drive(source, pace=Pace(1000), keys=keys, stop=lambda: ticks.slept_s > 1, now=ticks.now)
    assert ticks.slept_s < 2


@pytest.mark.parametrize("fails_at", [0, 2])
@pytest.mark.parametrize("close_fails", [False, True])
def test_a_failing_view_is_detached_and_the_run_goes_on(fails_at: int, close_fails: bool) -> None:
    class Failing(Recorder):
        def update(self, shot: Snapshot, status: Status) -> None:
            super().update(shot, status)
            if len(self.shots) > fails_at:
                raise ZeroDivisionError("no width")

        def close(self) -> None:
            super().close()
            if close_fails:
                raise BrokenPipeError

    source, view, said = FakeSource(events=10**6), Failing(), []
    ticks = Ticks(look_s=0.001)
    keys = ticks.keys()
    assert drive(source, view, pace=Pace(30), keys=keys, complain=said.append, now=ticks.now)
    assert source.done == 1 and view.closed == 1 and len(view.shots) == fails_at + 1
    assert said == ["the view stopped (ZeroDivisionError: no width); the run goes on without it"]


def test_a_failing_run_fails_and_gives_the_terminal_back() -> None:
    class Broken(FakeSource):
        def advance(self, events: int) -> bool:
            raise RuntimeError("deadlock")

    seen = Recorder()
    with pytest.raises(RuntimeError, match="deadlock"):
        drive(Broken(), seen)
    assert seen.closed == 1


def test_what_is_simulated_does_not_depend_on_display_or_pace() -> None:
    results = []
    for display, pace in ((None, Pace()), (Recorder(), Pace()), (Recorder(), Pace(5.0))):
        source, ticks = FakeSource(), Ticks()
        drive(source, display, pace=pace, keys=ticks.keys(), now=ticks.now)
        results.append(source.result())
    assert results[0] == results[1] == results[2]


def test_space_pauses_and_pauses_do_not_count() -> None:
    complete, seen, ticks, _ = played(FakeSource(), [(2, "space"), (7, "space")], Pace(8))
    assert complete and ticks.now_s == pytest.approx(13, rel=0.1)
    paused = [(t, s) for t, s in zip(seen.times, seen.shots, strict=True) if 2.2 < t < 6.9]
    assert len({shot.work_done for _, shot in paused}) == 1 and len(paused) > 10
    assert seen.statuses[-1].elapsed_s == pytest.approx(8, rel=0.1)
    halted = {status.playing for t, status in zip(seen.times, seen.statuses, strict=True) if 2.2 < t < 6.9}
    assert halted == {False}


def test_steps_pause_and_go_by_event_pass_and_layer() -> None:
    source = FakeSource(events=3000)
    keys = [(1, "e"), (1.5, "e"), (2, "p"), (2.5, "l"), (3, "E"), (3.5, "space")]
    complete, seen, _, _ = played(source, keys, Pace(4))
    assert complete
    assert source.steps == [("event", False), ("event", False), ("pass", False), ("layer", False)]
    notes = {status.note for status in seen.statuses}
    assert any("cannot go back" in note for note in notes)
    stepped = [shot.work_done for t, shot in zip(seen.times, seen.shots, strict=True) if 1.1 < t < 3.4]
    assert len(set(stepped)) == 4 and seen.statuses[-1].playing is False  # the end


def test_a_record_goes_back_and_waits_at_its_end_until_somebody_quits() -> None:
    source = FakeSource(events=3000, reversible=True)
    keys = [
        (1, "L"),
        (1.2, "b"),
        (1.4, "n"),
        (1.6, "P"),
        (2, "space"),
        (30, "e"),
        (31, "b"),
        (32, "space"),
        (60, "q"),
    ]
    complete, seen, ticks, _ = played(source, keys, Pace(4), hold=True)
    assert complete and 60 <= ticks.now_s < 61
    assert source.steps == [
        ("layer", True),
        ("layer", True),
        ("layer", False),
        ("pass", True),
        ("layer", True),
    ]
    assert "this is the end" in {status.note for status in seen.statuses}
    assert seen.shots[-1].finished, "after the way back it played on to the end again"


def test_without_keys_nobody_is_waited_for_at_the_end() -> None:
    ticks = Ticks()
    source = FakeSource(events=3000, reversible=True)
    assert drive(source, Recorder(), pace=Pace(2), keys=ticks.keys(), hold=True, now=ticks.now)
    assert ticks.now_s < 3


def test_quitting_the_view_of_a_run_lets_it_go_on_at_full_speed() -> None:
    source = FakeSource(events=100_000)
    complete, seen, ticks, _ = played(source, [(2, "q")], Pace(100))
    assert complete and source.done == 1 and ticks.now_s < 3
    assert not seen.shots[-1].finished and source.listening[-1] is False


def test_faster_slower_and_full_speed() -> None:
    speeds = []
    for key, least, most in (("+", 4.5, 5.5), ("-", 13, 15), ("0", 2, 2.2)):
        _, seen, ticks, _ = played(FakeSource(events=20_000), [(2, key)], Pace(8))
        assert least < ticks.now_s < most, key
        speeds.append(seen.statuses[-1].speed)
    assert speeds == ["4 s a run", "16 s a run", "full speed"]


def test_the_pace_halves_and_doubles() -> None:
    pace = Pace(8.0)
    for _ in range(6):
        pace = pace.faster()
    assert pace.full and pace.faster().full and pace.slower() == Pace(2.0)
    assert Pace(slowdown=1000).faster() == Pace(slowdown=500)
    assert str(Pace(slowdown=1000).slower()) == "2,000x slower than the machine"


def test_a_pace_in_words() -> None:
    assert parse_pace("15s") == parse_pace(" 15 s ") == Pace(15.0) and parse_pace("0") == Pace()
    assert parse_pace("1000x") == Pace(slowdown=1000.0) and parse_pace("500ms") == Pace(0.5)
    for word in ("soon", "3", "-3s", "3 MiB", "x", "-2x", "0x", "nanx", "infx", "1e99x"):
        with pytest.raises(InputError, match="--pace"):
            parse_pace(word)


def test_other_keys_are_for_the_display_and_f_follows_what_it_has_chosen() -> None:
    class Choosing(FakeSource):
        followed: list[Selection] = []  # noqa: RUF012

        def follow(self, selection: Selection) -> None:
            super().follow(selection)
            self.followed.append(selection)

    source = Choosing(events=5000)
    source.selection = asked = Selection(("dram",), ("conv*",))
    ticks = Ticks(look_s=0.0005)
    seen = Recorder(("tile.0", "tile.1"), ticks=ticks)
    keys = ticks.keys([(0.2, "x"), (0.4, "down"), (0.6, "f"), (1.2, "f")])
    drive(source, seen, pace=Pace(2), keys=keys, now=ticks.now)
    assert seen.pressed == ["x", "down"]
    assert source.followed == [Selection(("tile.0", "tile.1"), ("conv*",)), asked]
    assert "tile.0, tile.1 in conv*" in {status.following for status in seen.statuses}


def test_a_suspended_view_gives_the_terminal_back_and_the_pace_goes_on_where_it_was() -> None:
    complete, seen, ticks, keys = played(FakeSource(), [(2, "suspend")], Pace(8))
    assert complete and keys.suspended == 1 and seen.hidden == 1
    assert ticks.now_s == pytest.approx(108, rel=0.05)
    assert seen.statuses[-1].elapsed_s == pytest.approx(8, rel=0.1)


def test_nothing_is_drawn_in_the_background() -> None:
    ticks = Ticks()
    keys = ticks.keys()
    keys.in_front = False
    seen = Recorder()
    assert drive(FakeSource(), seen, pace=Pace(3), keys=keys, now=ticks.now)
    assert not seen.shots and seen.closed == 1


def terminal(width: int = 80, height: int = 24) -> Console:
    return Console(
        file=io.StringIO(), width=width, height=height, force_terminal=True, color_system="standard"
    )


def test_the_view_has_a_screen_of_its_own_and_gives_the_terminal_back() -> None:
    console = terminal()
    ticks = Ticks()
    view = LiveView(HEADING, console, transient=True)
    assert drive(FakeSource(events=10**5), view, pace=Pace(3.0), keys=ticks.keys(), now=ticks.now)
    text = console.file.getvalue()
    assert text.count("\x1b[?1049h") == 1 and text.count("\x1b[?25l") == 1
    assert text.endswith("\x1b[?1049l\x1b[?25h")
    assert text.count("tiny") > 5


def test_the_last_frame_stays_where_nothing_takes_its_place() -> None:
    console = terminal()
    view = LiveView(HEADING, console)
    view.update(snapshot(1.0), Status())
    view.close()
    after = console.file.getvalue().partition("\x1b[?25h")[2]
    assert "tiny" in after and after.count("\n") == 23 and "\x1b[?" not in after


def test_a_resized_terminal_is_cleared_and_drawn_anew() -> None:
    console = terminal()
    view = LiveView(HEADING, console)
    view.update(snapshot(0.1), Status())
    console.width = 60
    view.update(snapshot(0.2), Status())
    view.update(snapshot(0.3), Status())
    view.close()
    assert console.file.getvalue().count("\x1b[2J") == 2


def test_a_hidden_view_comes_back_and_closing_twice_is_harmless() -> None:
    console = terminal()
    view = LiveView(HEADING, console)
    view.close()
    view.update(snapshot(), Status())
    view.hide()
    view.update(snapshot(), Status())
    view.close()
    view.close()
    text = console.file.getvalue()
    assert text.count("\x1b[?1049h") == text.count("\x1b[?1049l") == 2


def test_one_frame_as_a_picture() -> None:
    size, status = Size(100, 31), Status(5.0, 3.0)
    svg = frame_svg(Frames(HEADING), snapshot(0.6), status, size, "dpred-sim run tiny")
    assert svg == frame_svg(Frames(HEADING), snapshot(0.6), status, size, "dpred-sim run tiny")
    root = ElementTree.fromstring(svg)
    text = "".join(root.itertext()).replace("\xa0", " ")
    assert "tiny on dpred_stripes_ddr4" in text and "tile[*] x16" in text and "dpred-sim run tiny" in text
    assert "@font-face" not in svg and "url(http" not in svg


def test_the_plain_view_prints_a_line_a_layer_as_it_ends() -> None:
    source = FakeSource(run_result([layer_result(i, f"conv{i}", 1000) for i in range(4)]), events=10**5)
    stream = io.StringIO()
    view = PlainView(stream, lambda first: source.result().layers[first:])
    heard: list[int] = []

    class Counting(Recorder):
        wants_events = False

        def update(self, shot: Snapshot, status: Status) -> None:
            view.update(shot, status)
            heard.append(stream.getvalue().count("\n"))

    drive(source, Counting(), now=Ticks(look_s=0.05).now)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 4 and heard == sorted(heard) and 0 < heard[len(heard) // 2] < 4
    assert lines[1] == (
        "layer 2/4 conv1: 1,000 cycles, bound by compute, off-chip 409,600 of 1,024,000 B raw = 0.400"
    )
    assert not any(source.listening), "nobody reads events in a log"
