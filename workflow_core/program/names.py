"""Names: what the statements of a definition are called, and what they were called before.

An instance that is stored knows where it stands by name alone, so a name must mean one statement, now and by all of
``renamed_from``. Two tables of former names are kept, as two kinds of names are stored: those of statements and
threads, and those under which something comes from outside (an event, a timer, a result). A timer or an activity has
both.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from workflow_core.errors import DefinitionError
from workflow_core.execution import MAIN_THREAD
from workflow_core.statements.basic import Section


class FormerNames:
    """The former names of one kind, and what each of them is called now."""

    def __init__(self) -> None:
        self.now: dict[str, str] = {}
        self.kinds: dict[str, str] = {}

    def add(self, kind: str, former: str, name: str) -> None:
        """Notes that ``name`` was ``former`` before.

        Raises:
            DefinitionError: something else claims it as well.
        """
        if self.now.setdefault(former, name) != name:
            raise DefinitionError(
                f"{kind} {name!r}",
                f"its former name {former!r} is claimed by {self.kinds[former]} {self.now[former]!r} too",
                "Give renamed_from to the one at which instances are to go on.",
            )
        self.kinds[former] = kind

    def check(self, living: Mapping[str, str]) -> None:
        """Refuses a former name that something has now: it could not be told which an instance stands on."""
        for former, name in self.now.items():
            if former in living:
                raise DefinitionError(
                    f"{self.kinds[former]} {name!r}",
                    f"its former name {former!r} is that of {living[former]} in this definition",
                    "Take it out of renamed_from, or give the other one another name.",
                )


class Names:
    """All names of a definition, and the prefixes of the section that is being compiled."""

    def __init__(self) -> None:
        self.prefix = ""
        self.former_prefixes: tuple[str, ...] = ()
        self.used: dict[str, str] = {MAIN_THREAD: "the main thread"}
        self.renamed = FormerNames()
        self.internal: dict[str, str] = {}
        """What is waited for and no client sends: its name and its kind."""
        self.renamed_waits = FormerNames()

    def add(self, kind: str, name: str, renamed_from: tuple[str, ...] = ()) -> str:
        """The qualified name of a statement, noted as used, as are those that it had before."""
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
        """The same for what is waited for and no client sends."""
        former_names = self._former(name, renamed_from)
        name = self.add(kind, name, renamed_from)
        self.internal[name] = kind
        for former in former_names:
            self.renamed_waits.add(kind, former, name)
        return name

    def _former(self, name: str, renamed_from: tuple[str, ...]) -> list[str]:
        """The qualified names that a statement had before, because it or a section around it was renamed."""
        prefixes = (self.prefix, *self.former_prefixes)
        _, *former_names = (prefix + local for prefix in prefixes for local in (name, *renamed_from))
        return list(dict.fromkeys(former_names))

    def enter(self, section: Section) -> tuple[str, tuple[str, ...]]:
        """Takes the prefixes of a section, too; returns those before, for ``restore``."""
        outer, former = self.prefix, self.former_prefixes
        if section.prefix:
            self.prefix = f"{outer}{section.prefix}/"
        if section.renamed_from or former:
            parts = [f"{part}/" if part else "" for part in (section.prefix, *section.renamed_from)]
            prefixes = dict.fromkeys(before + part for before in (outer, *former) for part in parts)
            self.former_prefixes = tuple(prefix for prefix in prefixes if prefix != self.prefix)
        return outer, former

    def restore(self, prefixes: tuple[str, tuple[str, ...]]) -> None:
        """Takes other prefixes instead."""
        self.prefix, self.former_prefixes = prefixes

    def check(self, events: AbstractSet[str]) -> None:
        """Refuses names that mean two things, once all are known."""
        for name in events & self.internal.keys():
            raise DefinitionError(
                f"{self.internal[name]} {name!r}",
                "an event has the same name, so it cannot be told which has happened",
                "Rename one.",
            )
        self.renamed.check(self.used)
        self.renamed_waits.check(dict.fromkeys(events, "an event") | {name: self.used[name] for name in self.internal})
