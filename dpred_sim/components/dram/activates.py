"""The activate window of a rank: tRRD between two activates, at most four in any tFAW."""

from __future__ import annotations

from bisect import bisect_right

_KEEP = 128
_NEAR = 24
_NEVER = 1 << 62


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
        # four before and four after all others, so that each has its neighbours
        self._times = [far] * 4 + [_NEVER << step for step in range(4)]
        self._groups = [-1] * 8

    def place(self, group: int, ready: int) -> int:
        """Enter an activate at the first time from `ready` on that keeps the window; returns it."""
        times, groups = self._times, self._groups
        short, long, faw = self._short, self._long, self._faw
        last = times[-5]
        if ready >= last:
            # behind all others
            index = -4
            time = last + (long if group == groups[-5] else short)
            if time < ready:
                time = ready
            if time < times[-8] + faw:
                time = times[-8] + faw
            if group == groups[-6] and time < times[-6] + long:
                time = times[-6] + long
        else:
            index, time = self._search(group, ready)
        times.insert(index, time)
        groups.insert(index, group)
        if len(times) > 2 * _KEEP:
            del times[:_KEEP]
            del groups[:_KEEP]
        return time

    def _search(self, group: int, ready: int) -> tuple[int, int]:
        """Place and time of an activate that may come before others."""
        times, groups = self._times, self._groups
        short, long, faw = self._short, self._long, self._faw
        # most come soon after those before: looking at a few is enough
        index = len(times) - _NEAR
        if index < 4 or times[index] > ready:
            index = 4
        index = bisect_right(times, ready, index)
        while True:
            before, after = times[index - 1], times[index]
            if after - before >= 2 * short:
                # after those before it
                time = before + (long if group == groups[index - 1] else short)
                if time < ready:
                    time = ready
                if time < times[index - 4] + faw:
                    time = times[index - 4] + faw
                if group == groups[index - 2] and time < times[index - 2] + long:
                    time = times[index - 2] + long
                # before those after it, which stay where they are
                if (
                    time + (long if group == groups[index] else short) <= after
                    and after - times[index - 3] >= faw
                    and times[index + 1] - times[index - 2] >= faw
                    and times[index + 2] - before >= faw
                    and times[index + 3] - time >= faw
                    and (group != groups[index + 1] or time + long <= times[index + 1])
                ):
                    break
            index += 1
        return index, time
