"""The package's own kinds, codecs, designs and DRAM standards refuse values with InputError only."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from dpred_sim.codecs.base import CODECS
from dpred_sim.components.base import KINDS, kinds
from dpred_sim.designs.base import DESIGNS
from dpred_sim.errors import InputError
from dpred_sim.registry import parameter_names
from dpred_sim.simulation.systems import check_codec, check_design, load_topology
from dpred_sim.topology.schema import Parameters

SYSTEM = load_topology("dpred_stripes_ddr4")
VALUES = [
    *("0", "-1", "1", "16", "10000000", "1.5", "true", "word", "'3'", "~", "[]", "{a: 1}", "''"),
    *("4 MiB", "3 bit", "1 cycle"),
]
KEYS = [
    f"nodes.{name}.{key}"
    for name, node in SYSTEM.to_dict()["nodes"].items()
    for key in (*kinds()[node["kind"]].model_fields, "kind", "count")
]
OPTIONS = [
    (f"{where}={name}", f"{where.rpartition('.')[0]}.{key}")
    for where, registry in (("nodes.tile.design", DESIGNS), ("nodes.dram.stores.codec", CODECS))
    for name in registry.names()
    for key in parameter_names(registry.get(name))
]


def test_every_kind_has_parameters_and_its_name() -> None:
    assert {"buffer", "dispatcher", "dram_channel", "tile"} <= set(kinds())
    for name, parameters in kinds().items():
        assert issubclass(parameters, Parameters)
        assert KINDS.get(name).kind == name
        assert all(field.description for field in parameters.model_fields.values()), name


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(KEYS), st.sampled_from(VALUES))
def test_any_value_of_any_key(key: str, value: str) -> None:
    try:
        SYSTEM.with_set([f"{key}={value}"])
    except InputError as error:
        assert "--set" in str(error) or SYSTEM.file in str(error)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(OPTIONS), st.sampled_from(VALUES))
def test_any_value_of_any_option(option: tuple[str, str], value: str) -> None:
    choice, key = option
    try:
        SYSTEM.with_set([choice, f"{key}={value}"])
    except InputError as error:
        assert "--set" in str(error) or SYSTEM.file in str(error)


def test_defaults_are_allowed() -> None:
    for name in DESIGNS.names():
        check_design(name, {})
    for name in CODECS.names():
        check_codec(name, {})
