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

    The values are those of the first input; ranges of tensors are over all of them. An input is a
    photo or an array (.npy, or .npz with one array) of the shape that the model reads, batch 1. How a
    photo becomes an array is told by `NAME.preprocessing.json` beside the model `NAME.onnx`
    (`dpred_sim.workload.images.Preprocessing`; RGB from 0 to 1 without it), the precision of each
    tensor by `NAME.profile.json` (`dpred_sim.workload.profile`; full range without it).

    Batch norm and constants are folded into the weights. Bias, activation, residual add and pooling
    are post-processing of the layer before where nobody else reads what lies between.
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
        from dpred_sim.workload.profile import beside, read_profile
        from dpred_sim.workload.quantised import Values, check_rule, profile_about, real_workload

        check_rule(quantise)
        if not inputs:
            raise InputError(
                "an ONNX model needs an input for real values: give --input FILE (a photo, .npy or .npz)",
                file=path,
            )
        subject = file_subject(path, inputs, preprocessing_beside(path))
        place = beside(path) if quantise == "profiled" else None
        profile = None if place is None else read_profile(place)
        about: dict[str, Any] = {
            "model": path.name,
            "model_sha256": subject.model_sha256,
            "inputs": [{"name": item.name, "sha256": item.sha256} for item in subject.inputs],
            "preprocessing": subject.preprocessing.to_dict(),
            "quantise": quantise,
        }
        how = f"{bits} bits, {quantise.replace('_', ' ')}"
        if profile is not None and place is not None:
            if profile.model_sha256 != subject.model_sha256:
                raise InputError(
                    "the profile belongs to another model",
                    file=place,
                    field="model_sha256",
                    found=profile.model_sha256,
                    allowed=subject.model_sha256,
                )
            about["profile"] = profile_about(place, profile)
            how = (
                f"{bits} bits, ranges of {place.name}"
                if bits == 8
                else f"{bits} bits, precisions of {place.name}"
            )
        elif quantise == "profiled":
            about["quantise"] = "full_range"
            how = f"{bits} bits, full range of each tensor (no {path.with_suffix('.profile.json').name})"
        ranges = "" if len(inputs) == 1 else f" (ranges over {len(inputs)} inputs)"
        source = f"{path.name} on {subject.inputs[0].name}{ranges}; {how}"
        return real_workload(Values(subject, bits, quantise, profile, source, about))
