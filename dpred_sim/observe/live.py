"""The live view: frames of a running simulation on a terminal, and one frame as a picture."""

from __future__ import annotations

import io
import re

from rich.console import Console
from rich.live import Live

from dpred_sim.observe.frame import Frames, Heading, Size
from dpred_sim.simulation.snapshot import Snapshot

_FONT_FACES = re.compile(r"@font-face\s*\{[^}]*\}\s*")


class LiveView:
    """Draws on `console` (stderr) from whoever calls `update`: no thread, no look at the simulation.

    `transient`: the last frame is erased at the end, for a table that takes its place; else it stays.
    """

    def __init__(self, heading: Heading, console: Console, *, transient: bool = False) -> None:
        self._frames = Frames(heading)
        self._console = console
        self._transient = transient
        self._live: Live | None = None
        self._size: Size | None = None

    def update(self, snapshot: Snapshot, elapsed_s: float) -> None:
        """Draw a frame that fits the terminal as it is now."""
        size = size_of(self._console)
        frame = self._frames.frame(snapshot, elapsed_s, size)
        if self._live is not None and size != self._size:
            # The old frame has been wrapped anew by the terminal: its height is unknown, so start afresh.
            self._live.stop()
            self._live = None
            self._console.clear()
        self._size = size
        if self._live is None:
            self._live = Live(
                console=self._console,
                auto_refresh=False,
                transient=self._transient,
                redirect_stdout=False,
                vertical_overflow="crop",
            )
            self._live.start()
        self._live.update(frame, refresh=True)

    def close(self) -> None:
        """Give the terminal back: cursor shown, the last frame erased or left."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()


def size_of(console: Console) -> Size:
    """What the terminal behind a console offers."""
    return Size(console.size.width, console.size.height, console.options.ascii_only)


def frame_svg(frames: Frames, snapshot: Snapshot, elapsed_s: float, size: Size) -> str:
    """One frame as a self-contained SVG picture; the same snapshots give the same picture.

    `frames` may have seen earlier snapshots: bandwidth is what moved since the last one.
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
    console.print(frames.frame(snapshot, elapsed_s, size))
    heading = frames.heading
    title = f"dpred-sim run {heading.workload} --topology {heading.topology}"
    return _FONT_FACES.sub("", console.export_svg(title=title, unique_id="live"))
