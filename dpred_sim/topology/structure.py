"""Can this system work at all? Checked before time starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from dpred_sim.errors import InputError
from dpred_sim.topology.graph import DATA, DISPATCHER, DRAM, TILE, Node, Topology

Fail = Callable[[str, str | None], InputError]
"""Makes an error about an instance, or about the whole system (None)."""


def check(topology: Topology, fail: Fail) -> None:
    """Raise InputError for a system in which some data has no place or no way."""
    for kind in (DRAM, TILE, DISPATCHER):
        if not topology.of_kind(kind):
            raise fail(f"there is no component of kind {kind!r}", None)
    for what in DATA:
        if not topology.buffers(what):
            raise fail(f"no buffer holds {what}", None)
    _memory(topology, fail)
    _feeds(topology, fail)
    _clusters(topology, fail)


def _memory(topology: Topology, fail: Fail) -> None:
    """Every buffer reaches the memory that its data needs, and every memory is of use."""
    used: set[str] = set()
    readable: dict[str, tuple[str, ...]] = {}
    for what in ("weights", "activations"):
        for node in topology.buffers(what):
            readable[node.id] = topology.readable(node.id)
            if not readable[node.id]:
                raise fail(f"unreachable memory: no way from a {DRAM} to this buffer of {what}", node.id)
            used.update(readable[node.id])
    readers = topology.buffers("activations")
    for node in topology.buffers("outputs"):
        writable = set(topology.writable(node.id))
        if not writable:
            raise fail(f"unreachable memory: no way from this buffer of outputs to a {DRAM}", node.id)
        lost = next((reader.id for reader in readers if writable.isdisjoint(readable[reader.id])), None)
        if lost is not None:
            raise fail(
                f"outputs written from here cannot be read back into {lost!r}: no memory is on both ways",
                node.id,
            )
    for channel in topology.of_kind(DRAM):
        if channel.id not in used:
            raise fail(
                "unreachable memory: no way from here to a buffer of weights or activations", channel.id
            )


def _feeds(topology: Topology, fail: Fail) -> None:
    """Every dispatcher gets activations; every tile gets weights and passes outputs on."""
    weights, dispatchers, tiles = (
        topology.buffers("weights"),
        topology.of_kind(DISPATCHER),
        topology.of_kind(TILE),
    )
    activated = _reached(topology, topology.buffers("activations"))
    for dispatcher in dispatchers:
        if dispatcher.id not in activated:
            raise fail("no way from a buffer of activations to this dispatcher", dispatcher.id)
    fed, weighted = _reached(topology, dispatchers), _reached(topology, weights)
    outputs = {node.id for node in topology.buffers("outputs")}
    for tile in tiles:
        if tile.id not in fed:
            raise fail("nobody feeds this tile: no way from a dispatcher", tile.id)
        if tile.id not in weighted:
            raise fail("no way from a buffer of weights to this tile", tile.id)
        if outputs.isdisjoint(topology.reached(tile.id)):
            raise fail("no way from this tile to a buffer of outputs", tile.id)
    ids = {tile.id for tile in tiles}
    for node in weights:
        if ids.isdisjoint(topology.reached(node.id)):
            raise fail("no way from this buffer of weights to a tile", node.id)


def _reached(topology: Topology, nodes: Iterable[Node]) -> set[str]:
    return {id for node in nodes for id in topology.reached(node.id)}


def _clusters(topology: Topology, fail: Fail) -> None:
    """Each tile belongs to one dispatcher, and the tiles of a dispatcher are alike."""
    owner: dict[str, str] = {}
    for cluster in topology.clusters:
        if not cluster.tiles:
            raise fail("this dispatcher feeds no tile", cluster.dispatcher)
        first = topology.nodes[cluster.tiles[0]]
        for id in cluster.tiles:
            if id in owner:
                raise fail(f"two dispatchers feed this tile: {owner[id]!r} and {cluster.dispatcher!r}", id)
            owner[id] = cluster.dispatcher
            if topology.nodes[id].parameters != first.parameters:
                raise fail(f"not the same parameters as {first.id!r}, which works in lockstep with it", id)
