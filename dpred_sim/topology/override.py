"""Overrides such as "nodes.tile.count=8", applied to a document before it is checked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dpred_sim.errors import InputError, nearest
from dpred_sim.topology.document import Document, Path_, parse_yaml
from dpred_sim.topology.references import paired_groups

_TOPS = ("name", "clocks", "nodes", "links")


def declared_name(link: object) -> str:
    """Name of a link declaration, as given or as `from->to`; empty when it has neither."""
    if not isinstance(link, dict):
        return ""
    name = link.get("name")
    if isinstance(name, str):
        return name
    ends = [_text(link.get("from")), _text(link.get("to"))]
    return "->".join(ends) if all(ends) else ""


def split_between(document: Document) -> None:
    """Replace each well-formed `between` link by its two independent directions."""
    links = document.data.get("links")
    if not isinstance(links, list):
        return
    made: list[Any] = []
    for index, link in enumerate(links):
        ends = link.get("between") if isinstance(link, dict) else None
        if not isinstance(ends, list) or len(ends) != 2 or "from" in link or "to" in link:
            document.moved[("links", len(made))] = ("links", index)
            made.append(link)
            continue
        rest = {key: value for key, value in link.items() if key != "between"}
        name = rest.get("name")
        for start, end, suffix in ((ends[0], ends[1], "forward"), (ends[1], ends[0], "backward")):
            document.moved[("links", len(made))] = ("links", index)
            document.moved[("links", len(made), "from")] = ("links", index, "between", ends.index(start))
            document.moved[("links", len(made), "to")] = ("links", index, "between", ends.index(end))
            named = {"name": f"{name}.{suffix}"} if isinstance(name, str) else {}
            made.append({**rest, **named, "from": start, "to": end})
    document.data["links"] = made


def apply_overrides(document: Document, overrides: Iterable[str]) -> None:
    """Change the document; raises InputError for a path that leads nowhere.

    A count also holds for the nodes that a link pairs with the changed ones by `[i]`, unless they
    have an override of their own: "nodes.tile.count=8" on its own keeps `weights[i] -> tile[i]` whole.
    """
    parsed = [_parse(override) for override in overrides]
    paths = [(_path(document, key, override), value, override) for key, value, override in parsed]
    own = {path for path, _, _ in paths}
    for path, value, override in paths:
        if len(path) == 3 and path[0] == "nodes" and path[2] == "count":
            for group in _partners(document, str(path[1])):
                other: Path_ = ("nodes", group, "count")
                if other not in own and _count(document, group) == _count(document, str(path[1])):
                    put(document, other, value, override)
        put(document, path, value, override)


def put(document: Document, path: Path_, value: Any, origin: str) -> None:
    """Set one part, making the mappings on the way; raises InputError when one is in the way."""
    here = document.data
    for depth, key in enumerate(path[:-1]):
        if isinstance(here, dict):
            here = here.setdefault(str(key), {})
        elif isinstance(here, list) and isinstance(key, int):
            here = here[key]
        if not isinstance(here, dict | list):
            raise document.error("holds no further keys", path[: depth + 1], found=here)
    last = path[-1]
    if isinstance(here, list):
        if not isinstance(last, int) or last >= len(here):
            raise document.error("no such item of the list", path[:-1], found=str(last))
        here[last] = value
    else:
        here[str(last)] = value
    document.origins[path] = origin


def _parse(override: str) -> tuple[str, Any, str]:
    if not isinstance(override, str) or "=" not in override:
        raise InputError(
            "an override is path=value", field="--set", found=override, allowed="nodes.tile.count=8"
        )
    key, text = override.split("=", 1)
    if not text.strip():
        raise InputError("an override needs a value", field="--set", found=override)
    if len(text) > 10_000:
        raise InputError("the value is too long", field="--set", found=text)
    return key.strip(), parse_yaml(text.strip(), f"--set {override}").data, override


def _path(document: Document, key: str, override: str) -> Path_:
    """The path that a dotted key names; the parts that must be there already are looked up."""

    def refuse(message: str, found: object = None, allowed: object = None) -> InputError:
        return InputError(message, file=f"--set {override}", field=key, found=found, allowed=allowed)

    top, _, rest = key.partition(".")
    if top not in _TOPS:
        raise refuse(f"unknown path{nearest(top, _TOPS)}", top, _TOPS)
    if top == "name":
        if rest:
            raise refuse("holds no further keys")
        return ("name",)
    known = _link_names(document) if top == "links" else _names(document, top)
    name = max((n for n in known if rest == n or rest.startswith(f"{n}.")), key=len, default=None)
    if name is None:
        found = (rest.rpartition(".")[0] if top == "links" else rest.partition(".")[0]) or rest
        raise refuse(f"unknown path, {top} has no such name{nearest(found, known)}", found, list(known))
    rest = rest[len(name) + 1 :]
    if not rest and top != "clocks":
        raise refuse(
            f"say which key of {name!r}", allowed="width, latency" if top == "links" else "count, size"
        )
    parts = rest.split(".") if rest else []
    if not all(parts):
        raise refuse("an empty name in the path")
    keys = (int(part) if part.isdecimal() and len(part) < 6 else part for part in parts)
    return (top, known[name], *keys)


def _names(document: Document, section: str) -> dict[str, str]:
    names = document.data.get(section)
    return {name: name for name in names} if isinstance(names, dict) else {}


def _link_names(document: Document) -> dict[str, int]:
    links = document.data.get("links")
    if not isinstance(links, list):
        return {}
    return {declared_name(link): index for index, link in enumerate(links) if declared_name(link)}


def _partners(document: Document, group: str) -> list[str]:
    """Groups that links pair with `group` by `[i]`, directly or through others."""
    links = document.data.get("links")
    found = [group]
    for here in found:
        for link in links if isinstance(links, list) else []:
            if isinstance(link, dict):
                ends = paired_groups(link.get("from")) + paired_groups(link.get("to"))
                if here in ends:
                    found.extend(end for end in ends if end not in found)
    return found[1:]


def _count(document: Document, group: str) -> object:
    nodes = document.data.get("nodes")
    node = nodes.get(group) if isinstance(nodes, dict) else None
    return node.get("count") if isinstance(node, dict) else None


def _text(reference: object) -> str:
    items = reference if isinstance(reference, list) else [reference]
    texts = ["".join(item.split()) for item in items if isinstance(item, str)]
    return ",".join(texts) if len(texts) == len(items) else ""
