"""The tracks of a record: everything that tells, as a tree that follows the topology."""

from __future__ import annotations

from typing import Any

from dpred_sim.simulation.engine import Simulation


def track_rows(simulation: Simulation) -> list[dict[str, Any]]:
    """One row a track: `name`, `kind`, `group` (the name in the topology file), and `parent`.

    A tile's parent is its dispatcher, an instance's its group where there are several, a converter's the
    memory that it sits at. Rows of links have `from`, `to` and `width_bits`; those of buffers
    `capacity_bits`; those of DRAM channels `peak_bytes_per_second`; those of engines their `buffer`.
    """
    topology, machine = simulation.topology, simulation.system.machine
    rows: dict[str, dict[str, Any]] = {}
    dispatcher = {tile: cluster.name for cluster in machine.clusters for tile in cluster.tiles}
    for node in topology.nodes.values():
        parent = dispatcher.get(node.id) or (None if node.group == node.id else node.group)
        rows[node.id] = {"name": node.id, "kind": node.kind, "group": node.group, "parent": parent}
    for channel in simulation.system.channels:
        rows[channel.name]["peak_bytes_per_second"] = channel.model.peak_bits_per_second / 8
    # Weight buffers of single tiles are filled in lockstep: one track stands for all of a group.
    for buffer in (machine.activations, *machine.weights):
        row = rows.setdefault(
            buffer.name, {"name": buffer.name, "kind": "buffer", "group": buffer.name, "parent": None}
        )
        row["capacity_bits"] = buffer.capacity_bits
    for cluster in machine.clusters:
        if not cluster.tiles:
            rows[cluster.name] = _row(cluster.name, "post_processing")
    for engine, buffer in (
        (machine.activation_dma, machine.activations),
        (machine.weight_dma, machine.weights[0]),
        (machine.write_dma, machine.activations),
    ):
        rows[engine.name] = _row(engine.name, "dma") | {"buffer": buffer.name}
    for converter in simulation.system.converters:
        at = converter.name.rpartition(".")[0]
        rows[converter.name] = _row(converter.name, "converter") | {"parent": at if at in rows else None}
    for link in topology.links:
        rows[link.name] = _row(link.name, link.medium) | {
            "group": link.group or link.name,
            "from": list(link.sources),
            "to": list(link.targets),
            "width_bits": link.width_bits,
        }
    groups = {row["parent"] for row in rows.values()} - {None, *rows}
    for group in sorted(groups):
        kinds = {row["kind"] for row in rows.values() if row["parent"] == group}
        rows[group] = _row(group, kinds.pop() if len(kinds) == 1 else "group")
    return list(rows.values())


def _row(name: str, kind: str) -> dict[str, Any]:
    return {"name": name, "kind": kind, "group": name, "parent": None}
