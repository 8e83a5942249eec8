"""A definition as text: the tree of its statements, with the lines of the source and the locals that are stored.

It knows statements only by their attributes, so a new kind of statement needs nothing here.
"""

from __future__ import annotations

import inspect
import linecache
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from workflow_core.diagrams.describe import in_words, shown_delay
from workflow_core.execution import is_hidden
from workflow_core.plain.methods import plain_run
from workflow_core.program.program import Program
from workflow_core.signatures import OfFrame
from workflow_core.statements.basic import Part, Section, Statement
from workflow_core.statements.control import If, Switch
from workflow_core.statements.failures import Except
from workflow_core.statements.inline import CallOf, Entry, Inline, Local, Resting
from workflow_core.workflow import Workflow

_CODE_CHARS = 80
_WORDS = {"Go": "go", "WaitFor": "wait for", "ForEach": "for", "Except": "except", "On": "on"}
_BRANCHES = {If: ("if", "elif", "else"), Switch: ("case", "case", "default")}
_OTHER_BRANCH = re.compile(r"case .|else( #\d+)?$")
"""The names of the branches that a ``match`` and the ``else`` of a loop or of a ``try`` become."""
_FUNCTIONS = ("handler", "action", "function", "input", "then", "cond")


_UNKNOWN = ("", 0)


@dataclass(frozen=True, slots=True)
class _Row:
    """A line of the tree: its depth, its text, and the file and the line of the source; line 0: not known."""

    depth: int
    text: str
    place: tuple[str, int] = _UNKNOWN

    @property
    def line(self) -> int:
        return self.place[1]


def explain(cls: type[Workflow]) -> str:
    """Returns the name of a workflow, where it is defined, and its ``outline``."""
    form = "definition" if plain_run(cls) is None else "async def run"
    head = f"{cls.__workflow_name__}: {form} of {cls.__qualname__}, {inspect.getsourcefile(cls)}"
    return f"{head}\n\n{outline(cls.__program__, inspect.getsourcefile(cls))}"


def outline(program: Program, file: str | None = None) -> str:
    """Returns the statements of a definition as indented lines.

    Args:
        file: the file of the workflow. The first of several lines of another file names that file.

    Each line starts with the number of its line in the source, if it was compiled from ``async def run``. A statement
    at which a thread rests names the locals that are stored there; ``code`` runs in the commit of what came before it.
    """
    rows = list(_section(program.definition, 0))
    if file is not None:
        rows = list(_naming_files(rows, file))
    width = max((len(str(row.line)) for row in rows if row.line), default=0)
    lines = (f"{row.line or '':>{width}}  {'  ' * row.depth}{row.text}" for row in rows)
    return "\n".join(line.rstrip() if width else line[2:] for line in lines)


def _naming_files(rows: Iterable[_Row], file: str) -> Iterator[_Row]:
    for row in rows:
        if row.line and row.place[0] not in ("", file):
            file = row.place[0]
            row = replace(row, text=f"{row.text}  [{Path(file).name}]")
        yield row


def _section(section: Section, depth: int) -> Iterator[_Row]:
    if section.prefix:
        yield _Row(depth, f"section {section.prefix}")
        depth += 1
    place = _UNKNOWN
    for statement in section.statements:
        yield from _statement(statement, depth, place=place)
        place = _UNKNOWN
        if isinstance(statement, Inline):
            place = statement.function.place[0], statement.next_line


def _statement(
    item: Any, depth: int, locals: tuple[Local, ...] = (), place: tuple[str, int] = _UNKNOWN
) -> Iterator[_Row]:
    match item:
        case Section():
            yield from _section(item, depth)
        case CallOf(body):
            yield from _section(body, depth)
        case Resting(statement, stored, place):
            yield from _statement(statement, depth, stored, place)
        case Entry(stored):
            if names := _names(stored):
                yield _Row(depth, f"starts with {names}")
        case Inline(_, function):
            if item.lines[0]:
                text = f"code: {_source_text(function, *item.lines)}"
                yield _Row(depth, text, (function.place[0], item.lines[0]))
        case If() | Switch():
            yield from _branches(item, depth)
        case _:
            own = max(map(_place_of, _functions(item)), default=_UNKNOWN, key=lambda found: found[1])
            yield _Row(depth, _text(item, locals), own if own[1] else place)
            yield from _parts(item, depth + 1)


