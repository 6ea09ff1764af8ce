"""SegNet: the 13 convolutions of VGG-16, and 13 more that undo its poolings.

Values: synthetic, at assumed precisions.

Shapes: Badrinarayanan et al., PAMI 2017, as its Caffe model for CamVid (360 x 480 x 3 input, 11 classes).
Poolings are fused. Unpooling is a memory layer: it writes each value to the place in its window that it
was the largest of, and zeros to the other three. Assumptions: activations take 9 bits, weights 11; the
place is the first of each window; pooling indices are not counted; the input image is not negative.
"""

import numpy as np

import dpred_sim as dp
from dpred_sim.workload.tables import SyntheticNetwork
from dpred_sim.workload.views import Values

PRECISION = 9
WEIGHT_PRECISION = 11
HEIGHT, WIDTH = 360, 480
CLASSES = 11
STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""(filters, convolutions) of each stage of the encoder."""


def workload(*, bits: int, seed: int) -> dp.Workload:
    """SegNet with drawn values, `bits` wide at most."""
    return table(bits, seed).workload("segnet", f"synthetic values (seed {seed}) at assumed precisions")


def table(bits: int, seed: int, height: int = HEIGHT, width: int = WIDTH) -> SyntheticNetwork:
    """The layers for an image of `height` x `width`."""
    net = SyntheticNetwork((height, width, 3), bits=bits, seed=seed, weight_precision=WEIGHT_PRECISION)
    planes = [(height, width)]
    for stage, (filters, depth) in enumerate(STAGES, start=1):
        rows, columns = planes[-1]
        # Caffe keeps windows that hang over the edge.
        pool = dp.Pool("max", size=(2, 2), stride=(2, 2), padding=(0, 0, rows % 2, columns % 2))
        for index in range(1, depth + 1):
            behind = pool if index == depth else None
            net.conv2d(f"conv{stage}_{index}", filters, 3, precision=PRECISION, padding=1, pool=behind)
        planes.append(((rows + 1) // 2, (columns + 1) // 2))
    for stage in range(len(STAGES), 0, -1):
        filters, depth = STAGES[stage - 1]
        plane = planes[stage - 1]
        net.rearranged(f"unpool{stage}", (*plane, filters), unpooling(plane), precision=PRECISION)
        for index in range(depth, 0, -1):
            if index == 1:
                filters = STAGES[stage - 2][0] if stage > 1 else CLASSES
            last = stage == index == 1
            net.conv2d(f"conv{stage}_{index}_D", filters, 3, precision=PRECISION, padding=1, relu=not last)
    return net


def unpooling(plane: tuple[int, int]):
    """What spreads an array over a plane that is about twice as high and wide."""

    def spread(values: Values) -> Values:
        found = np.zeros((*plane, values.shape[2]), values.dtype)
        found[::2, ::2] = values
        return found

    return spread


if __name__ == "__main__":
    dp.run_script(__file__)
