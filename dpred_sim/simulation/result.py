"""What a run leaves: totals, a row a layer, a row a component statistic."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

RESULT_SCHEMA = "dpred-run/1"


@dataclass(slots=True)
class Traffic:
    """Off-chip traffic of one kind of data, in bytes as moved (`stored`) and as raw values (`raw`).

    `raw_bytes` counts each transferred value at the model's width, without padding and pointers.
    """

    read_bytes: int = 0
    write_bytes: int = 0
    raw_read_bytes: int = 0
    raw_write_bytes: int = 0

    def __add__(self, other: Traffic) -> Traffic:
        """Both together."""
        return Traffic(
            self.read_bytes + other.read_bytes,
            self.write_bytes + other.write_bytes,
            self.raw_read_bytes + other.raw_read_bytes,
            self.raw_write_bytes + other.raw_write_bytes,
        )

    @property
    def stored(self) -> int:
        """Bytes moved, both directions."""
        return self.read_bytes + self.write_bytes

    @property
    def raw(self) -> int:
        """Bytes that the same values take uncompressed, both directions."""
        return self.raw_read_bytes + self.raw_write_bytes


TRAFFIC_KINDS = ("weights", "activations", "shortcut", "outputs", "partial_sums")


@dataclass(slots=True)
class LayerResult:
    """One layer of a run. Cycles are of the clock `core`; the layers' cycles add up to the run's."""

    index: int
    name: str
    kind: str
    start_ps: int
    end_ps: int
    cycles: int
    compute_cycles: int
    """Cycles of the design's schedule on perfect memory."""
    ideal_cycles: int
    """`Design.layer_cycles(layer).total`: differs from `compute_cycles` where a block had to be cut."""
    stall_cycles: dict[str, int]
    """Waits of the busiest cluster by reason (see probe.WAITS)."""
    bound_by: str
    """What limited the layer: compute, dram, a path, room in a buffer, or start-up (fill and drain)."""
    macs: int
    passes: int
    loop_order: str
    """`filters` (filter block outer), `windows` (window sets outer), `memory` for memory layers."""
    traffic: dict[str, Traffic]
    mean_width_activations: float | None
    mean_width_weights: float | None
    family: str = ""
    """What steps of one recurrence have in common; empty for every other layer."""

    @property
    def item(self) -> str:
        """Which input of a batch, as its name says; empty for a single one."""
        return self.name.partition("#")[2]

    @property
    def offchip_bytes(self) -> int:
        """Stored bytes moved to and from DRAM."""
        return sum(t.stored for t in self.traffic.values())

    @property
    def offchip_bytes_raw(self) -> int:
        """The same values uncompressed."""
        return sum(t.raw for t in self.traffic.values())


@dataclass(frozen=True, slots=True)
class Statistic:
    """One number of one component."""

    component: str
    kind: str
    statistic: str
    unit: str
    value: float | int


@dataclass(slots=True)
class RunResult:
    """Everything a run found. `to_json` is deterministic: same inputs, same bytes."""

    workload: str
    source: str
    synthetic: bool
    topology: str
    bits: int
    seed: int
    batch: int
    core_hz: int
    time_ps: int
    total_cycles: int
    layers: list[LayerResult]
    components: list[Statistic]
    traffic: dict[str, dict[str, int]]
    """`paper_traffic` and `system_traffic`, each with `stored_bytes`, `raw_bytes` and parts."""
    peak_bytes_per_second: float
    """Sum over the DRAM channels."""
    configuration: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    complete: bool = True

    def to_dict(self) -> dict[str, Any]:
        """The run as one JSON-ready document; deterministic."""
        layers = []
        for layer in self.layers:
            row = asdict(layer)
            row["offchip_bytes"] = layer.offchip_bytes
            row["offchip_bytes_raw"] = layer.offchip_bytes_raw
            layers.append(row)
        return {
            "schema": RESULT_SCHEMA,
            "complete": self.complete,
            "workload": self.workload,
            "source": self.source,
            "synthetic": self.synthetic,
            "topology": self.topology,
            "bits": self.bits,
            "seed": self.seed,
            "batch": self.batch,
            "core_hz": self.core_hz,
            "time_ps": self.time_ps,
            "total_cycles": self.total_cycles,
            "peak_bytes_per_second": self.peak_bytes_per_second,
            "traffic": self.traffic,
            "layers": layers,
            "components": [asdict(row) for row in self.components],
            "configuration": self.configuration,
            "provenance": self.provenance,
        }

    def to_json(self) -> str:
        """`to_dict` as text: same inputs and seed, same bytes."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    def write(self, folder: str | Path, force: bool = False) -> Path:
        """Write the result folder; see `simulation.output.write_run`."""
        from dpred_sim.simulation.output import write_run

        return write_run(self, Path(folder), force)
