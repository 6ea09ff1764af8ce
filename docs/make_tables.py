"""Make docs/tables.md: every ready-made network with drawn values, its traffic and its runs.

python docs/make_tables.py
"""

from __future__ import annotations

import sys
from math import prod
from pathlib import Path

from dpred_sim.cli.workload import ready_made_workloads
from dpred_sim.explore.traffic import Form, arithmetic_mean, forms, geometric_mean, measure
from dpred_sim.simulation.engine import simulate
from dpred_sim.simulation.systems import load_topology
from dpred_sim.workload.load import load_workload
from dpred_sim.workload.workload import Workload

SYSTEMS = {16: ("dpred_stripes_ddr4", "dadiannao_ddr4"), 8: ("dpred_stripes_8b_ddr4", "dadiannao_8b_ddr4")}
"""Each width's system, and the bit-parallel one of its peak and DRAM that stores raw values."""
CODECS = ("per_layer", "zero_rle", "bdi", "apack", "dpred")
SHOWN = ("per_layer", "zero_rle 4", "bdi", "apack", "dpred plain", "dpred auto")

INTRO = """# Networks with drawn values

Made by `python docs/make_tables.py`; run it again after a change. Seed 0, batch 1, groups of 16. Shapes are
exact; values are **SYNTHETIC**, drawn at the precisions that each script states as published or as an
assumption. So the figures show what networks of these shapes move and take, not what the trained ones do
([model.md](model.md#drawn-values) says how far drawn values are from real ones). Shares are of the same
values uncompressed at the same width. `apack` is given tables searched on the very activations (hindsight).

*times* sets `{system}` beside `{baseline}`, which has the same peak and DRAM and stores raw values.
The paper's 35 % (16 bits) and 33 % (8 bits) of uncompressed traffic are of trained networks; drawn values
are no evidence for or against them.
"""


def shown(found: tuple[Form, ...]) -> list[int]:
    """The forms of the table, by place."""
    return [index for index, form in enumerate(found) if form.label in SHOWN]


def row(workload: Workload, wanted: tuple[Form, ...]) -> list[float]:
    """Shares of the shown forms, then cycles of the system and its baseline."""
    traffic = measure([("", workload)], wanted)
    system, baseline = (simulate(workload, load_topology(name)) for name in SYSTEMS[workload.bits])
    shares = [traffic.mean(index) or 0.0 for index in shown(wanted)]
    return [*shares, system.total_cycles, baseline.total_cycles]


def table(bits: int, names: list[str]) -> str:
    """The section of one width."""
    wanted = forms(CODECS, [16])
    system, baseline = SYSTEMS[bits]
    heads = [
        "network",
        "MACs",
        "weights",
        *(wanted[index].label for index in shown(wanted)),
        "cycles",
        "times",
    ]
    lines = [f"| {' | '.join(heads)} |", "|---|" + "---:|" * (len(heads) - 1)]
    every: list[list[float]] = []
    for name in names:
        print(name, bits, file=sys.stderr, flush=True)
        workload = load_workload(name, bits=bits)
        layers = [node.layer for node in workload.network]
        weights = {id(x.weights): prod(x.weights.shape) for x in layers if x.weights is not None}
        *shares, cycles, base = row(workload, wanted)
        every.append([*shares, base / cycles])
        cells = [f"`{name}`", f"{workload.macs / 1e6:,.0f} M", f"{sum(weights.values()) / 1e6:,.1f} M"]
        cells += [*(f"{share:.3f}" for share in shares), f"{cycles:,.0f}", f"{base / cycles:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    for label, mean in (("arithmetic mean", arithmetic_mean), ("geometric mean", geometric_mean)):
        *shares, times = (mean(column) or 0.0 for column in zip(*every, strict=True))
        cells = [label, "", "", *(f"{share:.3f}" for share in shares), "", f"{times:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    title = f"## {bits} bits: `{system}` against `{baseline}`"
    return "\n".join([title, "", *lines])


def main() -> None:
    """Write docs/tables.md."""
    names = [entry["name"] for entry in ready_made_workloads() if entry["values"] == "synthetic"]
    parts = [INTRO.format(system=SYSTEMS[16][0], baseline=SYSTEMS[16][1]).strip()]
    parts += [table(bits, names) for bits in SYSTEMS]
    (Path(__file__).parent / "tables.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
