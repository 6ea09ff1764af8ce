"""Tiles: rows of filters by columns of windows, timed by a design."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from dpred_sim.components.base import Component, register
from dpred_sim.topology import schema
from dpred_sim.topology.schema import Scalar


class TileParameters(schema.Parameters):
    """What a topology file says of a tile: its design by name, and that design's parameters.

    Further keys (`lanes`, `columns`, `rows`, `run_ahead`...) are the design's, checked by whoever knows
    the designs. `tiles` is not among them: it is the number of tiles that a dispatcher feeds.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, Scalar] = Field(init=False)

    design: str = Field(strict=True, description="Name of a design; further keys are its parameters.")

    @property
    def options(self) -> dict[str, Any]:
        """Parameters of the design that the file gives."""
        return dict(self.__pydantic_extra__ or {})

    @model_validator(mode="before")
    @classmethod
    def _no_tiles(cls, data: Any) -> Any:
        if isinstance(data, dict) and "tiles" in data:
            raise PydanticCustomError(
                "extra_forbidden",
                "not a key of a tile: the number of tiles is how many a dispatcher feeds (say count)",
                {"key": "tiles"},
            )
        return data


@register("tile")
class Tile(Component):
    """A compute unit; see `TileParameters`."""

    kind = "tile"
    Parameters = TileParameters
