"""What a view is told beside the snapshot: what runs, and how it is played."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Heading:
    """What is shown above all frames of a run."""

    workload: str
    source: str
    synthetic: bool
    topology: str
    bits: int


@dataclass(frozen=True, slots=True)
class Status:
    """How a run is played. Wall times leave out pauses."""

    elapsed_s: float = 0.0
    left_s: float | None = None
    """Until the end at this speed; None while that is not known."""
    playing: bool = True
    speed: str = "full speed"
    keys: bool = False
    """Somebody can press keys."""
    back: bool = False
    """One can go back: a record is replayed."""
    following: str = ""
    """Whose events are shown."""
    note: str = ""
    """Said once, as an answer to a key."""
