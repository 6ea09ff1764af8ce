"""The `banked` level: a request at a time, with the state of every bank.

A request is cut into pieces that lie in one row. Banks are opened for a piece as early as its arrival,
the bank and the activate window allow; its bursts take the first free slots of the data bus from there
on, also ones between those of earlier requests (as a first-ready controller would use them), but never
across a turn of the bus. A refresh closes the rank and splits the request that it meets. Times inside
are clocks of the standard; arrivals are rounded up to a clock.
"""

from __future__ import annotations

from dataclasses import replace

from dpred_sim.components.dram.activates import ActivateWindow
from dpred_sim.components.dram.background import OpenTime, background
from dpred_sim.components.dram.databus import DataBus
from dpred_sim.components.dram.model import LOSSES, Served, Statistics, breakdown
from dpred_sim.components.dram.refresh import RefreshTimes
from dpred_sim.components.dram.shapes import Piece, Run, Share, cutter
from dpred_sim.components.dram.standard import Standard

_RETIRE_SLOTS = 512
_FOREVER = 1 << 62
_NOTHING = 0, 0
_UNUSED: tuple[int, tuple[Share, ...]] = 0, ()


class BankedModel:
    """One channel at the `banked` level; see model.ChannelModel."""

    level = "banked"

    def __init__(
        self,
        standard: Standard,
        bus_bits: int,
        *,
        mapping: str | None = None,
        page: str = "open",
        refresh: str = "all_bank",
    ) -> None:
        self.standard = standard
        self.bus_bits = bus_bits
        self.burst_bytes = standard.burst_bytes(bus_bits)
        self.capacity_bytes = standard.capacity_bytes(bus_bits)
        self.peak_bits_per_second = standard.peak_bits_per_second(bus_bits)
        self.peak_bytes_per_ps = self.peak_bits_per_second / 8e12
        self.closed_page = page == "closed"
        self._timing = timing = standard.timing
        self._tck = standard.tck_ps
        self._numerator, self._denominator = standard.tck_ps.numerator, standard.tck_ps.denominator
        self._tck_ps = int(standard.tck_ps) if standard.tck_ps.denominator == 1 else 0
        self._latency = timing.CL, timing.CWL
        self._opening = tuple(
            (timing.tRP, timing.tRC, timing.tRAS, column) for column in (timing.tRCDRD, timing.tRCDWR)
        )
        self._after = timing.tRTP - timing.CL - timing.nBL, timing.tWR
        slot = timing.tCCD_S
        self._slot = slot
        self._gap = slot - timing.nBL
        """Clocks between bursts that follow each other as closely as they may."""
        self._retire_from = _RETIRE_SLOTS * slot
        self._losses = dict.fromkeys(LOSSES, 0)
        groups = standard.ranks * standard.bank_groups
        self._bus = DataBus(slot, timing.tCCD_L, groups, self._losses)
        self._bus.uneven = timing.tCCD_L % slot > 0 or timing.tCCD_L_WR % slot > 0
        self._cutter = cutter(mapping, standard, bus_bits, -(-timing.tCCD_L // slot))
        banks = standard.ranks * standard.banks
        self._row = [-1] * banks
        self._activate_ok = [0] * banks
        self._column_ok = [0] * banks
        self._precharge_ok = [0] * banks
        self._closing = [-1] * banks
        """Closed page: the last column command of each bank."""
        self._windows = [
            ActivateWindow(timing.tRRD_S, timing.tRRD_L, timing.tFAW) for _ in range(standard.ranks)
        ]
        self._open_times = [OpenTime(self.closed_page) for _ in range(standard.ranks)]
        self._refreshes = refreshes = RefreshTimes(standard, refresh)
        self._per_bank = refreshes.per_bank
        self._due = refreshes.due
        self._write = False
        self._last_group = -1
        self._last_rank = -1
        self._counters = Statistics()
        self._start = self._first = 0
        self._opened = _NOTHING
        self.open_banks: tuple[int, ...] = ()
        self.open_row = -1
        self._open_ready = 0
        """Banks and row looked at last, all open, and from which clock on bursts may follow each other."""
        self.present = 0
        """No piece arrives before that clock."""
        self._used = _UNUSED
        """From when on the banks of pieces that followed each other may be precharged, as far as it is not
        entered: the clock without any burst after theirs, their shares."""
        self.issue = 0
        """Clock of the first column command of the piece placed last."""

    def serve(self, now_ps: int, address: int, size_bytes: int, write: bool) -> Served:
        """Serve one request; see model.ChannelModel."""
        arrival = self.present = self.clock(now_ps)
        row, runs = self.take(address, size_bytes, write)
        start = first = _FOREVER
        end = 0
        for piece in (chunk for run in runs for chunk in run.chunks):
            end = max(end, self.place(piece, row + piece.row, arrival, write))
            start, first = min(start, self._start), min(first, self._first)
        return Served(self.to_ps(start), self.to_ps(first), self.to_ps(end))

    def clock(self, now_ps: int) -> int:
        """The first clock at or after a time."""
        tck = self._tck_ps
        if tck:
            return -(-now_ps // tck)
        return -(-now_ps * self._denominator // self._numerator)

    def to_ps(self, clock: int) -> int:
        """The time of a clock, rounded up."""
        tck = self._tck_ps
        return clock * tck if tck else -(-clock * self._numerator // self._denominator)

    def take(self, address: int, size_bytes: int, write: bool) -> tuple[int, tuple[Run, ...]]:
        """Count a request and cut it: the number to add to the rows, and runs of pieces to `place`."""
        burst = address // self.burst_bytes
        bursts = (address + size_bytes - 1) // self.burst_bytes - burst + 1
        self._counters.request(size_bytes, bursts, write)
        return self._cutter.cut(burst, bursts)

    def place(self, piece: Piece, row: int, arrival: int, write: bool) -> int:
        """Open the banks for a piece and place its bursts; returns the clock at which the last one ends.

        Most pieces of a stream find their banks open and go right behind what the data bus has. That is
        what `search` would find, in fewer steps.
        """
        bus, latency = self._bus, self._latency[write]
        anchor, horizon = bus.anchor, bus.horizon
        first = anchor + horizon
        if (
            piece.banks is not self.open_banks
            or row != self.open_row
            or write is not self._write
            or not piece.interleaved
            or self._per_bank
            or first <= (arrival if arrival < self.present else self.present) + latency
        ):
            return self.search(piece, row, arrival, write)
        ready = arrival if arrival > self._open_ready else self._open_ready
        start = ready + latency - anchor
        bursts = piece.bursts
        length = bursts * self._slot
        if not bus.solid <= start <= horizon or first + length >= self._due[piece.rank] + latency:
            return self.search(piece, row, arrival, write)
        if start > self._retire_from:
            self._retire((arrival if arrival < self.present else self.present) + latency)
        bus.follow(length)
        self._start = ready
        self._first = first
        self.issue = first - latency
        end = first + length - self._gap
        # each use is later than those before; the banks learn of the latest when somebody else looks at them
        self._used = end + self._after[write], piece.shares
        self._last_group = piece.group
        self._counters.row_hits += bursts
        if self._gap:
            self._losses["column_spacing"] += bursts * self._gap
        return end

    def search(self, piece: Piece, row: int, arrival: int, write: bool) -> int:
        """As `place`, for any piece."""
        still_open = piece.banks is self.open_banks and row == self.open_row
        if self._used is not _UNUSED:
            self._enter_uses()
        bus, rank, latency = self._bus, piece.rank, self._latency[write]
        left = piece.bursts
        end = 0
        # pieces may come ahead of time: what is free from the present on, others may still use
        earliest = (arrival if arrival < self.present else self.present) + latency
        interleaved = piece.interleaved
        drifts = (
            interleaved and not still_open and len(piece.shares) > 1 and self.drift_apart(piece, row, write)
        )
        self._start = self._first = _FOREVER
        while left:
            unit = self._refreshes.first_of(piece.banks) if self._per_bank else rank
            due = self._due[unit]
            if arrival >= due:
                self._refresh(unit, arrival)
                still_open = False
                continue
            if still_open:
                ready = self._start = arrival if arrival > self._open_ready else self._open_ready
                self._opened = _NOTHING
                window = 0
            else:
                ready, window = self._open(piece, row, arrival, write, left)
                if drifts:
                    ready = max(arrival, min(map(self._column_ok.__getitem__, piece.banks)))
            ready += latency
            limit = due + latency
            if ready >= limit:
                self._refresh(unit, arrival)
                still_open = False
                continue
            if write is not self._write or bus.anchor + bus.horizon <= earliest:
                ready = self._turn(piece, earliest, ready, write, unit)
            start = ready - bus.anchor
            if start < 0:
                start = 0
            if start > self._retire_from:
                start -= self._retire(earliest)
            if rank != self._last_rank:
                start = self._switch_rank(rank, start)
            horizon, anchor = bus.horizon, bus.anchor
            room = limit - 1 - anchor + bus.width
            if drifts:
                first, stop, rest = self._trains(piece, start, latency, room, write)
            elif interleaved:
                first, stop, rest = bus.fill(start, left, room)
            else:
                first, stop, rest = bus.put(start, left, piece.group, room)
            if first < 0:
                self._refresh(unit, arrival)
                still_open = False
                continue
            if stop > horizon:
                if first > horizon:
                    # banks ready in time, but their group was used too shortly before
                    opened = max(horizon, min(start, first))
                    bus.explain(horizon, opened, arrival + latency, self._row_open_after(unit), window)
                    if first > opened:
                        bus.gaps.append((opened, first, "column_spacing"))
                if drifts:
                    bus.gaps.append((max(horizon, first), stop, "row_misses"))
                elif not interleaved:
                    bus.gaps.append((max(horizon, first), stop, "column_spacing"))
            if anchor + first < self._first:
                self._first = anchor + first
                self.issue = self._first - latency
            end = anchor + stop - self._gap
            if not drifts:
                self._close(piece, end, write)
            drifts = False
            self._count(left - rest)
            left = rest
            if left:
                self._refresh(unit, arrival)
                still_open = False
        if self._gap:
            self._losses["column_spacing"] += piece.bursts * self._gap
        return end

    def _enter_uses(self) -> None:
        """Enter when the banks of the pieces that followed each other may be precharged."""
        last, shares = self._used
        self._used = _UNUSED
        for bank, _, _, _, after in shares:
            time = last - after * self._slot
            if time > self._precharge_ok[bank]:
                self._precharge_ok[bank] = time

    def drift_apart(self, piece: Piece, row: int, write: bool) -> bool:
        """Whether the banks of an interleaved piece drift apart.

        They do when the data bus would run dry before a bank has changed its row: banks that are ready
        sooner do not wait for it, and from then on one changes its row while others use the bus. Not with
        a refresh ahead, which aligns them again.
        """
        bank = piece.shares[0].bank
        if self._row[bank] == row or self._row[bank] < 0 or self._per_bank:
            return False
        if self._used is not _UNUSED:
            self._enter_uses()
        timing, latency = self._timing, self._latency[write]
        ready = self._precharge_ok[bank] + timing.tRP + timing.tRCDRD + latency
        if ready <= self._bus.end:
            return False
        return ready + 2 * piece.bursts * max(timing.tCCD_L, timing.tCCD_L_WR) < self._due[piece.rank]

    def _trains(
        self, piece: Piece, start: int, latency: int, limit: int, write: bool
    ) -> tuple[int, int, int]:
        """Place the bursts of each bank as soon as it is ready; see DataBus.fill."""
        timing, bus, after = self._timing, self._bus, self._after[write]
        first = _FOREVER
        end = rest = 0
        for bank, group, bursts, _, _ in piece.shares:
            at = self._column_ok[bank] + latency - bus.anchor
            begin, stop, left = bus.put(at if at > start else start, bursts, group, limit, beside=True)
            rest += left
            if begin < 0:
                continue
            first, end = min(first, begin), max(end, stop)
            last = bus.anchor + stop - bus.width + timing.nBL + after
            if last > self._precharge_ok[bank]:
                self._precharge_ok[bank] = last
        self._last_group = -1
        if self.closed_page:
            self._auto_precharge(piece, bus.anchor + end - bus.width + timing.nBL, write)
        return (first if end else -1), end, rest

    def _open(self, piece: Piece, row: int, arrival: int, write: bool, left: int) -> tuple[int, int]:
        """Have the row open in all banks of a piece of which `left` bursts are to come.

        Returns the clock of its first column command, and how long the activate window held it up.
        """
        slot, closed_page = self._slot, self.closed_page
        rows, activate_ok, precharge_ok = self._row, self._activate_ok, self._precharge_ok
        column_ok, place_activate = self._column_ok, self._windows[piece.rank].place
        precharge, cycle, active, opening = self._opening[write]
        skipped = piece.bursts - left
        ready = arrival
        started = self._start
        held = misses = conflicts = 0
        for bank, group, _, first, after in piece.shares:
            if skipped:
                if after >= left:
                    continue
                first = max(0, first - skipped)
            if closed_page:
                self._settle(bank, row, arrival)
            if rows[bank] == row:
                column = begun = column_ok[bank]
                if begun < arrival:
                    column = begun = arrival
            else:
                before = activate_ok[bank]
                if rows[bank] < 0:
                    misses += 1
                    if before < arrival:
                        before = arrival
                    begun = before
                else:
                    conflicts += 1
                    begun = precharge_ok[bank]
                    if begun < arrival:
                        begun = arrival
                    if before < begun + precharge:
                        before = begun + precharge
                rows[bank] = row
                activate = place_activate(group, before)
                activate_ok[bank] = activate + cycle
                precharge_ok[bank] = activate + active
                column = column_ok[bank] = activate + opening
                if activate - before > held:
                    held = activate - before
            if begun < started:
                started = begun
            column -= first * slot
            if column > ready:
                ready = column
        self._start = started
        if skipped or closed_page:
            self.open_row = -1
        else:
            self.open_banks, self.open_row, self._open_ready = piece.banks, row, ready
        if not misses and not conflicts:
            self._opened = _NOTHING
            return ready, 0
        counters = self._counters
        counters.activates += misses + conflicts
        counters.precharges += conflicts
        if misses:
            self._open_times[piece.rank].open(activate)
        self._opened = misses, conflicts
        return ready, held

    def _count(self, placed: int) -> None:
        """Count hits and misses of bursts that got their slots; the first in a bank opened its row."""
        counters = self._counters
        if self._opened is _NOTHING:
            counters.row_hits += placed
            return
        misses, conflicts = self._opened
        if misses + conflicts > placed:
            conflicts = min(conflicts, placed)
            misses = placed - conflicts
        counters.row_conflicts += conflicts
        counters.row_misses += misses
        counters.row_hits += placed - misses - conflicts

    def _close(self, piece: Piece, end: int, write: bool) -> None:
        """Enter when the banks of a piece may be precharged, its last data being over at `end`."""
        precharge_ok, slot = self._precharge_ok, self._slot
        last = end + self._after[write]
        for bank, _, _, _, after in piece.shares:
            time = last - after * slot
            if time > precharge_ok[bank]:
                precharge_ok[bank] = time
        self._last_group = piece.group
        if self.closed_page:
            self._auto_precharge(piece, end, write)

    def _auto_precharge(self, piece: Piece, end: int, write: bool) -> None:
        """Closed page: enter the last column command of each bank."""
        timing = self._timing
        back = timing.nBL + (timing.CWL if write else timing.CL)
        for share in piece.shares:
            self._closing[share.bank] = end - back - share.after * self._slot
            self._counters.precharges += 1
        self._open_times[piece.rank].extend(max(self._precharge_ok[bank] for bank in piece.banks))

    def _settle(self, bank: int, row: int, arrival: int) -> None:
        """Closed page: a bank closes after its last burst unless the next to the row was there by then."""
        if self._row[bank] == row and arrival <= self._closing[bank]:
            self._counters.precharges -= 1
        elif self._row[bank] >= 0:
            self._row[bank] = -1
            closed = self._precharge_ok[bank] + self._timing.tRP
            self._activate_ok[bank] = max(self._activate_ok[bank], closed)

    def _turn(self, piece: Piece, earliest: int, ready: int, write: bool, unit: int) -> int:
        """Begin a new stretch of the data bus: after a turn, or after it ran empty.

        `earliest` is the first clock at which this request could have data, `ready` when its banks
        have. Returns the first clock of its data.
        """
        timing, bus = self._timing, self._bus
        end = bus.end
        free = end
        same = piece.group >= 0 and piece.group == self._last_group
        if piece.rank != self._last_rank:
            # tCCD, tWTR and tRTW hold within a rank
            free += timing.tRTRS
        elif write is self._write:
            if same and bus.taken:
                ready = max(ready, end - self._slot + bus.spacing)
        elif write:
            free += timing.tRTW + timing.CWL - timing.CL - timing.nBL
        else:
            free += timing.CL + (timing.tWTR_L if same else timing.tWTR_S)
        if not bus.taken and not end:
            free = end
        if write is not self._write:
            self._write = write
            bus.spacing = bus.long = timing.tCCD_L_WR if write else timing.tCCD_L
        # from the first clock that anybody could use: who is ready sooner may come before this one
        anchor = max(earliest, end, free)
        bus.restart(anchor, earliest, free, self._row_open_after(unit))
        return max(ready, anchor)

    def _switch_rank(self, rank: int, start: int) -> int:
        """Leave the bubble of tRTRS between ranks; returns where the data may start."""
        bus, bubble = self._bus, self._timing.tRTRS
        if self._last_rank >= 0 and bus.taken and start < bus.horizon + bubble:
            bus.part(bubble)
            start = bus.horizon
        self._last_rank = rank
        return start

    def _row_open_after(self, unit: int) -> int:
        """The first clock at which a unit can have data read from a row after its last refresh."""
        return self._refreshes.done[unit] + self._timing.tRCDRD + self._timing.CL

    def _retire(self, clock: int) -> int:
        """Let the bus forget what lies before a clock; returns how many clocks it forgot."""
        bus = self._bus
        clocks = min(clock - bus.anchor, bus.horizon)
        if clocks < self._retire_from // 2:
            return 0
        bus.retire(clocks)
        return clocks

    def _refresh(self, unit: int, arrival: int) -> None:
        """Refresh a unit at its due time, or as soon as its banks allow."""
        timing, counters, times = self._timing, self._counters, self._refreshes
        counters.refreshes += times.skip(unit, arrival)
        start = closed = due = times.due[unit]
        rows, activate_ok, precharge_ok = self._row, self._activate_ok, self._precharge_ok
        if self.closed_page:
            for bank in times.units[unit]:
                self._settle(bank, -1, due)
        open_banks = 0
        for bank in times.units[unit]:
            if rows[bank] >= 0:
                open_banks += 1
                if precharge_ok[bank] > closed:
                    closed = precharge_ok[bank]
            elif activate_ok[bank] > start:
                start = activate_ok[bank]
        if open_banks:
            counters.precharges += open_banks
            start = max(start, closed + timing.tRP)
        done = times.begin(unit, start)
        counters.refreshes += 1
        self.open_row = -1
        for bank in times.units[unit]:
            rows[bank] = -1
            if activate_ok[bank] < done:
                activate_ok[bank] = done
        banks = self.standard.banks
        rank = unit // banks if self._per_bank else unit
        if not self._per_bank or max(self._row[rank * banks : (rank + 1) * banks]) < 0:
            self._open_times[rank].close(closed)

    def statistics(self, end_ps: int) -> Statistics:
        """Counters of all requests handed over; refreshes as of `end_ps`."""
        clock, times = int(end_ps / self._tck), self._refreshes
        refreshes = self._counters.refreshes + times.alone(clock)
        active = sum(
            open_time.by(clock if self._per_bank else min(clock, times.due[rank]))
            for rank, open_time in enumerate(self._open_times)
        )
        return replace(
            self._counters,
            refreshes=refreshes,
            **background(self._tck, self.standard.ranks, active, times.refreshing(clock, refreshes), end_ps),
        )

    def breakdown(self, end_ps: int) -> dict[str, int]:
        """Time by what the data bus did; see model.ChannelModel."""
        lost, later = self._bus.lost_by(int(end_ps / self._tck))
        busy = (self._counters.bursts - later) * self._timing.nBL
        return breakdown(self._tck, busy, lost, end_ps)
