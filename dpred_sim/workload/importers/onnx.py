"""ONNX models with a photo or an array as input: real weights, real activations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dpred_sim.errors import InputError
from dpred_sim.workload.importers.base import Importer, register
from dpred_sim.workload.workload import Workload


@register("onnx")
class OnnxImporter(Importer):
    """Runs a model on its inputs and takes the values of every stored tensor.

    The values are those of the first input; ranges of tensors are over all of them. An input is a photo,
    a sound, token ids or arrays (`dpred_sim.workload.inputs`). How photo and sound become arrays is told
    by `NAME.preprocessing.json` beside the model `NAME.onnx` (`dpred_sim.workload.images.Preprocessing`;
    RGB from 0 to 1 without it), the precision of each tensor by `NAME.profile.json`
    (`dpred_sim.workload.profile`). Without it 16-bit values are profiled on their own inputs where these
    are three or more, and else take the full range.

    docs/importer.md says what becomes of each operator.
    """

    suffixes = (".onnx",)

    def load(self, path: Path, *, bits: int, quantise: str, inputs: Sequence[Path], seed: int) -> Workload:
        """The workload of a model; the seed draws nothing here.

        Raises InputError without an input, and for whatever is wrong with model, inputs, profile or
        preprocessing; MissingExtra without the extra [onnx].
        """
        # Not at the top: the importers are scanned whenever any workload is loaded.
        from dpred_sim.workload.capture import file_subject
        from dpred_sim.workload.images import preprocessing_beside
        from dpred_sim.workload.profile import MOST_BITS, SUFFIX, beside, format_about
        from dpred_sim.workload.profile_cached import profile_of
        from dpred_sim.workload.quantised import RULES, Values, check_rule, real_workload
        from dpred_sim.workload.rules import parse_rule

        check_rule(quantise)
        if not inputs:
            raise InputError(
                "an ONNX model needs an input for real values: give --input FILE (a photo, .wav, .json, .npy "
                "or .npz)",
                file=path,
            )
        subject = file_subject(path, inputs, preprocessing_beside(path))
        about: dict[str, Any] = {
            "model": path.name,
            "model_sha256": subject.model_sha256,
            "inputs": [{"name": item.name, "sha256": item.sha256} for item in subject.inputs],
            "preprocessing": subject.preprocessing.to_dict(),
        }
        missing = path.with_suffix(SUFFIX).name
        place, called = beside(path), ""
        if place is None and bits == MOST_BITS and parse_rule(quantise, RULES, bits).name == "profiled":
            place, called = profile_of(subject), "a profile made on them"
        profile, how = format_about(place, subject.model_sha256, bits, quantise, missing, about, called)
        ranges = "" if len(inputs) == 1 else f" (ranges over {len(inputs)} inputs)"
        source = f"{path.name} on {subject.inputs[0].name}{ranges}; {how}"
        return real_workload(Values(subject, bits, quantise, profile, source, about))
