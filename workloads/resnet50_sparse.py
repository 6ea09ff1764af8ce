"""ResNet-50 with pruned weights: 40 % of them are left.

Values: synthetic, at the published precision and an assumed share of zero weights.

Layers and precisions are those of resnet50.py. Assumption: 60 % of the weights of every layer are zero, in
the range that fine-grained pruning reaches without losing accuracy (Mao et al., arXiv 1705.08922); those
that are left have the distribution of the largest ones of a dense layer.
"""

from resnet50 import table

import dpred_sim as dp

SPARSITY = 0.6


def workload(*, bits: int, seed: int) -> dp.Workload:
    """The pruned ResNet-50 with drawn values, `bits` wide at most."""
    net = table(bits, seed, SPARSITY)
    source = f"synthetic values (seed {seed}) at the published precision and an assumed sparsity"
    return net.workload("resnet50_sparse", source)


if __name__ == "__main__":
    dp.run_script(__file__)
