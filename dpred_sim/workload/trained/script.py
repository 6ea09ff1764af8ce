"""What the workload scripts of trained networks share: a model of the manifest, real inputs, a profile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dpred_sim.errors import InputError
from dpred_sim.locate import ready_made
from dpred_sim.workload.capture import Subject
from dpred_sim.workload.profile import Profile, read_profile
from dpred_sim.workload.profile_repair import REPAIRS
from dpred_sim.workload.quantised import Values, check_rule, profile_about, real_workload
from dpred_sim.workload.trained.inputs import manifest_input, own_input, preprocessing_of
from dpred_sim.workload.trained.manifest import shipped
from dpred_sim.workload.trained.model import model_key, onnx_model
from dpred_sim.workload.workload import Workload

TOLERANCE = 0.01
"""Change of the output by one tensor that a profile allows, if nothing else is said."""

JOINT = 0.05
"""The same by all together."""


def profile_path(name: str, tolerance: float = TOLERANCE, repair: str = REPAIRS[0]) -> Path:
    """Where the committed profile of a model lies, or one made with another tolerance or repair."""
    parts = [
        f"-{tolerance:g}" if tolerance != TOLERANCE else "",
        f"-{repair}" if repair != REPAIRS[0] else "",
    ]
    file = f"profile{''.join(parts)}.json"
    return ready_made("workloads") / "data" / name / file


def comparison_path(name: str) -> Path:
    """Where the profile lies that compares a model with an independent measurement of it."""
    return profile_path(name).with_name("profile-comparison.json")


def subject(name: str, inputs: Sequence[str | Path] | None = None) -> Subject:
    """A model of the manifest with inputs: names of the manifest or paths; None means its own.

    Nothing is fetched before it is needed. Raises InputError for an unknown name.
    """
    manifest = shipped()
    entry = manifest.model(name)
    files = tuple(
        own_input(manifest, name, item) if isinstance(item, Path) else manifest_input(manifest, name, item)
        for item in (entry.inputs if inputs is None else inputs)
    )
    return Subject(
        name,
        model_key(entry),
        lambda: onnx_model(manifest, name),
        files,
        preprocessing_of(entry.preprocessing),
        entry.renames,
    )


def trained_values(
    name: str,
    *,
    bits: int,
    quantise: str = "profiled",
    inputs: Sequence[str | Path] = (),
    profile: Path | None = None,
) -> Values:
    """A trained network in a format, with its committed profile, or that in the file `profile`.

    It runs on its own inputs, or on `inputs`: names of the manifest, or a user's files. Raises
    InputError for an unknown model or rule, and a profile that is missing or belongs to another model.
    """
    check_rule(quantise)
    entry = shipped().model(name)
    found = subject(name, inputs or None)
    path = profile or profile_path(name)
    rule, comma, options = quantise.partition(",")
    used = _profile(path, found) if rule.strip() == "profiled" else None
    about: dict[str, Any] = {
        "model": f"{entry.network}; weights: {entry.weights_licence}",
        "model_sha256": found.model_sha256,
        "inputs": [{"name": item.name, "sha256": item.sha256} for item in found.inputs],
        "preprocessing": entry.preprocessing,
        "quantise": quantise,
    }
    how = f"{bits} bits, {quantise.replace('_', ' ')}"
    if used is not None:
        about["profile"] = profile_about(path, used)
    if used is not None and profile is not None:
        how = f"{bits} bits, {'precisions' if bits == 16 else 'ranges'} of {path.name}{comma}{options}"
    elif used is not None:
        changed, count = used.about["joint_error"], len(used.about["calibration"])
        how += f" (output changed by {changed:.1%} at most on {count} inputs)" if bits == 16 else " ranges"
    source = f"trained {entry.network} on {found.inputs[0].name}; {how}"
    return Values(found, bits, quantise, used, source, about)


def trained_workload(
    name: str,
    *,
    bits: int,
    quantise: str = "profiled",
    inputs: Sequence[str | Path] = (),
    profile: Path | None = None,
) -> Workload:
    """The workload of a trained network; see `trained_values`.

    Raises Unavailable when its files are neither in the cache nor to be had; MissingExtra.
    """
    values = trained_values(name, bits=bits, quantise=quantise, inputs=inputs, profile=profile)
    return real_workload(values)


def make_profile(
    name: str,
    report: Callable[[str], None] = print,
    tolerance: float = TOLERANCE,
    repair: str = REPAIRS[0],
) -> Profile:
    """Search the profile of a model on its calibration inputs: seconds to many minutes.

    `tolerance` is the change of the output by one tensor; what all together may change grows with it.
    """
    from dpred_sim.workload.profile_search import profile_model

    manifest = shipped()
    entry = manifest.model(name)
    return profile_model(
        subject(name, entry.calibration),
        held_out=[manifest_input(manifest, name, item) for item in entry.held_out],
        tolerance=tolerance,
        joint_tolerance=JOINT * tolerance / TOLERANCE,
        repair=repair,
        report=report,
    )


def make_comparison(name: str, report: Callable[[str], None] = print) -> Profile:
    """Search the profile that compares a model with an independent measurement of it, by the rule of that.

    1 % by one tensor and 5 % by all together for every model, the manifest's `comparison` inputs, and exact
    shortcuts. Raises InputError for a model without such inputs.
    """
    from dpred_sim.workload.profile_search import profile_model

    manifest = shipped()
    entry = manifest.model(name).comparison
    if entry is None:
        allowed = [one for one in manifest.names if manifest.models[one].comparison]
        raise InputError("nothing to compare the model with", found=name, allowed=allowed)
    return profile_model(
        subject(name, entry.calibration),
        held_out=[manifest_input(manifest, name, item) for item in entry.held_out],
        tolerance=TOLERANCE,
        joint_tolerance=JOINT,
        exact_shortcuts=True,
        least_inputs=1,
        report=report,
    )


def _profile(path: Path, found: Subject) -> Profile:
    profile = read_profile(path)
    if profile.model_sha256 != found.model_sha256:
        raise InputError(
            "the profile belongs to another model",
            file=path,
            field="model_sha256",
            found=profile.model_sha256,
            allowed=found.model_sha256,
        )
    return profile
