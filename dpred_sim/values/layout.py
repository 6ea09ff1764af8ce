"""In which order a container holds a tensor's values, and where its groups begin.

A container is a sequence of *runs*; groups never cross from one run into the next, so the last group
of a run may be short. Which values make a run depends on the shape alone:

* `run`: the channels of one position (the last axis);
* `row`: all values of the last two axes in C order, where a channel run would not fill a group
  (images, first layers): (x, channel) of one row of activations, (kx, channel) of weights;
* `filters`: depthwise weights (K, Ky, Kx, 1), one channel a filter: the filters of one (ky, kx).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dpred_sim.errors import InputError

Grouping = Literal["run", "row", "filters"]


@dataclass(frozen=True, slots=True)
class Layout:
    """The order of one shape's values in a container: `runs` runs of `length` values.

    `leading` are the axes that tell runs apart, outermost first: arrays with one element a group have
    the shape `leading + (groups(group_size),)`.
    """

    shape: tuple[int, ...]
    grouping: Grouping
    leading: tuple[int, ...]
    length: int

    @property
    def runs(self) -> int:
        """Number of runs."""
        return prod(self.leading)

    def groups(self, group_size: int) -> int:
        """Groups a run."""
        return -(-self.length // group_size)

    def group_lengths(self, group_size: int) -> NDArray[np.int32]:
        """Values of each group of a run: `group_size`, less in the last one; shape (groups,)."""
        lengths = np.full(self.groups(group_size), group_size, np.int32)
        lengths[-1] = self.length - group_size * (len(lengths) - 1)
        return lengths

    def arrange(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values of `shape` in container order, (runs, length); a view unless the order differs."""
        if self.grouping == "filters":
            values = np.moveaxis(values, 0, -1)
        return values.reshape(self.runs, self.length)

    def restore(self, arranged: NDArray[Any]) -> NDArray[Any]:
        """The inverse of `arrange`."""
        if self.grouping == "filters":
            filters, height, width, one = self.shape
            return np.moveaxis(arranged.reshape(height, width, one, filters), -1, 0)
        return arranged.reshape(self.shape)


def channel_runs(shape: tuple[int, ...]) -> Layout:
    """Runs along the last axis, whatever the group size: what compute groups follow."""
    return Layout(tuple(shape), "run", tuple(shape[:-1]), shape[-1])


def layout(shape: tuple[int, ...], group_size: int = 16) -> Layout:
    """The layout in which every codec stores a tensor of `shape`.

    Raises InputError for a group size that is not a positive integer.
    """
    check_group_size(group_size)
    shape = tuple(shape)
    if len(shape) == 4 and shape[-1] == 1:
        return Layout(shape, "filters", shape[1:3], shape[0])
    if len(shape) in (3, 4) and shape[-1] < group_size:
        return Layout(shape, "row", shape[:-2], shape[-2] * shape[-1])
    return channel_runs(shape)


def check_group_size(group_size: int) -> None:
    """Raises InputError unless `group_size` is a positive integer."""
    if isinstance(group_size, bool) or not isinstance(group_size, int | np.integer) or group_size < 1:
        raise InputError(
            "group size", field="group_size", found=group_size, allowed="a positive number of values"
        )
