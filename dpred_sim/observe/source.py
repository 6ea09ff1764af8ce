"""What a view shows and steers: a running simulation, or (see replay.py) the record of a past one."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, Protocol

from dpred_sim.components.probe import Probe
from dpred_sim.observe.events import Followed, Tap
from dpred_sim.observe.record.selection import Selection
from dpred_sim.observe.record.tracks import track_rows
from dpred_sim.observe.status import Heading
from dpred_sim.simulation.engine import Simulation
from dpred_sim.simulation.snapshot import Snapshot

Unit = Literal["event", "pass", "layer"]


class Source(Protocol):
    """Something that goes on in simulated time."""

    reversible: bool
    """Whether `step` can go back."""

    @property
    def selection(self) -> Selection:
        """Whose events are followed."""

    def follow(self, selection: Selection) -> None:
        """Show events of these components and layers from now on; raises InputError for a name of
        nothing."""

    def advance(self, events: int) -> bool:
        """Let about so many things happen; True while something is left."""

    def step(self, unit: Unit, back: bool = False) -> bool:
        """Go to the next event that is followed, or the end of the next pass or layer; True while
        something is left. `back` goes to the one before."""

    def progress(self) -> tuple[int, float]:
        """Simulated time in picoseconds, and the share of the work that is done."""

    def snapshot(self) -> Snapshot:
        """The system now, with the last events that are followed."""

    def listen(self, on: bool) -> None:
        """Whether events are wanted: at full speed nobody can read them, and they cost time."""


class LiveSource:
    """A simulation and the tap on it: `Simulation(..., probe=tap)`."""

    reversible = False

    def __init__(self, simulation: Simulation, tap: Tap, recorder: Probe | None = None) -> None:
        self.simulation = simulation
        self._tap = tap
        self._recorded = recorder is not None
        self._followed = Followed((), Selection())
        self.listen(False)

    @property
    def selection(self) -> Selection:
        """Whose events are followed."""
        return self._followed.selection

    def follow(self, selection: Selection) -> None:
        """Show events of these components and layers; raises InputError for a name of nothing."""
        selection.layer_codes(self.simulation.layer_names)
        self._followed = Followed(track_rows(self.simulation), selection)
        self._tap.follow(self._followed)

    def advance(self, events: int) -> bool:
        """Handle so many events of the kernel."""
        return self.simulation.advance(events)

    def step(self, unit: Unit, back: bool = False) -> bool:
        """Handle events one by one until the unit is over."""
        simulation = self.simulation
        before = self._count(unit)
        while simulation.advance(1):
            if self._count(unit) != before:
                return True
        return False

    def progress(self) -> tuple[int, float]:
        """Of the simulation."""
        simulation = self.simulation
        return int(simulation.env.now), simulation.work_done / max(1, simulation.work_total)

    def snapshot(self) -> Snapshot:
        """Of the simulation, with what the tap has."""
        snapshot = self.simulation.snapshot()
        return replace(snapshot, events=self._tap.recent(snapshot.time_ps))

    def listen(self, on: bool) -> None:
        """Open or close the tap; a record goes on in any case."""
        self._tap.listen(on)
        self._tap.active = on or self._recorded

    def _count(self, unit: Unit) -> int:
        simulation = self.simulation
        if unit == "event":
            return self._tap.settle(int(simulation.env.now))
        if unit == "pass":
            return sum(cluster.passes for cluster in simulation.system.machine.clusters)
        return len(simulation.layers)


def heading_of(simulation: Simulation) -> Heading:
    """What is shown above the frames of a simulation."""
    workload = simulation.workload
    return Heading(
        workload.name, workload.source, workload.synthetic, simulation.topology.name, workload.bits
    )
