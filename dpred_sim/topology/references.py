"""References to nodes in links: `dram`, `tile[*]`, `tile[0..3]`, `tile[3]`, `tile[i]`, `tile.3`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dpred_sim.errors import InputError, nearest

NODE_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]{0,63})(?:\.(0|[1-9][0-9]{0,5}))?$")
"""A node of a file: a group's name, or one explicit instance `group.index`."""

_REFERENCE = re.compile(
    r"([A-Za-z_][A-Za-z0-9_]*)(?:\.([0-9]+)|\[(?:(\*)|(i)|([0-9]+)(?:\.\.([0-9]+))?)\])?$"
)

Groups = Mapping[str, Mapping[int, str]]
"""Instances of each group: id by index, in file order."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What one reference names: `ids`, of which a link takes all, or for `[i]` one at a time."""

    text: str
    ids: tuple[str, ...]
    paired: bool

    def at(self, index: int) -> tuple[str, ...]:
        """The ids for one link of a declaration."""
        return (self.ids[index],) if self.paired else self.ids


def resolve(text: str, groups: Groups) -> Reference:
    """Look up a reference; raises InputError (without a place) when it names nothing."""
    match = _REFERENCE.match(text)
    if match is None or len(text) > 100:
        raise InputError(
            "not a reference to nodes", found=text, allowed="name, name[*], name[0..3], name[3], name[i]"
        )
    name, dot, star, pair, first, last = match.groups()
    members = groups.get(name)
    if members is None:
        raise InputError(f"no such node{nearest(name, groups)}", found=text, allowed=list(groups))
    ids = tuple(members.values())
    if star or pair:
        return Reference(text, ids, bool(pair))
    if dot is None and first is None:
        if len(ids) != 1:
            raise InputError(
                f"{name!r} has {len(ids)} instances: say which",
                found=text,
                allowed=f"{name}[*], {name}[0..{len(ids) - 1}], {name}[0], {name}[i]",
            )
        return Reference(text, ids, False)
    low = int(dot if dot is not None else first)
    high = low if last is None else int(last)
    if high < low or low not in members or high not in members or high - low >= len(ids):
        raise InputError(
            f"{name!r} has no such instance", found=text, allowed=f"{name}[{min(members)}..{max(members)}]"
        )
    return Reference(text, tuple(members[index] for index in range(low, high + 1) if index in members), False)


def pairing(references: Sequence[Reference]) -> int | None:
    """Number of links that a declaration with these references makes; None for a single link.

    Raises InputError when `[i]` stands at nodes of different counts.
    """
    paired = [reference for reference in references if reference.paired]
    counts = {len(reference.ids) for reference in paired}
    if len(counts) > 1:
        found = ", ".join(f"{reference.text} has {len(reference.ids)}" for reference in paired)
        raise InputError("[i] pairs nodes of the same count", found=found)
    return counts.pop() if counts else None


def paired_groups(text: object) -> list[str]:
    """Names of the groups that a reference (or list of them) pairs by `[i]`."""
    items = text if isinstance(text, list) else [text]
    found = []
    for item in items:
        match = _REFERENCE.match("".join(item.split())) if isinstance(item, str) else None
        if match is not None and match.group(4):
            found.append(match.group(1))
    return found
