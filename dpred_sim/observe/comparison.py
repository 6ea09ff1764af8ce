"""The 2 x 2 of {baseline, design} x {raw, compressed storage} as data, ready for tables and JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Compute = Literal["baseline", "design"]
Storage = Literal["raw", "compressed"]
Memory = Literal["real", "ideal"]

COMPUTES: tuple[Compute, ...] = ("baseline", "design")
STORAGES: tuple[Storage, ...] = ("raw", "compressed")
MEMORIES: tuple[Memory, ...] = ("real", "ideal")


@dataclass(frozen=True, slots=True)
class Cell:
    """One of the eight runs. `conv_cycles` is the part of `cycles` spent in convolution layers."""

    compute: Compute
    storage: Storage
    memory: Memory
    cycles: int
    conv_cycles: int
    offchip_bytes: int
    offchip_bytes_raw: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Eight runs of one workload: each compute side with each storage, on real and ideal memory.

    `storage` names what "compressed" is. `peak_macs_per_cycle` is, for both sides, what the hardware
    does on values of full width; where the two differ, a speed-up has to be divided by their ratio.
    `warnings` are lines that belong next to every number of the comparison.
    """

    workload: str
    source: str
    synthetic: bool
    bits: int
    baseline: str
    design: str
    storage: str
    core_hz: int
    peak_macs_per_cycle: dict[str, float]
    cells: tuple[Cell, ...]
    warnings: tuple[str, ...] = ()

    def cell(self, compute: Compute, storage: Storage, memory: Memory = "real") -> Cell:
        """The run with this compute side, storage and memory."""
        return next(
            cell
            for cell in self.cells
            if (cell.compute, cell.storage, cell.memory) == (compute, storage, memory)
        )

    def speedup(
        self,
        compute: Compute = "design",
        storage: Storage = "compressed",
        memory: Memory = "real",
        *,
        conv: bool = False,
    ) -> float | None:
        """How many times as fast as the baseline with raw storage on the same memory.

        None where there is nothing to divide (no convolutions).
        """
        reference = self.cell("baseline", "raw", memory)
        this = self.cell(compute, storage, memory)
        above, below = (reference.conv_cycles, this.conv_cycles) if conv else (reference.cycles, this.cycles)
        return above / below if above and below else None

    def traffic_share(self, compute: Compute = "design", storage: Storage = "compressed") -> float | None:
        """Off-chip bytes as a share of what the baseline moves with raw storage."""
        reference = self.cell("baseline", "raw").offchip_bytes
        return self.cell(compute, storage).offchip_bytes / reference if reference else None

    @property
    def peak_ratio(self) -> float:
        """Peak of the design over peak of the baseline; 1 in a fair comparison."""
        return self.peak_macs_per_cycle["design"] / self.peak_macs_per_cycle["baseline"]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: the eight runs, each with its speed-ups and traffic share."""
        cells = []
        for cell in self.cells:
            key = (cell.compute, cell.storage, cell.memory)
            cells.append(
                asdict(cell)
                | {
                    "speedup": _rounded(self.speedup(*key)),
                    "conv_speedup": _rounded(self.speedup(*key, conv=True)),
                    "traffic_share": _rounded(self.traffic_share(cell.compute, cell.storage)),
                }
            )
        return {
            "workload": self.workload,
            "source": self.source,
            "synthetic": self.synthetic,
            "bits": self.bits,
            "baseline": self.baseline,
            "design": self.design,
            "compressed_storage": self.storage,
            "core_hz": self.core_hz,
            "peak_macs_per_cycle": dict(self.peak_macs_per_cycle),
            "cells": cells,
            "warnings": list(self.warnings),
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
