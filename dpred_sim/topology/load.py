"""From a topology file to a checked `Topology`.

Read, apply overrides, check every node and link against its model, resolve references, check that the
system can work. Every refusal is an InputError that says where and what is allowed.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dpred_sim.errors import InputError
from dpred_sim.locate import locate
from dpred_sim.topology.build import KEYS, Build, Checker, NodeChecker
from dpred_sim.topology.document import Document, read_document
from dpred_sim.topology.graph import Topology
from dpred_sim.topology.override import apply_overrides, declared_name, put, split_between
from dpred_sim.topology.schema import Parameters


def load(
    reference: str | Path,
    kinds: Mapping[str, type[Parameters]],
    set: Iterable[str] = (),
    check_codec: Checker | None = None,
    check_design: Checker | None = None,
    check_kind: Mapping[str, NodeChecker] | None = None,
) -> Topology:
    """The system that a reference names: a path (`.yaml`, `.yml`, node-link `.json`) or a bare name.

    `kinds` are the component kinds with their parameters; `set` overrides such as
    "nodes.tile.count=8" or "links.dram->activations.width=512 bit"; the checkers see each codec and
    design that the file names, those of `check_kind` the parameters of each node of their kind.
    Raises InputError for whatever is wrong with the file.
    """
    path = _find(reference)
    document = read_document(path)
    if not isinstance(document.data, dict):
        raise document.error("a topology is a mapping", found=document.data, allowed=KEYS)
    if isinstance(document.data.get("nodes"), list):
        from dpred_sim.topology.convert import from_node_link

        from_node_link(document)
    split_between(document)
    return Checked(document, kinds, check_codec, check_design, check_kind or {}).build(set)


def _find(reference: str | Path) -> Path:
    try:
        return locate(reference, "topologies", ".yaml", noun="topology")
    except (OSError, ValueError) as error:
        raise InputError(f"not the name of a file: {error}", found=str(reference)) from None


@dataclass(frozen=True)
class Checked:
    """A document together with what is needed to check it; the `graph.Source` of topologies."""

    document: Document
    kinds: Mapping[str, type[Parameters]]
    check_codec: Checker | None
    check_design: Checker | None
    check_kind: Mapping[str, NodeChecker]

    def build(self, set: Iterable[str]) -> Topology:
        """The topology with overrides applied; this object stays as it is."""
        overrides = [set] if isinstance(set, str) else list(set)
        changed = self._changed() if overrides else self
        if overrides:
            apply_overrides(changed.document, overrides)
        return changed._build().topology(changed)

    def with_kind_value(self, kind: str, key: str, value: Any) -> Checked:
        """See `graph.Source`."""
        changed = self._changed()
        for name, node in changed.document.data["nodes"].items():
            if node["kind"] == kind:
                put(changed.document, ("nodes", name, key), value, f"nodes.{name}.{key}={value}")
        return changed

    def with_link_value(self, names: Iterable[str], key: str, value: Any) -> Checked:
        """See `graph.Source`."""
        changed = self._changed()
        wanted = frozenset(names)
        for index, link in enumerate(changed.document.data["links"]):
            name = declared_name(link)
            if name in wanted:
                put(changed.document, ("links", index, key), value, f"links.{name}.{key}={value}")
        return changed

    def resolved(self) -> dict[str, Any]:
        """See `graph.Source`."""
        return self._build().resolved()

    def _build(self) -> Build:
        return Build(self.document, self.kinds, self.check_codec, self.check_design, self.check_kind)

    def _changed(self) -> Checked:
        document = replace(
            self.document, data=copy.deepcopy(self.document.data), origins=dict(self.document.origins)
        )
        return replace(self, document=document)
