"""Make docs/networks.md: traffic and full-system results of every ready-made network, trained ones first.

    python docs/make_networks.py [NAME...]

Fetches all trained networks (250 MB at first) and runs every script in workloads/, or those named, at 16
and 8 bits. What cannot be had or run is listed with the reason.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

from dpred_sim.errors import DpredError
from dpred_sim.explore.traffic import TOTAL, Traffic, arithmetic_mean, forms, geometric_mean, measure
from dpred_sim.locate import ready_made_names
from dpred_sim.simulation.engine import simulate
from dpred_sim.simulation.result import RunResult
from dpred_sim.simulation.systems import load_topology
from dpred_sim.workload.fetch import fetch
from dpred_sim.workload.load import load_workload
from dpred_sim.workload.profile import Format, Profile, read_profile, write_profile
from dpred_sim.workload.profile_repair import REPAIRS
from dpred_sim.workload.trained.manifest import shipped
from dpred_sim.workload.trained.script import TOLERANCE, comparison_path, profile_path, trained_workload
from dpred_sim.workload.workload import Workload

BITS = (16, 8)
SYSTEMS = {16: "dpred_stripes_ddr4", 8: "dpred_stripes_8b_ddr4"}
BASELINES = {16: "dadiannao_ddr4", 8: "dadiannao_8b_ddr4"}
TOLERANCES = (0.003, TOLERANCE, 0.03)
CLOSE = 0.04
"""Totals within this are close: the measurement's own searches for one network were 0.03 apart."""
MODES = ("plain", "zeros")
"""Modes of the codec that the independent measurement has as well."""
PUBLISHED = {16: "35 %", 8: "33 %"}
CODECS = ("dpred", "per_layer", "zero_rle")
MEASURED = Path(__file__).parents[1] / "tests" / "data" / "trained_ratios.json"
"""Ratios that an independent measurement found on the same model files."""
SHOWN = ("dpred plain", "dpred zeros", "dpred auto", "per_layer", "zero_rle 4")
"""Forms in the tables; weights and activations are shown for the first two."""


@dataclass
class Network:
    """What was measured of one network.

    `products` is the traffic of layers with inner products alone, `compared` the same at 16 bits with the
    profile that is made as the independent measurement makes its own, `level` where the two are far apart
    with as many bits added to that profile as there; `failed` says at which width the
    network could not be run, and why.
    """

    name: str
    traffic: dict[int, Traffic] = field(default_factory=dict)
    runs: dict[int, tuple[RunResult, RunResult]] = field(default_factory=dict)
    products: dict[int, Traffic] = field(default_factory=dict)
    compared: Traffic | None = None
    level: Traffic | None = None
    sources: dict[int, str] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)

    @property
    def synthetic(self) -> bool:
        """Whether its values are drawn."""
        return any(traffic.synthetic for traffic in self.traffic.values())

    @property
    def trained(self) -> bool:
        """Whether it is one of the manifest."""
        return self.name in shipped().models


def say(text: str) -> None:
    """Tell how far it is."""
    print(text, file=sys.stderr, flush=True)


def inputs_of(name: str, bits: int, profile: Path | None = None) -> list[tuple[str, Workload]]:
    """A network on each of its inputs: a trained one on all of the manifest, another as it comes."""
    manifest = shipped()
    if name not in manifest.models:
        return [("", load_workload(name, bits=bits))]
    fetch(manifest.sources(name))
    names = manifest.models[name].all_inputs
    return [(one, trained_workload(name, bits=bits, inputs=[one], profile=profile)) for one in names]


def examine(name: str) -> Network:
    """Traffic on every input, and runs on the first, at both widths."""
    found = Network(name)
    for bits in BITS:
        say(f"{name}, {bits} bits")
        try:
            workloads = inputs_of(name, bits)
            found.traffic[bits] = measure(workloads, forms(CODECS, (16,)))
            first = workloads[0][1]
            found.products[bits] = of_products(found.traffic[bits], first)
            found.sources[bits] = first.source
            run, baseline = (simulate(first, load_topology(each[bits])) for each in (SYSTEMS, BASELINES))
            found.runs[bits] = (run, baseline)
        except DpredError as error:
            found.failed[bits] = str(error)
    if found.trained and shipped().models[name].comparison and 16 in found.products:
        found.compared = compared(name, comparison_path(name))
        if max(map(abs, apart(name, found.compared))) > CLOSE:
            with TemporaryDirectory() as folder:
                path = Path(folder) / "profile-level.json"
                write_profile(path, level_profile(name))
                found.level = compared(name, path)
    return found


