"""Load topologies with everything that the package knows: component kinds, codecs, designs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dpred_sim.codecs.base import CODECS
from dpred_sim.components.base import kinds
from dpred_sim.components.dram.channel import DramParameters
from dpred_sim.components.dram.model import make_model
from dpred_sim.components.dram.standard import load_standard
from dpred_sim.designs.base import DESIGNS
from dpred_sim.errors import InputError, nearest
from dpred_sim.registry import Registry, parameter_names
from dpred_sim.topology.graph import DRAM, Topology
from dpred_sim.topology.load import load


def load_topology(reference: str | Path, set: Iterable[str] = ()) -> Topology:
    """The system that a reference names: a bare name such as "dpred_stripes_ddr4", or a path.

    `set` overrides parts of the file: "nodes.tile.count=8", "links.dram->activations.width=512 bit".
    Raises InputError, with file, line and column, for whatever is wrong.
    """
    return load(
        reference,
        kinds(),
        set=set,
        check_codec=check_codec,
        check_design=check_design,
        check_kind={DRAM: check_dram},
    )


def natural_bits(topology: Topology) -> int:
    """Bits of the models that a system is made for: what one of its units takes whole, 16 or 8."""
    from dpred_sim.simulation.build import tile_design

    return 8 if tile_design(topology).pe_width <= 8 else 16


def check_codec(name: str, options: Mapping[str, Any]) -> None:
    """Raise InputError for an unknown codec, an unknown parameter or a value that is not allowed."""
    _check(CODECS, name, options, ())


def check_design(name: str, options: Mapping[str, Any]) -> None:
    """Raise InputError for an unknown design, an unknown parameter or a value that is not allowed."""
    _check(DESIGNS, name, options, ("tiles",))


def check_dram(parameters: DramParameters, folder: Path) -> None:
    """Raise InputError for a DRAM channel that cannot be: an unknown standard, a bus that does not fit it."""
    try:
        standard = load_standard(parameters.standard, relative_to=folder)
    except InputError as error:
        if error.file is not None and error.line is not None:
            raise
        raise InputError(
            error.message, field="standard", found=error.found or error.file, allowed=error.allowed
        ) from None
    if parameters.ranks is not None:
        standard = standard.with_ranks(parameters.ranks)
    make_model(
        standard,
        parameters.bus,
        parameters.level,
        mapping=parameters.mapping,
        page=parameters.page,
        refresh=parameters.refresh,
    )


def _check(registry: Registry[Any], name: str, options: Mapping[str, Any], hidden: tuple[str, ...]) -> None:
    allowed = [key for key in parameter_names(registry.get(name)) if key not in hidden]
    for key in options:
        if key not in allowed:
            raise InputError(
                f"unknown parameter of {registry.noun} {name!r}{nearest(key, allowed)}",
                field=key,
                allowed=allowed,
            )
    try:
        registry.create(name, options)
    except TypeError as error:
        raise InputError(f"not a parameter set of {registry.noun} {name!r}: {error}") from None
