"""The current and former names of the statements of a definition.

A stored instance refers to its statements only by name, so each current or former name must identify one statement.
Decisions and loops (``If``, ``Switch``, ``While``) are never stored, so their names are only labels.
There are two tables of former names, because instances store two kinds of names: the names of statements and threads,
and the names of events, timers and results, which arrive from outside. A timer or an activity has both.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from workflow_core.errors import DefinitionError
from workflow_core.statements.basic import Section
from workflow_core.stored_parts import MAIN_THREAD


class FormerNames:
    """The former names of one kind, each with its current name."""

    def __init__(self) -> None:
        self.now: dict[str, str] = {}
        self.kinds: dict[str, str] = {}

    def add(self, kind: str, former: str, name: str) -> None:
        """Adds ``former`` as a former name of ``name``.

        Raises:
            DefinitionError: another statement has the same former name.
        """
        if self.now.setdefault(former, name) != name:
            raise DefinitionError(
                f"{kind} {name!r}",
                f"its former name {former!r} is also a former name of {self.kinds[former]} {self.now[former]!r}",
                "Keep it only in the renamed_from of the statement where instances should continue.",
            )
        self.kinds[former] = kind

    def check(self, living: Mapping[str, str]) -> None:
        """Raises ``DefinitionError`` if a former name is also a current name, because an instance with this name could
        be at either statement."""
        for former, name in self.now.items():
            if former in living:
                raise DefinitionError(
                    f"{self.kinds[former]} {name!r}",
                    f"its former name {former!r} is the name of {living[former]} in this definition",
                    "Remove it from renamed_from, or rename the other statement.",
                )


class Names:
    """All names of a definition, and the prefixes of the section that is being compiled."""

    def __init__(self) -> None:
        self.prefix = ""
        self.former_prefixes: tuple[str, ...] = ()
        self.used: dict[str, str] = {MAIN_THREAD: "the main thread"}
        self.renamed = FormerNames()
        self.internal: dict[str, str] = {}
        """The kind of each wait for something that clients do not send, by its name."""
        self.renamed_waits = FormerNames()

    def add(self, kind: str, name: str, renamed_from: tuple[str, ...] = ()) -> str:
        """Registers a statement with its former names, and returns its qualified name.

        Raises:
            DefinitionError: the name is taken.
        """
        former_names = self._former(name, renamed_from)
        name = self.prefix + name
        for former in former_names:
            self.renamed.add(kind, former, name)
        if name in self.used:
            raise DefinitionError(
                f"{kind} {name!r}",
                f"the name is taken by {self.used[name]}",
                'Rename one, or give one of two sections a prefix: S(..., prefix="...").',
            )
        self.used[name] = f"an {kind}" if kind[0] in "IOAe" else f"a {kind}"
        return name

    def add_wait(self, kind: str, name: str, renamed_from: tuple[str, ...]) -> str:
        """Like ``add``, for a statement that waits for something that clients do not send."""
        former_names = self._former(name, renamed_from)
        name = self.add(kind, name, renamed_from)
        self.internal[name] = kind
        for former in former_names:
            self.renamed_waits.add(kind, former, name)
        return name

    def _former(self, name: str, renamed_from: tuple[str, ...]) -> list[str]:
        """Returns the former qualified names of a statement. It has some if it or a section around it was renamed."""
        prefixes = (self.prefix, *self.former_prefixes)
        _, *former_names = (prefix + local for prefix in prefixes for local in (name, *renamed_from))
        return list(dict.fromkeys(former_names))

    def enter(self, section: Section) -> tuple[str, tuple[str, ...]]:
        """Adds the prefixes of a section. Returns the previous ones, for ``restore``."""
        outer, former = self.prefix, self.former_prefixes
        if section.prefix:
            self.prefix = f"{outer}{section.prefix}/"
        if section.renamed_from or former:
            parts = [f"{part}/" if part else "" for part in (section.prefix, *section.renamed_from)]
            prefixes = dict.fromkeys(before + part for before in (outer, *former) for part in parts)
            self.former_prefixes = tuple(prefix for prefix in prefixes if prefix != self.prefix)
        return outer, former

    def restore(self, prefixes: tuple[str, tuple[str, ...]]) -> None:
        """Replaces the prefixes."""
        self.prefix, self.former_prefixes = prefixes

    def check(self, events: AbstractSet[str]) -> None:
        """Raises ``DefinitionError`` if a name is ambiguous. Called when all names are known."""
        for name in events & self.internal.keys():
            raise DefinitionError(
                f"{self.internal[name]} {name!r}",
                "an event has the same name, so what happened would be ambiguous",
                "Rename one.",
            )
        self.renamed.check(self.used)
        self.renamed_waits.check(dict.fromkeys(events, "an event") | {name: self.used[name] for name in self.internal})
