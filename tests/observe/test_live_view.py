from __future__ import annotations

import io
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field

import pytest
from fake_runs import FakeSimulation, layer_result, run_result, snapshot
from rich.console import Console

from dpred_sim.observe.drive import Clock, drive
from dpred_sim.observe.frame import Frames, Heading, Size
from dpred_sim.observe.live import LiveView, frame_svg
from dpred_sim.observe.plain import PlainView
from dpred_sim.simulation.snapshot import Snapshot

HEADING = Heading("tiny", "captured from photos", False, "dpred_stripes_ddr4", 16)


@dataclass
class Ticks:
    """Wall time that passes only in sleeps, and a little with each look at it."""

    now_s: float = 0.0
    look_s: float = 0.001
    slept_s: float = 0.0

    def now(self) -> float:
        self.now_s += self.look_s
        return self.now_s

    def sleep(self, seconds: float) -> None:
        assert 0 <= seconds <= 0.1
        self.now_s += seconds
        self.slept_s += seconds

    @property
    def clock(self) -> Clock:
        return Clock(self.now, self.sleep)


@dataclass
class Recorder:
    shots: list[Snapshot] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    closed: int = 0

    def update(self, shot: Snapshot, elapsed_s: float) -> None:
        self.shots.append(shot)
        self.times.append(elapsed_s)

    def close(self) -> None:
        self.closed += 1


def test_a_run_without_display_just_runs() -> None:
    simulation = FakeSimulation()
    assert drive(simulation)
    assert simulation.done == 1


def test_frames_come_at_4_hz_and_the_last_shows_the_end() -> None:
    simulation = FakeSimulation(events=10**6)
    ticks, seen = Ticks(look_s=0.01), Recorder()
    assert drive(simulation, seen, clock=ticks.clock)
    assert seen.closed == 1 and seen.shots[-1].finished and not seen.shots[0].finished
    gaps = [after - before for before, after in zip(seen.times, seen.times[1:], strict=False)]
    assert len(gaps) > 10
    assert all(0.25 <= gap < 0.3 for gap in gaps[:-1])


@pytest.mark.parametrize("events", [3, 100, 10_000, 1_000_000])
def test_a_paced_run_follows_the_wall_clock(events: int) -> None:
    simulation = FakeSimulation(events=events)
    ticks, seen = Ticks(look_s=0.0001), Recorder()
    assert drive(simulation, seen, pace_s=8.0, clock=ticks.clock)
    if events > 100:
        assert ticks.now_s == pytest.approx(8.0, rel=0.15)
        for shot, elapsed in zip(seen.shots[3:-1], seen.times[3:-1], strict=True):
            assert shot.work_done / shot.work_total == pytest.approx(elapsed / 8, abs=0.08)
    assert seen.shots[-1].finished


def test_pace_zero_never_sleeps() -> None:
    ticks = Ticks()
    drive(FakeSimulation(), Recorder(), pace_s=0.0, clock=ticks.clock)
    assert ticks.slept_s == 0


def test_a_network_without_compute_is_not_paced() -> None:
    class NoWork(FakeSimulation):
        def snapshot(self) -> Snapshot:
            shot = super().snapshot()
            fields = {name: getattr(shot, name) for name in shot.__slots__}
            return Snapshot(**fields | {"work_total": 0, "work_done": 0})

    ticks = Ticks()
    assert drive(NoWork(), Recorder(), pace_s=100.0, clock=ticks.clock)
    assert ticks.slept_s == 0


def test_a_run_stops_between_events_when_told_to() -> None:
    simulation, seen = FakeSimulation(events=10**6), Recorder()
    assert not drive(simulation, seen, stop=lambda: len(simulation.calls) >= 3)
    assert len(simulation.calls) == 3 and 0 < simulation.done < 1
    assert seen.closed == 1 and not seen.shots[-1].finished


def test_a_paced_run_stops_in_its_sleep() -> None:
    simulation, ticks = FakeSimulation(events=1000), Ticks()
    assert not drive(simulation, None, pace_s=1000.0, stop=lambda: ticks.slept_s > 1, clock=ticks.clock)
    assert ticks.slept_s < 2


