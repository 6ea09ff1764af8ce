"""Make docs/live.svg and docs/replay.svg: the view of a real run at 60 % of its work, and of its record.

python docs/make_live_svg.py [WORKLOAD [TOPOLOGY]]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from dpred_sim.observe.events import Tap
from dpred_sim.observe.frame import Frames
from dpred_sim.observe.live import frame_svg
from dpred_sim.observe.pen import Size
from dpred_sim.observe.record.reader import Record
from dpred_sim.observe.record.selection import Selection
from dpred_sim.observe.record.writer import Recorder
from dpred_sim.observe.replay import ReplaySource, heading_of_record
from dpred_sim.observe.source import LiveSource, Source, heading_of
from dpred_sim.observe.status import Heading, Status
from dpred_sim.simulation.engine import Simulation
from dpred_sim.simulation.systems import load_topology
from dpred_sim.workload.load import load_workload

DONE = 0.6
PACE_S = 8.0
FRAMES = 80
"""Looks at the run before the picture is taken, as many as a person sees at this pace."""
HERE = Path(__file__).parent


def main(workload_name: str = "resnet50_thin", topology_name: str = "dpred_stripes_ddr4") -> None:
    """Run, draw, replay, draw."""
    workload, topology = load_workload(workload_name), load_topology(topology_name)
    with tempfile.TemporaryDirectory() as folder:
        recorder = Recorder(Path(folder) / "run.dpred")
        tap = Tap(recorder)
        simulation = Simulation(workload, topology, probe=tap)
        recorder.begin(simulation)
        source = LiveSource(simulation, tap, recorder)
        source.follow(Selection())
        source.listen(True)
        title = f"dpred-sim run {workload.name} --topology {topology.name}"
        draw(source, heading_of(simulation), Frames(heading_of(simulation)), "live", title, Size(100, 31))
        while source.advance(10_000):
            pass
        recorder.finish(simulation, simulation.result())
        with Record(recorder.path) as record:
            replay = ReplaySource(record)
            heading = heading_of_record(record)
            frames = Frames(heading)
            title = "dpred-sim replay run.dpred"
            draw(replay, heading, frames, "replay", title, Size(140, 42), expanded="tile[*] x16")


def draw(
    source: Source,
    heading: Heading,
    frames: Frames,
    name: str,
    title: str,
    size: Size,
    expanded: str | None = None,
) -> None:
    """Look at a source now and then until `DONE` of its work, and write the last frame."""
    looked = 0
    while (done := source.progress()[1]) < DONE:
        if done * FRAMES >= looked:
            looked += 1
            frames.frame(source.snapshot(), Status(), size)
        if not source.advance(16):
            sys.exit(f"the run ended before {DONE:.0%} of its work was done")
    if expanded is not None:
        frames.look.selected = expanded
        frames.look.expanded.add(expanded)
    back = source.reversible
    status = Status(
        elapsed_s=DONE * PACE_S,
        left_s=(1 - done) * PACE_S,
        playing=not back,
        speed=f"{PACE_S:g} s a run",
        keys=True,
        back=back,
    )
    target = HERE / f"{name}.svg"
    target.write_text(frame_svg(frames, source.snapshot(), status, size, title, name), encoding="utf-8")
    print(f"{target}: {heading.workload} on {heading.topology}, {done:.0%} done")


if __name__ == "__main__":
    main(*sys.argv[1:])
