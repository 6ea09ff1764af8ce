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
    slab_room: int | None = None
    """Bits of the largest part that is read at a time, for a tensor that is read part by part."""

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
        if self.slab_room is not None:
            return min(int(rows.sum()), self.slab_room + BURST_ROOM_BITS)
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
    """Room for what one window set of all blocks produces before it is written off chip."""
    block_output_room: int
    """The same of the largest block alone: with blocks outermost, outputs leave block by block."""
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
    by_channels: bool = False
    """Blocks are cut by channels, and read whole planes slab by slab."""
    block_after_block: bool = False
    """A block ends before the next begins: window sets cannot go outermost."""
    bands: int = 1
    """Where there are several, window sets go outermost, one to a run."""

    @property
    def unit(self) -> str:
        """What has to fit the buffer at a time, for people."""
        if self.bands > 1:
            return "one band of the plane"
        return "the plane of a slab of channels" if self.by_channels else "one window set"


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
    outputs = needs.block_output_room if needs.bands == 1 else needs.set_output_room
    return needs.activations.minimum_room + shortcut + 2 * outputs


def plan_layer(needs: LayerNeeds) -> LayerPlan:
    """The candidate with the least off-chip traffic; on a tie the first one.

    Raises InputError when not even one window set fits.
    """
    shapes: list[tuple[LoopOrder, bool, bool]] = [
        ("filters", True, False),
        ("windows", False, False),
        ("windows", False, True),
        ("filters", False, False),
    ]
    plans = [_candidate(needs, order, hold, widest) for order, hold, widest in shapes]
    candidates = [plan for plan in plans if plan is not None]
    if not candidates:
        raise InputError(
            f"{needs.unit} and its outputs do not fit the activation buffer",
            field=f"layer {needs.name!r}",
            found=f"{needs.free_room} bit free",
            allowed=f"at least {minimum_room(needs)} bit",
        )
    return min(candidates, key=lambda plan: plan.traffic_bytes)


def _candidate(needs: LayerNeeds, order: LoopOrder, hold: bool, widest: bool) -> LayerPlan | None:
    """One way to run the layer, or None where it does not fit.

    `hold` keeps all activations once they came; `widest` gives them, and outputs on their way out, all
    the room there is, so that weights that do not fit are fetched for few long runs.
    """
    acts = needs.activations
    if order == "windows" and (needs.chunked or needs.block_after_block):
        return None
    if order == "filters" and needs.bands > 1:
        return None
    rooms = _rooms(needs, order, hold, widest)
    if rooms is None:
        return None
    window, shortcut, staging = rooms
    outputs = needs.output_row_room
    everything = int(outputs.sum())
    room = min(needs.free_room - window - shortcut, needs.keep_room)
    if everything <= room and not needs.chunked:
        kept, staging = len(outputs), 0
    else:
        room = min(needs.free_room - window - shortcut - staging, needs.keep_room)
        kept = int(np.searchsorted(np.cumsum(outputs), room, side="right")) if room > 0 else 0
    run_rows = _run_rows(acts, window)
    fetches = 1
    if needs.bands > 1:
        fetches = 1 if needs.weights_fit else needs.bands
    elif order == "windows" and not needs.weights_fit and needs.weight_blocks > 1:
        fetches = _runs_of(acts, window)
        if needs.shortcut is not None:
            fetches = max(fetches, _runs_of(needs.shortcut, shortcut))
        if staging:
            fetches = max(fetches, -(-everything // (staging // 2)))
    traffic = acts.stored_bytes if hold or order == "windows" else acts.sweep_bytes
    traffic += needs.weight_bytes * fetches
    # The stored size of outputs is not known yet: they count raw.
    traffic += int(outputs[kept:].sum()) // 8 * (1 + needs.output_readers)
    return LayerPlan(order, hold, window, shortcut, staging, kept, run_rows, traffic)


def _rooms(needs: LayerNeeds, order: LoopOrder, hold: bool, widest: bool) -> tuple[int, int, int] | None:
    """Room for activations, the shortcut and outputs on their way out; None where not even the least fits.

    What is wished beyond the least is cut in the same proportion when room is short. With window sets
    outermost a set stays until its last block is done, with filter blocks outermost only what a block adds.
    """
    acts, shortcut = needs.activations, needs.shortcut
    whole = acts.streamed_room
    outputs = needs.block_output_room if order == "filters" else needs.set_output_room
    least = [whole if hold else acts.minimum_room, 0, 2 * outputs]
    wish = [whole if hold or widest else min(whole, 2 * acts.minimum_room + WINDOW_SLACK_BITS), 0, 0]
    if shortcut is not None:
        least[1] = shortcut.minimum_room
        wish[1] = min(shortcut.streamed_room, 2 * least[1] + WINDOW_SLACK_BITS)
    everything = int(needs.output_row_room.sum())
    wish[2] = 2 * everything if widest else min(everything, 4 * needs.set_output_room + WINDOW_SLACK_BITS)
    spare = needs.free_room - sum(least)
    if spare < 0:
        return None
    extra = [max(0, w - n) for w, n in zip(wish, least, strict=True)]
    share = min(1.0, spare / sum(extra)) if any(extra) else 1.0
    window, adds, staging = (n + int(e * share) for n, e in zip(least, extra, strict=True))
    return window, adds, staging


def _runs_of(stream: StreamNeeds, window: int) -> int:
    """Runs of order `windows` that the room of one stream allows."""
    if window >= stream.streamed_room:
        return 1
    return -(-len(stream.row_room) // max(1, _run_rows(stream, window) - stream.span + 1))


def _run_rows(acts: StreamNeeds, window: int) -> int:
    """Rows of a run of order `windows`: what half of the window holds, but at least one window set."""
    rows = acts.row_room[acts.resident :]
    if rows.size == 0:
        return len(acts.row_room)
    return max(acts.span, window // 2 // max(1, int(rows.max())))
