"""Standards as data: what the files say, and how wrong ones are refused."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from dpred_sim.components.dram.standard import FOLDER, load_standard, standard_names
from dpred_sim.errors import InputError

DDR4 = (FOLDER / "DDR4-3200.yaml").read_text()


def write(folder: Path, old: str, new: str) -> Path:
    assert old in DDR4
    path = folder / "mine.yaml"
    path.write_text(DDR4.replace(old, new))
    return path


@pytest.mark.parametrize("name", standard_names())
def test_every_standard_loads_and_states_its_source(name: str) -> None:
    standard = load_standard(name)
    assert standard.name == name
    assert len(standard.source) > 20
    assert standard.peak_bits_per_second() > 0
    assert standard.capacity_bytes() % standard.burst_bytes() == 0


def test_ddr4_3200_in_clocks() -> None:
    standard = load_standard("DDR4-3200")
    timing = standard.timing
    assert standard.tck_ps == 625
    assert (timing.CL, timing.tRCDRD, timing.tRP, timing.tRAS, timing.tRC) == (22, 22, 22, 52, 74)
    assert (timing.tRRD_S, timing.tRRD_L, timing.tFAW) == (4, 8, 34)
    assert (timing.tCCD_S, timing.tCCD_L, timing.tWTR_S, timing.tWTR_L) == (4, 8, 4, 12)
    assert (timing.tRFC, timing.tREFI, timing.tWR, timing.tRTP) == (560, 12480, 24, 12)
    assert standard.peak_bits_per_second() == 3.2e9 * 64
    assert standard.page_bytes() == 8192
    assert standard.capacity_bytes() == 8 << 30
    assert standard.peak_bits_per_second(32) == 3.2e9 * 32


def test_what_differs_by_direction_and_what_a_file_leaves_out() -> None:
    ddr4, ddr5, hbm2 = (load_standard(name).timing for name in ("DDR4-3200", "DDR5-6400", "HBM2"))
    # CL + burst + 2 nCK - CWL
    assert (ddr4.tRTW, hbm2.tRTW) == (22 + 4 + 2 - 16, 14 + 2 + 2 - 5)
    assert (hbm2.tRCDRD, hbm2.tRCDWR, ddr4.tRCDWR) == (14, 12, 22)
    assert (ddr5.tCCD_L, ddr5.tCCD_L_WR, ddr4.tCCD_L_WR) == (16, 32, 8)
    lpddr4 = load_standard("LPDDR4-3200").timing
    # without bank groups the long spacings are the short ones
    assert (lpddr4.tRRD_L, lpddr4.tCCD_L, lpddr4.tWTR_L) == (lpddr4.tRRD_S, lpddr4.tCCD_S, lpddr4.tWTR_S)
    assert lpddr4.tRC == lpddr4.tRAS + lpddr4.tRP == 97


def test_times_are_rounded_up_with_the_guard_of_the_standard(tmp_path: Path) -> None:
    # 13.91 ns is 22.256 clocks: 23; 13.76 ns is 22.016 clocks, within the guard band: 22
    slow = load_standard(write(tmp_path, "tRP: 13.75 ns", "tRP: 13.91 ns"))
    assert slow.timing.tRP == 23
    near = load_standard(write(tmp_path, "tRP: 13.75 ns", "tRP: 13.76 ns "))
    assert near.timing.tRP == 22


def test_fractional_period_is_kept_exactly(tmp_path: Path) -> None:
    standard = load_standard(write(tmp_path, "tCK: 0.625 ns", "tCK: 0.3125 ns"))
    assert standard.tck_ps == Fraction(625, 2)
    assert standard.peak_bits_per_second() == 6.4e9 * 64


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("tREFI: 7.8 us", "tREFI: 12480 nCK", "timing.tREFI"),
        ("tRFC: 350 ns", "tRFC: 350", "timing.tRFC"),
        ("CL: 22 nCK", "CL: 13.75 ns", "timing.CL"),
        ("tRP: 13.75 ns", "tRPP: 13.75 ns", "timing.tRPP"),
        ("tRAS: 32 ns", "tRAS: 3 ns", "timing.tRAS"),
        ("tREFI: 7.8 us", "tREFI: 300 ns", "timing.tREFI"),
        ("bank_groups: 4", "bank_groups: 3", "organisation.bank_groups"),
        ("bank_groups: 4", "bank_groups: four", "organisation.bank_groups"),
        ("burst_length: 8", "burst_length: 7", "organisation.burst_length"),
        ("density: 8 Gibit", "density: 8 Gbit", "organisation.density"),
        ("bus: 64 bit", "bus: 60 bit", "bus"),
        ("schema: dpred-dram/1", "schema: dpred-dram/2", "schema"),
    ],
)
def test_wrong_files_are_refused_with_the_field(tmp_path: Path, old: str, new: str, field: str) -> None:
    path = write(tmp_path, old, new)
    with pytest.raises(InputError) as caught:
        load_standard(path)
    assert caught.value.field == field
    assert caught.value.file == str(path)


def test_line_and_allowed_values_are_named(tmp_path: Path) -> None:
    path = write(tmp_path, "tFAW: [20 nCK, 21 ns]", "tFAW: 34")
    with pytest.raises(InputError) as caught:
        load_standard(path)
    assert caught.value.line == path.read_text().splitlines().index("  tFAW: 34") + 1
    assert "unit" in str(caught.value)
    with pytest.raises(InputError, match="did you mean 'tFAW'"):
        load_standard(write(tmp_path, "tFAW:", "tFOW:"))


def test_names_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'DDR4-3200'"):
        load_standard("DDR4-3201")
    with pytest.raises(InputError, match="no such"):
        load_standard(tmp_path / "none.yaml")
    path = tmp_path / "broken.yaml"
    path.write_text("a: [")
    with pytest.raises(InputError) as caught:
        load_standard("broken.yaml", relative_to=tmp_path)
    assert caught.value.line is not None
    path.write_text("- 1")
    with pytest.raises(InputError, match="mapping"):
        load_standard(path)


def test_bus_is_made_of_devices() -> None:
    with pytest.raises(InputError, match="multiples of 8 bit"):
        load_standard("DDR4-3200").burst_bytes() and load_standard("DDR4-3200").page_bytes(60)
