"""Outputs of the loop nest, computed from what enters its units.

A design says how the values of an operand enter: as *parts*, each an exponent and a digit for every
value, that stand for the sum of digit * 2^exponent. A unit multiplies parts, shifts and adds, so

    outputs = sum over parts i of the activations and j of the weights of 2^(e_i + e_j) * (A_i . W_j)

Operands are laid out as the lanes of the steps see them: space to depth, channel chunks, depthwise
lanes and idle lanes are those of the nest. Products run in floating point where that is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpred_sim.designs.bricks import lane_values, value_blocks, window_view
from dpred_sim.designs.loop_nest import Nest
from dpred_sim.errors import InputError

Integers = NDArray[np.int64]
Part = tuple[int, NDArray[Any]]
"""Exponent, and a digit for each value of an operand."""
SLAB_VALUES = 1 << 21
"""Values of an operand that are looked at in one go."""
EXACT: tuple[tuple[type[np.floating[Any]], int], ...] = ((np.float32, 1 << 24), (np.float64, 1 << 53))
DIFFERENCE_BITS = 16


@dataclass(frozen=True, slots=True)
class Operand:
    """What some windows, or some filters, of one region bring to the lanes.

    `values` is (windows or filters, inner, tile, lane); `numbers` says which windows of the layer, or
    filters of the region. A filter of a depthwise region has one tile and lane: those of its number.
    Values are made of `blocks` blocks of `pe_width` bits.
    """

    nest: Nest
    region: int
    numbers: Integers
    values: NDArray[np.int32]
    signed: bool
    blocks: int

    def split(self) -> list[tuple[NDArray[np.int32], bool]]:
        """Blocks of the values, lowest first, with "is signed": only the top one can be."""
        return list(value_blocks(self.values, self.signed, self.blocks, self.nest.pe_width))


Enter = Callable[[Operand], Iterator[Part]]
"""How the values of an operand enter the units."""


class Lanes:
    """Both operands of a layer, laid out for the lanes. Values are made once."""

    def __init__(self, nest: Nest, differences: bool = False) -> None:
        """With `differences`, windows behind the first of a row bring differences to the one before."""
        layer = nest.layer
        assert layer.weights is not None
        activations = layer.activations.load()
        plane = lane_values(nest, activations.values.astype(np.int32))
        cells = (nest.regions, nest.channel_tiles, nest.chunks, nest.lanes)
        self.nest = nest
        self.differences = differences
        self._plane = plane.reshape(*plane.shape[:2], *cells)
        self._signed = activations.signed or differences
        weights = layer.weights.load()
        self._weights = weights.values.reshape(layer.filters, nest.inner // nest.chunks, -1)
        self._weights_signed = weights.signed
        # Filters of a region (of a depthwise one that is full).
        grouped = layer.filters // layer.groups
        self.region_filters = nest.channel_tiles * nest.lanes if nest.depthwise else grouped

    def windows(self, region: int) -> Iterator[Operand]:
        """The activations of a region, some whole window sets at a time.

        Raises InputError when a difference does not fit its 16 bits.
        """
        nest = self.nest
        view = window_view(nest, self._plane[:, :, region])
        each = nest.inner * nest.channel_tiles * nest.lanes * nest.windows_per_set
        step = max(1, SLAB_VALUES // each) * nest.windows_per_set
        for first in range(0, nest.layer.windows, step):
            numbers = np.arange(first, min(first + step, nest.layer.windows))
            y, x = np.divmod(numbers, nest.layer.conv_width)
            values = view[y, x]
            if self.differences:
                before = view[y, np.maximum(x - 1, 0)]
                before[x == 0] = 0
                values -= before
                _check_differences(nest, values)
            shape = (len(numbers), nest.inner, nest.channel_tiles, nest.lanes)
            lanes = values.transpose(0, 1, 2, 4, 3, 5).reshape(shape)
            yield Operand(nest, region, numbers, lanes, self._signed, nest.act_blocks)

    def filters(self, region: int) -> Iterator[Operand]:
        """The weights of a region, the filters of some whole tiles at a time."""
        nest = self.nest
        values = self._weights[region * self.region_filters : (region + 1) * self.region_filters]
        lanes = 1 if nest.depthwise else nest.lanes
        idle = nest.chunks * lanes - values.shape[2]
        step = max(1, SLAB_VALUES // (nest.inner * lanes * nest.rows)) * nest.rows
        for first in range(0, len(values), step):
            part = values[first : first + step].astype(np.int32)
            filled = np.pad(part, ((0, 0), (0, 0), (0, idle))) if idle else part
            numbers = np.arange(first, first + len(part))
            cells = filled.reshape(len(part), nest.inner, 1, lanes)
            yield Operand(nest, region, numbers, cells, self._weights_signed, nest.wgt_blocks)


def nest_outputs(lanes: Lanes, activations: Enter, weights: Enter) -> Integers:
    """Outputs (windows, filters) before bias and activation, from the parts that enter.

    Of differences, outputs are added up along the rows of windows. Raises InputError as `Lanes.windows`.
    """
    nest, layer = lanes.nest, lanes.nest.layer
    outputs = np.zeros((layer.windows, layer.filters), dtype=np.int64)
    for region in range(nest.regions):
        for filters in lanes.filters(region):
            parts = [_Factor(e, _filter_matrix(filters, digits)) for e, digits in weights(filters)]
            first = region * lanes.region_filters + int(filters.numbers[0])
            columns = slice(first, first + len(filters.numbers))
            for windows in lanes.windows(region):
                rows = slice(int(windows.numbers[0]), int(windows.numbers[-1]) + 1)
                for exponent, digits in activations(windows):
                    part = _Factor(exponent, _window_matrix(windows, digits, filters))
                    for other in parts:
                        if part.peak and other.peak:
                            product = _exact_product(part, other)
                            outputs[rows, columns] += product << (part.exponent + other.exponent)
    if lanes.differences:
        by_row = outputs.reshape(layer.conv_height, layer.conv_width, layer.filters)
        np.cumsum(by_row, axis=1, out=by_row)
    return outputs


def _check_differences(nest: Nest, values: NDArray[np.int32]) -> None:
    limit = 1 << (DIFFERENCE_BITS - 1)
    wide = np.count_nonzero((values < -limit) | (values >= limit))
    if wide:
        raise InputError(
            f"differences do not fit {DIFFERENCE_BITS} bits: outputs made of them would be wrong",
            field=f"layer {nest.layer.name!r}: diffy",
            found=f"{wide} differences",
            allowed=f"{-limit}..{limit - 1}",
        )


def _window_matrix(windows: Operand, digits: NDArray[Any], filters: Operand) -> NDArray[Any]:
    """(window, what is summed over), or for a depthwise region (filter, window, tap)."""
    rows = len(windows.numbers)
    if not windows.nest.depthwise:
        return digits.reshape(rows, -1)
    return digits.reshape(rows, windows.nest.inner, -1).transpose(2, 0, 1)[filters.numbers]


def _filter_matrix(filters: Operand, digits: NDArray[Any]) -> NDArray[Any]:
    """(filter, what is summed over), or for a depthwise region (filter, 1, tap)."""
    rows = len(filters.numbers)
    return digits.reshape(rows, 1, -1) if filters.nest.depthwise else digits.reshape(rows, -1)


class _Factor:
    """One part of an operand as a matrix, in every precision that it was asked for."""

    def __init__(self, exponent: int, digits: NDArray[Any]) -> None:
        self.exponent = exponent
        self.peak = max(abs(int(digits.min(initial=0))), abs(int(digits.max(initial=0))))
        self.sums = digits.shape[-1]
        self._digits = digits
        self._made: dict[type[np.floating[Any]], NDArray[Any]] = {}

    def typed(self, dtype: type[np.floating[Any]]) -> NDArray[Any]:
        """The digits as floating-point numbers."""
        if dtype not in self._made:
            self._made[dtype] = self._digits.astype(dtype)
        return self._made[dtype]


def _exact_product(activations: _Factor, weights: _Factor) -> Integers:
    """Matrix product of two parts in the narrowest floating-point format that is exact."""
    bound = activations.peak * weights.peak * weights.sums
    fitting = [dtype for dtype, limit in EXACT if bound < limit]
    if not fitting:
        raise OverflowError(f"sums of {weights.sums} products need more than 53 bits")
    a, w = activations.typed(fitting[0]), weights.typed(fitting[0])
    product: NDArray[Any] = (a * w).sum(axis=2).T if a.ndim == 3 else a @ w.T
    sums: Integers = product.astype(np.int64)
    return sums
