"""The registry of component kinds.

A component kind is a class with a `kind`, a `Parameters` model (the fields of a node of that kind in a
topology file) and whatever the simulation needs of it. One file a kind, registered by its decorator.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any, ClassVar

from dpred_sim.registry import Registry
from dpred_sim.topology import schema


class Component:
    """Base of all component kinds."""

    kind: ClassVar[str]
    Parameters: ClassVar[type[schema.Parameters]]


class KindRegistry(Registry[type[Any]]):
    """A registry whose scan also looks into the sub-packages of its package."""

    def _scan(self) -> None:
        if self._scanned:
            return
        super()._scan()
        package = importlib.import_module(self.package)
        for module in pkgutil.walk_packages(package.__path__, f"{self.package}."):
            importlib.import_module(module.name)


KINDS = KindRegistry("component kind", "dpred_sim.components", "dpred_sim.components")
register = KINDS.register


def kinds() -> dict[str, type[schema.Parameters]]:
    """The parameters of every component kind by its name, sorted."""
    return {name: KINDS.get(name).Parameters for name in KINDS.names()}
