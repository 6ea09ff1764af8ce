"""Time to compute the cycles of whole networks on each design, on random values of a realistic skew.

    python benchmarks/designs.py [DESIGN ...]

*cold* starts from bare values, with nothing remembered: what a single run pays. *warm* keeps widths of
groups and rearranged tensors, which the codecs and other designs share. Both are the best of three, in
milliseconds of processor time, all threads together.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator

import numpy as np

from dpred_sim.designs.base import DESIGNS, Design, design
from dpred_sim.errors import InputError
from dpred_sim.values.tensor import Tensor
from dpred_sim.workload.layer import Layer

Maker = Callable[[tuple[int, ...], bool], Tensor]


def random_tensors(seed: int, bits: int) -> Maker:
    """Laplace values: 14 bits are used of 16, all of 8."""
    rng = np.random.default_rng(seed)
    pool = rng.laplace(0, 180 if bits == 16 else 8, 1 << 20)
    used = min(bits, 14)

    def make(shape: tuple[int, ...], signed: bool) -> Tensor:
        values = np.resize(pool, np.prod(shape)).reshape(shape)
        values = values if signed else np.maximum(values, 0)
        top = (1 << used - 1) - 1
        return Tensor(np.clip(values, -top, top).astype(np.int32), bits, signed, used)

    return make


def conv(
    make: Maker, size: int, c: int, k: int, kernel: int, stride: int, pad: int, groups: int = 1
) -> Layer:
    return Layer.conv2d(
        f"conv{size}x{c}x{k}",
        make((size, size, c), c == 3),
        make((k, kernel, kernel, c // groups), True),
        stride=stride,
        padding=pad,
        groups=groups,
    )


def linear(make: Maker, c: int, k: int) -> Layer:
    return Layer.linear(f"fc{c}x{k}", make((1, c), False), make((k, c), True))


def alexnet_convolutions(make: Maker) -> Iterator[Layer]:
    yield conv(make, 227, 3, 96, 11, 4, 0)
    yield conv(make, 27, 96, 256, 5, 1, 2, 2)
    yield conv(make, 13, 256, 384, 3, 1, 1)
    yield conv(make, 13, 384, 384, 3, 1, 1, 2)
    yield conv(make, 13, 384, 256, 3, 1, 1, 2)


def alexnet(make: Maker) -> Iterator[Layer]:
    yield from alexnet_convolutions(make)
    yield from (linear(make, 9216, 4096), linear(make, 4096, 4096), linear(make, 4096, 1000))


def vgg19(make: Maker) -> Iterator[Layer]:
    size, c = 224, 3
    for k, repeats in ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4)):
        for _ in range(repeats):
            yield conv(make, size, c, k, 3, 1, 1)
            c = k
        size //= 2
    yield from (linear(make, 25088, 4096), linear(make, 4096, 4096), linear(make, 4096, 1000))


def resnet50(make: Maker) -> Iterator[Layer]:
    yield conv(make, 224, 3, 64, 7, 2, 3)
    size, c = 56, 64
    for width, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for block in range(blocks):
            s = stride if block == 0 else 1
            yield conv(make, size, c, width, 1, 1, 0)
            yield conv(make, size, width, width, 3, s, 1)
            yield conv(make, size // s, width, 4 * width, 1, 1, 0)
            if block == 0:
                yield conv(make, size, c, 4 * width, 1, s, 0)
            size, c = size // s, 4 * width
    yield linear(make, 2048, 1000)


def timed(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return (time.process_time() - start) * 1e3


def forget(layers: list[Layer], *, everything: bool) -> None:
    """Drops what designs remember; keeps widths and rearranged tensors unless `everything` goes."""
    for layer in layers:
        for operand in (layer.activations, layer.weights):
            memo = {} if operand is None else operand.memo
            if everything:
                memo.clear()
                continue
            for held in (memo, *(value.memo for value in memo.values() if hasattr(value, "memo"))):
                for key in [key for key in held if isinstance(key, tuple) and key[0] == "designs"]:
                    del held[key]


def best(made: Design, layers: list[Layer], *, cold: bool) -> float:
    """Milliseconds for all layers, the best of three."""
    times = []
    for _ in range(3):
        forget(layers, everything=cold)
        times.append(timed(lambda: [made.schedule(layer) for layer in layers]))
    return min(times)


def main() -> None:
    names = sys.argv[1:] or DESIGNS.names()
    variants = [(name, {}) for name in names]
    if "dpred_stripes" in names:
        variants += [("dpred_stripes", {"run_ahead": 1}), ("dpred_stripes", {"both_ends": True})]
    for network, bits in ((alexnet_convolutions, 8), (alexnet, 16), (resnet50, 16), (vgg19, 16)):
        layers = list(network(random_tensors(0, bits)))
        print(f"{network.__name__}, {bits} bits, {len(layers)} layers{'cold ms':>29}{'warm ms':>10}")
        for name, parameters in variants:
            made = design(name, **parameters)
            try:
                cold, warm = (best(made, layers, cold=cold) for cold in (True, False))
            except InputError as error:
                print(f"  {name:16} refused: {error}")
                continue
            cycles = sum(made.schedule(layer).total for layer in layers)
            print(f"  {name:16} {parameters or ''!s:24} {cold:9.1f} {warm:9.1f}   {cycles:>12,} cycles")


if __name__ == "__main__":
    main()
