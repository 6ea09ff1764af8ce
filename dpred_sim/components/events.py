"""The cheap way to have something done later: a timeout with a callback, no process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from simpy import Environment, Event, Timeout


def at(env: Environment, time_ps: int, action: Callable[[Event], Any]) -> None:
    """Call `action` at `time_ps` (now, when that is past); ties run in the order of the calls."""
    timeout = Timeout(env, max(0, time_ps - int(env.now)))
    timeout.callbacks.append(action)


class Signal:
    """An event that is made only when somebody waits for it."""

    __slots__ = ("_env", "_event")

    def __init__(self, env: Environment) -> None:
        self._env = env
        self._event: Event | None = None

    def wait(self) -> Event:
        """An event that the next `fire` triggers."""
        if self._event is None:
            self._event = Event(self._env)
        return self._event

    def fire(self) -> None:
        """Wake whoever waits."""
        if self._event is not None:
            event, self._event = self._event, None
            event.succeed()
