"""The table: what can happen to a thread and to a wait in each state, and which state follows.

Theory of operation. A thread is saved only while it rests on a step or a wait; its status says how. Between two rests,
its state is ``MOVING``, which is never stored: something has happened, and the thread passes instructions until it
reaches a step or a wait, or ends. A thread enters and leaves a wait. If an outside system may know the wait, leaving it
creates a teardown, and the same table contains the states of the teardown.

Each report of a caller (``done``, ``failed``, ``handled``, ...) is checked against the table before anything is
changed. A report that the table does not contain raises ``IllegalTransition``. All changes of a status use the
functions below, except in the hottest places: ``instructions.run``, ``waits.park`` and ``alone.py`` assign a status
themselves, and a test checks that the table contains these transitions.

``docs/states.py`` draws the diagrams in ``docs/explanation/engine.md`` from the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from workflow_core.errors import IllegalTransition
from workflow_core.execution import Thread, ThreadStatus
from workflow_core.wait_types import AnyTeardown, AnyWait, WaitStatus


class Unstored(StrEnum):
    """States that are never stored."""

    START = "start"
    MOVING = "moving"
    """The thread passes instructions."""
    END = "end"


class ThreadHappening(StrEnum):
    """What can happen to a thread."""

    STARTED = "started"
    RESUMED = "resumed"
    STEP_DONE = "step done"
    STEP_FAILED = "attempt of the step failed"
    HAPPENED = "event handled or result received"
    """The event may also be a timeout; the result is that of an activity or a child, or the start of a detached
    child."""
    CONDITION = "condition is true"
    """Or its branches have ended, or more of them may start."""
    GIVEN_UP = "last attempt failed"
    """The attempt of a step, an activity, a child, or the handler of a buffered event."""
    CANCELED = "canceled"
    SETUP_REPORTED = "setup done or failed, others due"
    SETUPS_ENDED = "last setup done or failed"
    SETUPS_RETRIED = "failed setups retried"
    INSTANCE_FAILED = "instance failed"
    PUT = "moved to a statement"
    MAIN_ENDED = "main thread ended"

    REACHED_STEP = "reaches a step"
    PARKED = "reaches a wait"
    PARKED_TO_SET_UP = "reaches a wait with setups"
    FAILED_ON_STEP = "error of a step not caught"
    FAILED = "other error not caught"
    ENDED = "ends"


class WaitHappening(StrEnum):
    """What can happen to a wait, and to its teardown."""

    ENTERED = "entered"
    ENTERED_TO_SET_UP = "entered, with a setup"
    SETUP_DONE = "setup done"
    SETUP_FAILED = "setup failed"
    RETRIED = "retried"
    ATTEMPT_FAILED = "attempt of the activity failed"
    LEFT = "left"
    LEFT_WITH_TEARDOWN = "left, with a teardown"
    TEARDOWN_DONE = "teardown done"
    TEARDOWN_FAILED = "teardown failed"


_T, _W = ThreadHappening, WaitHappening
_MOVING = Unstored.MOVING
_RESTS = tuple(ThreadStatus)
_PARKED = (ThreadStatus.SETTING_UP, ThreadStatus.WAITING)
_WAITS = (WaitStatus.PENDING_SETUP, WaitStatus.SETUP_ERROR, WaitStatus.SET_UP)
_TEARDOWNS = (WaitStatus.PENDING_TEARDOWN, WaitStatus.TEARDOWN_ERROR)

ThreadState = ThreadStatus | Unstored
WaitState = WaitStatus | Unstored

THREAD_TABLE: Mapping[tuple[ThreadState, ThreadHappening], ThreadState] = {
    (Unstored.START, _T.STARTED): ThreadStatus.RESUMING,
    # The thread leaves its rest.
    (ThreadStatus.RESUMING, _T.RESUMED): _MOVING,
    (ThreadStatus.EXECUTING, _T.STEP_DONE): _MOVING,
    **{(status, _T.HAPPENED): _MOVING for status in _PARKED},
    **{(status, _T.CONDITION): _MOVING for status in _PARKED},
    **{(status, _T.GIVEN_UP): _MOVING for status in (ThreadStatus.EXECUTING, *_PARKED)},
    # If it is canceled in a finally_ section, or while it has live branches, it moves when the section or they end.
    **{(status, _T.CANCELED): _MOVING for status in _RESTS},
    **{(status, _T.MAIN_ENDED): Unstored.END for status in _RESTS},
    # The thread stays at rest, or an operator moves it.
    (ThreadStatus.EXECUTING, _T.STEP_FAILED): ThreadStatus.EXECUTING,
    (ThreadStatus.SETTING_UP, _T.SETUP_REPORTED): ThreadStatus.SETTING_UP,
    (ThreadStatus.SETTING_UP, _T.SETUPS_ENDED): ThreadStatus.WAITING,
    **{(status, _T.SETUPS_RETRIED): ThreadStatus.SETTING_UP for status in _PARKED},
    **{(status, _T.INSTANCE_FAILED): ThreadStatus.RESUMING for status in (ThreadStatus.RESUMING, *_PARKED)},
    (ThreadStatus.EXECUTING, _T.INSTANCE_FAILED): ThreadStatus.EXECUTING,
    **{(status, _T.PUT): ThreadStatus.RESUMING for status in _RESTS},
    # The thread comes to rest or ends.
    (_MOVING, _T.REACHED_STEP): ThreadStatus.EXECUTING,
    (_MOVING, _T.PARKED): ThreadStatus.WAITING,
    (_MOVING, _T.PARKED_TO_SET_UP): ThreadStatus.SETTING_UP,
    (_MOVING, _T.FAILED_ON_STEP): ThreadStatus.EXECUTING,
    (_MOVING, _T.FAILED): ThreadStatus.RESUMING,
    (_MOVING, _T.ENDED): Unstored.END,
}

WAIT_TABLE: Mapping[tuple[WaitState, WaitHappening], WaitState] = {
    (Unstored.START, _W.ENTERED): WaitStatus.SET_UP,
    (Unstored.START, _W.ENTERED_TO_SET_UP): WaitStatus.PENDING_SETUP,
    **{(status, _W.SETUP_DONE): WaitStatus.SET_UP for status in _WAITS[:2]},
    **{(status, _W.SETUP_FAILED): WaitStatus.SETUP_ERROR for status in _WAITS[:2]},
    (WaitStatus.SETUP_ERROR, _W.RETRIED): WaitStatus.PENDING_SETUP,
    (WaitStatus.SET_UP, _W.ATTEMPT_FAILED): WaitStatus.SET_UP,
    **{(status, _W.LEFT): Unstored.END for status in _WAITS},
    **{(status, _W.LEFT_WITH_TEARDOWN): WaitStatus.PENDING_TEARDOWN for status in _WAITS},
    **{(status, _W.TEARDOWN_DONE): Unstored.END for status in _TEARDOWNS},
    **{(status, _W.TEARDOWN_FAILED): WaitStatus.TEARDOWN_ERROR for status in _TEARDOWNS},
    **{(status, _W.RETRIED): WaitStatus.PENDING_TEARDOWN for status in _TEARDOWNS},
}


def check_thread(thread: Thread, happening: ThreadHappening) -> ThreadState:
    """Returns the following state without changing anything.

    Raises:
        IllegalTransition: this cannot happen to the thread in its current state.
    """
    following = THREAD_TABLE.get((thread.status, happening))
    if following is None:
        what = f"thread {thread.id!r} at {thread.step!r}"
        raise IllegalTransition(f"{happening.value!r} cannot happen to {what}: it is {thread.status}")
    return following


def change_thread(thread: Thread, happening: ThreadHappening) -> None:
    """Changes the status of a thread that stays at rest.

    Raises:
        IllegalTransition: this cannot happen to the thread in its current state. Nothing was changed.
    """
    following = check_thread(thread, happening)
    assert isinstance(following, ThreadStatus)
    thread.status = following


def land(thread: Thread, happening: ThreadHappening) -> None:
    """Sets the status of a moving thread that has come to rest."""
    following = THREAD_TABLE[_MOVING, happening]
    assert isinstance(following, ThreadStatus)
    thread.status = following


def check_wait(wait: AnyWait | AnyTeardown, happening: WaitHappening) -> WaitState:
    """Returns the following state without changing anything.

    Raises:
        IllegalTransition: this cannot happen to the wait in its current state.
    """
    following = WAIT_TABLE.get((wait.status, happening))
    if following is None:
        what = f"the wait {wait.id!r} for {wait.event!r}"
        raise IllegalTransition(f"{happening.value!r} cannot happen to {what}: it is {wait.status}")
    return following


def change_wait(wait: AnyWait | AnyTeardown, happening: WaitHappening) -> None:
    """Changes the status of a wait or a teardown that stays in its list.

    Raises:
        IllegalTransition: this cannot happen to it in its current state. Nothing was changed.
    """
    following = check_wait(wait, happening)
    assert isinstance(following, WaitStatus)
    wait.status = following
