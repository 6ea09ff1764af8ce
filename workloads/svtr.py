"""SVTR text recognition (PP-OCRv4): 38 convolutions and 13 matrix products, 2 blocks of attention.

Values: real, trained weights and the activations of a line of printed text.

The recogniser of PP-OCRv4 (package rapidocr-onnxruntime, Apache-2.0), on lines cut out of a photo of a page.
"""

from collections.abc import Sequence
from pathlib import Path

import dpred_sim as dp
from dpred_sim.workload.trained.script import trained_workload


def workload(*, bits: int, seed: int, inputs: Sequence[Path] = (), quantise: str = "profiled") -> dp.Workload:
    """The network on the first of `inputs`, else on its own. The seed draws nothing here."""
    return trained_workload("svtr", bits=bits, quantise=quantise, inputs=inputs)


if __name__ == "__main__":
    dp.run_script(__file__)
