"""A workload: a network together with its tensors, and where both come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dpred_sim.errors import InputError
from dpred_sim.workload.network import Network


@dataclass(eq=False)
class Workload:
    """What one run computes.

    `source` says in one line where the values come from; `synthetic` marks values that are drawn, not
    captured, and is shown wherever results are. `provenance` holds hashes, versions, profile and
    tolerance, JSON-ready; it is part of what a run leaves.
    """

    name: str
    network: Network
    bits: int
    source: str
    synthetic: bool = False
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.network) == 0:
            raise InputError("the workload has no layers", field=f"workload {self.name!r}")

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that belong to every result of it, such as that its values are unprofiled."""
        return tuple(self.provenance.get("notes", ()))

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one input."""
        return sum(node.layer.macs for node in self.network)
