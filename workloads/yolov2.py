"""YOLOv2 for Pascal VOC: 23 convolutions and a passthrough of finer features.

Values: synthetic, at assumed precisions.

Shapes: Redmon and Farhadi, CVPR 2017, as Darknet's yolov2-voc (416 x 416 x 3 input, 20 classes). Poolings
are fused where nothing else reads the layer. The passthrough is a memory layer that turns 26 x 26 x 64
into 13 x 13 x 256; concatenating it moves nothing. Assumptions: activations take 9 bits, weights 11; what
leaves a leaky ReLU is drawn from the signed distribution; the input image is not negative.
"""

import dpred_sim as dp
from dpred_sim.workload.tables import SyntheticNetwork

PRECISION = 9
WEIGHT_PRECISION = 11
SIDE = 416
OUTPUTS = 125
"""5 anchors x (20 classes + 5)."""
BACKBONE = (
    *((32, 3, True), (64, 3, True), (128, 3, False), (64, 1, False), (128, 3, True)),
    *((256, 3, False), (128, 1, False), (256, 3, True)),
    *((512, 3, False), (256, 1, False), (512, 3, False), (256, 1, False), (512, 3, False)),
)
"""(filters, kernel, pooled) of the layers before the passthrough."""
TOP = ((1024, 3), (512, 1), (1024, 3), (512, 1), (1024, 3), (1024, 3), (1024, 3))


def workload(*, bits: int, seed: int) -> dp.Workload:
    """YOLOv2 with drawn values, `bits` wide at most."""
    return table(bits, seed).workload("yolov2", f"synthetic values (seed {seed}) at assumed precisions")


def table(bits: int, seed: int, side: int = SIDE, outputs: int = OUTPUTS) -> SyntheticNetwork:
    """The layers for an image of `side` x `side`, a multiple of 32."""
    net = SyntheticNetwork((side, side, 3), bits=bits, seed=seed, weight_precision=WEIGHT_PRECISION)
    halve = dp.Pool("max", size=(2, 2), stride=(2, 2))
    numbers = iter(range(1, 100))

    def conv(filters: int, kernel: int, pool: dp.Pool | None = None, reads: str | None = None) -> str:
        name = f"conv{next(numbers)}"
        return net.conv2d(
            name,
            filters,
            kernel,
            precision=PRECISION,
            padding=kernel // 2,
            pool=pool,
            reads=reads,
            relu=False,
        )

    fine = ""
    for filters, kernel, pooled in BACKBONE:
        fine = conv(filters, kernel, halve if pooled else None)
    coarse = net.pooling("pool13", halve, precision=PRECISION)
    for filters, kernel in TOP:
        coarse = conv(filters, kernel)
    conv(64, 1, reads=fine)
    cells = side // 32
    net.rearranged(
        "reorg",
        (cells, cells, 256),
        lambda values: values.reshape(cells, 2, cells, 2, 64).transpose(0, 2, 1, 3, 4),
        precision=PRECISION,
    )
    conv(1024, 3, reads=net.concat("passthrough", ["reorg", coarse]))
    conv(outputs, 1)
    return net


if __name__ == "__main__":
    dp.run_script(__file__)
