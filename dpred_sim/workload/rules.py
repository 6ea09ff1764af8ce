"""What `--quantise` says: how real numbers become integers, and what is done to weights before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from dpred_sim.errors import InputError, nearest
from dpred_sim.values.quantise import pruned

PER_CHANNEL = "per_channel"
PRUNE = "prune"


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule for formats, and options behind it: `profiled,prune=0.75`, `full_range,per_channel`.

    `per_channel`: 8-bit weights have a scale for each filter. `sparsity`: the share of the weights of
    every layer that is set to zero first, smallest magnitudes first, without retraining.
    """

    name: str
    per_channel: bool = False
    sparsity: float = 0.0

    def prepared(self, weights: NDArray[Any], name: str) -> NDArray[Any]:
        """The weights as they are quantised."""
        return pruned(weights, self.sparsity, name) if self.sparsity else weights


def parse_rule(text: str, names: Sequence[str], bits: int | None = None) -> Rule:
    """The rule that a text such as `profiled,prune=0.75` states; `names` are the rules for formats.

    Raises InputError for an unknown rule or option, an option given twice, a share outside 0 to 1, and
    scales by channel where values have not 8 bits.
    """
    name, *options = (word.strip() for word in text.split(","))
    if name not in names:
        raise InputError(
            f"unknown quantisation{nearest(name, names)}", field="quantise", found=name, allowed=tuple(names)
        )
    per_channel, sparsity = False, 0.0
    seen: set[str] = set()
    for option in options:
        key, equals, value = option.partition("=")
        if key in seen:
            raise InputError("given twice", field="quantise", found=key)
        seen.add(key)
        if key == PER_CHANNEL and not equals:
            per_channel = True
        elif key == PRUNE and equals:
            sparsity = _share(value)
        else:
            allowed = (PER_CHANNEL, f"{PRUNE}=SHARE")
            raise InputError(
                f"unknown option{nearest(key, (PER_CHANNEL, PRUNE))}",
                field="quantise",
                found=option,
                allowed=allowed,
            )
    if per_channel and bits not in (None, 8):
        raise InputError("scales by channel are for 8 bits", field="quantise", found=f"{bits} bits")
    return Rule(name, per_channel, sparsity)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise InputError("share of zero weights", field=f"quantise: {PRUNE}", found=text, allowed="0 to 1")
    return share
