"""Look things up in a record by number, a few chunks at a time."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from dpred_sim.observe.record.format import TABLES, Columns
from dpred_sim.observe.record.reader import Record

KEPT = 4
"""Chunks of each table that stay in memory: rows that belong together lie close together."""


class Pages:
    """Rows of spans and transfers by number, and what names a span, by that span."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._lists: OrderedDict[tuple[str, int], list[tuple[Any, ...]]] = OrderedDict()
        self._arrays: OrderedDict[tuple[str, int], Columns] = OrderedDict()
        self._firsts: dict[str, list[int]] = {}
        self._named: dict[tuple[str, str], list[tuple[int, int]]] = {}

    def row(self, table: str, number: int) -> tuple[Any, ...]:
        """The row of this number, in the order of the table's columns; raises IndexError for none."""
        firsts = self._first_rows(table)
        place = bisect_right(firsts, number) - 1
        if number < 0 or place < 0 or number >= self._record.rows[table]:
            raise IndexError(number)
        key = (table, place)
        rows = self._lists.get(key)
        if rows is None:
            columns = self._chunk(table, place)
            rows = list(zip(*(columns[name].tolist() for name in TABLES[table]), strict=True))
            _keep(self._lists, key, rows)
        return rows[number - firsts[place]]

    def naming(self, table: str, column: str, value: str, numbers: Sequence[int]) -> dict[int, list[int]]:
        """For spans whose numbers lie between the first and the last of `numbers`, by number: the `value`s
        of all rows of a table whose `column` names them."""
        low, high = numbers[0], numbers[-1]
        found: dict[int, list[int]] = {}
        for place, (least, most) in enumerate(self._ranges(table, column)):
            if most < low or least > high:
                continue
            columns = self._chunk(table, place)
            named = columns[column]
            keep = (named >= low) & (named <= high)
            for span, other in zip(named[keep].tolist(), columns[value][keep].tolist(), strict=True):
                found.setdefault(span, []).append(other)
        return found

    def _chunk(self, table: str, place: int) -> Columns:
        key = (table, place)
        columns = self._arrays.get(key)
        if columns is None:
            columns = self._record.chunk(table, place)
            _keep(self._arrays, key, columns)
        return columns

    def _first_rows(self, table: str) -> list[int]:
        if table not in self._firsts:
            counts = [self._record.chunk_rows(table, n) for n in range(self._record.chunk_count(table))]
            self._firsts[table] = np.cumsum([0, *counts[:-1]]).tolist() if counts else []
        return self._firsts[table]

    def _ranges(self, table: str, column: str) -> Iterable[tuple[int, int]]:
        """Least and greatest number that each chunk of a table names."""
        key = (table, column)
        if key not in self._named:
            chunks = (self._record.chunk(table, n)[column] for n in range(self._record.chunk_count(table)))
            self._named[key] = [(int(chunk.min()), int(chunk.max())) for chunk in chunks]
        return self._named[key]


def _keep(kept: OrderedDict[tuple[str, int], Any], key: tuple[str, int], value: Any) -> None:
    kept[key] = value
    tables = [other for other in kept if other[0] == key[0]]
    if len(tables) > KEPT:
        del kept[tables[0]]
