"""`dpred-sim dram`: the DRAM standards, and what a channel makes of an access pattern."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpred_sim.errors import InputError

if TYPE_CHECKING:
    from dpred_sim.components.dram.bench import BenchResult
    from dpred_sim.components.dram.closed_forms import ClosedForm
    from dpred_sim.components.dram.patterns import Access
    from dpred_sim.components.dram.standard import Standard

DEFAULT_BYTES = 4 << 20
HIGHEST_RATE = 10
"""Of peak: more than any queue drains, so that a higher one measures nothing else."""
EXAMPLE = "Example:  dpred-sim dram bench DDR4-3200 --pattern random --request 2KiB"


def add_to(app: typer.Typer) -> None:
    """Register `dram list` and `dram bench`."""
    nouns = typer.Typer(help="DRAM standards and channels.", epilog=EXAMPLE)
    nouns.command("list", epilog="Example:  dpred-sim dram list")(list_standards)
    nouns.command("bench", epilog=EXAMPLE)(bench)
    nouns.callback()(_dram)
    app.add_typer(nouns, name="dram")


def _dram() -> None:
    """DRAM standards and channels."""


def list_standards(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List the DRAM standards that come with the program."""
    import json

    from dpred_sim.components.dram.standard import load_standard, standard_names

    standards = [load_standard(name) for name in standard_names()]
    if as_json:
        print(json.dumps({"standards": [_described(standard) for standard in standards]}, indent=2))
        return
    for standard in standards:
        row = _described(standard)
        print(
            f"{row['name']}: {row['peak_gbps']:.1f} GB/s on {row['bus_bits']} bit, {row['banks']} banks in "
            f"{row['bank_groups']} groups, page {row['page_bytes']} B, burst {row['burst_bytes']} B"
        )


def _described(standard: Standard) -> dict[str, Any]:
    return {
        "name": standard.name,
        "protocol": standard.protocol,
        "peak_gbps": standard.peak_bits_per_second() / 8e9,
        "bus_bits": standard.bus_bits,
        "bank_groups": standard.bank_groups,
        "banks": standard.banks,
        "page_bytes": standard.page_bytes(),
        "burst_bytes": standard.burst_bytes(),
        "capacity_bytes": standard.capacity_bytes(),
        "source": standard.source,
    }


