"""System-level simulation of per-group dynamic precision in deep-learning accelerators.

=====================  ==========================================================
name                   what it is
=====================  ==========================================================
Tensor, LazyTensor     integer tensors, there or made on demand
group_widths           width of every group of a tensor
codec, Codec           how values become bits
design, Design         how a tile spends cycles
Layer, Pool            one layer of a network
Network, Node, INPUT   layers and the edges between them
Workload               a network with its tensors
synthetic_weights,     values drawn to look like trained ones
synthetic_activations
load_workload          a workload from a script, an ONNX file or a bare name
load_topology          a system from a file or a bare name
simulate, Simulation   run a workload on a topology
RunResult              what a run found
run_script             the command line for a workload script
DpredError, ...        errors: InputError, MissingExtra, SimulationError, Deadlock, InvariantBroken
=====================  ==========================================================
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dpred_sim.cli.run import run_script as run_script
    from dpred_sim.codecs.base import Codec as Codec
    from dpred_sim.codecs.base import Encoded as Encoded
    from dpred_sim.codecs.base import codec as codec
    from dpred_sim.designs.base import Design as Design
    from dpred_sim.designs.base import Schedule as Schedule
    from dpred_sim.designs.base import design as design
    from dpred_sim.errors import Deadlock as Deadlock
    from dpred_sim.errors import DpredError as DpredError
    from dpred_sim.errors import InputError as InputError
    from dpred_sim.errors import InvariantBroken as InvariantBroken
    from dpred_sim.errors import MissingExtra as MissingExtra
    from dpred_sim.errors import SimulationError as SimulationError
    from dpred_sim.simulation.engine import Simulation as Simulation
    from dpred_sim.simulation.engine import simulate as simulate
    from dpred_sim.simulation.result import RunResult as RunResult
    from dpred_sim.simulation.systems import load_topology as load_topology
    from dpred_sim.topology.graph import Topology as Topology
    from dpred_sim.values.synthetic import synthetic_activations as synthetic_activations
    from dpred_sim.values.synthetic import synthetic_weights as synthetic_weights
    from dpred_sim.values.tensor import LazyTensor as LazyTensor
    from dpred_sim.values.tensor import Tensor as Tensor
    from dpred_sim.values.widths import group_widths as group_widths
    from dpred_sim.workload.layer import Layer as Layer
    from dpred_sim.workload.layer import Pool as Pool
    from dpred_sim.workload.load import load_workload as load_workload
    from dpred_sim.workload.network import INPUT as INPUT
    from dpred_sim.workload.network import Network as Network
    from dpred_sim.workload.network import Node as Node
    from dpred_sim.workload.workload import Workload as Workload

__version__ = "0.1.0"

_HOMES = {
    "cli.run": ("run_script",),
    "codecs.base": ("Codec", "Encoded", "codec"),
    "designs.base": ("Design", "Schedule", "design"),
    "errors": ("Deadlock", "DpredError", "InputError", "InvariantBroken", "MissingExtra", "SimulationError"),
    "simulation.engine": ("Simulation", "simulate"),
    "simulation.result": ("RunResult",),
    "simulation.systems": ("load_topology",),
    "topology.graph": ("Topology",),
    "values.synthetic": ("synthetic_activations", "synthetic_weights"),
    "values.tensor": ("LazyTensor", "Tensor"),
    "values.widths": ("group_widths",),
    "workload.layer": ("Layer", "Pool"),
    "workload.load": ("load_workload",),
    "workload.network": ("INPUT", "Network", "Node"),
    "workload.workload": ("Workload",),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(["__version__", *_MODULE_OF])


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: a command starts with what it needs."""
    try:
        module = _MODULE_OF[name]
    except KeyError:
        raise AttributeError(f"module 'dpred_sim' has no attribute {name!r}") from None
    value = getattr(import_module(f"dpred_sim.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
