"""The components that the sequencer steers, and the state of a tensor while a run knows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from simpy import Environment

from dpred_sim.components.buffer import Buffer
from dpred_sim.components.cluster import Cluster
from dpred_sim.components.dma import ReadDma, TransferSettings, WriteDma
from dpred_sim.components.link import Path
from dpred_sim.components.memory import Memory
from dpred_sim.components.probe import Probe
from dpred_sim.designs.base import Range
from dpred_sim.schedule.passes import PassLimits
from dpred_sim.schedule.placement import StoredTensor, UnknownTensor, row_ends
from dpred_sim.values.tensor import TensorSource
from dpred_sim.workload.views import row


@dataclass(eq=False)
class Machine:
    """All components of a system, wired.

    `weights` has one buffer for each cluster: its weight buffer, or what stands for those of its tiles.
    `clusters` ends with post-processing, which runs the memory layers; `output_paths` go with it.
    """

    env: Environment
    memory: Memory
    activations: Buffer
    weights: list[Buffer]
    clusters: list[Cluster]
    output_paths: list[Path]
    activation_dma: ReadDma
    weight_dma: ReadDma
    write_dma: WriteDma
    settings: TransferSettings
    limits: PassLimits
    value_bits: int
    probe: Probe

    @property
    def cluster_count(self) -> int:
        """Clusters that compute."""
        return len(self.clusters) - 1


@dataclass(eq=False)
class TensorState:
    """One tensor of the network.

    `readers` are the places in the order of execution at which it is read. The first `resident_rows`
    rows are on chip and hold `held_bits`; the others are in DRAM, in containers cut at `slabs`.
    """

    name: str
    offchip: StoredTensor
    onchip: StoredTensor
    address: int
    readers: list[int]
    slabs: tuple[Range, ...]
    resident_rows: int = 0
    held_bits: int = 0
    is_second: bool = False
    """Some layer reads it as second operand: it goes through DRAM."""
    above: TensorState | None = None
    """In a stack, the part above: this one stays on chip only where that one does."""
    pieces: tuple[TensorState, ...] = ()
    """What has room of its own in the buffer: the tensor itself, its whole, or its parts."""

    def __post_init__(self) -> None:
        self.pieces = (self,)

    def row_room(self) -> NDArray[np.int64]:
        """Bits that each row takes in the activation buffer."""
        return self.onchip.row_bits()

    def row_room_raw(self, value_bits: int) -> NDArray[np.int64]:
        """Bits that each row takes before its values are known."""
        height, width, depth = self.onchip.shape
        return np.full(height, width * depth * value_bits, dtype=np.int64)

    def room_prefix(self, channels: Range) -> NDArray[np.int64]:
        """Bits that the rows before each one take in the buffer, (H + 1,)."""
        whole = channels == (0, self.onchip.shape[2])
        rows = self.onchip.row_bits(None if whole else channels)
        return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(rows)])

    def value_prefix(self, channels: Range, value_bits: int) -> NDArray[np.int64]:
        """Bits of the values before each row, uncompressed, (H + 1,)."""
        height, width, _ = self.offchip.shape
        return np.arange(height + 1, dtype=np.int64) * (width * (channels[1] - channels[0]) * value_bits)

    def ends(self, channels: Range, first_row: int, rows: int, burst_bytes: int) -> NDArray[np.int64]:
        """Byte offsets of row ends, (rows + 1,); what lies below the last needed row is not fetched."""
        ends = row_ends(self.offchip, self.slabs, channels, first_row, burst_bytes)[: rows + 1].copy()
        ends[-1] = -(-int(ends[-1]) // burst_bytes) * burst_bytes
        return ends


class RowState(TensorState):
    """One row of a tensor, as a tensor of its own."""

    def __init__(self, whole: TensorState, index: int, burst_bytes: int) -> None:
        source = whole.offchip.source
        part: TensorSource = row(source, index)
        if isinstance(source, UnknownTensor):
            part = UnknownTensor((1, whole.offchip.shape[2]), source.bits)
        self.whole = whole
        self.index = index
        self.burst_bytes = burst_bytes
        self.name = whole.name
        self.offchip = StoredTensor(part, whole.offchip.codec)
        self.onchip = StoredTensor(part, whole.onchip.codec)
        self.readers = whole.readers
        self.pieces = (whole,)

    @property
    def slabs(self) -> tuple[Range, ...]:  # type: ignore[override]
        """Those of the whole tensor."""
        return self.whole.slabs

    @property
    def address(self) -> int:  # type: ignore[override]
        """Where the row begins, as far as it is off chip."""
        whole = self.whole
        channels = (0, whole.offchip.shape[2])
        ends = row_ends(whole.offchip, whole.slabs, channels, whole.resident_rows, self.burst_bytes)
        return whole.address + int(ends[self.index]) // self.burst_bytes * self.burst_bytes

    @property
    def resident_rows(self) -> int:  # type: ignore[override]
        """1 when the row is on chip."""
        return int(self.index < self.whole.resident_rows)


class StackState(TensorState):
    """Tensors of one width one below the other; each was written, and is held, for itself.

    Parts stay on chip from the top only (`Sequencer` sees to it), so rows on chip are the first ones.
    """

    def __init__(
        self, name: str, offchip: StoredTensor, onchip: StoredTensor, parts: list[TensorState]
    ) -> None:
        self.name = name
        self.offchip = offchip
        self.onchip = onchip
        self.readers = parts[0].readers
        self.pieces = tuple(parts)
        self.slabs = ((0, offchip.shape[2]),)

    @property
    def address(self) -> int:  # type: ignore[override]
        """Where the first part lies."""
        return self.pieces[0].address

    @property
    def resident_rows(self) -> int:  # type: ignore[override]
        """Rows on chip: those of all parts, from the top."""
        return sum(part.resident_rows for part in self.pieces)

    def row_room(self) -> NDArray[np.int64]:
        """Bits that each row takes in the activation buffer."""
        return np.concatenate([part.row_room() for part in self.pieces])

    def room_prefix(self, channels: Range) -> NDArray[np.int64]:
        """Bits that the rows before each one take in the buffer, (H + 1,)."""
        rows = np.concatenate([np.diff(part.room_prefix(channels)) for part in self.pieces])
        return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(rows)])

    def ends(self, channels: Range, first_row: int, rows: int, burst_bytes: int) -> NDArray[np.int64]:
        """Byte offsets of row ends: every part is a container that starts at a burst."""
        sizes: list[NDArray[np.int64]] = []
        skip = first_row
        for part in self.pieces:
            height = part.offchip.shape[0]
            sizes.append(np.diff(part.ends(channels, min(skip, height), height, burst_bytes)))
            skip = max(0, skip - height)
        ends = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(np.concatenate(sizes))])[: rows + 1]
        ends[-1] = -(-int(ends[-1]) // burst_bytes) * burst_bytes
        return ends


class SlabState(TensorState):
    """Tensors side by side, each some channels of one; each was written, and is held, for itself.

    Rows on chip are those that are so in every part. Of the others, what a part holds is not fetched.
    """

    def __init__(
        self,
        name: str,
        offchip: StoredTensor,
        onchip: StoredTensor,
        readers: list[int],
        parts: list[TensorState],
    ) -> None:
        self.name = name
        self.offchip = offchip
        self.onchip = onchip
        self.readers = readers
        self.pieces = tuple(parts)
        self.slabs = ((0, offchip.shape[2]),)

    @property
    def address(self) -> int:  # type: ignore[override]
        """Where the first part lies."""
        return self.pieces[0].address

    @property
    def resident_rows(self) -> int:  # type: ignore[override]
        """Rows on chip, of all parts."""
        return min(part.resident_rows for part in self.pieces)

    def row_room(self) -> NDArray[np.int64]:
        """Bits that each row takes in the activation buffer, without what is there."""
        return np.diff(self.room_prefix((0, self.offchip.shape[2])))

    def room_prefix(self, channels: Range) -> NDArray[np.int64]:
        """Bits that the rows before each one take in the buffer, without what is there, (H + 1,)."""
        return self._missing([part.room_prefix(own) for part, own in self._overlaps(channels)])

    def value_prefix(self, channels: Range, value_bits: int) -> NDArray[np.int64]:
        """Bits of the values before each row, uncompressed, without what is there, (H + 1,)."""
        return self._missing([part.value_prefix(own, value_bits) for part, own in self._overlaps(channels)])

    def ends(self, channels: Range, first_row: int, rows: int, burst_bytes: int) -> NDArray[np.int64]:
        """Byte offsets of row ends: every part is a container that starts at a burst."""
        sums = np.zeros(rows + 1, dtype=np.int64)
        for part, own in self._overlaps(channels):
            sums += part.ends(own, min(rows, max(first_row, part.resident_rows)), rows, burst_bytes)
        return sums

    def _missing(self, prefixes: list[NDArray[np.int64]]) -> NDArray[np.int64]:
        """Prefix sums over parts of the rows that are not on chip; every part is within some row's."""
        total = np.zeros(self.offchip.shape[0] + 1, dtype=np.int64)
        for part, prefix in zip(self.pieces, prefixes, strict=True):
            total += np.maximum(prefix - prefix[part.resident_rows], 0)
        return total

    def _overlaps(self, channels: Range) -> list[tuple[TensorState, Range]]:
        """Each part with the channels of it that lie within `channels`; (0, 0) for none."""
        found, first = [], 0
        for part in self.pieces:
            depth = part.offchip.shape[2]
            low, high = max(channels[0] - first, 0), min(channels[1] - first, depth)
            found.append((part, (low, high) if low < high else (0, 0)))
            first += depth
        return found


