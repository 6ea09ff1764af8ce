"""Every codec as the encoding of DRAM: containers come back, and what is moved is what they take."""

from __future__ import annotations

import pytest

from dpred_sim.codecs.base import CODECS, codec
from dpred_sim.errors import InputError
from dpred_sim.simulation.engine import Simulation
from dpred_sim.simulation.systems import load_topology
from dpred_sim.simulation.verify import verify_workload
from tests.networks import random_workload


@pytest.mark.parametrize("name", CODECS.names())
def test_a_network_runs_on_a_system_that_stores_with_it(name: str) -> None:
    found = random_workload(4)
    system = load_topology("dpred_stripes_ddr4", set=[f"nodes.dram.stores.codec={name}"])
    result = Simulation(found, system).run()
    assert result.complete
    weights = [node.layer.weights for node in found.network if node.layer.weights is not None]
    stored = sum(codec(name).chosen_for(w, "weights").size_bits(w) for w in weights)
    assert result.traffic["paper_traffic"]["weights_bytes"] == -(-stored // 8)
    moved = sum(layer.traffic["weights"].read_bytes for layer in result.layers)
    # Besides the containers: pointers, and padding to bursts of 64 bytes, a few blocks a layer.
    assert stored / 8 <= moved <= stored / 8 + 8 * 68 * len(weights)
    assert verify_workload(found, system)["containers"] > 0


def test_a_table_cannot_be_named_in_a_topology() -> None:
    with pytest.raises(InputError, match="not a table of value ranges"):
        load_topology(
            "dpred_stripes_ddr4", set=["nodes.dram.stores.codec=apack", "nodes.dram.stores.table=3"]
        )
