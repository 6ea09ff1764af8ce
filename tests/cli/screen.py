"""A program on a pseudo-terminal, seen through a terminal emulator."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from pathlib import Path

import pyte

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 30.0
"""A machine may be slow; nothing here takes a second on an idle one."""


class Screen:
    """`words` run with stdin, stdout and stderr on a terminal of this size, as its foreground job."""

    def __init__(
        self,
        words: Sequence[str],
        columns: int,
        rows: int,
        *,
        stdin: int | None = None,
        folder: Path | None = None,
        **environment: str,
    ) -> None:
        self.master, slave = pty.openpty()
        self.slave = slave
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self.resize(columns, rows, tell=False)
        self.before = termios.tcgetattr(slave)

        def claim() -> None:
            os.setsid()
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            words,
            stdin=slave if stdin is None else stdin,
            stdout=slave,
            stderr=slave,
            cwd=folder,
            preexec_fn=claim,
            env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "PYTHONPATH": str(ROOT)}
            | {"TERM": "xterm-256color", "LANG": "C.UTF-8", "PYTHONIOENCODING": "utf-8"}
            | environment,
        )

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)

    def resize(self, columns: int, rows: int, tell: bool = True) -> None:
        """Give the terminal another size."""
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        if tell:
            self.screen.resize(rows, columns)
            self.process.send_signal(signal.SIGWINCH)

    def press(self, keys: str) -> None:
        """Type."""
        os.write(self.master, keys.encode())

    @property
    def text(self) -> str:
        """What is on the screen."""
        return "\n".join(self.screen.display)

    def read(self, seconds: float = 0.05) -> None:
        """Take in what the program has written."""
        while select.select([self.master], [], [], seconds)[0]:
            data = os.read(self.master, 1 << 16)
            self.raw += data
            # pyte knows no alternate screen: what enters or leaves it begins with an empty one.
            self._stream.feed(
                data.replace(b"\x1b[?1049h", b"\x1b[2J\x1b[H").replace(b"\x1b[?1049l", b"\x1b[2J\x1b[H")
            )
            seconds = 0.0

    def until(self, *texts: str, gone: str | None = None, last: str = "") -> str:
        """Wait until all texts are on the screen (and one is not), and its last row begins with `last`;
        returns the screen."""
        end = time.monotonic() + PATIENCE_S
        while True:
            self.read()
            shown = self.text
            missing = [text for text in texts if text not in shown]
            if (
                not missing
                and (gone is None or gone not in shown)
                and self.screen.display[-1].startswith(last)
            ):
                return shown
            assert time.monotonic() < end, f"never saw {texts} (without {gone!r}):\n{shown}"
            assert self.process.poll() is None or select.select([self.master], [], [], 0.2)[0], (
                f"ended with {self.process.returncode} before {texts}:\n{shown}"
            )

    def end(self) -> int:
        """Wait for the end; returns the exit code."""
        end = time.monotonic() + PATIENCE_S
        while self.process.poll() is None:
            self.read()
            assert time.monotonic() < end, f"never ended:\n{self.text}"
        self.read(0.1)
        return self.process.returncode

    def is_restored(self) -> bool:
        """The terminal is as it was: its modes, its ordinary screen, its cursor."""
        modes = termios.tcgetattr(self.slave) == self.before
        raw = self.raw
        screen = raw.rfind(b"\x1b[?1049l") >= raw.rfind(b"\x1b[?1049h")
        cursor = raw.rfind(b"\x1b[?25h") >= raw.rfind(b"\x1b[?25l")
        return modes and screen and cursor


def program(*words: str) -> list[str]:
    """The command line of `dpred-sim`."""
    return [sys.executable, "-m", "dpred_sim", *words]
