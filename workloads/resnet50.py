"""ResNet-50 v1: 53 convolutions with residual adds, 1 fully connected layer.

Values: synthetic, at the published precision.

Shapes: He et al., arXiv 1512.03385, in the original Caffe form: where a stage halves the resolution, the
stride sits in the first 1 x 1 convolution of its first block and in the projection (later variants move
it to the 3 x 3). Layer names are Caffe's. Batch norm and the residual add are post-processing; max
pooling is fused behind conv1, and global average pooling behind the last convolution, after its add.
Precision: 9 bits for the activations of all layers, published as the uniform precision at about 1 % loss
(minhhn2910/mupod). Assumptions: weights take 11 bits; the input image is not negative (pixels without
mean subtraction); the projections, which no ReLU follows, are drawn from the signed distribution
(Laplace).
"""

import dpred_sim as dp
from dpred_sim.workload.tables import SyntheticNetwork

STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))
"""(filters of the 3 x 3 convolution, blocks) of each stage."""
PRECISION = 9
WEIGHT_PRECISION = 11


def workload(*, bits: int, seed: int) -> dp.Workload:
    """ResNet-50 with drawn values, `bits` wide at most."""
    source = f"synthetic values (seed {seed}) at the published precision"
    return table(bits, seed).workload("resnet50", source)


def table(bits: int, seed: int, sparsity: float = 0.0) -> SyntheticNetwork:
    """The layers, a share `sparsity` of their weights pruned."""
    net = SyntheticNetwork(
        (224, 224, 3),
        bits=bits,
        seed=seed,
        weight_precision=WEIGHT_PRECISION,
        sparsity=sparsity,
        fitted=False,
    )
    # Caffe keeps pooling windows that hang over the bottom and right edge: one row and column of padding.
    max_pool = dp.Pool("max", size=(3, 3), stride=(2, 2), padding=(0, 0, 1, 1))
    average = dp.Pool("average", size=(7, 7), stride=(7, 7))
    block = net.conv2d("conv1", 64, 7, precision=PRECISION, stride=2, padding=3, pool=max_pool)
    for stage, (filters, depth) in enumerate(STAGES, start=2):
        for index in range(depth):
            name = f"res{stage}{'abcdef'[index]}"
            stride = 2 if index == 0 and stage > 2 else 1
            last = stage == 5 and index == depth - 1
            block = residual_block(net, name, block, filters, stride, index == 0, average if last else None)
    net.linear("fc1000", 1000, precision=PRECISION, relu=False)
    return net


def residual_block(
    net: SyntheticNetwork,
    name: str,
    reads: str,
    filters: int,
    stride: int,
    project: bool,
    pool: dp.Pool | None,
) -> str:
    """One bottleneck block that reads the tensor `reads`; returns the name of its last layer."""
    shortcut = reads
    if project:
        shortcut = net.conv2d(
            f"{name}_branch1", 4 * filters, 1, precision=PRECISION, stride=stride, reads=reads, relu=False
        )
    net.conv2d(f"{name}_branch2a", filters, 1, precision=PRECISION, stride=stride, reads=reads)
    net.conv2d(f"{name}_branch2b", filters, 3, precision=PRECISION, padding=1)
    return net.conv2d(f"{name}_branch2c", 4 * filters, 1, precision=PRECISION, shortcut=shortcut, pool=pool)


if __name__ == "__main__":
    dp.run_script(__file__)