@pytest.mark.parametrize("fails_at", [0, 2])
@pytest.mark.parametrize("close_fails", [False, True])
def test_a_failing_view_is_detached_and_the_run_goes_on(fails_at: int, close_fails: bool) -> None:
    class Failing(Recorder):
        def update(self, shot: Snapshot, elapsed_s: float) -> None:
            super().update(shot, elapsed_s)
            if len(self.shots) > fails_at:
                raise ZeroDivisionError("no width")

        def close(self) -> None:
            super().close()
            if close_fails:
                raise BrokenPipeError

    simulation, view, said = FakeSimulation(events=10**6), Failing(), []
    ticks = Ticks(look_s=0.01)
    assert drive(simulation, view, pace_s=30.0, complain=said.append, clock=ticks.clock)
    assert simulation.done == 1 and view.closed == 1 and len(view.shots) == fails_at + 1
    assert said == ["the view stopped (ZeroDivisionError: no width); the run goes on without it"]


def test_a_failing_run_fails_and_gives_the_terminal_back() -> None:
    class Broken(FakeSimulation):
        def advance(self, max_events: int) -> bool:
            raise RuntimeError("deadlock")

    seen = Recorder()
    with pytest.raises(RuntimeError, match="deadlock"):
        drive(Broken(), seen)
    assert seen.closed == 1


def test_what_is_simulated_does_not_depend_on_display_or_pace() -> None:
    results = []
    for display, pace in ((None, 0.0), (Recorder(), 0.0), (Recorder(), 5.0)):
        simulation = FakeSimulation()
        drive(simulation, display, pace_s=pace, clock=Ticks().clock)
        results.append(simulation.result())
    assert results[0] == results[1] == results[2]


def terminal(width: int = 80, height: int = 24) -> Console:
    return Console(
        file=io.StringIO(), width=width, height=height, force_terminal=True, color_system="standard"
    )


def test_the_live_view_draws_over_itself_and_shows_the_cursor_again() -> None:
    console = terminal()
    view = LiveView(HEADING, console)
    assert drive(FakeSimulation(events=10**5), view, pace_s=3.0, clock=Ticks().clock)
    text = console.file.getvalue()
    assert text.count("\x1b[?25l") == 1 and text.rstrip().endswith("\x1b[?25h")
    assert text.count("tiny") > 5
    assert "\x1b[2J" not in text


def test_a_resized_terminal_is_cleared_and_drawn_anew() -> None:
    console = terminal()
    view = LiveView(HEADING, console)
    view.update(snapshot(0.1), 1.0)
    console.width = 60
    view.update(snapshot(0.2), 2.0)
    view.close()
    assert console.file.getvalue().count("\x1b[2J") == 1


def test_closing_twice_is_harmless() -> None:
    view = LiveView(HEADING, terminal())
    view.close()
    view.update(snapshot(), 1.0)
    view.close()
    view.close()


def test_one_frame_as_a_picture() -> None:
    size = Size(100, 31)
    svg = frame_svg(Frames(HEADING), snapshot(0.6), 5.0, size)
    assert svg == frame_svg(Frames(HEADING), snapshot(0.6), 5.0, size)
    root = ElementTree.fromstring(svg)
    text = "".join(root.itertext()).replace("\xa0", " ")
    assert "tiny on dpred_stripes_ddr4" in text and "tile[*] x16" in text
    assert "@font-face" not in svg and "url(http" not in svg


def test_the_plain_view_prints_a_line_a_layer_as_it_ends() -> None:
    simulation = FakeSimulation(
        run_result([layer_result(i, f"conv{i}", 1000) for i in range(4)]), events=10**5
    )
    stream = io.StringIO()
    view = PlainView(stream, lambda first: simulation.result().layers[first:])
    heard: list[int] = []

    class Counting:
        def update(self, shot: Snapshot, elapsed_s: float) -> None:
            view.update(shot, elapsed_s)
            heard.append(stream.getvalue().count("\n"))

        def close(self) -> None:
            view.close()

    drive(simulation, Counting(), clock=Ticks(look_s=0.05).clock)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 4 and heard == sorted(heard) and 0 < heard[len(heard) // 2] < 4
    assert lines[1] == (
        "layer 2/4 conv1: 1,000 cycles, bound by compute, off-chip 409,600 of 1,024,000 B raw = 0.400"
    )
