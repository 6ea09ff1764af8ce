"""Rows of an activation tensor as the passes of a layer find them: on chip, or on their way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from simpy import Event

from dpred_sim.components.stream import ReadStream


class RowSource:
    """The first `resident` rows are on chip; the others come by one stream a sweep.

    `held` says that one stream serves all sweeps and its rows stay until the layer ends. `row_ends` are
    the byte offsets at which rows end in a stream, and `room_prefix` the bits that the rows before each
    one take (prefix sums over all rows), both by sweep. Several clusters share the rows: a row is freed
    when the last of them is done. `last_sweeps` is the last sweep of each cluster, -1 for one without
    passes.
    """

    def __init__(
        self,
        resident: int,
        streams: Sequence[ReadStream],
        row_ends: Sequence[NDArray[np.int64]],
        room_prefix: Sequence[NDArray[np.int64]],
        held: bool,
        last_sweeps: Sequence[int],
    ) -> None:
        self.resident = resident
        self.streams = streams
        self.held = held
        self._ends = [ends.tolist() for ends in row_ends]
        self._room = [prefix.tolist() for prefix in room_prefix]
        # A cluster that has no passes in a sweep needs none of its rows.
        self._next = [
            [resident if held or sweep <= last else len(self._room[sweep]) - 1 for last in last_sweeps]
            for sweep in range(len(streams))
        ]

    def wait(self, sweep: int, row: int) -> Event | None:
        """An event for "rows up to and including `row` are there", or None when they are."""
        if row < self.resident or not self.streams:
            return None
        index = 0 if self.held else sweep
        return self.streams[index].wait(self._ends[index][row + 1])

    def cause(self, sweep: int) -> int:
        """Span of the transfer that arrived last."""
        return self.streams[0 if self.held else sweep].cause

    def release(self, sweep: int, cluster: int, next_row: int) -> None:
        """`cluster` needs no row before `next_row` in this sweep any more."""
        if self.held or not self.streams or next_row <= self.resident:
            return
        stream, waiting, room = self.streams[sweep], self._next[sweep], self._room[sweep]
        before = min(waiting)
        waiting[cluster] = max(waiting[cluster], min(next_row, len(room) - 1))
        after = min(waiting)
        if after > before:
            stream.room.give(room[after] - room[before])

    def finish(self) -> None:
        """The layer is over: free what is still held."""
        for sweep, stream in enumerate(self.streams):
            waiting, room = self._next[sweep], self._room[sweep]
            taken = stream.rooms[stream.issued] - stream.rooms[0]
            freed = 0 if self.held else room[min(waiting)] - room[self.resident]
            stream.room.give(taken - freed)
            self._next[sweep] = [len(room) - 1] * len(waiting)
