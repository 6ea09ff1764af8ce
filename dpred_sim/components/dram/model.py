"""The DRAM channel as a timing model: levels of detail behind one interface.

`ideal` takes no time, `bandwidth` knows the peak and one latency, `banked` (the default) keeps bank state
a request at a time, `burst` schedules every burst. All times at the interface are integer picoseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, NamedTuple, Protocol

from dpred_sim.components.dram.mapping import Mapping
from dpred_sim.components.dram.standard import Standard
from dpred_sim.errors import InputError, nearest

LEVELS = ("ideal", "bandwidth", "banked", "burst")
"""Levels of detail, coarsest first."""

LOSSES = ("row_misses", "activate_windows", "column_spacing", "turns", "refresh", "idle")
"""Where time goes that moves no data; with `busy` it adds up to the elapsed time."""


class Served(NamedTuple):
    """When a request is served; its bits cross the data bus from `first_ps` to `end_ps`."""

    start_ps: int
    """First command that the request needs."""
    first_ps: int
    end_ps: int


@dataclass(slots=True)
class Statistics:
    """Counters of one channel since time 0."""

    read_bytes: int = 0
    write_bytes: int = 0
    read_requests: int = 0
    write_requests: int = 0
    read_bursts: int = 0
    write_bursts: int = 0
    row_hits: int = 0
    """Bursts that found their row open."""
    row_misses: int = 0
    """Bursts that found their bank closed."""
    row_conflicts: int = 0
    """Bursts that found another row open."""
    activates: int = 0
    precharges: int = 0
    refreshes: int = 0
    """All-bank refreshes, of each rank; per-bank ones where the standard says so."""
    background_precharged_ps: int = 0
    """All banks of a rank precharged. The three background times are summed over the ranks."""
    background_active_ps: int = 0
    """At least one row of a rank open; refreshes by bank fall in here or above."""
    background_refresh_ps: int = 0
    """A rank refreshed as a whole."""

    @property
    def bursts(self) -> int:
        """Bursts of both directions; a request that is not burst-aligned pays whole bursts."""
        return self.read_bursts + self.write_bursts

    def request(self, size_bytes: int, bursts: int, write: bool) -> None:
        """Count a request."""
        if write:
            self.write_bytes += size_bytes
            self.write_requests += 1
            self.write_bursts += bursts
        else:
            self.read_bytes += size_bytes
            self.read_requests += 1
            self.read_bursts += bursts

    def to_dict(self) -> dict[str, int]:
        """The counters as a flat dict."""
        return {name: getattr(self, name) for name in COUNTERS}


_FIELDS = list(Statistics.__dataclass_fields__)
COUNTERS = (*_FIELDS[:4], "bursts", *_FIELDS[4:])


def breakdown(tck_ps: Fraction, busy: int, losses: dict[str, int], end_ps: int) -> dict[str, int]:
    """Picoseconds by what the data bus did, from clocks; they add up to `end_ps`.

    What is left is idle; what was handed over beyond `end_ps` is taken off again.
    """
    parts = {"busy_ps": int(busy * tck_ps)}
    parts.update({f"{name}_ps": int(losses[name] * tck_ps) for name in LOSSES if name != "idle"})
    excess = sum(parts.values()) - end_ps
    for name in ("turns_ps", "refresh_ps", "row_misses_ps", "activate_windows_ps", "busy_ps"):
        if excess > 0:
            cut = min(excess, parts[name])
            parts[name] -= cut
            excess -= cut
    parts["idle_ps"] = end_ps - sum(parts.values())
    return parts


class ChannelModel(Protocol):
    """One channel. Calls come with `now_ps` that never falls."""

    standard: Standard
    bus_bits: int
    level: str
    burst_bytes: int
    capacity_bytes: int
    peak_bits_per_second: float
    peak_bytes_per_ps: float

    def serve(self, now_ps: int, address: int, size_bytes: int, write: bool) -> Served:
        """Serve one request that arrives at `now_ps`, behind those served before.

        `address` is the byte within the channel. `banked` may let it use slots that earlier requests
        left free.
        """

    def statistics(self, end_ps: int) -> Statistics:
        """Counters, as of `end_ps`."""

    def breakdown(self, end_ps: int) -> dict[str, int]:
        """Picoseconds from 0 to `end_ps` by what the data bus did: `busy_ps` and a `..._ps` for each of
        LOSSES. They add up to `end_ps` exactly."""


def make_model(
    standard: Standard,
    bus_bits: int | None = None,
    level: str = "banked",
    *,
    mapping: str | None = None,
    page: str = "open",
    refresh: str | None = None,
    **options: Any,
) -> ChannelModel:
    """A channel of `standard` on a bus of `bus_bits`.

    `mapping` is a string of address fields (see mapping.py), `page` is open or closed, `refresh` is
    all_bank, per_bank or none (default: what the standard says). Raises InputError.
    """
    if level not in LEVELS:
        raise InputError(
            f"unknown level{nearest(str(level), LEVELS)}", field="level", found=level, allowed=LEVELS
        )
    if page not in ("open", "closed"):
        raise InputError("unknown page policy", field="page", found=page, allowed=("open", "closed"))
    if refresh not in (None, "all_bank", "per_bank", "none"):
        raise InputError(
            "unknown refresh", field="refresh", found=refresh, allowed=("all_bank", "per_bank", "none")
        )
    width = bus_bits or standard.bus_bits
    standard.devices(width)
    if refresh == "per_bank" and not (standard.timing.tREFIpb and standard.timing.tRFCpb):
        raise InputError(
            f"{standard.name} states no per-bank refresh (tREFIpb, tRFCpb)", field="refresh", found=refresh
        )
    if level in ("ideal", "bandwidth"):
        Mapping(mapping, standard, width)  # not used, but wrong all the same
    if level == "ideal":
        return IdealModel(standard, width)
    if level == "bandwidth":
        return BandwidthModel(standard, width)
    chosen = refresh or standard.refresh
    if level == "burst":
        from dpred_sim.components.dram.burst import BurstModel

        return BurstModel(standard, width, mapping=mapping, page=page, refresh=chosen, **options)
    from dpred_sim.components.dram.banked import BankedModel

    return BankedModel(standard, width, mapping=mapping, page=page, refresh=chosen, **options)


class _Flat:
    """What `ideal` and `bandwidth` share: no banks, so every burst counts as a hit."""

    level = "ideal"

    def __init__(self, standard: Standard, bus_bits: int) -> None:
        self.standard = standard
        self.bus_bits = bus_bits
        self.burst_bytes = standard.burst_bytes(bus_bits)
        self.capacity_bytes = standard.capacity_bytes(bus_bits)
        self.peak_bits_per_second = standard.peak_bits_per_second(bus_bits)
        self.peak_bytes_per_ps = self.peak_bits_per_second / 8e12
        self._counters = Statistics()

    def _count(self, address: int, size_bytes: int, write: bool) -> int:
        bursts = (address + size_bytes - 1) // self.burst_bytes - address // self.burst_bytes + 1
        self._counters.request(size_bytes, bursts, write)
        self._counters.row_hits += bursts
        return bursts

    def statistics(self, end_ps: int) -> Statistics:
        """Counters; without banks all of the time is background with all of them precharged."""
        return replace(self._counters, background_precharged_ps=end_ps * self.standard.ranks)

    def breakdown(self, end_ps: int) -> dict[str, int]:
        """All of the time is idle."""
        return {"busy_ps": 0, **{f"{name}_ps": 0 for name in LOSSES}, "idle_ps": end_ps}


class IdealModel(_Flat):
    """No time, infinite bandwidth."""

    def serve(self, now_ps: int, address: int, size_bytes: int, write: bool) -> Served:
        """Served at once."""
        self._count(address, size_bytes, write)
        return Served(now_ps, now_ps, now_ps)


class BandwidthModel(_Flat):
    """The data bus at its peak, behind the latency of a closed bank (tRCD + CL)."""

    level = "bandwidth"

    def __init__(self, standard: Standard, bus_bits: int) -> None:
        super().__init__(standard, bus_bits)
        timing = standard.timing
        self.latency_ps = round((timing.tRCDRD + timing.CL) * standard.tck_ps)
        burst_ps = timing.nBL * standard.tck_ps
        self._numerator, self._denominator = burst_ps.numerator, burst_ps.denominator
        self._free = 0  # picoseconds times the denominator: no rounding adds up
        self._busy = 0

    def serve(self, now_ps: int, address: int, size_bytes: int, write: bool) -> Served:
        """In order, at peak bandwidth, `latency_ps` after the bus is free at the earliest."""
        bursts = self._count(address, size_bytes, write)
        denominator = self._denominator
        first = max(self._free, (now_ps + self.latency_ps) * denominator)
        length = bursts * self._numerator
        self._free = first + length
        self._busy += length
        return Served(now_ps, first // denominator, -(-self._free // denominator))

    def breakdown(self, end_ps: int) -> dict[str, int]:
        """Busy or idle."""
        ahead = max(0, self._free - end_ps * self._denominator)
        busy = min(end_ps, (self._busy - min(ahead, self._busy)) // self._denominator)
        return {"busy_ps": busy, **{f"{name}_ps": 0 for name in LOSSES}, "idle_ps": end_ps - busy}
