"""Record a run into a file of the format that its ending names."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from dpred_sim.errors import InputError
from dpred_sim.observe.record.format import ENDING
from dpred_sim.observe.record.reader import Record
from dpred_sim.observe.record.writer import Recorder, check_target
from dpred_sim.observe.trace.export import check_export, expected_bytes, export
from dpred_sim.simulation.engine import Simulation
from dpred_sim.simulation.result import RunResult
from dpred_sim.units import format_bytes


def check_trace(path: Path, force: bool) -> None:
    """Refuse, before a run, a file that could not be written; see `check_target` and `check_export`."""
    if path.suffix == ENDING:
        check_target(path, force)
    else:
        check_export(path, force, "--trace")


def recorder_for(path: Path, force: bool, say: Callable[[str], None]) -> Recorder:
    """What records a run into a file; `say` is told what to expect. Raises as `check_trace` does."""
    return Recorder(path, force) if path.suffix == ENDING else ExportingRecorder(path, force, say)


class ExportingRecorder(Recorder):
    """Records into a folder beside `target`, and makes the trace file of it at the end of the run.

    `say` is told the expected size before the file is made. Raises as `export.check_export` does.
    """

    def __init__(self, target: Path, force: bool, say: Callable[[str], None]) -> None:
        self._made = check_export(target, force, "--trace")
        self.target, self._force, self._say = target, force, say
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            self._folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        except OSError as error:
            raise InputError(f"cannot be written: {error.strerror}", file=target) from None
        super().__init__(self._folder / f"run{ENDING}")

    def finish(self, simulation: Simulation, result: RunResult, failed: str | None = None) -> int:
        """Make the trace file; returns its size in bytes."""
        super().finish(simulation, result, failed)
        with Record(self.path) as record:
            size = format_bytes(expected_bytes(record, self._made))
            self._say(f"{self.target}: about {size} expected")
            return export(record, self.target, force=self._force)

    def discard(self) -> None:
        """Leave nothing behind but the trace file."""
        super().discard()
        shutil.rmtree(self._folder, ignore_errors=True)
