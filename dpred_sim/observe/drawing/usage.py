"""How busy the parts of a system were in a run, read from the folder that the run left."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpred_sim.errors import InputError
from dpred_sim.simulation.result import RESULT_SCHEMA
from dpred_sim.topology.graph import Topology
from dpred_sim.units import format_time

COLUMNS = ["component", "kind", "statistic", "unit", "value"]


def percent(share: float) -> str:
    """A share for people: what is not nothing never reads 0 %."""
    return "<1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"


@dataclass(frozen=True)
class Usage:
    """Statistics of one run: `values[component][statistic]`, over `time_ps`."""

    title: str
    time_ps: int
    values: Mapping[str, Mapping[str, float]]

    def share(self, component: str, statistic: str) -> float | None:
        """A time of a component over the run's; None where the run has no such number."""
        value = self.values.get(component, {}).get(statistic)
        return None if value is None else min(1.0, value / max(1, self.time_ps))

    def of_links(self, names: Iterable[str]) -> float:
        """Share of time that the busiest of these links is busy.

        Private links of tiles in lockstep are counted at the first of them, so the busiest stands for all.
        """
        return max(self.share(name, "busy_ps") or 0.0 for name in names)

    def busy(self, component: str) -> float | None:
        """Share of time that a component is busy."""
        return self.share(component, "busy_ps")

    def lines(self, group: str, ids: Iterable[str]) -> tuple[str, ...]:
        """What the run adds to a box: how busy its components were, or how full."""
        shares = [self.share(id, key) for id in ids for key in ("busy_ps", "time_busy_ps")]
        busy = [share for share in shares if share is not None]
        if busy:
            return (f"busy {percent(sum(busy) / len(busy))}",)
        levels = [
            (own["peak_bits"], own["capacity_bits"])
            for own in (self.values.get(name, {}) for name in dict.fromkeys((*ids, group)))
            if own.get("capacity_bits")
        ]
        if levels:
            return (f"peak {percent(max(peak / capacity for peak, capacity in levels))} full",)
        return ()


def read_usage(folder: Path, topology: Topology) -> Usage:
    """Read `run.json` and `components.csv` of a result folder.

    Raises InputError when it is none, is damaged, or the run was on another system than `topology`.
    """
    document = _read_run(folder / "run.json")
    configuration = document.get("configuration")
    ran_on = configuration.get("topology") if isinstance(configuration, dict) else None
    if ran_on != topology.to_dict():
        raise InputError(
            "the run was on another system than the one to draw, or on other values of it",
            file=folder,
            field="--run",
            found=document.get("topology"),
            allowed=f"a run on {topology.name} with the same --set",
        )
    time_ps = document.get("time_ps")
    if not isinstance(time_ps, int) or time_ps < 1:
        raise InputError("not a time", file=folder / "run.json", field="time_ps", found=time_ps)
    title = f"{document.get('workload')}: {format_time(time_ps)}"
    title += ", SYNTHETIC values" if document.get("synthetic") else ""
    title += "" if document.get("complete") is True else ", stopped early"
    return Usage(title, time_ps, _read_components(folder / "components.csv"))


def _read_run(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"not a result folder: run.json cannot be read: {error.strerror}",
            file=path.parent,
            field="--run",
            allowed="a folder that `dpred-sim run --out` wrote",
        ) from None
    except ValueError:
        raise InputError("not JSON", file=path) from None
    if not isinstance(document, dict) or document.get("schema") != RESULT_SCHEMA:
        found = document.get("schema") if isinstance(document, dict) else type(document).__name__
        raise InputError("not a result", file=path, field="schema", found=found, allowed=RESULT_SCHEMA)
    return document


def _read_components(path: Path) -> dict[str, dict[str, float]]:
    values: dict[str, dict[str, float]] = {}
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = csv.reader(stream)
            heading = next(rows, [])
            if heading != COLUMNS:
                raise InputError("wrong columns", file=path, line=1, found=heading, allowed=COLUMNS)
            for row in rows:
                try:
                    component, _, statistic, _, value = row
                    values.setdefault(component, {})[statistic] = float(value)
                except ValueError:
                    raise InputError("not a statistic", file=path, line=rows.line_num, found=row) from None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=path) from None
    except (UnicodeDecodeError, csv.Error):
        raise InputError("not a table", file=path) from None
    return values
