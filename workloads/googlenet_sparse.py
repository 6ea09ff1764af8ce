"""GoogLeNet with pruned weights: about a third of them is left.

Values: synthetic, at the published precisions and the published share of zero weights.

Layers and precisions are those of googlenet.py. 66 % of the weights are zero, after energy-aware pruning,
which leaves 2.37 of 6.99 million (Yang et al., CVPR 2017, arXiv 1611.05128). Assumptions: the same share
in every layer, and the distribution of the largest weights of a dense layer for those that are left.
"""

from googlenet import table

import dpred_sim as dp

LEFT = 2.37 / 6.99


def workload(*, bits: int, seed: int) -> dp.Workload:
    """The pruned GoogLeNet with drawn values, `bits` wide at most."""
    net = table(bits, seed, round(1 - LEFT, 3))
    source = f"synthetic values (seed {seed}) at the published precisions and sparsity"
    return net.workload("googlenet_sparse", source)


if __name__ == "__main__":
    dp.run_script(__file__)
