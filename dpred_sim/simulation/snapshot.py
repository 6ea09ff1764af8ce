"""A picture of a run at one moment, cheap to take and safe to keep: what every view is fed with.

A running simulation makes them, and so does the record of a past one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ComponentState:
    """One component: what it does now, and what it has done since time zero.

    `state` is `busy` or a wait reason of `probe.STATES`; `waits_on` names the component that it waits
    for, where there is one; `busy_fraction` is busy time over elapsed time, `waits_ps` the rest by
    reason. `level_bits` / `capacity_bits` are set for buffers, `bits_moved` for whatever moves data,
    `in_flight_bytes` for transfer engines.
    """

    name: str
    kind: str
    state: str
    busy_fraction: float
    bits_moved: int = 0
    level_bits: int | None = None
    capacity_bits: int | None = None
    waits_on: str = ""
    waits_ps: Mapping[str, int] = field(default_factory=dict)
    in_flight_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class LayerState:
    """Progress of one layer: `done` in 0..1 of its compute cycles."""

    name: str
    done: float
    start_ps: int | None
    end_ps: int | None


@dataclass(frozen=True, slots=True)
class LayerWidths:
    """Widths of a layer's groups of 16 values: the mean width a value is charged, and groups by width.

    Counts start at width 0; both are None or empty where nothing is known.
    """

    mean_activations: float | None = None
    mean_weights: float | None = None
    activations: tuple[int, ...] = ()
    weights: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Event:
    """Something that ended: a transfer arrived, a pass or a wait is over.

    `state` as in `ComponentState`. `what`, `write`, `stored_bytes` and `raw_bits` are those of the
    off-chip transfer that it belongs to, `what` empty for none; `bits` moved.
    """

    component: str
    kind: str
    state: str
    start_ps: int
    end_ps: int
    layer: str
    bits: int = 0
    what: str = ""
    write: bool = False
    stored_bytes: int = 0
    raw_bits: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole system at one moment. Totals count from time zero."""

    time_ps: int
    finished: bool
    work_done: int
    """Compute cycles done, of `work_total`."""
    work_total: int
    layer_index: int
    layers: tuple[LayerState, ...]
    components: tuple[ComponentState, ...]
    offchip_bytes: int
    offchip_bytes_raw: int
    peak_bytes_per_second: float
    widths: LayerWidths
    """Of the current layer."""
    dram_ps: Mapping[str, int]
    """What the data buses of all DRAM channels did: `busy_ps` and a `..._ps` for each loss."""
    events: tuple[Event, ...] = ()
    """The last ones that somebody asked for, oldest first."""
