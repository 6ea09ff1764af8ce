"""State of all banks, bank groups and ranks, command by command; used by the `burst` level."""

from __future__ import annotations

from dpred_sim.components.dram.background import OpenTime
from dpred_sim.components.dram.standard import Standard

LONG_AGO = -(1 << 40)
NEVER = 1 << 62


class Banks:
    """Earliest clocks of commands, kept up to date by the commands issued.

    Lists are by flat bank, flat group (over ranks) or rank. `row` is the open row or -1.
    """

    def __init__(self, standard: Standard) -> None:
        self.timing = standard.timing
        self.ranks = standard.ranks
        self.groups_per_rank = standard.bank_groups
        self.banks_per_group = standard.banks_per_group
        self.banks_per_rank = standard.banks
        count = self.ranks * self.banks_per_rank
        groups = self.ranks * self.groups_per_rank
        self.row = [-1] * count
        self.hits = [0] * count
        """Column commands since the row was opened."""
        self.activate_ok = [0] * count
        self.column_read_ok = [0] * count
        self.column_write_ok = [0] * count
        self.precharge_ok = [0] * count
        self.held = [0] * count
        """How long the activate window delayed the last activate."""
        self.read_ok = [LONG_AGO] * groups
        self.write_ok = [LONG_AGO] * groups
        self.group_activate_ok = [LONG_AGO] * groups
        self.rank_activate_ok = [LONG_AGO] * self.ranks
        self.open_times = [OpenTime() for _ in range(self.ranks)]
        self._open = [0] * self.ranks
        """Banks of each rank with a row open."""
        self._window: list[list[int]] = [[LONG_AGO] * 4 for _ in range(self.ranks)]

    def group_of(self, bank: int) -> int:
        """Flat group of a flat bank."""
        return bank // self.banks_per_group

    def rank_of(self, bank: int) -> int:
        """Rank of a flat bank."""
        return bank // self.banks_per_rank

    def activate_window(self, bank: int) -> int:
        """When tRRD and tFAW allow an activate of a bank."""
        rank = bank // self.banks_per_rank
        return max(
            self.rank_activate_ok[rank],
            self.group_activate_ok[bank // self.banks_per_group],
            self._window[rank][0] + self.timing.tFAW,
        )

    def activate(self, bank: int, row: int, clock: int) -> None:
        """Open a row."""
        timing = self.timing
        rank, group = bank // self.banks_per_rank, bank // self.banks_per_group
        self.held[bank] = max(0, min(clock, self.activate_window(bank)) - self.activate_ok[bank])
        self.row[bank] = row
        self.hits[bank] = 0
        self._open[rank] += 1
        self.open_times[rank].open(clock)
        self.activate_ok[bank] = clock + timing.tRC
        self.column_read_ok[bank] = clock + timing.tRCDRD
        self.column_write_ok[bank] = clock + timing.tRCDWR
        self.precharge_ok[bank] = clock + timing.tRAS
        self.rank_activate_ok[rank] = clock + timing.tRRD_S
        self.group_activate_ok[group] = clock + timing.tRRD_L
        window = self._window[rank]
        del window[0]
        window.append(clock)

    def precharge(self, bank: int, clock: int) -> None:
        """Close a bank."""
        self.row[bank] = -1
        rank = bank // self.banks_per_rank
        self._open[rank] -= 1
        if not self._open[rank]:
            self.open_times[rank].close(clock)
        self.activate_ok[bank] = max(self.activate_ok[bank], clock + self.timing.tRP)

    def column(self, bank: int, write: bool, clock: int) -> None:
        """Read or write one burst."""
        timing = self.timing
        rank, group = bank // self.banks_per_rank, bank // self.banks_per_group
        self.hits[bank] += 1
        if write:
            own, other = self.write_ok, self.read_ok
            long = timing.tCCD_L_WR
            turn_short = timing.CWL + timing.nBL + timing.tWTR_S
            turn_long = timing.CWL + timing.nBL + timing.tWTR_L
            turn_rank = timing.CWL + timing.nBL + timing.tRTRS - timing.CL
            done = clock + timing.CWL + timing.nBL + timing.tWR
        else:
            own, other = self.read_ok, self.write_ok
            long = timing.tCCD_L
            turn_short = turn_long = timing.tRTW
            turn_rank = timing.CL + timing.nBL + timing.tRTRS - timing.CWL
            done = clock + timing.tRTP
        if done > self.precharge_ok[bank]:
            self.precharge_ok[bank] = done
        first = rank * self.groups_per_rank
        last = first + self.groups_per_rank
        for index in range(len(own)):
            if index == group:
                next_own, next_other = clock + long, clock + turn_long
            elif first <= index < last:
                next_own, next_other = clock + timing.tCCD_S, clock + turn_short
            else:
                next_own, next_other = clock + timing.nBL + timing.tRTRS, clock + turn_rank
            if next_own > own[index]:
                own[index] = next_own
            if next_other > other[index]:
                other[index] = next_other

    def refresh_ready(self, banks: range) -> int:
        """When these banks are closed and may be refreshed; NEVER while one is open."""
        ready = 0
        for bank in banks:
            if self.row[bank] >= 0:
                return NEVER
            ready = max(ready, self.activate_ok[bank])
        return ready

    def refresh(self, banks: range, clock: int, duration: int) -> None:
        """Refresh closed banks."""
        for bank in banks:
            self.activate_ok[bank] = max(self.activate_ok[bank], clock + duration)