def compared(name: str, path: Path) -> Traffic:
    """Layers with inner products on every input at 16 bits, with the profile of a comparison."""
    say(f"{name}, 16 bits, {path.name}")
    workloads = inputs_of(name, 16, path)
    return of_products(measure(workloads, forms(("dpred",), (16,))), workloads[0][1])


def apart(name: str, traffic: Traffic) -> list[float]:
    """Totals at 16 bits less those of the independent measurement, a mode each."""
    theirs = measured_at(16)[name]
    totals = [traffic.mean(form_of(traffic, f"dpred {mode}")) or 0.0 for mode in MODES]
    return [total - theirs[f"total_{mode}"] for mode, total in zip(MODES, totals, strict=True)]


def measured_at(bits: int) -> dict[str, dict[str, float]]:
    """What the independent measurement found, by network."""
    found: dict[str, dict[str, float]] = json.loads(MEASURED.read_text(encoding="utf-8"))[str(bits)]
    return found


def bits_here(profile: Profile) -> tuple[int, float]:
    """Bits that a profile got everywhere, and the mean precision of its weights without them."""
    tensors = len(profile.activations) + len(profile.weights)
    added = ceil(profile.about["added_bits"] / tensors)
    widths = [found.precision for found in profile.weights.values()]
    return added, sum(widths) / len(widths) - added


def level_profile(name: str) -> Profile:
    """The profile of the comparison with as many bits everywhere as there: what mean precisions tell."""
    profile = read_profile(comparison_path(name))
    added, alone = bits_here(profile)
    more = round(measured_at(16)[name]["weights_bits"] - alone) - added

    def moved(formats: Mapping[str, Format]) -> dict[str, Format]:
        return {
            tensor: replace(f, precision=min(16, max(1 + f.signed, f.precision + more)))
            for tensor, f in formats.items()
        }

    return replace(profile, activations=moved(profile.activations), weights=moved(profile.weights))


