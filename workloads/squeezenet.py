"""SqueezeNet v1.0: 26 convolutions, eight fire modules of three.

Values: synthetic, at the published precision.

Shapes: Iandola et al., arXiv 1602.07360, as its Caffe model (227 x 227 x 3 input). The two expanding
convolutions of a module store their channels side by side, so that concatenating them moves nothing;
where a pooling follows, it is fused behind both. Precision: 9 bits for the activations of all layers,
published as the uniform precision at about 1 % loss (minhhn2910/mupod). Assumptions: weights take 11
bits; the input image is not negative (pixels without mean subtraction).
"""

import dpred_sim as dp
from dpred_sim.workload.tables import SyntheticNetwork

PRECISION = 9
WEIGHT_PRECISION = 11
FIRES = {
    2: (16, 64),
    3: (16, 64),
    4: (32, 128),
    5: (32, 128),
    6: (48, 192),
    7: (48, 192),
    8: (64, 256),
    9: (64, 256),
}
"""Number of the module: filters that squeeze, and of each of the two that expand."""
POOLED = (4, 8)


def workload(*, bits: int, seed: int) -> dp.Workload:
    """SqueezeNet with drawn values, `bits` wide at most."""
    net = SyntheticNetwork((227, 227, 3), bits=bits, seed=seed, weight_precision=WEIGHT_PRECISION)
    pool = dp.Pool("max", size=(3, 3), stride=(2, 2))
    reads = net.conv2d("conv1", 96, 7, precision=PRECISION, stride=2, pool=pool)
    for number, (squeeze, expand) in FIRES.items():
        name, behind = f"fire{number}", pool if number in POOLED else None
        squeezed = net.conv2d(f"{name}_squeeze", squeeze, 1, precision=PRECISION, reads=reads)
        parts = [
            net.conv2d(
                f"{name}_expand{size}x{size}",
                expand,
                size,
                precision=PRECISION,
                padding=size // 2,
                pool=behind,
                reads=squeezed,
            )
            for size in (1, 3)
        ]
        reads = net.concat(name, parts)
    average = dp.Pool("average", size=(13, 13), stride=(13, 13))
    net.conv2d("conv10", 1000, 1, precision=PRECISION, pool=average, reads=reads)
    return net.workload("squeezenet", f"synthetic values (seed {seed}) at the published precision")


if __name__ == "__main__":
    dp.run_script(__file__)
