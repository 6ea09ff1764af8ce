"""AlexNet with pruned weights: 11 % of them are left.

Values: synthetic, at the published precisions and the published shares of zero weights.

Layers and precisions are those of alexnet.py. Shares of weights that are left, 84-38-35-37-37 % in the
convolutions and 9-9-25 % in the fully connected layers: Han et al., NIPS 2015 (arXiv 1506.02626), table 4.
Assumption: the weights that are left have the distribution of the largest ones of a dense layer.
"""

from alexnet import table

import dpred_sim as dp

LEFT = (0.84, 0.38, 0.35, 0.37, 0.37, 0.09, 0.09, 0.25)


def workload(*, bits: int, seed: int) -> dp.Workload:
    """The pruned AlexNet with drawn values, `bits` wide at most."""
    net = table(bits, seed, [1 - left for left in LEFT])
    source = f"synthetic values (seed {seed}) at the published precisions and sparsities"
    return net.workload("alexnet_sparse", source)


if __name__ == "__main__":
    dp.run_script(__file__)
