"""The codec contract: how values become bits, and how many.

A codec turns a tensor into one container. Sizes come from whole-array arithmetic (`group_bits`) and
equal what `encode` packs, bit for bit. Groups run along the container in C order, so the size of any
slice is a difference of prefix sums over `group_bits`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from dpred_sim.registry import Registry
from dpred_sim.values.tensor import Tensor, TensorSource

Role = Literal["weights", "activations"]
Variants = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Encoded:
    """A container: `payload` holds `size_bits` bits, most significant first, padded to a byte.

    The format (`shape`, `bits`, `signed`, `precision`) is the layer descriptor's business, not part
    of the payload.
    """

    payload: bytes
    size_bits: int
    shape: tuple[int, ...]
    bits: int
    signed: bool
    precision: int


class Codec(ABC):
    """Base of all codecs. Subclasses are dataclasses whose fields are the parameters."""

    group_size: int = 16
    rank: ClassVar[int] = 100
    """Place in comparisons, lowest first."""
    swept: ClassVar[bool] = False
    """Whether comparisons show it at several group sizes, not at the default one alone."""
    variants: ClassVar[Variants] = {"": {}}
    """What comparisons show: parameters by a word that tells them apart."""

    @abstractmethod
    def encode(self, x: Tensor) -> Encoded:
        """Pack the values."""

    @abstractmethod
    def decode(self, encoded: Encoded) -> Tensor:
        """Unpack; `decode(encode(x))` equals x. Raises InputError for a damaged container."""

    @abstractmethod
    def group_bits(self, x: TensorSource) -> NDArray[np.int32]:
        """Bits of the container that each group adds.

        Shape (..., groups a run): x.shape[:-1] + (ceil(C / group_size),) where a run is one position's
        channels; fewer axes where runs are longer (see `values.widths.layout`). A container that holds
        only the leading groups of a tensor is as long as their sum, plus `header_bits`.
        """

    def header_bits(self, x: TensorSource) -> int:
        """Bits at the head of each container, whatever its values."""
        return 0

    def size_bits(self, x: TensorSource) -> int:
        """Length of the container: equals `encode(x).size_bits`, without packing."""
        return self.header_bits(x) + int(self.group_bits(x).sum(dtype=np.int64))

    def chosen_for(self, x: TensorSource, role: Role) -> Codec:
        """The codec with whatever it leaves open decided for one tensor in one role."""
        return self

    def learned(self, others: Sequence[TensorSource]) -> Codec:
        """The codec with what it decides offline decided on the same tensor of other inputs."""
        return self

    def needs_hindsight(self, role: Role) -> bool:
        """Whether sizes in this role rest on knowing the very values before they are made."""
        return False


CODECS: Registry[type[Codec]] = Registry("codec", "dpred_sim.codecs", "dpred_sim.codecs")
register = CODECS.register


def codec(name: str, **parameters: Any) -> Codec:
    """A codec by name, such as `codec("dpred", group_size=16, mode="plain")`.

    Raises InputError for an unknown name or parameter, or a value that is not allowed.
    """
    made: Codec = CODECS.create(name, parameters)
    return made
