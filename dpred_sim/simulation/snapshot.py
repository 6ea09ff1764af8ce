"""A picture of a running simulation, cheap to take and safe to keep."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ComponentState:
    """One line a component: what it does now, and how busy it has been.

    `state` is `busy` or a wait reason of `probe.STATES`; `busy_fraction` is busy time over elapsed time;
    `level_bits` / `capacity_bits` are set for buffers, `bits_moved` for whatever moves data.
    """

    name: str
    kind: str
    state: str
    busy_fraction: float
    bits_moved: int = 0
    level_bits: int | None = None
    capacity_bits: int | None = None


@dataclass(frozen=True, slots=True)
class LayerState:
    """Progress of one layer: `done` in 0..1 of its compute cycles."""

    name: str
    done: float
    start_ps: int | None
    end_ps: int | None


@dataclass(frozen=True, slots=True)
class Transfer:
    """One off-chip request as it completed."""

    time_ps: int
    source: str
    target: str
    what: str
    """`weights`, `activations`, `shortcut`, `outputs` or `partial_sums`."""
    layer: str
    stored_bytes: int
    raw_bytes: int


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
    mean_width_activations: float | None
    """Mean group width of the activations of the current layer; None where there are none."""
    mean_width_weights: float | None
    recent: tuple[Transfer, ...]
    """The last off-chip transfers, oldest first (at most 32)."""
