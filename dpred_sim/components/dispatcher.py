"""Dispatchers: they read activations, detect widths and feed the tiles of a cluster."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from dpred_sim.components.base import Component, register
from dpred_sim.topology import schema
from dpred_sim.topology.schema import Cycles


class DispatcherParameters(schema.Parameters):
    """What a topology file says of a dispatcher."""

    reuse: Literal["window", "none"] = Field(
        default="window",
        description="window: each distinct brick of a window set is read once. none: every step reads anew.",
    )
    latency: Cycles = Field(default=1, description="Cycles of leading-one detection (assumption).")


@register("dispatcher")
class Dispatcher(Component):
    """The head of a cluster; see `DispatcherParameters`."""

    kind = "dispatcher"
    Parameters = DispatcherParameters
