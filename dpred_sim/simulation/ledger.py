"""The ledger of off-chip transfers: what each layer moved, and the last few of them."""

from __future__ import annotations

from collections import deque

from simpy import Environment

from dpred_sim.components.probe import NO_SPAN, NULL_PROBE, Probe
from dpred_sim.simulation.result import TRAFFIC_KINDS, Traffic
from dpred_sim.simulation.snapshot import Transfer

RECENT = 32


class Ledger:
    """Counts every off-chip request by layer and kind of data."""

    def __init__(self, layer_names: list[str], endpoints: dict[str, tuple[str, str]], probe: Probe) -> None:
        """`endpoints` are (source, target) by DMA engine, for people."""
        self.env: Environment | None = None
        self.layer_names = layer_names
        self.endpoints = endpoints
        self.probe = probe
        self.layers = [{kind: Traffic() for kind in TRAFFIC_KINDS} for _ in layer_names]
        self.raw_bits = [dict.fromkeys(TRAFFIC_KINDS, (0, 0)) for _ in layer_names]
        self.stored_bytes = 0
        self.stored_raw_bits = 0
        self._recent: deque[tuple[int, str, str, int, int, int]] = deque(maxlen=RECENT)
        self._listening = probe is not NULL_PROBE

    def moved(self, layer: int, what: str, write: bool, stored: int, raw_bits: int, engine: str) -> int:
        """A request completed."""
        traffic = self.layers[layer][what]
        read_bits, write_bits = self.raw_bits[layer][what]
        if write:
            traffic.write_bytes += stored
            self.raw_bits[layer][what] = (read_bits, write_bits + raw_bits)
        else:
            traffic.read_bytes += stored
            self.raw_bits[layer][what] = (read_bits + raw_bits, write_bits)
        self.stored_bytes += stored
        self.stored_raw_bits += raw_bits
        now = 0 if self.env is None else int(self.env.now)
        self._recent.append((now, engine, what, layer, stored, raw_bits))
        if not self._listening:
            return NO_SPAN
        name = self.layer_names[layer]
        self.probe.counter(engine, "offchip_bytes", now, self.stored_bytes)
        return self.probe.span(engine, "busy", now, now, name, what, NO_SPAN)

    def traffic(self, layer: int) -> dict[str, Traffic]:
        """Traffic of one layer by kind, raw bits rounded to bytes."""
        rows = self.layers[layer]
        for kind, (read_bits, write_bits) in self.raw_bits[layer].items():
            rows[kind].raw_read_bytes = -(-read_bits // 8)
            rows[kind].raw_write_bytes = -(-write_bits // 8)
        return rows

    def recent(self) -> tuple[Transfer, ...]:
        """The last transfers, oldest first."""
        return tuple(
            Transfer(
                time_ps,
                *self.endpoints[engine],
                what=what,
                layer=self.layer_names[layer],
                stored_bytes=stored,
                raw_bytes=-(-raw_bits // 8),
            )
            for time_ps, engine, what, layer, stored, raw_bits in self._recent
        )
