"""Weights in the order of their use: fetched ahead across layers, limited by room only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from dpred_sim.components.buffer import Room
from dpred_sim.components.machine import LayerTensors, Machine
from dpred_sim.components.stream import ReadStream
from dpred_sim.schedule.job import LayerJob


class WeightFeed:
    """Hands the weight DMA one stream after another.

    The first fetch of a layer's blocks does not depend on its plan, so it may run ahead of it. Whether
    more fetches follow is known once the layer starts; until then the feed waits there. The second
    operand of a product of two activations is fetched like weights, from the container of an
    activation tensor, once the layer that writes it has ended.

    Consecutive layers that use the same weights in the same blocks share one fetch where all blocks fit
    together: they stay in the buffers until the last of these layers releases them.
    """

    def __init__(self, machine: Machine, jobs: Sequence[LayerJob], tensors: Sequence[LayerTensors]) -> None:
        self.machine = machine
        self.jobs = jobs
        self.tensors = tensors
        self._rooms = [Room(b, b.capacity_bits, machine.weight_dma.pump) for b in machine.weights]
        self._first = self._first_users()
        placed: dict[int, list[int]] = {}
        self._addresses: list[list[int]] = []
        for index, job in enumerate(jobs):
            before = jobs[index - 1] if index else job
            if id(job) not in placed and job.layer.second is None:
                shared = before is not job and before.layer.second is None and job.same_weights(before)
                placed[id(job)] = (
                    placed[id(before)]
                    if shared
                    else [machine.memory.allocate(block.stored_bytes) for block in job.blocks]
                )
            self._addresses.append(placed.get(id(job), []))
        self._written_by = {id(layer.writes): index for index, layer in enumerate(tensors)}
        self._started = -1
        self._rounds: list[int | None] = [None if self._may_refetch(job) else 1 for job in jobs]
        self._streams: dict[tuple[int, int, int], ReadStream] = {}
        self._order = self._in_order()
        machine.weight_dma.refill = self.next

    def _first_users(self) -> list[int]:
        """For each layer, the one whose fetch it uses: itself, or an earlier one of a run."""
        first = list(range(len(self.jobs)))
        members: set[int] = set()
        for index, job in enumerate(self.jobs):
            before = self.jobs[index - 1]
            # A batch fetches the weights anew for each input: a layer joins a run once.
            if index and id(job) not in members and job.same_weights(before) and self.fits(job):
                first[index] = first[index - 1]
            else:
                members = set()
            members.add(id(job))
        return first

    def keeps(self, layer: int) -> bool:
        """Whether the next layer uses the weights of this one where they are."""
        return layer + 1 < len(self.jobs) and self._first[layer + 1] == self._first[layer]

    def fetches(self, layer: int) -> int:
        """How often a layer that has started fetches its weights; 0 where an earlier one did."""
        return (self._rounds[layer] or 1) if self._first[layer] == layer else 0

    def fetch_bytes(self, layer: int) -> int:
        """Bytes that one fetch of a layer's blocks moves; its second operand has to be stored by then."""
        job = self.jobs[layer]
        if self._first[layer] != layer:
            return 0
        if self.tensors[layer].second is None:
            return sum(block.stored_bytes for block in job.blocks)
        return sum(size for _, size in (self._second(layer, block) for block in range(len(job.blocks))))

    def stream(self, layer: int, block: int, turn: int) -> ReadStream:
        """The stream of one fetch of one weight block."""
        layer = self._first[layer]
        key = (layer, turn, block)
        stream = self._streams.get(key)
        if stream is None:
            machine, job = self.machine, self.jobs[layer]
            source = job.blocks[block]
            room = self._rooms[block // job.chunks % machine.cluster_count]
            values = source.values * machine.value_bits
            if self.tensors[layer].second is None:
                address, ends, taken = self._addresses[layer][block], source.ends, source.room
            else:
                address, size = self._second(layer, block)
                ends = np.array([0, size], dtype=np.int64)
                taken, values = source.room[[0, -1]], values[[0, -1]]
            stream = self._streams[key] = ReadStream(
                machine.env,
                "weights",
                layer,
                address,
                ends,
                taken,
                values,
                room,
                machine.settings.request_bytes,
                machine.memory.burst_bytes,
                spare_room=room.capacity_bits // 2 if job.schedule.by_channels else None,
            )
        return stream

    def _second(self, layer: int, block: int) -> tuple[int, int]:
        """Address and bytes of the part of the second operand that a block is made of."""
        tensor = self.tensors[layer].second
        if tensor is None:
            raise ValueError("the layer has no second operand")
        (first, last), channels = self.jobs[layer].second_part(block)
        burst = self.machine.memory.burst_bytes
        ends = tensor.ends(channels, 0, tensor.offchip.shape[0], burst)
        start = int(ends[first]) // burst * burst
        return tensor.address + start, -(-int(ends[last]) // burst) * burst - start

    def _is_stored(self, layer: int) -> bool:
        """Whether the second operand of a layer, if it has one, is off chip as a whole."""
        second = self.tensors[layer].second
        pieces = () if second is None else second.pieces
        return all(self._written_by.get(id(piece), -1) < max(self._started, 0) for piece in pieces)

    def started(self, layer: int, rounds: int) -> None:
        """A layer starts: its blocks are fetched `rounds` times."""
        self._rounds[layer] = rounds
        self._started = layer
        self.machine.weight_dma.pump()

    def finished(self, layer: int) -> None:
        """A layer is over: forget its streams."""
        if self.keeps(layer):
            return
        layer = self._first[layer]
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
        if job.schedule.by_channels:
            return job.bands > 1 and not self.fits(job)
        several = len(job.blocks) > 1 and job.chunks == 1
        return several and not self.fits(job)

    def _in_order(self) -> Iterator[ReadStream | None]:
        for layer, job in enumerate(self.jobs):
            if self._first[layer] != layer:
                continue
            while not self._is_stored(layer):
                yield None
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
