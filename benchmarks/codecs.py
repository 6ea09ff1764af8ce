"""How fast sizes are found: each codec on one tensor, and the traffic table of a captured network.

    python benchmarks/codecs.py [millions of values]

Sizes are exact without packing; `pack` and `unpack` are what `--verify` does.
"""

from __future__ import annotations

import resource
import sys
from time import perf_counter

import numpy as np

from dpred_sim.explore.traffic import forms, measure
from dpred_sim.values.tensor import Tensor
from dpred_sim.workload.load import load_workload

CHANNELS = 256
PACKED = 1 << 20


def main() -> None:
    count = int(float(sys.argv[1]) * 1e6) if len(sys.argv) > 1 else 1 << 22
    values = np.random.default_rng(0).laplace(0, 20, (count // CHANNELS, CHANNELS)).round()
    x = Tensor(np.clip(values, -500, 500).astype(np.int16), 16, True, 10)
    part = Tensor(x.values[: PACKED // CHANNELS], 16, True, 10)
    print(f"{x.values.size} values of 16 bits; M values/s")
    print("codec                     size      pack    unpack")
    for form in forms(None, [16]):
        x.memo.clear()
        start = perf_counter()
        form.codec.size_bits(x)
        size = perf_counter()
        encoded = form.codec.encode(part)
        packed = perf_counter()
        form.codec.decode(encoded)
        times = (size - start, packed - size, perf_counter() - packed)
        counts = (x.values.size, part.values.size, part.values.size)
        rates = "".join(f"{n / 1e6 / t:10.1f}" for n, t in zip(counts, times, strict=True))
        print(f"{form.title:20}{rates}")
    loaded = load_workload("resnet50_thin")
    start = perf_counter()
    traffic = measure([("", loaded)], forms())
    seconds = perf_counter() - start
    values_moved = sum(entry.raw_bits for entry in traffic.samples[0].entries) / loaded.bits
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\ntraffic table of {loaded.name}: {seconds:.2f} s, {len(traffic.forms)} forms,")
    floats = values_moved * 4 / 2**20
    print(f"{values_moved / 1e6:.1f} M values ({floats:.0f} MiB as floats), peak {peak:.0f} MiB")


if __name__ == "__main__":
    main()
