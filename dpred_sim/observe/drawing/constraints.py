"""Positions on a line that keep least distances: the smallest ones, or none where demands contradict."""

from __future__ import annotations


class Line:
    """Unknown whole positions, 0 or more, with demands "v is at least d behind u"."""

    def __init__(self) -> None:
        self._count = 0
        self._demands: list[tuple[int, int, int]] = []

    def new(self, least: int = 0) -> int:
        """A position that is `least` or more; returns its number."""
        self._count += 1
        if least:
            self._demands.append((-1, self._count - 1, least))
        return self._count - 1

    def behind(self, first: int, second: int, distance: int) -> None:
        """Demand that `second` is at least `distance` behind `first`."""
        self._demands.append((first, second, distance))

    def join(self, first: int, second: int) -> bool:
        """Put two positions at the same place, unless that contradicts the demands so far."""
        self._demands += [(first, second, 0), (second, first, 0)]
        if self._solve() is not None:
            return True
        del self._demands[-2:]
        return False

    def solve(self) -> list[int]:
        """The smallest positions that keep every demand."""
        found = self._solve()
        assert found is not None, "demands are only added where they can be kept"
        return found

    def _solve(self) -> list[int] | None:
        at = [0] * self._count
        for _ in range(self._count + 1):
            moved = False
            for first, second, distance in self._demands:
                least = distance if first < 0 else at[first] + distance
                if at[second] < least:
                    at[second] = least
                    moved = True
            if not moved:
                return at
        return None
