"""Plug-ins: found by name, refused when two have the same one."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from dpred_sim import registry as module
from dpred_sim.errors import InputError
from dpred_sim.registry import Registry


class Other:
    def __init__(self, depth: int = 1) -> None:
        self.depth = depth


def fresh() -> Registry:
    return Registry("codec", "dpred_sim.codecs", "dpred_sim.tests")


def points(monkeypatch, *found: EntryPoint) -> None:
    monkeypatch.setattr(module, "entry_points", lambda group: [p for p in found if p.group == group])


def test_names_parameters_and_hints():
    made = fresh()
    made.register("other")(Other)
    assert made.create("other", {"depth": 3}).depth == 3
    with pytest.raises(InputError, match="did you mean 'depth'") as caught:
        made.create("other", {"dept": 3})
    assert caught.value.field == "dept"
    with pytest.raises(InputError, match="did you mean 'other'"):
        made.get("othr")


def test_a_second_class_of_the_same_name_names_both_origins():
    made = fresh()
    made.register("other")(Other)
    made.register("other")(Other)
    with pytest.raises(InputError, match=r"test_registry\.Other and .*Registry"):
        made.register("other")(Registry)


def test_entry_points_feed_the_same_registry(monkeypatch):
    points(monkeypatch, EntryPoint("mine", "tests.test_registry:Other", "dpred_sim.tests"))
    assert fresh().get("mine").__name__ == "Other"
    assert "mine" in fresh().names()


def test_an_entry_point_cannot_replace_a_built_in(monkeypatch):
    from dpred_sim.designs.base import DESIGNS

    DESIGNS.get("stripes")
    points(monkeypatch, EntryPoint("stripes", "tests.test_registry:Other", DESIGNS.group))
    twin = Registry("design", "dpred_sim.designs", DESIGNS.group)
    twin._entries = dict(DESIGNS._entries)
    with pytest.raises(InputError, match="two designs are called 'stripes'"):
        twin._scan()


def test_one_plug_in_does_not_import_the_others():
    code = (
        "import sys; from dpred_sim.designs.base import design; design('stripes');"
        "print([m for m in sys.modules if m.startswith('dpred_sim.designs.')])"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "stripes" in loaded and "scnn" not in loaded and "pragmatic" not in loaded
