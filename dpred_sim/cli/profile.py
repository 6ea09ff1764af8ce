"""`dpred-sim profile`: the smallest precision of every tensor that leaves a network's output as it was."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from dpred_sim.workload.capture import Subject
    from dpred_sim.workload.images import Preprocessing
    from dpred_sim.workload.profile import Profile

EXAMPLE = "Example:  dpred-sim profile traces/net --held-out bird.png"


def add_to(app: typer.Typer) -> None:
    """Register `profile`."""
    app.command(epilog=EXAMPLE)(profile)


def profile(
    source: Annotated[
        Path, typer.Argument(metavar="TRACE|MODEL", help="A trace folder, or an .onnx file with --input.")
    ],
    inputs: Annotated[
        list[Path] | None,
        typer.Option("--input", metavar="FILE", help="With a MODEL: a calibration input, 3 or more."),
    ] = None,
    held_out: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="An input that the search does not see; repeat for several."),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(metavar="X", help="Relative L2 change of the output by one tensor.")
    ] = 0.01,
    joint: Annotated[float, typer.Option(metavar="X", help="The same by all tensors together.")] = 0.05,
    repair: Annotated[
        str,
        typer.Option(
            metavar="RULE",
            help="What gets a bit more until the joint change is within --joint: `everywhere` (holds best on "
            "other inputs), or `fewest` stored bits.",
        ),
    ] = "everywhere",
    exact_shortcuts: Annotated[
        bool,
        typer.Option("--exact-shortcuts", help="Additions read tensors unrounded: only other readers count."),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The profile. Default: TRACE/profile.json, MODEL.profile.json."),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The model of the trace, if it lies elsewhere.")
    ] = None,
    preprocess: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="With a MODEL: as for `dpred-sim capture`.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the profile if it exists.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the profile as one JSON document.")] = False,
) -> None:
    """Find how many bits each tensor needs: fewest within a tolerance on every calibration input."""
    from dpred_sim.cli.capture import check_files
    from dpred_sim.errors import InputError
    from dpred_sim.workload.capture import file_inputs
    from dpred_sim.workload.profile import write_profile
    from dpred_sim.workload.profile_cached import progress
    from dpred_sim.workload.profile_search import profile_model

    check_files("--held-out", held_out or [])
    subject, place = _subject(source, inputs or [], model, preprocess)
    place = out or place
    if place.exists() and not force:
        raise InputError("the profile exists", file=place, allowed="another --out, or --force")
    report, close = progress()
    found = profile_model(
        subject,
        held_out=file_inputs(held_out or []),
        tolerance=tolerance,
        joint_tolerance=joint,
        repair=repair,
        exact_shortcuts=exact_shortcuts,
        report=report,
    )
    close()
    try:
        write_profile(place, found)
    except OSError as error:
        raise InputError(f"the profile cannot be written: {error.strerror}", file=place) from None
    if as_json:
        import json

        print(json.dumps(found.to_dict(), indent=2))
    else:
        print(_text(found, place))


def _subject(
    source: Path, inputs: list[Path], model: Path | None, preprocess: Path | None
) -> tuple[Subject, Path]:
    """What is profiled, and where the profile goes."""
    from dpred_sim.cli.capture import check_files
    from dpred_sim.errors import InputError
    from dpred_sim.workload.capture import file_subject
    from dpred_sim.workload.images import preprocessing_beside, read_preprocessing
    from dpred_sim.workload.profile import SUFFIX
    from dpred_sim.workload.traces import PROFILE, TraceFolder

    if source.is_dir():
        for option, given in (("--input", inputs), ("--preprocess", preprocess)):
            if given:
                raise InputError("a trace folder has its own", file=source, field=option)
        return TraceFolder(source).subject(model), source / PROFILE
    if model is not None:
        raise InputError("--model goes with a trace folder", field="--model", found=str(model))
    check_files("--input", inputs)
    settings: Preprocessing
    settings = preprocessing_beside(source) if preprocess is None else read_preprocessing(preprocess)
    return file_subject(source, inputs, settings), source.with_suffix(SUFFIX)


def _text(found: Profile, place: Path) -> str:
    about: dict[str, Any] = dict(found.about)
    lines = []
    for kind, formats in (("activations", found.activations), ("weights", found.weights)):
        if formats:
            bits = [fmt.precision for fmt in formats.values()]
            lines.append(f"{kind:12} {sum(bits) / len(bits):.1f} bits in the mean of {len(bits)} tensors")
    lines.append(
        f"output       changed by {about['joint_error']:.1%} at most on {len(about['calibration'])} "
        f"calibration inputs, {about['added_bits']} bit(s) added to keep to {about['joint_tolerance']:.1%}"
        + (", which no number of bits does" if about["joint_error"] > about["joint_tolerance"] else "")
    )
    if about["held_out"]:
        lines.append(
            f"held out     changed by {about['held_out_error']:.1%} at most on "
            f"{len(about['held_out'])} input(s)"
        )
    else:
        lines.append(
            "held out     nothing: give --held-out FILE to see the change on inputs not calibrated on"
        )
    return "\n".join([*lines, f"written to   {place}"])
