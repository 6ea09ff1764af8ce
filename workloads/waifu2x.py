"""waifu2x VGG7: a denoiser of 7 convolutions with LeakyReLU, on 128 x 128 pixels.

Values: real, trained weights and the activations of a photo.

The first noise level for drawings in colour (package waifu2x, MIT), on a piece of a photo. Nothing is padded:
each convolution takes a pixel off every edge.
"""

from collections.abc import Sequence
from pathlib import Path

import dpred_sim as dp
from dpred_sim.workload.trained.script import trained_workload


def workload(*, bits: int, seed: int, inputs: Sequence[Path] = (), quantise: str = "profiled") -> dp.Workload:
    """The network on the first of `inputs`, else on its own. The seed draws nothing here."""
    return trained_workload("waifu2x", bits=bits, quantise=quantise, inputs=inputs)


if __name__ == "__main__":
    dp.run_script(__file__)
