"""Formats in which a model itself stores tensors in 8 bits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Native:
    """How a tensor was stored in 8 bits: value = scale * integer; `scales` is one, or one a filter."""

    scales: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"scale": self.scales[0] if len(self.scales) == 1 else list(self.scales)}


def native_of(natives: Mapping[str, Native], name: str, values: NDArray[Any]) -> Native | None:
    """The format of constant weights (K, ...), if they still are what was stored: folding may scale them."""
    native = natives.get(name)
    if native is None or len(native.scales) not in (1, len(values)):
        return None
    steps = np.array(native.scales, dtype=np.float32).reshape(-1, *[1] * (values.ndim - 1))
    whole = values / steps
    return native if np.abs(whole - np.rint(whole)).max(initial=0) < 1e-3 else None
