"""Topologies in other forms: node-link JSON (there and back), GraphML, a JSON Schema for editors.

In a graph a link with many ends is a node of its own between them (`link:NAME`): one arbiter, not an
edge for every pair of ends. Node-link JSON is what `networkx.node_link_graph(data, edges="links")` reads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpred_sim.errors import InputError
from dpred_sim.topology.document import Document, Path_
from dpred_sim.topology.graph import Topology, link_dict, routes_list
from dpred_sim.topology.schema import (
    SCHEMA,
    Hertz,
    LinkDeclaration,
    Parameters,
    Repeated,
    RouteDeclaration,
    format_hertz,
)

if TYPE_CHECKING:
    from networkx import MultiDiGraph

HUB = "link"
"""Kind of the nodes that stand for links with many ends."""

_BARE = re.compile(r"(?:[A-Za-z_][A-Za-z0-9_./-]*(?:->[A-Za-z_][A-Za-z0-9_.]*)?|[0-9.]+ [A-Za-z]+)$")
_LINK_KEYS = ("medium", "width", "latency", "clock")


def to_graph(topology: Topology) -> MultiDiGraph:
    """The system as a networkx graph. Attributes are scalars (lists and mappings as JSON text)."""
    import networkx as nx

    graph = nx.MultiDiGraph(schema=SCHEMA, name=topology.name, clocks=json.dumps(dict(topology.clocks)))
    for node in topology.nodes.values():
        values = {key: _flat(value) for key, value in node.parameters.model_dump(mode="json").items()}
        graph.add_node(node.id, kind=node.kind, group=node.group, index=node.index, **values)
    for link in topology.links:
        told = link_dict(link)
        values = {key: told[key] for key in _LINK_KEYS}
        if len(link.sources) == len(link.targets) == 1:
            graph.add_edge(link.sources[0], link.targets[0], key=link.name, link=link.name, **values)
            continue
        hub = f"link:{link.name}"
        graph.add_node(hub, kind=HUB, link=link.name, **values)
        for source in link.sources:
            graph.add_edge(source, hub, key=link.name, link=link.name)
        for target in link.targets:
            graph.add_edge(hub, target, key=link.name, link=link.name)
    return graph


def to_node_link(topology: Topology) -> dict[str, Any]:
    """The system as node-link data, JSON-ready and complete: it loads to an equal topology."""
    about = {
        "schema": SCHEMA,
        "name": topology.name,
        "description": topology.description,
        "clocks": {name: format_hertz(hertz) for name, hertz in topology.clocks.items()},
        "routes": routes_list(topology.named_routes),
    }
    nodes: list[dict[str, Any]] = [
        {"id": node.id, "kind": node.kind, "parameters": node.parameters.model_dump(mode="json")}
        for node in topology.nodes.values()
    ]
    edges: list[dict[str, Any]] = []
    for order, link in enumerate(topology.links):
        told = link_dict(link)
        values = {"link": link.name, "order": order, **{key: told[key] for key in _LINK_KEYS}}
        if len(link.sources) == len(link.targets) == 1:
            edges.append({"source": link.sources[0], "target": link.targets[0], "key": link.name, **values})
            continue
        hub = f"link:{link.name}"
        nodes.append({"id": hub, "kind": HUB, **values})
        edges += [{"source": source, "target": hub, "key": link.name} for source in link.sources]
        edges += [{"source": hub, "target": target, "key": link.name} for target in link.targets]
    return {"directed": True, "multigraph": True, "graph": about, "nodes": nodes, "links": edges}


def from_node_link(document: Document) -> None:
    """Rewrite node-link data as a topology document, remembering where each part stood.

    Raises InputError for data that is no node-link graph of a topology.
    """
    _NodeLink(document).rewrite()


class _NodeLink:
    def __init__(self, document: Document) -> None:
        self.document = document
        self.nodes: dict[str, Any] = {}
        self.hubs: dict[str, dict[str, Any]] = {}
        self.links: list[tuple[int, dict[str, Any], Path_]] = []

    def rewrite(self) -> None:
        data = self.document.data
        for key in data:
            if key not in ("directed", "multigraph", "graph", "nodes", "links", "edges"):
                raise self.document.error("not a key of node-link data", (key,), key=True, found=key)
        about = data.get("graph")
        if not isinstance(about, dict):
            raise self.document.error("node-link data has a mapping 'graph'", ("graph",), found=about)
        for index, node in enumerate(data["nodes"]):
            self._node(node, ("nodes", index))
        edges = "edges" if "edges" in data else "links"
        if not isinstance(data.get(edges), list):
            raise self.document.error("node-link data has a list of edges", (edges,), found=data.get(edges))
        for index, edge in enumerate(data[edges]):
            self._edge(edge, (edges, index))
        self._finish(about)

    def _node(self, node: Any, path: Path_) -> None:
        if not isinstance(node, dict) or not isinstance(node.get("id"), str):
            raise self.document.error("a node is a mapping with an id", path, found=node)
        id = node["id"]
        if id in self.nodes or id in self.hubs:
            raise self.document.error("the same id twice", (*path, "id"), found=id)
        if node.get("kind") == HUB:
            self.hubs[id] = {"from": [], "to": []}
            self._link(node, self.hubs[id], path, ("id", "kind"))
            return
        self._only(node, ("id", "kind", "parameters"), path)
        parameters = node.get("parameters", {})
        if not isinstance(parameters, dict):
            raise self.document.error("parameters are a mapping", (*path, "parameters"), found=parameters)
        for key in ("kind", "count"):
            if key in parameters:
                raise self.document.error("not a parameter", (*path, "parameters", key), key=True, found=key)
        kind = {"kind": node["kind"]} if "kind" in node else {}
        self.nodes[id] = {**kind, **parameters}
        self.document.moved[("nodes", id)] = (*path, "parameters")
        self.document.moved[("nodes", id, "kind")] = (*path, "kind")

    def _edge(self, edge: Any, path: Path_) -> None:
        if not isinstance(edge, dict):
            raise self.document.error("an edge is a mapping", path, found=edge)
        for key in ("source", "target"):
            if not isinstance(edge.get(key), str):
                raise self.document.error(f"an edge has a {key}", path, found=edge.get(key))
        source, target = edge["source"], edge["target"]
        if source in self.hubs or target in self.hubs:
            self._only(edge, ("source", "target", "key"), path)
            if source in self.hubs and target in self.hubs:
                raise self.document.error("an edge between two links", path, found=f"{source}, {target}")
            if source in self.hubs:
                self.hubs[source]["to"].append(target)
            else:
                self.hubs[target]["from"].append(source)
            return
        self._link(edge, {"from": source, "to": target}, path, ("source", "target", "key"))

    def _link(self, item: dict[str, Any], link: dict[str, Any], path: Path_, known: tuple[str, ...]) -> None:
        self._only(item, (*known, "link", "order", *_LINK_KEYS), path)
        order = item.get("order")
        if not isinstance(order, int) or isinstance(order, bool):
            raise self.document.error("a link has a whole number 'order'", path, found=order)
        if "link" in item:
            link["name"] = item["link"]
        link.update({key: item[key] for key in _LINK_KEYS if key in item})
        self.links.append((order, link, path))

    def _only(self, item: dict[str, Any], known: tuple[str, ...], path: Path_) -> None:
        for key in item:
            if key not in known:
                raise self.document.error("unknown key", (*path, key), key=True, found=key, allowed=known)

    def _finish(self, about: dict[str, Any]) -> None:
        self.links.sort(key=lambda item: item[0])
        links = []
        for index, (_, link, path) in enumerate(self.links):
            for key in ("from", "to"):
                if link[key] == []:
                    raise self.document.error(f"nothing goes {key} this link", path, found=link.get("name"))
            self.document.moved[("links", index)] = path
            links.append(link)
        self._only(about, ("schema", "name", "description", "clocks", "routes"), ("graph",))
        description = about.get("description", "")
        if not isinstance(description, str):
            raise self.document.error("not a text", ("graph", "description"), found=description)
        self.document.description = description
        kept = {key: about[key] for key in ("schema", "name", "clocks", "routes") if key in about}
        for key in kept:
            self.document.moved[(key,)] = ("graph", key)
        self.document.data = {**kept, "nodes": self.nodes, "links": links}


def to_yaml(topology: Topology, expanded: bool = False) -> str:
    """The system in the format of its file, every default filled in: it loads to an equal topology."""
    document = topology.to_dict(expanded)
    lines = [f"# {line}".rstrip() for line in topology.description.splitlines()]
    for key, value in document.items():
        if key == "nodes":
            lines += ["nodes:", *(f"  {name}: {_flow(node)}" for name, node in value.items())]
        elif isinstance(value, list):
            lines += [f"{key}:", *(f"  - {_flow(item)}" for item in value)]
        else:
            lines.append(f"{key}: {_flow(value)}")
    return "\n".join(lines) + "\n"


def _flow(value: Any) -> str:
    """A value on one line; words stay bare where YAML reads them as words."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_flow(key)}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, str) and _BARE.match(value) and value.lower() not in ("true", "false", "null"):
        return value
    return json.dumps(value)


