"""The registry of component kinds.

A component kind is a class with a `kind`, a `Parameters` model (the fields of a node of that kind in a
topology file) and whatever the simulation needs of it. One file a kind, registered by its decorator; a
folder registers what its `__init__` imports.
"""

from __future__ import annotations

from typing import Any, ClassVar

from dpred_sim.registry import Registry
from dpred_sim.topology import schema


class Component:
    """Base of all component kinds."""

    kind: ClassVar[str]
    Parameters: ClassVar[type[schema.Parameters]]


KINDS: Registry[type[Any]] = Registry("component kind", "dpred_sim.components", "dpred_sim.components")
register = KINDS.register


def kinds() -> dict[str, type[schema.Parameters]]:
    """The parameters of every component kind by its name, sorted."""
    return {name: KINDS.get(name).Parameters for name in KINDS.names()}
