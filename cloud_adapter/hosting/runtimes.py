"""Which runtime serves the workflows: the one for the database of the settings, built in or of another package.

A package adds a runtime for its own database with an entry point of the group ``gorchestrate.runtimes``. Its name is
the scheme of the database's URL, and its value is a ``RuntimeFactory``::

    [project.entry-points."gorchestrate.runtimes"]
    cockroachdb = "gorchestrate_cockroachdb:CockroachRuntime"
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Sequence
from contextvars import Context
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Final, Protocol

from cloud_adapter.engine.engine import Engine
from cloud_adapter.errors import SettingsError
from cloud_adapter.settings import FILE_SCHEME, Settings
from workflow_core import Workflow

GROUP: Final = "gorchestrate.runtimes"

_BUILT_IN: Final = {
    FILE_SCHEME: ("cloud_adapter.hosting.embedded", "EmbeddedRuntime", ""),
    "postgresql": ("cloud_adapter.hosting.postgresql", "PostgresqlRuntime", "postgresql"),
    "postgres": ("cloud_adapter.hosting.postgresql", "PostgresqlRuntime", "postgresql"),
}
"""For each scheme: module, class, and the extra of this package that it needs. Imported lazily, because a process needs
only one of them."""

_CLOUD: Final = ("cloud_adapter.hosting.cloud", "CloudRuntime", "")


class Runtime(Protocol):
    """An engine, with what it runs on.

    Attributes:
        settings: those with which it was made.
    """

    settings: Settings

    @property
    def engine(self) -> Engine: ...

    async def start(self, context: Context | None = None) -> None:
        """Begins to work, in the event loop in which all else is called. Repeated calls have no effect.

        Args:
            context: the context variables of steps and activities; by default the current ones.

        Raises:
            SettingsError: the database cannot be used. The message gives the reason and the fix.
        """
        ...

    async def close(self) -> None:
        """Stops the work, and closes everything. May be called repeatedly, and without ``start``."""
        ...


class RuntimeFactory(Protocol):
    """Makes a runtime. It does not start it."""

    def __call__(
        self,
        workflows: Sequence[type[Workflow]],
        settings: Settings,
        *,
        internal: Collection[type[Workflow]] = (),
    ) -> Runtime:
        """Returns a runtime for these workflows. The internal ones are those that no client may address."""
        ...


def runtime_for(settings: Settings) -> RuntimeFactory:
    """Returns what makes the runtime for the backend and the database of the settings.

    Raises:
        SettingsError: no runtime supports the database, or a package that it needs is not installed.
    """
    if settings.backend == "cloud":
        return _imported(*_CLOUD)
    scheme = settings.database_scheme
    if scheme in _BUILT_IN:
        return _imported(*_BUILT_IN[scheme])
    found = {entry.name.lower(): entry for entry in entry_points(group=GROUP)}  # as the scheme, which has no capitals
    if scheme in found:
        return _loaded(found[scheme])
    known = ", ".join(sorted({*_BUILT_IN, *found}))
    raise SettingsError(f"no runtime supports a database with the URL {scheme}://... Available: {known}")


def _imported(module: str, name: str, extra: str) -> RuntimeFactory:
    try:
        factory: RuntimeFactory = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        if not extra:
            raise
        raise SettingsError(f"{error}: install the extra with pip install 'gorchestrate[{extra}]'") from error
    return factory


def _loaded(entry: EntryPoint) -> RuntimeFactory:
    try:
        factory: RuntimeFactory = entry.load()
    except Exception as error:
        raise SettingsError(f"the runtime {entry.value} of {entry.name}:// cannot be imported: {error}") from error
    check_factory(factory, f"the runtime {entry.value} of {entry.name}://")
    return factory


def check_factory(factory: object, what: str) -> None:
    """Checks that an object can be called as a ``RuntimeFactory``.

    Args:
        what: how the message names it.

    Raises:
        SettingsError: it cannot.
    """
    problem = "is not a function or a class"
    if callable(factory):
        try:
            inspect.signature(factory).bind((), None, internal=())
        except TypeError as error:
            problem = f"cannot be called: {error}"
        except ValueError:  # a function in C may have no signature
            return
        else:
            if not inspect.iscoroutinefunction(factory):
                return
            problem = "is async"
    raise SettingsError(
        f"{what} {problem}. Write def make_runtime(workflows, settings, *, internal=()), which returns a runtime"
    )