def of_products(traffic: Traffic, workload: Workload) -> Traffic:
    """The traffic of layers with inner products: no memory layers."""
    names = {node.name for node in workload.network if node.layer.macs}
    samples = (replace(s, entries=tuple(e for e in s.entries if e.layer in names)) for s in traffic.samples)
    return replace(traffic, samples=tuple(samples))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [list(head), ["---"] * len(head), *map(list, rows)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def ratio(value: float | None) -> str:
    """Three digits, or a dash."""
    return "-" if value is None else f"{value:.3f}"


def form_of(traffic: Traffic, label: str) -> int:
    """Number of the form with a label."""
    return [form.label for form in traffic.forms].index(label)


def traffic_rows(networks: Sequence[Network], bits: int, means: bool) -> list[list[str]]:
    """A row a network, then arithmetic and geometric means."""
    columns: list[tuple[str, str]] = [
        (label, kind) for kind in ("weights", "activations") for label in SHOWN[:2]
    ]
    columns += [(label, TOTAL) for label in SHOWN]
    rows, values = [], []
    for network in networks:
        if bits not in network.traffic:
            continue
        traffic = network.traffic[bits]
        row = [traffic.mean(form_of(traffic, label), kind) for label, kind in columns]
        spread = traffic.ratios(form_of(traffic, "dpred auto"))
        apart = f"{min(spread):.3f} to {max(spread):.3f}" if len(spread) > 1 else "-"
        rows.append([f"`{network.name}`", *map(ratio, row), apart, str(len(spread))])
        values.append(row)
    if means:
        both: tuple[tuple[str, Callable[[Iterable[float]], float | None]], ...] = (
            ("**arithmetic mean**", arithmetic_mean),
            ("**geometric mean**", geometric_mean),
        )
        for label, mean in both:
            columns_of = zip(*values, strict=True)
            rows.append([label, *(ratio(mean(v for v in c if v is not None)) for c in columns_of), "", ""])
    return rows


TRAFFIC_HEAD = (
    *("network", "weights plain", "zeros", "activations plain", "zeros"),
    *("total plain", "zeros", "auto", "a precision a layer", "zero runs", "auto over inputs", "inputs"),
)


def measured_rows(networks: Sequence[Network], bits: int) -> list[list[str]]:
    """Totals beside those of the independent measurement, and the differences in points."""
    measured = measured_at(bits)
    rows = []
    for network in networks:
        if network.name not in measured or bits not in network.products:
            continue
        traffic, row = network.products[bits], [f"`{network.name}`"]
        for mode in MODES:
            ours = traffic.mean(form_of(traffic, f"dpred {mode}")) or 0.0
            theirs = measured[network.name][f"total_{mode}"]
            row += [ratio(ours), ratio(theirs), f"{100 * (ours - theirs):+.1f}"]
        rows.append(row)
    return rows


MEASURED_HEAD = (
    "network",
    *(f"{m}, {what}" for m in MODES for what in ("here", "there", "points")),
)


def compared_rows(networks: Sequence[Network]) -> list[list[str]]:
    """Totals at 16 bits there, with the shipped profile and with that of the comparison, and its errors."""
    measured = measured_at(16)
    rows = []
    for network in networks:
        if network.name not in measured or network.compared is None:
            continue
        theirs = [measured[network.name][f"total_{mode}"] for mode in MODES]
        row = [f"`{network.name}`", *map(ratio, theirs)]
        for traffic in (network.products[16], network.compared):
            row += beside(network.name, traffic)
        about = read_profile(comparison_path(network.name)).about
        unseen = about["held_out_error"]
        row += [str(len(about["calibration"])), str(about["added_bits"]), f"{about['joint_error']:.1%}"]
        rows.append([*row, "-" if unseen is None else f"{unseen:.1%}"])
    return rows


def beside(name: str, traffic: Traffic) -> list[str]:
    """Totals in both modes, with the points that they are from the independent measurement's."""
    found = zip(MODES, apart(name, traffic), strict=True)
    return [f"{measured_at(16)[name][f'total_{m}'] + d:.3f} ({100 * d:+.1f})" for m, d in found]


def level_rows(networks: Sequence[Network]) -> list[list[str]]:
    """Networks that are far apart: weights without added bits here, weights there, and with as many bits."""
    rows = []
    for network in networks:
        if network.level is None:
            continue
        added, alone = bits_here(read_profile(comparison_path(network.name)))
        there = measured_at(16)[network.name]["weights_bits"]
        row = [f"`{network.name}`", f"{alone:.1f}", f"{there:.1f}", str(added), str(round(there - alone))]
        rows.append(row + beside(network.name, network.level))
    return rows


LEVEL_HEAD = (
    *("network", "bits of weights here, none added", "there", "added here", "there"),
    *("with as many as there: plain", "zeros"),
)
COMPARED_HEAD = (
    *("network", "there: plain", "zeros", "shipped profile: plain", "zeros", "by its rule: plain", "zeros"),
    *("inputs", "added bits", "changed", "unseen"),
)


def run_rows(networks: Sequence[Network], bits: int) -> list[list[str]]:
    """A row a network: the design beside its baseline."""
    rows = []
    for network in networks:
        if bits not in network.runs:
            continue
        run, baseline = network.runs[bits]
        moved = run.traffic["system_traffic"]
        rows.append(
            [
                f"`{network.name}`",
                str(len(run.layers)),
                f"{sum(layer.macs for layer in run.layers) / 1e6:,.0f}",
                f"{run.total_cycles:,}",
                f"{baseline.total_cycles:,}",
                f"{baseline.total_cycles / run.total_cycles:.2f}",
                f"{moved['raw_bytes'] / 2**20:.2f}",
                f"{moved['stored_bytes'] / 2**20:.2f}",
                ratio(moved["stored_bytes"] / moved["raw_bytes"]),
            ]
        )
    return rows


RUN_HEAD = (
    *("network", "layers", "M MAC", "cycles", "baseline's", "times as fast"),
    *("raw MiB", "stored MiB", "stored / raw"),
)


def tolerance_rows(networks: Sequence[Network]) -> list[list[str]]:
    """Total traffic (auto) and change of the output, a column a tolerance, on the network's own input."""
    rows, totals = [], []
    auto = tuple(form for form in forms(("dpred",), (16,)) if form.label == "dpred auto")
    for network in networks:
        paths = [profile_path(network.name, tolerance) for tolerance in TOLERANCES]
        if not network.trained or 16 not in network.traffic or not all(path.is_file() for path in paths):
            continue
        found, row = [], [f"`{network.name}`"]
        for path in paths:
            about = read_profile(path).about
            workload = trained_workload(network.name, bits=16, profile=path)
            total = measure([("", workload)], auto).mean(0)
            unseen = about.get("held_out_error")
            within = about["joint_error"] <= about["joint_tolerance"]
            changed = f"{about['joint_error']:.1%}{'' if within else ' (not reached)'}"
            row += [ratio(total), changed, "-" if unseen is None else f"{unseen:.1%}"]
            found.append(total if within else None)
        rows.append(row)
        if None not in found:
            totals.append(found)
    if totals:
        means = [arithmetic_mean(v for v in column if v is not None) for column in zip(*totals, strict=True)]
        label = f"**arithmetic mean of the {len(totals)} that reach all**"
        rows.append([label, *(cell for mean in means for cell in (ratio(mean), "", ""))])
    return rows


def repair_rows(networks: Sequence[Network]) -> list[list[str]]:
    """The same for the two repairs, of networks where they differ."""
    rows = []
    auto = tuple(form for form in forms(("dpred",), (16,)) if form.label == "dpred auto")
    for network in networks:
        paths = [profile_path(network.name, repair=repair) for repair in REPAIRS]
        if not network.trained or 16 not in network.traffic or not all(path.is_file() for path in paths):
            continue
        found = [read_profile(path) for path in paths]
        if found[0].to_dict() | {"about": None} == found[1].to_dict() | {"about": None}:
            continue
        row = [f"`{network.name}`"]
        for path, profile in zip(paths, found, strict=True):
            workload = trained_workload(network.name, bits=16, profile=path)
            unseen = profile.about.get("held_out_error")
            row += [ratio(measure([("", workload)], auto).mean(0)), f"{profile.about['joint_error']:.1%}"]
            row.append("-" if unseen is None else f"{unseen:.1%}")
        rows.append(row)
    return rows


def published_rows(trained: Sequence[Network]) -> list[list[str]]:
    """The published shares, and ours in every way of storing and averaging."""
    rows = []
    for bits in BITS:
        traffics = [network.traffic[bits] for network in trained if bits in network.traffic]
        row = [f"{bits} bits", PUBLISHED[bits]]
        for label in ("dpred plain", "dpred zeros", "dpred auto"):
            totals = [traffic.mean(form_of(traffic, label)) or 0.0 for traffic in traffics]
            means = [mean(totals) for mean in (arithmetic_mean, geometric_mean)]
            row.append(" / ".join("-" if mean is None else f"{100 * mean:.1f} %" for mean in means))
        rows.append([*row, str(len(traffics))])
    return rows


INTRODUCTION = """# Networks

Made by `python docs/make_networks.py`, which fetches all trained networks, with `dpred-sim traffic` and
`dpred-sim run` underneath; run it again after a change. Groups of 16, batch 1, seed 0.

* **Trained** networks have their own weights, and the activations of real photos, speech and text.
  `dpred-sim models list` names packages and licences. At 16 bits every tensor has the precision of a
  committed profile: the fewest bits that change the output by 1 % at most, one tensor at a time, and by 5 %
  all together, on 3 to 5 inputs (`resemblyzer` by 8 %, as its mel bands at 16 bits alone do up to 6 %).
  That stands in for a profile on labelled data. At 8 bits every tensor fills one scale.
* **SYNTHETIC** values are drawn at published precisions. They show shapes at work, and confirm no ratio.
* `plain`, `zeros` and `auto` are modes of the codec `dpred`: a width a group, the same with a flag a value
  for zeros, and the smaller of both (a tensor's weights at once, activations group by group). *A precision
  a layer* is the codec `per_layer`, *zero runs* is `zero_rle` with 4 bits a run.
"""

TRAFFIC = """
## Traffic

Weights, activations and outputs of every layer once (`paper_traffic`), as a share of the same values
uncompressed; means over inputs.
"""

BESIDE = """
## Beside the published figures

Shares of uncompressed traffic: arithmetic / geometric mean over the trained networks.
"""

SEPARATELY = """
## Beside an independent measurement

Totals of the layers with products, beside those of an independent measurement on the same models, with its
own quantiser, search and counters (`tests/data/trained_ratios.json`). The same integers counted by both
agree within 0.1 points. It does not count the projected inputs of recurrences, which are stored here.

16 bits: beside the shipped profiles stand some that are made by the rule of that measurement
(`docs/make_profiles.py --comparison`, `workloads/data/NAME/profile-comparison.json`):

* as many inputs as there (`inputs`). Which photos those were is not on record, the choice is ours: the first
  of its list, `astronaut`, `coffee`, `chelsea`; of pieces, lines, speech and text the first of the network's;
* 1 % by one tensor, of what layers with products read: shortcuts and the output stay exact, and tensors that
  only additions read get the median precision;
* 5 % by all together, by a bit more everywhere. No number of bits gets `resemblyzer` there; both profiles
  here have as many as help, which is one, and where it was stopped there is not on record.

They are for this comparison alone. Shipped profiles see three inputs or more and round what a run stores,
shortcuts and outputs included. `changed` and `unseen` are the change of the output with the profiles by that
rule, on the inputs of the search and on others. Points in brackets.

"""

APART = """
Within 4 points are those that are not in the next table. The others are one or two bits everywhere apart,
about 6 points each: the joint change comes close to 5 %, and the photos decide whether a bit more goes in.
How many it added is not on record, but shows in the mean precision of weights. With as many as there:

"""

HOW_MANY = """
This is no result of the rule on the photos chosen here: where it takes bits away, their joint change is above
5 %, and how many is taken from the other measurement. What the choice of photos does, all choices among the
six searched once (total plain, on `coffee`):

* `vgg16`, one photo: 0.322 to 0.342 with four of them, which add no bit, 0.407 (`astronaut`) and 0.416
  (`china`) with the two whose joint change is 5.3 % and 5.7 %, which add one;
* `resnet50_thin`, three photos: 0.317 to 0.363 with the six choices that add no bit, 0.373 to 0.426 with the
  eight that add one, 0.436 to 0.478 with the six that add two. Median: 0.417.

Run with such a profile: `trained_workload(NAME, bits=16, profile=comparison_path(NAME))` in a workload
script, both from `dpred_sim.workload.trained.script`.
"""

SEPARATELY_8 = """
At 8 bits it has affine activations: a scale for the range from the lowest to the highest value, and integers
less their zero point. Where most values are on one side and few reach a little below zero (leaky ReLU, GELU,
Swish), a symmetric scale leaves half of its range empty and an affine one does not: one bit more for most.
Activations of layers with products, counted with both scales on one input (weights are symmetric in both):

"""

AFFINE = (
    ("`waifu2x`", "0.695 / 0.634", "0.780 / 0.788", "0.763 / 0.769"),
    ("`svtr`", "0.748 / 0.810", "0.848 / 0.930", "0.822 / 0.890"),
    ("`minilm`", "0.617 / 0.658", "0.660 / 0.711", "0.664 / 0.720"),
    ("`esrgan_slim`", "0.701 / 0.714", "0.715 / 0.731", "0.700 / 0.732"),
    ("`resnet50_thin`", "0.850 / 0.701", "0.853 / 0.705", "0.803 / 0.676"),
)
"""Shares of 8 bits, plain / zeros, in groups of 16 of the flat tensor; measured once."""

ONLY_SYMMETRIC = """
There is no affine format here: less its zero point such a tensor has 9 bits, and the tiles multiply 8.
`esrgan_slim` differs by the pieces of photos (`auto` is 0.45 to 0.65 from piece to piece). `silero_vad`
stores the projected input of its LSTM, which the independent measurement does not count: without it
activations are 0.539 / 0.394 here, and 0.491 / 0.395 there.
"""

REPAIRED = """
Tensors that together change the output by more than 5 % get more bits: all of them one (`everywhere`, which
the shipped profiles have), or single tensors where a stored bit takes most error away (`fewest`, `dpred-sim
profile --repair fewest`). The second stores less and comes nearer to the tolerance, on inputs that
the search did not see as well. Total traffic (16 bits, `auto`) and changes as above; networks that keep to
5 % without a repair are the same in both.

"""

UNREACHED = """
Where 16 bits of a single tensor already change the output too much, a tolerance is *not reached*: that tensor
has 16 bits, and all have as many more as lower the change. Ranges are those of the calibration inputs: one
photo that `mobilenet_v2` has not seen gives outputs beyond theirs, which saturate.

"""

HONESTLY = """
What this does and does not confirm:

* The published means are over other networks, whose weights and profiles are not at hand. Ours stand on
  precisions of our own search. The table above shows how much its tolerance decides: a mean near the
  published one can be had by choosing it. So a number close to 35 % is no reproduction, and one farther
  away no refutation.
* Most of the reduction at 16 bits comes from trimming every tensor to its profiled precision; the groups
  take what is left between *a precision a layer* and *auto*.
* At 8 bits nothing near 33 % comes out of dense networks: one scale a tensor uses all 8 bits. 33 % of 8
  bits are 2.6 bits a value. Pruned networks get there, or a reference of 16 bits.
* Weights with a scale a filter fill the range of every filter, and groups gain nothing on them
  (`wakeword`).
"""


def document(names: Sequence[str]) -> str:
    """The whole page."""
    networks = [examine(name) for name in names]
    trained = [network for network in networks if network.trained]
    others = [network for network in networks if not network.trained]
    groups = [("Trained", trained), ("SYNTHETIC", [n for n in others if n.synthetic])]
    groups.append(("Others", [n for n in others if not n.synthetic and n.traffic]))
    parts = [INTRODUCTION, TRAFFIC]
    for bits in BITS:
        for label, members in groups:
            if any(bits in network.traffic for network in members):
                parts.append(f"\n### {label}, {bits} bits\n\n")
                parts.append(table(TRAFFIC_HEAD, traffic_rows(members, bits, means=label != "Others")))
    if any(network.traffic for network in trained):
        head = ("", "published", "plain", "zeros", "auto", "networks")
        parts += [BESIDE, "\n", table(head, published_rows(trained))]
        rows = tolerance_rows(trained)
        if rows:
            columns = [f"{100 * t:g} %: total, changed, unseen" for t in TOLERANCES]
            head = ("network", *(cell for c in columns for cell in (c, "", "")))
            parts.append(
                "\nHow the tolerance of the profiles decides (16 bits, `auto`): total traffic, change of the "
            )
            parts.append("output on calibration inputs, and on inputs that the search did not see.")
            parts.append(UNREACHED)
            parts.append(table(head, rows))
        rows = repair_rows(trained)
        if rows:
            head = ("network", *(cell for r in REPAIRS for cell in (f"{r}: total", "changed", "unseen")))
            parts += [REPAIRED, table(head, rows)]
        parts.append(HONESTLY)
        if MEASURED.is_file():
            parts += [SEPARATELY, table(COMPARED_HEAD, compared_rows(trained))]
            rows = level_rows(trained)
            if rows:
                parts += [APART, table(LEVEL_HEAD, rows), HOW_MANY]
            parts += ["\n8 bits:\n\n", table(MEASURED_HEAD, measured_rows(trained, 8))]
            head = ("network", "symmetric", "affine", "independent measurement")
            parts += [SEPARATELY_8, table(head, AFFINE), ONLY_SYMMETRIC]
    parts.append("\n## Whole systems\n")
    for bits in BITS:
        parts.append(f"\n### `{SYSTEMS[bits]}` beside `{BASELINES[bits]}`, {bits} bits\n")
        for label, members in groups:
            if any(bits in network.runs for network in members):
                parts += [f"\n{label}:\n\n", table(RUN_HEAD, run_rows(members, bits))]
    failed = [(n.name, bits, text) for n in networks for bits, text in n.failed.items()]
    if failed:
        parts.append("\n## Not run\n\n")
        parts += [f"* `{name}`, {bits} bits: {text}\n" for name, bits, text in failed]
    parts.append("\n## Where the values come from\n\n")
    parts += [f"* `{n.name}`, {bits} bits: {n.sources[bits]}\n" for n in networks for bits in n.sources]
    return "".join(parts)


def main(names: Sequence[str]) -> None:
    """Write the page about the networks `names`, or all of them."""
    known = ready_made_names("workloads", ".py")
    wrong = [name for name in names if name not in known]
    if wrong:
        leave(f"unknown: {', '.join(wrong)}; there are {', '.join(known)}")
    order = [name for name in shipped().names if name in known]
    order += [name for name in known if name not in order]
    text = document([name for name in order if not names or name in names])
    (Path(__file__).parent / "networks.md").write_text(text, encoding="utf-8")


def leave(text: str) -> NoReturn:
    """End with an error."""
    print(f"error: {text}", file=sys.stderr)
    raise SystemExit(2)


if __name__ == "__main__":
    main(sys.argv[1:])
