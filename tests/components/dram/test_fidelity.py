"""docs/fidelity.md is what the code makes, and within the accuracy that is asked for."""

from __future__ import annotations

import pytest

from tests.components.dram import fidelity, reference

MEASURED = fidelity.load()
SAMPLE = [
    *(("banked", row) for row in fidelity.rows("saturated") if row["pattern"] in fidelity.CHUNKS),
    *(("banked", row) for row in fidelity.rows("fixed rate")[3::9]),
    *(("banked", row) for row in fidelity.rows("closed loop")[::5]),
    *(("burst", row) for row in fidelity.rows("saturated")[5::19]),
    *(("burst", row) for row in fidelity.rows("fixed rate")[2::21]),
]
"""Rows that are measured again: all that the `banked` level is for, some of the others."""


def test_every_row_is_there_once() -> None:
    expected = [
        (level, reference.label(row))
        for level in fidelity.LEVELS
        for issue in fidelity.ISSUES
        for row in fidelity.rows(issue)
    ]
    found = []
    for level, row in MEASURED:
        load = "" if row.load is None else row.load
        found.append((level, f"{row.config} {row.pattern} {row.issue} {load}".strip()))
    assert found == expected


@pytest.mark.parametrize(
    ("level", "row"), SAMPLE, ids=[f"{level} {reference.label(row)}" for level, row in SAMPLE]
)
def test_the_code_measures_the_same(level: str, row: dict[str, object]) -> None:
    measured = fidelity.measure(level, row)
    (kept,) = [
        one
        for its, one in MEASURED
        if (its, one.config, one.pattern, one.issue, one.load)
        == (level, measured.config, measured.pattern, measured.issue, measured.load)
    ]
    assert measured.fraction == pytest.approx(kept.fraction, rel=1e-9)
    assert measured.latency == pytest.approx(kept.latency, rel=1e-9)
    assert (measured.reference_fraction, measured.reference_latency) == (
        kept.reference_fraction,
        kept.reference_latency,
    )


def test_the_page_shows_what_was_measured() -> None:
    page = fidelity.DOCUMENT.read_text(encoding="utf-8")
    assert fidelity.make(MEASURED) in page, "run python -m tests.components.dram.fidelity"


@pytest.mark.parametrize(("level", "what"), fidelity.ASKED)
def test_the_accuracy_asked_for_is_reached(level: str, what: str) -> None:
    mean, worst = fidelity.ASKED[level, what]
    errors = [abs(error) for error, _ in fidelity.classes(MEASURED)[level, what]]
    assert len(errors) >= 8
    assert sum(errors) / len(errors) <= mean
    assert max(errors) <= worst


def test_exceptions_are_rows_that_need_to_be() -> None:
    for level, config, pattern in fidelity.EXCEPTIONS:
        errors = [
            abs(row.error)
            for its, row in MEASURED
            if (its, row.config, row.pattern, row.issue) == (level, config, pattern, "saturated")
        ]
        assert errors and max(errors) > 5
