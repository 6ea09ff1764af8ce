"""A probe that never fails the run."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Sequence

from dpred_sim.components.probe import NO_SPAN, Probe


def guarded(observer: Probe) -> Probe:
    """An observer that never fails: itself if it says so (`guards_itself`), else a `SafeProbe` around it."""
    return observer if getattr(observer, "guards_itself", False) else SafeProbe(observer)


class SafeProbe:
    """Passes everything on to an observer until it fails; then says so once and stays silent.

    An observer needs `span` and `counter` only: it is not told of transfers and uses if it has no such
    methods, hears of groups one by one without `span_group`, and nothing of bits if its `span` has no
    place for them.
    """

    def __init__(self, observer: Probe) -> None:
        self._observer = observer
        self._takes_bits = _takes(observer.span, 8)
        self._takes_groups = hasattr(observer, "span_group")
        self._takes_transfers = hasattr(observer, "transfer")
        self._takes_uses = hasattr(observer, "use")
        self._transfers = 0
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
            if not self._takes_bits:
                return self._observer.span(component, state, start_ps, end_ps, layer, transfer, cause)
            return self._observer.span(component, state, start_ps, end_ps, layer, transfer, cause, bits)
        except Exception as error:
            self._detach(error)
            return NO_SPAN

    def span_group(
        self, components: Sequence[str], state: str, start_ps: int, end_ps: int, layer: str, cause: int
    ) -> None:
        """Pass on, one by one to an observer that takes it no other way."""
        if not self.active:
            return
        if not self._takes_groups:
            for component in components:
                self.span(component, state, start_ps, end_ps, layer, NO_SPAN, cause)
            return
        try:
            self._observer.span_group(components, state, start_ps, end_ps, layer, cause)
        except Exception as error:
            self._detach(error)

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
        if not self._takes_transfers:
            self._transfers += 1
            return self._transfers - 1
        try:
            return self._observer.transfer(
                engine, what, layer, write, address, size_bytes, raw_bits, time_ps, cause
            )
        except Exception as error:
            self._detach(error)
            return NO_SPAN

    def use(self, transfers: Sequence[int], span: int) -> None:
        """Pass on, unless detached."""
        if not self.active or not self._takes_uses:
            return
        try:
            self._observer.use(transfers, span)
        except Exception as error:
            self._detach(error)

    def _detach(self, error: Exception) -> None:
        self.error = error
        self.active = False
        observer = type(self._observer).__name__
        warnings.warn(f"observer {observer} failed and is detached: {error!r}", stacklevel=3)


def _takes(method: object, count: int) -> bool:
    """Whether a method can be called with `count` positional arguments; True where nothing is known of it."""
    try:
        inspect.signature(method).bind(*range(count))  # type: ignore[arg-type]
    except ValueError:
        return True
    except TypeError:
        return False
    return True
