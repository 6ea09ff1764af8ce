"""DRAM standards as data: read from YAML, checked, and resolved to clocks.

A standard is one file in `standards/`, or any path: JEDEC names, a unit on every quantity, the source of
the values. Times in ns become clocks by the rounding rule of JESD79-4 (13.3): the quotient by tCK, less
2.5 %, rounded up. A list of two quantities is the larger of both, as the standards write them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpred_sim.errors import InputError, nearest
from dpred_sim.units import parse_bits, parse_quantity

if TYPE_CHECKING:
    from dpred_sim.components.dram.schema import StandardFile, TimingFile

FOLDER = Path(__file__).resolve().parent / "standards"
_GUARD = Fraction(25, 1000)


@dataclass(frozen=True, slots=True)
class Timing:
    """Timing of a standard in clocks (nCK), under the JEDEC names."""

    nBL: int
    """Clocks that a burst takes on the data bus."""
    CL: int
    CWL: int
    tRCDRD: int
    tRCDWR: int
    tRP: int
    tRAS: int
    tRC: int
    tCCD_S: int
    tCCD_L: int
    tCCD_L_WR: int
    """Writes in one bank group; as tCCD_L except in DDR5."""
    tRRD_S: int
    tRRD_L: int
    tFAW: int
    tWR: int
    tRTP: int
    tWTR_S: int
    tWTR_L: int
    tRTW: int
    """Read to write command, same rank."""
    tRTRS: int
    """Data bus bubble between two ranks."""
    tREFI: int
    tRFC: int
    tREFIpb: int
    """Per-bank refresh interval of the channel (one bank each); 0: no per-bank refresh."""
    tRFCpb: int


@dataclass(frozen=True, slots=True)
class Standard:
    """One DRAM standard, resolved: organisation of a device and timing in clocks.

    `page_bits` is the row of one device; a channel's page is that times the devices side by side.
    """

    name: str
    protocol: str
    source: str
    tck_ps: Fraction
    bus_bits: int
    """Width of a channel when nothing else is said."""
    device_bits: int
    density_bits: int
    bank_groups: int
    banks_per_group: int
    page_bits: int
    burst_length: int
    ranks: int
    mapping: str | None
    """Preferred address mapping; None: the package's default."""
    refresh: str
    """Preferred refresh: all_bank or per_bank."""
    timing: Timing
    file: str = field(default="", compare=False)

    @property
    def banks(self) -> int:
        """Banks of one rank."""
        return self.bank_groups * self.banks_per_group

    @property
    def rows(self) -> int:
        """Rows of one bank."""
        return self.density_bits // (self.banks * self.page_bits)

    def devices(self, bus_bits: int | None = None) -> int:
        """Devices side by side on a bus of that width; raises InputError when it is no multiple."""
        width = bus_bits or self.bus_bits
        if width <= 0 or width % self.device_bits:
            raise InputError(
                f"the bus of {self.name} is made of {self.device_bits}-bit devices",
                field="bus",
                found=f"{width} bit",
                allowed=f"multiples of {self.device_bits} bit",
                file=self.file or None,
            )
        return width // self.device_bits

    def page_bytes(self, bus_bits: int | None = None) -> int:
        """Bytes of one row over all devices of a channel."""
        return self.page_bits * self.devices(bus_bits) // 8

    def burst_bytes(self, bus_bits: int | None = None) -> int:
        """Bytes that one burst moves."""
        return (bus_bits or self.bus_bits) * self.burst_length // 8

    def capacity_bytes(self, bus_bits: int | None = None) -> int:
        """Bytes of one channel, all ranks."""
        return self.page_bytes(bus_bits) * self.rows * self.banks * self.ranks

    def peak_bits_per_second(self, bus_bits: int | None = None) -> float:
        """Bits a second with the data bus always busy."""
        burst = 8 * self.burst_bytes(bus_bits)
        return float(burst * 10**12 / (self.timing.nBL * self.tck_ps))

    def with_ranks(self, ranks: int) -> Standard:
        """The same devices with another number of ranks on the bus."""
        if ranks < 1 or ranks & (ranks - 1):
            raise InputError("ranks are a power of two", field="ranks", found=ranks)
        return replace(self, ranks=ranks)


