"""Groups of values as matrices, a chunk at a time: what packing and unpacking of group containers share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpred_sim.codecs.bits import CHUNK, FIELD_BITS, BitReader
from dpred_sim.values.layout import Layout


@dataclass(frozen=True, slots=True)
class Groups:
    """Some groups of a layout, as a matrix with a row a group and `group_size` columns.

    `sizes` values of a row count; `places` are their places in the container, `mask` says which.
    """

    first: int
    last: int
    sizes: NDArray[np.int64]
    places: NDArray[np.int64]
    mask: NDArray[np.bool_]

    @classmethod
    def all(cls, order: Layout, group_size: int) -> Iterator[Groups]:
        """All groups in container order, a chunk at a time."""
        groups = order.groups(group_size)
        lengths = order.group_lengths(group_size).astype(np.int64)
        columns = np.arange(min(group_size, order.length), dtype=np.int64)
        step = max(1, CHUNK // len(columns))
        total = order.runs * groups
        for first in range(0, total, step):
            last = min(first + step, total)
            runs, within = np.divmod(np.arange(first, last, dtype=np.int64), groups)
            sizes = lengths[within]
            mask = columns < sizes[:, None]
            places = (runs * order.length + within * group_size)[:, None] + columns
            places[~mask] = 0
            yield cls(first, last, sizes, places, mask)


def packed_flags(
    flags: NDArray[np.bool_], sizes: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The first `sizes` flags of each row as fields: (values, lengths), both (rows, fields)."""
    columns = flags.shape[1]
    fields = -(-columns // FIELD_BITS)
    room = np.zeros((len(flags), fields * FIELD_BITS), np.bool_)
    room[:, :columns] = flags
    words = np.packbits(room, axis=1).view(">u4").astype(np.uint64)
    lengths = np.clip(sizes[:, None] - FIELD_BITS * np.arange(fields), 0, FIELD_BITS)
    return words >> (FIELD_BITS - lengths).astype(np.uint64), lengths


def stored_values(
    reader: BitReader,
    group: Groups,
    starts: NDArray[np.int64],
    widths: NDArray[np.int64],
    flagged: NDArray[np.bool_],
    signed: bool,
) -> NDArray[np.int64]:
    """The values of groups whose fields begin at `starts`, those within the mask, flattened."""
    stored = group.mask.copy()
    rows = np.flatnonzero(flagged)
    if rows.size:
        mask = group.mask[rows]
        places = starts[rows, None] + np.arange(mask.shape[1])
        mask[mask] = reader.read(places[mask], 1) != 0
        stored[rows] = mask
    before: NDArray[np.int64] = np.cumsum(stored, axis=1) - stored
    begin = starts + np.where(flagged, group.sizes, 0)
    fields = begin[:, None] + before * widths[:, None]
    values = np.zeros(group.mask.shape, np.int64)
    sizes = np.broadcast_to(widths[:, None], stored.shape)[stored]
    found = reader.read(fields[stored], sizes).astype(np.int64)
    if signed:
        sign = np.int64(1) << (sizes - 1)
        found = (found ^ sign) - sign
    values[stored] = found
    return np.asarray(values[group.mask])
