"""First-ready scheduling of single bursts with bounded queues, clock by clock; of the `burst` level.

Bursts enter a read or a write queue in the order of arrival, one a clock. With `bank_queue` 0 the
scheduler sees the whole queue of one direction (writes are drained between the watermarks, .8 and .2 of
the queue), and the oldest command that is ready goes. With `bank_queue` > 0 the queue feeds one first-in
queue a bank, a burst a clock, and the banks take turns; writes are moved in batches when their queue is
full or no read waits. One command a clock; one row and one column command where the standard has two
command buses (HBM). An open row is left when nobody waits for it, or after four bursts when the oldest
burst of the bank waits for another row.
"""

from __future__ import annotations

from collections import deque

from dpred_sim.components.dram.banks import NEVER, Banks
from dpred_sim.components.dram.controller import Request
from dpred_sim.components.dram.model import LOSSES, Statistics
from dpred_sim.components.dram.standard import Standard

_HIT_CAP = 4
_COLUMN, _ACTIVATE, _PRECHARGE = range(3)


class Burst:
    """One burst on its way."""

    __slots__ = ("arrival", "bank", "job", "number", "opened", "row", "write")

    def __init__(self, bank: int, row: int, write: bool, arrival: int, number: int, job: Job) -> None:
        self.bank = bank
        self.row = row
        self.write = write
        self.arrival = arrival
        self.number = number
        self.job = job
        self.opened = 0


class Job:
    """The bursts of one request."""

    __slots__ = ("accepted", "end", "first", "left", "request", "start")

    def __init__(self, request: Request, left: int) -> None:
        self.request = request
        self.left = left
        self.accepted = 0
        self.start = -1
        self.first = NEVER
        self.end = 0


