"""ESRGAN-slim: super-resolution by 2, 12 convolutions in residual dense blocks, on 128 x 128 pixels.

Values: real, trained weights and the activations of a photo.

A generator of UpscalerJS (npm package @upscalerjs/esrgan-slim, MIT), on a piece of a photo.
"""

from collections.abc import Sequence
from pathlib import Path

import dpred_sim as dp
from dpred_sim.workload.trained.script import trained_workload


def workload(*, bits: int, seed: int, inputs: Sequence[Path] = (), quantise: str = "profiled") -> dp.Workload:
    """The network on the first of `inputs`, else on its own. The seed draws nothing here."""
    return trained_workload("esrgan_slim", bits=bits, quantise=quantise, inputs=inputs)


if __name__ == "__main__":
    dp.run_script(__file__)
