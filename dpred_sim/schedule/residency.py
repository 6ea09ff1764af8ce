"""What stays on chip while a layer runs, and in which order its loops go.

`plan_layer` is pure: sizes in, decision out. It is called when a layer starts, because the stored size
of a tensor is known once the tensor is produced, not before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dpred_sim.errors import InputError

LoopOrder = Literal["filters", "windows"]
BURST_ROOM_BITS = 16 * 1024
"""Room that one burst can take beyond the rows that are needed (64 bytes of all-zero groups)."""
WINDOW_SLACK_BITS = 512 * 1024
"""Room wanted beyond the rows of one window set, so that fetching runs ahead (assumption)."""


@dataclass(frozen=True, slots=True)
class StreamNeeds:
    """A tensor that a layer reads row by row, as far as it is not on chip.

    `row_room` are the bits that each of its rows takes in the buffer, `span` the rows that one window
    set needs at a time, `resident` how many of the first rows are on chip.
    """

    row_room: NDArray[np.int64]
    span: int
    resident: int
    stored_bytes: int
    """Off-chip bytes of the rows that are not on chip, read once."""
    sweep_bytes: int
    """The same when every weight block reads what it needs anew."""

    @property
    def streamed_room(self) -> int:
        """Bits that the streamed rows take when all of them are held."""
        return int(self.row_room[self.resident :].sum())

    @property
    def minimum_room(self) -> int:
        """Bits without which not even one window set can run."""
        rows = self.row_room[self.resident :]
        if rows.size == 0:
            return 0
        span = min(self.span, rows.size)
        sums = np.convolve(rows, np.ones(span, dtype=np.int64), mode="valid")
        return min(int(rows.sum()), int(sums.max()) + BURST_ROOM_BITS)


@dataclass(frozen=True, slots=True)
class LayerNeeds:
    """What `plan_layer` decides from; sizes in bits unless they say bytes."""

    name: str
    activations: StreamNeeds
    shortcut: StreamNeeds | None
    output_row_room: NDArray[np.int64]
    """Room that each output row takes, assumed raw before it is produced."""
    output_readers: int
    set_output_room: int
    """Room for what one window set produces before it is written off chip."""
    weight_bytes: int
    weight_blocks: int
    weights_fit: bool
    """All weights of the layer fit into the weight buffers together."""
    chunked: bool
    """Blocks are cut into channel chunks: partial sums leave the chip and come back."""
    free_room: int
    """Free room of the buffer while the layer runs."""
    keep_room: int
    """Room that outputs may hold when the layer ends; none for the last outputs."""


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """How a layer runs: loop order, and the parts of the buffer that each stream gets (bits)."""

    order: LoopOrder
    hold_activations: bool
    """All streamed rows are kept until the layer ends, so every sweep after the first finds them."""
    activation_room: int
    shortcut_room: int
    staging_room: int
    output_rows_kept: int
    run_rows: int
    """Order `windows`: activation rows that all blocks work on before going on."""
    traffic_bytes: int
    """Off-chip bytes expected; candidates are compared by it."""


def minimum_room(needs: LayerNeeds) -> int:
    """Bits of the buffer without which a layer cannot run, whatever is kept on chip."""
    shortcut = 0 if needs.shortcut is None else needs.shortcut.minimum_room
    return needs.activations.minimum_room + shortcut + 2 * needs.set_output_room


def plan_layer(needs: LayerNeeds) -> LayerPlan:
    """The candidate with the least off-chip traffic; on a tie the first one.

    Raises InputError when not even one window set fits.
    """
    candidates = [
        plan
        for order, hold in (("filters", True), ("windows", False), ("filters", False))
        if (plan := _candidate(needs, order, hold)) is not None  # type: ignore[arg-type]
    ]
    if not candidates:
        raise InputError(
            "one window set and its outputs do not fit the activation buffer",
            field=f"layer {needs.name!r}",
            found=f"{needs.free_room} bit free",
            allowed=f"at least {minimum_room(needs)} bit",
        )
    return min(candidates, key=lambda plan: plan.traffic_bytes)


def _candidate(needs: LayerNeeds, order: LoopOrder, hold: bool) -> LayerPlan | None:
    acts = needs.activations
    if order == "windows" and needs.chunked:
        return None
    least = acts.minimum_room
    if hold:
        window = acts.streamed_room
    else:
        window = min(acts.streamed_room, 2 * least + WINDOW_SLACK_BITS)
    shortcut = 0
    least_shortcut = 0
    if needs.shortcut is not None:
        least_shortcut = needs.shortcut.minimum_room
        shortcut = min(needs.shortcut.streamed_room, 2 * least_shortcut + WINDOW_SLACK_BITS)
    blocks = needs.weight_blocks if order == "windows" else 1
    staging = min(int(needs.output_row_room.sum()), 4 * needs.set_output_room + WINDOW_SLACK_BITS)
    least_staging = 2 * needs.set_output_room
    if hold:
        least = window
    spare = needs.free_room - least - least_shortcut - least_staging
    if spare < 0:
        return None
    # Wishes beyond the least are cut in the same proportion when room is short.
    wished = (window - least) + (shortcut - least_shortcut) + max(0, staging - least_staging)
    share = min(1.0, spare / wished) if wished else 1.0
    window = least + int((window - least) * share)
    shortcut = least_shortcut + int((shortcut - least_shortcut) * share)
    staging = least_staging + int(max(0, staging - least_staging) * share)
    room = min(needs.free_room - window - shortcut, needs.keep_room)
    everything = int(needs.output_row_room.sum())
    if everything <= room and not needs.chunked:
        kept = len(needs.output_row_room)
        staging = 0
    else:
        room = min(needs.free_room - window - shortcut - staging, needs.keep_room)
        kept = int(np.searchsorted(np.cumsum(needs.output_row_room), room, side="right")) if room > 0 else 0
    spilled = int(needs.output_row_room[kept:].sum())
    run_rows = _run_rows(acts, window)
    sweeps = 1
    if order == "windows" and not needs.weights_fit and blocks > 1:
        sweeps = max(1, -(-len(acts.row_room) // run_rows))
    traffic = acts.stored_bytes if hold or order == "windows" else acts.sweep_bytes
    traffic += needs.weight_bytes * sweeps
    # The stored size of outputs is not known yet: they count raw.
    traffic += spilled // 8 * (1 + needs.output_readers)
    return LayerPlan(order, hold, window, shortcut, staging, kept, run_rows, traffic)


def _run_rows(acts: StreamNeeds, window: int) -> int:
    """Rows of a run of order `windows`: what half of the window holds, but at least one window set."""
    rows = acts.row_room[acts.resident :]
    if rows.size == 0:
        return len(acts.row_room)
    return max(acts.span, window // 2 // max(1, int(rows.max())))
