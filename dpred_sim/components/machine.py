"""The components that the sequencer steers, and the state of a tensor while a run knows it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from simpy import Environment

from dpred_sim.components.buffer import Buffer
from dpred_sim.components.cluster import Cluster
from dpred_sim.components.dma import ReadDma, TransferSettings, WriteDma
from dpred_sim.components.link import Path
from dpred_sim.components.memory import Memory
from dpred_sim.designs.base import Range
from dpred_sim.schedule.passes import PassLimits
from dpred_sim.schedule.placement import StoredTensor, row_ends


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

    def ends(self, channels: Range, first_row: int, rows: int, burst_bytes: int) -> NDArray[np.int64]:
        """Byte offsets of row ends, (rows + 1,); what lies below the last needed row is not fetched."""
        ends = row_ends(self.offchip, self.slabs, channels, first_row, burst_bytes)[: rows + 1].copy()
        ends[-1] = -(-int(ends[-1]) // burst_bytes) * burst_bytes
        return ends


LayerTensors = tuple[TensorState, TensorState | None, TensorState]
"""What a layer reads, its shortcut, what it writes."""
