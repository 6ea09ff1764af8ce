"""The trace of events: which are followed, how they are gathered from a run, and in words."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dpred_sim.components.probe import NO_SPAN, NullProbe, Probe
from dpred_sim.observe.groups import WAITS
from dpred_sim.observe.record.selection import Selection
from dpred_sim.simulation.safe_probe import guarded
from dpred_sim.simulation.snapshot import Event
from dpred_sim.units import format_bytes, format_time

DEFAULT_FOLLOWED = ("dma", "dispatcher", "post_processing")
"""Kinds whose events are shown when nobody says which: tiles do what their dispatcher does."""
KEPT = 256
"""Events kept: more than any terminal has rows."""


QUIET = frozenset(("layer_barrier", "no_filters", "finished"))
"""States that are events only of components that somebody names."""


class Followed:
    """The components whose events are shown: `kinds` by name, `hidden` states, the layers.

    Raises InputError for a name of nothing.
    """

    def __init__(self, tracks: Iterable[Mapping[str, Any]], selection: Selection) -> None:
        rows = [dict(row) for row in tracks]
        self.selection = selection
        chosen = selection
        if selection.components:
            chosen.tracks(rows)  # complains about names of nothing
        else:
            chosen = Selection(DEFAULT_FOLLOWED)
        self.kinds: dict[str, str] = {
            row["name"]: row["kind"]
            for row in rows
            if chosen.takes_component(row["name"], row["group"], row["kind"])
        }
        self.hidden = frozenset() if selection.components else QUIET


def selection_text(selection: Selection) -> str:
    """Whose events are followed, in words."""
    names = list(selection.components)
    if len(names) > 3:
        names = [names[0], "...", names[-1]]
    text = ", ".join(names) or "transfers, passes and waits"
    return f"{text} in {', '.join(selection.layers)}" if selection.layers else text


class Tap(NullProbe):
    """Keeps the last events of followed components while it is `listening`, and passes all on.

    What is told before it has happened is held back until it has. It only keeps what it is told, so it has
    nothing to fail at; who is behind it is guarded.
    """

    active = True
    guards_itself = True

    def __init__(self, behind: Probe | None = None) -> None:
        self._behind = None if behind is None else guarded(behind)
        self.listening = False
        self._bypass()
        self.seen = 0
        """Followed events that have happened, as of the last `settle`."""
        self._followed = Followed((), Selection())
        self._kinds = self._followed.kinds
        self._coming: list[tuple[int, int, Event]] = []
        self._recent: deque[Event] = deque(maxlen=KEPT)
        self._told = 0
        self._sent = 0
        self._transfers: dict[int, tuple[str, bool, int, int]] = {}
        self._layers: dict[str, bool] = {}

    def follow(self, followed: Followed) -> None:
        """Keep events of these from now on; those of others are forgotten."""
        self._followed = followed
        self._kinds = followed.kinds
        self._layers.clear()
        self._coming = [entry for entry in self._coming if entry[2].component in self._kinds]
        heapq.heapify(self._coming)
        self._recent.clear()

    def listen(self, on: bool) -> None:
        """Begin or end to keep events."""
        if on and not self.listening:
            self._transfers.clear()
        if on != self.listening:
            self.listening = on
            self._bypass()

    def _bypass(self) -> None:
        """Who is behind hears everything itself while nothing is to be kept here: that costs nothing."""
        for name in ("span", "span_group", "counter", "transfer", "use"):
            if self._behind is not None and not self.listening:
                setattr(self, name, getattr(self._behind, name))
            else:
                self.__dict__.pop(name, None)

    def settle(self, now_ps: int) -> int:
        """Let happen what ends by now; returns `seen`."""
        coming = self._coming
        while coming and coming[0][0] <= now_ps:
            self._recent.append(heapq.heappop(coming)[2])
            self.seen += 1
        return self.seen

    def recent(self, now_ps: int) -> tuple[Event, ...]:
        """The last events, oldest first."""
        self.settle(now_ps)
        return tuple(self._recent)

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
        """Keep it if it is followed."""
        self._keep(component, state, start_ps, end_ps, layer, transfer, bits)
        if self._behind is None:
            return NO_SPAN
        return self._behind.span(component, state, start_ps, end_ps, layer, transfer, cause, bits)

    def span_group(
        self, components: Sequence[str], state: str, start_ps: int, end_ps: int, layer: str, cause: int
    ) -> None:
        """Keep those that are followed."""
        for component in components:
            self._keep(component, state, start_ps, end_ps, layer, NO_SPAN, 0)
        if self._behind is not None:
            self._behind.span_group(components, state, start_ps, end_ps, layer, cause)

    def counter(self, component: str, name: str, time_ps: int, value: float) -> None:
        """Pass on."""
        if self._behind is not None:
            self._behind.counter(component, name, time_ps, value)

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
        """Remember what it carries: its spans name it by its number."""
        if self._behind is None:
            number = self._sent
            self._sent = number + 1
        else:
            number = self._behind.transfer(
                engine, what, layer, write, address, size_bytes, raw_bits, time_ps, cause
            )
        if self.listening:
            self._transfers[number] = (what, write, size_bytes, raw_bits)
            # Transfers take a bounded time: those sent long ago are over.
            self._transfers.pop(number - 4 * KEPT, None)
        return number

    def use(self, transfers: Sequence[int], span: int) -> None:
        """Pass on."""
        if self._behind is not None:
            self._behind.use(transfers, span)

    def _keep(
        self, component: str, state: str, start_ps: int, end_ps: int, layer: str, transfer: int, bits: int
    ) -> None:
        kind = self._kinds.get(component)
        if kind is None or state in self._followed.hidden or not self.listening or not self._takes(layer):
            return
        what, write, size, raw = self._transfers.get(transfer, ("", False, 0, 0))
        event = Event(component, kind, state, start_ps, end_ps, layer, bits, what, write, size, raw)
        self._told += 1
        heapq.heappush(self._coming, (end_ps, self._told, event))

    def _takes(self, layer: str) -> bool:
        takes = self._layers.get(layer)
        if takes is None:
            takes = self._layers[layer] = self._followed.selection.takes_layer(layer)
        return takes


def event_line(event: Event) -> str:
    """An event as one line: time, component, layer, what happened."""
    return f"{event.end_ps / 1e6:,.3f} us  {event.component}  {event.layer}  {event_text(event)}"


def event_text(event: Event) -> str:
    """What happened, in words."""
    took = format_time(event.end_ps - event.start_ps)
    if event.state == "no_filters":
        return f"idle {took}: no filters"
    if event.state != "busy":
        return f"waited {took} for {WAITS.get(event.state, event.state.replace('_', ' '))}"
    if event.what:
        verb = "wrote" if event.write else "read"
        what = event.what.replace("_", " ")
        if event.kind == "dma":
            return f"{verb} {event.stored_bytes:,} of {-(-event.raw_bits // 8):,} B {what} in {took}"
        verb = "converted" if event.kind == "converter" else "moved"
        return f"{verb} {format_bytes(event.bits / 8)} of {what} in {took}"
    if event.kind in ("dispatcher", "post_processing"):
        return f"pass of {took}, reads {format_bytes(event.bits / 8)}"
    if event.kind == "tile":
        return f"computed for {took}"
    return f"moved {format_bytes(event.bits / 8)} in {took}"
