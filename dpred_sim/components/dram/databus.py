"""The data bus between two turns: which slots are taken, and why the others stayed free.

A burst takes `width` clocks, bursts of one bank group lie at least `spacing` clocks apart. Clocks are
bits of an integer, so that a whole train of bursts is tested and entered at once.
"""

from __future__ import annotations


class DataBus:
    """Taken clocks since `anchor`, one direction of data.

    `horizon` is the first clock after all that is taken, from `anchor`. Free clocks below it have a cause,
    entered as `gaps` (start, end, cause) when they came to be; clocks that no request can use any more
    are counted and forgotten by `retire`.
    """

    __slots__ = (
        "_burst",
        "_groups",
        "_smear",
        "_trains",
        "anchor",
        "bubbles",
        "gaps",
        "horizon",
        "long",
        "losses",
        "solid",
        "spacing",
        "taken",
        "uneven",
        "width",
    )

    def __init__(self, width: int, spacing: int, groups: int, losses: dict[str, int]) -> None:
        self.width = width
        self.spacing = self.long = spacing
        """Clocks between bursts of one bank group, as they are placed and at least."""
        self.uneven = False
        """These may be no whole number of slots."""
        self.losses = losses
        """Clocks lost by cause, of everything retired."""
        self._burst = (1 << width) - 1
        self._smear: list[int] = []
        covered = 1
        while covered < width:
            self._smear.append(min(covered, width - covered))
            covered += self._smear[-1]
        self._groups = [0] * groups
        self._trains: dict[tuple[int, int], tuple[int, int]] = {}
        self.anchor = 0
        self.taken = 0
        self.horizon = 0
        self.solid = 0
        """From here to the horizon nothing is free."""
        self.bubbles = 0
        """Those of the taken clocks that stand between two ranks."""
        self.gaps: list[tuple[int, int, str]] = []

    @property
    def end(self) -> int:
        """Clock at which the last burst ends."""
        return self.anchor + self.horizon

    def restart(self, anchor: int, asked: int, turned: int, refreshed: int) -> None:
        """Forget all slots (counting the free ones) and begin anew at a clock.

        Until then nobody could have had data before the clocks `asked`, `turned` and `refreshed`.
        """
        lost = anchor - self.end
        idle = min(lost, max(0, asked - self.end))
        turn = min(lost - idle, max(0, turned - self.end - idle))
        refresh = min(lost - idle - turn, max(0, refreshed - self.end - idle - turn))
        causes = {"idle": idle, "turns": turn, "refresh": refresh, "row_misses": lost - idle - turn - refresh}
        for cause, clocks in causes.items():
            self.losses[cause] += clocks
        self.retire(self.horizon)
        self.anchor = anchor
        self.taken = self.bubbles = self.horizon = self.solid = 0
        self._groups = [0] * len(self._groups)

    def retire(self, clocks: int) -> None:
        """Count and forget everything below `clocks`."""
        if self.gaps:
            keep: list[tuple[int, int, str]] = []
            for start, end, cause in self.gaps:
                if start >= clocks:
                    keep.append((start - clocks, end - clocks, cause))
                    continue
                if end > clocks:
                    keep.append((0, end - clocks, cause))
                    end = clocks
                self.losses[cause] += self._free(start, end)
            self.gaps = keep
        self.taken >>= clocks
        self.bubbles >>= clocks
        self.horizon = max(0, self.horizon - clocks)
        self.solid = max(0, self.solid - clocks)
        self.anchor += clocks
        self._groups = [bits >> clocks for bits in self._groups]

    def explain(self, start: int, stop: int, asked: int, refreshed: int, held: int) -> None:
        """Say why the clocks from `start` to `stop` (from `anchor`) stay free, for now.

        Nobody could have had data before the clock `asked`, nor before `refreshed`; `held` clocks before
        `stop` are the activate window's.
        """
        idle = min(stop, max(start, asked - self.anchor))
        if idle > start:
            self.gaps.append((start, idle, "idle"))
        refresh = min(stop, max(idle, refreshed - self.anchor))
        if refresh > idle:
            self.gaps.append((idle, refresh, "refresh"))
        window = max(refresh, stop - held)
        if window > refresh:
            self.gaps.append((refresh, window, "row_misses"))
        if stop > window:
            self.gaps.append((window, stop, "activate_windows"))

    def lost_by(self, clock: int) -> tuple[dict[str, int], int]:
        """Clocks lost by cause up to a clock, and how many bursts lie after it."""
        losses = dict(self.losses)
        until = min(self.horizon, max(0, clock - self.anchor))
        for start, end, cause in self.gaps:
            end = min(end, until)
            if end > start:
                losses[cause] += self._free(start, end)
        bubbles = (self.bubbles >> until).bit_count()
        losses["turns"] -= bubbles
        return losses, ((self.taken >> until).bit_count() - bubbles) // self.width

    def _free(self, start: int, end: int) -> int:
        """How many clocks are not taken."""
        length = end - start
        return length - ((self.taken >> start) & ((1 << length) - 1)).bit_count()

    def follow(self, clocks: int) -> None:
        """Put bursts of so many clocks behind all that is taken."""
        self.taken |= ((1 << clocks) - 1) << self.horizon
        self.horizon += clocks

    def part(self, clocks: int) -> None:
        """Leave a bubble behind all that is taken, for data of another rank."""
        bubble = ((1 << clocks) - 1) << self.horizon
        self.taken |= bubble
        self.bubbles |= bubble
        self.horizon += clocks
        self.losses["turns"] += clocks

    def fill(self, start: int, bursts: int, limit: int) -> tuple[int, int, int]:
        """Put bursts into the first free slots from `start`, below `limit`
        (from `anchor`).

        Returns (first clock, clock after the last burst, bursts left over). First is -1 if none fitted.
        """
        rest = self.taken >> start
        width = self.width
        first = end = -1
        position = start
        while bursts:
            if rest & 1:
                busy = (~rest & (rest + 1)).bit_length() - 1
                rest >>= busy
                position += busy
            count = (limit - position) // width
            if count > bursts:
                count = bursts
            room = 0
            if rest:
                room = (rest & -rest).bit_length() - 1
                if count > room // width:
                    count = room // width
            if count > 0:
                length = count * width
                self.taken |= ((1 << length) - 1) << position
                if first < 0:
                    first = position
                end = position + length
                bursts -= count
            if not rest or position + room >= limit:
                break
            rest >>= room
            position += room
        if end > self.horizon:
            if position > self.horizon:
                self.solid = position
            self.horizon = end
        return first, end, bursts

    def train(self, start: int, bursts: int, group: int, limit: int) -> tuple[int, int, int]:
        """As `fill`, for bursts of one bank group: `spacing` apart from each other and from those there."""
        width, spacing = self.width, self.spacing
        first = end = -1
        position = start
        while bursts:
            blocked = self._groups[group] >> position
            taken = self.taken >> position
            for shift in self._smear:
                taken |= taken >> shift
            blocked |= taken
            if blocked & 1:
                position += (~blocked & (blocked + 1)).bit_length() - 1
                continue
            starts, cells = self._train(bursts)
            clash = blocked & starts
            count = bursts if not clash else ((clash & -clash).bit_length() - 1) // spacing
            fitting = (limit - width - position) // spacing + 1
            stop = fitting < count
            if stop:
                count = fitting
            if count > 0:
                if count != bursts:
                    cells = self._train(count)[1]
                self._enter(position, count, cells, group)
                if first < 0:
                    first = position
                end = position + (count - 1) * spacing + width
                bursts -= count
            if stop:
                break
            position += count * spacing
        if end > self.horizon:
            self.horizon = self.solid = end
        return first, end, bursts

    def put(
        self, start: int, bursts: int, group: int, limit: int, beside: bool = False
    ) -> tuple[int, int, int]:
        """As `train`, whatever the spacing; `beside` bursts of other bank groups that are placed next."""
        if not self.uneven:
            return self.train(start, bursts, group, limit)
        first, end, left = self.squeeze(start, bursts, group, limit)
        if left:
            # next to other data, bursts of two groups alternate: the spacing becomes whole slots
            self.spacing = -(-self.long // self.width) * self.width if beside else self.long
            after, stop, left = self.train(max(start, end), left, group, limit)
            if after >= 0:
                first, end = (after if first < 0 else first), stop
        return first, end, left

    def squeeze(self, start: int, bursts: int, group: int, limit: int) -> tuple[int, int, int]:
        """As `fill`, into what is free below the horizon, in pieces if need be.

        Where bursts of one group are no whole number of slots apart, those of another group would push
        them apart a little and go between; here they take the clocks that are free, which is as many.
        """
        width = self.width
        stop = min(self.horizon, limit)
        if start >= stop:
            return -1, -1, bursts
        blocked = (self.taken | self._groups[group]) >> start
        free = ~blocked & ((1 << (stop - start)) - 1)
        count = min(bursts, free.bit_count() // width)
        if not count:
            return -1, -1, bursts
        first = (free & -free).bit_length() - 1
        low, high = first, stop - start
        while low < high:
            middle = (low + high) // 2
            if (free & ((1 << middle) - 1)).bit_count() >= count * width:
                high = middle
            else:
                low = middle + 1
        self.taken |= (free & ((1 << low) - 1)) << start
        self._groups[group] |= ((1 << (low - first)) - 1) << (start + first)
        return start + first, start + low, bursts - count

    def _enter(self, position: int, count: int, cells: int, group: int) -> None:
        self.taken |= cells << position
        low = position - self.spacing + 1
        near = (1 << (count * self.spacing + self.spacing - 1)) - 1
        self._groups[group] |= near << low if low >= 0 else near >> -low

    def _train(self, bursts: int) -> tuple[int, int]:
        """Start bits and taken bits of a train of that many bursts."""
        known = self._trains.get((bursts, self.spacing))
        if known is None:
            starts = sum(1 << (index * self.spacing) for index in range(bursts))
            known = starts, sum(self._burst << (index * self.spacing) for index in range(bursts))
            self._trains[bursts, self.spacing] = known
        return known
