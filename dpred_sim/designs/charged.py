"""What units process must fit in the cycles that a schedule charges for it.

Each check raises InvariantBroken and names the first step that is too short.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.designs.base import Schedule
from dpred_sim.designs.loop_nest import Nest
from dpred_sim.errors import InvariantBroken


def check_steps(schedule: Schedule, nest: Nest, spent: NDArray[Any]) -> None:
    """No step processes more than it is charged where all columns wait for each other.

    `spent` is (regions, filter blocks, sets, inner), or broadcasts to it.
    """
    shape = (nest.regions, nest.blocks_per_region, nest.sets, nest.inner)
    steps = np.arange(schedule.steps)
    charged = schedule.cycles(steps, steps + 1).reshape(shape)
    _require(schedule, charged - np.broadcast_to(spent, shape), "steps")


def check_columns(schedule: Schedule, nest: Nest, spent: NDArray[Any], issue: NDArray[Any] | int = 1) -> None:
    """No column of the fully connected nest is done before its own work since any of its steps was issued.

    `spent` is (steps,), dealt over the columns in turn; a step is issued `issue` cycles after the one before.
    """
    count = len(spent)
    done = np.arange(1, count + 1)
    finish = schedule.cycles(np.zeros_like(done), done)
    issued = np.cumsum(np.broadcast_to(issue, (count,)).astype(np.int64))
    begun = np.concatenate([[0], issued[:-1]])
    short = (0, -count % nest.columns)
    cost = np.pad(spent.astype(np.int64), short).reshape(-1, nest.columns)
    first = np.pad(begun, short, mode="edge").reshape(-1, nest.columns)
    busy = cost.cumsum(axis=0)
    busy += np.maximum.accumulate(first - (busy - cost), axis=0)
    _require(schedule, finish - busy.reshape(-1)[:count], "steps")


def check_overlapped(schedule: Schedule, nest: Nest, spent: NDArray[Any], registers: int) -> None:
    """With column registers a step ends no sooner than its cost after the step that had to end before.

    `spent` is (regions, sets, inner, groups), the same for every filter block of a region.
    """
    shape = (nest.regions, nest.blocks_per_region, nest.sets, nest.inner)
    first = np.arange(schedule.steps).reshape(shape)[..., : max(0, nest.inner - registers)]
    charged = schedule.cycles(first, first + registers + 1)
    slowest = spent.max(axis=-1)[:, None, :, registers:]
    _require(schedule, charged - np.broadcast_to(slowest, charged.shape), "steps")
    busiest = int(spent.sum(axis=(0, 1, 2), dtype=np.int64).max()) * nest.blocks_per_region
    _require(schedule, np.array([schedule.total - busiest]), "layers")


def check_rounds(schedule: Schedule, nest: Nest, spent: NDArray[Any]) -> None:
    """A round over all columns takes no less than any of its steps: spent (filter blocks, inner)."""
    starts = np.arange(0, nest.inner, nest.columns)
    ends = np.minimum(starts + nest.columns, nest.inner)
    base = np.arange(nest.blocks_per_region)[:, None] * nest.inner
    charged = schedule.cycles(base + starts, base + ends)
    _require(schedule, charged - np.maximum.reduceat(spent, starts, axis=1), "rounds")


def check_sets(schedule: Schedule, nest: Nest, spent: NDArray[Any]) -> None:
    """A window set takes no less than its slowest lane: spent (regions, sets), for every filter block."""
    for block in range(len(schedule.blocks)):
        left = schedule.set_cycles(block) - spent[block // nest.blocks_per_region]
        _require(schedule, left, f"window sets of block {block}")


def _require(schedule: Schedule, left: NDArray[Any], what: str) -> None:
    flat = left.reshape(-1)
    wrong = np.flatnonzero(flat < 0)
    if len(wrong):
        raise InvariantBroken(
            f"layer {schedule.original.name!r}: {len(wrong)} {what} process more than the cycles they are"
            f" charged, number {wrong[0]} by {-int(flat[wrong[0]])}"
        )
