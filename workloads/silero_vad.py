"""Silero VAD: is there speech? 6 convolutions and an LSTM over 10 s of speech.

Values: real, trained weights and the activations of a recording.

Frames of 512 samples at 16 kHz, each with the 64 before it; the first convolution is a Fourier transform
(package silero-vad, MIT). `--input` takes a mono .wav file of 16 bits at 16 kHz.
"""

from collections.abc import Sequence
from pathlib import Path

import dpred_sim as dp
from dpred_sim.workload.trained.script import trained_workload


def workload(*, bits: int, seed: int, inputs: Sequence[Path] = (), quantise: str = "profiled") -> dp.Workload:
    """The network on the first of `inputs`, else on its own. The seed draws nothing here."""
    return trained_workload("silero_vad", bits=bits, quantise=quantise, inputs=inputs)


if __name__ == "__main__":
    dp.run_script(__file__)
