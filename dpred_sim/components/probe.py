"""The probe: what components tell about themselves, and to whom.

A component tells its probe and nobody else, and only while the probe is `active`. Without observers a run
uses `NULL_PROBE`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

WAITS = (
    "activations",
    "weights",
    "output",
    "layer_barrier",
    "no_filters",
    "bus",
    "dram",
    "room",
    "finished",
)
"""Reasons to wait; `busy` is the one other state."""
STATES = ("busy", *WAITS)
NO_SPAN = -1
"""Number of no span at all, and of no transfer."""


class Probe(Protocol):
    """Receives what happens. Times are integer picoseconds; spans and transfers are numbered from 0."""

    active: bool
    """Whether anybody listens; looked at before every call."""

    def span(
        self,
        component: str,
        state: str,
        start_ps: int,
        end_ps: int,
        layer: str,
        transfer: int = NO_SPAN,
        cause: int = NO_SPAN,
        bits: int = 0,
    ) -> int:
        """`component` was, or will be, in `state` (one of STATES) for a time; returns the span's number.

        `transfer` is the off-chip transfer that it belongs to. `cause` is the span that ended a wait (the
        transfer engine's), or that a busy span is a part of (the dispatcher's, one a pass). `bits` moved.
        Spans of one link, or of one tile, do not overlap as long as one engine or cluster uses it.
        """

    def span_group(
        self, components: Sequence[str], state: str, start_ps: int, end_ps: int, layer: str, cause: int
    ) -> None:
        """Several components do the same at the same time: a span of each, in this order."""

    def counter(self, component: str, name: str, time_ps: int, value: float) -> None:
        """A quantity of a component (unit in its name) has a new value now."""

    def transfer(
        self,
        engine: str,
        what: str,
        layer: str,
        write: bool,
        address: int,
        size_bytes: int,
        raw_bits: int,
        time_ps: int,
        cause: int = NO_SPAN,
    ) -> int:
        """An engine sends an off-chip request now; returns its number.

        `what` is the kind of data ("weights", "activations"...), `raw_bits` what its values take
        uncompressed, `cause` the pass that made what is written.
        """

    def use(self, transfers: Sequence[int], span: int) -> None:
        """The pass `span` of a dispatcher is the first one of its cluster to need these transfers."""


class NullProbe:
    """Listens to nothing; the base of observers that want a part. They set `active`."""

    active = False

    def span(
        self,
        component: str,
        state: str,
        start_ps: int,
        end_ps: int,
        layer: str,
        transfer: int = NO_SPAN,
        cause: int = NO_SPAN,
        bits: int = 0,
    ) -> int:
        """Ignored."""
        return NO_SPAN

    def span_group(
        self, components: Sequence[str], state: str, start_ps: int, end_ps: int, layer: str, cause: int
    ) -> None:
        """One by one."""
        for component in components:
            self.span(component, state, start_ps, end_ps, layer, NO_SPAN, cause)

    def counter(self, component: str, name: str, time_ps: int, value: float) -> None:
        """Ignored."""

    def transfer(
        self,
        engine: str,
        what: str,
        layer: str,
        write: bool,
        address: int,
        size_bytes: int,
        raw_bits: int,
        time_ps: int,
        cause: int = NO_SPAN,
    ) -> int:
        """Ignored."""
        return NO_SPAN

    def use(self, transfers: Sequence[int], span: int) -> None:
        """Ignored."""


NULL_PROBE = NullProbe()


class Tag:
    """Whose bits are on the way: goes with a transfer, or the outputs of a pass, over links and converters.

    `start_ps` is when the transfer was sent.
    """

    __slots__ = ("cause", "layer", "probe", "start_ps", "transfer")

    def __init__(self, probe: Probe, layer: str, start_ps: int, transfer: int, cause: int) -> None:
        self.probe = probe
        self.layer = layer
        self.start_ps = start_ps
        self.transfer = transfer
        self.cause = cause

    def busy(self, component: str, start_ps: int, end_ps: int, bits: int) -> None:
        """Tell that a component is busy with them."""
        self.probe.span(component, "busy", start_ps, end_ps, self.layer, self.transfer, self.cause, bits)
