"""`dpred-sim dram`: the DRAM standards, and what a channel makes of an access pattern."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from dpred_sim.components.dram.bench import BenchResult
    from dpred_sim.components.dram.standard import Standard

DEFAULT_BYTES = 4 << 20
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
        Path | None, typer.Option(metavar="FILE.svg", help="Draw where the time goes, or the curve.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, a line a rate.")] = False,
) -> None:
    """Measure a channel: bandwidth, latency, row hits, and where the rest of the time went."""
    from itertools import islice

    from dpred_sim.components.dram import bench as benches
    from dpred_sim.components.dram.patterns import make_pattern
    from dpred_sim.components.dram.standard import load_standard
    from dpred_sim.components.dram.traces import read_trace, write_trace
    from dpred_sim.errors import InputError

    if as_json and as_csv:
        raise InputError("one of --json and --csv", field="--csv")
    loaded = load_standard(standard)
    if ranks is not None:
        loaded = loaded.with_ranks(ranks)
    bus_bits = None if bus is None else _size("--bus", bus)
    size, step = _bytes("--request", request), _bytes("--stride", stride)
    burst = loaded.burst_bytes(bus_bits)
    if pattern.startswith("file:"):
        accesses = list(islice(read_trace(Path(pattern.removeprefix("file:")), burst), requests))
    else:
        made = make_pattern(pattern, size, step)
        accesses = list(islice(made, requests or max(1, DEFAULT_BYTES // size)))
    if trace_out is not None:
        write_trace(trace_out, trace_format, ((0, access) for access in accesses), loaded, bus_bits)
    rates: list[float | None] = [*_rates(rate)]
    results = [
        benches.run(
            loaded,
            accesses,
            bus_bits=bus_bits,
            level=level,
            mapping=mapping,
            page=page,
            refresh=refresh,
            queue=queue,
            rate=one,
            outstanding=outstanding,
            piece_bytes=None if one is None and outstanding is None else burst,
            **({} if bank_queue is None or level != "burst" else {"bank_queue": bank_queue}),
        )
        for one in rates or [None]
    ]
    if plot is not None:
        from dpred_sim.components.dram.plot import write_plot

        write_plot(plot, results)
    _show(results, pattern, size, as_json, as_csv)


def _rates(texts: list[str] | None) -> list[float]:
    from dpred_sim.errors import InputError

    rates = []
    for text in texts or []:
        for word in text.split(","):
            try:
                value = float(word)
            except ValueError:
                value = -1.0
            if not 0 < value <= 10:
                raise InputError(
                    "not a fraction of peak", field="--rate", found=word, allowed="such as 0.5 or 0.1,0.5,0.9"
                )
            rates.append(value)
    return rates


def _size(option: str, text: str) -> int:
    from dpred_sim.errors import InputError
    from dpred_sim.units import parse_bits

    try:
        return parse_bits(text)
    except InputError as error:
        raise InputError(error.message, field=option, found=error.found, allowed=error.allowed) from None


def _bytes(option: str, text: str) -> int:
    from dpred_sim.errors import InputError

    bits = _size(option, text)
    if bits % 8:
        raise InputError("not whole bytes", field=option, found=text)
    return bits // 8


def _show(results: list[BenchResult], pattern: str, size: int, as_json: bool, as_csv: bool) -> None:
    import json

    rows = [{"pattern": pattern, "request_bytes": size, **result.to_dict()} for result in results]
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
        print(
            f"  {result.bandwidth_gbps:.2f} of {result.peak_gbps:.2f} GB/s ({result.fraction_of_peak:.3f} of "
            f"peak), row hits {result.row_hit_rate:.3f}"
        )
        print(f"  latency: mean {result.mean_latency_ns:.1f} ns, p99 {result.p99_latency_ns:.1f} ns")
        parts = ", ".join(
            f"{name.replace('_', ' ')} {100 * part:.1f} %" for name, part in result.breakdown.items()
        )
        print(f"  time: {parts}")


def _show_csv(rows: list[dict[str, Any]]) -> None:
    import csv
    import sys

    flat = []
    for row in rows:
        line = {key: value for key, value in row.items() if key not in ("breakdown", "counters")}
        line.update({f"{name}_fraction": part for name, part in row["breakdown"].items()})
        line.update(row["counters"])
        flat.append(line)
    writer = csv.DictWriter(sys.stdout, fieldnames=list(flat[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