def _flat(value: Any) -> str | int | float | bool:
    return value if isinstance(value, str | int | float | bool) else json.dumps(value)


def write_graphml(topology: Topology, path: Path) -> None:
    """Write GraphML, for viewers such as Gephi and yEd."""
    import networkx as nx

    nx.write_graphml(topology.graph, path)


def convert(topology: Topology, path: Path) -> None:
    """Write the system in the form that the suffix names: node-link `.json` or `.graphml`.

    Raises InputError for another suffix or a path that cannot be written. YAML is what people write,
    with comments and alignment: it is never written.
    """
    if path.suffix not in (".json", ".graphml"):
        raise InputError(
            "no such form of a topology", field="OUT", found=str(path), allowed="NAME.json, NAME.graphml"
        )
    try:
        if path.suffix == ".graphml":
            write_graphml(topology, path)
        else:
            text = json.dumps(to_node_link(topology), indent=1)
            path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror or error}", file=path) from None


def json_schema(kinds: Mapping[str, type[Parameters]]) -> dict[str, Any]:
    """JSON Schema (2020-12) of topology files with these component kinds."""
    from pydantic import TypeAdapter

    definitions: dict[str, Any] = {}

    def model(kind: Any) -> dict[str, Any]:
        made: dict[str, Any] = TypeAdapter(kind).json_schema(ref_template="#/$defs/{model}")
        definitions.update(made.pop("$defs", {}))
        return made

    repeated = model(Repeated)["properties"]
    variants = []
    for name, parameters in sorted(kinds.items()):
        made = model(parameters)
        made["properties"] = {"kind": {"const": name}, "count": repeated["count"], **made["properties"]}
        made["required"] = ["kind", *made.get("required", [])]
        definitions[f"kind_{name}"] = made
        variants.append(
            {
                "if": {"properties": {"kind": {"const": name}}, "required": ["kind"]},
                "then": {"$ref": f"#/$defs/kind_{name}"},
            }
        )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": SCHEMA,
        "type": "object",
        "additionalProperties": False,
        "required": ["schema", "name", "clocks", "nodes", "links"],
        "properties": {
            "schema": {"const": SCHEMA},
            "name": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
            "clocks": {"type": "object", "required": ["core"], "additionalProperties": model(Hertz)},
            "nodes": {
                "type": "object",
                "minProperties": 1,
                "additionalProperties": {
                    "type": "object",
                    "required": ["kind"],
                    "properties": {"kind": {"enum": sorted(kinds)}},
                    "allOf": variants,
                },
            },
            "links": {"type": "array", "minItems": 1, "items": _link_schema(model(LinkDeclaration))},
            "routes": {"type": "array", "items": model(RouteDeclaration)},
        },
        "$defs": definitions,
    }


def _link_schema(link: dict[str, Any]) -> dict[str, Any]:
    """The schema of a link, with `between` as the other way to name its ends."""
    ends = link["properties"]["from"]
    link["properties"]["between"] = {
        "type": "array",
        "items": {key: value for key, value in ends.items() if key not in ("title", "description")},
        "minItems": 2,
        "maxItems": 2,
        "description": "Two independent directions between these.",
    }
    link["required"] = [key for key in link["required"] if key not in ("from", "to")]
    one_way = {"anyOf": [{"required": ["from"]}, {"required": ["to"]}]}
    link["oneOf"] = [{"required": ["from", "to"]}, {"required": ["between"], "not": one_way}]
    return link
