"""Steps that overlap: column registers, and the round robin of the fully connected nest.

Both are recurrences over steps. They are evaluated exactly, with whole arrays: the round robin by one
running maximum per turn over the columns, run-ahead by many stretches of steps side by side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.integer]
WARM_UP = 64
"""Steps that a stretch takes before its first one to find its starting state."""
STRETCH = 96
"""Least steps of a stretch."""
STRETCHES = 512
"""Most stretches side by side."""


def round_robin(costs: Integers, columns: int, issue: Integers | int = 1) -> NDArray[np.int64]:
    """Finish times of steps dealt over `columns` in turn, shape (steps + 1,), non-decreasing, from 0.

    A step starts when its column is free and the step before was issued:
    start[n] = max(start[n - 1] + issue[n - 1], start[n - columns] + costs[n - columns]).
    """
    steps = len(costs)
    cost = costs.astype(np.int64)
    issued = np.zeros(steps + 1, dtype=np.int64)
    np.cumsum(np.broadcast_to(issue, (steps,)), out=issued[1:])
    late = np.zeros(steps, dtype=np.int64)  # start - issued: how far the columns hold the issue back
    if columns < steps:
        grown = cost[:-columns] + issued[: steps - columns] - issued[columns:steps]
        if columns == 1:
            late[1:] = np.cumsum(np.maximum(grown, 0))
        elif grown.max() > 0:
            for turn in range(columns, steps, columns):
                last = min(turn + columns, steps)
                wait = late[turn - columns : last - columns] + grown[turn - columns : last - columns]
                wait[0] = max(wait[0], late[turn - 1])
                np.maximum.accumulate(wait, out=late[turn:last])
    finish = np.zeros(steps + 1, dtype=np.int64)
    np.maximum.accumulate(late + issued[:-1] + cost, out=finish[1:])
    return finish


@dataclass(slots=True)
class _State:
    """Stretches between two steps: when each column is free (groups, n), and the last finish times,
    newest first (registers + 1, n)."""

    busy: NDArray[np.int64]
    past: NDArray[np.int64]

    def shifted(self) -> _State:
        """The state relative to its newest finish time, the wait for the oldest one applied."""
        return _State(np.maximum(self.busy, self.past[-1]) - self.past[0], self.past - self.past[0])

    def pick(self, which: NDArray[np.integer]) -> _State:
        return _State(self.busy[:, which], self.past[:, which])


def run_ahead(costs: Integers, registers: int) -> NDArray[np.int64]:
    """Growth of the finish time in each step, shape (steps,), for (steps, groups) costs.

    With r registers a column starts step n once all columns ended step n - 1 - r:
    busy[g] = max(busy[g], finish[n - 1 - r]) + costs[n, g]; finish[n] = max over g of busy[g].
    """
    steps, groups = costs.shape
    if not steps:
        return np.zeros(0, dtype=np.int64)
    count = max(1, min(STRETCHES, steps // STRETCH))
    length = -(-steps // count)
    count = -(-steps // length)
    padded = np.zeros((count * length + WARM_UP, groups), dtype=costs.dtype)
    padded[WARM_UP : WARM_UP + steps] = costs
    lanes = np.lib.stride_tricks.sliding_window_view(padded, length + WARM_UP, axis=0)[::length]
    tape = np.ascontiguousarray(lanes.transpose(2, 1, 0))  # (step of a stretch, group, stretch)
    cold = _State(np.zeros((groups, count), np.int64), np.zeros((registers + 1, count), np.int64))
    begin, _ = _advance(cold, tape[:WARM_UP])
    begin = begin.shifted()
    begin.busy[:, 0] = begin.past[:, 0] = 0
    end, grown = _advance(begin, tape[WARM_UP:])
    _repair(begin, end, grown, tape[WARM_UP:])
    return np.ascontiguousarray(grown.T).reshape(-1)[:steps]


def overlapped(costs: Integers, repeats: int, registers: int) -> NDArray[np.int64]:
    """Finish times of a layer with column registers, shape (steps + 1,), numbered block by block.

    `costs` is (regions, sets, inner, groups), the same for each of the `repeats` filter blocks of a
    region. Steps overlap in the order region, window set, filter block, inner step.
    """
    regions, sets, inner, groups = costs.shape
    sequence = np.broadcast_to(costs[:, :, None], (regions, sets, repeats, inner, groups))
    grown = run_ahead(sequence.reshape(-1, groups), registers)
    finish = np.zeros(len(grown) + 1, dtype=np.int64)
    np.cumsum(grown.reshape(sequence.shape[:-1]).swapaxes(1, 2), out=finish[1:])
    return finish


def _repair(begin: _State, end: _State, grown: NDArray[np.int64], tape: Integers) -> None:
    """Runs stretches again that began in another state than the one before ended in."""
    while True:
        due = end.shifted()
        differs = (begin.busy[:, 1:] != due.busy[:, :-1]).any(axis=0)
        differs |= (begin.past[:, 1:] != due.past[:, :-1]).any(axis=0)
        wrong = np.flatnonzero(differs) + 1
        if not len(wrong):
            return
        again = due.pick(wrong - 1)
        begin.busy[:, wrong], begin.past[:, wrong] = again.busy, again.past
        done, grown[:, wrong] = _advance(again, tape[:, :, wrong])
        end.busy[:, wrong], end.past[:, wrong] = done.busy, done.past


def _advance(state: _State, tape: Integers) -> tuple[_State, NDArray[np.int64]]:
    """Takes all stretches through (steps, groups, n) costs: the state after, growth of each step."""
    busy, past = state.busy.copy(), list(state.past.copy())
    finish = np.empty((len(tape) + 1, busy.shape[1]), dtype=np.int64)
    finish[0] = past[0]
    for at, cost in enumerate(tape, start=1):
        np.maximum(busy, past[-1], out=busy)
        busy += cost
        np.maximum.reduce(busy, axis=0, out=finish[at])
        past = [finish[at], *past[:-1]]
    return _State(busy, np.stack(past)), np.diff(finish, axis=0)
