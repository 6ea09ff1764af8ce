from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dpred_sim.errors import InputError
from dpred_sim.topology.graph import Topology

sys.path.insert(0, str(Path(__file__).parent))

from systems_under_test import EXAMPLE, load_checked


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Topology]:
    """Loads a text; each pair replaces one part of the example by another."""

    def make(
        text: str = EXAMPLE, *changes: tuple[str, str], set: list[str] | tuple[str, ...] = ()
    ) -> Topology:
        for old, new in changes:
            assert old in text, f"{old!r} is not in the text"
            text = text.replace(old, new)
        path = tmp_path / "system.yaml"
        path.write_text(text, encoding="utf-8")
        return load_checked(path, set)

    return make


@pytest.fixture
def refused(make: Callable[..., Topology], tmp_path: Path) -> Callable[..., InputError]:
    """The error of a text that must be refused."""

    def refused(*changes: tuple[str, str], text: str = EXAMPLE, set: tuple[str, ...] = ()) -> InputError:
        with pytest.raises(InputError) as caught:
            make(text, *changes, set=set)
        return caught.value

    return refused
