"""Seq2Seq for translation: four LSTMs of 1000 units read, four more write, 80,000 words to choose from.

Values: synthetic, at assumed precisions.

Shapes: Sutskever et al., NIPS 2014 (arXiv 1409.3215): 1000-dimensional embeddings (looked up, which
computes nothing), a softmax over 80,000 words in four parts, as the authors split it. The state that the
reader hands to the writer is taken to be zero: its values do not change what moves. Assumptions: 25 words
in each sentence; activations take 9 bits, weights 11.
"""

import dpred_sim as dp
from dpred_sim.workload.tables import SyntheticNetwork

PRECISION = 9
WEIGHT_PRECISION = 11
WORDS = 25
UNITS = 1000
LAYERS = 4
VOCABULARY = 80_000
PARTS = 4


def workload(*, bits: int, seed: int) -> dp.Workload:
    """Seq2Seq with drawn values, `bits` wide at most."""
    net = SyntheticNetwork(
        (WORDS, UNITS), bits=bits, seed=seed, weight_precision=WEIGHT_PRECISION, signed=True
    )
    for layer in range(1, LAYERS + 1):
        net.lstm(f"encoder{layer}", UNITS, precision=PRECISION)
    reads = net.given("target", (WORDS, UNITS), relu=False)
    for layer in range(1, LAYERS + 1):
        reads = net.lstm(f"decoder{layer}", UNITS, precision=PRECISION, reads=reads)
    for part in range(1, PARTS + 1):
        net.linear(f"softmax{part}", VOCABULARY // PARTS, precision=PRECISION, reads=reads, relu=False)
    return net.workload("seq2seq", f"synthetic values (seed {seed}) at assumed precisions")


if __name__ == "__main__":
    dp.run_script(__file__)
