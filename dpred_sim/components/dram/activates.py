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
        times, groups = self._times, self._groups
        last = times[-1]
        if ready < last:
            return self._place_between(group, ready)
        time = last + (self._long if group == groups[-1] else self._short)
        if time < ready:
            time = ready
        window = times[-4] + self._faw
        if time < window:
            time = window
        if group == groups[-2] and time < times[-2] + self._long:
            time = times[-2] + self._long
        times.append(time)
        groups.append(group)
        if len(times) > 2 * _KEEP:
            del times[:_KEEP]
            del groups[:_KEEP]
        return time

    def _place_between(self, group: int, ready: int) -> int:
        times, groups, faw = self._times, self._groups, self._faw
        short, long = self._short, self._long
        count = len(times)
        index = bisect_right(times, ready)
        if index < 4:
            index = 4
        while True:
            # after those before it
            time = times[index - 1] + (long if group == groups[index - 1] else short)
            if time < ready:
                time = ready
            window = times[index - 4] + faw
            if time < window:
                time = window
            if group == groups[index - 2] and time < times[index - 2] + long:
                time = times[index - 2] + long
            # before those after it, which stay where they are
            if index == count or (
                time + (long if group == groups[index] else short) <= times[index]
                and times[index] - times[index - 3] >= faw
                and self._fits(group, time, index, count)
            ):
                times.insert(index, time)
                groups.insert(index, group)
                return time
            index += 1

    def _fits(self, group: int, time: int, index: int, count: int) -> bool:
        """Whether those after the next keep their distance to it and to those before; the next one does."""
        times, faw = self._times, self._faw
        for after in range(index + 1, min(index + 3, count)):
            if times[after] - times[after - 3] < faw:
                return False
        if index + 3 < count and times[index + 3] - time < faw:
            return False
        return not (
            index + 1 < count and group == self._groups[index + 1] and time + self._long > times[index + 1]
        )
