"""`dpred-sim run`: simulate one workload on one topology, show it, and say what it means."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from dpred_sim.cli._play import RUN_PACE, View, note, play_run, selection_of

if TYPE_CHECKING:
    from dpred_sim.observe.comparison import Comparison
    from dpred_sim.observe.record.writer import Recorder
    from dpred_sim.simulation.result import RunResult

DEFAULT_TOPOLOGY = "dpred_stripes_ddr4"
DEFAULT_BASELINE = "dadiannao_ddr4"
WIDER = "dpred_stripes_2ch"
"""The default topology with more DRAM bandwidth."""


def add_to(app: typer.Typer) -> None:
    """Register `run`."""
    app.command(epilog="Example:  dpred-sim run alexnet --baseline dadiannao_ddr4 --out runs/alexnet")(run)


def run(
    workload: Annotated[
        str, typer.Argument(metavar="WORKLOAD", help="A ready-made name, a script, or an .onnx file.")
    ],
    topology: Annotated[
        str, typer.Option(metavar="T", help="A ready-made name or a file.")
    ] = DEFAULT_TOPOLOGY,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="K=V", help="Change a value of T (not of the baseline), as nodes.tile.count=8."
        ),
    ] = None,
    bits: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Bits of an uncompressed value, 8 or 16. Default: what a unit of T takes whole."
        ),
    ] = None,
    quantise: Annotated[
        str, typer.Option(metavar="Q", help="How real numbers become integers.")
    ] = "profiled",
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="FILE", help="What the network is fed with; repeat for several."),
    ] = None,
    batch: Annotated[int, typer.Option(metavar="N", help="Inputs computed one after the other.")] = 1,
    seed: Annotated[int, typer.Option(metavar="N", help="Draws synthetic values.")] = 0,
    baseline: Annotated[
        str | None, typer.Option(metavar="T", help="Compare with this topology: eight runs instead of one.")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Pack and unpack every container and recompute every layer.")
    ] = False,
    layers: Annotated[
        str | None,
        typer.Option(metavar="GLOB", help="Verify only the layers with such a name, as 'conv*'."),
    ] = None,
    live: Annotated[
        bool | None,
        typer.Option("--live/--no-live", help="Show progress on stderr. Default: unless --json is given."),
    ] = None,
    pace: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Least wall time of the run, as 15s, or how many times slower than the machine, as 1000x; "
            f"0: full speed. Default on a terminal: {RUN_PACE}.",
        ),
    ] = None,
    follow: Annotated[
        list[str] | None,
        typer.Option(metavar="NAMES", help="Show events of these components, as dram,tile.3 or 'weights*'."),
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Show events of the layers with such a name, as 'conv4*'."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the results into this folder.")
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Record the run in this file: .dpred for `dpred-sim replay` and `trace`, .pftrace for "
            "Perfetto, .json for Chrome, .parquet for a table.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace DIR or FILE if it exists.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document, nothing else.")] = False,
) -> None:
    """Simulate a workload on a topology and print the table, with what limits it and what to try next."""
    request = Request(
        workload=workload,
        topology=topology,
        settings=tuple(settings or ()),
        bits=bits,
        quantise=quantise,
        inputs=tuple(inputs or ()),
        batch=batch,
        seed=seed,
        baseline=baseline,
        verify=verify,
        layers=layers,
        out=out,
        trace=trace,
        force=force,
    )
    from dpred_sim.observe.pace import parse_pace

    view = View(
        wanted=not as_json if live is None else live,
        pace=None if pace is None else parse_pace(pace),
        selection=selection_of(follow, layer),
    )
    # Whatever a workload script prints must not get into the one document.
    with redirect_stdout(sys.stderr) if as_json and sys.stderr else nullcontext():
        result, comparison = perform(request, view)
    if as_json:
        print(_document(result, comparison, view.verified))
    else:
        print(_report(request, result, comparison, view.verified))


def run_script(file: str | Path) -> None:
    """`dpred-sim run` with a workload script; its options are the words of the command line.

    A script ends with `if __name__ == "__main__": dp.run_script(__file__)`.
    """
    from dpred_sim.cli.main import main

    sys.exit(main(["run", str(Path(file)), *sys.argv[1:]]))


@dataclass(frozen=True, slots=True)
class Request:
    """What to simulate and where to leave it: everything that has a say in the result."""

    workload: str
    topology: str = DEFAULT_TOPOLOGY
    settings: tuple[str, ...] = ()
    bits: int | None = None
    quantise: str = "profiled"
    inputs: tuple[str, ...] = ()
    batch: int = 1
    seed: int = 0
    baseline: str | None = None
    verify: bool = False
    layers: str | None = None
    out: Path | None = None
    trace: Path | None = None
    force: bool = False

    def command(self, **changes: Any) -> str:
        """The command line that asks for this, with some options changed."""
        import shlex

        words = ["dpred-sim", "run", self.workload, "--topology", changes.pop("topology", self.topology)]
        for setting in self.settings:
            words += ["--set", setting]
        plain: dict[str, Any] = {
            "bits": None,
            "quantise": "profiled",
            "batch": 1,
            "seed": 0,
            "baseline": None,
        }
        for option, default in plain.items():
            value = changes.pop(option, getattr(self, option))
            if value != default:
                words += [f"--{option}", str(value)]
        for path in self.inputs:
            words += ["--input", path]
        return shlex.join(words)


def perform(request: Request, view: View) -> tuple[RunResult, Comparison | None]:
    """Load, run, write and compare. Raises KeyboardInterrupt after writing what a stopped run has."""
    _check(request)
    from dpred_sim.errors import SimulationError
    from dpred_sim.observe.events import Tap
    from dpred_sim.observe.source import LiveSource
    from dpred_sim.simulation.engine import Simulation
    from dpred_sim.simulation.systems import load_topology, natural_bits
    from dpred_sim.workload.load import load_workload

    topology = load_topology(request.topology, set=list(request.settings))
    against = None if request.baseline is None else load_topology(request.baseline)
    workload = load_workload(
        request.workload,
        bits=natural_bits(topology) if request.bits is None else request.bits,
        quantise=request.quantise,
        inputs=request.inputs,
        seed=request.seed,
    )
    if against is not None:
        from dpred_sim.explore.compare import check_pair

        check_pair(topology, against)
    if request.verify:
        from dpred_sim.simulation.verify import verify_workload

        view.verified = verify_workload(workload, topology, request.layers)
    with _recorder(request) as recorder:
        tap = Tap(recorder)
        simulation = Simulation(workload, topology, request.seed, request.batch, tap)
        if recorder is not None:
            recorder.begin(simulation)
        try:
            complete = play_run(LiveSource(simulation, tap, recorder), view)
        except SimulationError as error:
            if recorder is not None:
                recorder.finish(simulation, simulation.result(), f"{type(error).__name__}: {error}")
            raise
        result = simulation.result()
        if recorder is not None:
            size = recorder.finish(simulation, result)
            again = f", see it again with: dpred-sim replay {request.trace}"
            note(f"{request.trace}: {size:,} bytes{again if recorder.path == request.trace else ''}")
    if request.out is not None:
        result.write(request.out, force=request.force)
    if not complete:
        raise KeyboardInterrupt(_stopped_text(request))
    comparison = None
    if against is not None:
        from dpred_sim.explore.compare import compare

        comparison = compare(workload, topology, against, seed=request.seed, batch=request.batch, done=result)
        if request.out is not None:
            _write_comparison(request.out, comparison)
    return result, comparison


def _check(request: Request) -> None:
    """What can be refused before anything is loaded or run."""
    from dpred_sim.errors import InputError

    if request.batch < 1:
        raise InputError("not a batch", field="--batch", found=request.batch, allowed="an integer, 1 or more")
    if request.layers is not None and not request.verify:
        raise InputError("--layers says what to verify; there is no --verify", field="--layers")
    if request.force and request.out is None and request.trace is None:
        raise InputError(
            "--force says what to do with an existing --out DIR or --trace FILE; there is none",
            field="--force",
        )
    if request.trace is not None:
        from dpred_sim.observe.trace.recorder import check_trace

        check_trace(request.trace, request.force)
    if request.out is not None:
        from dpred_sim.simulation.output import check_output

        check_output(request.out, request.force)


@contextmanager
def _recorder(request: Request) -> Iterator[Recorder | None]:
    """Records the run where that is asked for; whatever goes wrong, no half of a file is left."""
    if request.trace is None:
        yield None
        return
    from dpred_sim.observe.trace.recorder import recorder_for

    recorder = recorder_for(request.trace, request.force, note)
    try:
        yield recorder
    finally:
        recorder.discard()  # harmless once it is finished


def _stopped_text(request: Request) -> str:
    kept = " and ".join(str(place) for place in (request.out, request.trace) if place is not None)
    return f"interrupted; what was done until then is in {kept}" if kept else "interrupted"


def _write_comparison(folder: Path, comparison: Comparison) -> None:
    import json

    from dpred_sim.cache import write_atomic

    text = json.dumps(comparison.to_dict(), indent=1) + "\n"

    def write(stream: IO[bytes]) -> None:
        stream.write(text.encode())

    write_atomic(folder / "comparison.json", write)


def _document(result: RunResult, comparison: Comparison | None, verified: dict[str, int] | None) -> str:
    """The run as one JSON document; a comparison, and what was verified, are more keys of it."""
    import json

    more = {} if verified is None else {"verified": verified}
    if comparison is not None:
        more = {"comparison": comparison.to_dict(), **more}
    if not more:
        return result.to_json().rstrip("\n")
    return json.dumps(result.to_dict() | more, indent=1)


def _report(
    request: Request, result: RunResult, comparison: Comparison | None, verified: dict[str, int] | None
) -> str:
    from dpred_sim.observe.sentences import closing
    from dpred_sim.observe.tables import comparison_table, layer_table

    width = _stdout_width()
    parts = [layer_table(result, width)]
    if verified is not None:
        parts.append(_verified_text(verified))
    if comparison is not None:
        parts.append(comparison_table(comparison, width))
    next_command, edit = _next_command(request, result), str(_topology_file(request))
    parts.append(closing(result, comparison, next_command, edit, width))
    return "\n\n".join(parts)


def _verified_text(verified: dict[str, int]) -> str:
    layers = "1 layer" if verified["layers"] == 1 else f"{verified['layers']:,} layers"
    return (
        f"Verified: {verified['containers']:,} containers unpack to what was packed; {verified['values']:,}"
        f" outputs of {layers}, computed the way the tiles do, equal a plain convolution."
    )


def _stdout_width() -> int | None:
    """Width of the terminal that stdout is, None where it is none."""
    import shutil

    return shutil.get_terminal_size().columns if sys.stdout is not None and sys.stdout.isatty() else None


def _next_command(request: Request, result: RunResult) -> str:
    """A command that answers the question a reader has next."""
    import shlex

    from dpred_sim.locate import ready_made_names
    from dpred_sim.observe.tables import limits_by_cycles
    from dpred_sim.workload.profile import UNPROFILED

    if UNPROFILED in result.provenance.get("notes", ()):
        # A profile needs three inputs.
        more = [f"INPUT{i}" for i in range(len(request.inputs) + 1, 4)] if request.inputs else []
        words = [word for path in (*request.inputs, *more) for word in ("--input", path)]
        return shlex.join(["dpred-sim", "profile", request.workload, *words])
    known = ready_made_names("topologies", ".yaml")
    baseline = baseline_for(request.topology, known)
    if request.baseline is None and baseline is not None:
        return request.command(baseline=baseline)
    limits = limits_by_cycles(result)
    if limits and limits[0][0] != "compute" and request.topology == DEFAULT_TOPOLOGY and WIDER in known:
        return request.command(topology=WIDER)
    return shlex.join(["dpred-sim", "topology", "check", request.topology, "--workload", request.workload])


def baseline_for(topology: str, known: Sequence[str]) -> str | None:
    """The ready-made baseline of the same memory and value width, or the one that the file names.

    None for a baseline itself.
    """
    named = _named_baseline(topology)
    if named in known:
        return named
    family = DEFAULT_BASELINE.partition("_")[0]
    fitting = [name for name in known if name.startswith(family) and topology.endswith(name[len(family) :])]
    best = max(fitting, key=len, default=DEFAULT_BASELINE)
    return None if topology.startswith(family) or best not in known else best


def _named_baseline(topology: str) -> str | None:
    """The one that the comment of a ready-made system names, where its peak is not the usual one."""
    import re

    from dpred_sim.locate import ready_made

    path = ready_made("topologies") / f"{topology}.yaml"
    if not path.is_file():
        return None
    found = re.search(r"baselines? of equal peak (?:is|are) (\w+)", path.read_text(encoding="utf-8"))
    return found and found[1]


def _topology_file(request: Request) -> Path:
    from dpred_sim.locate import locate

    return locate(request.topology, "topologies", ".yaml", noun="topology")
