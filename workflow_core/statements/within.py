"""The statement that limits how long others take: ``Within``. It checks only its own arguments; see
``workflow_core.statements.basic``."""

from __future__ import annotations

from workflow_core.records import record
from workflow_core.statements.basic import (
    Delay,
    RenamedFrom,
    Section,
    Statement,
    check_delay,
    check_name,
    check_renamed,
    make_body,
    set_attributes,
)
from workflow_core.statements.control import with_late


@record(frozen=True, init=False)
class Within(Statement):
    """Runs its statements with a deadline. When it passes, the thread leaves them, and ``on_timeout`` runs.

    The thread leaves its wait, which is torn down, or its step, which is not tried again. Branches are canceled, and
    ``finally_`` sections on the way out run. A step or a ``finally_`` section that runs at that time runs to its end
    first. Without ``on_timeout``, the statement fails with ``TimedOut``. Threads that a ``Go`` has started inside are
    not affected.

    Put it around a whole definition to limit the whole workflow.

    Args:
        name: unique in the definition. The timer is a thread of this name.
        delay: how long the section may take, or until when. A function of the workflow is called at its start.
        renamed_from: its former name or names.

    Example:
        >>> from datetime import timedelta
        >>> from gorchestrate import Sleep, Step, Within
        >>> statement = Within("at most an hour", timedelta(hours=1), Sleep("nap", timedelta(hours=2))).on_timeout(
        ...     Step("wake up", lambda w: None)
        ... )
    """

    name: str
    delay: Delay
    body: Section
    late: Section | None = None
    renamed_from: tuple[str, ...] = ()

    def __init__(self, name: str, delay: Delay, *statements: Statement, renamed_from: RenamedFrom = ()) -> None:
        check_name(self, name)
        check_delay(f"Within {name!r}", delay)
        body = make_body(f"Within {name!r}", statements)
        former = check_renamed(self, name, renamed_from)
        set_attributes(self, name=name, delay=delay, body=body, late=None, renamed_from=former)

    def on_timeout(self, *statements: Statement) -> Within:
        """Returns the statement with statements that run when the deadline has passed."""
        return with_late(self, f"on_timeout of Within {self.name!r}", statements)
