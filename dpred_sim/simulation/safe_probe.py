"""A probe that never fails the run."""

from __future__ import annotations

import warnings

from dpred_sim.components.probe import NO_SPAN, Probe


class SafeProbe:
    """Passes everything on to an observer until it fails; then says so once and stays silent."""

    def __init__(self, observer: Probe) -> None:
        self._observer = observer
        self.active = True
        self.error: Exception | None = None

    def span(
        self,
        component: str,
        state: str,
        start_ps: int,
        end_ps: int,
        layer: str,
        transfer: int = NO_SPAN,
        cause: int = NO_SPAN,
        bits: int = 0,
    ) -> int:
        """Pass on; NO_SPAN once detached."""
        if not self.active:
            return NO_SPAN
        try:
            return self._observer.span(component, state, start_ps, end_ps, layer, transfer, cause, bits)
        except Exception as error:
            self._detach(error)
            return NO_SPAN

    def counter(self, component: str, name: str, time_ps: int, value: float) -> None:
        """Pass on, unless detached."""
        if not self.active:
            return
        try:
            self._observer.counter(component, name, time_ps, value)
        except Exception as error:
            self._detach(error)

    def transfer(
        self,
        engine: str,
        what: str,
        layer: str,
        write: bool,
        address: int,
        size_bytes: int,
        raw_bits: int,
        time_ps: int,
        cause: int = NO_SPAN,
    ) -> int:
        """Pass on; NO_SPAN once detached."""
        if not self.active:
            return NO_SPAN
        try:
            return self._observer.transfer(
                engine, what, layer, write, address, size_bytes, raw_bits, time_ps, cause
            )
        except Exception as error:
            self._detach(error)
            return NO_SPAN

    def use(self, transfer: int, span: int) -> None:
        """Pass on, unless detached."""
        if not self.active:
            return
        try:
            self._observer.use(transfer, span)
        except Exception as error:
            self._detach(error)

    def _detach(self, error: Exception) -> None:
        self.error = error
        self.active = False
        observer = type(self._observer).__name__
        warnings.warn(f"observer {observer} failed and is detached: {error!r}", stacklevel=3)
