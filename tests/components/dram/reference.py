"""Results of two public cycle-level simulators, and how to run the same here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from dpred_sim.components.dram import patterns
from dpred_sim.components.dram.patterns import Access
from dpred_sim.components.dram.schema import StandardFile
from dpred_sim.components.dram.standard import Standard, resolve

FILE = Path(__file__).resolve().parents[2] / "data" / "dram" / "reference.json"


@cache
def reference() -> dict[str, Any]:
    return json.loads(FILE.read_text())


@cache
def standard(name: str) -> Standard:
    """The standard that a DRAMsim3 configuration describes."""
    config = reference()["configs"][name]
    shape, clocks, system = config["structure"], config["timing_cycles"], config["system"]
    tck = config["tCK_ns"]
    hbm = shape["protocol"] == "HBM"
    # HBM columns count pairs of transfers
    columns = int(shape["columns"]) * (2 if hbm else 1)
    width = int(shape["device_width"])
    rows, banks = int(shape["rows"]), int(shape["bankgroups"] * shape["banks_per_group"])
    names = ["tRP", "tRAS", "tCCD_S", "tCCD_L", "tRRD_S", "tRRD_L", "tFAW", "tWR", "tWTR_S", "tWTR_L"]
    timing = {name: f"{int(clocks[name])} nCK" for name in names}
    for name in ("CL", "CWL"):
        timing[name] = f"{int(clocks[name])} nCK"
    for name in ("tREFI", "tRFC"):
        timing[name] = f"{clocks[name] * tck} ns"
    read_turn = int(clocks.get("tRTRS", 1))
    burst = int(shape["BL"]) // 2
    timing["tRTRS"] = f"{read_turn} nCK"
    timing["tRTW"] = f"{int(clocks['CL'] + burst + read_turn - clocks['CWL'])} nCK"
    timing["tRTP"] = f"{int(clocks.get('tRTP', clocks.get('tRTP_L', 0)))} nCK"
    for name in ("tRCD", "tRCDRD", "tRCDWR"):
        if name in clocks:
            timing[name] = f"{int(clocks[name])} nCK"
    timing["tCK"] = f"{tck} ns"
    document = {
        "schema": "dpred-dram/1",
        "name": name,
        "protocol": shape["protocol"],
        "source": config["base_config"],
        "mapping": system["address_mapping"],
        "organisation": {
            "density": f"{rows * columns * width * banks} bit",
            "device_width": f"{width} bit",
            "bus": f"{int(system['bus_width'])} bit",
            "bank_groups": int(shape["bankgroups"]),
            "banks_per_group": int(shape["banks_per_group"]),
            "page": f"{columns * width} bit",
            "burst_length": int(shape["BL"]),
        },
        "timing": timing,
    }
    return resolve(StandardFile.model_validate(document))


def accesses(pattern: str, unit: int | None = None) -> tuple[Iterator[Access], int]:
    """The pattern of the reference, and its unit in bytes."""
    if pattern in ("seq_read", "seq_write"):
        size = unit or 2048
        return getattr(patterns, pattern)(size), size
    if pattern.startswith("rand_64B"):
        return patterns.random(64, write_third=pattern.endswith("33w")), 64
    if pattern.startswith("rand_chunk_"):
        size = int(pattern.rsplit("_", 1)[1])
        return patterns.random(size), size
    if pattern.startswith("stride_"):
        return patterns.strided(64, int(pattern.split("_")[1])), 64
    _, size_text, place = pattern.split("_")
    size = {"64B": 64, "2KiB": 2048, "4KiB": 4096}[size_text]
    return patterns.rw21(size, skewed=place == "skewed"), size


def label(row: dict[str, Any]) -> str:
    offered = row.get("offered_fraction_of_peak", row.get("outstanding", ""))
    return f"{row['config']} {row['pattern']} {row['issue']} {offered}".strip()
