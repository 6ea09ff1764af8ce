"""Components as a view shows them: identical instances folded into one line, states in words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from dpred_sim.simulation.snapshot import ComponentState
from dpred_sim.units import format_bytes

LINKS = ("point", "bus", "broadcast")
PASSIVE = (*LINKS, "dram_channel", "buffer", "converter", "dma")
"""Kinds that nothing keeps from working: somebody asks them, or nobody does."""
_INSTANCE = re.compile(r"\.\d+(?=$|\.|->)")
_ORDER = ("dram_channel", "dma", "buffer", "dispatcher", "tile", "post_processing", "converter")

WAITS = {
    "activations": "activations",
    "weights": "weights",
    "output": "output room",
    "layer_barrier": "next layer",
    "bus": "output bus",
    "dram": "partial sums",
    "room": "room",
}
"""What is waited for, by state."""


@dataclass(frozen=True, slots=True)
class Group:
    """Identical instances as one line."""

    name: str
    kind: str
    members: tuple[ComponentState, ...]

    @property
    def is_link(self) -> bool:
        """Whether it is a link, bus or broadcast."""
        return self.kind in LINKS

    @property
    def busy_fraction(self) -> float:
        """Mean of the members."""
        return sum(member.busy_fraction for member in self.members) / len(self.members)

    @property
    def states(self) -> Counter[str]:
        """Members by state."""
        return Counter(member.state for member in self.members)

    @property
    def level_bits(self) -> int | None:
        """What the members hold together; None for what holds nothing."""
        levels = [member.level_bits for member in self.members if member.level_bits is not None]
        return sum(levels) if levels else None

    @property
    def capacity_bits(self) -> int | None:
        """What the members can hold."""
        sizes = [member.capacity_bits for member in self.members if member.capacity_bits is not None]
        return sum(sizes) if sizes else None

    @property
    def in_flight_bytes(self) -> int | None:
        """What transfer engines have under way."""
        found = [member.in_flight_bytes for member in self.members if member.in_flight_bytes is not None]
        return sum(found) if found else None

    @property
    def share(self) -> float:
        """How full a buffer is, how busy anything else has been."""
        level, capacity = self.level_bits, self.capacity_bits
        return level / capacity if level is not None and capacity else self.busy_fraction

    @property
    def waits_on(self) -> str:
        """Who can end the wait of most of the members."""
        found = Counter(member.waits_on for member in self.members if member.waits_on)
        return found.most_common(1)[0][0] if found else ""

    @property
    def waits_ps(self) -> Counter[str]:
        """Waits by reason, all members together."""
        waits: Counter[str] = Counter()
        for member in self.members:
            waits.update(member.waits_ps)
        return waits


def fold(components: Sequence[ComponentState]) -> list[Group]:
    """Instances that differ only in their numbers as one group each, in the order of the data's way.

    Links come last, the busiest first.
    """
    members: dict[tuple[str, str], list[ComponentState]] = {}
    for component in components:
        pattern = _INSTANCE.sub("[*]", component.name)
        members.setdefault((pattern, component.kind), []).append(component)
    groups = [
        Group(found[0].name if len(found) == 1 else f"{pattern} x{len(found)}", kind, tuple(found))
        for (pattern, kind), found in members.items()
    ]
    return sorted(groups, key=_place)


def _place(group: Group) -> tuple[int, float]:
    if group.is_link:
        return len(_ORDER) + 1, -group.busy_fraction
    return _ORDER.index(group.kind) if group.kind in _ORDER else len(_ORDER), 0.0


def state_text(group: Group) -> str:
    """`busy`, `waits for weights from weight_dma`, or for several `12 busy, 4 wait for weights`."""
    level, capacity, flight = group.level_bits, group.capacity_bits, group.in_flight_bytes
    if level is not None and capacity:
        held, size = format_bytes(level / 8), format_bytes(capacity / 8)
        if held.rpartition(" ")[2] == size.rpartition(" ")[2]:
            held = held.rpartition(" ")[0]
        return f"holds {held} of {size}"
    ordered = sorted(group.states.items(), key=lambda item: (-item[1], item[0]))
    if len(ordered) > 1:
        texts = [(count, _state(state, group.kind)) for state, count in ordered]
        return ", ".join(
            f"{count} {text.replace('waits', 'wait') if count > 1 else text}" for count, text in texts
        )
    state, whom = ordered[0][0], group.waits_on
    if state == "room":
        return f"waits for room in {whom}" if whom else "waits for room"
    if state == "busy" and flight is not None:
        return f"{format_bytes(flight)} in flight"
    text = _state(state, group.kind)
    return f"{text} from {whom}" if whom and state in ("weights", "activations", "dram") else text


def _state(state: str, kind: str) -> str:
    if state in ("busy", "finished"):
        return state
    if state == "no_filters":
        return "idle: no filters"
    if kind in PASSIVE and state != "room":
        return "idle"
    return f"waits for {WAITS.get(state, state.replace('_', ' '))}"


def state_style(group: Group) -> str:
    """Colour of the state: at work, waiting, or out of it."""
    if group.capacity_bits:
        return ""
    state = group.states.most_common(1)[0][0]
    if state == "busy":
        return "green"
    idle = state in ("finished", "no_filters") or (group.kind in PASSIVE and state != "room")
    return "bright_black" if idle else "yellow"


def waits_text(group: Group, elapsed_ps: int) -> str:
    """Where the time went, largest part first: `weights 12%, next layer 3%`."""
    total = max(1, elapsed_ps) * len(group.members)
    parts = [
        f"{WAITS.get(reason, reason.replace('_', ' '))} {ps / total:.0%}"
        for reason, ps in group.waits_ps.most_common()
        if ps / total >= 0.005
    ]
    return ", ".join(parts)
