"""Which rows, positions and outputs each window set of a schedule touches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpred_sim.designs.base import Schedule
from dpred_sim.schedule.placement import image_shape
from dpred_sim.workload.layer import Layer

Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SetGeometry:
    """Window sets of a layer in raster order, one entry a set.

    `first_row` .. `last_row` are the activation rows it reads (inclusive, padding cut off), `bricks` the
    distinct positions among them, `last_window_row` the last row of windows it completes, and
    `outputs` (one entry more) how many stored output positions are complete before each set.
    """

    first_row: Rows
    last_row: Rows
    bricks: Rows
    first_window_row: Rows
    last_window_row: Rows
    outputs: Rows

    @property
    def row_span(self) -> int:
        """Most rows that one window set reads."""
        return int((self.last_row - self.first_row).max()) + 1

    @property
    def output_span(self) -> int:
        """Most stored positions that one window set completes."""
        return int(np.diff(self.outputs).max())

    @property
    def window_row_span(self) -> int:
        """Most rows of windows that one window set touches."""
        return int((self.last_window_row - self.first_window_row).max()) + 1


def set_geometry(schedule: Schedule) -> SetGeometry:
    """Geometry of the window sets of a schedule."""
    layer = schedule.original
    one = np.zeros(1, dtype=np.int64)
    if not schedule.window_parallel:
        rows = image_shape(tuple(layer.activations.shape))[0]
        return SetGeometry(one, one + rows - 1, one + 1, one, one, np.array([0, 1], dtype=np.int64))
    if layer.kind == "move":
        return move_geometry(layer)
    if schedule.by_channels:
        return band_geometry(layer, schedule.sets, schedule.windows_per_set)
    return window_geometry(layer, schedule.sets, schedule.windows_per_set)


def band_geometry(layer: Layer, sets: int, windows_per_set: int) -> SetGeometry:
    """Geometry of bands of whole rows of windows; a band reads its rows as a whole.

    The last one reads what no window covers, too, so that one band reads the whole plane. Padding is
    not stored.
    """
    done = np.minimum(np.arange(1, sets + 1, dtype=np.int64) * windows_per_set, layer.windows)
    below = done // layer.conv_width - 1
    above = np.concatenate([np.zeros(1, dtype=np.int64), below[:-1] + 1])
    top, stride, reach = layer.padding[0], layer.stride[0], (layer.kernel[0] - 1) * layer.dilation[0]
    first = np.clip(above * stride - top, 0, layer.height - 1)
    last = np.clip(below * stride - top + reach, first, layer.height - 1)
    last[-1] = layer.height - 1
    return SetGeometry(
        first, last, (last - first + 1) * layer.width, above, below, _outputs_done(layer, done)
    )


def move_geometry(layer: Layer) -> SetGeometry:
    """Geometry of a memory layer with outputs of another shape: both go by at an even pace.

    It takes one row at a time, of what it reads or of what it writes, whichever has more rows.
    """
    height, width, _ = image_shape(layer.output_shape)
    sets, rows = layer.conv_height, layer.source_rows
    place = np.arange(sets + 1, dtype=np.int64)
    reads, done = place * rows // sets, place * (height * width) // sets
    first, last = reads[:-1], np.maximum(-(-place[1:] * rows // sets) - 1, reads[:-1])
    written = np.maximum(-(-done // width) - 1, 0)
    return SetGeometry(first, last, np.ones_like(first), done[:-1] // width, written[1:], done)


def window_geometry(layer: Layer, sets: int, windows_per_set: int) -> SetGeometry:
    """Geometry of `sets` runs of `windows_per_set` windows of a layer, x fastest.

    A memory layer has a window for each position that it reads.
    """
    width = layer.conv_width
    first = np.arange(sets, dtype=np.int64) * windows_per_set
    last = np.minimum(first + windows_per_set, layer.windows) - 1
    top, bottom = first // width, last // width
    kernel, stride, dilation = layer.kernel, layer.stride, layer.dilation
    pad_top = layer.padding[0]
    height = layer.height
    span = (kernel[0] - 1) * dilation[0]
    first_row = np.clip(top * stride[0] - pad_top, 0, height - 1)
    last_row = np.clip(bottom * stride[0] - pad_top + span, 0, height - 1)
    bricks = _distinct_positions(first, last, top, bottom, width, kernel, stride, dilation)
    return SetGeometry(first_row, last_row, bricks, top, bottom, _outputs_done(layer, last + 1))


def _distinct_positions(
    first: Rows,
    last: Rows,
    top: Rows,
    bottom: Rows,
    width: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
) -> Rows:
    """Distinct activation positions that a set's windows cover, padding included.

    Exact for sets within one row of windows; where a set wraps, the halo that both of its ends share
    is counted twice, up to a whole row.
    """
    columns = np.array(
        [_union(count, kernel[1], stride[1], dilation[1]) for count in range(width + 1)], dtype=np.int64
    )
    rows_of = {count: _union(count, kernel[0], stride[0], dilation[0]) for count in (1, 2)}
    shared = 2 * kernel[0] - rows_of[2]  # rows that two neighbouring rows of windows both read
    one_row = columns[np.minimum(last - first + 1, width)] * kernel[0]
    head = columns[width - first % width]
    tail = columns[last % width + 1]
    both = np.minimum(head + tail, columns[width])
    two_rows = (head + tail) * (kernel[0] - shared) + both * shared
    count = bottom - top + 1
    step = rows_of[2] - kernel[0]
    many_rows = ((count - 1) * step + kernel[0]) * columns[width]
    bricks: Rows = np.where(count == 1, one_row, np.where(count == 2, two_rows, many_rows))
    return bricks


def _union(windows: int, kernel: int, stride: int, dilation: int) -> int:
    """Distinct positions that `windows` neighbouring windows cover along one axis."""
    if windows == 0:
        return 0
    if dilation == 1:
        return (windows - 1) * min(stride, kernel) + kernel
    places = np.arange(windows)[:, None] * stride + np.arange(kernel) * dilation
    return int(np.unique(places).size)


def _outputs_done(layer: Layer, windows_done: Rows) -> Rows:
    """Stored output positions complete once the first `windows_done` windows are, leading 0 included."""
    if layer.pool is None:
        return np.concatenate([np.zeros(1, dtype=np.int64), windows_done])
    pool = layer.pool
    height, width = pool.output_size(layer.conv_height, layer.conv_width)
    rows = np.arange(height) * pool.stride[0] - pool.padding[0] + pool.size[0] - 1
    columns = np.arange(width) * pool.stride[1] - pool.padding[1] + pool.size[1] - 1
    rows = np.minimum(rows, layer.conv_height - 1)
    columns = np.minimum(columns, layer.conv_width - 1)
    # In raster order a pooled position is complete with the last window under it.
    completed_by = (rows[:, None] * layer.conv_width + columns).reshape(-1)
    done = np.searchsorted(completed_by, windows_done - 1, side="right")
    done[-1] = height * width
    return np.concatenate([np.zeros(1, dtype=np.int64), done])
