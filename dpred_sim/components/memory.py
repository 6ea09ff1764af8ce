"""Off-chip memory as the rest of the system sees it: channels that interleave, and an arbiter before each.

The arbiter puts what the running layer needs before weights that are fetched ahead for later layers, so
that prefetching uses only what bandwidth is left: a few requests are in a channel's own queues, all
others wait here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from dpred_sim.components.dram.channel import DramChannel

Done = Callable[[int], None]
READS_IN_CHANNEL_BYTES = 8 * 1024
"""Reads handed to a channel at a time (assumption): enough that its activates overlap its transfers."""


class _Arbiter:
    """Read queues before one channel: activations, and weights by layer.

    While somebody waits for writes (`hurry`), no weights for later layers are handed over: the channel
    drains its writes when nobody reads.
    """

    __slots__ = ("activations", "channel", "handed_bytes", "hurry", "turn", "weights", "writes")

    def __init__(self, channel: DramChannel) -> None:
        self.channel = channel
        self.activations: deque[tuple[int, int, Done]] = deque()
        self.weights: deque[tuple[int, int, int, Done]] = deque()
        self.handed_bytes = 0
        self.writes = 0
        self.hurry = False
        self.turn = False

    def pump(self, current_layer: int) -> None:
        """Hand over requests while fewer than the bound are in the channel."""
        while self.handed_bytes < READS_IN_CHANNEL_BYTES:
            activations, weights = self.activations, self.weights
            needed = bool(weights) and weights[0][0] <= current_layer
            if activations and not (needed and self.turn):
                address, size, done = activations.popleft()
            elif weights and (needed or not self.hurry):
                _, address, size, done = weights.popleft()
            else:
                return
            self.turn = not self.turn
            self.handed_bytes += size
            self.channel.submit(address, size, False, done)


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
        self._arbiters = [_Arbiter(channel) for channel in channels]
        self._rates = [channel.model.peak_bytes_per_ps for channel in channels]
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

    def read(self, address: int, size_bytes: int, done: Done, weights_of: int | None) -> None:
        """Queue a read; `done(end_ps)` is called when its last bit has crossed the data bus.

        `weights_of` is the layer whose weights are read, None for everything else.
        """
        index, local = self._local(address)
        arbiter = self._arbiters[index]

        def finished(end_ps: int) -> None:
            arbiter.handed_bytes -= size_bytes
            done(end_ps)
            arbiter.pump(self.current_layer)

        if weights_of is None:
            arbiter.activations.append((local, size_bytes, finished))
        else:
            arbiter.weights.append((weights_of, local, size_bytes, finished))
        arbiter.pump(self.current_layer)

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
                arbiter.pump(self.current_layer)

        self.channels[index].submit(local, size_bytes, True, finished)

    def hurry_writes(self) -> None:
        """Somebody waits for what is being written: prefetching stands back until it is."""
        for arbiter in self._arbiters:
            arbiter.hurry = arbiter.writes > 0

    def _local(self, address: int) -> tuple[int, int]:
        unit = self.interleave_bytes
        block, offset = divmod(address, unit)
        return block % len(self.channels), block // len(self.channels) * unit + offset
