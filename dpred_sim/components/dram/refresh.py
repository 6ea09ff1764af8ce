"""When ranks or banks are refreshed: what is due, what happened while nobody came, how long it took."""

from __future__ import annotations

from dpred_sim.components.dram.standard import Standard

_FOREVER = 1 << 62


class RefreshTimes:
    """Refreshes of one channel at the `banked` level; times are clocks.

    A unit is what is refreshed together: a rank (`kind` "all_bank", every tREFI for tRFC) or a bank
    ("per_bank", every tREFIpb times the banks, for tRFCpb). With "none" nothing ever falls due.
    """

    def __init__(self, standard: Standard, kind: str) -> None:
        timing, banks, ranks = standard.timing, standard.banks, standard.ranks
        self.per_bank = kind == "per_bank"
        if self.per_bank:
            self._period, self._duration = timing.tREFIpb * banks, timing.tRFCpb
            self.units = [range(bank, bank + 1) for bank in range(banks * ranks)]
        else:
            self._period, self._duration = timing.tREFI, timing.tRFC
            self.units = [range(rank * banks, (rank + 1) * banks) for rank in range(ranks)]
        """Banks of each unit."""
        count = len(self.units)
        # evenly spread; the first falls due after its part of the period, with one rank after a whole one
        self.due = [self._period * (unit + 1) // count for unit in range(count)]
        """When each unit is due next."""
        if kind == "none":
            self.due = [_FOREVER] * count
        self.done = [-_FOREVER] * count
        """When the last refresh of each unit is over."""

    def first_of(self, banks: tuple[int, ...]) -> int:
        """With refresh by bank: that of some banks which is due first."""
        return min(banks, key=self.due.__getitem__)

    def skip(self, unit: int, clock: int) -> int:
        """Let pass what a unit has gone through alone, long before a clock; returns how many refreshes."""
        late = clock - self.due[unit]
        if late <= self._period:
            return 0
        missed = late // self._period
        self.due[unit] += missed * self._period
        return missed

    def begin(self, unit: int, start: int) -> int:
        """Refresh a unit; returns when that is over."""
        self.done[unit] = start + self._duration
        self.due[unit] += self._period
        return self.done[unit]

    def alone(self, clock: int) -> int:
        """Refreshes due by a clock that no request has met."""
        return sum((clock - due) // self._period + 1 for due in self.due if due <= clock)

    def refreshing(self, clock: int, refreshes: int) -> int:
        """Clocks up to a clock that so many refreshes of ranks took; 0 for those of single banks."""
        if self.per_bank:
            return 0
        clocks = refreshes * self._duration
        for due, done in zip(self.due, self.done, strict=True):
            if due <= clock:
                done = due + (clock - due) // self._period * self._period + self._duration
            clocks -= min(self._duration, max(0, done - clock))
        return clocks
