"""Off-chip memory as the rest of the system sees it: channels that interleave, and who moved what."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dpred_sim.components.dram.channel import DramChannel


class Memory:
    """Channels interleaved at `interleave_bytes`; a request lies in one channel.

    Also hands out addresses: containers are laid one after another, each at a multiple of the
    interleave.
    """

    def __init__(self, channels: Sequence[DramChannel], interleave_bytes: int) -> None:
        self.channels = channels
        self.interleave_bytes = interleave_bytes
        self.burst_bytes = max(channel.model.burst_bytes for channel in channels)
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

    def submit(self, address: int, size_bytes: int, write: bool, done: Callable[[int], None]) -> None:
        """Queue a request; `done(end_ps)` is called when its last bit has crossed the data bus."""
        unit = self.interleave_bytes
        block, offset = divmod(address, unit)
        channel, local = block % len(self.channels), block // len(self.channels)
        self.channels[channel].submit(local * unit + offset, size_bytes, write, done)
