"""Drive a source from outside: poll by wall clock, show, pace, step, stop.

What is shown, how fast, and which keys are pressed never reaches a simulation: it only ever sees `advance`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from dpred_sim.observe.events import selection_text
from dpred_sim.observe.pace import Pace
from dpred_sim.observe.record.selection import Selection
from dpred_sim.observe.source import Source, Unit
from dpred_sim.observe.status import Status
from dpred_sim.simulation.snapshot import Snapshot

INTERVAL_S = 0.25
"""Wall time between two updates of a display at full speed, at least."""
PACED_INTERVAL_S = 0.1
"""The same while there is time to spare."""
COST = 1 / 40
"""Most of the wall time that a display may take at full speed: a dear one is updated less often."""
EVENTS = 512
"""Events between two looks at the clock: a few milliseconds of work."""
PACED_EVENTS = 16
"""The same at the start of a paced run, which then adapts."""
NAP_S = 0.05
"""Longest sleep between two looks at `stop`."""
LISTEN_S = 0.01
"""At full speed, events are gathered for so long before a display is updated."""

STEPS: dict[str, tuple[Unit, bool]] = {
    "e": ("event", False),
    "p": ("pass", False),
    "l": ("layer", False),
    "E": ("event", True),
    "P": ("pass", True),
    "L": ("layer", True),
}


class Display(Protocol):
    """Shows snapshots. It may fail: it is then closed and the run goes on without it."""

    wants_events: bool
    keeps_last: bool
    """Its last frame stays to be seen, so it must show the end."""

    @property
    def chosen(self) -> tuple[str, ...]:
        """Names of the components that somebody has selected."""

    def update(self, snapshot: Snapshot, status: Status) -> None:
        """Show a snapshot."""

    def key(self, key: str) -> bool:
        """Somebody pressed a key that is about what is shown; False when it means nothing here."""

    def hide(self) -> None:
        """Give the terminal back until the next update."""

    def close(self) -> None:
        """Give the terminal back for good."""


class Keys(Protocol):
    """Where keys come from (see terminal.Terminal)."""

    suspend_wanted: bool

    @property
    def has_keys(self) -> bool:
        """Whether keys can come."""

    @property
    def in_front(self) -> bool:
        """Whether the terminal is ours to draw on."""

    def wait(self, seconds: float) -> list[str]:
        """Sleep, at most until keys come."""

    def suspend(self) -> None:
        """Stop until somebody lets this process go on."""


class NoKeys:
    """Nobody presses anything."""

    has_keys = False
    in_front = True
    suspend_wanted = False

    def __init__(self, sleep: Callable[[float], None] = time.sleep) -> None:
        self._sleep = sleep

    def wait(self, seconds: float) -> list[str]:
        """Sleep."""
        if seconds > 0:
            self._sleep(seconds)
        return []

    def suspend(self) -> None:
        """Nobody asks for it."""


def drive(
    source: Source,
    display: Display | None = None,
    *,
    pace: Pace | None = None,
    keys: Keys | None = None,
    hold: bool = False,
    stop: Callable[[], bool] = lambda: False,
    complain: Callable[[str], None] = lambda message: None,
    now: Callable[[], float] = time.monotonic,
) -> bool:
    """Play a source to its end, or until somebody quits a replay; False when `stop` said so before.

    At the end of a source that can go back, `hold` waits for keys. Quitting the view of a source that
    cannot go back lets it go on at full speed. A display that raises is detached, `complain` is told
    once, and the run goes on at full speed.
    """
    return _Driver(source, display, pace or Pace(), keys or NoKeys(), hold, stop, complain, now).run()


class _Driver:
    def __init__(
        self,
        source: Source,
        display: Display | None,
        pace: Pace,
        keys: Keys,
        hold: bool,
        stop: Callable[[], bool],
        complain: Callable[[str], None],
        now: Callable[[], float],
    ) -> None:
        self.source = source
        self.display = display
        self.pace = pace
        self.keys = keys
        self.hold = hold
        self.stop = stop
        self.complain = complain
        self.now = now
        self.events = EVENTS if pace.full else PACED_EVENTS
        self.playing = True
        self.more = True
        self.quit = False
        self.note = ""
        self.asked = source.selection
        """What is followed unless somebody selects something else."""
        self.next_update = now()
        self.elapsed_s = 0.0
        self.resumed = now()
        self.due_then = pace.due_s(*source.progress())
        """What was due at wall time `resumed`."""

    def run(self) -> bool:
        try:
            while self.more or self._holds():
                if self.stop():
                    return False
                if self.quit:
                    break
                self._suspend_if_wanted()
                self._press(self.keys.wait(0.0))
                self._show()
                if not self.playing or not self.more:
                    self._press(self.keys.wait(NAP_S))
                    continue
                self.more = self.source.advance(self.events)
                if self.more and not self.pace.full:
                    self._keep_pace()
            return True
        finally:
            self._show(final=True)
            self._close()

    def _holds(self) -> bool:
        """At the end of a record somebody may still look, and go back."""
        return self.hold and self.display is not None and self.keys.has_keys and not self.quit

    # keys

    def _press(self, keys: list[str]) -> None:
        for key in keys:
            if self.display is None:
                return
            self.note = ""
            if key in STEPS:
                self._step(*STEPS[key])
            elif key in ("n", "right"):
                self._go("layer", back=False)
            elif key in ("b", "left"):
                self._go("layer", back=True)
            elif key == "space":
                self._play(not self.playing)
            elif key in ("+", "=", "-", "0"):
                self._change_pace(key)
            elif key == "f":
                self._follow()
            elif key in ("q", "Q"):
                self._leave()
            elif not self._ask_display(key):
                continue
            self.next_update = self.now()

    def _step(self, unit: Unit, back: bool) -> None:
        self._play(False)
        self._go(unit, back)

    def _go(self, unit: Unit, back: bool) -> None:
        if back and not self.source.reversible:
            self.note = "a running simulation cannot go back: record it with --trace FILE.dpred, then replay"
            return
        if not back and not self.more:
            self.note = "this is the end"
            return
        self.source.listen(True)
        self.more = self.source.step(unit, back) or back
        self._anchor()

    def _play(self, playing: bool) -> None:
        if playing == self.playing:
            return
        if playing and not self.more:
            self.note = "this is the end"
            return
        self._anchor()
        self.playing = playing

    def _change_pace(self, key: str) -> None:
        self.pace = Pace() if key == "0" else self.pace.slower() if key == "-" else self.pace.faster()
        self.events = EVENTS if self.pace.full else PACED_EVENTS
        self._anchor()

    def _follow(self) -> None:
        """Follow what is selected, or again what was asked for at the start."""
        chosen = () if self.display is None else self.display.chosen
        if not chosen or chosen == self.source.selection.components:
            self.source.follow(self.asked)
        else:
            self.source.follow(Selection(chosen, self.asked.layers))

    def _leave(self) -> None:
        if self.source.reversible:
            self.quit = True
            return
        self._close()
        self.pace, self.events = Pace(), EVENTS
        self.playing = True

    def _ask_display(self, key: str) -> bool:
        if self.display is None:
            return False
        try:
            return self.display.key(key)
        except Exception as error:
            self._detach(error)
            return False

    def _anchor(self) -> None:
        """Time is counted afresh from now on: the pace, or what is played, has changed."""
        now = self.now()
        if self.playing:
            self.elapsed_s += now - self.resumed
        self.resumed = now
        self.due_then = self.pace.due_s(*self.source.progress())

    def _suspend_if_wanted(self) -> None:
        if not self.keys.suspend_wanted:
            return
        playing = self.playing
        self._play(False)
        if self.display is not None:
            self.display.hide()
        self.keys.suspend()
        self._play(playing)
        self.next_update = self.now()

    # showing

    def _show(self, *, final: bool = False) -> None:
        """Update the display when it is time to."""
        if self.display is None or (final and not self.display.keeps_last):
            return
        now = self.now()
        full = self.pace.full and self.playing and self.more
        if not final and now < self.next_update:
            self.source.listen(not full or (self.display.wants_events and now > self.next_update - LISTEN_S))
            return
        if not self.keys.in_front:
            self.next_update = now + INTERVAL_S
            return
        try:
            self.display.update(self.source.snapshot(), self._status(now))
        except Exception as error:
            self._detach(error)
            return
        after = self.now()
        wait = max(INTERVAL_S, (after - now) / COST) if full else PACED_INTERVAL_S
        self.next_update = after + wait
        self.source.listen(self.display.wants_events and not full)

    def _status(self, now: float) -> Status:
        elapsed = self.elapsed_s + (now - self.resumed if self.playing else 0.0)
        share = self.source.progress()[1]
        left: float | None = None
        if self.pace.run_s:
            left = self.pace.run_s * (1 - share)
        elif share > 0.005 and elapsed > 0.2 and not self.source.reversible:
            left = elapsed * (1 - share) / share
        return Status(
            elapsed_s=elapsed,
            left_s=left,
            playing=self.playing and self.more,
            speed=str(self.pace),
            keys=self.keys.has_keys,
            back=self.source.reversible,
            following=selection_text(self.source.selection),
            note=self.note,
        )

    def _keep_pace(self) -> None:
        """Sleep until the wall clock has caught up with the source, or a key comes.

        The number of events between two looks adapts, so that progress stays smooth at any pace.
        """
        due = self.resumed + self.pace.due_s(*self.source.progress()) - self.due_then
        ahead = due - self.now()
        if ahead > 2 * NAP_S:
            self.events = max(1, self.events // 2)
        elif ahead < NAP_S / 2:
            self.events = min(EVENTS, self.events * 2)
        pace = self.pace
        while (ahead := due - self.now()) > 0:
            if self.stop() or self.keys.suspend_wanted or self.quit:
                return
            self._show()
            if self.display is None and pace is not self.pace:
                return  # the display failed meanwhile
            pressed = self.keys.wait(min(ahead, NAP_S))
            self._press(pressed)
            if pressed and (not self.playing or pace is not self.pace or self.display is None):
                return

    def _detach(self, error: Exception) -> None:
        self._close(quiet=True)
        self.pace, self.events = Pace(), EVENTS
        self.playing = True
        self.complain(f"the view stopped ({type(error).__name__}: {error}); the run goes on without it")

    def _close(self, *, quiet: bool = False) -> None:
        display, self.display = self.display, None
        if display is None:
            return
        self.source.listen(False)
        try:
            display.close()
        except Exception as error:
            if quiet:
                return
            self.complain(f"the view did not close ({type(error).__name__}: {error})")