class FirstReady:
    """The scheduler of one channel. Times are clocks.

    `pending` counts bursts not yet issued, `next` is the next clock at which something may happen, `done`
    collects requests whose last burst was issued.
    """

    def __init__(
        self, standard: Standard, *, closed_page: bool, refresh: str, queue: int, bank_queue: int
    ) -> None:
        self.standard = standard
        self.closed_page = closed_page
        self.queue = queue
        self.bank_queue = bank_queue
        self._timing = standard.timing
        self._two_buses = standard.protocol.upper().startswith("HBM")
        self._banks = Banks(standard)
        count = standard.ranks * standard.banks
        self._queues: list[list[Burst]] = [[] for _ in range(count)]
        self._incoming: deque[Burst] = deque()
        self._waiting: tuple[list[Burst], list[Burst]] = ([], [])
        """Reads and writes that were let in and are not yet with their bank."""
        self._inside = [0, 0]
        """Reads and writes that count against the queues."""
        self.pending = 0
        self._with_banks = 0
        self._stuck = -1
        """Length of the waiting queue in which no burst found room with its bank; -1: not known."""
        self._draining = 0
        self._writing = False
        timing = standard.timing
        self._patience = timing.CWL + timing.nBL + timing.tWTR_L + timing.tRP + timing.tRCDRD
        self._busy_until = 0
        """When the last burst came or was issued."""
        self.flush = False
        """Nothing else comes: the few writes held need not wait for more."""
        self._turn = 0
        self._clock = 0
        self.next = 0
        self._soonest = NEVER
        self.done: list[Job] = []
        self._bus_end = 0
        self._last: Burst | None = None
        self.losses = dict.fromkeys(LOSSES, 0)
        self.counters = Statistics()
        self._first_hits: list[tuple[Burst | None, Burst | None, Burst | None] | None] = [None] * count
        self._bound = [0] * count
        """No command for a bank before that clock; lower bounds, valid until the bank is touched."""
        self._schedule_refresh(refresh)

    def _schedule_refresh(self, refresh: str) -> None:
        """Units of refresh (ranks or banks): their banks, due clocks, period and duration."""
        timing, standard = self._timing, self.standard
        banks = standard.banks
        self._by_bank = refresh == "per_bank"
        if self._by_bank:
            every = timing.tREFIpb * banks
            self._refresh_units = [range(bank, bank + 1) for bank in range(banks * standard.ranks)]
            self._duration = timing.tRFCpb
        else:
            every = timing.tREFI
            self._refresh_units = [range(rank * banks, (rank + 1) * banks) for rank in range(standard.ranks)]
            self._duration = timing.tRFC
        count = len(self._refresh_units)
        self.period = every
        # the first is due a whole step after time 0
        self.due = [every // count * (unit + 1) for unit in range(count)]
        if refresh == "none":
            self.due = [NEVER] * count
        self._next_due = min(self.due)
        self._refreshing: list[int] = []
        self._blocked: set[int] = set()
        self._refreshed = [-NEVER] * (banks * standard.ranks)

    def enter(self, bursts: list[Burst], clock: int) -> None:
        """Bursts of one request arrive."""
        if not self.pending:
            self._catch_up(clock)
            self.next = clock
        else:
            self.next = max(self._clock, min(self.next, clock))
        self._incoming.extend(bursts)
        self.pending += len(bursts)

    def run(self, until: int) -> None:
        """Schedule up to and including a clock."""
        while self.pending and self.next <= until:
            clock = self.next
            self._soonest = NEVER
            moved = self._let_in(clock)
            issued = self._step(clock)
            self._clock = clock + 1
            self.next = clock + 1 if moved or issued else max(clock + 1, self._soonest)

    def _let_in(self, clock: int) -> bool:
        """A burst that arrived enters its queue; one from a queue moves on to its bank."""
        incoming, inside, size = self._incoming, self._inside, self.queue
        moved = False
        if incoming and incoming[0].arrival <= clock and inside[incoming[0].write] < size:
            burst = incoming.popleft()
            if burst.job.start < 0:
                burst.job.start = NEVER
                burst.job.accepted = clock
            inside[burst.write] += 1
            self._busy_until = clock
            moved = True
            if self.bank_queue:
                self._waiting[burst.write].append(burst)
            else:
                self._queues[burst.bank].append(burst)
                self._touch(burst.bank)
        if self.bank_queue:
            return self._to_bank(clock) or moved
        self._choose_direction()
        return moved

    def _to_bank(self, clock: int) -> bool:
        """Move one burst to the queue of its bank."""
        reads, writes = self._waiting
        if writes and not self._draining and self._drain(clock, len(reads), len(writes)):
            self._draining = len(writes)
            self._stuck = -1
        waiting = writes if self._draining else reads
        if len(waiting) == self._stuck:
            return False
        queues, limit = self._queues, self.bank_queue
        for index, burst in enumerate(waiting):
            queue = queues[burst.bank]
            if len(queue) < limit:
                queue.append(burst)
                self._with_banks += 1
                self._touch(burst.bank)
                del waiting[index]
                self._inside[burst.write] -= 1
                if self._draining:
                    self._draining -= 1
                    self._stuck = -1
                return True
        self._stuck = len(waiting)
        return False

    def _drain(self, clock: int, reads: int, writes: int) -> bool:
        """Whether the writes held are to be moved: all there is room for, or many and the banks idle.

        A few wait for more until the channel has stood idle as long as a read would lose to them.
        """
        if writes >= self.queue:
            return True
        if self._with_banks:
            return False
        if writes > self.queue // 4:
            return True
        if reads:
            return False
        patient = self._busy_until + self._patience
        if clock >= patient or self.flush:
            return True
        self._soonest = min(self._soonest, patient)
        return False

    def _touch(self, bank: int) -> None:
        """The queue or the row of a bank changes: forget what was known of it."""
        self._first_hits[bank] = None
        self._bound[bank] = 0

    def _choose_direction(self) -> None:
        """Drain writes from .8 of the queue down to .2, or while nobody reads."""
        reads, writes = self._inside
        before = self._writing
        if self._writing:
            if not writes or (writes * 5 < self.queue and reads):
                self._writing = False
        elif writes and (writes * 5 > self.queue * 4 or not reads):
            self._writing = True
        if self._writing is not before:
            for bank in range(len(self._queues)):
                self._touch(bank)

    def _step(self, clock: int) -> bool:
        """Issue what is ready; notes in `_soonest` when something else may be."""
        refreshed = False
        if clock >= self._next_due or self._refreshing:
            refreshed = self._refresh(clock)
            if refreshed and not self._two_buses:
                return True
        self._soonest = min(self._soonest, self._next_due)
        row_bus = not refreshed
        chosen = self._choose(clock, True, row_bus)
        if chosen is None:
            if self._incoming and self._incoming[0].arrival > clock:
                self._soonest = min(self._soonest, self._incoming[0].arrival)
            return refreshed
        self._issue(*chosen, clock)
        if self._two_buses:
            column = chosen[0] == _COLUMN
            other = self._choose(clock, not column, column and row_bus)
            if other is not None:
                self._issue(*other, clock)
        return True

    def _choose(self, clock: int, columns: bool, rows: bool) -> tuple[int, int, Burst] | None:
        """Kind, bank and burst of the command to issue: by turns of banks, or the oldest."""
        best: tuple[int, int, Burst] | None = None
        queues, blocked, bound = self._queues, self._blocked, self._bound
        count = len(queues)
        oldest = NEVER
        by_turn = self.bank_queue > 0
        for step in range(1, count + 1):
            bank = self._turn + step
            if bank >= count:
                bank -= count
            if not queues[bank] or bank in blocked:
                continue
            if bound[bank] > clock:
                if bound[bank] < self._soonest:
                    self._soonest = bound[bank]
                continue
            kind, ready, burst = self._candidate(bank, clock)
            if burst is None:
                continue
            if ready > clock:
                bound[bank] = ready
                if ready < self._soonest:
                    self._soonest = ready
                continue
            if not (columns if kind == _COLUMN else rows):
                continue
            if by_turn:
                self._turn = bank
                return kind, bank, burst
            if burst.number < oldest:
                oldest = burst.number
                best = kind, bank, burst
        return best

    def _candidate(self, bank: int, clock: int) -> tuple[int, int, Burst | None]:
        """The next command for a bank: kind, the clock from which it may go, the burst it is for."""
        banks = self._banks
        known = self._first_hits[bank]
        if known is None:
            known = self._first_hits[bank] = self._look(bank)
        first, read, write = known
        if first is None:
            return _COLUMN, NEVER, None
        row = banks.row[bank]
        if row < 0:
            return _ACTIVATE, max(banks.activate_ok[bank], banks.activate_window(bank)), first
        ready = NEVER
        burst: Burst | None = None
        group = bank // banks.banks_per_group
        if read is not None:
            ready = max(banks.column_read_ok[bank], banks.read_ok[group])
            burst = read
        if write is not None:
            other = max(banks.column_write_ok[bank], banks.write_ok[group])
            if other < ready if ready > clock else other <= clock and write.number < read.number:  # type: ignore[union-attr]
                ready, burst = other, write
        if first.row != row and (burst is None or banks.hits[bank] >= _HIT_CAP):
            precharge = banks.precharge_ok[bank]
            if precharge <= clock or precharge < ready:
                return _PRECHARGE, precharge, first
        return _COLUMN, ready, burst

    def _look(self, bank: int) -> tuple[Burst | None, Burst | None, Burst | None]:
        """The oldest burst of a bank, and its oldest read and write to the open row."""
        row = self._banks.row[bank]
        first = read = write = None
        every = self.bank_queue > 0
        for burst in self._queues[bank]:
            if not every and burst.write is not self._writing:
                continue
            if first is None:
                first = burst
            if burst.row == row:
                if burst.write:
                    write = write or burst
                else:
                    read = read or burst
        return first, read, write

    def _issue(self, kind: int, bank: int, burst: Burst, clock: int) -> None:
        banks, counters = self._banks, self.counters
        self._touch(bank)
        if clock < burst.job.start:
            burst.job.start = clock
        if kind == _COLUMN:
            self._column(bank, burst, clock)
        elif kind == _ACTIVATE:
            banks.activate(bank, burst.row, clock)
            counters.activates += 1
            burst.opened = max(burst.opened, 1)
        else:
            banks.precharge(bank, clock)
            counters.precharges += 1
            burst.opened = 2

    def _column(self, bank: int, burst: Burst, clock: int) -> None:
        """A burst crosses the data bus."""
        timing, banks, counters = self._timing, self._banks, self.counters
        start = clock + (timing.CWL if burst.write else timing.CL)
        if start > self._bus_end:
            self._explain(bank, burst, start)
        banks.column(bank, burst.write, clock)
        self._busy_until = clock
        self._bus_end = start + timing.nBL
        self._last = burst
        queue = self._queues[bank]
        queue.remove(burst)
        if self.bank_queue:
            self._with_banks -= 1
            self._stuck = -1
        else:
            self._inside[burst.write] -= 1
        if burst.opened == 0:
            counters.row_hits += 1
        elif burst.opened == 1:
            counters.row_misses += 1
        else:
            counters.row_conflicts += 1
        if self.closed_page and not any(other.row == burst.row for other in queue):
            counters.precharges += 1
            banks.precharge(bank, banks.precharge_ok[bank])
        self.pending -= 1
        job = burst.job
        job.first = min(job.first, start)
        job.end = max(job.end, self._bus_end)
        job.left -= 1
        if not job.left:
            self.done.append(job)

    # -- refresh -----------------------------------------------------------------------------------

    def _refresh(self, clock: int) -> bool:
        """Begin refreshes that are due; returns whether the command bus was used."""
        for unit, due in enumerate(self.due):
            if due <= clock:
                self.due[unit] = due + self.period
                self._refreshing.append(unit)
                self._blocked.update(self._refresh_units[unit])
        self._next_due = min(self.due)
        banks = self._banks
        for unit in self._refreshing:
            span = self._refresh_units[unit]
            still_open = [bank for bank in span if banks.row[bank] >= 0]
            if still_open:
                ready = max(banks.precharge_ok[bank] for bank in still_open)
                if ready <= clock:
                    for bank in still_open:
                        banks.precharge(bank, clock)
                        self._touch(bank)
                    self.counters.precharges += len(still_open)
                    return True
            else:
                ready = banks.refresh_ready(span)
                if ready <= clock:
                    self._end_refresh(unit, clock)
                    self._refreshing.remove(unit)
                    self._blocked.difference_update(span)
                    return True
            self._soonest = min(self._soonest, ready)
        return False

    def _end_refresh(self, unit: int, clock: int) -> None:
        span = self._refresh_units[unit]
        self._banks.refresh(span, clock, self._duration)
        for bank in span:
            self._refreshed[bank] = clock + self._duration
        self.counters.refreshes += 1

    def background(self, clock: int) -> tuple[int, int]:
        """Clocks with rows open and clocks of refreshing up to a clock, summed over the ranks."""
        if self._by_bank:
            return sum(open_time.by(clock) for open_time in self._banks.open_times), 0
        active = 0
        refreshing = self.counters.refreshes * self._duration
        for rank, (due, open_time) in enumerate(zip(self.due, self._banks.open_times, strict=True)):
            last = self._refreshed[rank * self.standard.banks]
            if due <= clock:
                missed = (clock - due) // self.period
                refreshing += (missed + 1) * self._duration
                last = due + missed * self.period + self._duration
            refreshing -= min(self._duration, max(0, last - clock))
            active += open_time.by(min(clock, due))
        return active, refreshing

    def _catch_up(self, clock: int) -> None:
        """Refreshes that fell due while nothing was pending happened in time."""
        banks = self._banks
        for unit, due in enumerate(self.due):
            if due >= clock:
                continue
            missed = (clock - 1 - due) // self.period
            self.counters.refreshes += missed
            due += missed * self.period
            span = self._refresh_units[unit]
            start = due
            for bank in span:
                if banks.row[bank] >= 0:
                    banks.precharge(bank, max(due, banks.precharge_ok[bank]))
                    self.counters.precharges += 1
                start = max(start, banks.activate_ok[bank])
                self._touch(bank)
            self._end_refresh(unit, start)
            self.due[unit] = due + self.period
        self._next_due = min(self.due)

    def _explain(self, bank: int, burst: Burst, start: int) -> None:
        """Say why the data bus stood still until `start`."""
        timing, banks, last, losses = self._timing, self._banks, self._last, self.losses
        at = self._bus_end
        latency = timing.CWL if burst.write else timing.CL
        opening = timing.tRCDWR if burst.write else timing.tRCDRD
        parts = [("idle", burst.arrival + latency)]
        if burst.opened:
            parts.append(("refresh", self._refreshed[bank] + opening + latency))
        if last is not None and last.write is not burst.write:
            spare = timing.tRTW + timing.CWL - timing.CL - timing.nBL
            parts.append(("turns", at + (spare if burst.write else timing.tWTR_S + timing.CL)))
        elif last is not None and banks.rank_of(last.bank) != banks.rank_of(bank):
            parts.append(("turns", at + timing.tRTRS))
        if burst.opened:
            parts.append(("row_misses", start - banks.held[bank]))
            parts.append(("activate_windows", start))
        elif last is not None and banks.group_of(last.bank) == banks.group_of(bank):
            long = timing.tWTR_L + timing.CL if last.write and not burst.write else timing.tCCD_L - timing.nBL
            parts.append(("column_spacing" if last.write is burst.write else "turns", self._bus_end + long))
        parts.append(("row_misses", start))
        for cause, until in parts:
            until = min(until, start)
            if until > at:
                losses[cause] += until - at
                at = until
