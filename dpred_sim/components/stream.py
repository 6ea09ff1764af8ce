"""Streams: containers on their way from DRAM into a buffer, request by request."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from simpy import Environment, Event

from dpred_sim.components.buffer import Room
from dpred_sim.components.probe import NO_SPAN


class ReadStream:
    """One container, cut into aligned requests.

    `byte_marks` are offsets in the container at which something is complete (a row, a step);
    `room_bits` and `value_bits` are how much buffer room, and how many raw bits of values, everything
    before each mark takes. In between, both are interpolated.
    """

    __slots__ = (
        "_arrived",
        "_env",
        "_flags",
        "_named",
        "_waiters",
        "address",
        "bounds",
        "cause",
        "issued",
        "layer",
        "on_arrival",
        "room",
        "rooms",
        "transfers",
        "values",
        "watermark",
        "what",
    )

    def __init__(
        self,
        env: Environment,
        what: str,
        layer: int,
        address: int,
        byte_marks: NDArray[np.int64],
        room_bits: NDArray[np.int64],
        value_bits: NDArray[np.int64],
        room: Room,
        request_bytes: int,
        burst_bytes: int,
        spare_room: int | None = None,
    ) -> None:
        self._env = env
        self.what = what
        self.layer = layer
        self.address = address
        self.room = room
        end = int(byte_marks[-1])
        while True:
            bounds = _request_bounds(address, end, request_bytes)
            rooms = np.interp(bounds, byte_marks, room_bits).astype(np.int64)
            if spare_room is None or request_bytes <= burst_bytes or len(bounds) < 2:
                break
            # A request must not take more room than is left beside what a pass needs.
            if int(np.diff(rooms).max()) <= max(spare_room, 1):
                break
            request_bytes //= 2
        values = np.interp(bounds, byte_marks, value_bits).astype(np.int64)
        self.bounds: list[int] = bounds.tolist()
        self.rooms: list[int] = rooms.tolist()
        self.values: list[int] = values.tolist()
        self.issued = 0
        self._arrived = 0
        self._flags: set[int] = set()
        self.watermark = 0
        self._waiters: list[tuple[int, Event]] = []
        self.cause = NO_SPAN
        self.transfers: dict[int, int] = {}
        """Numbers of the transfers by request, while somebody listens."""
        self._named: dict[int, int] = {}
        self.on_arrival: Callable[[], None] | None = None
        """Called when more of the stream is usable."""

    @property
    def requests(self) -> int:
        """Number of requests."""
        return len(self.bounds) - 1

    def arrived(self, index: int, cause: int) -> None:
        """Request `index` is in the buffer; what lies before the first gap becomes usable."""
        self._flags.add(index)
        while self._arrived in self._flags:
            self._flags.discard(self._arrived)
            self._arrived += 1
        self.watermark = self.bounds[self._arrived]
        self.cause = cause
        if self.on_arrival is not None:
            self.on_arrival()
        if self._waiters:
            due = [event for need, event in self._waiters if need <= self.watermark]
            if due:
                self._waiters = [w for w in self._waiters if w[0] > self.watermark]
                for event in due:
                    event.succeed()

    def needed(self, cluster: int, byte: int) -> list[int]:
        """Transfers of what lies before `byte`, but for those that `cluster` has asked for before."""
        first = self._named.get(cluster, 0)
        last = bisect_left(self.bounds, byte)
        if last <= first:
            return []
        self._named[cluster] = last
        return [self.transfers[index] for index in range(first, last) if index in self.transfers]

    def wait(self, byte: int) -> Event | None:
        """An event for "everything before `byte` is there", or None when it is."""
        if byte <= self.watermark:
            return None
        event = Event(self._env)
        self._waiters.append((byte, event))
        return event


def _request_bounds(address: int, end: int, request_bytes: int) -> NDArray[np.int64]:
    """Offsets at which requests begin and end: multiples of the request size as addresses."""
    if end <= 0:
        return np.zeros(1, dtype=np.int64)
    first = address // request_bytes + 1
    last = (address + end - 1) // request_bytes
    inner = np.arange(first, last + 1, dtype=np.int64) * request_bytes - address
    return np.concatenate([[0], inner, [end]]).astype(np.int64)
