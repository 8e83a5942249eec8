"""The statements for items and parallel branches: ``ForEach``, ``Parallel`` and ``Race``.

They check only their own arguments; see ``workflow_core.statements.basic``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workflow_core.errors import DefinitionError
from workflow_core.records import record
from workflow_core.statements.basic import (
    Function,
    RenamedFrom,
    Section,
    Statement,
    check_function,
    check_name,
    check_renamed,
    make_body,
    set_attributes,
)

PARALLEL_LIMIT = 100
"""The default number of items that a parallel ``ForEach`` runs at a time. All of them are stored in one document, and
each change to one of them loads and saves this document."""


@record(frozen=True, init=False)
class ForEach(Statement):
    """Runs its statements for each item of a collection, sequentially or in parallel.

    Steps find the item in ``StepContext.item``. Conditions and other functions of the workflow inside receive it as
    second argument if they have two parameters. Handlers of events and results receive it as keyword argument ``item``.
    Only the position is saved: the collection is evaluated again for each item, as in Python's ``for``.

    Args:
        name: unique in the definition.
        items: a function of the workflow that returns a list or another ordered collection.
        parallel: run each item in a separate thread, and continue when all have ended. If an item fails, the other
            items are canceled and the statement fails. The collection may grow in the meantime, but must not shrink.
        limit: how many items run at a time, 100 (``PARALLEL_LIMIT``) if omitted; only with ``parallel``. The next item
            starts when one ends. Up to about 5,000 waiting items with small inputs fit into an instance.
        renamed_from: its former name or names; instances in the loop keep their position.

    Example:
        >>> from gorchestrate import ForEach, Step
        >>> bake = Step("bake", lambda order, step: print(step.item))
        >>> statement = ForEach("each pizza", lambda order: order.cart, bake)
    """

    name: str
    items: Callable[..., Any]
    body: Section
    parallel: bool
    limit: int | None
    renamed_from: tuple[str, ...] = ()

    def __init__(
        self,
        name: str,
        items: Function,
        *statements: Statement,
        parallel: bool = False,
        limit: int | None = None,
        renamed_from: RenamedFrom = (),
    ) -> None:
        check_name(self, name)
        where = f"ForEach {name!r}"
        check_function(name, "items", items)
        if limit is not None and not (parallel and isinstance(limit, int) and limit >= 1):
            raise DefinitionError(where, f"its limit is {limit!r}", "Write parallel=True, limit=10, or omit it.")
        body = make_body(where, statements)
        former = check_renamed(self, name, renamed_from)
        if parallel and limit is None:
            limit = PARALLEL_LIMIT
        set_attributes(
            self, name=name, items=items, body=body, parallel=bool(parallel), limit=limit, renamed_from=former
        )


@record(frozen=True, init=False)
class Parallel(Statement):
    """Runs sections in separate threads, and continues when all have ended.

    If one fails, the others are canceled (their ``finally_`` sections run), and then the statement fails.

    Args:
        name: unique in the definition.
        branches: sections. A section with a prefix keeps its position when others are added or moved.
        renamed_from: its former name or names, by which instances find its branches.
    """

    name: str
    branches: tuple[Section, ...]
    renamed_from: tuple[str, ...] = ()

    def __init__(self, name: str, *branches: Section, renamed_from: RenamedFrom = ()) -> None:
        check_name(self, name)
        _check_branches(self, name, branches)
        set_attributes(self, name=name, branches=branches, renamed_from=check_renamed(self, name, renamed_from))


@record(frozen=True, init=False)
class Race(Statement):
    """Runs sections in separate threads. The first one to end ends the others, then the statement continues.

    The others are canceled: their waits are torn down, the results of their activities no longer count, and their
    ``finally_`` sections run. If the first one ends with an error, the statement fails with it after the others have
    ended. A ``finally_`` section of the others that fails makes the statement fail as well.

    Args:
        name: unique in the definition.
        branches: sections. A section with a prefix keeps its position when others are added or moved.
        then: a function of the workflow and of the prefix of the section that ended first, which changes the fields. It
            runs once the others have ended. Each section must have a prefix. The parameter may be annotated with a
            ``Literal`` of the prefixes.
        renamed_from: its former name or names, by which instances find its branches.

    Example:
        >>> from datetime import timedelta
        >>> from gorchestrate import Race, S, Sleep, Step
        >>> statement = Race("deliver", S(Step("send", lambda w: None)), S(Sleep("too late", timedelta(hours=1))))
    """

    name: str
    branches: tuple[Section, ...]
    then: Callable[..., Any] | None
    renamed_from: tuple[str, ...] = ()

    def __init__(
        self,
        name: str,
        *branches: Section,
        then: Function | None = None,
        renamed_from: RenamedFrom = (),
    ) -> None:
        check_name(self, name)
        _check_branches(self, name, branches)
        if then is not None:
            check_function(name, "then", then)
            if not all(branch.prefix for branch in branches):
                raise DefinitionError(
                    f"Race {name!r}",
                    "its then receives the prefix of the section that ended first, but a section has none",
                    'Write S(..., prefix="...").',
                )
        former = check_renamed(self, name, renamed_from)
        set_attributes(self, name=name, branches=branches, then=then, renamed_from=former)


def _check_branches(owner: Statement, name: str, branches: tuple[Section, ...]) -> None:
    kind = type(owner).__name__
    where = f"{kind} {name!r}"
    if not branches:
        raise DefinitionError(where, "it has no branch", f"Write {kind}(name, S(...), S(...)).")
    for branch in branches:
        if not isinstance(branch, Section) or not branch.statements:
            raise DefinitionError(where, f"{branch!r} is not a section with statements", "Write S(...) around it.")
