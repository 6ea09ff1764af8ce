"""A channel under test: what a request has to wait for, probed without changing the channel."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from dpred_sim.components.dram.model import ChannelModel, make_model
from dpred_sim.components.dram.standard import Standard


class DramUnderTest:
    """Times are clocks; places are (row, bank, group, column) of one rank unless `rank` is given."""

    def __init__(self, standard: Standard, level: str = "banked", **options: Any) -> None:
        self.standard = standard
        self.timing = standard.timing
        self.model: ChannelModel = make_model(
            standard, level=level, mapping="ro ra ba co bg", **{"refresh": "none", **options}
        )

    def address(self, row: int, bank: int = 0, group: int = 0, column: int = 0, rank: int = 0) -> int:
        standard = self.standard
        columns = standard.page_bytes() // standard.burst_bytes()
        number = row
        for value, size in (
            (rank, standard.ranks),
            (bank, standard.banks_per_group),
            (column, columns),
            (group, standard.bank_groups),
        ):
            number = number * size + value
        return number * standard.burst_bytes()

    def issue(self, clock: int, write: bool = False, **place: int) -> int:
        """Serve one burst that arrives at `clock`; returns the clock at which its data ends."""
        served = self.model.serve(
            self.to_ps(clock), self.address(**place), self.standard.burst_bytes(), write
        )
        assert served.start_ps <= served.first_ps < served.end_ps
        return int(served.end_ps / self.standard.tck_ps)

    def to_ps(self, clock: int) -> int:
        """The last picosecond that belongs to a clock."""
        return int(clock * self.standard.tck_ps)

    def probe(self, clock: int, write: bool = False, **place: int) -> int:
        """As `issue`, on a copy."""
        keep, self.model = self.model, deepcopy(self.model)
        try:
            return self.issue(clock, write, **place)
        finally:
            self.model = keep

    def assert_earliest_ready_at(self, clock: int, latency: int, write: bool = False, **place: int) -> None:
        """Unhindered from `clock` on, held up by one clock when it comes one clock sooner."""
        assert self.probe(clock, write, **place) == clock + latency, "not ready"
        assert self.probe(clock - 1, write, **place) == clock + latency, "not blocked one clock sooner"
