"""Address mappings: every burst has one place, every place one burst."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dpred_sim.components.dram.mapping import Mapping
from dpred_sim.components.dram.standard import load_standard
from dpred_sim.errors import InputError

DDR4 = load_standard("DDR4-3200").with_ranks(2)
SMALL = replace(DDR4, density_bits=DDR4.banks * DDR4.page_bits * 4)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "rochrabacobg",
        "RoBaRaCoCh",
        "ro-ra-ba-bg-co",
        "ro ba bg co3 ra co4",
        "ro ba^ co bg^",
        "co ro ba",
        "ba bg ro ra co ro1",
        "MOP4CLXOR",
        "ChRaBaRoCo",
    ],
)
def test_a_mapping_is_one_to_one(text: str | None) -> None:
    mapping = Mapping(text, SMALL)
    bursts = SMALL.capacity_bytes() // SMALL.burst_bytes()
    places = {mapping.locate(burst) for burst in range(bursts)}
    assert len(places) == bursts
    for place in places:
        assert 0 <= place.row < SMALL.rows
        assert place.flat_bank == (place.rank * 4 + place.group) * 4 + place.bank


def test_the_default_interleaves_bank_groups() -> None:
    mapping = Mapping(None, DDR4)
    assert [mapping.locate(burst).group for burst in range(6)] == [0, 1, 2, 3, 0, 1]
    assert mapping.locate(4 * 128).bank == 1
    assert mapping.locate(4 * 128 * 4).rank == 1
    assert mapping.locate(4 * 128 * 4 * 2).row == 1


def test_fields_by_hand() -> None:
    place = Mapping("rochrababgco", SMALL).locate((((3 * 2 + 1) * 4 + 2) * 4 + 1) * 128 + 77)
    assert (place.row, place.rank, place.bank, place.group, place.column) == (3, 1, 2, 1, 77)
    hashed = Mapping("ro ra ba co bg^", SMALL).locate((((3 * 2 + 0) * 4 + 0) * 128 + 0) * 4 + 1)
    assert (hashed.row, hashed.group) == (3, 1 ^ 3)
    # column 77 = 0b1001101: rank takes bit 0, group bits 1 and 2, bank bits 3 and 4
    number = ((((3 * 32 + 77 // 4) * 4 + 2) * 4 + 1) * 2 + 1) * 4 + 77 % 4
    mop = Mapping("MOP4CLXOR", SMALL).locate(number)
    assert (mop.row, mop.column, mop.rank, mop.group, mop.bank) == (3, 77, 1 ^ 1, 1 ^ 2, 2 ^ 1)


def test_names_and_fields_left_out_by_hand() -> None:
    rank_first = Mapping("ChRaBaRoCo", SMALL).locate((((1 * 4 + 2) * 4 + 1) * 4 + 3) * 128 + 77)
    assert (rank_first.rank, rank_first.group, rank_first.bank) == (1, 2, 1)
    assert (rank_first.row, rank_first.column) == (3, 77)
    left_out = Mapping("ro ba co", SMALL).locate((((3 * 2 + 1) * 4 + 2) * 4 + 1) * 128 + 77)
    assert left_out == Mapping("ro ra ba bg co", SMALL).locate((((3 * 2 + 1) * 4 + 2) * 4 + 1) * 128 + 77)
    assert (left_out.row, left_out.rank, left_out.bank, left_out.group) == (3, 1, 2, 1)


@pytest.mark.parametrize("text", ["ro xx co", "ro co", "ro ba co2", "ro ba co9 bg co1", "ro^ ba co bg", ""])
def test_what_is_no_mapping(text: str) -> None:
    with pytest.raises(InputError) as caught:
        Mapping(text or " ", DDR4)
    assert caught.value.field == "mapping"
