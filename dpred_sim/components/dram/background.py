"""How long ranks have rows open, refresh, or have all banks precharged: what background energy needs."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

_FOREVER = 1 << 62


class OpenTime:
    """Clocks in which at least one bank of a rank has a row open.

    `closes_by_itself` for closed pages: intervals end at `until`, which every access moves on; else
    only `close` ends one.
    """

    __slots__ = ("_since", "_total", "closes_by_itself", "until")

    def __init__(self, closes_by_itself: bool = False) -> None:
        self.closes_by_itself = closes_by_itself
        self.until = _FOREVER
        self._since = -1
        self._total = 0

    def open(self, clock: int) -> None:
        """A row is opened."""
        if self._since >= 0 and clock > self.until:
            self._total += self.until - self._since
            self._since = -1
        if self._since < 0:
            self._since = clock
            self.until = clock if self.closes_by_itself else _FOREVER

    def extend(self, clock: int) -> None:
        """A row that closes by itself stays open until a clock."""
        self.until = max(self.until, clock) if self._since >= 0 else clock

    def close(self, clock: int) -> None:
        """All banks are precharged from a clock on."""
        self._total = self.by(clock)
        self._since = -1

    def by(self, clock: int) -> int:
        """The clocks up to a clock."""
        if self._since < 0:
            return self._total
        return self._total + max(0, min(clock, self.until) - self._since)


def background(tck_ps: Fraction, ranks: int, active: int, refreshing: int, end_ps: int) -> dict[str, Any]:
    """Picoseconds in each state from clocks, summed over the ranks: they add up to `end_ps` times ranks."""
    whole = end_ps * ranks
    refresh_ps = min(whole, int(refreshing * tck_ps))
    active_ps = min(whole - refresh_ps, int(active * tck_ps))
    return {
        "background_precharged_ps": whole - refresh_ps - active_ps,
        "background_active_ps": active_ps,
        "background_refresh_ps": refresh_ps,
    }
