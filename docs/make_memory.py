"""Make docs/memory.md: networks on every memory, and where the off-chip time of a run goes.

python docs/make_memory.py
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dpred_sim.components.dram.model import LOSSES
from dpred_sim.simulation.engine import simulate
from dpred_sim.simulation.result import RunResult
from dpred_sim.simulation.systems import load_topology
from dpred_sim.units import format_time
from dpred_sim.workload.load import load_workload

MEMORIES = ("ddr4", "lpddr4", "lpddr5", "ddr5", "hbm2", "hbm3")
NETWORKS = ("alexnet", "resnet50_thin")
EXPLAINED = ("vgg19", "dpred_stripes_ddr4")
"""The network and the system whose off-chip time is taken apart."""
PARTS = ("busy", *LOSSES)
WORDS = {
    "busy": "data crosses the bus",
    "row_misses": "a row is opened or changed, and no other bank has data to send",
    "activate_windows": "tRRD or tFAW holds an activate back",
    "column_spacing": "bursts of one bank group, further apart than a burst",
    "turns": "from reads to writes or back, or from rank to rank",
    "refresh": "a rank refreshes, and its rows are opened again",
    "idle": "nobody wants anything",
}
COMMANDS = {
    "ACT": "activates",
    "PRE": "precharges",
    "RD": "read_bursts",
    "WR": "write_bursts",
    "REF": "refreshes",
}
BACKGROUND = {
    "all banks precharged": "background_precharged_ps",
    "some row open": "background_active_ps",
    "refreshing": "background_refresh_ps",
}


@dataclass(frozen=True)
class Channel:
    """What a run says of one channel, and the run it says it of."""

    name: str
    statistics: dict[str, int]
    time_ps: int

    @property
    def parts(self) -> dict[str, int]:
        """Picoseconds by what the data bus did."""
        return {part: self.statistics[f"time_{part}_ps"] for part in PARTS}

    @property
    def background(self) -> dict[str, int]:
        """Picoseconds by background state, summed over the ranks."""
        return {words: self.statistics[name] for words, name in BACKGROUND.items()}


def channels(run: RunResult) -> list[Channel]:
    """The channels of a run."""
    found: dict[str, dict[str, int]] = {}
    for row in run.components:
        if row.kind == "dram_channel":
            found.setdefault(row.component, {})[row.statistic] = int(row.value)
    return [Channel(name, statistics, run.time_ps) for name, statistics in found.items()]


def table(head: list[str], rows: list[list[str]], right: int = 1) -> list[str]:
    """A Markdown table; columns from `right` on are aligned right."""
    rule = ["---" if place < right else "---:" for place in range(len(head))]
    return ["| " + " | ".join(row) + " |" for row in [head, rule, *rows]]


def explain(run: RunResult) -> list[str]:
    """Where the time of every channel goes: lines of Markdown, parts that add up to the run."""
    lines: list[str] = []
    for channel in channels(run):
        rows = [
            [part.replace("_", " "), WORDS[part], f"{time:,}", f"{100 * time / channel.time_ps:.2f} %"]
            for part, time in channel.parts.items()
        ]
        total = sum(channel.parts.values())
        rows.append(["sum", "the whole run", f"{total:,}", f"{100 * total / channel.time_ps:.2f} %"])
        lines += [f"Data bus of `{channel.name}`:", ""]
        lines += table(["what", "meaning", "time (ps)", "of the run"], rows, right=2)
        commands = ", ".join(f"{name} {channel.statistics[counter]:,}" for name, counter in COMMANDS.items())
        states = ", ".join(
            f"{words} {100 * time / channel.time_ps:.2f} %" for words, time in channel.background.items()
        )
        lines += ["", f"Commands of `{channel.name}`: {commands}.", f"Background: {states}.", ""]
    return lines


def memory_row(network: str, memory: str) -> list[str]:
    """One network on one memory, with the design and its baseline."""
    workload = load_workload(network, bits=16)
    run = simulate(workload, load_topology(f"dpred_stripes_{memory}"))
    base = simulate(workload, load_topology(f"dadiannao_{memory}"))
    found = channels(run)
    busy = [channel.parts["busy"] / run.time_ps for channel in found]
    waits = sum(layer.cycles for layer in run.layers if layer.bound_by == "dram")
    standard = load_topology(f"dpred_stripes_{memory}").node(found[0].name).parameters.standard
    return [
        f"`dpred_stripes_{memory}`",
        f"{len(found)} x {standard}",
        f"{run.peak_bytes_per_second / 1e9:.1f}",
        format_time(run.time_ps),
        format_time(base.time_ps),
        f"{base.time_ps / run.time_ps:.2f}",
        f"{100 * min(busy):.1f} to {100 * max(busy):.1f} %",
        f"{100 * waits / run.total_cycles:.0f} %",
    ]


def network_table(network: str) -> list[str]:
    """One network on all memories."""
    head = [
        "system", "channels", "peak (GB/s)", "time", "time of `dadiannao_*`", "speed-up", "data bus busy",
        "layers that wait for DRAM, of the time",
    ]  # fmt: skip
    return table(head, [memory_row(network, memory) for memory in MEMORIES], right=2)


def make() -> str:
    """The whole page."""
    network, system = EXPLAINED
    run = simulate(load_workload(network, bits=16), load_topology(system))
    lines = [
        "# Memory",
        "",
        "Made by `python docs/make_memory.py`; run it again after a change. 16 bits, seed 0, batch 1. A test",
        "holds some of the rows. [fidelity.md](fidelity.md) says how far the DRAM model is from cycle-level",
        "simulators.",
        "",
        "## The same compute on other memories",
        "",
        "`dpred_stripes_*` stores group-width containers, `dadiannao_*` raw values; compute and buffers are",
        "those of the `_ddr4` systems. Channels interleave every 4 KiB. The values of alexnet are synthetic.",
        "",
    ]
    for name in NETWORKS:
        lines += [f"### {name}", "", *network_table(name), ""]
    lines += [
        f"## Where the off-chip time of {network} goes",
        "",
        f"`dpred-sim run {network} --topology {system} --json` has these figures in `components`,",
        "for every channel of any system; the parts add up to the run exactly.",
        "",
        *explain(run),
    ]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("memory.md").write_text(make(), encoding="utf-8")
