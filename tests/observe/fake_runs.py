"""Hand-made snapshots and results, and a scripted source that plays them."""

from __future__ import annotations

from dpred_sim.observe.comparison import COMPUTES, MEMORIES, STORAGES, Cell, Comparison
from dpred_sim.observe.record.selection import Selection
from dpred_sim.simulation.result import LayerResult, RunResult, Traffic
from dpred_sim.simulation.snapshot import ComponentState, Event, LayerState, LayerWidths, Snapshot

PEAK = 25.6e9


def layer_result(
    index: int, name: str, cycles: int, *, bound_by: str = "compute", kind: str = "conv"
) -> LayerResult:
    stall = cycles // 4
    return LayerResult(
        index=index,
        name=name,
        kind=kind,
        start_ps=index * 10**6,
        end_ps=index * 10**6 + cycles * 1000,
        cycles=cycles,
        compute_cycles=cycles - stall,
        ideal_cycles=cycles - stall,
        stall_cycles={"weights": stall - stall // 3, "activations": stall // 3},
        bound_by=bound_by,
        macs=cycles * 1000,
        passes=7,
        loop_order="filters",
        traffic={
            "weights": Traffic(read_bytes=300 * 1024, raw_read_bytes=900 * 1024),
            "outputs": Traffic(write_bytes=100 * 1024, raw_write_bytes=100 * 1024),
        },
        mean_width_activations=4.0 + index,
        mean_width_weights=None if kind != "conv" else 6.0,
    )


def run_result(
    layers: list[LayerResult] | None = None, *, synthetic: bool = True, complete: bool = True
) -> RunResult:
    if layers is None:
        layers = [
            layer_result(0, "conv1", 40_000, bound_by="dram"),
            layer_result(1, "conv2", 120_000),
            layer_result(2, "fc", 40_000, bound_by="dram", kind="linear"),
        ]
    total = sum(layer.cycles for layer in layers)
    stored = sum(layer.offchip_bytes for layer in layers)
    raw = sum(layer.offchip_bytes_raw for layer in layers)
    return RunResult(
        workload="tiny",
        source="drawn with seed 0" if synthetic else "captured from photos",
        synthetic=synthetic,
        topology="dpred_stripes_ddr4",
        bits=16,
        seed=0,
        batch=1,
        core_hz=10**9,
        time_ps=total * 1000,
        total_cycles=total,
        layers=layers,
        components=[],
        traffic={
            "system_traffic": {"stored_bytes": stored, "raw_bytes": raw},
            "paper_traffic": {"stored_bytes": stored // 2, "raw_bytes": raw // 2},
        },
        peak_bytes_per_second=PEAK,
        complete=complete,
    )


def comparison(*, peak: float = 4096.0, conv: bool = True) -> Comparison:
    """The design is 2x (raw) and 2.5x (compressed) as fast, 4x on ideal memory; 40 % of the bytes."""
    cycles = {
        ("baseline", "raw", "real"): 1_000_000,
        ("baseline", "raw", "ideal"): 800_000,
        ("baseline", "compressed", "real"): 900_000,
        ("baseline", "compressed", "ideal"): 800_000,
        ("design", "raw", "real"): 500_000,
        ("design", "raw", "ideal"): 200_000,
        ("design", "compressed", "real"): 400_000,
        ("design", "compressed", "ideal"): 200_000,
    }
    cells = []
    for compute in COMPUTES:
        for storage in STORAGES:
            for memory in MEMORIES:
                count = cycles[compute, storage, memory]
                stored = 10 * 2**20 if storage == "raw" else 4 * 2**20
                cells.append(
                    Cell(compute, storage, memory, count, count // 2 if conv else 0, stored, 10 * 2**20)
                )
    return Comparison(
        workload="tiny",
        source="captured from photos",
        synthetic=False,
        bits=16,
        baseline="dadiannao_ddr4",
        design="dpred_stripes_ddr4",
        storage="dpred",
        core_hz=10**9,
        peak_macs_per_cycle={"baseline": 4096.0, "design": peak},
        cells=tuple(cells),
    )


def component(name: str, kind: str, state: str = "busy", busy: float = 0.5, **more) -> ComponentState:
    return ComponentState(name=name, kind=kind, state=state, busy_fraction=busy, **more)


def components() -> tuple[ComponentState, ...]:
    """What dpred_stripes_ddr4 is made of."""
    tiles = [component(f"tile.{i}", "tile", "busy" if i < 12 else "weights", i / 16) for i in range(16)]
    buffers = [
        component(f"weights.{i}", "buffer", "dram", 0.3, level_bits=i << 18, capacity_bits=1 << 22)
        for i in range(16)
    ]
    paths = [component(f"weights.{i}->tile.{i}", "point", busy=0.2) for i in range(16)]
    return (
        component("dram", "dram_channel", bits_moved=1 << 20),
        component("weight_dma", "dma", "room", 0.0, waits_on="weights", in_flight_bytes=0),
        component("activations", "buffer", "dram", 0.6, level_bits=1 << 24, capacity_bits=1 << 25),
        *buffers,
        component("dispatcher", "dispatcher", "activations", waits_on="activation_dma"),
        *tiles,
        component("post_processing", "post_processing", "layer_barrier", 0.01),
        component("dram->activations", "point"),
        component("activations->dram", "point", "finished", 0.0),
        component("dram->weights", "bus"),
        component("dispatcher->tile", "broadcast"),
        *paths,
    )


def snapshot(
    done: float = 0.5,
    *,
    layers: int = 54,
    time_ps: int = 10**9,
    offchip: int = 10 * 2**20,
    parts: tuple[ComponentState, ...] | None = None,
    recent: int = 32,
    layer_name: str = "layer{}",
) -> Snapshot:
    total = 1_000_000
    index = min(layers - 1, int(done * layers))
    states = tuple(
        LayerState(
            name=layer_name.format(i),
            done=1.0 if i < index or done >= 1 else (0.25 if i == index else 0.0),
            start_ps=i * 10**6 if i <= index else None,
            end_ps=(i + 1) * 10**6 if i < index or done >= 1 else None,
        )
        for i in range(layers)
    )
    events = tuple(
        Event(
            "weight_dma",
            "dma",
            "busy",
            time_ps - (recent - i) * 5000 - 400_000,
            time_ps - (recent - i) * 5000,
            f"layer{index}",
            bits=(1300 + i) * 8,
            what="weights",
            stored_bytes=1300 + i,
            raw_bits=4096 * 8,
        )
        for i in range(recent)
    )
    return Snapshot(
        time_ps=time_ps,
        finished=done >= 1,
        work_done=int(done * total),
        work_total=total,
        layer_index=index,
        layers=states,
        components=components() if parts is None else parts,
        offchip_bytes=offchip,
        offchip_bytes_raw=3 * offchip,
        peak_bytes_per_second=PEAK,
        widths=LayerWidths(mean_activations=4.31, activations=(0, 5, 0, 20, 40, 3, *[0] * 11)),
        dram_ps={"busy_ps": 6 * 10**8, "idle_ps": 3 * 10**8, "row_misses_ps": 10**8, "refresh_ps": 0},
        events=events,
    )


class FakeSource:
    """Works through `events` events; layer i ends when its share of them is done."""

    def __init__(self, result: RunResult | None = None, events: int = 10_000, reversible: bool = False):
        self.whole = run_result() if result is None else result
        self.total = events
        self.handled = 0
        self.calls: list[int] = []
        self.steps: list[tuple[str, bool]] = []
        self.listening: list[bool] = []
        self.reversible = reversible
        self.selection = Selection()

    def follow(self, selection: Selection) -> None:
        self.selection = selection

    def advance(self, events: int) -> bool:
        self.calls.append(events)
        self.handled = min(self.total, self.handled + events)
        return self.handled < self.total

    def step(self, unit: str, back: bool = False) -> bool:
        self.steps.append((unit, back))
        size = {"event": 1, "pass": 10, "layer": self.total // len(self.whole.layers)}[unit]
        self.handled = max(0, min(self.total, self.handled + (-size if back else size)))
        return self.handled < self.total

    @property
    def done(self) -> float:
        return self.handled / self.total

    def progress(self) -> tuple[int, float]:
        return int(self.done * self.whole.time_ps), self.done

    def listen(self, on: bool) -> None:
        self.listening.append(on)

    def snapshot(self) -> Snapshot:
        return snapshot(self.done, layers=len(self.whole.layers), time_ps=int(self.done * self.whole.time_ps))

    def result(self) -> RunResult:
        whole = self.whole
        if self.done >= 1:
            return whole
        ended = int(self.done * len(whole.layers))
        partial = run_result(whole.layers[:ended], synthetic=whole.synthetic, complete=False)
        return partial
