"""Rows, positions and outputs of window sets, counted window by window."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dpred_sim.schedule.geometry import band_geometry, window_geometry
from dpred_sim.values.tensor import Tensor
from dpred_sim.workload.layer import Layer, Pool


@st.composite
def layers(draw):
    height, width = draw(st.integers(5, 14)), draw(st.integers(5, 14))
    ky, kx = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    stride = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    dilation = (draw(st.integers(1, 2)), 1)
    padding = tuple(draw(st.integers(0, 2)) for _ in range(4))
    if (ky - 1) * dilation[0] >= height + padding[0] + padding[2] or kx > width:
        ky = kx = 1
    pools = [None, Pool("max", (2, 2), (2, 2)), Pool("max", (3, 3), (2, 2), (0, 0, 1, 1))]
    pool = draw(st.sampled_from(pools))
    acts = Tensor(np.ones((height, width, 2), dtype=np.int64))
    weights = Tensor(np.ones((4, ky, kx, 2), dtype=np.int64))
    bare = Layer.conv2d("l", acts, weights, None, stride, padding, dilation)
    if min(bare.conv_height, bare.conv_width) < 3:
        pool = None
    return Layer.conv2d("l", acts, weights, None, stride, padding, dilation, pool=pool)


@given(layer=layers(), per_set=st.integers(1, 20))
@settings(max_examples=80, deadline=None)
def test_sets_against_counting_windows(layer, per_set):
    sets = -(-layer.windows // per_set)
    geometry = window_geometry(layer, sets, per_set)
    top, left = layer.padding[:2]
    done: set[tuple[int, int]] = set()
    for index in range(sets):
        rows, positions, window_rows = set(), set(), set()
        for window in range(index * per_set, min((index + 1) * per_set, layer.windows)):
            oy, ox = divmod(window, layer.conv_width)
            window_rows.add(oy)
            done.add((oy, ox))
            for ky in range(layer.kernel[0]):
                y = oy * layer.stride[0] - top + ky * layer.dilation[0]
                rows.add(min(max(y, 0), layer.height - 1))
                for kx in range(layer.kernel[1]):
                    positions.add((y, ox * layer.stride[1] - left + kx * layer.dilation[1]))
        assert geometry.first_row[index] == min(rows)
        assert geometry.last_row[index] == max(rows)
        assert (geometry.first_window_row[index], geometry.last_window_row[index]) == (
            min(window_rows),
            max(window_rows),
        )
        if len(window_rows) == 1:
            assert geometry.bricks[index] == len(positions)
        else:
            assert geometry.bricks[index] >= len(positions)
        assert geometry.outputs[index + 1] == outputs_done(layer, done)


@given(layer=layers(), rows=st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_bands_against_counting_windows(layer, rows):
    """A band reads every position from its first row to its last one; the last band all that is left."""
    bands = -(-layer.conv_height // rows)
    geometry = band_geometry(layer, bands, rows * layer.conv_width)
    done: set[tuple[int, int]] = set()
    for band in range(bands):
        above, below = band * rows, min((band + 1) * rows, layer.conv_height) - 1
        done |= {(oy, ox) for oy in range(above, below + 1) for ox in range(layer.conv_width)}
        read = [
            min(max(oy * layer.stride[0] - layer.padding[0] + ky * layer.dilation[0], 0), layer.height - 1)
            for oy in range(above, below + 1)
            for ky in range(layer.kernel[0])
        ]
        last = layer.height - 1 if band == bands - 1 else max(read)
        assert (geometry.first_row[band], geometry.last_row[band]) == (0 if band == 0 else min(read), last)
        assert geometry.bricks[band] == (last - geometry.first_row[band] + 1) * layer.width
        assert (geometry.first_window_row[band], geometry.last_window_row[band]) == (above, below)
        assert geometry.outputs[band + 1] == outputs_done(layer, done)


def outputs_done(layer: Layer, done: set[tuple[int, int]]) -> int:
    """Leading stored positions (raster order) whose windows are all done."""
    if layer.pool is None:
        return len(done)
    height, width, _ = layer.output_shape
    count = 0
    for place in range(height * width):
        py, px = divmod(place, width)
        under = [
            (y, x)
            for dy in range(layer.pool.size[0])
            for dx in range(layer.pool.size[1])
            if 0 <= (y := py * layer.pool.stride[0] - layer.pool.padding[0] + dy) < layer.conv_height
            and 0 <= (x := px * layer.pool.stride[1] - layer.pool.padding[1] + dx) < layer.conv_width
        ]
        if len(done) == layer.windows or all(position in done for position in under):
            count += 1
        else:
            break
    return count
