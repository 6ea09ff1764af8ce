"""The record's format: tables of integers, in chunks that numpy can read (docs/record.md).

A record is a zip file. `head.json` says what runs, `run.json` is the document that the run ends in, and
`end.json` indexes the chunks; each chunk is a member `TABLE/NUMBER.npy`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.components.probe import STATES
from dpred_sim.simulation.result import TRAFFIC_KINDS

SCHEMA = "dpred-record/1"
ENDING = ".dpred"
CHUNK_ROWS = 16384
"""Rows of a chunk; a few more where a row that completes it stands for several components."""

TABLES: Mapping[str, tuple[str, ...]] = {
    "spans": ("track", "state", "start_ps", "end_ps", "layer", "transfer", "cause", "bits"),
    "transfers": (
        "track",
        "what",
        "layer",
        "write",
        "address",
        "bytes",
        "raw_bits",
        "sent_ps",
        "cause",
    ),
    "counters": ("track", "name", "time_ps", "value"),
    "uses": ("transfer", "span"),
}
"""Columns by table. Rows are numbered from 0: a span or a transfer is known by its number."""
FLOATS = ("value",)
"""Columns that hold floating point numbers; all others hold integers."""
TIMES = {
    "spans": ("start_ps", "end_ps"),
    "transfers": ("sent_ps", "sent_ps"),
    "counters": ("time_ps", "time_ps"),
}
"""Columns of the first and the last moment of a row."""
CODES = {"track": "tracks", "layer": "layers", "state": "states", "what": "whats", "name": "counters"}
"""Columns that index a list, and the key under which `head.json` or `end.json` holds it."""

Columns = dict[str, NDArray[Any]]


def vocabulary() -> dict[str, list[str]]:
    """The names behind the codes that do not depend on the run."""
    return {"states": list(STATES), "whats": list(TRAFFIC_KINDS)}


def encode(table: str, rows: NDArray[Any]) -> NDArray[np.uint8]:
    """Rows (rows, columns) as bytes (columns, 8, rows): small and alike, so that they compress well.

    Integers become the difference to the row above, with the sign in the lowest bit; then the lowest
    bytes of all rows come first, the next ones second, and so on.
    """
    planes = np.empty((rows.shape[1], len(rows), 8), dtype=np.uint8)
    for place, name in enumerate(TABLES[table]):
        if name in FLOATS:
            column = np.ascontiguousarray(rows[:, place], dtype="<f8")
        else:
            step = rows[:, place].astype(np.int64)
            step[1:] -= rows[:-1, place].astype(np.int64)
            column = ((step << 1) ^ (step >> 63)).astype("<i8")
        planes[place] = column.view(np.uint8).reshape(-1, 8)
    return np.ascontiguousarray(planes.transpose(0, 2, 1))


def decode(table: str, planes: NDArray[np.uint8]) -> Columns:
    """The columns of a chunk. Raises ValueError for anything else."""
    names = TABLES[table]
    if planes.dtype != np.uint8 or planes.ndim != 3 or planes.shape[:2] != (len(names), 8):
        raise ValueError(f"bytes of shape {planes.shape} are no chunk of {table}")
    columns: Columns = {}
    for place, name in enumerate(names):
        flat = np.ascontiguousarray(planes[place].T).reshape(-1)
        if name in FLOATS:
            columns[name] = flat.view("<f8")
            continue
        coded = flat.view("<u8")
        step = (coded >> np.uint64(1)).astype(np.int64) ^ -(coded & np.uint64(1)).astype(np.int64)
        columns[name] = np.cumsum(step)
    return columns
