"""Resemblyzer: a voice encoder of three LSTM layers and 1 fully connected layer, on 1.6 s of speech.

Values: real, trained weights and the activations of a recording.

Package Resemblyzer, Apache-2.0, in torch's legacy format, read without torch. 160 frames of 40 mel bands, the
recording made as loud as the network expects. `--input` takes a mono .wav file of 16 bits at 16 kHz.
"""

from collections.abc import Sequence
from pathlib import Path

import dpred_sim as dp
from dpred_sim.workload.trained.script import trained_workload


def workload(*, bits: int, seed: int, inputs: Sequence[Path] = (), quantise: str = "profiled") -> dp.Workload:
    """The network on the first of `inputs`, else on its own. The seed draws nothing here."""
    return trained_workload("resemblyzer", bits=bits, quantise=quantise, inputs=inputs)


if __name__ == "__main__":
    dp.run_script(__file__)
