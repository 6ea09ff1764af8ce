"""Bits for tensors that, each within its tolerance alone, change a network's output too much together.

A repair is a list of steps, each of them a bit more for some tensors, and as few steps are taken, from the
first on, as make all together fit. `everywhere` raises all tensors in every step: coarse, but there is one
number to be found, so it holds on inputs that the search did not see. `fewest` raises one tensor a step, the
one whose bit takes the most error away for the bits that it adds to the stored values: less to store, and
less room for other inputs. Where all steps together are not enough, `helped` takes those that help.

To go on and take single bits back as long as everything fits saves a point or two more, but what that finds
are roundings that happen to cancel on the calibration inputs: on others the change is two or three times as
large. It is not done.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from heapq import heapify, heappop, heappush
from typing import TypeVar

from dpred_sim.workload.profile import Format

T = TypeVar("T", bound=Hashable)

REPAIRS = ("everywhere", "fewest")

LEAST_ERROR = 1e-9
"""A tensor whose rounding changes nothing that can be seen still takes its turn, last."""


def repaired(
    formats: Mapping[T, Format], steps: Sequence[Sequence[T]], fits: Callable[[Mapping[T, Format]], bool]
) -> dict[T, Format]:
    """Formats after as few of the steps as make them fit, all steps where that is not enough.

    `fits` says whether formats change the output little enough. It is asked about twice as often as the
    number of steps has binary digits.
    """
    if fits(formats):
        return dict(formats)
    low, high = 0, min(1, len(steps))
    while not fits(_after(formats, steps[:high])):
        if high == len(steps):
            return _after(formats, steps)
        low, high = high, min(2 * high, len(steps))
    while high - low > 1:
        middle = (low + high) // 2
        if fits(_after(formats, steps[:middle])):
            high = middle
        else:
            low = middle
    return _after(formats, steps[:high])


def helped(
    formats: Mapping[T, Format], steps: Sequence[Sequence[T]], change: Callable[[Mapping[T, Format]], float]
) -> dict[T, Format]:
    """Formats after the steps, from the first on, that each lower the change of the output.

    For networks whose steps all together are not enough: beyond some step it is not the tensors that still
    get bits that change the output, and they are no reason to store more.
    """
    found = dict(formats)
    before = change(found)
    for step in steps:
        more = _after(found, [step])
        now = change(more)
        if now >= before:
            break
        found, before = more, now
    return found


def everywhere(formats: Mapping[T, Format], most: int) -> list[list[T]]:
    """Steps that raise all tensors, those at `most` bits apart."""
    room = {tensor: most - found.precision for tensor, found in formats.items()}
    return [[t for t in formats if room[t] > step] for step in range(max(room.values(), default=0))]


def fewest(
    formats: Mapping[T, Format], alone: Mapping[T, float], sizes: Mapping[T, int], most: int
) -> list[list[T]]:
    """Steps that raise one tensor each, no tensor beyond `most` bits.

    `alone` is the error that each tensor makes by itself, `sizes` how many values it has. Errors of
    independent roundings add up by their squares, and a bit more halves one.
    """
    gains = [
        (-(max(alone[tensor], LEAST_ERROR) ** 2) / sizes[tensor], index, tensor)
        for index, tensor in enumerate(formats)
    ]
    room = {tensor: most - found.precision for tensor, found in formats.items()}
    heapify(gains)
    steps = []
    while gains:
        gain, index, tensor = heappop(gains)
        if room[tensor] > 0:
            room[tensor] -= 1
            steps.append([tensor])
            heappush(gains, (gain / 4, index, tensor))
    return steps


def _after(formats: Mapping[T, Format], steps: Sequence[Sequence[T]]) -> dict[T, Format]:
    found = dict(formats)
    for step in steps:
        for tensor in step:
            found[tensor] = replace(found[tensor], precision=found[tensor].precision + 1)
    return found
