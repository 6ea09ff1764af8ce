"""Trace folders as workloads: the values of `dpred-sim capture`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dpred_sim.errors import InputError
from dpred_sim.workload.importers.base import Importer, register
from dpred_sim.workload.workload import Workload


@register("trace")
class TraceImporter(Importer):
    """Makes integers of the values in a trace folder.

    The values are those of the first input; ranges of tensors are over all of them. The precision of
    each tensor is told by `profile.json` in the folder (`dpred-sim profile`; full range without it).
    """

    suffixes = ()
    marker = "layers.json"

    def load(self, path: Path, *, bits: int, quantise: str, inputs: Sequence[Path], seed: int) -> Workload:
        """The workload of a trace folder; the seed draws nothing here.

        Raises InputError for inputs (a trace has its own), and for whatever is wrong in the folder.
        """
        # Not at the top: the importers are scanned whenever any workload is loaded.
        from dpred_sim.workload.profile import format_about
        from dpred_sim.workload.quantised import Values, check_rule, real_workload
        from dpred_sim.workload.traces import PROFILE, TraceFolder

        check_rule(quantise)
        if inputs:
            raise InputError(
                "a trace folder has its own inputs", file=path, field="inputs", found=str(inputs[0])
            )
        trace = TraceFolder(path)
        digest = trace.description["model"]["sha256"]
        about: dict[str, Any] = {
            "model_sha256": digest,
            "inputs": [{"name": i["name"], "sha256": i["sha256"]} for i in trace.description["inputs"]],
            "preprocessing": trace.description["preprocessing"],
        }
        place = path / PROFILE
        profile, how = format_about(
            place if place.is_file() else None, digest, bits, quantise, PROFILE, about
        )
        ranges = "" if len(trace.inputs) == 1 else f" (ranges over {len(trace.inputs)} inputs)"
        source = f"{trace.name} on {trace.inputs[0]}{ranges}; {how}"
        return real_workload(Values(trace, bits, quantise, profile, source, about))
