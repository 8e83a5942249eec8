"""The vocabulary of doing something for each of many, and many things at once: ``ForEach`` and ``Parallel``.

Checks their own arguments alone, as ``workflow_core.statements.basic``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from workflow_core.errors import DefinitionError
from workflow_core.statements.basic import (
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
"""How many rounds of a parallel ``ForEach`` run at a time unless it says otherwise. All of them are stored in one
document, and everything that happens to one of them loads and saves that."""


@dataclass(frozen=True, slots=True, init=False)
class ForEach(Statement):
    """Runs its statements for each item of a collection: one after another, or in parallel.

    Steps find the item in ``StepContext.item``; conditions and other functions of the workflow inside take it as
    second argument if they have two; handlers of events and results take it as keyword ``item``. What is persisted is
    the position: the collection is looked at again in every round, as by Python's own ``for``.

    Args:
        name: unique in the definition.
        items: a function of the workflow that gives a list, or another collection with an order.
        parallel: run the rounds in threads of their own, and go on when all have ended. The statement fails when a
            round fails; the other rounds are canceled. The collection may grow meanwhile, but must not shrink.
        limit: how many rounds run at a time, 100 (``PARALLEL_LIMIT``) if omitted; for ``parallel`` alone. The next
            round begins when one has ended. Up to about 5,000 parked rounds with small inputs fit into an instance.
        renamed_from: the name, or names, that it had before; instances in the loop keep their position.

    Example:
        >>> from workflow_core import ForEach, Step
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
        items: Callable[..., Any],
        *statements: Statement,
        parallel: bool = False,
        limit: int | None = None,
        renamed_from: RenamedFrom = (),
    ) -> None:
        check_name(self, name)
        where = f"ForEach {name!r}"
        check_function(name, "items", items)
        if limit is not None and not (parallel and isinstance(limit, int) and limit >= 1):
            raise DefinitionError(where, f"its limit is {limit!r}", "Write parallel=True, limit=10, or leave it out.")
        body = make_body(where, statements)
        former = check_renamed(self, name, renamed_from)
        if parallel and limit is None:
            limit = PARALLEL_LIMIT
        set_attributes(
            self, name=name, items=items, body=body, parallel=bool(parallel), limit=limit, renamed_from=former
        )


@dataclass(frozen=True, slots=True, init=False)
class Parallel(Statement):
    """Runs sections in threads of their own, and goes on when all have ended.

    When one fails, the others are canceled (their ``finally_`` sections run), and then the statement fails.

    Args:
        name: unique in the definition.
        branches: sections; one with a prefix keeps its place when others are added or moved.
        renamed_from: the name, or names, that it had before; its branches are found again by it.
    """

    name: str
    branches: tuple[Section, ...]
    renamed_from: tuple[str, ...] = ()

    def __init__(self, name: str, *branches: Section, renamed_from: RenamedFrom = ()) -> None:
        check_name(self, name)
        where = f"Parallel {name!r}"
        if not branches:
            raise DefinitionError(where, "it has no branch", "Write Parallel(name, S(...), S(...)).")
        for branch in branches:
            if not isinstance(branch, Section) or not branch.statements:
                raise DefinitionError(where, f"{branch!r} is no section with statements", "Write S(...) around it.")
        set_attributes(self, name=name, branches=branches, renamed_from=check_renamed(self, name, renamed_from))
