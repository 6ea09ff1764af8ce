"""Which part of a run: components and layers by name, and a window of time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.errors import InputError, nearest

FOREVER = 1 << 62


@dataclass(frozen=True, slots=True)
class Selection:
    """Patterns are names with `*` and `?`; none selects everything.

    A component is selected by its own name, its group's (`tile` for all tiles) or its kind's; times are
    in picoseconds, `start_ps` included, `end_ps` not.
    """

    components: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    start_ps: int = 0
    end_ps: int = FOREVER

    @property
    def has_window(self) -> bool:
        """Whether some time is left out."""
        return self.start_ps > 0 or self.end_ps < FOREVER

    def takes_component(self, *names: str) -> bool:
        """Whether something of these names (its own, its group's, its kind's) is selected."""
        return not self.components or any(
            _matches(name, pattern) for name in names for pattern in self.components
        )

    def takes_layer(self, layer: str) -> bool:
        """Whether a layer is selected."""
        return not self.layers or any(_matches(layer, pattern) for pattern in self.layers)

    def tracks(self, rows: Sequence[dict[str, Any]], file: Path | None = None) -> NDArray[np.bool_] | None:
        """By track whether it is selected, None for all; raises InputError for a name of nothing."""
        if not self.components:
            return None
        names = [(row["name"], row["group"], row["kind"]) for row in rows]
        known = dict.fromkeys(name for row in names for name in row)
        _check(self.components, known, "component", file)
        return np.array([self.takes_component(*row) for row in names])

    def layer_codes(self, layers: Sequence[str], file: Path | None = None) -> NDArray[np.bool_] | None:
        """By layer, and last by none, whether it is selected; as `tracks`."""
        if not self.layers:
            return None
        _check(self.layers, layers, "layer", file)
        return np.array([*(self.takes_layer(name) for name in layers), False])


def _matches(name: str, pattern: str) -> bool:
    # Names of links have brackets, which are no sets of characters here.
    return fnmatchcase(name, pattern.replace("[", "[[]"))


def _check(patterns: Iterable[str], known: Iterable[str], noun: str, file: Path | None) -> None:
    names = list(known)
    for pattern in patterns:
        if not any(_matches(name, pattern) for name in names):
            raise InputError(
                f"no {noun} has such a name{nearest(pattern, names)}", file=file, found=pattern, allowed=names
            )
