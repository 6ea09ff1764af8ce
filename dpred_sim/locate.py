"""Find what a reference names: a path, or the bare name of something ready-made."""

from __future__ import annotations

from pathlib import Path

from dpred_sim.errors import InputError, nearest

_PACKAGE = Path(__file__).resolve().parent


def ready_made(folder: str) -> Path:
    """The folder of ready-made files: the checkout's top-level one, or the package data of a wheel."""
    packaged = _PACKAGE / "data" / folder
    return packaged if packaged.is_dir() else _PACKAGE.parent / folder


def ready_made_names(folder: str, suffix: str) -> list[str]:
    """Bare names available in a ready-made folder, sorted."""
    return sorted(p.name.removesuffix(suffix) for p in ready_made(folder).glob(f"*{suffix}"))


def locate(
    reference: str | Path,
    folder: str,
    suffix: str,
    *,
    noun: str,
    relative_to: Path | None = None,
    folders: bool = False,
) -> Path:
    """Path of the file that `reference` names; with `folders` it may be a folder.

    A reference with a slash or a suffix is a path (relative to `relative_to`, or to the working
    directory); anything else is a bare name looked up in the ready-made `folder`.
    Raises InputError when nothing is there, with the nearest known name.
    """
    text = str(reference)
    if isinstance(reference, Path) or "/" in text or Path(text).suffix:
        path = Path(text) if relative_to is None else relative_to / text
        if path.is_dir() and folders:
            return path
        if path.is_dir():
            raise InputError(f"this {noun} is a directory, not a file", file=path)
        if not path.is_file():
            raise InputError(f"no such {noun} file", file=path)
        return path
    path = ready_made(folder) / (text + suffix)
    if not path.is_file():
        known = ready_made_names(folder, suffix)
        raise InputError(f"unknown {noun}{nearest(text, known)}", found=text, allowed=[*known, "or a path"])
    return path
