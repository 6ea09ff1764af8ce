"""A line a layer, for logs and pipes: what the live view becomes where there is no terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TextIO

from dpred_sim.observe.status import Status
from dpred_sim.observe.tables import short_name
from dpred_sim.simulation.result import LayerResult
from dpred_sim.simulation.snapshot import Snapshot


class PlainView:
    """Prints a line on `stream` for each layer that has ended since the last update.

    `finished(first)` gives the results of the layers that have ended, from the one numbered `first` on.
    """

    wants_events = False
    keeps_last = True
    chosen = ()

    def __init__(self, stream: TextIO, finished: Callable[[int], Sequence[LayerResult]]) -> None:
        self._stream = stream
        self._finished = finished
        self._printed = 0

    def update(self, snapshot: Snapshot, status: Status) -> None:
        """Print the layers that have ended."""
        ended = sum(layer.end_ps is not None for layer in snapshot.layers)
        if ended <= self._printed:
            return
        for result in self._finished(self._printed):
            self._printed += 1
            print(layer_line(result, self._printed, len(snapshot.layers)), file=self._stream)
        self._stream.flush()

    def key(self, key: str) -> bool:
        """There is nothing to choose."""
        return False

    def hide(self) -> None:
        """Nothing to give back."""

    def close(self) -> None:
        """Nothing to give back."""


def layer_line(layer: LayerResult, number: int, count: int) -> str:
    """One layer as one line: cycles, what bounded it, off-chip bytes and ratio."""
    stored, raw = layer.offchip_bytes, layer.offchip_bytes_raw
    ratio = f" = {stored / raw:.3f}" if raw else ""
    place = f"{number:>{len(str(count))}}/{count}"
    return (
        f"layer {place} {short_name(layer.name, 32)}: {layer.cycles:,} cycles, bound by {layer.bound_by}, "
        f"off-chip {stored:,} of {raw:,} B raw{ratio}"
    )
