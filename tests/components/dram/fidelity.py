"""Makes the DRAM part of docs/fidelity.md: `python -m tests.components.dram.fidelity` (some minutes).

What was measured is kept in `tests/data/dram/measured.json`: test_fidelity.py measures a part of it again
and holds the page to all of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dpred_sim.components.dram import bench
from tests.components.dram import reference

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "fidelity.md"
MEASURED = Path(__file__).resolve().parents[2] / "data" / "dram" / "measured.json"
BEGIN, END = "<!-- dram: begin, made by tests/components/dram/fidelity.py -->", "<!-- dram: end -->"
INTERLEAVED = ("ds_ddr4_1rank_rochrabacobg", "ds_hbm2_rorabachcobg", "ds_lpddr4_3200_x32")
"""Configurations whose mapping lets neighbouring bursts follow at full rate (LPDDR4 has no bank groups)."""
CHUNKS = (
    "seq_read", "seq_write", "rw21_2KiB_aligned", "rw21_2KiB_skewed", "rw21_4KiB_skewed",
    "rand_chunk_1024", "rand_chunk_2048", "rand_chunk_4096",
)  # fmt: skip
"""Patterns in units of 1 to 4 KiB: what the `banked` level is for."""
LEVELS = ("banked", "burst")
ISSUES = ("saturated", "fixed rate", "closed loop")
SATURATED_BYTES = 1 << 20
STRIDE_BURSTS = 12_000
SLOW_TO_SETTLE = {
    ("burst", "ds_ddr4_1rank_rochrababgco", pattern) for pattern in ("stride_4096", "stride_8192")
}
"""Rows that run as long as the reference did: which bank is activated when the window opens depends on the
order of banks at one clock, and each refresh moves it on until it settles."""
LOADED_BYTES = 1 << 20
"""Traffic of a run at a fixed rate or number outstanding."""
ASKED = {
    ("banked", "bandwidth, bank groups interleaved"): (3.0, 8.0),
    ("banked", "bandwidth, other mappings"): (6.0, 15.0),
    ("burst", "bandwidth, all patterns"): (5.0, 5.0),
    ("banked", "read latency below 70 %"): (10.0, 10.0),
    ("burst", "read latency below 70 %"): (10.0, 10.0),
}
"""Bounds of the mean and of the worst error in percent, by level and class."""
EXCEPTIONS: dict[tuple[str, str, str], str] = {}
"""Rows (level, configuration, pattern) that may be outside the bounds, and why."""


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
    total = SATURATED_BYTES
    if row["pattern"].startswith("stride_"):
        total = 64 * STRIDE_BURSTS
    if (level, row["config"], row["pattern"]) in SLOW_TO_SETTLE:
        total = 64 * row["requests"]
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


def measure_all() -> list[tuple[str, Row]]:
    """All rows of the reference at both levels."""
    tasks = [(level, row) for level in LEVELS for issue in ISSUES for row in rows(issue)]
    with ProcessPoolExecutor(2) as pool:
        return [(level, row) for (level, _), row in zip(tasks, pool.map(_measure, tasks), strict=True)]


def save(measured: list[tuple[str, Row]]) -> None:
    """Keep what was measured, a line a row."""
    lines = [json.dumps({"level": level, **asdict(row)}) for level, row in measured]
    MEASURED.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


def load() -> list[tuple[str, Row]]:
    """What was measured last."""
    stored = json.loads(MEASURED.read_text(encoding="utf-8"))
    return [(line.pop("level"), Row(**line)) for line in stored]


def classes(measured: list[tuple[str, Row]]) -> dict[tuple[str, str], list[tuple[float, str]]]:
    """Errors in percent with their names, by level and class as in ASKED; exceptions left out."""
    quiet = {reference.label(row) for row in rows("fixed rate") if below_70_percent(row)}
    found: dict[tuple[str, str], list[tuple[float, str]]] = {key: [] for key in ASKED}
    for level, row in measured:
        if (level, row.config, row.pattern) in EXCEPTIONS:
            continue
        name = f"{row.config} {row.pattern}"
        if row.issue == "saturated" and level == "burst":
            found[level, "bandwidth, all patterns"].append((row.error, name))
        elif row.issue == "saturated" and row.pattern in CHUNKS:
            kind = "bank groups interleaved" if row.config in INTERLEAVED else "other mappings"
            found[level, f"bandwidth, {kind}"].append((row.error, name))
        elif row.issue == "fixed rate" and f"{name} fixed rate {row.load}" in quiet:
            error = row.latency_error or 0.0
            found[level, "read latency below 70 %"].append((error, f"{name} at {row.load}"))
    return found


def make(measured: list[tuple[str, Row]]) -> str:
    """The whole part, as Markdown."""

    def both(issue: str) -> dict[str, list[Row]]:
        return {
            level: [row for its, row in measured if its == level and row.issue == issue] for level in LEVELS
        }

    quiet = [below_70_percent(row) for row in rows("fixed rate")]
    text = [
        BEGIN,
        *_asked(measured),
        *_summary(both("saturated"), both("fixed rate"), quiet),
        *_bandwidth(both("saturated")),
        *_latency(both("fixed rate"), both("closed loop"), quiet),
        END,
    ]
    return "\n".join(text) + "\n"


def _asked(measured: list[tuple[str, Row]]) -> list[str]:
    lines = [
        "### Asked and reached",
        "",
        "| level | class | asked: mean, worst | mean error | worst |",
        "|---|---|---|---:|---|",
    ]
    for (level, what), errors in classes(measured).items():
        mean, worst = ASKED[level, what]
        reached = _mean(error for error, _ in errors)
        lines.append(
            f"| `{level}` | {what} | {mean:.0f} %, {worst:.0f} % | {reached:.1f} % | {_worst(errors)} |"
        )
    lines += ["", "Exceptions: " + ("none." if not EXCEPTIONS else "")]
    lines += [
        f"* `{level}`, {config} {pattern}: {why}" for (level, config, pattern), why in EXCEPTIONS.items()
    ]
    return [*lines, ""]


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
    save(measure_all())
    write(make(load()))
