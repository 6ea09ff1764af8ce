"""Pictures of results, drawn with matplotlib (the extra `plots`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dpred_sim.errors import InputError, MissingExtra

FORMATS = (".png", ".svg")
COLOURS = ("#4477aa", "#ccbb44", "#228833", "#aa3377", "#66ccee", "#bbbbbb")
LOG_FROM = 20.0
"""Values further apart than this ratio are drawn on a logarithmic axis."""


def check_plot_path(path: Path) -> None:
    """Raises InputError for a file that could not be drawn, MissingExtra without matplotlib."""
    if path.suffix.lower() not in FORMATS:
        raise InputError("unknown kind of picture", field="--plot", found=str(path), allowed=FORMATS)
    if not path.parent.is_dir():
        raise InputError("no such folder", field="--plot", found=str(path.parent))
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise MissingExtra("plots", "drawing a plot") from None


def grouped_bars(
    path: Path,
    title: str,
    groups: Sequence[str],
    series: Mapping[str, Sequence[float | None]],
    marks: Mapping[str, Sequence[float | None]],
    *,
    axis: str,
    mark_label: str,
    notes: Sequence[str] = (),
) -> None:
    """Draw `series` (name -> a value for each of `groups`) as bars side by side, and write the picture.

    `marks` are lines across the bars of the series of the same name, explained by `mark_label`. A value of
    None leaves a gap. Same input, same bytes for SVG. Raises as `check_plot_path` does, and InputError
    for a file that cannot be written.
    """
    check_plot_path(path)
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.hashsalt": "dpred_sim", "font.size": 9}):
        height = 4.6 + 0.17 * len(notes)
        figure = Figure(figsize=(max(7.0, 1.0 + 0.72 * len(groups)), height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        _draw(axes, groups, series, marks, mark_label)
        figure.legend(fontsize=8, ncols=len(series) + 1, frameon=False, loc="outside upper right")
        axes.set_ylabel(axis)
        axes.set_title(title, loc="left", fontsize=10)
        if notes:
            figure.supxlabel("\n".join(notes), fontsize=7, x=0.01, ha="left")
        try:
            metadata: dict[str, Any] = {"Date": None} if path.suffix.lower() == ".svg" else {}
            figure.savefig(path, dpi=130, metadata=metadata)
        except OSError as error:
            raise InputError(
                f"cannot write the plot: {error.strerror}", field="--plot", found=str(path)
            ) from None


def _draw(
    axes: Any,
    groups: Sequence[str],
    series: Mapping[str, Sequence[float | None]],
    marks: Mapping[str, Sequence[float | None]],
    mark_label: str,
) -> None:
    width = 0.8 / max(1, len(series))
    everything = [v for values in (*series.values(), *marks.values()) for v in values if v]
    if everything and max(everything) / min(everything) > LOG_FROM:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(_plain_number)
        axes.set_ylim(min(everything) / 1.5, max(everything) * 1.6)
    label: str | None = mark_label
    for number, (name, values) in enumerate(series.items()):
        places = [index - 0.4 + (number + 0.5) * width for index in range(len(groups))]
        bars = [(place, v) for place, v in zip(places, values, strict=True) if v]
        axes.bar(
            [place for place, _ in bars],
            [v for _, v in bars],
            width * 0.92,
            label=name,
            color=COLOURS[number % len(COLOURS)],
        )
        lines = [
            (place, v) for place, v in zip(places, marks.get(name, [None] * len(places)), strict=True) if v
        ]
        if lines:
            axes.hlines(
                [v for _, v in lines],
                [place - width * 0.46 for place, _ in lines],
                [place + width * 0.46 for place, _ in lines],
                colors="black",
                linewidth=1.4,
                label=label,
            )
            label = None
    axes.axhline(1, color="grey", linewidth=0.8, zorder=0)
    axes.set_xticks(range(len(groups)), groups, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_xlim(-0.6, len(groups) - 0.4)
    axes.grid(axis="y", linewidth=0.3)
    axes.set_axisbelow(True)


def _plain_number(value: float, _place: object) -> str:
    return f"{value:g}"
