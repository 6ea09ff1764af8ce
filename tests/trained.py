"""Which trained networks a test may run: those of the first ring, and what the cache has."""

from __future__ import annotations

import pytest

from dpred_sim.locate import ready_made_names
from dpred_sim.workload.fetch import fetch, is_fetched
from dpred_sim.workload.packages import Unavailable
from dpred_sim.workload.trained.manifest import shipped

RING = ("resnet50_thin", "silero_vad")
"""Networks that the tests may download: 45 MB with their inputs."""

TRAINED = sorted(set(shipped().names) & set(ready_made_names("workloads", ".py")))
"""Trained networks with a workload script."""


def need(name: str, *, download: bool = False) -> None:
    """Skip the test when `name` is a trained network that is not here; with `download` fetch it first.

    Networks of the ring are always fetched. Other workloads are never skipped.
    """
    manifest = shipped()
    if name not in manifest.models:
        return
    sources = manifest.sources(name)
    if not (download or name in RING or is_fetched(sources)):
        pytest.skip(f"not in the cache: dpred-sim models fetch {name}")
    try:
        fetch(sources)
    except Unavailable as error:
        if name != "resnet50_thin":  # a committed piece of it stands in
            pytest.skip(f"offline: {error}")
