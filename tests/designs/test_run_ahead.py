"""The two recurrences against their plain loops, on sequences long enough for many stretches."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpred_sim.designs.run_ahead import round_robin, run_ahead


def loop_ahead(costs: Any, registers: int) -> list[int]:
    busy, history, index, ready, grown, done = [0] * costs.shape[1], [0] * registers, 0, 0, [], 0
    for step in costs.tolist():
        busy = [max(b, ready) + c for b, c in zip(busy, step, strict=True)]
        ready, history[index] = history[index], max(busy)
        index = (index + 1) % registers
        grown.append(max(busy) - done)
        done = max(busy)
    return grown


def loop_turns(costs: list[int], columns: int, issue: list[int]) -> list[int]:
    free, clock, finish = [0] * columns, 0, [0]
    for number, (cost, wait) in enumerate(zip(costs, issue, strict=True)):
        start = max(clock, free[number % columns])
        free[number % columns] = start + cost
        clock = start + wait
        finish.append(max(free))
    return finish


def sequences(steps: int, groups: int, seed: int, kind: str) -> Any:
    rng = np.random.default_rng(seed)
    costs = rng.integers(1, 17, (steps, groups))
    if kind == "alike":  # a lag between columns then lasts for ever
        costs[:] = rng.integers(1, 4)
        costs[rng.integers(0, steps, 3), rng.integers(0, groups, 3)] += 40
    if kind == "bursts":
        costs[rng.random(costs.shape) < 0.95] = 1
        costs[rng.random(costs.shape) < 0.1] = 0
    return costs.astype(np.uint8)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 1500),
    st.integers(1, 6),
    st.integers(1, 5),
    st.integers(0, 999),
    st.sampled_from(["even", "alike", "bursts"]),
)
def test_run_ahead_is_the_loop(steps: int, groups: int, registers: int, seed: int, kind: str) -> None:
    costs = sequences(steps, groups, seed, kind)
    assert run_ahead(costs, registers).tolist() == loop_ahead(costs, registers)


@pytest.mark.parametrize("kind", ["even", "alike", "bursts"])
def test_run_ahead_of_many_stretches(kind: str) -> None:
    costs = sequences(5000, 4, 1, kind)
    assert run_ahead(costs, 2).tolist() == loop_ahead(costs, 2)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=60),
    st.integers(1, 7),
    st.sampled_from([1, 2, 5]),
    st.booleans(),
)
def test_round_robin_is_the_loop(costs: list[int], columns: int, issue: int, varying: bool) -> None:
    waits = [1 + (n * issue) % 7 for n in range(len(costs))] if varying else [issue] * len(costs)
    given_issue = np.array(waits) if varying else issue
    finish = round_robin(np.array(costs), columns, given_issue)
    assert finish.tolist() == loop_turns(costs, columns, waits)