def _branches(item: If | Switch, depth: int) -> Iterator[_Row]:
    first, next_, last = _BRANCHES[type(item)]
    if isinstance(item, Switch):
        yield _Row(depth, f"switch {item.name}")
    for number, branch in enumerate(item.branches):
        word = last if branch.cond is None else next_ if number else first
        name = "" if branch.cond is None else branch.name.removeprefix(f"{first} ")
        text = name if _OTHER_BRANCH.match(name) else f"{word} {name}".rstrip()
        yield _Row(depth, text, _UNKNOWN if branch.cond is None else _place_of(branch.cond))
        yield from _section(branch.body, depth + 1)


def _text(item: Any, locals: tuple[Local, ...]) -> str:
    """Returns the kind of a statement, its name, and what else a reader wants to know of it."""
    kind = type(item).__name__
    word = _WORDS.get(kind, kind.lower())
    if getattr(item, "parallel", False):
        word = "parallel for"
    name = str(getattr(item, "event", None) or getattr(item, "name", ""))
    text = f"{word} {name.removeprefix(f'{word} ')}".rstrip()
    notes = []
    if (role := getattr(item, "role", None)) is not None:
        notes.append(f"role {role}")
    if (delay := getattr(item, "delay", None)) is not None:
        notes.append(in_words(shown_delay(delay)))
    if types := getattr(item, "types", ()):
        notes.append(" or ".join(cls.__name__ for cls in types))
    if (workflow := getattr(item, "workflow", None)) is not None:
        notes.append(f"workflow {workflow if isinstance(workflow, str) else workflow.__workflow_name__}")
    if limit := getattr(item, "limit", None):
        notes.append(f"at most {limit} at a time")
    called = [function for function in _functions(item) if not isinstance(function, OfFrame)]
    notes += [f"calls {name}" for function in called if (name := getattr(function, "__name__", "")) and "<" not in name]
    if names := _names(locals):
        notes.append(f"stores {names}")
    return f"{text} ({', '.join(notes)})" if notes else text


def _functions(item: Any) -> list[Callable[..., Any]]:
    """Returns the functions of a statement itself, but not the one that only hands a result to ``run``."""
    own = [getattr(item, name, None) for name in (*_FUNCTIONS, "items", "id", "delay", "message")]
    return [function for function in own if callable(function) and getattr(function, "__name__", "") != "take"]


def _parts(item: Any, depth: int) -> Iterator[_Row]:
    """Yields what a statement contains: sections, cases and clauses, in their order."""
    for field in fields(item):
        value = getattr(item, field.name)
        if isinstance(value, Section) and field.name == "cleanup":
            yield _Row(depth, "finally")
            yield from _section(value, depth + 1)
        elif isinstance(value, Section):
            yield from _section(value, depth)
        elif isinstance(value, tuple):
            for part in value:
                if isinstance(part, (Statement, Part, Except)):
                    yield from _statement(part, depth)


def _names(locals: tuple[Local, ...]) -> str:
    return ", ".join(local.key for local in locals if not is_hidden(local.key))


def _place_of(function: object) -> tuple[str, int]:
    return function.place if isinstance(function, OfFrame) else _UNKNOWN


def _source_text(function: OfFrame, first: int, last: int) -> str:
    """Returns the first line of code. ``...`` stands for the rest of a long line, and for the lines that follow."""
    text = linecache.getline(function.place[0], first).strip()
    if len(text) > _CODE_CHARS:
        return f"{text[: _CODE_CHARS - 3]}..."
    return text if last == first else f"{text} ..."
