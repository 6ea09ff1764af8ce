"""Drive a simulation from outside: poll by wall clock, show, pace, stop.

What is shown and how fast never reaches the simulation: it only ever sees `advance`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from dpred_sim.simulation.snapshot import Snapshot

INTERVAL_S = 0.25
"""Wall time between two updates of a display."""
EVENTS = 2048
"""Events between two looks at the clock: a few milliseconds of work."""
PACED_EVENTS = 16
"""The same at the start of a paced run, which then adapts."""
NAP_S = 0.05
"""Longest sleep between two looks at `stop`."""


class Drivable(Protocol):
    """What is driven: a `Simulation`."""

    def advance(self, max_events: int) -> bool:
        """Handle so many events; True while work is left."""

    def snapshot(self) -> Snapshot:
        """The system as it is now."""


class Display(Protocol):
    """Shows snapshots. It may fail: it is then closed and the run goes on without it."""

    def update(self, snapshot: Snapshot, elapsed_s: float) -> None:
        """Show a snapshot, taken `elapsed_s` of wall time after the start."""

    def close(self) -> None:
        """Leave the terminal as it was found."""


@dataclass(slots=True)
class Clock:
    """Wall time; tests bring their own."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def drive(
    simulation: Drivable,
    display: Display | None = None,
    *,
    pace_s: float = 0.0,
    stop: Callable[[], bool] = lambda: False,
    complain: Callable[[str], None] = lambda message: None,
    clock: Clock | None = None,
) -> bool:
    """Run a simulation to its end; False when `stop` said so before.

    With `pace_s` the run is slowed so that the work done follows the wall clock and takes at least that
    long. A display that raises is detached, `complain` is told once, and the run goes on at full speed.
    """
    return _Driver(simulation, display, pace_s, stop, complain, clock or Clock()).run()


class _Driver:
    def __init__(
        self,
        simulation: Drivable,
        display: Display | None,
        pace_s: float,
        stop: Callable[[], bool],
        complain: Callable[[str], None],
        clock: Clock,
    ) -> None:
        self.simulation = simulation
        self.display = display
        self.pace_s = pace_s
        self.stop = stop
        self.complain = complain
        self.clock = clock
        self.events = PACED_EVENTS if pace_s > 0 else EVENTS
        self.start = clock.now()
        self.next_update = self.start

    def run(self) -> bool:
        try:
            more = True
            while more:
                if self.stop():
                    return False
                self._show(final=False)
                more = self.simulation.advance(self.events)
                if more and self.pace_s > 0 and not self._keep_pace():
                    return False
            return True
        finally:
            self._show(final=True)
            self._close()

    def _show(self, *, final: bool) -> None:
        """Update the display when it is time to."""
        if self.display is None:
            return
        now = self.clock.now()
        if not final and now < self.next_update:
            return
        self.next_update = now + INTERVAL_S
        try:
            self.display.update(self.simulation.snapshot(), now - self.start)
        except Exception as error:
            self._detach(error)

    def _keep_pace(self) -> bool:
        """Sleep until the wall clock has caught up with the work; False when `stop` said so.

        The number of events between two looks adapts, so that progress stays smooth at any pace.
        """
        try:
            snapshot = self.simulation.snapshot()
        except Exception as error:
            self._detach(error)
            return True
        if not snapshot.work_total:
            return True
        due = self.start + self.pace_s * min(1.0, snapshot.work_done / snapshot.work_total)
        ahead = due - self.clock.now()
        if ahead > 2 * NAP_S:
            self.events = max(1, self.events // 2)
        elif ahead < NAP_S / 2:
            self.events = min(EVENTS, self.events * 2)
        while (ahead := due - self.clock.now()) > 0:
            if self.stop():
                return False
            self._show(final=False)
            if self.pace_s <= 0:
                break  # the display failed meanwhile
            self.clock.sleep(min(ahead, NAP_S))
        return True

    def _detach(self, error: Exception) -> None:
        self._close(quiet=True)
        self.pace_s = 0.0
        self.events = EVENTS
        self.complain(f"the view stopped ({type(error).__name__}: {error}); the run goes on without it")

    def _close(self, *, quiet: bool = False) -> None:
        display, self.display = self.display, None
        if display is None:
            return
        try:
            display.close()
        except Exception as error:
            if quiet:
                return
            self.complain(f"the view did not close ({type(error).__name__}: {error})")
