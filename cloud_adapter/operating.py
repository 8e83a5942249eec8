"""What operators do with a loaded instance: cancel, pause and unpause it. Loads and commits nothing.

Each function is an ``Apply`` of ``cloud_adapter.changing``: False, if there is nothing to be done any more.
"""

from __future__ import annotations

from datetime import datetime

from cloud_adapter.changing import settle
from cloud_adapter.errors import InstanceEnded
from cloud_adapter.session import Session
from workflow_core import Execution, Status


def cancel(session: Session, now: datetime) -> bool:
    """Cancels an instance; False if it is canceled already, or on the way to it.

    Raises:
        InstanceEnded: it has come to another end.
    """
    execution = session.execution
    if execution.canceling or execution.status is Status.CANCELED:
        return False
    _refuse_ended(execution, "canceled")
    session.machine.cancel()
    session.note("cancel", now)
    settle(session)
    return True


def pause(session: Session, now: datetime) -> bool:
    """Lets nothing in an instance move; False if nothing does already.

    Raises:
        InstanceEnded: it has come to its end.
    """
    _refuse_ended(session.execution, "paused")
    if session.execution.status is Status.PAUSED:
        return False
    session.machine.pause()
    session.note("pause", now)
    return True


def unpause(session: Session, now: datetime) -> bool:
    """Lets a paused instance go on; False if it is not paused.

    Raises:
        InstanceEnded: it has come to its end.
    """
    _refuse_ended(session.execution, "unpaused")
    if session.execution.status is not Status.PAUSED:
        return False
    session.machine.unpause()
    session.note("unpause", now)
    settle(session)
    return True


def _refuse_ended(execution: Execution, what: str) -> None:
    if execution.ended:
        raise InstanceEnded(f"{execution.id!r} is {execution.status}: it can no longer be {what}")
