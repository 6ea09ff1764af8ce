"""The probe: what components tell about themselves, and to whom.

A component tells its probe and nobody else. Without observers a run uses `NULL_PROBE`.
"""

from __future__ import annotations

from typing import Protocol

WAITS = ("activations", "weights", "output", "layer_barrier", "no_filters", "bus", "dram", "finished")
"""Reasons to wait; `busy` is the one other state."""
STATES = ("busy", *WAITS)
NO_SPAN = -1
"""Number of no span at all."""


class Probe(Protocol):
    """Receives what happens. Times are integer picoseconds."""

    def span(
        self,
        component: str,
        state: str,
        start_ps: int,
        end_ps: int,
        layer: str,
        transfer: str | None = None,
        cause: int | None = None,
    ) -> int:
        """`component` was in `state` (one of STATES) for a time.

        `transfer` names what moved ("weights", "activations", "outputs", "partial_sums"...); `cause` is
        the number of the span that ended a wait. Returns the number of this span.
        """

    def counter(self, component: str, name: str, time_ps: int, value: float) -> None:
        """A quantity of a component (unit in its name) has a new value."""


class NullProbe:
    """Listens to nothing."""

    active = False

    def span(
        self,
        component: str,
        state: str,
        start_ps: int,
        end_ps: int,
        layer: str,
        transfer: str | None = None,
        cause: int | None = None,
    ) -> int:
        """Ignored."""
        return NO_SPAN

    def counter(self, component: str, name: str, time_ps: int, value: float) -> None:
        """Ignored."""


NULL_PROBE = NullProbe()
