"""Load a workload from whatever a reference names."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from dpred_sim.errors import InputError
from dpred_sim.locate import locate
from dpred_sim.values.tensor import WIDTHS
from dpred_sim.workload.importers.base import importer_for
from dpred_sim.workload.workload import Workload


def load_workload(
    reference: str | Path,
    bits: int = 16,
    quantise: str = "profiled",
    inputs: Iterable[str | Path] = (),
    seed: int = 0,
) -> Workload:
    """The workload that `reference` names: a script, an .onnx file, a trace folder, or the bare name of a
    ready-made one.

    `bits` is the width of a value in the uncompressed model, 8 or 16. `quantise` says how real numbers
    become integers and `inputs` are the files that the network is fed with: both matter to workloads
    with real values only. `seed` (not negative) draws synthetic values.
    Raises InputError for an argument out of range, a file that is missing, and whatever is wrong in it.
    """
    if isinstance(bits, bool) or bits not in WIDTHS:
        raise InputError("value width", field="bits", found=bits, allowed=WIDTHS)
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError("not a seed", field="seed", found=seed, allowed="an integer, 0 or more")
    path = locate(reference, "workloads", ".py", noun="workload", folders=True)
    return importer_for(path).load(path, bits=bits, quantise=quantise, inputs=_files(inputs), seed=seed)


def _files(inputs: Iterable[str | Path]) -> tuple[Path, ...]:
    if isinstance(inputs, str | Path):
        raise InputError("a list of files, not one file", field="inputs", found=str(inputs))
    paths = tuple(Path(path) for path in inputs)
    for path in paths:
        if not path.is_file():
            raise InputError("no such input file", file=path)
    return paths