class JoinedState(TensorState):
    """Rows and channels of several tensors as a memory layer reads them: those that are on chip first.

    A row here is a row of some tensor; they need not be equally long.
    """

    def __init__(self, parts: list[tuple[TensorState, Range, Range]]) -> None:
        self.parts = parts
        first = parts[0][0]
        self.name = first.name
        self.offchip, self.onchip = first.offchip, first.onchip
        self.readers = first.readers
        self.pieces = tuple(piece for state, _, _ in parts for piece in state.pieces)
        self.slabs = first.slabs

    @property
    def address(self) -> int:  # type: ignore[override]
        """Where the first part lies."""
        return self.parts[0][0].address

    @property
    def resident_rows(self) -> int:  # type: ignore[override]
        """Rows on chip, of all parts."""
        return sum(_inside(state.resident_rows, rows) for state, rows, _ in self.parts)

    def row_room(self) -> NDArray[np.int64]:
        """Bits that each row takes in the activation buffer."""
        return np.diff(self.room_prefix((0, 0)))

    def room_prefix(self, channels: Range) -> NDArray[np.int64]:
        """Bits that the rows before each one take in the buffer; the parts say which channels."""
        return self._prefix([np.diff(state.room_prefix(part)) for state, _, part in self.parts])

    def value_prefix(self, channels: Range, value_bits: int) -> NDArray[np.int64]:
        """Bits of the values before each row, uncompressed."""
        return self._prefix([np.diff(state.value_prefix(part, value_bits)) for state, _, part in self.parts])

    def ends(self, channels: Range, first_row: int, rows: int, burst_bytes: int) -> NDArray[np.int64]:
        """Byte offsets of row ends: every part is a container that starts at a burst."""
        sizes = []
        for state, (top, bottom), part in self.parts:
            resident = max(top, min(state.resident_rows, bottom)) if first_row else top
            ends = state.ends(part, resident, bottom, burst_bytes)
            sizes.append(np.pad(np.diff(ends), (0, state.offchip.shape[0] - bottom)))
        ends = self._prefix(sizes, bool(first_row))[: rows + 1]
        ends[-1] = -(-int(ends[-1]) // burst_bytes) * burst_bytes
        return ends

    def _prefix(self, by_row: list[NDArray[np.int64]], apart: bool = True) -> NDArray[np.int64]:
        """Prefix sums over the rows of all parts; those on chip come first where they are `apart`."""
        held, others = [], []
        for sizes, (state, (top, bottom), _) in zip(by_row, self.parts, strict=True):
            count = _inside(state.resident_rows, (top, bottom)) if apart else 0
            held.append(sizes[top : top + count])
            others.append(sizes[top + count : bottom])
        start = np.zeros(1, dtype=np.int64)
        return np.concatenate([start, np.cumsum(np.concatenate([*held, *others]))])


def _inside(resident_rows: int, rows: Range) -> int:
    """How many of the rows [first, last) are among the first `resident_rows`."""
    return max(0, min(resident_rows, rows[1]) - rows[0])


class LayerTensors(NamedTuple):
    """What a layer reads, its shortcut, what it writes, and the second operand of a product."""

    reads: TensorState
    adds: TensorState | None
    writes: TensorState
    second: TensorState | None = None
