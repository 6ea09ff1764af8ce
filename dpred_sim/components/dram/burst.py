"""The `burst` level: every burst by itself; see first_ready.py for how they are scheduled."""

from __future__ import annotations

from dataclasses import replace

from dpred_sim.components.dram.background import background
from dpred_sim.components.dram.banks import NEVER
from dpred_sim.components.dram.controller import BANK_QUEUE, QUEUE, Request
from dpred_sim.components.dram.first_ready import Burst, FirstReady, Job
from dpred_sim.components.dram.mapping import Mapping
from dpred_sim.components.dram.model import Served, Statistics, breakdown
from dpred_sim.components.dram.standard import Standard
from dpred_sim.errors import InputError


class BurstModel:
    """One channel at the `burst` level: a model and its own controller; see model.ChannelModel."""

    level = "burst"

    def __init__(
        self,
        standard: Standard,
        bus_bits: int,
        *,
        mapping: str | None = None,
        page: str = "open",
        refresh: str = "all_bank",
        queue: int = QUEUE,
        bank_queue: int = BANK_QUEUE,
    ) -> None:
        if queue < 1 or bank_queue < 0:
            raise InputError("a queue holds at least one burst", field="queue", found=queue)
        self.standard = standard
        self.bus_bits = bus_bits
        self.burst_bytes = standard.burst_bytes(bus_bits)
        self.capacity_bytes = standard.capacity_bytes(bus_bits)
        self.peak_bits_per_second = standard.peak_bits_per_second(bus_bits)
        self.peak_bytes_per_ps = self.peak_bits_per_second / 8e12
        self.mapping = Mapping(mapping, standard, bus_bits)
        self._schedule = FirstReady(
            standard, closed_page=page == "closed", refresh=refresh, queue=queue, bank_queue=bank_queue
        )
        self._timing = standard.timing
        self._tck = standard.tck_ps
        self._numerator, self._denominator = standard.tck_ps.numerator, standard.tck_ps.denominator
        self._number = 0

    def submit(self, now_ps: int, request: Request) -> None:
        """Queue a request; its bursts enter in the order of arrival."""
        self._enter(now_ps, request)

    def _enter(self, now_ps: int, request: Request) -> Job:
        clock = -(-now_ps * self._denominator // self._numerator)
        first = request.address // self.burst_bytes
        count = (request.address + request.size_bytes - 1) // self.burst_bytes - first + 1
        self._schedule.counters.request(request.size_bytes, count, request.write)
        job = Job(request, count)
        bursts = []
        for number in range(first, first + count):
            place = self.mapping.locate(number)
            self._number += 1
            bursts.append(Burst(place.flat_bank, place.row, request.write, clock, self._number, job))
        self._schedule.enter(bursts, clock)
        return job

    def advance(self, now_ps: int) -> list[Request]:
        """Schedule up to now; returns the requests whose last burst was issued."""
        schedule = self._schedule
        schedule.run(now_ps * self._denominator // self._numerator)
        if not schedule.done:
            return []
        done = []
        for job in schedule.done:
            request = job.request
            request.end_ps = self._to_ps(job.end)
            request.accepted_ps = max(request.arrival_ps, self._to_ps(job.accepted))
            done.append(request)
        schedule.done.clear()
        return done

    @property
    def wake_ps(self) -> int | None:
        """The next clock at which a command may go."""
        return self._to_ps(self._schedule.next) if self._schedule.pending else None

    def serve(self, now_ps: int, address: int, size_bytes: int, write: bool) -> Served:
        """Serve one request alone; see model.ChannelModel."""
        schedule = self._schedule
        job = self._enter(now_ps, Request(now_ps, address, size_bytes, write))
        schedule.flush = True
        while schedule.pending:
            schedule.run(schedule.next)
        schedule.flush = False
        schedule.done.clear()
        return Served(self._to_ps(job.start), self._to_ps(job.first), self._to_ps(job.end))

    def _to_ps(self, clock: int) -> int:
        return -(-clock * self._numerator // self._denominator)

    def statistics(self, end_ps: int) -> Statistics:
        """Counters of all bursts issued; refreshes as of `end_ps`."""
        schedule = self._schedule
        clock = int(end_ps / self._tck)
        idle = sum((clock - due) // schedule.period + 1 for due in schedule.due if due <= clock < NEVER)
        active, refreshing = schedule.background(clock)
        refreshes = schedule.counters.refreshes + idle
        return replace(
            schedule.counters,
            refreshes=refreshes,
            **background(self._tck, self.standard.ranks, active, refreshing, end_ps),
        )

    def breakdown(self, end_ps: int) -> dict[str, int]:
        """Time by what the data bus did; see model.ChannelModel."""
        schedule = self._schedule
        counters = schedule.counters
        bursts = counters.row_hits + counters.row_misses + counters.row_conflicts
        busy = bursts * self._timing.nBL
        return breakdown(self._tck, busy, schedule.losses, end_ps)
