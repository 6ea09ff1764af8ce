"""Activate window and data bus against brute force."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from dpred_sim.components.dram.activates import ActivateWindow
from dpred_sim.components.dram.databus import DataBus
from dpred_sim.components.dram.model import LOSSES

WINDOWS = [(4, 7, 26), (4, 11, 20)]
"""Between activates of two bank groups, of one, and of any five; also of one with another between."""


def allowed(rules: tuple[int, int, int], times: list[tuple[int, int]], time: int, group: int) -> bool:
    short, long, faw = rules
    for other, its_group in times:
        if abs(other - time) < (long if its_group == group else short):
            return False
    every = sorted([*(one for one, _ in times), time])
    return all(later - first >= faw for first, later in zip(every, every[4:], strict=False))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(WINDOWS), st.lists(st.tuples(st.integers(0, 120), st.integers(0, 3)), max_size=14))
def test_activates_take_the_first_time_that_keeps_the_window(
    rules: tuple[int, int, int], calls: list[tuple[int, int]]
) -> None:
    window = ActivateWindow(*rules)
    times: list[tuple[int, int]] = []
    for ready, group in calls:
        expected = next(time for time in range(ready, 10_000) if allowed(rules, times, time, group))
        assert window.place(group, ready) == expected
        times.append((expected, group))


class SlowBus:
    """One cell at a time."""

    def __init__(self, width: int, spacing: int) -> None:
        self.width, self.spacing = width, spacing
        self.cells: set[int] = set()
        self.starts: dict[int, list[int]] = {}

    def place(self, start: int, bursts: int, group: int | None, limit: int) -> tuple[list[int], int]:
        placed: list[int] = []
        position = start
        while len(placed) < bursts and position + self.width <= limit:
            near = [] if group is None else self.starts.setdefault(group, [])
            free = all(position + step not in self.cells for step in range(self.width))
            if free and all(abs(position - other) >= self.spacing for other in near):
                placed.append(position)
                near.append(position)
                self.cells.update(range(position, position + self.width))
            position += 1
        return placed, bursts - len(placed)


REQUESTS = st.lists(
    st.tuples(st.integers(0, 60), st.integers(1, 9), st.sampled_from([None, 0, 1]), st.integers(10, 90)),
    max_size=9,
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([(1, 2), (2, 3), (1, 1), (2, 4), (1, 3)]), REQUESTS, st.integers(0, 40))
def test_bursts_take_the_first_free_slots(
    shape: tuple[int, int], requests: list[tuple[int, int, int | None, int]], forget: int
) -> None:
    width, spacing = shape
    losses = dict.fromkeys(LOSSES, 0)
    bus, slow = DataBus(width, spacing, 2, losses), SlowBus(width, spacing)
    for start, bursts, group, limit in requests:
        placed, left = slow.place(start, bursts, group, limit)
        first, end, rest = (
            bus.fill(start, bursts, limit) if group is None else bus.train(start, bursts, group, limit)
        )
        assert rest == left
        if placed:
            assert (first, end) == (placed[0], placed[-1] + width)
        else:
            assert first == -1
        taken = {cell for cell in range(200) if bus.taken >> cell & 1}
        assert taken == slow.cells
        assert bus.horizon == max(slow.cells, default=-1) + 1
    bus.gaps = [(0, bus.horizon, "column_spacing")]
    end, horizon = bus.end, bus.horizon
    bus.retire(min(forget, horizon))
    assert bus.end == end
    bus.restart(end + 10, asked=end + 2, turned=end + 5, refreshed=end + 6)
    assert bus.end == end + 10
    assert losses["column_spacing"] == horizon - len(slow.cells)
    assert [losses[cause] for cause in ("idle", "turns", "refresh", "row_misses")] == [2, 3, 1, 4]
