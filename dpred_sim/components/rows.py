"""Rows of an activation tensor as the passes of a layer find them: on chip, or on their way."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from simpy import Event

from dpred_sim.components.stream import ReadStream


class RowSource:
    """The first `resident` rows are on chip; the others come by one stream a sweep (and slab of it).

    `held` says that one stream serves all sweeps and its rows stay until the layer ends. `row_ends` are
    the byte offsets at which rows end in a stream, and `room_prefix` the bits that the rows before each
    one take (prefix sums over all rows), both by stream. Several clusters share the rows: a row is freed
    when the last of them is done. `last_sweeps` is the last stream of each cluster, -1 for one without
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
        self._freed = [resident] * len(streams)
        for sweep, stream in enumerate(streams):
            if not held:
                stream.on_arrival = partial(self._free, sweep)

    def wait(self, sweep: int, row: int) -> Event | None:
        """An event for "rows up to and including `row` are there", or None when they are."""
        if row < self.resident or not self.streams:
            return None
        index = 0 if self.held else sweep
        return self.streams[index].wait(self._ends[index][row + 1])

    def needed(self, sweep: int, row: int, cluster: int) -> list[int]:
        """Transfers of the rows up to and including `row`; see `ReadStream.needed`."""
        if row < self.resident or not self.streams:
            return []
        index = 0 if self.held else sweep
        return self.streams[index].needed(cluster, self._ends[index][row + 1])

    def cause(self, sweep: int) -> int:
        """Span of the transfer that arrived last."""
        return self.streams[0 if self.held else sweep].cause

    def release(self, sweep: int, cluster: int, next_row: int) -> None:
        """`cluster` needs no row before `next_row` in this sweep any more."""
        if self.held or not self.streams or next_row <= self.resident:
            return
        waiting = self._next[sweep]
        waiting[cluster] = max(waiting[cluster], min(next_row, len(self._room[sweep]) - 1))
        self._free(sweep)

    def _free(self, sweep: int) -> None:
        """Free the rows that nobody needs, as far as they have come: a stride may skip rows."""
        unneeded = min(self._next[sweep])
        freed = self._freed[sweep]
        if unneeded <= freed:
            return
        stream, room = self.streams[sweep], self._room[sweep]
        arrived = bisect_right(self._ends[sweep], stream.watermark) - 1
        upto = min(unneeded, arrived)
        if upto > freed:
            self._freed[sweep] = upto
            stream.room.give(room[upto] - room[freed])

    def finish(self) -> None:
        """The layer is over: free what is still held."""
        for sweep, stream in enumerate(self.streams):
            room = self._room[sweep]
            taken = stream.rooms[stream.issued] - stream.rooms[0]
            stream.room.give(taken - (room[self._freed[sweep]] - room[self.resident]))
            self._freed[sweep] = len(room) - 1
