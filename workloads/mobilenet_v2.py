"""MobileNet-V2 (nsfwjs): 52 convolutions, 17 of them depthwise, ReLU6, 3 fully connected layers.

Values: real, trained weights and the activations of a photo.

An image classifier (npm package nsfwjs, MIT), a TensorFlow.js layers model whose weights are stored as uint8
with one scale a tensor; the numbers that they stand for are quantised again here.
"""

from collections.abc import Sequence
from pathlib import Path

import dpred_sim as dp
from dpred_sim.workload.trained.script import trained_workload


def workload(*, bits: int, seed: int, inputs: Sequence[Path] = (), quantise: str = "profiled") -> dp.Workload:
    """The network on the first of `inputs`, else on its own. The seed draws nothing here."""
    return trained_workload("mobilenet_v2", bits=bits, quantise=quantise, inputs=inputs)


if __name__ == "__main__":
    dp.run_script(__file__)
