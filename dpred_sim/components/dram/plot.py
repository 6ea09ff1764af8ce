"""Draws what `dram bench` measured with matplotlib: a latency curve, or where the time went."""

from __future__ import annotations

from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from dpred_sim.cache import write_atomic
from dpred_sim.errors import InputError, MissingExtra

if TYPE_CHECKING:
    from dpred_sim.components.dram.bench import BenchResult
    from dpred_sim.components.dram.closed_forms import ClosedForm

FORMATS = (".png", ".svg")
COLOURS = {
    "busy": "#2f6f9f",
    "row_misses": "#c2573a",
    "activate_windows": "#d99a3d",
    "column_spacing": "#8f7fb8",
    "turns": "#5d9c6a",
    "refresh": "#7a7a7a",
    "idle": "#dddddd",
}


def check_plot_path(path: Path) -> None:
    """Raises InputError for a file that could not be drawn, MissingExtra without matplotlib."""
    if path.suffix.lower() not in FORMATS:
        raise InputError("unknown kind of picture", field="--plot", found=str(path), allowed=FORMATS)
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise MissingExtra("plots", "drawing a plot") from None


def write_plot(
    path: Path, results: list[BenchResult], pattern: str = "", form: ClosedForm | None = None
) -> None:
    """Write PNG or SVG: latency against bandwidth for several rates, else bars of the breakdown.

    Same results, same bytes. Raises InputError for another kind of file and for one that cannot be written,
    MissingExtra without matplotlib.
    """
    check_plot_path(path)
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    kind = path.suffix.lower().removeprefix(".")
    with matplotlib.rc_context({"svg.hashsalt": "dpred_sim", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        title = f"{results[0].standard}, level {results[0].level}" + (pattern and f", {pattern}")
        axes.set_title(title, loc="left", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        if len(results) > 1:
            _curve(axes, results)
        else:
            _bars(axes, results[0], form)

        def write(stream: IO[bytes]) -> None:
            metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {}
            figure.savefig(stream, format=kind, dpi=130, metadata=metadata)

        try:
            write_atomic(path, write)
        except OSError as error:
            raise InputError(f"cannot be written: {error.strerror}", file=path) from None


def _curve(axes: Any, results: list[BenchResult]) -> None:
    bandwidths = [result.bandwidth_gbps or 0.0 for result in results]
    axes.plot(
        bandwidths, [result.mean_latency_ns for result in results], marker="o", markersize=4, color="#2f6f9f"
    )
    peak = results[0].peak_gbps
    axes.axvline(peak, color="#999999", linewidth=0.8, linestyle="--")
    axes.annotate(
        "peak", (peak, 1), xycoords=("data", "axes fraction"), ha="right", va="top", color="#666666"
    )
    axes.set_xlim(0, max(peak, *bandwidths) * 1.02)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("bandwidth (GB/s)")
    axes.set_ylabel("mean latency (ns)")


def _bars(axes: Any, result: BenchResult, form: ClosedForm | None) -> None:
    names = list(result.breakdown)
    shares = [100 * part for part in result.breakdown.values()]
    bars = axes.barh(
        [name.replace("_", " ") for name in names], shares, color=[COLOURS[name] for name in names]
    )
    axes.bar_label(bars, fmt="%.1f %%", padding=3)
    axes.invert_yaxis()
    axes.set_xlim(0, max(*shares, 1.0) * 1.12)
    label = "share of the elapsed time (%)"
    if form is not None:
        axes.plot([100 * form.fraction] * 2, [-0.4, 0.4], color="black", linewidth=1.5)
        label += f"; line: closed form: {100 * form.fraction:.1f} % ({form.name})"
    axes.set_xlabel(label)
