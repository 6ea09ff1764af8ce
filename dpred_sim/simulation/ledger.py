"""The ledger of off-chip transfers: what each layer moved."""

from __future__ import annotations

from simpy import Environment

from dpred_sim.components.probe import NO_SPAN, Probe, Tag
from dpred_sim.simulation.result import TRAFFIC_KINDS, Traffic


class Ledger:
    """Counts every off-chip request by layer and kind of data."""

    def __init__(self, layer_names: list[str], probe: Probe) -> None:
        self.env: Environment | None = None
        self.layer_names = layer_names
        self.probe = probe
        # Stored bytes and raw bits read, then written.
        self._counts = [{kind: [0, 0, 0, 0] for kind in TRAFFIC_KINDS} for _ in layer_names]
        self.stored_bytes = 0
        self.stored_raw_bits = 0

    def sent(
        self,
        layer: int,
        what: str,
        write: bool,
        address: int,
        stored: int,
        raw_bits: int,
        engine: str,
        cause: int = NO_SPAN,
    ) -> Tag | None:
        """A request is sent; what goes with it tells the probe."""
        probe = self.probe
        if not probe.active or self.env is None:
            return None
        name, now = self.layer_names[layer], int(self.env.now)
        number = probe.transfer(engine, what, name, write, address, stored, raw_bits, now, cause)
        return Tag(probe, name, now, number, NO_SPAN)

    def moved(
        self, layer: int, what: str, write: bool, stored: int, raw_bits: int, engine: str, tag: Tag | None
    ) -> int:
        """A request completed."""
        counts = self._counts[layer][what]
        if write:
            counts[2] += stored
            counts[3] += raw_bits
        else:
            counts[0] += stored
            counts[1] += raw_bits
        self.stored_bytes += stored
        self.stored_raw_bits += raw_bits
        if tag is None or self.env is None:
            return NO_SPAN
        now = int(self.env.now)
        bits = stored * 8
        return tag.probe.span(engine, "busy", tag.start_ps, now, tag.layer, tag.transfer, NO_SPAN, bits)

    def waited(self, layer: int, engine: str, start_ps: int, end_ps: int) -> None:
        """An engine had nothing under way for a time, because what came next had no room."""
        if self.probe.active and end_ps > start_ps:
            self.probe.span(engine, "room", start_ps, end_ps, self.layer_names[layer])

    def traffic(self, layer: int) -> dict[str, Traffic]:
        """Traffic of one layer by kind, raw bits rounded up to bytes."""
        return {
            kind: Traffic(
                read_bytes=read,
                write_bytes=written,
                raw_read_bytes=-(-read_bits // 8),
                raw_write_bytes=-(-written_bits // 8),
            )
            for kind, (read, read_bits, written, written_bits) in self._counts[layer].items()
        }
