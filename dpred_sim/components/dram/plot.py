"""Draws what `dram bench` measured, as SVG without any library: a latency curve, or where the time went."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from dpred_sim.errors import InputError

if TYPE_CHECKING:
    from dpred_sim.components.dram.bench import BenchResult

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 640, 360, 70, 40, 20, 60
COLOURS = {
    "busy": "#2f6f9f",
    "row_misses": "#c2573a",
    "activate_windows": "#d99a3d",
    "column_spacing": "#8f7fb8",
    "turns": "#5d9c6a",
    "refresh": "#7a7a7a",
    "idle": "#dddddd",
}


def write_plot(path: Path, results: list[BenchResult]) -> None:
    """Write an SVG: latency against bandwidth for several rates, else bars of the breakdown."""
    if path.suffix != ".svg":
        raise InputError("plots are SVG", field="--plot", found=str(path), allowed="a name that ends in .svg")
    body = _curve(results) if len(results) > 1 else _bars(results[0])
    title = escape(f"{results[0].standard}, level {results[0].level}")
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" '
        f'font-size="12"><rect width="100%" height="100%" fill="white"/>'
        f'<text x="{LEFT}" y="20" font-size="14">{title}</text>{body}</svg>\n',
        encoding="utf-8",
    )


def _text(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str = "#999") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _curve(results: list[BenchResult]) -> str:
    plot_width, plot_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    peak = results[0].peak_gbps
    highest = max(result.mean_latency_ns for result in results) * 1.05 or 1.0

    def place(result: BenchResult) -> tuple[float, float]:
        return (
            LEFT + plot_width * result.bandwidth_gbps / peak,
            TOP + plot_height * (1 - result.mean_latency_ns / highest),
        )

    base = HEIGHT - BOTTOM
    parts = [_line(LEFT, base, WIDTH - RIGHT, base), _line(LEFT, TOP, LEFT, base)]
    for step in range(5):
        x, y = LEFT + plot_width * step / 4, base - plot_height * step / 4
        parts.append(_text(x, base + 16, f"{peak * step / 4:.1f}"))
        parts.append(_text(LEFT - 6, y + 4, f"{highest * step / 4:.0f}", "end"))
    points = [place(result) for result in results]
    parts.append(
        '<polyline fill="none" stroke="#2f6f9f" stroke-width="2" points="'
        + " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        + '"/>'
    )
    parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="#2f6f9f"/>' for x, y in points]
    parts.append(_text(LEFT + plot_width / 2, HEIGHT - 20, "bandwidth (GB/s, to peak)"))
    parts.append(_text(LEFT, TOP - 6, "mean latency (ns)", "start"))
    return "".join(parts)


def _bars(result: BenchResult) -> str:
    parts: list[str] = []
    height = (HEIGHT - TOP - BOTTOM) / len(result.breakdown)
    scale = WIDTH - LEFT - RIGHT - 130
    for index, (name, part) in enumerate(result.breakdown.items()):
        y = TOP + index * height
        parts.append(_text(LEFT + 60, y + height / 2 + 4, name.replace("_", " "), "end"))
        parts.append(
            f'<rect x="{LEFT + 66}" y="{y + 3:.1f}" width="{scale * part:.1f}" height="{height - 6:.1f}" '
            f'fill="{COLOURS[name]}"/>'
        )
        parts.append(_text(LEFT + 72 + scale * part, y + height / 2 + 4, f"{100 * part:.1f} %", "start"))
    parts.append(_text(LEFT + 66, HEIGHT - 20, "share of the elapsed time", "start"))
    return "".join(parts)
