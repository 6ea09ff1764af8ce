"""Weights in the order of their use: fetched ahead across layers, limited by room only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dpred_sim.components.buffer import Room
from dpred_sim.components.machine import Machine
from dpred_sim.components.stream import ReadStream
from dpred_sim.schedule.job import LayerJob


class WeightFeed:
    """Hands the weight DMA one stream after another.

    The first fetch of a layer's blocks does not depend on its plan, so it may run ahead of it. Whether
    more fetches follow is known once the layer starts; until then the feed waits there.
    """

    def __init__(self, machine: Machine, jobs: Sequence[LayerJob]) -> None:
        self.machine = machine
        self.jobs = jobs
        self._rooms = [Room(b, b.capacity_bits, machine.weight_dma.pump) for b in machine.weights]
        placed: dict[int, list[int]] = {}
        for job in jobs:
            if id(job) not in placed:
                placed[id(job)] = [machine.memory.allocate(block.stored_bytes) for block in job.blocks]
        self._addresses = [placed[id(job)] for job in jobs]
        self._rounds: list[int | None] = [None if self._may_refetch(job) else 1 for job in jobs]
        self._streams: dict[tuple[int, int, int], ReadStream] = {}
        self._order = self._in_order()
        machine.weight_dma.refill = self.next

    def stream(self, layer: int, block: int, turn: int) -> ReadStream:
        """The stream of one fetch of one weight block."""
        key = (layer, turn, block)
        stream = self._streams.get(key)
        if stream is None:
            machine, job = self.machine, self.jobs[layer]
            source = job.blocks[block]
            room = self._rooms[block // job.chunks % machine.cluster_count]
            stream = self._streams[key] = ReadStream(
                machine.env,
                "weights",
                layer,
                self._addresses[layer][block],
                source.ends,
                source.room,
                source.values * machine.value_bits,
                room,
                machine.settings.request_bytes,
                machine.memory.burst_bytes,
                spare_room=None if job.schedule.window_parallel else room.capacity_bits // 2,
            )
        return stream

    def started(self, layer: int, rounds: int) -> None:
        """A layer starts: its blocks are fetched `rounds` times."""
        self._rounds[layer] = rounds
        self.machine.weight_dma.pump()

    def finished(self, layer: int) -> None:
        """A layer is over: forget its streams."""
        for key in [key for key in self._streams if key[0] == layer]:
            del self._streams[key]

    def fits(self, job: LayerJob) -> bool:
        """Whether all weights of a layer fit the weight buffers together."""
        shares = job.shares(self.machine.cluster_count)
        return all(
            sum(int(job.blocks[block].room[-1]) for block in share) <= buffer.capacity_bits
            for share, buffer in zip(shares, self.machine.weights, strict=True)
        )

    def next(self) -> ReadStream | None:
        """What the weight DMA fetches next; None while that is not known, or nothing is left."""
        return next(self._order)

    def _may_refetch(self, job: LayerJob) -> bool:
        several = len(job.blocks) > 1 and job.chunks == 1 and job.schedule.window_parallel
        return several and not self.fits(job)

    def _in_order(self) -> Iterator[ReadStream | None]:
        for layer, job in enumerate(self.jobs):
            turn = 0
            while True:
                for block in range(len(job.blocks)):
                    yield self.stream(layer, block, turn)
                turn += 1
                while (rounds := self._rounds[layer]) is None:
                    yield None
                if turn >= rounds:
                    break
        while True:
            yield None
