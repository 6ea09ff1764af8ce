"""Network in Network for ImageNet: 12 convolutions, 8 of them 1 x 1.

Values: synthetic, at the published precisions.

Shapes: Lin et al., ICLR 2014, as Caffe's nin_imagenet (224 x 224 x 3 input). Poolings are fused; the last
one averages the 6 x 6 plane. Precisions of the activations, 8-8-7-9-7-8-8-9-9-8-7-8 bits: published for
about 99 % relative accuracy (minhhn2910/mupod). Assumptions: weights take 11 bits; the input image is not
negative (pixels without mean subtraction).
"""

import dpred_sim as dp
from dpred_sim.workload.tables import SyntheticNetwork

PRECISIONS = (8, 8, 7, 9, 7, 8, 8, 9, 9, 8, 7, 8)
WEIGHT_PRECISION = 11
STAGES = ((96, 11, 4, 0), (256, 5, 1, 2), (384, 3, 1, 1), (1024, 3, 1, 1))
"""(filters, kernel, stride, padding) of the convolution of each stage; two 1 x 1 ones follow."""


def workload(*, bits: int, seed: int) -> dp.Workload:
    """Network in Network with drawn values, `bits` wide at most."""
    net = SyntheticNetwork((224, 224, 3), bits=bits, seed=seed, weight_precision=WEIGHT_PRECISION)
    # 54 x 54 becomes 27 x 27: Caffe keeps windows that hang over the edge.
    hanging = dp.Pool("max", size=(3, 3), stride=(2, 2), padding=(0, 0, 1, 1))
    pool = dp.Pool("max", size=(3, 3), stride=(2, 2))
    average = dp.Pool("average", size=(6, 6), stride=(6, 6))
    precisions = iter(PRECISIONS)
    for stage, (filters, kernel, stride, padding) in enumerate(STAGES, start=1):
        last = 1000 if stage == 4 else filters
        net.conv2d(
            f"conv{stage}", filters, kernel, precision=next(precisions), stride=stride, padding=padding
        )
        net.conv2d(f"cccp{2 * stage - 1}", filters, 1, precision=next(precisions))
        behind = (hanging, pool, pool, average)[stage - 1]
        net.conv2d(f"cccp{2 * stage}", last, 1, precision=next(precisions), pool=behind)
    return net.workload("nin", f"synthetic values (seed {seed}) at the published precisions")


if __name__ == "__main__":
    dp.run_script(__file__)
