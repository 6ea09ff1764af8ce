"""EfficientNet-Lite0: 49 convolutions, 16 of them depthwise, ReLU6, 1 fully connected layer.

Values: real, trained weights and the activations of a photo.

Google's ImageNet classifier (arXiv 1905.11946), in torch's legacy format. The package has NO LICENCE FIELD;
the weights were published upstream under Apache-2.0. The file is read without torch, and the graph is built
here (`dpred_sim/workload/trained/architectures.py`).
"""

from collections.abc import Sequence
from pathlib import Path

import dpred_sim as dp
from dpred_sim.workload.trained.script import trained_workload


def workload(*, bits: int, seed: int, inputs: Sequence[Path] = (), quantise: str = "profiled") -> dp.Workload:
    """The network on the first of `inputs`, else on its own. The seed draws nothing here."""
    return trained_workload("efficientnet_lite0", bits=bits, quantise=quantise, inputs=inputs)


if __name__ == "__main__":
    dp.run_script(__file__)
