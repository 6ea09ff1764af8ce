"""What was over simulated time, from the snapshots that were looked at."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

MOST = 512
"""Samples kept: past that every other one is dropped, so memory does not grow with a run."""


class History:
    """Sums since time zero by name, at the times that were looked at; in between they grow evenly."""

    def __init__(self) -> None:
        self._times: list[int] = [0]
        self._sums: list[Mapping[str, float]] = [{}]

    def add(self, time_ps: int, sums: Mapping[str, float]) -> None:
        """Take a look; what was seen later than `time_ps` is forgotten: somebody went back."""
        while len(self._times) > 1 and self._times[-1] >= time_ps:
            self._times.pop()
            self._sums.pop()
        if time_ps <= 0:
            return
        self._times.append(time_ps)
        self._sums.append(sums)
        if len(self._times) > MOST:
            # The newest one stays.
            self._times = self._times[:1] + self._times[2::2]
            self._sums = self._sums[:1] + self._sums[2::2]

    def rates(self, name: str, columns: int) -> list[float]:
        """Growth of a sum a picosecond, in so many equal parts of the time so far."""
        if columns < 1 or len(self._times) < 2:
            return []
        edges = np.linspace(0, self._times[-1], columns + 1)
        sums = [found.get(name, 0.0) for found in self._sums]
        at_edges = np.interp(edges, self._times, sums)
        rates: list[float] = (np.diff(at_edges) / (edges[1] - edges[0])).tolist()
        return rates

    def last_rate(self, name: str, samples: int) -> float:
        """Growth of a sum a picosecond over the last few looks."""
        if len(self._times) < 2:
            return 0.0
        first = max(0, len(self._times) - 1 - samples)
        grown = self._sums[-1].get(name, 0.0) - self._sums[first].get(name, 0.0)
        return grown / (self._times[-1] - self._times[first])

    def last(self, name: str, before_ps: int) -> tuple[int, float]:
        """Time and sum of the last look before a time."""
        place = len(self._times) - 1
        while place > 0 and self._times[place] >= before_ps:
            place -= 1
        return self._times[place], self._sums[place].get(name, 0.0)
