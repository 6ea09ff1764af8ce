"""The terminal while a view is on it: keys, suspend, and giving it back as it was."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

NAMES = {
    "\x1b[A": "up",
    "\x1b[B": "down",
    "\x1b[C": "right",
    "\x1b[D": "left",
    "\x1bOA": "up",
    "\x1bOB": "down",
    "\x1bOC": "right",
    "\x1bOD": "left",
    "\r": "enter",
    "\n": "enter",
    "\x1b": "escape",
    " ": "space",
}
"""Names of the keys that are not a character of their own."""


def keys_of(text: str) -> Iterator[str]:
    """Key by key what a terminal sent; unknown sequences are skipped whole."""
    place = 0
    while place < len(text):
        if text[place] == "\x1b" and text[place + 1 : place + 2] in ("[", "O"):
            stop = place + 2
            while stop < len(text) and not "@" <= text[stop] <= "~":
                stop += 1
            sequence = text[place : stop + 1]
            place = stop + 1
            if sequence in NAMES:
                yield NAMES[sequence]
            continue
        yield NAMES.get(text[place], text[place])
        place += 1


class Terminal:
    """Keys of the terminal `fd` (stdin; None: no keys), read one by one without echo.

    A context manager: on leaving it, whatever happened, the terminal is as it was before. Ctrl-Z is only
    noted (`suspend_wanted`): who draws calls `suspend` once its screen is in order. `wait` sleeps, and
    returns early with the keys that came.
    """

    def __init__(self, fd: int | None) -> None:
        self._fd = fd
        self._saved: list[Any] | None = None
        self._handlers: dict[int, Any] = {}
        self._text = ""
        self.suspend_wanted = False

    @property
    def has_keys(self) -> bool:
        """Whether keys can come."""
        return self._fd is not None

    @property
    def in_front(self) -> bool:
        """Whether this process may read from and draw on its terminal; the shell takes it away with `bg`."""
        for fd in (self._fd, 2):
            if fd is None:
                continue
            try:
                return os.tcgetpgrp(fd) == os.getpgrp()
            except OSError:
                continue  # not its controlling terminal: nobody else's to give away
        return True

    def __enter__(self) -> Terminal:
        if threading.current_thread() is threading.main_thread():
            self._handle(signal.SIGTSTP, self._on_suspend)
            for number in (signal.SIGTERM, signal.SIGHUP):
                self._handle(number, self._on_end)
        self.take()
        return self

    def __exit__(self, *_: object) -> None:
        self.give_back()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()

    def take(self) -> None:
        """Keys come one by one from now on, without echo."""
        if self._fd is None or self._saved is not None or not self.in_front:
            return
        import termios
        import tty

        try:
            saved = termios.tcgetattr(self._fd)
            tty.setcbreak(self._fd, termios.TCSADRAIN)
        except (termios.error, OSError):
            self._fd = None
            return
        self._saved = saved

    def give_back(self) -> None:
        """The terminal is as it was."""
        saved, self._saved = self._saved, None
        if saved is None or self._fd is None:
            return
        import termios

        with contextlib.suppress(termios.error, OSError):  # it is gone
            # Keys that nobody has read are not for the shell.
            termios.tcsetattr(self._fd, termios.TCSAFLUSH, saved)

    def suspend(self) -> None:
        """Stop, as Ctrl-Z asks for; returns when somebody lets this process go on."""
        self.suspend_wanted = False
        self.give_back()
        ours = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, ours)
        self.take()

    def wait(self, seconds: float) -> list[str]:
        """Keys pressed within so many seconds; returns as soon as one is."""
        if self._fd is None or self._saved is None:
            if seconds > 0:
                time.sleep(seconds)
            self.take()  # in the foreground again
            return []
        if not self.in_front:
            time.sleep(seconds)
            return []
        ready, _, _ = select.select([self._fd], [], [], max(0.0, seconds))
        if not ready:
            return []
        try:
            data = os.read(self._fd, 1024)
        except OSError:
            data = b""
        if not data:
            self.give_back()
            self._fd = None  # hung up
            return []
        self._text += data.decode("utf-8", "replace")
        text, self._text = self._text, ""
        return list(keys_of(text))

    def _handle(self, number: int, handler: Any) -> None:
        before = signal.getsignal(number)
        if before in (signal.SIG_DFL, signal.default_int_handler):
            self._handlers[number] = signal.signal(number, handler)

    def _on_suspend(self, number: int, frame: FrameType | None) -> None:
        self.suspend_wanted = True

    def _on_end(self, number: int, frame: FrameType | None) -> None:
        # Unwinds: the terminal is given back, nothing half-written is left.
        raise SystemExit(128 + number)


def stdin_terminal() -> int | None:
    """File descriptor of stdin where it is a terminal that keys can be read from one by one."""
    try:
        import termios  # noqa: F401

        if sys.stdin is not None and sys.stdin.isatty():
            return sys.stdin.fileno()
    except (ImportError, OSError, ValueError):
        return None
    return None
