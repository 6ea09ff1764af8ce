"""The graphs of tests/data/architectures with drawn weights."""

from __future__ import annotations

import zlib
from math import prod, sqrt
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent / "data" / "architectures"


def architecture(name: str) -> Any:
    """A graph as torch.onnx.export wrote it, each left-out constant drawn by its name."""
    import onnx

    model = onnx.load(str(FOLDER / f"{name}.onnx"))
    graphs = [model.graph]
    while graphs:
        graph = graphs.pop()
        attributes = [attribute for node in graph.node for attribute in node.attribute]
        graphs.extend(a.g for a in attributes if a.HasField("g"))
        for tensor in [*graph.initializer, *(a.t for a in attributes if a.HasField("t"))]:
            if tensor.doc_string in ("drawn", "positive") and not tensor.raw_data:
                tensor.raw_data = _drawn(tensor).astype("<f4").tobytes()
    return model


def _drawn(tensor: Any) -> Any:
    rng = np.random.default_rng(zlib.crc32(tensor.name.encode()))
    shape = tuple(tensor.dims)
    if tensor.doc_string == "positive":
        return rng.uniform(0.5, 1.5, shape)
    # As large as what keeps the size of the values of a layer.
    return rng.normal(0, sqrt(2 / max(prod(shape[1:]), 1)) if len(shape) > 1 else 0.1, shape)
