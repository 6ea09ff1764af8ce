"""DnCNN: a denoiser of 17 convolutions of 64 filters, and a residual add of the image.

Values: synthetic, at assumed precisions.

Shapes: Zhang et al., TIP 2017 (arXiv 1608.03981), DnCNN-S. Batch norm is folded.
Assumptions: a grey image of 256 x 256; activations take 9 bits, weights 11; values are drawn
without the correlation of neighbouring positions that images have, so that what exploits it (differences)
must not be judged by them.
"""

import dpred_sim as dp
from dpred_sim.workload.tables import SyntheticNetwork

PRECISION = 9
WEIGHT_PRECISION = 11
SIDE = 256
LAYERS = 17


def workload(*, bits: int, seed: int) -> dp.Workload:
    """DnCNN with drawn values, `bits` wide at most."""
    net = SyntheticNetwork((SIDE, SIDE, 1), bits=bits, seed=seed, weight_precision=WEIGHT_PRECISION)
    net.conv2d("conv1", 64, 3, precision=PRECISION, padding=1)
    for index in range(2, LAYERS):
        net.conv2d(f"conv{index}", 64, 3, precision=PRECISION, padding=1)
    net.conv2d(f"conv{LAYERS}", 1, 3, precision=PRECISION, padding=1, relu=False, shortcut="input")
    return net.workload("dncnn", f"synthetic values (seed {seed}) at assumed precisions")


if __name__ == "__main__":
    dp.run_script(__file__)