def bench(
    standard: Annotated[str, typer.Argument(metavar="STANDARD", help="A standard's name, or a file.")],
    pattern: Annotated[
        str,
        typer.Option(
            metavar="P",
            help="seq_read, seq_write, rw21 (two read streams, one write stream), rw21_aligned (the same in "
            "the same banks), random, random_rw (a third writes), strided, or file:TRACE.",
        ),
    ] = "seq_read",
    request: Annotated[str, typer.Option(metavar="SIZE", help="Size of a request.")] = "2KiB",
    stride: Annotated[str, typer.Option(metavar="SIZE", help="Distance of strided requests.")] = "4KiB",
    mapping: Annotated[
        str | None, typer.Option(metavar="M", help="Address fields from the highest: 'ro ra ba co bg'.")
    ] = None,
    rate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="F",
            help="Offered fraction of peak, burst by burst; several, or a list 0.1,0.5,0.9, make a curve. "
            "Default: as fast as it goes.",
        ),
    ] = None,
    outstanding: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Keep N bursts on their way instead.")
    ] = None,
    queue: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Bursts of the transaction queue (default 32).")
    ] = None,
    bank_queue: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help="Level burst: bursts of a bank's queue (default 8); 0: oldest ready of the whole queue.",
        ),
    ] = None,
    level: Annotated[str, typer.Option(metavar="L", help="ideal, bandwidth, banked or burst.")] = "banked",
    page: Annotated[str, typer.Option(metavar="P", help="open or closed.")] = "open",
    refresh: Annotated[
        str | None, typer.Option(metavar="R", help="all_bank, per_bank or none. Default: the standard's.")
    ] = None,
    bus: Annotated[str | None, typer.Option(metavar="BITS", help="Width of the bus, as '64 bit'.")] = None,
    ranks: Annotated[int | None, typer.Option(metavar="N", min=1, help="Ranks on the channel.")] = None,
    requests: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Requests to make. Default: 4 MiB of them.")
    ] = None,
    trace_out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the requests as a trace.")
    ] = None,
    trace_format: Annotated[str, typer.Option(metavar="F", help="ramulator or dramsim3.")] = "ramulator",
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw where the time goes, or the curve: .svg or .png."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, a line a rate.")] = False,
) -> None:
    """Measure a channel: bandwidth, latency, row hits, and where the rest of the time went."""
    from dpred_sim.components.dram import bench as benches
    from dpred_sim.components.dram.closed_forms import closed_form
    from dpred_sim.components.dram.standard import load_standard
    from dpred_sim.components.dram.traces import write_trace

    if as_json and as_csv:
        raise InputError("one of --json and --csv", field="--csv")
    rates = _rates(rate)
    _check_sources(rates, outstanding)
    _check_queues(level, queue, bank_queue)
    _check_outputs(plot, trace_out, trace_format)
    loaded = load_standard(standard)
    if ranks is not None:
        loaded = loaded.with_ranks(ranks)
    bus_bits = None if bus is None else _size("--bus", bus)
    size = _bytes("--request", request)
    accesses = _accesses(loaded, bus_bits, pattern, size, _bytes("--stride", stride), requests)
    channel: dict[str, Any] = {
        "bus_bits": bus_bits,
        "level": level,
        "mapping": mapping,
        "page": page,
        "refresh": refresh,
    }
    queues: dict[str, Any] = {} if bank_queue is None else {"bank_queue": bank_queue}
    saturated = not rates and outstanding is None
    results = [
        benches.run(
            loaded,
            accesses,
            queue=queue,
            rate=one,
            outstanding=outstanding,
            piece_bytes=None if saturated else loaded.burst_bytes(bus_bits),
            **channel,
            **queues,
        )
        for one in rates or [None]
    ]
    form = closed_form(loaded, accesses, pattern=pattern, **channel) if saturated else None
    if trace_out is not None:
        write_trace(trace_out, trace_format, ((0, access) for access in accesses), loaded, bus_bits)
    if plot is not None:
        from dpred_sim.components.dram.plot import write_plot

        write_plot(plot, results, pattern, form)
    _show(results, form, pattern, size, as_json, as_csv)


def _check_sources(rates: list[float | None], outstanding: int | None) -> None:
    if rates and outstanding is not None:
        raise InputError("one of --rate and --outstanding", field="--outstanding", found=outstanding)


def _check_queues(level: str, queue: int | None, bank_queue: int | None) -> None:
    if queue is not None and level in ("ideal", "bandwidth"):
        raise InputError(f"the level {level} has no queue", field="--queue", found=queue)
    if bank_queue is not None and level != "burst":
        raise InputError("only the level burst has queues of banks", field="--bank-queue", found=bank_queue)


def _check_outputs(plot: Path | None, trace_out: Path | None, trace_format: str) -> None:
    """Refuse what could not be written before anything is measured."""
    from dpred_sim.components.dram.plot import check_plot_path
    from dpred_sim.components.dram.traces import check_format

    check_format(trace_format)
    if plot is not None:
        check_plot_path(plot)
    for option, path in (("--plot", plot), ("--trace-out", trace_out)):
        if path is not None and path.is_dir():
            raise InputError("a folder, not a file", field=option, found=str(path))
        if path is not None and not path.parent.is_dir():
            raise InputError("no such folder", field=option, found=str(path.parent))


