"""Show a run or a record while it is played: which display, how fast, with which keys."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dpred_sim.observe.drive import Display
    from dpred_sim.observe.pace import Pace
    from dpred_sim.observe.record.selection import Selection
    from dpred_sim.observe.replay import ReplaySource
    from dpred_sim.observe.source import LiveSource, Source
    from dpred_sim.observe.status import Heading
    from dpred_sim.simulation.engine import Simulation
    from dpred_sim.simulation.result import LayerResult

RUN_PACE = "8s"
"""Wall time of a run that somebody watches: at full speed it is over in a blink."""
REPLAY_PACE = "15s"


@dataclass(slots=True)
class View:
    """How a run is shown. `pace` None: the default of whatever shows it."""

    wanted: bool = False
    pace: Pace | None = None
    selection: Selection | None = None
    """Whose events are shown; None: those of the default components."""
    verified: dict[str, int] | None = None
    """What `--verify` looked at, once it has."""


def selection_of(follow: Sequence[str] | None, layers: Sequence[str] | None) -> Selection | None:
    """Components and layers as words of the command line; commas separate names."""
    if not follow and not layers:
        return None
    from dpred_sim.observe.record.selection import Selection

    def names(words: Sequence[str] | None) -> tuple[str, ...]:
        return tuple(name.strip() for word in words or () for name in word.split(",") if name.strip())

    return Selection(names(follow), names(layers))


def play_run(source: LiveSource, view: View) -> bool:
    """Run a simulation to its end and show it; False when somebody interrupted it.

    Raises InputError for events of something that is not there.
    """
    from dpred_sim.observe.pace import Pace, parse_pace
    from dpred_sim.observe.record.selection import Selection
    from dpred_sim.observe.source import heading_of

    display, drawn = None, False
    if view.wanted and sys.stderr is not None:
        source.follow(view.selection or Selection())
        if is_screen():
            display = _on_screen(heading_of(source.simulation))
            drawn = display is not None
        else:
            display = _line_by_line(source.simulation)
    pace = view.pace or (parse_pace(RUN_PACE) if drawn else Pace())
    return _play(source, display, pace, drawn=drawn)


def play_record(source: ReplaySource, heading: Heading, pace: Pace | None) -> bool:
    """Replay a record on a terminal; False when somebody interrupted it.

    With keys it waits for them at the end; without, it ends there and its last frame stays.
    """
    from dpred_sim.observe.pace import parse_pace
    from dpred_sim.observe.terminal import stdin_terminal

    display = _on_screen(heading, replaced=stdin_terminal() is not None)
    pace = pace or parse_pace(REPLAY_PACE)
    return _play(source, display, pace, drawn=display is not None, hold=True)


def _play(
    source: Source,
    display: Display | None,
    pace: Pace,
    *,
    drawn: bool,
    hold: bool = False,
) -> bool:
    from dpred_sim.observe.drive import drive
    from dpred_sim.observe.terminal import Terminal, stdin_terminal

    with _interruptible() as stopped:

        def stop() -> bool:
            return bool(stopped)

        if not drawn:
            return drive(source, display, pace=pace, stop=stop, complain=note)
        with Terminal(stdin_terminal()) as keys:
            return drive(source, display, pace=pace, keys=keys, hold=hold, stop=stop, complain=note)


def is_screen() -> bool:
    """Whether stderr is a terminal that can be drawn on."""
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def _on_screen(heading: Heading, replaced: bool | None = None) -> Display | None:
    """The view on stderr; `replaced`: something takes its place (default: when stdout is a terminal)."""

    def make() -> Display:
        from rich.console import Console

        from dpred_sim.observe.live import LiveView

        gone = sys.stdout is not None and sys.stdout.isatty() if replaced is None else replaced
        return LiveView(heading, Console(stderr=True, highlight=False), transient=gone)

    return _made(make)


def _line_by_line(simulation: Simulation) -> Display | None:
    def make() -> Display:
        from dpred_sim.observe.plain import PlainView

        return PlainView(sys.stderr, lambda first: _ended(simulation, first))

    return _made(make)


def _made(make: Callable[[], Display]) -> Display | None:
    """A display, or a note why there is none: it never keeps anything from running."""
    try:
        return make()
    except Exception as error:
        note(f"no view ({type(error).__name__}: {error}); the run goes on without it")
        return None


def _ended(simulation: Simulation, first: int) -> list[LayerResult]:
    """Results of the layers that have ended, from the one numbered `first` on."""
    from dataclasses import replace

    return [replace(x, traffic=simulation.ledger.traffic(x.index)) for x in simulation.layers[first:]]


def note(message: str) -> None:
    """Something to know, on stderr."""
    with suppress(OSError, ValueError):  # nobody reads stderr
        print(f"note: {message}", file=sys.stderr)


@contextmanager
def _interruptible() -> Iterator[list[bool]]:
    """The first Ctrl-C only asks the run to stop, so no event is cut in half; the second ends it."""
    import signal
    import threading

    stopped: list[bool] = []
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return

    def ask(number: int, frame: object) -> None:
        if stopped:
            raise KeyboardInterrupt
        stopped.append(True)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, before)
