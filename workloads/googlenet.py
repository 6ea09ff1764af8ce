"""GoogLeNet (Inception v1): 57 convolutions in nine modules of four branches, 1 fully connected layer.

Values: synthetic, at the published precisions.

Shapes: Szegedy et al., CVPR 2015, as Caffe's bvlc_googlenet without the two training classifiers. The
branches of a module store their channels side by side, so that concatenating them moves nothing; where a
pooling follows, it is fused behind each branch. The pooling inside a module is a memory layer.
Precisions of the activations, 10-8 bits for the two convolutions at the front (the first counts for one)
and 9-8-8-9-10-8-9-10-8 for the modules: published for about 99 % relative accuracy (minhhn2910/mupod).
Assumptions: the fully connected layer takes the widest of them (10 bits); weights take 11 bits; the
input image is not negative (pixels without mean subtraction).
"""

import dpred_sim as dp
from dpred_sim.workload.tables import SyntheticNetwork

MODULES = {
    "3a": (64, (96, 128), (16, 32), 32, 9),
    "3b": (128, (128, 192), (32, 96), 64, 8),
    "4a": (192, (96, 208), (16, 48), 64, 8),
    "4b": (160, (112, 224), (24, 64), 64, 9),
    "4c": (128, (128, 256), (24, 64), 64, 10),
    "4d": (112, (144, 288), (32, 64), 64, 8),
    "4e": (256, (160, 320), (32, 128), 128, 9),
    "5a": (256, (160, 320), (32, 128), 128, 10),
    "5b": (384, (192, 384), (48, 128), 128, 8),
}
"""1 x 1 filters, 3 x 3 (reduced, filters), 5 x 5 (reduced, filters), filters after pooling, precision."""
CONV_PRECISIONS = (10, 8)
FC_PRECISION = 10
WEIGHT_PRECISION = 11
# Caffe keeps windows that hang over the bottom and right edge: one row and column of padding.
HALVE = dp.Pool("max", size=(3, 3), stride=(2, 2), padding=(0, 0, 1, 1))
AVERAGE = dp.Pool("average", size=(7, 7), stride=(7, 7))


def workload(*, bits: int, seed: int) -> dp.Workload:
    """GoogLeNet with drawn values, `bits` wide at most."""
    source = f"synthetic values (seed {seed}) at the published precisions"
    return table(bits, seed).workload("googlenet", source)


def table(bits: int, seed: int, sparsity: float = 0.0) -> SyntheticNetwork:
    """The layers, a share `sparsity` of their weights pruned."""
    net = SyntheticNetwork(
        (224, 224, 3), bits=bits, seed=seed, weight_precision=WEIGHT_PRECISION, sparsity=sparsity
    )
    first, second = CONV_PRECISIONS
    net.conv2d("conv1", 64, 7, precision=first, stride=2, padding=3, pool=HALVE)
    net.conv2d("conv2_reduce", 64, 1, precision=second)
    reads = net.conv2d("conv2", 192, 3, precision=second, padding=1, pool=HALVE)
    for name in MODULES:
        reads = module(net, name, reads)
    net.linear("fc", 1000, precision=FC_PRECISION, relu=False)
    return net


def module(net: SyntheticNetwork, name: str, reads: str) -> str:
    """One inception module on the tensor `reads`; returns the name of the concatenation."""
    single, three, five, pooled, precision = MODULES[name]
    pool = {"3b": HALVE, "4e": HALVE, "5b": AVERAGE}.get(name)
    parts = [net.conv2d(f"{name}_1x1", single, 1, precision=precision, reads=reads, pool=pool)]
    for size, (reduced, filters) in ((3, three), (5, five)):
        net.conv2d(f"{name}_{size}x{size}_reduce", reduced, 1, precision=precision, reads=reads)
        parts.append(
            net.conv2d(
                f"{name}_{size}x{size}", filters, size, precision=precision, padding=size // 2, pool=pool
            )
        )
    window = dp.Pool("max", size=(3, 3), stride=(1, 1), padding=(1, 1, 1, 1))
    net.pooling(f"{name}_pool", window, precision=precision, reads=reads)
    parts.append(net.conv2d(f"{name}_pool_proj", pooled, 1, precision=precision, pool=pool))
    return net.concat(name, parts)


if __name__ == "__main__":
    dp.run_script(__file__)
