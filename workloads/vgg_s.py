"""VGG-S: 5 convolutions, 3 fully connected layers.

Values: synthetic, at assumed precisions.

Shapes: Chatfield et al., BMVC 2014 (arXiv 1405.3531), CNN-S, as its Caffe model (224 x 224 x 3 input).
Poolings and local response normalisation are post-processing. Assumptions: activations take 9 bits and
weights 11, as in the networks of the same kind whose precisions are published; the input image is not
negative (pixels without mean subtraction).
"""

import dpred_sim as dp
from dpred_sim.workload.tables import SyntheticNetwork

PRECISION = 9
WEIGHT_PRECISION = 11


def workload(*, bits: int, seed: int) -> dp.Workload:
    """VGG-S with drawn values, `bits` wide at most."""
    net = SyntheticNetwork((224, 224, 3), bits=bits, seed=seed, weight_precision=WEIGHT_PRECISION)
    # Caffe keeps windows that hang over the edge, where padding is given here.
    first = dp.Pool("max", size=(3, 3), stride=(3, 3), padding=(0, 0, 2, 2))
    second = dp.Pool("max", size=(2, 2), stride=(2, 2), padding=(0, 0, 1, 1))
    third = dp.Pool("max", size=(3, 3), stride=(3, 3))
    net.conv2d("conv1", 96, 7, precision=PRECISION, stride=2, pool=first)
    net.conv2d("conv2", 256, 5, precision=PRECISION, padding=1, pool=second)
    net.conv2d("conv3", 512, 3, precision=PRECISION, padding=1)
    net.conv2d("conv4", 512, 3, precision=PRECISION, padding=1)
    net.conv2d("conv5", 512, 3, precision=PRECISION, padding=1, pool=third)
    net.linear("fc6", 4096, precision=PRECISION)
    net.linear("fc7", 4096, precision=PRECISION)
    net.linear("fc8", 1000, precision=PRECISION, relu=False)
    return net.workload("vgg_s", f"synthetic values (seed {seed}) at assumed precisions")


if __name__ == "__main__":
    dp.run_script(__file__)
