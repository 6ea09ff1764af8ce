"""From a document to a topology: every part against its model, then the system as a whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from dpred_sim.errors import InputError, nearest
from dpred_sim.topology import structure
from dpred_sim.topology.document import Document, Path_
from dpred_sim.topology.graph import Node, Source, Topology, routes_list
from dpred_sim.topology.references import NODE_NAME
from dpred_sim.topology.schema import (
    SCHEMA,
    Hertz,
    LinkDeclaration,
    Name,
    Parameters,
    Repeated,
    Stores,
    format_hertz,
)
from dpred_sim.topology.validate import validated
from dpred_sim.topology.wiring import Wiring, check_clock

Checker = Callable[[str, Mapping[str, Any]], None]
"""Checks a codec or design by name and its options; raises InputError whose `field` is the option."""

NodeChecker = Callable[[Any, Path], None]
"""Checks the parameters of a node of one kind (paths in them are relative to the folder).

Raises InputError whose `field` is the key; one with another field and a `file` is about that file, and left
as it is.
"""

KEYS = ("schema", "name", "clocks", "nodes", "links", "routes")
"""Keys of a topology file."""

MAX_NODES = 4 * 4096
"""Most component instances of a system."""

_NAME = TypeAdapter(Name)
_HERTZ = TypeAdapter(Hertz)


class Build:
    """One pass over a document; the attributes fill up in the order of the methods."""

    def __init__(
        self,
        document: Document,
        kinds: Mapping[str, type[Parameters]],
        check_codec: Checker | None,
        check_design: Checker | None,
        check_kind: Mapping[str, NodeChecker],
    ) -> None:
        self.document = document
        self.kinds = kinds
        self.check_codec = check_codec
        self.check_design = check_design
        self.check_kind = check_kind
        self.data: dict[str, Any] = document.data
        self.clocks: dict[str, int] = {}
        self.groups: dict[str, dict[int, str]] = {}
        self.nodes: dict[str, Node] = {}
        self.declared: dict[str, tuple[str, int | None, Parameters]] = {}
        self.wiring = Wiring(document, self.clocks, self.groups, self.nodes)

    def topology(self, source: Source) -> Topology:
        """The checked system; raises InputError."""
        self._read()
        made = Topology(
            name=self.data["name"],
            clocks=self.clocks,
            nodes=self.nodes,
            links=tuple(self.wiring.links.values()),
            named_routes=self.wiring.named_routes,
            file=self.document.file,
            description=self.document.description,
            source=source,
        )
        structure.check(made, self._node_error)
        return made

    def resolved(self) -> dict[str, Any]:
        """The document as declared, with every default filled in."""
        self._read()
        nodes = {}
        for name, (kind, count, parameters) in self.declared.items():
            counted = {} if count is None else {"count": count}
            nodes[name] = {"kind": kind, **counted, **parameters.model_dump(mode="json")}
        document: dict[str, Any] = {
            "schema": SCHEMA,
            "name": self.data["name"],
            "clocks": {name: format_hertz(hertz) for name, hertz in self.clocks.items()},
            "nodes": nodes,
            "links": [_declared_dict(link) for link in self.wiring.declared],
        }
        if self.wiring.named_routes:
            document["routes"] = routes_list(self.wiring.named_routes)
        return document

    def _read(self) -> None:
        self._header()
        self._clocks()
        self._nodes()
        self.wiring.read_links(self._section("links", list, "list of links"))
        self.wiring.read_routes(self.data.get("routes", []))

    # the parts of a file

    def _header(self) -> None:
        for key in self.data:
            if key not in KEYS:
                raise self.document.error(
                    f"unknown key{nearest(key, KEYS)}", (key,), key=True, found=key, allowed=KEYS
                )
        for key in ("schema", "name", "clocks", "nodes", "links"):
            if key not in self.data:
                raise self.document.error(
                    f"the key {key!r} is missing", (), found=list(self.data), allowed=KEYS
                )
        if self.data["schema"] != SCHEMA:
            raise self.document.error(
                "not a format this version reads", ("schema",), found=self.data["schema"], allowed=SCHEMA
            )
        validated(_NAME, self.data["name"], self.document, ("name",))

    def _section(self, key: str, kind: type, called: str) -> Any:
        section = self.data[key]
        if not isinstance(section, kind) or not section:
            raise self.document.error(f"not a {called}, or an empty one", (key,), found=section)
        return section

    def _clocks(self) -> None:
        for name, text in self._section("clocks", dict, "mapping of clock names to frequencies").items():
            validated(_NAME, name, self.document, ("clocks", name), key=True)
            self.clocks[name] = validated(_HERTZ, text, self.document, ("clocks", name))
        if "core" not in self.clocks:
            raise self.document.error(
                "the clock 'core' is missing", ("clocks",), found=list(self.clocks), allowed="core: 1 GHz"
            )

    def _nodes(self) -> None:
        for name, raw in self._section("nodes", dict, "mapping of node names to components").items():
            path: Path_ = ("nodes", name)
            match = NODE_NAME.match(name)
            if match is None:
                raise self.document.error(
                    "not a name of a node", path, key=True, found=name, allowed="letters, digits, underscores"
                )
            kind, count, parameters = self._node(raw, path)
            self._add_instances(match.group(1), match.group(2), kind, count, parameters, path)
            self.declared[name] = (kind, count, parameters)

    def _node(self, raw: Any, path: Path_) -> tuple[str, int | None, Parameters]:
        if not isinstance(raw, dict):
            raise self.document.error("a node is a mapping", path, found=raw, allowed="kind: ..., ...")
        common = {key: raw[key] for key in ("kind", "count") if key in raw}
        repeated = validated(Repeated, common, self.document, path)
        model = self.kinds.get(repeated.kind)
        if model is None:
            raise self.document.error(
                f"unknown component kind{nearest(repeated.kind, self.kinds)}",
                (*path, "kind"),
                found=repeated.kind,
                allowed=list(self.kinds),
            )
        rest = {key: value for key, value in raw.items() if key not in ("kind", "count")}
        parameters = validated(model, rest, self.document, path, known=("kind", "count"))
        check_clock(self.document, parameters.clock, self.clocks, path)
        self._check_names(parameters, path)
        if repeated.kind in self.check_kind:
            self._ask_kind(self.check_kind[repeated.kind], parameters, path)
        return repeated.kind, repeated.count, parameters

    def _check_names(self, parameters: Parameters, path: Path_) -> None:
        """Let whoever knows codecs and designs check what the node says of them."""
        if self.check_codec is not None:
            for key in type(parameters).model_fields:
                stores = getattr(parameters, key)
                if isinstance(stores, Stores):
                    here = (*path, key)
                    self._ask(self.check_codec, stores.codec, stores.options, here, "codec")
        design = getattr(parameters, "design", None)
        if self.check_design is not None and isinstance(design, str):
            options: Mapping[str, Any] = getattr(parameters, "options", {})
            self._ask(self.check_design, design, options, path, "design")

    def _ask(self, check: Checker, name: str, options: Mapping[str, Any], path: Path_, key: str) -> None:
        try:
            check(name, options)
        except InputError as error:
            about = error.field if error.field in options else None
            if about is None:
                message = error.message if error.field is None else f"{error.field}: {error.message}"
                raise self.document.error(
                    message, (*path, key), found=error.found or name, allowed=error.allowed
                ) from None
            own = get_close_matches(about, ("count", "clock", "kind", key), n=1, cutoff=0.75)
            message = f"unknown key (did you mean {own[0]!r}?)" if own else error.message
            raise self.document.error(
                message,
                (*path, about),
                key=error.found is None,
                found=about if error.found is None else error.found,
                allowed=error.allowed,
            ) from None

    def _ask_kind(self, check: NodeChecker, parameters: Parameters, path: Path_) -> None:
        try:
            check(parameters, Path(self.document.file).parent)
        except InputError as error:
            known = error.field in type(parameters).model_fields
            if error.file is not None and not known:
                raise
            message = error.message if known or error.field is None else f"{error.field}: {error.message}"
            where = (*path, str(error.field)) if known else path
            raise self.document.error(message, where, found=error.found, allowed=error.allowed) from None

    def _add_instances(
        self,
        group: str,
        index: str | None,
        kind: str,
        count: int | None,
        parameters: Parameters,
        path: Path_,
    ) -> None:
        if index is not None and count is not None:
            raise self.document.error("an explicit instance has no count", (*path, "count"), found=count)
        members = self.groups.setdefault(group, {})
        if members and (index is None or members.get(0) == group or int(index) in members):
            raise self.document.error(f"the node {group!r} is there already", path, key=True, found=path[-1])
        if index is None and count is None:
            instances = {0: group}
        elif index is not None:
            instances = {int(index): f"{group}.{index}"}
        else:
            instances = {i: f"{group}.{i}" for i in range(count or 0)}
        if len(self.nodes) + len(instances) > MAX_NODES:
            raise self.document.error("too many components", path, allowed=f"at most {MAX_NODES}")
        members.update(instances)
        for i, id in instances.items():
            self.nodes[id] = Node(id, group, i, kind, parameters)

    def _node_error(self, message: str, id: str | None) -> InputError:
        """An error about an instance (or about the system as a whole) for the structural checks."""
        if id is None:
            return self.document.error(message, ("nodes",), key=True)
        node = self.nodes[id]
        name = id if id in self.declared else node.group
        return self.document.error(message, ("nodes", name), key=True, shown=f"nodes.{id}")


def _declared_dict(link: LinkDeclaration) -> dict[str, Any]:
    dumped = link.model_dump(mode="json", by_alias=True)
    for key in ("from", "to"):
        if len(dumped[key]) == 1:
            dumped[key] = dumped[key][0]
    if dumped["name"] is None:
        del dumped["name"]
    return dumped
