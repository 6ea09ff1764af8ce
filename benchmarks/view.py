"""What looking at a run costs: the live view at full speed, and recording, beside the run alone.

python benchmarks/view.py

Processor time, the best of several runs taken in turns, so that what else the machine does matters little.
"""

from __future__ import annotations

import io
import tempfile
import time
from pathlib import Path

from rich.console import Console

from dpred_sim.observe.drive import drive
from dpred_sim.observe.events import Tap
from dpred_sim.observe.live import LiveView
from dpred_sim.observe.record.reader import Record
from dpred_sim.observe.record.selection import Selection
from dpred_sim.observe.record.writer import Recorder
from dpred_sim.observe.replay import ReplaySource
from dpred_sim.observe.source import LiveSource, heading_of
from dpred_sim.simulation.engine import Simulation
from dpred_sim.simulation.systems import load_topology
from dpred_sim.workload.load import load_workload
from dpred_sim.workload.workload import Workload

TOPOLOGY = "dpred_stripes_ddr4"
SIZES = ((80, 24), (160, 50))
TIMES = 3


def seconds(made: Workload, batch: int, look: tuple[int, int] | None, record: Path | None) -> float:
    """Processor time of one run, from the first event to the result."""
    recorder = None if record is None else Recorder(record, force=True)
    tap = Tap(recorder)
    simulation = Simulation(made, load_topology(TOPOLOGY), batch=batch, probe=tap)
    source = LiveSource(simulation, tap, recorder)
    display = None
    if look is not None:
        source.follow(Selection())
        width, height = look
        console = Console(
            file=io.StringIO(), width=width, height=height, force_terminal=True, color_system="truecolor"
        )
        display = LiveView(heading_of(simulation), console, transient=True)
    start = time.process_time()
    if recorder is not None:
        recorder.begin(simulation)
    drive(source, display)
    result = simulation.result()
    if recorder is not None:
        recorder.finish(simulation, result)
    return time.process_time() - start


def costs(folder: Path) -> None:
    """Of view and record, on short and long runs."""
    print(f"{'run':18} {'alone s':>8} {'view 80x24':>11} {'view 160x50':>12} {'record':>8} {'B a row':>8}")
    for workload, batch in (("resnet50_thin", 8), ("alexnet", 3), ("vgg19", 1)):
        record = folder / f"{workload}.dpred"
        made = load_workload(workload)
        # What is computed from the values once belongs to no way of looking.
        Simulation(made, load_topology(TOPOLOGY)).run()
        ways = [(None, None), *((size, None) for size in SIZES), (None, record)]
        best = [float("inf")] * len(ways)
        for _ in range(TIMES):
            for place, (look, target) in enumerate(ways):
                best[place] = min(best[place], seconds(made, batch, look, target))
        alone, *others = best
        with Record(record) as opened:
            size = record.stat().st_size / sum(opened.rows.values())
        shares = [f"{other / alone - 1:+.1%}" for other in others]
        name = f"{workload} x{batch}"
        print(f"{name:18} {alone:8.2f} {shares[0]:>11} {shares[1]:>12} {shares[2]:>8} {size:8.1f}")


def replay(folder: Path) -> None:
    """How long it takes to open a record, to show a moment of it, to go through all layers and back."""
    print(f"\n{'record':18} {'rows':>10} {'open s':>7} {'snapshot ms':>12} {'there and back s':>17}")
    for path in sorted(folder.glob("*.dpred")):
        start = time.process_time()
        with Record(path) as record:
            source = ReplaySource(record)
            opened = time.process_time()
            while source.step("layer"):
                pass
            while source.time_ps:
                source.step("layer", back=True)
            walked = time.process_time()
            source.go_to_layer(len(record.layer_windows) // 2)
            source.step("pass")
            asked = time.process_time()
            for _ in range(20):
                source.snapshot()
            shown = (time.process_time() - asked) / 20
            rows = sum(record.rows.values())
        print(f"{path.stem:18} {rows:10,} {opened - start:7.3f} {shown * 1e3:12.2f} {walked - opened:17.2f}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        costs(Path(made))
        replay(Path(made))
