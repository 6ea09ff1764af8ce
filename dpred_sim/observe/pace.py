"""How fast a run is played."""

from __future__ import annotations

from dataclasses import dataclass

from dpred_sim.errors import InputError
from dpred_sim.units import parse_time_ps

FASTEST_S = 0.25
"""A whole run in less is full speed."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Wall time of a whole run spread over its work (`run_s`), or how many times slower than the machine
    itself (`slowdown`); neither: full speed."""

    run_s: float = 0.0
    slowdown: float = 0.0

    @property
    def full(self) -> bool:
        """Nothing is slowed down."""
        return not self.run_s and not self.slowdown

    def due_s(self, time_ps: int, share: float) -> float:
        """Wall time at which a moment is due, counted from time zero."""
        return self.slowdown * time_ps * 1e-12 if self.slowdown else self.run_s * share

    def faster(self) -> Pace:
        """Twice as fast."""
        if self.slowdown:
            return Pace(slowdown=self.slowdown / 2)
        return Pace(run_s=self.run_s / 2) if self.run_s / 2 >= FASTEST_S else Pace()

    def slower(self) -> Pace:
        """Half as fast; from full speed, a few seconds a run."""
        if self.slowdown:
            return Pace(slowdown=self.slowdown * 2)
        return Pace(run_s=self.run_s * 2 if self.run_s else 2.0)

    def __str__(self) -> str:
        if self.slowdown:
            return f"{self.slowdown:,.6g}x slower than the machine"
        return f"{self.run_s:.3g} s a run" if self.run_s else "full speed"


def parse_pace(text: str) -> Pace:
    """Read `--pace`: "15s" for a whole run, "1000x" slower than the machine, "0" for full speed."""
    word = text.strip()
    if word == "0":
        return Pace()
    allowed = "a time for the whole run such as 15s, a factor such as 1000x, or 0"
    if word.endswith("x"):
        try:
            factor = float(word[:-1])
        except ValueError:
            factor = 0.0
        if not 0 < factor < 1e18:
            raise InputError("not a factor above 0", field="--pace", found=text, allowed=allowed)
        return Pace(slowdown=factor)
    try:
        return Pace(run_s=parse_time_ps(word) / 1e12)
    except InputError as error:
        raise InputError(error.message, field="--pace", found=text, allowed=allowed) from None
