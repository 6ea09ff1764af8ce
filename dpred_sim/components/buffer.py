"""On-chip buffers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from dpred_sim.components.base import Component, register
from dpred_sim.components.probe import Probe
from dpred_sim.errors import InvariantBroken
from dpred_sim.topology import schema
from dpred_sim.topology.schema import Bits, Converter, Count, Stores


class BufferParameters(schema.Parameters):
    """What a topology file says of a buffer."""

    holds: Annotated[tuple[Literal["weights", "activations", "outputs"], ...], Field(min_length=1)] = Field(
        description="Kinds of data that the buffer holds."
    )
    size: Bits = Field(description="Capacity in stored bits.")
    banks: Count = Field(default=1, description="Banks that share the capacity.")
    port: Bits = Field(description="Bits that enter, and bits that leave, in one cycle.")
    stores: Stores = Field(default=Stores(), description="Encoding of what is held.")
    converter: Converter = Field(default=Converter(), description="Converter at the buffer's port.")

    @field_validator("holds")
    @classmethod
    def _once(cls, holds: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(holds)) != len(holds):
            raise PydanticCustomError("repeated", "the same kind of data twice")
        return holds


@register("buffer")
class Buffer(Component):
    """A buffer: capacity in stored bits, shared out as rooms.

    Buffers that hold the weights of one tile each are filled in lockstep and stand here as one, as full
    as the fullest of them.
    """

    kind = "buffer"
    Parameters = BufferParameters

    def __init__(self, name: str, parameters: BufferParameters, period_ps: int) -> None:
        self.name = name
        self.parameters = parameters
        self.capacity_bits = parameters.size
        self.port_bits = parameters.port
        self.period_ps = period_ps
        self.level_bits = 0
        self.peak_bits = 0
        self.read_bits = 0
        self.write_bits = 0

    def duration_ps(self, bits: int) -> int:
        """Time that the bits take through the port."""
        return -(-bits * self.period_ps // self.port_bits)

    def take(self, bits: int) -> None:
        """Occupy room; raises InvariantBroken when there is none (planning promised it)."""
        self.level_bits += bits
        if self.level_bits > self.peak_bits:
            self.peak_bits = self.level_bits
            if self.level_bits > self.capacity_bits:
                raise InvariantBroken(
                    f"{self.name} holds {self.level_bits} bit, more than its {self.capacity_bits}"
                )

    def give(self, bits: int) -> None:
        """Free room."""
        self.level_bits -= bits
        if self.level_bits < 0:
            raise InvariantBroken(f"{self.name} gives back more room than was taken")

    def tell_level(self, probe: Probe, time_ps: int) -> None:
        """Tell how full it is now."""
        probe.counter(self.name, "level_bits", time_ps, self.level_bits)


class Room:
    """A part of a buffer set aside for one purpose.

    Who wants room asks with `fits`; who was refused is called back by `on_give`.
    """

    __slots__ = ("buffer", "capacity_bits", "level_bits", "on_give")

    def __init__(self, buffer: Buffer, capacity_bits: int, on_give: Callable[[], None]) -> None:
        self.buffer = buffer
        self.capacity_bits = capacity_bits
        self.level_bits = 0
        self.on_give = on_give

    def fits(self, bits: int) -> bool:
        """Whether the bits fit now."""
        return self.level_bits + bits <= self.capacity_bits

    def take(self, bits: int) -> None:
        """Occupy room that fits."""
        self.level_bits += bits
        self.buffer.take(bits)

    def give(self, bits: int) -> None:
        """Free room, and tell whoever waits for it."""
        if bits:
            self.level_bits -= bits
            self.buffer.give(bits)
            self.on_give()
