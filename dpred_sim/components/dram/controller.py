"""What stands before a channel: read and write queue, and when a request is handed to the model.

Reads go first. Writes wait and are drained in batches, so that the data bus turns seldom: from the high
watermark down to the low one, or when no read is there. A request is handed over ahead of the data bus
(up to `window_bytes` are under way), so that the activates of the next overlap the data of the present.
By default that is what a transaction queue and the queues of all banks hold; writes gather in two
transaction queues and are drained completely.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, Protocol

from dpred_sim.components.dram.model import ChannelModel
from dpred_sim.errors import InputError

QUEUE = 32
BANK_QUEUE = 8
"""Bursts of the transaction queue, and of the queue of each bank behind it. The sizes are those of public
cycle-level simulators (assumption)."""


class Request:
    """One request; `token` and `carry` are the caller's own.

    `accepted_ps` is when it left the waiting queue, -1 before; `end_ps` is the end of what is known of it.
    """

    __slots__ = (
        "accepted_ps", "address", "arrival_ps", "carry", "chunks", "end_ps", "size_bytes", "token", "write",
    )  # fmt: skip

    def __init__(
        self,
        arrival_ps: int,
        address: int,
        size_bytes: int,
        write: bool,
        token: Any = None,
        carry: Callable[[int], int] | None = None,
    ) -> None:
        self.arrival_ps = arrival_ps
        self.accepted_ps = -1
        self.address = address
        self.size_bytes = size_bytes
        self.write = write
        self.token = token
        self.carry = carry
        self.end_ps = 0
        self.chunks = 0
        """Parts of it that the controller still holds."""


class Controller(Protocol):
    """Queues requests and says when they end."""

    def submit(self, now_ps: int, request: Request) -> None:
        """Queue a request."""

    def advance(self, now_ps: int) -> list[Request]:
        """Requests whose `end_ps` (now or later) became known."""

    @property
    def wake_ps(self) -> int | None:
        """When `advance` must be called next, even if nothing is submitted and nothing ends."""


class RequestController:
    """Queues before a model that serves whole requests in the order of calls.

    `advance` must be called at every `end_ps` it has told, or soon after.
    """

    wake_ps = None
    """Whatever waits is looked at when something ends."""

    def __init__(
        self,
        model: ChannelModel,
        *,
        queue: int = QUEUE,
        window_bytes: int | None = None,
        write_high_bytes: int | None = None,
        write_low_bytes: int | None = None,
    ) -> None:
        burst, standard = model.burst_bytes, model.standard
        ahead = queue + BANK_QUEUE * standard.banks * standard.ranks
        self.window_bytes = ahead * burst if window_bytes is None else window_bytes
        self.write_high_bytes = 2 * queue * burst if write_high_bytes is None else write_high_bytes
        self.write_low_bytes = 0 if write_low_bytes is None else write_low_bytes
        if self.window_bytes < 1:
            raise InputError("the window must hold something", field="window", found=self.window_bytes)
        if not 0 <= self.write_low_bytes <= self.write_high_bytes:
            raise InputError("the low watermark is above the high one", field="write_low")
        self._serve = model.serve
        self._reads: deque[Request] = deque()
        self._writes: deque[Request] = deque()
        self._write_bytes = 0
        self._draining = False
        self._under_way: list[tuple[int, int, int, bool]] = []
        self._under_way_bytes = 0
        self._reads_under_way = 0
        self._number = 0

    @property
    def waiting(self) -> int:
        """Requests not yet handed over."""
        return len(self._reads) + len(self._writes)

    def submit(self, now_ps: int, request: Request) -> None:
        """Queue a request."""
        if request.write:
            self._writes.append(request)
            self._write_bytes += request.size_bytes
        else:
            self._reads.append(request)

    def advance(self, now_ps: int) -> list[Request]:
        """Hand over what fits in the window; returns those requests, with their `end_ps`."""
        under_way = self._under_way
        while under_way and under_way[0][0] <= now_ps:
            _, _, size, write = heappop(under_way)
            self._under_way_bytes -= size
            if not write:
                self._reads_under_way -= 1
        done: list[Request] = []
        while self._under_way_bytes < self.window_bytes:
            request = self._pick()
            if request is None:
                break
            size = request.size_bytes
            end = self._serve(now_ps, request.address, size, request.write)[2]
            request.accepted_ps = now_ps
            request.end_ps = end
            self._number += 1
            heappush(under_way, (end, self._number, size, request.write))
            self._under_way_bytes += size
            if not request.write:
                self._reads_under_way += 1
            done.append(request)
        return done

    def _pick(self) -> Request | None:
        """The next request: a write while a batch is drained or nobody reads, else a read."""
        reads, writes = self._reads, self._writes
        if writes:
            if self._draining:
                if self._write_bytes <= self.write_low_bytes and reads:
                    self._draining = False
            elif self._write_bytes >= self.write_high_bytes or not (reads or self._reads_under_way):
                self._draining = True
            if self._draining:
                request = writes.popleft()
                self._write_bytes -= request.size_bytes
                return request
        self._draining = False
        return reads.popleft() if reads else None


def make_controller(model: ChannelModel, **options: Any) -> Controller:
    """Queues for a model: options as `RequestController` takes them; the `burst` level is its own."""
    if model.level == "ideal":
        return RequestController(model, window_bytes=1 << 62)
    if model.level == "burst":
        from dpred_sim.components.dram.burst import BurstModel

        assert isinstance(model, BurstModel)
        return model
    if model.level == "banked":
        from dpred_sim.components.dram.banked import BankedModel
        from dpred_sim.components.dram.queues import QueueController

        assert isinstance(model, BankedModel)
        return QueueController(model, **options)
    return RequestController(model, **options)
