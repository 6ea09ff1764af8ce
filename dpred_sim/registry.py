"""Named plug-ins: codecs, designs, component kinds, importers.

Built-ins register themselves with a decorator, one scan of their folder imports them, and entry
points of other distributions feed the same registry.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from dpred_sim.errors import InputError, nearest

T = TypeVar("T", bound=Callable[..., Any])


class Registry(Generic[T]):
    """Classes of one kind by name.

    `noun` is how errors call an entry, `package` the folder that holds the built-ins, `group` the
    entry point group of third parties.
    """

    def __init__(self, noun: str, package: str, group: str) -> None:
        self.noun = noun
        self.package = package
        self.group = group
        self._entries: dict[str, T] = {}
        self._scanned = False

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that enters a class under `name`.

        Raises InputError when the name is taken; the message names both origins.
        """

        def enter(cls: T) -> T:
            known = self._entries.get(name)
            if known is not None and _origin(known) != _origin(cls):
                raise InputError(f"two {self.noun}s are called {name!r}: {_origin(known)} and {_origin(cls)}")
            self._entries[name] = cls
            return cls

        return enter

    def names(self) -> list[str]:
        """All names, sorted."""
        self._scan()
        return sorted(self._entries)

    def get(self, name: str) -> T:
        """The class registered under `name`; raises InputError with the nearest known name."""
        if name not in self._entries:
            self._import_module_called(name)
        try:
            return self._entries[name]
        except KeyError:
            raise InputError(
                f"unknown {self.noun}{nearest(str(name), self._entries)}", found=name, allowed=self.names()
            ) from None

    def create(self, name: str, parameters: Mapping[str, Any] | None = None) -> Any:
        """An instance; raises InputError for an unknown parameter, naming the allowed ones."""
        cls = self.get(name)
        parameters = dict(parameters or {})
        allowed = parameter_names(cls)
        for key in parameters:
            if key not in allowed:
                raise InputError(
                    f"unknown parameter of {self.noun} {name!r}{nearest(key, allowed)}",
                    field=key,
                    allowed=allowed,
                )
        return cls(**parameters)

    def _import_module_called(self, name: str) -> None:
        """Import one built-in, which as a rule is in the module of its name; else scan for it.

        A command that needs one design need not import all of them.
        """
        if str(name).isidentifier() and not self._scanned:
            package = importlib.import_module(self.package)
            if any(module.name == name for module in pkgutil.iter_modules(package.__path__)):
                importlib.import_module(f"{self.package}.{name}")
                twins = [point for point in entry_points(group=self.group) if point.name == name]
                for point in twins:
                    self.register(name)(point.load())
        if name not in self._entries:
            self._scan()

    def _scan(self) -> None:
        if self._scanned:
            return
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self.package}.{module.name}")
        for point in entry_points(group=self.group):
            self.register(point.name)(point.load())
        # Last: a module that failed to import fails again, and leaves no half-filled registry.
        self._scanned = True


def parameter_names(cls: Callable[..., Any]) -> list[str]:
    """Names of the keyword parameters that `cls` is built from."""
    return [name for name in inspect.signature(cls).parameters if name != "self"]


def _origin(cls: Any) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
