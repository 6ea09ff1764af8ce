"""Addresses within a channel: which bits are row, rank, bank, bank group and column.

A mapping is written from the highest field to the lowest, as "ro ra ba co bg" (separators may be left
out, case does not matter):

    ro row   ra rank   bg bank group   ba bank of a group   co column (in bursts)

A field may be cut in pieces, each lower piece with its number of bits ("ro ba bg co3 ra co2"). Where a
mapping has no `bg`, it sits just below `ba`; no `ra`, just above. "^" after bg, ba or ra XORs it with row
bits ("ro ba^ co bg^"), "~" with column bits; hashed fields take successive bits of the row or the column
from the lowest on, the field that is lowest in the address first. The burst offset is always below.
The names that Ramulator gives its mappings are known too: RoBaRaCoCh, ChRaBaRoCo, MOP4CLXOR.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from dpred_sim.components.dram.standard import Standard
from dpred_sim.errors import InputError

DEFAULT = "ro ra ba co bg"
"""Bank groups interleaved burst by burst, then columns: the fastest for streams."""

ALIASES = {
    "mop4clxor": "ro co ba~ bg~ ra~ co2",
    "chrabaroco": "ra bg ba ro co",
    "robaracoch": "ro ba bg ra co",
}

_NAMES = ("ro", "ra", "bg", "ba", "co")
_TOKEN = re.compile(r"(ro|ra|bg|ba|co|ch)(\d*)([\^~]?)")


@dataclass(frozen=True, slots=True)
class Field:
    """Some bits of an address (of bursts): `width` bits from `low` are bits of `name` from `shift` on."""

    name: str
    low: int
    width: int
    shift: int


@dataclass(frozen=True, slots=True)
class Location:
    """Where a burst lies. `bank` counts through ranks, groups and banks: (rank, group, bank)."""

    rank: int
    group: int
    bank: int
    row: int
    column: int
    flat_bank: int


class Mapping:
    """A mapping of one channel of a standard.

    Raises InputError for a text that is not a mapping.
    """

    def __init__(self, text: str | None, standard: Standard, bus_bits: int | None = None) -> None:
        self.text = text if text is not None else standard.mapping or DEFAULT
        self.standard = standard
        self.burst_bytes = standard.burst_bytes(bus_bits)
        self._bits = {
            "ro": _log2(standard.rows, up=True),
            "ra": _log2(standard.ranks),
            "bg": _log2(standard.bank_groups),
            "ba": _log2(standard.banks_per_group),
            "co": _log2(standard.page_bytes(bus_bits) // self.burst_bytes),
        }
        tokens = self._parse()
        self.hashed = self._hashes(tokens)
        """Field, the field it is XORed with, and from which bit of that."""
        self.fields = self._place(tokens)
        rows = [field.low for field in self.fields if field.name == "ro" and field.width]
        self.low_bits = min(rows, default=sum(self._bits.values()))
        """Address bits (in bursts) below the lowest row bit."""
        highest = [field.name for field in self.fields if field.width][-1:]
        self._row_on_top = highest == ["ro"]
        by_row = any(source == "ro" for _, source, _ in self.hashed)
        self.plain = self._row_on_top and len(rows) <= 1 and not by_row
        """Row bits are contiguous on top and no bank is hashed with it: the row is `burst >> low_bits`."""
        self.row_mask = (1 << self._bits["ro"]) - 1

    def _parse(self) -> list[tuple[str, str, str]]:
        """Fields from the highest: name, number of bits or nothing, mark of a hash or nothing."""
        text = re.sub(r"[\s,:|-]+", "", self.text.lower())
        text = ALIASES.get(text, text).replace(" ", "")
        tokens = [(match[1], match[2], match[3]) for match in _TOKEN.finditer(text)]
        if not tokens or "".join(a + b + c for a, b, c in tokens) != text:
            raise InputError(
                "not an address mapping", field="mapping", found=self.text, allowed=f"such as {DEFAULT!r}"
            )
        tokens = [token for token in tokens if token[0] != "ch"]
        names = [token[0] for token in tokens]
        for missing in ("bg", "ra"):
            if missing not in names and "ba" in names:
                at = len(names) - 1 - names[::-1].index("ba") + (1 if missing == "bg" else 0)
                if missing == "ra":
                    at = names.index("ba")
                tokens.insert(at, (missing, "", ""))
                names.insert(at, missing)
        for name in _NAMES:
            if name not in names:
                raise InputError(f"the mapping lacks {name!r}", field="mapping", found=self.text)
        return tokens

    def _hashes(self, tokens: list[tuple[str, str, str]]) -> tuple[tuple[str, str, int], ...]:
        hashed: list[tuple[str, str, int]] = []
        used = {"ro": 0, "co": 0}
        for name, _, mark in reversed(tokens):
            if mark and name in used:
                raise InputError("only bg, ba and ra can be hashed", field="mapping", found=self.text)
            if mark:
                source = "ro" if mark == "^" else "co"
                hashed.append((name, source, used[source]))
                used[source] += self._bits[name]
        return tuple(hashed)

    def _place(self, tokens: list[tuple[str, str, str]]) -> list[Field]:
        """Fields from the lowest; the highest piece of each takes the bits that are left."""
        fields: list[Field] = []
        low = 0
        used = dict.fromkeys(_NAMES, 0)
        for index in range(len(tokens) - 1, -1, -1):
            name, count, _ = tokens[index]
            last = all(token[0] != name for token in tokens[:index])
            left = self._bits[name] - used[name]
            if not last and not count:
                raise InputError(
                    f"a lower piece of {name!r} needs its number of bits", field="mapping", found=self.text
                )
            width = int(count) if count else left
            if width > left or (last and width != left):
                raise InputError(f"{name!r} has {self._bits[name]} bits", field="mapping", found=self.text)
            fields.append(Field(name, low, width, used[name]))
            used[name] += width
            low += width
        return fields

    def locate(self, burst: int) -> Location:
        """The place of a burst (address divided by the burst size). Addresses wrap at the capacity."""
        values = dict.fromkeys(_NAMES, 0)
        for field in self.fields:
            values[field.name] |= ((burst >> field.low) & ((1 << field.width) - 1)) << field.shift
        row = values["ro"]
        for name, source, shift in self.hashed:
            values[name] ^= (values[source] >> shift) & ((1 << self._bits[name]) - 1)
        standard = self.standard
        flat = (values["ra"] * standard.bank_groups + values["bg"]) * standard.banks_per_group + values["ba"]
        return Location(values["ra"], values["bg"], values["ba"], row, values["co"], flat)


def _log2(value: int, up: bool = False) -> int:
    return (value - 1).bit_length() if up else value.bit_length() - 1
