"""MobileNet v1: 13 pairs of a depthwise and a 1 x 1 convolution, 1 fully connected layer.

Values: synthetic, at the published precision.

Shapes: Howard et al., arXiv 1704.04861, width 1.0, 224 x 224 x 3 input. Global average pooling is fused
behind the last convolution. Precision: 10 bits for the activations of all layers, published as the uniform
precision at about 1 % loss (minhhn2910/mupod). Assumptions: weights take 11 bits; the input image is not
negative; padding is the same on all sides.
"""

import dpred_sim as dp
from dpred_sim.workload.tables import SyntheticNetwork

PRECISION = 10
WEIGHT_PRECISION = 11
PAIRS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *(((512, 1),) * 5), (1024, 2), (1024, 1))
"""(filters of the 1 x 1 convolution, stride of the depthwise one) of each pair."""


def workload(*, bits: int, seed: int) -> dp.Workload:
    """MobileNet v1 with drawn values, `bits` wide at most."""
    net = SyntheticNetwork((224, 224, 3), bits=bits, seed=seed, weight_precision=WEIGHT_PRECISION)
    channels = 32
    net.conv2d("conv1", channels, 3, precision=PRECISION, stride=2, padding=1)
    average = dp.Pool("average", size=(7, 7), stride=(7, 7))
    for index, (filters, stride) in enumerate(PAIRS, start=2):
        pool = average if index == len(PAIRS) + 1 else None
        net.conv2d(
            f"conv{index}_dw", channels, 3, precision=PRECISION, stride=stride, padding=1, groups=channels
        )
        net.conv2d(f"conv{index}_pw", filters, 1, precision=PRECISION, pool=pool)
        channels = filters
    net.linear("fc", 1000, precision=PRECISION, relu=False)
    return net.workload("mobilenet_v1", f"synthetic values (seed {seed}) at the published precision")


if __name__ == "__main__":
    dp.run_script(__file__)
