"""A slow, obvious model of the SCNN grid: one product after the other."""

from collections import Counter
from math import ceil
from typing import Any

import numpy as np

from dpred_sim.workload.layer import Layer

Costs = dict[tuple[int, int, int], int]
"""Cycles by (pass, band, channel); the halo exchange is in the last channel of a pass and band."""


def bank(k: int, x: int, y: int, banks: int) -> int:
    high = ((k & 4) << 2) ^ ((x & 2) << 3) ^ ((y & 2) << 3)
    return (high + ((x & 1) << 3) + ((y & 1) << 2) + (k & 3)) % banks


def width(value: int, signed: bool) -> int:
    return max(1, (value if value >= 0 else ~value).bit_length()) + signed


def quotient(a: int, b: int) -> int:
    """Division that rounds towards zero."""
    return a // b if a >= 0 else -(-a // b)


def planes(layer: Layer) -> tuple[Any, Any]:
    """Padded activations (y, x, c) and weights (k, y, x, c); a fully connected layer folded to 16 x 16."""
    assert layer.weights is not None
    values = layer.activations.load().values.astype(int).reshape(layer.height, layer.width, layer.channels)
    weights = layer.weights.load().values.astype(int)
    if layer.kind == "conv" or layer.windows > 1:
        top, left, bottom, right = layer.padding
        padded = np.pad(values, ((top, bottom), (left, right), (0, 0)))
        return padded, weights.reshape(layer.filters, *layer.kernel, -1)
    folds = ceil(layer.channels / 256)
    vector, matrix = np.zeros(folds * 256, int), np.zeros((layer.filters, folds * 256), int)
    vector[: layer.channels], matrix[:, : layer.channels] = values[0, 0], weights
    folded = matrix.reshape(-1, folds, 16, 16).transpose(0, 3, 2, 1)
    return vector.reshape(folds, 16, 16).transpose(2, 1, 0), folded


def passes(design: Any, layer: Layer, outputs: int, rows: int | None) -> list[range]:
    most = design.accumulators // outputs
    most = min(most, rows or most)
    size = layer.filters // layer.groups
    if design.group_passes == "joined" and not layer.is_depthwise:
        size = layer.filters
    return [
        range(first, min(first + most, start + size))
        for start in range(0, layer.filters, size)
        for first in range(start, start + size, most)
    ]


def pair_cycles(design: Any, layer: Layer, acts: Any, wgts: Any, out: tuple[int, int], wait: int) -> int:
    if not design.conflicts:
        return wait
    hits: Counter[int] = Counter()
    for x, y, _ in acts:
        for k, r, s in wgts:
            w, h = quotient(x - r, layer.stride[1]), quotient(y - s, layer.stride[0])
            if 0 <= w < out[0] and 0 <= h < out[1]:
                hits[bank(k, w, h, design.banks)] += 1
    return max(wait, *hits.values(), 1)


def unit_cycles(design: Any, layer: Layer, acts: Any, wgts: Any, out: tuple[int, int]) -> int:
    serial = getattr(design, "serial_bits", None)
    total = 0
    for i in range(0, len(acts), design.act_inputs):
        taken = acts[i : i + design.act_inputs]
        wait = 1
        if serial:
            wait = max(ceil(width(value, layer.activations.signed) / serial) for _, _, value in taken)
        for f in range(0, len(wgts), design.wgt_inputs):
            total += pair_cycles(design, layer, taken, wgts[f : f + design.wgt_inputs], out, wait)
    return total


def bands(layer: Layer, height: int) -> list[tuple[range, range]]:
    """Output rows of bands of `height`, and rows of the padded plane that each reads."""
    found = []
    size = layer.height + layer.padding[0] + layer.padding[2]
    for top in range(0, layer.conv_height, height):
        outputs = range(top, min(top + height, layer.conv_height))
        rows = [
            oy * layer.stride[0] + ky * layer.dilation[0] for oy in outputs for ky in range(layer.kernel[0])
        ]
        last = size - 1 if outputs.stop == layer.conv_height else max(rows)
        found.append((outputs, range(min(rows), last + 1)))
    return found


