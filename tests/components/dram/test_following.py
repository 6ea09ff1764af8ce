"""Pieces that follow others in one step end when the general search says they do."""

from __future__ import annotations

from random import Random

import pytest

from dpred_sim.components.dram.banked import BankedModel
from dpred_sim.components.dram.bench import drive
from dpred_sim.components.dram.controller import Request, make_controller
from dpred_sim.components.dram.model import make_model
from dpred_sim.components.dram.standard import load_standard


def outcome(standard: str, mapping: str | None, seed: int) -> list[object]:
    """Ends, counters and losses of a few streams and jumps, some of it late, some of it at once."""
    random = Random(seed)
    model = make_model(load_standard(standard), mapping=mapping)
    controller = make_controller(model)
    places = [random.randrange(1 << 28) // 64 * 64 for _ in range(random.choice([1, 2, 3]))]
    size, writes = random.choice([100, 256, 1024, 2048, 4096, 5000]), random.choice([0, 0, 0.3])
    done: list[Request] = []
    ends: list[int] = []
    now = time = 0
    for _ in range(160):
        time += random.choice([0, 0, 0, 20_000, 160_000, 900_000])
        now = drive(controller, now, time, ends, done)
        stream = random.randrange(len(places))
        length = size if random.random() < 0.8 else random.randrange(1, size)
        write = random.random() < writes
        controller.submit(now, Request(now, places[stream], length, write))
        places[stream] += length if random.random() < 0.95 else random.randrange(1 << 20)
    while len(done) < 160:
        now = drive(controller, now, None, ends, done)
    end = max(request.end_ps for request in done)
    return [[request.end_ps for request in done], model.statistics(end), model.breakdown(end)]


@pytest.mark.parametrize(
    ("standard", "mapping"),
    [("DDR4-3200", None), ("LPDDR4-3200", None), ("HBM2", None), ("LPDDR5-6400", "ro ra bg ba co")],
)
def test_following_is_what_the_general_search_finds(
    standard: str, mapping: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = [outcome(standard, mapping, seed) for seed in range(40)]
    monkeypatch.setattr(BankedModel, "place", BankedModel.search)
    assert quick == [outcome(standard, mapping, seed) for seed in range(40)]