def _accesses(
    standard: Standard, bus_bits: int | None, pattern: str, size: int, stride: int, requests: int | None
) -> list[Access]:
    """The requests of a pattern or a trace."""
    from itertools import islice

    from dpred_sim.components.dram.patterns import STRIDE_SPAN, make_pattern
    from dpred_sim.components.dram.traces import read_trace

    burst, capacity = standard.burst_bytes(bus_bits), standard.capacity_bytes(bus_bits)
    if pattern.startswith("file:"):
        trace = Path(pattern.removeprefix("file:"))
        accesses = list(islice(read_trace(trace, burst), requests))
        if not accesses:
            raise InputError("the trace has no requests", file=trace)
        return accesses
    if size > capacity:
        raise InputError(
            "a request is larger than the channel",
            field="--request",
            found=f"{size} B",
            allowed=f"up to {capacity} B",
        )
    if pattern == "strided" and (stride % burst or stride > STRIDE_SPAN):
        raise InputError(
            "not a stride of whole bursts",
            field="--stride",
            found=f"{stride} B",
            allowed=f"multiples of {burst} B up to {STRIDE_SPAN} B",
        )
    made = make_pattern(pattern, size, stride)
    return list(islice(made, requests or max(1, DEFAULT_BYTES // size)))


def _rates(texts: list[str] | None) -> list[float | None]:
    rates: list[float | None] = []
    for text in texts or []:
        for word in text.split(","):
            try:
                value = float(word)
            except ValueError:
                value = -1.0
            if not 0 < value <= HIGHEST_RATE:
                raise InputError(
                    "not a fraction of peak",
                    field="--rate",
                    found=word,
                    allowed=f"above 0 and up to {HIGHEST_RATE}, such as 0.5 or 0.1,0.5,0.9",
                )
            rates.append(value)
    return rates


def _size(option: str, text: str) -> int:
    from dpred_sim.units import parse_bits

    try:
        return parse_bits(text)
    except InputError as error:
        raise InputError(error.message, field=option, found=error.found, allowed=error.allowed) from None


def _bytes(option: str, text: str) -> int:
    bits = _size(option, text)
    if bits % 8:
        raise InputError("not whole bytes", field=option, found=text)
    return bits // 8


def _show(
    results: list[BenchResult],
    form: ClosedForm | None,
    pattern: str,
    size: int,
    as_json: bool,
    as_csv: bool,
) -> None:
    import json

    told = None if form is None else {"name": form.name, "fraction_of_peak": form.fraction}
    rows = [
        {"pattern": pattern, "request_bytes": size, "closed_form": told, **result.to_dict()}
        for result in results
    ]
    if as_json:
        print(json.dumps(rows[0] if len(rows) == 1 else {"points": rows}, indent=2))
        return
    if as_csv:
        _show_csv(rows)
        return
    for result in results:
        offered = (
            "" if result.offered_fraction is None else f", offered {result.offered_fraction:.3f} of peak"
        )
        print(f"{result.standard}, level {result.level}, {pattern}, {size} B a request{offered}")
        print(f"  {_bandwidth(result)}, row hits {result.row_hit_rate:.3f}")
        if form is not None and result.fraction_of_peak is not None:
            off = 100 * (result.fraction_of_peak / form.fraction - 1)
            print(
                f"  closed form: {form.fraction:.3f} of peak ({form.name}); measured {off:+.1f} % with "
                f"{result.counters['refreshes']} refreshes"
            )
        print(f"  latency: mean {result.mean_latency_ns:.1f} ns, p99 {result.p99_latency_ns:.1f} ns")
        parts = ", ".join(
            f"{name.replace('_', ' ')} {100 * part:.1f} %" for name, part in result.breakdown.items()
        )
        print(f"  time: {parts}")


def _bandwidth(result: BenchResult) -> str:
    if result.bandwidth_gbps is None or result.fraction_of_peak is None:
        return "no time passes"
    return (
        f"{result.bandwidth_gbps:.2f} of {result.peak_gbps:.2f} GB/s ({result.fraction_of_peak:.3f} of peak)"
    )


def _show_csv(rows: list[dict[str, Any]]) -> None:
    import csv
    import sys

    flat = []
    for row in rows:
        line = {
            key: value for key, value in row.items() if key not in ("closed_form", "breakdown", "counters")
        }
        form = row["closed_form"] or {"name": None, "fraction_of_peak": None}
        line.update({"closed_form": form["name"], "closed_form_fraction_of_peak": form["fraction_of_peak"]})
        line.update({f"{name}_fraction": part for name, part in row["breakdown"].items()})
        line.update(row["counters"])
        flat.append(line)
    writer = csv.DictWriter(sys.stdout, fieldnames=list(flat[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
