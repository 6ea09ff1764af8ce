"""Off-chip memory as the rest of the system sees it: channels that interleave, and an arbiter before each.

The arbiter puts what the running layer needs before weights that are fetched ahead for later layers, so
that prefetching uses only what bandwidth is left: a few requests are in a channel's own queues, all
others wait here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from math import inf, isfinite
from typing import Protocol

from dpred_sim.components.dram.channel import DramChannel

Done = Callable[[int], None]
READS_IN_CHANNEL_BYTES = 8 * 1024
"""Reads handed to a channel at a time (assumption): enough that its activates overlap its transfers."""


class Reader(Protocol):
    """Who asked for a read."""

    size: int

    def carry(self, end_ps: int) -> int:
        """When the request has arrived whose last bit crosses the data bus at `end_ps`."""

    def arrived(self) -> None:
        """It has."""


class _Arbiter:
    """Read queues before one channel: activations, and weights by layer.

    While somebody waits for writes (`hurry`), no weights for later layers are handed over: the channel
    drains its writes when nobody reads.
    """

    __slots__ = (
        "activations",
        "channel",
        "handed_bytes",
        "hurry",
        "limit",
        "memory",
        "turn",
        "weights",
        "writes",
    )

    def __init__(self, memory: Memory, channel: DramChannel) -> None:
        self.memory = memory
        self.channel = channel
        self.activations: deque[_Read] = deque()
        self.weights: deque[_Read] = deque()
        self.handed_bytes = 0
        # Memory without a bandwidth limit has no use for a queue.
        self.limit = READS_IN_CHANNEL_BYTES if isfinite(_bytes_per_ps(channel)) else 1 << 62
        self.writes = 0
        self.hurry = False
        self.turn = False

    def pump(self) -> None:
        """Hand over requests while fewer than the bound are in the channel."""
        activations, weights = self.activations, self.weights
        while self.handed_bytes < self.limit:
            needed = bool(weights) and weights[0].layer <= self.memory.current_layer
            if activations and not (needed and self.turn):
                read = activations.popleft()
            elif weights and (needed or not self.hurry):
                read = weights.popleft()
            else:
                return
            self.turn = not self.turn
            size = read.reader.size
            self.handed_bytes += size
            self.channel.submit(read.address, size, False, read.done, read.reader.carry)


class _Read:
    """A read in an arbiter's queue or in its channel."""

    __slots__ = ("address", "arbiter", "layer", "reader")

    def __init__(self, arbiter: _Arbiter, address: int, reader: Reader, layer: int) -> None:
        self.arbiter = arbiter
        self.address = address
        self.reader = reader
        self.layer = layer

    def done(self, _: int) -> None:
        """Tell who asked, and let the next one in."""
        arbiter = self.arbiter
        arbiter.handed_bytes -= self.reader.size
        self.reader.arrived()
        arbiter.pump()


class Memory:
    """Channels interleaved at `interleave_bytes`; a request lies in one channel.

    Also hands out addresses: containers are laid one after another, each at a multiple of the
    interleave. `current_layer` is the layer that runs.
    """

    def __init__(self, channels: Sequence[DramChannel], interleave_bytes: int) -> None:
        self.channels = channels
        self.interleave_bytes = interleave_bytes
        self.burst_bytes = max(channel.model.burst_bytes for channel in channels)
        self.current_layer = 0
        self._arbiters = [_Arbiter(self, channel) for channel in channels]
        self._rates = [_bytes_per_ps(channel) for channel in channels]
        self._next_address = 0

    def allocate(self, size_bytes: int) -> int:
        """Address of a fresh region."""
        address = self._next_address
        self._next_address += -(-max(1, size_bytes) // self.interleave_bytes) * self.interleave_bytes
        return address

    def transfer_ps(self, channel: int, size_bytes: int) -> int:
        """Time that a request spends on the data bus, at least."""
        return int(size_bytes / self._rates[channel])

    def channel_of(self, address: int) -> int:
        """Index of the channel in which an address lies."""
        return address // self.interleave_bytes % len(self.channels)

    def read(self, address: int, reader: Reader, weights_of: int | None) -> None:
        """Queue a read of `reader.size` bytes; `reader.arrived()` is called when it is there.

        `weights_of` is the layer whose weights are read, None for everything else.
        """
        index, local = self._local(address)
        arbiter = self._arbiters[index]
        if weights_of is None:
            arbiter.activations.append(_Read(arbiter, local, reader, 0))
        else:
            arbiter.weights.append(_Read(arbiter, local, reader, weights_of))
        arbiter.pump()

    def write(self, address: int, size_bytes: int, done: Done) -> None:
        """Queue a write; the channel drains its write queue in batches."""
        index, local = self._local(address)
        arbiter = self._arbiters[index]
        arbiter.writes += 1

        def finished(end_ps: int) -> None:
            arbiter.writes -= 1
            done(end_ps)
            if arbiter.hurry and not arbiter.writes:
                arbiter.hurry = False
                arbiter.pump()

        self.channels[index].submit(local, size_bytes, True, finished)

    def hurry_writes(self) -> None:
        """Somebody waits for what is being written: prefetching stands back until it is."""
        for arbiter in self._arbiters:
            arbiter.hurry = arbiter.writes > 0

    def _local(self, address: int) -> tuple[int, int]:
        unit = self.interleave_bytes
        block, offset = divmod(address, unit)
        return block % len(self.channels), block // len(self.channels) * unit + offset


def _bytes_per_ps(channel: DramChannel) -> float:
    """Rate of the data bus; the level `ideal` has no limit."""
    return inf if channel.model.level == "ideal" else channel.model.peak_bytes_per_ps
