"""Compare two topologies: the 2 x 2 of {baseline, design} x {raw, compressed storage}.

Compute and storage are told apart: each of the four runs on real and on ideal memory, so eight runs of one
workload, whose values are analysed once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from dpred_sim.errors import InputError
from dpred_sim.explore.peak import peak_macs_per_cycle
from dpred_sim.observe.comparison import COMPUTES, MEMORIES, STORAGES, Cell, Comparison, Compute

if TYPE_CHECKING:
    from dpred_sim.simulation.result import RunResult
    from dpred_sim.topology.graph import Topology
    from dpred_sim.workload.workload import Workload

RAW = "raw"
REFERENCE = "dpred_stripes_ddr4"
"""Ready-made topology whose storage is "compressed" when neither of a pair compresses."""
PEAK_TOLERANCE = 0.005

Run = Callable[["Workload", "Topology"], "RunResult"]
Stores = tuple[str, dict[str, Any]]


def compare(
    workload: Workload,
    topology: Topology,
    baseline: Topology,
    *,
    seed: int = 0,
    batch: int = 1,
    done: RunResult | None = None,
    run: Run | None = None,
) -> Comparison:
    """Run both topologies with both storages on both memories.

    "Compressed" is what the design's DRAM stores, else what the baseline's does, else what that
    of `REFERENCE` does.
    `done` is the result of `topology` as it is, when somebody already has it: its run is not repeated.
    `run` replaces the simulator. Raises InputError for core clocks that differ, as cycles cannot be compared
    then; a different peak is a warning of the comparison, and its `peak_ratio` divides the speed-ups.
    """
    check_pair(topology, baseline)
    runner = _Runner(workload, run or _simulator(seed, batch))
    if done is not None and done.complete:
        runner.results.append((topology, done))
    codec, options = compressed_storage(topology, baseline)
    sides: dict[Compute, Topology] = {"baseline": baseline, "design": topology}
    cells = []
    for compute in COMPUTES:
        for storage in STORAGES:
            stored = (
                sides[compute].with_stores(RAW)
                if storage == "raw"
                else sides[compute].with_stores(codec, **options)
            )
            for memory in MEMORIES:
                result = runner(stored if memory == "real" else stored.with_ideal_memory())
                cells.append(
                    Cell(
                        compute=compute,
                        storage=storage,
                        memory=memory,
                        cycles=result.total_cycles,
                        conv_cycles=sum(layer.cycles for layer in result.layers if layer.kind == "conv"),
                        offchip_bytes=sum(layer.offchip_bytes for layer in result.layers),
                        offchip_bytes_raw=sum(layer.offchip_bytes_raw for layer in result.layers),
                    )
                )
    peaks: dict[str, float] = {name: peak_macs_per_cycle(side, workload.bits) for name, side in sides.items()}
    return Comparison(
        workload=workload.name,
        source=workload.source,
        synthetic=workload.synthetic,
        bits=workload.bits,
        baseline=baseline.name,
        design=topology.name,
        storage=storage_label(codec, options),
        core_hz=topology.clocks["core"],
        peak_macs_per_cycle=peaks,
        cells=tuple(cells),
        warnings=tuple(_warnings(topology, baseline, peaks)),
    )


def check_pair(topology: Topology, baseline: Topology) -> None:
    """Raises InputError when cycles of the two cannot be compared."""
    ours, theirs = topology.clocks["core"], baseline.clocks["core"]
    if ours != theirs:
        raise InputError(
            f"cycles of different clocks cannot be compared: {topology.name}, {baseline.name}",
            field="clocks.core",
            found=f"{ours / 1e6:g} MHz and {theirs / 1e6:g} MHz",
            allowed="one clock for both",
        )


def compressed_storage(topology: Topology, baseline: Topology) -> Stores:
    """Codec and parameters that stand for "compressed" in a comparison."""
    own = _compressing(topology, baseline)
    if own is not None:
        return own
    from dpred_sim.simulation.systems import load_topology

    return _compressing(load_topology(REFERENCE)) or (RAW, {})


def _compressing(*systems: Topology) -> Stores | None:
    for system in systems:
        for codec, options in _dram_stores(system):
            if codec != RAW:
                return codec, options
    return None


def storage_label(codec: str, options: Mapping[str, Any]) -> str:
    """How tables call a storage: `dpred`, or `dpred mode=adaptive`."""
    return " ".join([codec, *(f"{key}={value}" for key, value in options.items())])


def _dram_stores(system: Topology) -> list[Stores]:
    from dpred_sim.topology.graph import DRAM

    found = []
    for node in system.of_kind(DRAM):
        stores = node.parameters.stores  # type: ignore[attr-defined]
        found.append((stores.codec, dict(stores.options)))
    return found


class _Runner:
    """Runs each distinct system once."""

    def __init__(self, workload: Workload, run: Run) -> None:
        self.workload = workload
        self.run = run
        self.results: list[tuple[Topology, RunResult]] = []

    def __call__(self, topology: Topology) -> RunResult:
        for known, result in self.results:
            if known == topology:
                return result
        result = self.run(self.workload, topology)
        self.results.append((topology, result))
        return result


def _simulator(seed: int, batch: int) -> Run:
    from dpred_sim.simulation.engine import simulate

    return lambda workload, topology: simulate(workload, topology, seed=seed, batch=batch)


def _warnings(topology: Topology, baseline: Topology, peaks: Mapping[str, float]) -> list[str]:
    lines = []
    if abs(peaks["design"] / peaks["baseline"] - 1) > PEAK_TOLERANCE:
        lines.append(
            f"the peaks differ, {topology.name} {peaks['design']:,.0f} and {baseline.name} "
            f"{peaks['baseline']:,.0f} multiply-accumulates a cycle: divide speed-ups by their ratio"
        )
    for system in (topology, baseline):
        if len({storage_label(*stores) for stores in _dram_stores(system)}) > 1:
            lines.append(f"the DRAM channels of {system.name} store differently: neither storage is its own")
    return lines
