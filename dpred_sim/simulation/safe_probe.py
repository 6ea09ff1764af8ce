"""A probe that never fails the run."""

from __future__ import annotations

import warnings

from dpred_sim.components.probe import NO_SPAN, Probe


class SafeProbe:
    """Passes everything on to an observer until it fails; then says so once and stays silent."""

    def __init__(self, observer: Probe) -> None:
        self._observer: Probe | None = observer
        self.error: Exception | None = None

    def span(
        self,
        component: str,
        state: str,
        start_ps: int,
        end_ps: int,
        layer: str,
        transfer: str | None = None,
        cause: int | None = None,
    ) -> int:
        """Pass on; NO_SPAN once detached."""
        if self._observer is None:
            return NO_SPAN
        try:
            return self._observer.span(component, state, start_ps, end_ps, layer, transfer, cause)
        except Exception as error:
            self._detach(error)
            return NO_SPAN

    def counter(self, component: str, name: str, time_ps: int, value: float) -> None:
        """Pass on, unless detached."""
        if self._observer is None:
            return
        try:
            self._observer.counter(component, name, time_ps, value)
        except Exception as error:
            self._detach(error)

    def _detach(self, error: Exception) -> None:
        self.error = error
        observer = type(self._observer).__name__
        self._observer = None
        warnings.warn(f"observer {observer} failed and is detached: {error!r}", stacklevel=3)
