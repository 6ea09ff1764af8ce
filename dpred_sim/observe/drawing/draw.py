"""Draw a topology into a file, or as text."""

from __future__ import annotations

from pathlib import Path
from typing import IO

from dpred_sim.cache import write_atomic
from dpred_sim.errors import InputError, MissingExtra
from dpred_sim.observe.drawing.picture import WIDTH, draw_picture
from dpred_sim.observe.drawing.placing import place
from dpred_sim.observe.drawing.scene import make_scene
from dpred_sim.observe.drawing.text import LINE, draw_text
from dpred_sim.observe.drawing.usage import Usage
from dpred_sim.topology.graph import Topology

KINDS = (".svg", ".png", ".txt")


def check_target(path: Path, *, force: bool) -> None:
    """Raises InputError for a file that could not be written, MissingExtra where matplotlib is missing."""
    if path.suffix.lower() not in KINDS:
        raise InputError("unknown kind of drawing", field="--out", found=str(path), allowed=KINDS)
    if not path.parent.is_dir():
        raise InputError("no such folder", field="--out", found=str(path.parent))
    if path.is_dir():
        raise InputError("is a folder", file=path)
    if path.exists() and not force:
        raise InputError("is there already: --force replaces it", file=path)
    if path.suffix.lower() != ".txt":
        try:
            import matplotlib  # noqa: F401
        except ImportError:
            raise MissingExtra("plots", "drawing a picture") from None


def text_drawing(
    topology: Topology, usage: Usage | None = None, *, width: int = LINE, ascii_only: bool = False
) -> str:
    """The system as text of `width` columns, or of more where it needs them."""
    return draw_text(place(make_scene(topology, usage), width), ascii_only=ascii_only)


def draw_file(
    topology: Topology, path: Path, usage: Usage | None = None, *, ascii_only: bool = False
) -> None:
    """Draw the system into a file, by its ending; raises InputError when it cannot be written."""
    kind = path.suffix.lower().removeprefix(".")
    if kind == "txt":
        data = text_drawing(topology, usage, ascii_only=ascii_only).encode()
    else:
        data = draw_picture(place(make_scene(topology, usage), WIDTH), kind)

    def write(stream: IO[bytes]) -> None:
        stream.write(data)

    try:
        write_atomic(path, write)
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", file=path) from None
