"""A wake-word network (okay_nabu): streaming convolutions, int8 throughout.

Values: real, trained weights and the activations of a recording.

Package pymicro-wakeword, Apache-2.0, a TensorFlow Lite model with int8 weights (one scale a filter) and int8
activations. Sound is committed as the features of its front end.
"""

from collections.abc import Sequence
from pathlib import Path

import dpred_sim as dp
from dpred_sim.workload.trained.script import trained_workload


def workload(*, bits: int, seed: int, inputs: Sequence[Path] = (), quantise: str = "profiled") -> dp.Workload:
    """The network on the first of `inputs`, else on its own. The seed draws nothing here."""
    return trained_workload("wakeword", bits=bits, quantise=quantise, inputs=inputs)


if __name__ == "__main__":
    dp.run_script(__file__)
