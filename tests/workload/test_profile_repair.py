"""Repairs on made-up networks, whose joint error is known: beside brute force, and their limits."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpred_sim.workload.profile import Format
from dpred_sim.workload.profile_repair import everywhere, fewest, helped, repaired

MOST = 16
Formats = Mapping[str, Format]


class Network:
    """Tensors whose errors halve with every bit and add up by their squares."""

    def __init__(self, bits: list[int], alone: list[float], sizes: list[int], limit: float) -> None:
        names = [f"t{i}" for i in range(len(bits))]
        self.least = {name: Format(b, False, 1.0) for name, b in zip(names, bits, strict=True)}
        self.alone = dict(zip(names, alone, strict=True))
        self.sizes = dict(zip(names, sizes, strict=True))
        self.limit = limit
        self.asked = 0

    def error(self, formats: Formats) -> float:
        more = {name: formats[name].precision - least.precision for name, least in self.least.items()}
        return sqrt(sum((self.alone[name] / 2**bits) ** 2 for name, bits in more.items()))

    def fits(self, formats: Formats) -> bool:
        self.asked += 1
        return self.error(formats) <= self.limit

    def stored(self, formats: Formats) -> int:
        return sum(self.sizes[name] * found.precision for name, found in formats.items())

    def by(self, rule: str) -> dict[str, Format]:
        if rule == "everywhere":
            return repaired(self.least, everywhere(self.least, MOST), self.fits)
        return repaired(self.least, fewest(self.least, self.alone, self.sizes, MOST), self.fits)


networks = st.integers(1, 12).flatmap(
    lambda count: st.builds(
        Network,
        st.lists(st.integers(1, MOST), min_size=count, max_size=count),
        st.lists(st.floats(0, 0.01), min_size=count, max_size=count),
        st.lists(st.integers(1, 10000), min_size=count, max_size=count),
        st.floats(1e-5, 0.02),
    )
)


@given(networks)
def test_everywhere_is_the_fewest_bits_for_all(network: Network) -> None:
    found = network.by("everywhere")
    each = [
        {n: Format(min(MOST, f.precision + more), False, 1.0) for n, f in network.least.items()}
        for more in range(MOST)
    ]
    fitting = [formats for formats in each if network.error(formats) <= network.limit]
    assert found == (fitting[0] if fitting else each[-1])


@given(networks)
def test_fewest_stops_at_the_step_that_fits_and_asks_seldom(network: Network) -> None:
    steps = fewest(network.least, network.alone, network.sizes, MOST)
    assert all(len(step) == 1 for step in steps)
    formats = dict(network.least)
    taken = 0
    while network.error(formats) > network.limit and taken < len(steps):
        (name,) = steps[taken]
        formats[name] = Format(formats[name].precision + 1, False, 1.0)
        taken += 1
    network.asked = 0
    assert network.by("fewest") == formats
    assert network.asked <= 2 * len(steps).bit_length() + 2
    assert all(f.precision <= MOST for f in formats.values())


@given(networks)
def test_no_other_bit_takes_more_error_away_for_what_it_costs(network: Network) -> None:
    more = dict.fromkeys(network.least, 0)

    def gain(name: str) -> float:
        return max(network.alone[name], 1e-9) ** 2 / 4 ** more[name] / network.sizes[name]

    for (name,) in fewest(network.least, network.alone, network.sizes, MOST):
        open_to = [n for n, f in network.least.items() if f.precision + more[n] < MOST]
        assert gain(name) == pytest.approx(max(gain(n) for n in open_to), rel=1e-9)
        more[name] += 1
    assert all(f.precision + more[n] == MOST for n, f in network.least.items())


@given(networks)
def test_both_keep_to_the_limit_or_give_everything(network: Network) -> None:
    for rule in ("everywhere", "fewest"):
        found = network.by(rule)
        assert all(found[n].precision >= f.precision for n, f in network.least.items())
        if network.error(found) > network.limit:
            assert {f.precision for f in found.values()} == {MOST}


@given(networks, st.lists(st.floats(0.01, 1.0), min_size=MOST + 1, max_size=MOST + 1))
def test_bits_are_added_as_long_as_each_helps(network: Network, changes: list[float]) -> None:
    steps = everywhere(network.least, MOST)
    lowest = min(f.precision for f in network.least.values())

    def taken(formats: Mapping[str, Format]) -> int:
        return min(f.precision for f in formats.values()) - lowest

    count = taken(helped(network.least, steps, lambda formats: changes[taken(formats)]))
    assert 0 <= count <= len(steps) and all(changes[i + 1] < changes[i] for i in range(count))
    assert count == len(steps) or changes[count + 1] >= changes[count]


def test_fewest_stores_less_where_a_small_tensor_makes_the_error() -> None:
    network = Network([8, 8], [0.01, 0.06], [100000, 100], 0.02)
    coarse, fine = network.by("everywhere"), network.by("fewest")
    assert {n: f.precision for n, f in coarse.items()} == {"t0": 10, "t1": 10}
    assert {n: f.precision for n, f in fine.items()} == {"t0": 8, "t1": 10}
    assert network.stored(fine) < network.stored(coarse)
