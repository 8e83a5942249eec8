"""Flow: which locals each part needs, and whether they are assigned on every path.

Liveness runs backwards: a local is live where a later part may read it. A thread stores only the locals that are live
where it rests. Assignment runs forwards, as Python's compilers for other languages do it ("definite assignment"): a
local that a later part reads must be assigned on every path, because what was never stored cannot be loaded.

A part inside of a ``try`` may be left at any moment for its handlers, so what these read is live everywhere inside.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from workflow_core.plain.parts import (
    NOW,
    RESULT,
    RETURNED,
    Branch,
    Called,
    Code,
    Derived,
    Each,
    Exit,
    Fork,
    Frame,
    Guarded,
    Limited,
    Loop,
    Part,
    Spawn,
    Wait,
)
from workflow_core.plain.usage import Usage
from workflow_core.records import record
from workflow_core.stored_parts import LeaveKind

Keys = frozenset[str]
_NONE: Keys = frozenset()


# --- what one part uses ----------------------------------------------------------------------


def keys_of(frame: Frame, derived: tuple[Derived, ...], names: Iterable[str]) -> Keys:
    """Returns the keys of the locals behind some variables. One that is derived stands for what it is derived from."""
    keys: set[str] = set()
    for name in names:
        for number in range(len(derived) - 1, -1, -1):
            if name in derived[number].names or name == derived[number].source:
                keys |= derived[number].reads
                break
        else:
            if name not in (RESULT, NOW):
                keys.add(frame.key(name))
    return frozenset(keys)


def usage_of(part: Part) -> Usage:
    """Returns how a part itself uses variables, without the parts inside."""
    variables = part.frame.variables
    if isinstance(part, Code):
        return Usage(variables, part.statements)
    if isinstance(part, (Branch, Loop)) and part.test is not None:
        return Usage(variables, [part.test])
    if isinstance(part, Each):
        return Usage(variables, [part.items])
    if isinstance(part, Limited):
        return Usage(variables, [part.delay])
    if isinstance(part, Spawn) and part.id is not None:
        return Usage(variables, [part.id])
    usage = Usage(variables)
    if isinstance(part, Wait):
        usage.reads |= part.reads
    return usage


def reads_of(part: Part, usage: Usage | None = None) -> Keys:
    """Returns the keys of the locals that a part itself reads."""
    return keys_of(part.frame, part.derived, (usage or usage_of(part)).reads)


def writes_of(part: Part, names: Iterable[str]) -> Keys:
    """Returns the keys of the locals behind variables that a part assigns."""
    return frozenset(part.frame.key(name) for name in names)


# --- liveness --------------------------------------------------------------------------------


@record(frozen=True)
class _Ways:
    """What is live at the places that a part may jump to."""

    broken: Keys = _NONE
    continued: Keys = _NONE
    returned: Keys = _NONE
    raised: Keys = _NONE

    def of(self, kind: LeaveKind) -> Keys:
        return {LeaveKind.BREAK: self.broken, LeaveKind.CONTINUE: self.continued}.get(kind, self.returned)

    @property
    def all(self) -> Keys:
        return self.broken | self.continued | self.returned | self.raised


def find_live(parts: Sequence[Part]) -> None:
    """Sets ``live`` of each part: the keys that a thread resting there must store."""
    _live(parts, _NONE, _Ways())


def _live(parts: Sequence[Part], after: Keys, ways: _Ways) -> Keys:
    for part in reversed(parts):
        after = _before(part, after, ways)
    return after


def _before(part: Part, after: Keys, ways: _Ways) -> Keys:
    usage = usage_of(part)
    reads = reads_of(part, usage)
    match part:
        case Code():
            left = after | ways.raised
            for kind in part.exits:
                left |= ways.of(kind)
            part.live = left
            kept = writes_of(part, usage.may_keep) & left | writes_of(part, usage.reads_kept)
            return reads | kept | (left if part.exits else left - writes_of(part, usage.written))
        case Wait():
            part.live = after | ways.raised | reads
            return part.live
        case Branch():
            return reads | _live(part.body, after, ways) | _live(part.orelse, after, ways)
        case Loop() | Each():
            return _loop(part, reads, after, ways)
        case Exit():
            return ways.of(part.kind) | ways.raised
        case Guarded():
            return _guarded(part, after, ways)
        case Limited():
            # Inside, its delay is needed again if the instance fails there and is retried.
            return reads | _live(part.body, after, replace(ways, raised=ways.raised | reads))
        case Called():
            return _live(part.body, after, replace(ways, broken=_NONE, continued=_NONE, returned=after))
        case Fork():
            part.live = after | ways.raised
            for branch in part.branches:
                part.live |= _live(branch, _NONE, _Ways())
            return part.live
        case Spawn():
            part.live = _live(part.body, _NONE, _Ways())
            return reads | after | part.live
    raise TypeError(part)


def _loop(part: Loop | Each, reads: Keys, after: Keys, ways: _Ways) -> Keys:
    if isinstance(part, Each) and part.parallel:
        part.live = after | ways.raised | reads | _live(part.body, _NONE, _Ways())
        return part.live
    head = reads | after if not isinstance(part, Loop) or part.test is not None else reads
    while True:  # until nothing is added
        inside = replace(ways, broken=after, continued=head)
        grown = head | _live(part.body, head, inside)
        if grown == head:
            return head
        head = grown


def _guarded(part: Guarded, after: Keys, ways: _Ways) -> Keys:
    if part.final is not None:
        # An error of the cleanup goes to the handlers around it.
        end = _live(part.final, after | ways.all, ways) | ways.raised
        after, ways = end, _Ways(end, end, end, end)
    raised = ways.raised
    for handler in part.handlers:
        raised |= _live(handler.body, after, ways)
    return _live(part.body, after, replace(ways, raised=raised)) | raised


# --- assignment ------------------------------------------------------------------------------


class _Assignment:
    """Follows which locals are assigned; None stands for a place that is never reached."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.writers: dict[str, set[int]] = {}
        self._note(parts)
        self.broken: list[Keys] = []

    def _note(self, parts: Sequence[Part]) -> None:
        for part in parts:
            for key in writes_of(part, usage_of(part).may_write):
                self.writers.setdefault(key, set()).add(id(part))
            for inner in inner_parts(part):
                self._note(inner)

    def run(self, parts: Sequence[Part], assigned: Keys | None) -> Keys | None:
        for part in parts:
            if assigned is None:
                break
            assigned = self._after(part, assigned)
        return assigned

    def _check(self, part: Part, usage: Usage, assigned: Keys) -> None:
        for name in sorted(usage.reads):
            for key in keys_of(part.frame, part.derived, (name,)) - assigned:
                writers = self.writers.get(key, set())
                if writers == {id(part)} and key not in part.live:
                    part.unbound.add(name)
                    continue
                shown = name if not name.startswith((".", "/")) else key
                raise part.frame.source.mistake(
                    part.line,
                    f"the local {shown!r} may not be assigned here",
                    "Assign it on every path, for example before the branch or loop.",
                )

    def _after(self, part: Part, assigned: Keys) -> Keys | None:
        usage = usage_of(part)
        self._check(part, usage, assigned)
        # A ``finally`` is followed twice.
        part.assigned = assigned if part.assigned is None else part.assigned & assigned
        match part:
            case Code():
                part.kept = {name for name in usage.may_keep if part.frame.key(name) in assigned}
                if LeaveKind.BREAK in part.exits:
                    self.broken.append(assigned)
                return None if usage.ends else assigned | writes_of(part, usage.written)
            case Branch():
                assigned |= writes_of(part, usage.written)
                given = writes_of(part, part.given)
                return _both(self.run(part.body, assigned | given), self.run(part.orelse, assigned))
            case Loop() | Each():
                return self._loop(part, usage, assigned)
            case Exit():
                if part.kind is LeaveKind.BREAK:
                    self.broken.append(assigned)
                return None
            case Guarded():
                return self._guarded(part, assigned)
            case Limited():
                return self.run(part.body, assigned)
            case Called():
                self.run(part.body, assigned)
                return assigned | {part.inner.key(RETURNED)}
            case Fork():
                for branch in part.branches:
                    self.run(branch, assigned)
                return assigned | self._passed(part)
            case Spawn():
                self.run(part.body, assigned)
        return assigned

    def _passed(self, part: Fork) -> Keys:
        """What the branches assign in the thread that waits for them."""
        return frozenset(part.frame.key(f".{part.name}[{number}]") for number in range(len(part.branches)))

    def _loop(self, part: Loop | Each, usage: Usage, assigned: Keys) -> Keys | None:
        outer, self.broken = self.broken, []
        assigned |= writes_of(part, usage.written)
        self.run(part.body, assigned)
        ends = self.broken
        if not isinstance(part, Loop) or part.test is not None:
            ends = [*ends, assigned]
        self.broken = outer
        return frozenset.intersection(*ends) if ends else None

    def _guarded(self, part: Guarded, assigned: Keys) -> Keys | None:
        ends = [self.run(part.body, assigned)]
        ends += [self.run(handler.body, assigned) for handler in part.handlers]
        reached = [end for end in ends if end is not None]
        after = frozenset.intersection(*reached) if reached else None
        if part.final is None:
            return after
        self.run(part.final, assigned)
        return None if after is None else self.run(part.final, after)


def _both(first: Keys | None, second: Keys | None) -> Keys | None:
    if first is None or second is None:
        return second if first is None else first
    return first & second


def inner_parts(part: Part) -> list[list[Part]]:
    """Returns the lists of the parts inside of a part."""
    match part:
        case Branch():
            return [part.body, part.orelse]
        case Loop() | Each() | Called() | Spawn() | Limited():
            return [part.body]
        case Guarded():
            return [part.body, *(handler.body for handler in part.handlers), part.final or []]
        case Fork():
            return part.branches
    return []


def all_parts(parts: Iterable[Part]) -> Iterator[Part]:
    """Yields parts and all parts inside."""
    for part in parts:
        yield part
        for inner in inner_parts(part):
            yield from all_parts(inner)


def check_assigned(parts: Sequence[Part]) -> None:
    """Checks that each local is assigned before it is read.

    Raises:
        DefinitionError: one may not be.
    """
    _Assignment(parts).run(parts, _NONE)


def entry_of(parts: Sequence[Part]) -> Keys:
    """Returns the keys of the locals that a thread needs when it starts with these parts."""
    return _live(parts, _NONE, _Ways())
