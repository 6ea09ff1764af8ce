"""VGG-19: 16 convolutions of 3 x 3, 3 fully connected layers.

Values: synthetic, at the published precisions.

Shapes: Simonyan and Zisserman, arXiv 1409.1556, configuration E (224 x 224 x 3 input). The 2 x 2 max
pooling that ends each stage is fused behind its last convolution.
Precisions of the activations that the convolutions read: the profile published for VGG_19 at about 99 %
relative accuracy (minhhn2910/mupod). Assumptions: the fully connected layers, which that profile does
not cover, take the widest of the convolutions (13 bits); weights take 11 bits; the input image is not
negative (pixels without mean subtraction) and drawn like all other activations.
"""

import dpred_sim as dp
from dpred_sim.workload.tables import SyntheticNetwork

STAGES = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
"""(filters, convolutions) of each stage."""
CONV_PRECISIONS = (9, 9, 9, 8, 12, 10, 10, 12, 13, 11, 12, 13, 13, 13, 13, 13)
FC_PRECISION = max(CONV_PRECISIONS)
WEIGHT_PRECISION = 11


def workload(*, bits: int, seed: int) -> dp.Workload:
    """VGG-19 with drawn values, `bits` wide at most."""
    net = SyntheticNetwork(
        (224, 224, 3), bits=bits, seed=seed, weight_precision=WEIGHT_PRECISION, fitted=False
    )
    pool = dp.Pool("max", size=(2, 2), stride=(2, 2))
    precisions = iter(CONV_PRECISIONS)
    for stage, (filters, depth) in enumerate(STAGES, start=1):
        for conv in range(1, depth + 1):
            net.conv2d(
                f"conv{stage}_{conv}",
                filters,
                3,
                precision=next(precisions),
                padding=1,
                pool=pool if conv == depth else None,
            )
    net.linear("fc6", 4096, precision=FC_PRECISION)
    net.linear("fc7", 4096, precision=FC_PRECISION)
    net.linear("fc8", 1000, precision=FC_PRECISION, relu=False)
    return net.workload("vgg19", f"synthetic values (seed {seed}) at the published precisions")


if __name__ == "__main__":
    dp.run_script(__file__)
