"""Traffic as publications count it: weights, activations and outputs of every layer once, no residency."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from dpred_sim.codecs.base import Codec, Role
from dpred_sim.values.tensor import TensorSource
from dpred_sim.workload.workload import Workload

if TYPE_CHECKING:
    from dpred_sim.simulation.engine import Simulation

KINDS = ("weights", "activations", "outputs")


@dataclass(frozen=True, slots=True)
class Counted:
    """One tensor that is counted: what it is for its layer, and how a codec is to treat it.

    `source` is None for outputs that nobody knows: they count raw.
    """

    layer: str
    kind: str
    role: Role
    source: TensorSource | None
    raw_bits: int


def counted(workload: Workload) -> Iterator[Counted]:
    """What one input moves, kind by kind in the order of the layers.

    Weights that several layers share (the steps of a recurrence) count once; the second operand of a
    product counts as weights, as it is stored.
    """
    for kind in KINDS:
        shared: set[int] = set()
        for node in workload.network:
            source: TensorSource | None = getattr(node.layer, kind)
            role: Role = "weights" if kind == "weights" else "activations"
            if kind == "weights" and node.layer.second is not None:
                source, role = node.layer.second, "activations"
            elif kind == "weights":
                if source is None or id(source) in shared:
                    continue
                shared.add(id(source))
            for another in node.layer.more if kind == "activations" else ():
                yield Counted(node.name, kind, role, another, prod(another.shape) * another.bits)
            if source is not None:
                yield Counted(node.name, kind, role, source, prod(source.shape) * source.bits)
            elif kind == "outputs":
                raw = prod(node.layer.output_shape) * workload.bits
                yield Counted(node.name, kind, role, None, raw)


def paper_traffic(simulation: Simulation) -> dict[str, int]:
    """Bytes of one input's tensors, each layer's once, as DRAM stores them and raw.

    Containers only: no pointers, no padding to bursts, nothing fetched twice.
    """
    codec = simulation.system.format.offchip
    stored, raw = dict.fromkeys(KINDS, 0), dict.fromkeys(KINDS, 0)
    for item in counted(simulation.workload):
        raw[item.kind] += item.raw_bits
        stored[item.kind] += container_bits(codec, item)
    totals = {"stored_bytes": 0, "raw_bytes": 0}
    for kind in KINDS:
        totals[f"{kind}_bytes"] = -(-stored[kind] // 8)
        totals[f"{kind}_raw_bytes"] = -(-raw[kind] // 8)
        totals["stored_bytes"] += totals[f"{kind}_bytes"]
        totals["raw_bytes"] += totals[f"{kind}_raw_bytes"]
    return totals


def container_bits(codec: Codec, item: Counted) -> int:
    """Length of a counted tensor's container, remembered on the tensor."""
    if item.source is None:
        return item.raw_bits
    chosen = codec.chosen_for(item.source, item.role)
    key = ("container_bits", chosen)
    if key not in item.source.memo:
        item.source.memo[key] = chosen.size_bits(item.source)
    bits: int = item.source.memo[key]
    return bits
