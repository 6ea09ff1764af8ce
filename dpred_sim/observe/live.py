"""The view on a terminal, and one frame of it as a picture."""

from __future__ import annotations

import io
import re

from rich.console import Console
from rich.control import Control

from dpred_sim.observe.frame import Frames
from dpred_sim.observe.pen import Size
from dpred_sim.observe.status import Heading, Status
from dpred_sim.simulation.snapshot import Snapshot

_FONT_FACES = re.compile(r"@font-face\s*\{[^}]*\}\s*")


class LiveView:
    """Draws on `console` (stderr) from whoever calls `update`: no thread, no look at the simulation.

    It has the terminal's alternate screen to itself. Unless `transient`, the last frame stays behind on
    the ordinary one.
    """

    wants_events = True

    def __init__(self, heading: Heading, console: Console, *, transient: bool = False) -> None:
        self._frames = Frames(heading)
        self._console = console
        self.keeps_last = not transient
        self._open = False
        self._size: Size | None = None
        self._last: tuple[Snapshot, Status] | None = None

    def update(self, snapshot: Snapshot, status: Status) -> None:
        """Draw a frame that fits the terminal as it is now."""
        size = size_of(self._console)
        frame = self._frames.frame(snapshot, status, size)
        self._last = (snapshot, status)
        controls = []
        if not self._open:
            self._console.set_alt_screen(True)
            self._console.show_cursor(False)
            self._open = True
        if size != self._size:
            controls.append(Control.clear())
            self._size = size
        self._console.control(*controls, Control.home())
        self._console.print(frame, end="", crop=True, no_wrap=True, overflow="crop")

    @property
    def chosen(self) -> tuple[str, ...]:
        """Names of the selected components."""
        return self._frames.chosen

    def key(self, key: str) -> bool:
        """Choose and expand components, open and close the help."""
        return self._frames.key(key)

    def hide(self) -> None:
        """Give the terminal back as it was: its ordinary screen, the cursor shown."""
        if not self._open:
            return
        self._open = False
        self._size = None
        self._console.set_alt_screen(False)
        self._console.show_cursor(True)

    def close(self) -> None:
        """Give the terminal back, with the last frame on it unless that is `transient`."""
        self.hide()
        if self._last is None or not self.keeps_last:
            return
        snapshot, status = self._last
        self._last = None
        size = size_of(self._console)
        size = Size(size.width, min(size.height - 1, 30), size.ascii_only)
        still = Status(elapsed_s=status.elapsed_s, playing=False, speed=status.speed, back=status.back)
        self._console.print(self._frames.frame(snapshot, still, size), crop=True, no_wrap=True)


def size_of(console: Console) -> Size:
    """What the terminal behind a console offers."""
    return Size(console.size.width, console.size.height, console.options.ascii_only)


def frame_svg(
    frames: Frames, snapshot: Snapshot, status: Status, size: Size, title: str, name: str = "live"
) -> str:
    """One frame as a self-contained SVG picture; the same snapshots give the same picture.

    `frames` may have seen earlier snapshots: rates are what moved since. `name` tells pictures on one
    page apart.
    """
    console = Console(
        record=True,
        width=size.width,
        height=size.height,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        legacy_windows=False,
    )
    console.print(frames.frame(snapshot, status, size))
    return _FONT_FACES.sub("", console.export_svg(title=title, unique_id=name))
