"""The example system and the component kinds that the topology tests use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from dpred_sim.components.buffer import BufferParameters
from dpred_sim.components.dispatcher import DispatcherParameters
from dpred_sim.components.tile import TileParameters
from dpred_sim.errors import InputError, nearest
from dpred_sim.topology import schema
from dpred_sim.topology.graph import Topology
from dpred_sim.topology.load import load
from dpred_sim.topology.schema import Bits, Stores

EXAMPLE = """\
# The system that the tests start from.
# It is limited by nothing.
schema: dpred-topology/1
name: example
clocks: {core: 1 GHz}
nodes:
  dram:        {kind: dram_channel, standard: DDR4-3200, bus: 64 bit, stores: {codec: dpred}}
  activations: {kind: buffer, holds: [activations, outputs], size: 4 MiB, banks: 16, port: 4096 bit}
  weights:     {kind: buffer, count: 4, holds: [weights], size: 512 KiB, port: 4096 bit, stores: {codec: raw}}
  dispatcher:  {kind: dispatcher}
  tile:        {kind: tile, count: 4, design: serial, rows: 16, columns: 16, lanes: 16}
links:
  - {between: [dram, activations], width: 256 bit, latency: 4 cycle}
  - {from: dram, to: "weights[*]", medium: bus, width: 256 bit, latency: 4 cycle}
  - {from: activations, to: dispatcher, width: 4096 bit}
  - {from: dispatcher, to: "tile[*]", medium: broadcast, width: 4096 bit}
  - {from: "weights[i]", to: "tile[i]", width: 4096 bit}
  - {from: "tile[*]", to: activations, medium: bus, width: 4096 bit}
"""


class DramParameters(schema.Parameters):
    standard: str
    bus: Bits = 64
    level: Literal["ideal", "bandwidth", "banked"] = "banked"
    stores: Stores = Stores()


class RouterParameters(schema.Parameters):
    forwards: ClassVar[bool] = True

    delay: schema.TimePs = 0


KINDS: dict[str, type[schema.Parameters]] = {
    "buffer": BufferParameters,
    "dispatcher": DispatcherParameters,
    "dram_channel": DramParameters,
    "router": RouterParameters,
    "tile": TileParameters,
}

CODECS = {"raw": [], "dpred": ["group_size", "mode"]}
DESIGNS = {"serial": ["lanes", "columns", "rows", "run_ahead"]}


def checker(known: Mapping[str, list[str]], noun: str) -> Callable[[str, Mapping[str, Any]], None]:
    def check(name: str, options: Mapping[str, Any]) -> None:
        if name not in known:
            raise InputError(f"unknown {noun}{nearest(name, known)}", found=name, allowed=list(known))
        for key, value in options.items():
            if key not in known[name]:
                raise InputError(
                    f"unknown parameter{nearest(key, known[name])}", field=key, allowed=known[name]
                )
            if not isinstance(value, str | int):
                raise InputError("bad value", field=key, found=value)

    return check


def load_checked(path: Path | str, set: list[str] | tuple[str, ...] = ()) -> Topology:
    return load(path, KINDS, set, checker(CODECS, "codec"), checker(DESIGNS, "design"))
