"""Traffic as publications count it: weights, activations and outputs of every layer once, no residency."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from dpred_sim.codecs.base import Codec
from dpred_sim.values.tensor import TensorSource

if TYPE_CHECKING:
    from dpred_sim.simulation.engine import Simulation


def paper_traffic(simulation: Simulation) -> dict[str, int]:
    """Bytes of one input's tensors, each layer's once, as DRAM stores them and raw.

    Containers only: no pointers, no padding to bursts, nothing fetched twice. Weights that several layers
    share (the steps of a recurrence) count once; the second operand of a product counts as weights, as
    it is stored.
    """
    codec = simulation.system.format.offchip
    totals = {"stored_bytes": 0, "raw_bytes": 0}
    for kind in ("weights", "activations", "outputs"):
        stored = raw = 0
        shared: set[int] = set()
        for node in simulation.workload.network:
            source: TensorSource | None = getattr(node.layer, kind)
            role = kind
            for another in node.layer.more if kind == "activations" else ():
                raw += prod(another.shape) * another.bits
                stored += _container_bits(codec, another, role)
            if kind == "weights" and node.layer.second is not None:
                source, role = node.layer.second, "activations"
            elif kind == "weights" and id(source) in shared:
                continue
            shared.add(id(source))
            if source is not None:
                count = 1
                for size in source.shape:
                    count *= size
                raw += count * source.bits
                stored += _container_bits(codec, source, role)
            elif kind == "outputs":
                count = 1
                for size in node.layer.output_shape:
                    count *= size
                raw += count * simulation.workload.bits
                stored += count * simulation.workload.bits
        totals[f"{kind}_bytes"] = -(-stored // 8)
        totals[f"{kind}_raw_bytes"] = -(-raw // 8)
        totals["stored_bytes"] += -(-stored // 8)
        totals["raw_bytes"] += -(-raw // 8)
    return totals


def _container_bits(codec: Codec, source: TensorSource, kind: str) -> int:
    chosen = codec.chosen_for(source, "weights" if kind == "weights" else "activations")
    key = ("container_bits", chosen)
    if key not in source.memo:
        source.memo[key] = chosen.size_bits(source)
    bits: int = source.memo[key]
    return bits
