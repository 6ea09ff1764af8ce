"""AlexNet as Caffe's bvlc_alexnet: 5 convolutions in two groups, 3 fully connected layers.

Values: synthetic, at the published precisions.

Shapes: Krizhevsky et al., NIPS 2012, in the one-tower order of Caffe's bvlc_alexnet (227 x 227 x 3 input,
overlapping 3 x 3 pooling of stride 2). Pooling and local response normalisation are post-processing.
Precisions of the activations that the convolutions read, 9-7-4-5-7 bits: the profile published for about
99 % relative accuracy (minhhn2910/mupod). Assumptions: the fully connected layers, which that profile
does not cover, take the widest of the convolutions (9 bits); weights take 11 bits; the input image is
not negative (pixels without mean subtraction) and drawn like all other activations.
"""

from collections.abc import Sequence

import dpred_sim as dp
from dpred_sim.workload.tables import SyntheticNetwork

CONV_PRECISIONS = (9, 7, 4, 5, 7)
FC_PRECISION = max(CONV_PRECISIONS)
WEIGHT_PRECISION = 11


def workload(*, bits: int, seed: int) -> dp.Workload:
    """AlexNet with drawn values, `bits` wide at most."""
    source = f"synthetic values (seed {seed}) at the published precisions"
    return table(bits, seed).workload("alexnet", source)


def table(
    bits: int, seed: int, sparsity: Sequence[float] = (0.0,) * 8, fitted: bool = False
) -> SyntheticNetwork:
    """The layers, the given shares of their weights pruned."""
    net = SyntheticNetwork(
        (227, 227, 3), bits=bits, seed=seed, weight_precision=WEIGHT_PRECISION, fitted=fitted
    )
    pool = dp.Pool("max", size=(3, 3), stride=(2, 2))
    p1, p2, p3, p4, p5 = CONV_PRECISIONS
    net.conv2d("conv1", 96, 11, precision=p1, sparsity=sparsity[0], stride=4, pool=pool)
    net.conv2d("conv2", 256, 5, precision=p2, sparsity=sparsity[1], padding=2, groups=2, pool=pool)
    net.conv2d("conv3", 384, 3, precision=p3, sparsity=sparsity[2], padding=1)
    net.conv2d("conv4", 384, 3, precision=p4, sparsity=sparsity[3], padding=1, groups=2)
    net.conv2d("conv5", 256, 3, precision=p5, sparsity=sparsity[4], padding=1, groups=2, pool=pool)
    net.linear("fc6", 4096, precision=FC_PRECISION, sparsity=sparsity[5])
    net.linear("fc7", 4096, precision=FC_PRECISION, sparsity=sparsity[6])
    net.linear("fc8", 1000, precision=FC_PRECISION, sparsity=sparsity[7], relu=False)
    return net


if __name__ == "__main__":
    dp.run_script(__file__)
