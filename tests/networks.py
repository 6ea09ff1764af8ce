"""Small networks with random values, for tests of whole runs."""

from __future__ import annotations

from typing import Any

import numpy as np

from dpred_sim.values.tensor import Tensor
from dpred_sim.workload.layer import Layer, Pool
from dpred_sim.workload.network import INPUT, Network
from dpred_sim.workload.workload import Workload


def spiky(rng: np.random.Generator, shape: tuple[int, ...], bits: int, signed: bool) -> Tensor:
    """Values whose neighbouring groups differ by many bits, with zeros among them."""
    widths = rng.integers(0, bits - (1 if signed else 0) + 1, size=shape)
    values = rng.integers(0, 1 << bits, size=shape) & ((1 << widths) - 1)
    values[rng.random(shape) < 0.3] = 0
    if signed:
        values = values >> 1
        values = np.where(rng.random(shape) < 0.5, values, -values)
    return Tensor(values, bits=bits, signed=signed)


def random_workload(seed: int, bits: int = 16, layers: int = 4) -> Workload:
    """A chain with everything that a network may hold: groups, depthwise, pools, shortcuts, linear."""
    rng = np.random.default_rng(seed)
    network = Network()
    height, width = (int(v) for v in rng.integers(6, 15, size=2))
    depth = int(rng.choice([3, 16, 24, 32, 48]))
    current: Any = spiky(rng, (height, width, depth), bits, signed=bool(rng.random() < 0.3))
    name = INPUT
    shapes: dict[str, tuple[int, ...]] = {}
    for index in range(layers):
        last = index == layers - 1
        kind = rng.choice(["conv", "conv", "depthwise", "grouped", "pool", "linear" if last else "conv"])
        if len(current.shape) != 3:
            break
        height, width, depth = current.shape
        label = f"layer{index}"
        shortcut = None
        if kind == "pool" and min(height, width) >= 4:
            pool = Pool("max", (2, 2), (2, 2))
            out = spiky(rng, (*pool.output_size(height, width), depth), bits, signed=False)
            layer = Layer.pooling(label, current, pool, out)
        elif kind == "linear":
            filters = int(rng.integers(5, 70))
            weights = spiky(rng, (filters, height * width * depth), bits, signed=True)
            out = spiky(rng, (1, filters), bits, signed=True)
            layer = Layer.linear(label, current, weights, out)
        else:
            kernel = int(rng.choice([1, 3]))
            stride = int(rng.choice([1, 1, 2]))
            groups = {"depthwise": depth, "grouped": 2 if depth % 2 == 0 else 1}.get(str(kind), 1)
            filters = depth if kind == "depthwise" else int(rng.choice([16, 24, 40, 64])) * groups
            weights = spiky(rng, (filters, kernel, kernel, depth // groups), bits, signed=True)
            bare = Layer.conv2d(label, current, weights, None, stride, kernel // 2, 1, groups)
            pool = None
            if rng.random() < 0.3 and min(bare.conv_height, bare.conv_width) >= 4:
                pool = Pool("max", (3, 3), (2, 2), (0, 0, 1, 1))
            same = [n for n, s in shapes.items() if s == (bare.conv_height, bare.conv_width, filters)]
            if same and rng.random() < 0.7:
                shortcut = same[0]
            pooled = Layer.conv2d(label, current, weights, None, stride, kernel // 2, 1, groups, pool)
            out = spiky(rng, pooled.output_shape, bits, signed=bool(rng.random() < 0.3))
            layer = Layer.conv2d(label, current, weights, out, stride, kernel // 2, 1, groups, pool)
        network.add(layer, reads=name, shortcut=shortcut)
        shapes[label] = layer.output_shape
        current, name = out, label
    return Workload(f"random{seed}", network, bits, source=f"random values, seed {seed}", synthetic=True)


def random_sequence(seed: int, bits: int = 16) -> Workload:
    """Rows through projections, recurrences and attention, in any order."""
    rng = np.random.default_rng(seed)
    network = Network()
    steps, heads = int(rng.integers(2, 9)), int(rng.choice([1, 1, 2, 3]))
    width = heads * int(rng.choice([5, 16, 24]))
    current = spiky(rng, (steps, width), bits, signed=bool(rng.random() < 0.3))
    name = INPUT
    for index in range(int(rng.integers(1, 4))):
        label, piece = f"p{index}", rng.choice(["lstm", "gru", "attention", "joined", "linear"])
        depth = current.shape[1]
        if piece in ("lstm", "gru"):
            gates, units = (4, width) if piece == "lstm" else (3, width)
            outputs = spiky(rng, (steps, units), bits, signed=True)
            projected = None if rng.random() < 0.3 else spiky(rng, (steps, gates * units), bits, signed=True)
            into = spiky(rng, (gates * units, depth), bits, signed=True)
            over = spiky(rng, (gates * units, units), bits, signed=True)
            append = network.lstm if piece == "lstm" else network.gru
            name = append(label, current, into, over, outputs, projected, reads=name)
        elif piece == "attention":
            parts = {}
            for part in "qkv":
                parts[part] = spiky(rng, (steps, width), bits, signed=True)
                weights = spiky(rng, (width, depth), bits, signed=True)
                network.add(Layer.linear(f"{label}.{part}", current, weights, parts[part]), name)
            scores = spiky(rng, (steps, heads * steps), bits, signed=False)
            layer = Layer.matmul(f"{label}.s", parts["q"], parts["k"], scores, groups=heads)
            network.add(layer, f"{label}.q", second=f"{label}.k")
            outputs = spiky(rng, (steps, width), bits, signed=True)
            layer = Layer.matmul(f"{label}.c", scores, parts["v"], outputs, groups=heads, transposed=True)
            name = network.add(layer, second=f"{label}.v", shortcut=name if depth == width else None)
        elif piece == "joined":
            gates = int(rng.choice([2, 3]))
            outputs = spiky(rng, (steps, width), bits, signed=True)
            weights = spiky(rng, (gates * width, depth), bits, signed=True)
            name = network.add(Layer.linear(label, current, weights, outputs, gates=gates), name)
        else:
            # The hidden states of a recurrence as second operand: every row a tensor of its own.
            outputs = spiky(rng, (steps, steps), bits, signed=True)
            network.add(Layer.matmul(f"{label}.own", current, current, outputs), name, second=name)
            wide = spiky(rng, (steps, width), bits, signed=True)
            weights = spiky(rng, (width, steps), bits, signed=True)
            name, outputs = network.add(Layer.linear(label, outputs, weights, wide)), wide
        current = outputs
    return Workload(f"sequence{seed}", network, bits, source=f"random values, seed {seed}", synthetic=True)
