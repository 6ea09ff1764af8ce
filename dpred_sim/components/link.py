"""Links, buses and broadcasts, and the ways made of them.

A link is a serial resource with a next free time: bits enter at its width and arrive a latency later.
Transfers are cut-through: a link passes bits on as they come, so a way takes the time of its slowest
part plus the latencies. A bus has one arbiter whatever its ends; a broadcast reaches all its ends with
one transfer.
"""

from __future__ import annotations

from collections.abc import Sequence

from dpred_sim.components.probe import Tag
from dpred_sim.topology.graph import Link as LinkDescription


class Link:
    """One link; `width_bits` None is unlimited."""

    __slots__ = (
        "bits",
        "busy_ps",
        "free_ps",
        "latency_ps",
        "medium",
        "name",
        "period_ps",
        "targets",
        "targets",
        "transfers",
        "width_bits",
    )

    def __init__(self, description: LinkDescription, period_ps: int) -> None:
        self.name = description.name
        self.medium = description.medium
        self.targets = description.targets
        self.width_bits = description.width_bits
        self.period_ps = period_ps
        self.latency_ps = 0 if description.width_bits is None else description.latency_cycles * period_ps
        self.free_ps = 0
        self.busy_ps = 0
        self.bits = 0
        self.transfers = 0

    def duration_ps(self, bits: int) -> int:
        """Time that the bits take to enter."""
        if self.width_bits is None:
            return 0
        return -(-bits * self.period_ps // self.width_bits)

    def send(self, first_ps: int, last_ps: int, bits: int, tag: Tag | None = None) -> int:
        """Send bits that come between two times; returns when the last one arrives."""
        duration = self.duration_ps(bits)
        end = max(self.free_ps, first_ps) + duration
        self.free_ps = end
        self.busy_ps += duration
        self.bits += bits
        self.transfers += 1
        if tag is not None:
            tag.busy(self.name, end - duration, end, bits)
        return max(end, last_ps) + self.latency_ps

    def occupy(self, bits: int) -> None:
        """Count bits whose time is charged elsewhere (passes read and broadcast cut-through)."""
        self.bits += bits
        self.transfers += 1
        self.busy_ps += self.duration_ps(bits)


class Path:
    """The links from one component to another, in order."""

    __slots__ = ("latency_ps", "links")

    def __init__(self, links: Sequence[Link]) -> None:
        self.links = tuple(links)
        self.latency_ps = sum(link.latency_ps for link in links)

    def send(self, first_ps: int, last_ps: int, bits: int, tag: Tag | None = None) -> int:
        """Send bits along all links; returns when the last one arrives."""
        for link in self.links:
            last_ps = link.send(first_ps, last_ps, bits, tag)
            first_ps += link.latency_ps
        return last_ps

    def duration_ps(self, bits: int) -> int:
        """Time of the narrowest link."""
        return max((link.duration_ps(bits) for link in self.links), default=0)

    def occupy(self, bits: int) -> None:
        """Count bits on every link."""
        for link in self.links:
            link.occupy(bits)


class Converters:
    """Units that pack or unpack groups at the port of a memory.

    Throughput in groups, as a serial resource: what is not converted yet holds up what follows.
    """

    __slots__ = ("busy_ps", "free_ps", "groups", "latency_ps", "name", "per_cycle", "period_ps")

    def __init__(self, name: str, groups_per_cycle: int, latency_cycles: int, period_ps: int) -> None:
        self.name = name
        self.per_cycle = groups_per_cycle
        self.latency_ps = latency_cycles * period_ps
        self.period_ps = period_ps
        self.free_ps = 0
        self.busy_ps = 0
        self.groups = 0

    def convert(
        self, first_ps: int, last_ps: int, groups: int, tag: Tag | None = None, raw_bits: int = 0
    ) -> int:
        """Convert groups that come between two times; returns when the last one leaves."""
        duration = -(-groups * self.period_ps // self.per_cycle)
        end = max(self.free_ps, first_ps) + duration
        self.free_ps = end
        self.busy_ps += duration
        self.groups += groups
        if tag is not None:
            tag.busy(self.name, end - duration, end, raw_bits)
        return max(end, last_ps) + self.latency_ps
