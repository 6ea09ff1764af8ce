"""LSTM, GRU and RNN as layers: the steps of a recurrence, one after the other."""

from __future__ import annotations

from typing import Any

import numpy as np

from dpred_sim.workload.importers.onnx_fusion import Stored, Tail, Value
from dpred_sim.workload.importers.onnx_movement import Movement
from dpred_sim.workload.importers.onnx_plan import Derived, Planned
from dpred_sim.workload.importers.onnx_recurrent import (
    GATES,
    by_unit,
    candidate,
    is_reversed,
    projection,
    reset_states,
    resets_before,
    through,
)
from dpred_sim.workload.importers.onnx_views import in_order


class Recurrences(Movement):
    """Plans recurrences."""

    def _recurrent(self, node: Any) -> None:
        """The steps of an LSTM, GRU or RNN; its input projection is a layer already."""
        graph = self.graph
        value = self._read(node, projection(node))
        gates = GATES[node.op_type]
        out = graph.shape(node.output[0])
        steps, units = out[0], out[-1]
        if out[1:3] != (1, 1):
            self._refuse(node, "only batch 1 is modelled")
        kept = slice(2 * units, None) if resets_before(node) else slice(None)
        gates = 1 if resets_before(node) else gates
        weights = self._made(node, node.input[2], lambda values: by_unit(values[0, kept], gates))
        flat = in_order(steps * units).reshape(out)
        name = self._name(node)
        settings = {
            "kind": "recurrence",
            "operator": node.op_type,
            "reads": value.stored.name,
            "gates": gates,
            "reverse": True if is_reversed(node) else None,
        }
        state = node.input[5] if len(node.input) > 5 else ""
        if state and state not in graph.constants:
            settings["initial"] = self._laid_out(node, state, in_order(units), (1, units))
        elif state and np.any(graph.constant(state)):
            self._constant_operand(state)
            settings["initial"] = self._laid_out(node, state, in_order(units), (1, units))
        if resets_before(node):
            self._reset(node, name, settings, steps, units)
        self._store(name, Tail(node.output[0], flat, (steps, units)), settings, weights)
        last = Value(
            Stored(f"{name}.h[{0 if is_reversed(node) else steps - 1}]", (1, units)),
            in_order(units).reshape(1, 1, units),
        )
        if len(node.output) > 1 and node.output[1]:
            self.done.add(node.output[1])
            self._view(node.output[1], last)
        if len(node.output) > 2 and node.output[2] in (*graph.readers, *graph.outputs):
            # The cell state leaves post-processing once, after the last step.
            cell = Tail(node.output[2], last.positions, (1, units))
            settings = {"kind": "move", "operator": "cell state", **self._parts([last])}
            self._store(self._unique(f"{name}.c"), cell, settings, None)
        self.done.update(made for made in node.output[2:] if made)

    def _reset(self, node: Any, name: str, settings: dict[str, Any], steps: int, units: int) -> None:
        """The first of the two products of a step: a reset gate that works on the state."""
        graph, inputs = self.graph, [*node.input, *[""] * 6]
        bias = graph.constant(inputs[3]) if inputs[3] else None
        state = graph.constant(inputs[5]) if inputs[5] else None
        sources = [projection(node), node.output[0]]
        if inputs[5] and state is None:
            sources.append(inputs[5])
        make = reset_states(node, self._weights(node, inputs[2]), bias, state)
        called = self._unique(f"{name}.r")
        settings.update(reset=called, reset_reads=settings["reads"])
        settings["reads"] = self._read(node, candidate(node)).stored.name
        held = self._made(node, inputs[2], lambda values: by_unit(values[0, : 2 * units], 2))
        flat, form = in_order(steps * units).reshape(steps, units), {"kind": "reset", "operator": "GRU"}
        derived = Derived(tuple(sources), make)
        self.planned.append(Planned(called, form, (steps, units), through(node), flat, held, derived=derived))
