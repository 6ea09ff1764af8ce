"""The folder that a run leaves: `run.json`, `layers.csv`, `components.csv`, `provenance.json`.

The folder is written beside its place and renamed into it, so it is there whole or not at all.
Everything but `provenance.json` (versions, host, time) is the same for the same inputs.
"""

from __future__ import annotations

import csv
import json
import os
import platform
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dpred_sim.errors import InputError
from dpred_sim.simulation.result import TRAFFIC_KINDS, RunResult


def write_run(result: RunResult, folder: Path, force: bool = False) -> Path:
    """Write the result folder and return it.

    Raises InputError when it exists and `force` is not set, or cannot be written. Only a folder that
    holds an earlier run is ever replaced.
    """
    check_output(folder, force)
    parent = folder.resolve().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=parent, prefix=f".{folder.name}."))
    except OSError as error:
        raise InputError(f"cannot write a result here: {error.strerror}", file=folder) from None
    try:
        (temporary / "run.json").write_text(result.to_json(), encoding="utf-8")
        _write_layers(result, temporary / "layers.csv")
        _write_components(result, temporary / "components.csv")
        text = json.dumps(provenance(), indent=1) + "\n"
        (temporary / "provenance.json").write_text(text, encoding="utf-8")
        temporary.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(temporary, folder)
    except OSError as error:
        raise InputError(f"cannot write a result here: {error.strerror}", file=folder) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def check_output(folder: Path, force: bool) -> None:
    """Raise InputError when a result folder must not be written; call it before a long run."""
    if not folder.exists() and not folder.is_symlink():
        parent = next(p for p in folder.absolute().parents if p.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
            raise InputError("cannot write a result here", file=folder)
        return
    if not folder.is_dir():
        raise InputError("this is not a folder", file=folder)
    if not force:
        raise InputError("the result folder exists", file=folder, allowed="another --out, or --force")
    if any(folder.iterdir()) and not (folder / "run.json").is_file():
        raise InputError("not a result folder: --force replaces only results of earlier runs", file=folder)


def provenance() -> dict[str, Any]:
    """Versions, host and time of a run: what may differ between equal runs."""
    packages = {}
    for name in ("dpred-sim", "numpy", "simpy", "networkx"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "unknown"
    return {
        "packages": packages,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": platform.node(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
    }


def _write_layers(result: RunResult, path: Path) -> None:
    reasons = sorted({reason for layer in result.layers for reason in layer.stall_cycles})
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(
            ["index", "layer", "kind", "start_ps", "end_ps", "cycles", "compute_cycles", "ideal_cycles"]
            + [f"stall_{reason}_cycles" for reason in reasons]
            + ["bound_by", "loop_order", "macs", "passes", "offchip_bytes", "offchip_bytes_raw"]
            + [f"{kind}_{way}_bytes" for kind in TRAFFIC_KINDS for way in ("read", "write")]
            + ["mean_width_activations_bits", "mean_width_weights_bits"]
        )
        for layer in result.layers:
            moved = [layer.traffic[kind] for kind in TRAFFIC_KINDS]
            writer.writerow(
                [layer.index, layer.name, layer.kind, layer.start_ps, layer.end_ps, layer.cycles]
                + [layer.compute_cycles, layer.ideal_cycles]
                + [layer.stall_cycles.get(reason, 0) for reason in reasons]
                + [layer.bound_by, layer.loop_order, layer.macs, layer.passes]
                + [layer.offchip_bytes, layer.offchip_bytes_raw]
                + [count for traffic in moved for count in (traffic.read_bytes, traffic.write_bytes)]
                + [_number(layer.mean_width_activations), _number(layer.mean_width_weights)]
            )


def _number(value: float | None) -> str:
    return "" if value is None else repr(round(value, 6))


def _write_components(result: RunResult, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["component", "kind", "statistic", "unit", "value"])
        for row in result.components:
            writer.writerow([row.component, row.kind, row.statistic, row.unit, row.value])