def cut(design: Any, layer: Layer, rows: int | None) -> tuple[list[range], list[tuple[range, range]]]:
    """Passes and bands: the whole plane if it fits, else what lets fewest rows enter in all passes."""
    wide = ceil(layer.conv_width / design.grid_x)
    whole = wide * ceil(layer.conv_height / design.grid_y)
    if whole <= design.accumulators:
        return passes(design, layer, whole, rows), bands(layer, layer.conv_height)
    best: Any = None
    for height in range(design.grid_y, layer.conv_height, design.grid_y):
        held = wide * (height // design.grid_y)
        if held <= design.accumulators:
            taken, parts = passes(design, layer, held, rows), bands(layer, height)
            entering = sum(len(read) for _ in taken for _, read in parts)
            if best is None or (entering, -height) < best[0]:
                best = (entering, -height), taken, parts
    return best[1], best[2]


def scnn_costs(design: Any, layer: Layer, rows: int | None = None) -> Costs:
    values, weights = planes(layer)
    found: Costs = {}
    if layer.kind == "linear" and layer.windows == 1:
        ks = passes(design, layer, 1, rows)
        if design.fully_connected == "dealt":
            return dealt_costs(design, layer, ks)
        parts = [(range(1), range(len(values)))]
    else:
        ks, parts = cut(design, layer, rows)
    for band, (outputs, read) in enumerate(parts):
        costs = band_costs(design, layer, ks, values[read.start : read.stop], weights, len(outputs))
        found.update({(number, band, c): cost for (number, c), cost in costs.items()})
    return found


def dealt_costs(design: Any, layer: Layer, taken: list[range]) -> Costs:
    """Channel c is the unit's c mod units: its activation meets blocks of the channel's weights."""
    assert layer.weights is not None
    values, weights = layer.activations.load().values.reshape(-1), layer.weights.load().values
    found: Costs = {}
    for number, ks in enumerate(taken):
        total: Counter[int] = Counter({0: 0})
        for step, first in enumerate(range(0, layer.channels, 256)):
            spent: Counter[int] = Counter({0: 0})
            for c in range(first, min(first + 256, layer.channels)):
                acts = [(0, 0, int(values[c]))] if values[c] else []
                wgts = [(k, 0, 0) for k in ks if weights[k, c]]
                spent[c % design.units] += unit_cycles(design, layer, acts, wgts, (1, 1))
            if design.barrier == "pass":
                before = max(total.values())
                total.update(spent)
                found[number, 0, step] = max(total.values()) - before
            else:
                found[number, 0, step] = max(spent.values())
    return found


def band_costs(
    design: Any, layer: Layer, taken: list[range], values: Any, weights: Any, height: int
) -> dict[tuple[int, int], int]:
    """Cycles by (pass, channel) of a plane with `height` rows of outputs."""
    (sy, sx), (dy, dx), (top, left) = layer.stride, layer.dilation, layer.padding[:2]
    _, ky, kx, channels = weights.shape
    folded = layer.kind == "linear" and layer.windows == 1
    out = (1, 1) if folded else (layer.conv_width, height)
    tw, th = ceil(values.shape[1] / design.grid_x), ceil(values.shape[0] / design.grid_y)
    halo = max(
        a * b
        for i, a in enumerate((max(0, (kx - 1) * dx - left), tw, left))
        for j, b in enumerate((max(0, (ky - 1) * dy - top), th, top))
        if (i, j) != (1, 1)
    )
    found: dict[tuple[int, int], int] = {}
    for number, ks in enumerate(taken):
        first = ks[0] // (layer.filters // layer.groups) * channels
        total: Counter[tuple[int, int]] = Counter()
        for c in range(channels):
            spent = Counter({(0, 0): 0})
            for phase in np.ndindex(sx, sy):
                wgts = [
                    (k, r * dx, s * dy)
                    for r in range(kx)
                    for s in range(ky)
                    for k in ks
                    if weights[k, s, r, c] and ((r * dx + left) % sx, (s * dy + top) % sy) == phase
                ]
                for px, py in np.ndindex(design.grid_x, design.grid_y):
                    acts = [
                        (x, y, int(values[y, x, first + c]))
                        for x in range(px * tw, min((px + 1) * tw, values.shape[1]))
                        for y in range(py * th, min((py + 1) * th, values.shape[0]))
                        if values[y, x, first + c] and (x % sx, y % sy) == phase
                    ]
                    spent[px, py] += unit_cycles(design, layer, acts, wgts, out)
            if design.barrier == "pass":
                before = max(total.values(), default=0)
                total.update(spent)
                found[number, c] = max(total.values()) - before
            else:
                found[number, c] = max(spent.values())
        found[number, channels - 1] += halo * len(ks)
    return found
