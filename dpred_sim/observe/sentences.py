"""What a run says in plain sentences, and what to try next."""

from __future__ import annotations

from dpred_sim.observe.comparison import Comparison
from dpred_sim.observe.tables import limits_by_cycles, wrapped
from dpred_sim.simulation.result import RunResult
from dpred_sim.units import format_time


def sentences(result: RunResult, comparison: Comparison | None = None) -> list[str]:
    """Three sentences: how fast, what share of the bytes, what limits how many layers; then the workload's
    notes.
    """
    notes = result.provenance.get("notes", ())
    if comparison is None:
        return [_speed_alone(result), _bytes_alone(result), _limits(result), *notes]
    return [_speed_against(comparison), _bytes_against(comparison), _limits(result), *notes]


def closing(
    result: RunResult, comparison: Comparison | None, next_command: str, edit: str, width: int | None = None
) -> str:
    """The end of a run's output: the sentences, the next command and the file to edit.

    `width` wraps the sentences; what is to be copied stays on one line.
    """
    lines = [*wrapped(sentences(result, comparison), width), "", f"next: {next_command}", f"edit: {edit}"]
    return "\n".join(lines)


def _speed_alone(result: RunResult) -> str:
    ideal = sum(layer.ideal_cycles for layer in result.layers)
    text = (
        f"{result.topology} runs {_values(result)} in {result.total_cycles:,} cycles "
        f"({format_time(result.time_ps)})"
    )
    if not result.complete:
        text = (
            f"{result.topology} was stopped after {result.total_cycles:,} cycles "
            f"({format_time(result.time_ps)}) of {_values(result)}"
        )
    elif ideal and result.total_cycles:
        text += f"; with perfect memory its compute takes {ideal:,} ({_percent(ideal, result.total_cycles)})"
    return text + "."


def _speed_against(comparison: Comparison) -> str:
    whole, reference = comparison.cell("design", "compressed"), comparison.cell("baseline", "raw")
    text = (
        f"{comparison.design} with {comparison.storage} storage runs {_values(comparison)} "
        f"{_times(comparison.speedup())} as fast as {comparison.baseline} with raw storage "
        f"({whole.cycles:,} against {reference.cycles:,} cycles)"
    )
    conv = comparison.speedup(conv=True)
    if conv is not None:
        ideal = comparison.speedup(memory="ideal", conv=True)
        text += f"; its convolutions {_times(conv)}, on ideal memory {_times(ideal)}"
    if abs(comparison.peak_ratio - 1) > 0.005:
        speedup = comparison.speedup()
        fair = None if speedup is None else speedup / comparison.peak_ratio
        text += (
            f"; its peak is {comparison.peak_ratio:.2f} times the baseline's, divided by it {_times(fair)}"
        )
    return text + "."


def _bytes_alone(result: RunResult) -> str:
    stored = sum(layer.offchip_bytes for layer in result.layers)
    raw = sum(layer.offchip_bytes_raw for layer in result.layers)
    if not raw:
        return "It moves no values off chip."
    return (
        f"It moves {_percent(stored, raw)} of the off-chip bytes that the same values take uncompressed: "
        f"{stored / 2**20:.2f} of {raw / 2**20:.2f} MiB."
    )


def _bytes_against(comparison: Comparison) -> str:
    stored = comparison.cell("design", "compressed").offchip_bytes
    raw = comparison.cell("baseline", "raw").offchip_bytes
    if not raw:
        return f"{comparison.baseline} moves no values off chip."
    return (
        f"It moves {_percent(stored, raw)} of the off-chip bytes of {comparison.baseline} with raw storage: "
        f"{stored / 2**20:.2f} of {raw / 2**20:.2f} MiB."
    )


def _limits(result: RunResult) -> str:
    limits = limits_by_cycles(result)
    cycles = sum(part for _, _, part in limits)
    if not limits or not cycles:
        return "No layer was run."
    count = len(result.layers)
    first, *others = limits
    text = f"Limited by {first[0]}: {first[1]} of {count} layers ({_percent(first[2], cycles)} of the cycles)"
    for name, layers, part in others:
        text += f"; by {name}: {layers} ({_percent(part, cycles)})"
    return text + "."


def _values(subject: RunResult | Comparison) -> str:
    return f"{subject.workload} (SYNTHETIC values)" if subject.synthetic else subject.workload


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f} times"


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %"
