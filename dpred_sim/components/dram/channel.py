"""The DRAM channel as a component of a simulation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from simpy.core import Environment
from simpy.events import NORMAL, Event

from dpred_sim.components.base import Component, register
from dpred_sim.components.dram.controller import Controller, Request, make_controller
from dpred_sim.components.dram.model import ChannelModel, Statistics, make_model
from dpred_sim.components.dram.standard import Standard, load_standard
from dpred_sim.components.probe import NULL_PROBE, Probe
from dpred_sim.topology import schema
from dpred_sim.topology.schema import Bits, Converter, Stores


class DramParameters(schema.Parameters):
    """What a topology file says of one DRAM channel."""

    standard: Annotated[str, Field(strict=True, min_length=1)] = Field(
        description="Name of a DRAM standard, or path of a standard file."
    )
    bus: Bits | None = Field(
        default=None, description="Width of the data bus; default: the standard's channel."
    )
    ranks: Annotated[int, Field(strict=True, ge=1, le=64)] | None = Field(
        default=None, description="Ranks on the channel; default: the standard's."
    )
    level: Literal["ideal", "bandwidth", "banked", "burst"] = Field(
        default="banked", description="Level of detail."
    )
    mapping: Annotated[str, Field(strict=True)] | None = Field(
        default=None, description="Address fields from the highest, such as 'ro ra ba co bg'."
    )
    page: Literal["open", "closed"] = Field(default="open", description="Rows stay open, or close after use.")
    refresh: Literal["all_bank", "per_bank", "none"] | None = Field(
        default=None, description="Kind of refresh; default: the standard's."
    )
    window: Bits | None = Field(
        default=None,
        description="Requests under way ahead of the data bus; default 32 bursts and 8 a bank (assumption).",
    )
    write_high: Bits | None = Field(
        default=None, description="Waiting writes that start a batch; default 32 bursts (assumption)."
    )
    write_low: Bits | None = Field(
        default=None, description="Waiting writes at which a batch ends; default none."
    )
    stores: Stores = Field(default=Stores(), description="Encoding of what is held.")
    converter: Converter = Field(default=Converter(), description="Converter at the channel's port.")


class _Completion(Event):
    """Fires when a request is over."""

    __slots__ = ("end_ps", "request")

    def __init__(
        self, env: Environment, request: Request, callback: Callable[[Event], None], now: int, end_ps: int
    ) -> None:
        self.env = env
        self.callbacks = [callback]
        self._value = None
        self._ok = True
        self._defused = False
        self.request = request
        self.end_ps = end_ps
        env.schedule(self, NORMAL, end_ps - now)


SAMPLE_REQUESTS = 32
"""Requests between two times that a channel tells where its time went."""


@register("dram_channel")
class DramChannel(Component):
    """One DRAM channel: queues, banks, data bus. Simulated time is in integer picoseconds.

    `standard` is a name, a path or a `Standard`; other options as `make_model` and `make_controller` take
    them.
    """

    kind = "dram_channel"
    Parameters = DramParameters

    def __init__(
        self,
        env: Environment,
        name: str,
        *,
        standard: str | Path | Standard,
        bus_bits: int | None = None,
        level: str = "banked",
        mapping: str | None = None,
        page: str = "open",
        refresh: str | None = None,
        **controller: Any,
    ) -> None:
        self.env = env
        self.name = name
        loaded = standard if isinstance(standard, Standard) else load_standard(standard)
        self.model: ChannelModel = make_model(
            loaded, bus_bits, level, mapping=mapping, page=page, refresh=refresh
        )
        self.controller: Controller = make_controller(self.model, **controller)
        self._wake_at: int | None = None
        """When the controller wants to be woken, if an event for it is under way."""
        self._advanced = False
        """Since a request is over, the next were looked at."""
        self.pending = 0
        """Requests submitted and not done."""
        self.probe: Probe = NULL_PROBE
        self._finished = 0
        self.recorder: Callable[[int, int, int, bool], None] | None = None
        """Called with time, address, size and direction of every request (see traces.TraceWriter)."""
        self._finish_callback = self._finish

    @classmethod
    def from_parameters(
        cls, env: Environment, name: str, parameters: DramParameters, folder: Path | None = None
    ) -> DramChannel:
        """The channel that a topology file describes; `folder` is where the file lies."""
        standard = load_standard(parameters.standard, relative_to=folder)
        if parameters.ranks is not None:
            standard = standard.with_ranks(parameters.ranks)
        sizes = {
            "window_bytes": parameters.window,
            "write_high_bytes": parameters.write_high,
            "write_low_bytes": parameters.write_low,
        }
        return cls(
            env,
            name,
            standard=standard,
            bus_bits=parameters.bus,
            level=parameters.level,
            mapping=parameters.mapping,
            page=parameters.page,
            refresh=parameters.refresh,
            **{key: -(-bits // 8) for key, bits in sizes.items() if bits is not None},
        )

    def submit(
        self,
        address: int,
        size_bytes: int,
        write: bool,
        done: Callable[[int], None],
        carry: Callable[[int], int] | None = None,
    ) -> None:
        """Queue a request now; `done(now_ps)` is called by an event at its end.

        `address` is the byte within the channel; `size_bytes` is at least 1. Its end is when its last
        bit has crossed the data bus, or the later time that `carry` makes of that: what follows on the
        way (links, converters) then needs no event of its own. `carry` is called in the order in which
        requests are handed to the data bus.
        """
        now = int(self.env.now)
        self.pending += 1
        if self.recorder is not None:
            self.recorder(now, address, size_bytes, write)
        self.controller.submit(now, Request(now, address, size_bytes, write, done, carry))
        self._advance(now)

    def _advance(self, now: int) -> None:
        controller = self.controller
        self._advanced = True
        for request in controller.advance(now):
            end = request.end_ps if request.carry is None else request.carry(request.end_ps)
            _Completion(self.env, request, self._finish_callback, now, end)
        wake = controller.wake_ps
        if wake is not None and (self._wake_at is None or wake < self._wake_at):
            self._wake_at = wake
            event = self.env.timeout(max(0, wake - now))
            event.callbacks.append(self._wake)

    def _wake(self, event: Event) -> None:
        now = int(self.env.now)
        if self._wake_at is not None and self._wake_at <= now:
            self._wake_at = None
            self._advance(now)

    def _finish(self, event: Event) -> None:
        assert type(event) is _Completion
        now = event.end_ps
        self.pending -= 1
        if self.probe.active:
            self._tell(now)
        self._advanced = False
        event.request.token(now)
        if not self._advanced:
            self._advance(now)

    def _tell(self, now: int) -> None:
        self.probe.counter(self.name, "pending_requests", now, self.pending)
        self._finished += 1
        if self._finished % SAMPLE_REQUESTS == 0:
            for name, value in self.breakdown(now).items():
                self.probe.counter(self.name, name, now, value)

    def statistics(self, end_ps: int) -> Statistics:
        """Counters as of `end_ps`."""
        return self.model.statistics(end_ps)

    def breakdown(self, end_ps: int) -> dict[str, int]:
        """Picoseconds by what the data bus did; adds up to `end_ps`."""
        return self.model.breakdown(end_ps)