def standard_names() -> list[str]:
    """Names of the standards that come with the package, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_standard(reference: str | Path, relative_to: Path | None = None) -> Standard:
    """The standard that a name ("DDR4-3200") or a path (a slash or .yaml in it) means.

    Raises InputError with file, line and field for a file that is not a standard.
    """
    text = str(reference)
    if isinstance(reference, Path) or "/" in text or text.endswith((".yaml", ".yml")):
        path = Path(text) if relative_to is None else relative_to / text
        if not path.is_file():
            raise InputError("no such DRAM standard file", file=path)
    else:
        path = FOLDER / f"{text}.yaml"
        if not path.is_file():
            names = standard_names()
            raise InputError(
                f"unknown DRAM standard{nearest(text, names)}", found=text, allowed=[*names, "or a path"]
            )
    return _load(path, path.stat().st_mtime_ns)


@cache
def _load(path: Path, _version: int) -> Standard:
    from dpred_sim.components.dram.schema import read_standard_file

    return resolve(read_standard_file(path), path)


def resolve(document: StandardFile, path: Path | None = None) -> Standard:
    """A checked file, with its quantities turned into clocks, bits and picoseconds."""
    organisation, timing = document.organisation, document.timing
    tck = parse_quantity(timing.tCK, "time").value
    if tck <= 0:
        raise InputError("the clock period must be positive", field="timing.tCK", file=path)
    burst = organisation.burst_length // organisation.transfers_per_clock
    if burst * organisation.transfers_per_clock != organisation.burst_length or burst < 1:
        raise InputError(
            "a burst must take whole clocks",
            field="organisation.burst_length",
            found=organisation.burst_length,
            allowed=f"multiples of transfers_per_clock ({organisation.transfers_per_clock})",
            file=path,
        )
    standard = Standard(
        name=document.name,
        protocol=document.protocol,
        source=document.source,
        tck_ps=tck,
        bus_bits=parse_bits(organisation.bus),
        device_bits=parse_bits(organisation.device_width),
        density_bits=parse_bits(organisation.density),
        bank_groups=organisation.bank_groups,
        banks_per_group=organisation.banks_per_group,
        page_bits=parse_bits(organisation.page),
        burst_length=organisation.burst_length,
        ranks=organisation.ranks,
        mapping=document.mapping,
        refresh=document.refresh,
        timing=_timing(timing, _Clocks(tck), burst),
        file="" if path is None else str(path),
    )
    _check(standard, path)
    return standard


def _timing(timing: TimingFile, clocks: _Clocks, burst: int) -> Timing:
    """All timing in clocks; what a file leaves out follows from the rest."""
    get, optional = clocks.of, clocks.optional
    read_latency, write_latency = get(timing.CL), get(timing.CWL)
    rcd_read = optional(timing.tRCDRD or timing.tRCD, 0)
    rcd_write = optional(timing.tRCDWR or timing.tRCD, rcd_read)
    ras, rp = get(timing.tRAS), get(timing.tRP)
    ccd_s = max(burst, get(timing.tCCD_S))
    ccd_l = max(ccd_s, optional(timing.tCCD_L, ccd_s))
    wtr_s, rrd_s = get(timing.tWTR_S), get(timing.tRRD_S)
    return Timing(
        nBL=burst,
        CL=read_latency,
        CWL=write_latency,
        tRCDRD=rcd_read,
        tRCDWR=rcd_write,
        tRP=rp,
        tRAS=ras,
        tRC=optional(timing.tRC, ras + rp),
        tCCD_S=ccd_s,
        tCCD_L=ccd_l,
        tCCD_L_WR=max(ccd_s, optional(timing.tCCD_L_WR, ccd_l)),
        tRRD_S=rrd_s,
        tRRD_L=optional(timing.tRRD_L, rrd_s),
        tFAW=get(timing.tFAW),
        tWR=get(timing.tWR),
        tRTP=get(timing.tRTP),
        tWTR_S=wtr_s,
        tWTR_L=optional(timing.tWTR_L, wtr_s),
        tRTW=optional(timing.tRTW, read_latency + burst + 2 - write_latency),
        tRTRS=get(timing.tRTRS),
        tREFI=get(timing.tREFI),
        tRFC=get(timing.tRFC),
        tREFIpb=optional(timing.tREFIpb, 0),
        tRFCpb=optional(timing.tRFCpb, 0),
    )


class _Clocks:
    """Turns quantities into clocks of one period."""

    def __init__(self, tck_ps: Fraction) -> None:
        self.tck_ps = tck_ps

    def of(self, quantity: str | list[str]) -> int:
        if isinstance(quantity, list):
            return max(self.of(one) for one in quantity)
        parsed = parse_quantity(quantity, "time", "cycles")
        if parsed.dimension == "cycles":
            return ceil(parsed.value)
        return max(0, ceil(parsed.value / self.tck_ps - _GUARD))

    def optional(self, quantity: Any, default: int) -> int:
        return default if quantity is None else self.of(quantity)


def _check(standard: Standard, path: Path | None) -> None:
    """Shape: powers of two where addresses need them, intervals that leave time for data."""
    timing = standard.timing
    whole = {
        "organisation.bank_groups": standard.bank_groups,
        "organisation.banks_per_group": standard.banks_per_group,
        "organisation.ranks": standard.ranks,
        "organisation.page": standard.page_bits,
        "organisation.burst_length": standard.burst_length,
        "organisation.device_width": standard.device_bits,
    }
    for name, value in whole.items():
        if value < 1 or value & (value - 1):
            raise InputError("must be a power of two", field=name, found=value, file=path)
    if standard.density_bits % (standard.banks * standard.page_bits) or standard.rows < 1:
        raise InputError(
            "the density is not a whole number of rows",
            field="organisation.density",
            found=f"{standard.density_bits} bit",
            allowed=f"multiples of {standard.banks * standard.page_bits} bit",
            file=path,
        )
    if standard.page_bits < standard.device_bits * standard.burst_length:
        raise InputError("a page is shorter than a burst", field="organisation.page", file=path)
    standard.devices()
    limits = [
        ("timing.tRAS", timing.tRAS, min(timing.tRCDRD, timing.tRCDWR)),
        ("timing.tRC", timing.tRC, timing.tRAS),
        ("timing.tFAW", timing.tFAW, timing.tRRD_S),
        ("timing.tRRD_L", timing.tRRD_L, timing.tRRD_S),
        ("timing.tWTR_L", timing.tWTR_L, timing.tWTR_S),
        ("timing.tREFI", timing.tREFI, timing.tRFC + timing.tRP + timing.tRCDRD),
        ("timing.tRTW", timing.tRTW + timing.CWL, timing.CL + timing.nBL),
    ]
    for name, value, least in limits:
        if value < least:
            raise InputError(
                "too short for the other timings",
                field=name,
                found=value,
                allowed=f">= {least} nCK",
                file=path,
            )
    if standard.refresh == "per_bank" and not (timing.tRFCpb and timing.tREFIpb):
        raise InputError("per-bank refresh needs tRFCpb and tREFIpb", field="refresh", file=path)
