"""Makes the DRAM part of docs/fidelity.md: `python -m tests.components.dram.fidelity`."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpred_sim.components.dram import bench
from tests.components.dram import reference

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "fidelity.md"
BEGIN, END = "<!-- dram: begin, made by tests/components/dram/fidelity.py -->", "<!-- dram: end -->"
INTERLEAVED = ("ds_ddr4_1rank_rochrabacobg", "ds_hbm2_rorabachcobg", "ds_lpddr4_3200_x32")
"""Configurations whose mapping lets neighbouring bursts follow at full rate (LPDDR4 has no bank groups)."""
CHUNKS = (
    "seq_read", "seq_write", "rw21_2KiB_aligned", "rw21_2KiB_skewed", "rw21_4KiB_skewed",
    "rand_chunk_1024", "rand_chunk_2048", "rand_chunk_4096",
)  # fmt: skip
"""Patterns in units of 1 to 4 KiB: what the `banked` level is for."""
SATURATED_BYTES = {"banked": 1 << 20, "burst": 1 << 19}
STRIDE_BURSTS = 12_000
LOADED_BYTES = 3 << 19
"""Traffic of a run at a fixed rate or number outstanding: some twenty refresh intervals."""


@dataclass(frozen=True)
class Row:
    """One row of the reference and what a level makes of it."""

    config: str
    pattern: str
    issue: str
    load: float | int | None
    reference_fraction: float
    fraction: float
    reference_latency: float | None
    latency: float

    @property
    def error(self) -> float:
        return 100 * (self.fraction / self.reference_fraction - 1)

    @property
    def latency_error(self) -> float | None:
        if not self.reference_latency or not self.latency:
            return None
        return 100 * (self.latency / self.reference_latency - 1)


def measure(level: str, row: dict[str, Any]) -> Row:
    """Run one row of the reference at a level."""
    standard = reference.standard(row["config"])
    accesses, size = reference.accesses(row["pattern"])
    options: dict[str, Any] = {}
    total = SATURATED_BYTES[level]
    if row["pattern"].startswith("stride_"):
        total = 64 * STRIDE_BURSTS
    if row["issue"] != "saturated":
        total = LOADED_BYTES
        options["piece_bytes"] = 64
        options["rate"] = row.get("offered_fraction_of_peak")
        options["outstanding"] = row.get("outstanding")
    count = min(row["requests"] * 64, total) // size
    result = bench.run(standard, accesses, level=level, requests=count, **options)
    return Row(
        row["config"],
        row["pattern"],
        row["issue"],
        row.get("offered_fraction_of_peak", row.get("outstanding")),
        row["fraction_of_peak"],
        result.fraction_of_peak,
        row["avg_read_latency_ns"],
        result.mean_read_latency_ns,
    )


def rows(issue: str) -> list[dict[str, Any]]:
    """Rows of the reference of one kind, in a fixed order."""
    wanted = [row for row in reference.reference()["results"] if row["issue"] == issue]
    return sorted(wanted, key=reference.label)


def below_70_percent(row: dict[str, Any]) -> bool:
    """Whether a fixed rate is below 70 % of what the reference reaches with that pattern."""
    reached = next(
        other["fraction_of_peak"]
        for other in rows("saturated")
        if (other["config"], other["pattern"]) == (row["config"], row["pattern"])
    )
    return bool(row["offered_fraction_of_peak"] <= 0.7 * reached)


def _measure(task: tuple[str, dict[str, Any]]) -> Row:
    return measure(*task)


def _mean(values: Iterable[float]) -> float:
    numbers = [abs(value) for value in values]
    return sum(numbers) / len(numbers)


def _worst(values: list[tuple[float, str]]) -> str:
    value, name = max(values, key=lambda item: abs(item[0]))
    return f"{value:+.1f} % ({name})"


def make() -> str:
    """The whole part, as Markdown."""
    with ProcessPoolExecutor(2) as pool:

        def both(wanted: list[dict[str, Any]]) -> dict[str, list[Row]]:
            return {
                level: list(pool.map(_measure, [(level, row) for row in wanted]))
                for level in ("banked", "burst")
            }

        saturated = both(rows("saturated"))
        fixed = both(rows("fixed rate"))
        closed = both(rows("closed loop"))
    quiet = [below_70_percent(row) for row in rows("fixed rate")]
    text = [
        BEGIN,
        *_summary(saturated, fixed, quiet),
        *_bandwidth(saturated),
        *_latency(fixed, closed, quiet),
        END,
    ]
    return "\n".join(text) + "\n"


def _summary(saturated: dict[str, list[Row]], fixed: dict[str, list[Row]], quiet: list[bool]) -> list[str]:
    lines = [
        "### Summary",
        "",
        "| level | configuration | what | mean error | worst |",
        "|---|---|---|---:|---|",
    ]
    for level, patterns in (("banked", CHUNKS), ("burst", None)):
        for config in sorted({row.config for row in saturated[level]}):
            errors = [
                (row.error, row.pattern)
                for row in saturated[level]
                if row.config == config and (patterns is None or row.pattern in patterns)
            ]
            what = "bandwidth, 1 to 4 KiB" if patterns else "bandwidth, all patterns"
            mean = _mean(error for error, _ in errors)
            lines.append(f"| `{level}` | {config} | {what} | {mean:.1f} % | {_worst(errors)} |")
        for config in sorted({row.config for row in fixed[level]}):
            delays = [
                (row.latency_error, f"{row.pattern} at {row.load}")
                for row, below in zip(fixed[level], quiet, strict=True)
                if row.config == config and below and row.latency_error is not None
            ]
            lines.append(
                f"| `{level}` | {config} | read latency below 70 % | {_mean(d for d, _ in delays):.1f} % "
                f"| {_worst(delays)} |"
            )
    return [*lines, ""]


def _bandwidth(saturated: dict[str, list[Row]]) -> list[str]:
    lines = [
        "### Bandwidth, saturated source",
        "",
        "Fractions of peak. `*`: outside what the `banked` level is for (units below 1 KiB).",
        "",
        "| configuration | pattern | reference | banked | error | burst | error |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for banked, burst in zip(saturated["banked"], saturated["burst"], strict=True):
        star = "" if banked.pattern in CHUNKS else " *"
        lines.append(
            f"| {banked.config} | {banked.pattern} | {banked.reference_fraction:.3f} "
            f"| {banked.fraction:.3f}{star} | {banked.error:+.1f} % "
            f"| {burst.fraction:.3f} | {burst.error:+.1f} % |"
        )
    return [*lines, ""]


def _latency(fixed: dict[str, list[Row]], closed: dict[str, list[Row]], quiet: list[bool]) -> list[str]:
    lines = [
        "### Read latency of a burst",
        "",
        "Bursts that arrive one by one at a fraction of peak (first table; `*`: above 70 % of what the "
        "reference reaches with the pattern, so that queues decide), or with so many outstanding (second "
        "table). ns.",
        "",
        "| configuration | pattern | offered | reference | banked | error | burst | error |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for banked, burst, below in zip(fixed["banked"], fixed["burst"], quiet, strict=True):
        lines.append(_latency_line(banked, burst, "" if below else " *"))
    lines += [
        "",
        "| configuration | pattern | outstanding | reference | banked | error | burst | error |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for banked, burst in zip(closed["banked"], closed["burst"], strict=True):
        lines.append(_latency_line(banked, burst, ""))
    return [*lines, ""]


def _latency_line(banked: Row, burst: Row, mark: str) -> str:
    return (
        f"| {banked.config} | {banked.pattern} | {banked.load}{mark} | {banked.reference_latency:.1f} "
        f"| {banked.latency:.1f} | {banked.latency_error or 0:+.0f} % | {burst.latency:.1f} "
        f"| {burst.latency_error or 0:+.0f} % |"
    )


def write(text: str) -> None:
    """Put the part into the document, in place of the former one."""
    old = DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = old.partition(BEGIN)
    after = rest.partition(END)[2].lstrip("\n")
    DOCUMENT.write_text(before + text + ("\n" + after if after else ""), encoding="utf-8")


if __name__ == "__main__":
    write(make())
