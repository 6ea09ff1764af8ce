"""The activate window of a rank: tRRD between two activates, at most four in any tFAW."""

from __future__ import annotations

from bisect import bisect_right

_KEEP = 64


class ActivateWindow:
    """Times of the activates of one rank, sorted; a later call may use an earlier free place.

    Times are clocks. `group` is the bank group: activates in one group are tRRD_L apart.
    """

    __slots__ = ("_faw", "_groups", "_long", "_short", "_times")

    def __init__(self, rrd_s: int, rrd_l: int, faw: int) -> None:
        self._short = rrd_s
        self._long = rrd_l
        self._faw = faw
        far = -(faw + rrd_l + 1) * 8
        self._times: list[int] = [far] * 4
        self._groups: list[int] = [-1] * 4

    def place(self, group: int, ready: int) -> int:
        """Enter an activate at the first time from `ready` on that keeps the window; returns it."""
        times = self._times
        last = times[-1]
        if ready >= last:
            time = last + (self._long if group == self._groups[-1] else self._short)
            if time < ready:
                time = ready
            window = times[-4] + self._faw
            if time < window:
                time = window
            if self._long > self._short and group == self._groups[-2] and time < times[-2] + self._long:
                time = times[-2] + self._long
            times.append(time)
            self._groups.append(group)
            if len(times) > 2 * _KEEP:
                del times[:_KEEP]
                del self._groups[:_KEEP]
            return time
        return self._place_between(group, ready)

    def earliest(self, group: int, ready: int) -> int:
        """Where `place` would put it, without entering it."""
        times, groups = list(self._times), list(self._groups)
        time = self.place(group, ready)
        self._times, self._groups = times, groups
        return time

    def _place_between(self, group: int, ready: int) -> int:
        times, groups, faw = self._times, self._groups, self._faw
        short, long = self._short, self._long
        count = len(times)
        index = max(4, bisect_right(times, ready))
        while True:
            # after those before it
            time = times[index - 1] + (long if group == groups[index - 1] else short)
            if time < ready:
                time = ready
            if time < times[index - 4] + faw:
                time = times[index - 4] + faw
            if group == groups[index - 2] and time < times[index - 2] + long:
                time = times[index - 2] + long
            # before those after it, which stay where they are
            if index == count or (
                time + (long if group == groups[index] else short) <= times[index]
                and self._fits(group, time, index, count)
            ):
                times.insert(index, time)
                groups.insert(index, group)
                return time
            index += 1

    def _fits(self, group: int, time: int, index: int, count: int) -> bool:
        """Whether those after the next keep their distance to it and to those before."""
        times, groups, faw = self._times, self._groups, self._faw
        if index + 1 < count and group == groups[index + 1] and time + self._long > times[index + 1]:
            return False
        if index + 3 < count and times[index + 3] - time < faw:
            return False
        return all(times[after] - times[after - 3] >= faw for after in range(index, min(index + 3, count)))
