"""Deliberate bugs in activities: their results, attempts, heartbeats and limits."""

from __future__ import annotations

from copy import copy
from datetime import datetime
from typing import Any

from cloud_adapter.engine import activities as activities_module
from cloud_adapter.engine import attempts as attempts_module
from cloud_adapter.engine import children as children_module
from cloud_adapter.engine.activities import Activities
from cloud_adapter.engine.attempts import Result
from cloud_adapter.engine.heartbeats import Heartbeats
from cloud_adapter.engine.session import Session
from cloud_adapter.engine.tasks import (
    WaitTask,
)
from cloud_adapter.engine.timers import TimeOut
from tests.simulation.bugs.bug_list import Patch, bug
from tests.simulation.bugs.unseen_leases import leased
from workflow_core.machine import calls, instructions
from workflow_core.machine.events import Accepted
from workflow_core.machine.machine import Machine
from workflow_core.program.code import ForkOp
from workflow_core.wait_types import ActivityWait

# --- activities ------------------------------------------------------------------------------


@bug
def result_of_an_earlier_attempt_counts(patch: Patch) -> None:
    def any_attempt(self: Machine, event: str, wait_id: str, attempt: int) -> Any:
        return calls.awaited(self, event, wait_id, ActivityWait)

    patch.setattr(Machine, "activity", any_attempt)


@bug
def fence_not_compared(patch: Patch) -> None:
    patch.setattr(WaitTask, "is_for", lambda self, wait: True)


@bug
def fence_not_stored_anew_for_the_next_attempt(patch: Patch) -> None:
    failed = Machine.activity_failed

    def keep(self: Machine, accepted: Accepted, error: Any, retry_at: datetime | None) -> None:
        wait = accepted.wait
        assert isinstance(wait, ActivityWait)
        fence = wait.task
        failed(self, accepted, error, retry_at)
        if retry_at is not None:
            wait.task = fence

    patch.setattr(Machine, "activity_failed", keep)


@bug
def limit_ignored_after_a_result(patch: Patch) -> None:
    fork = instructions._MOVES[ForkOp]

    def all_of_them(machine: Machine, thread: Any, instruction: Any, *rest: Any) -> Any:
        if thread.positions.get(instruction.name):
            instruction = copy(instruction)
            object.__setattr__(instruction, "limit", None)
        return fork(machine, thread, instruction, *rest)

    patch.setitem(instructions._MOVES, ForkOp, all_of_them)


@bug
def result_of_an_activity_under_a_live_lease(patch: Patch) -> None:
    leased(patch, Activities, "deliver")


@bug
def heartbeat_not_renewing_the_deadline(patch: Patch) -> None:
    patch.setattr(Machine, "heartbeat", lambda self, accepted: self.tick())


@bug
def heartbeat_left_out(patch: Patch) -> None:
    async def nothing(self: Heartbeats) -> None:
        return None

    patch.setattr(Heartbeats, "_decide", nothing)


@bug
def report_of_an_earlier_attempt_kept(patch: Patch) -> None:
    failed = Machine.activity_failed

    def keep(self: Machine, accepted: Accepted, error: Any, retry_at: datetime | None) -> None:
        wait = accepted.wait
        assert isinstance(wait, ActivityWait)
        progress = wait.progress
        failed(self, accepted, error, retry_at)
        if retry_at is not None:
            wait.progress = progress

    patch.setattr(Machine, "activity_failed", keep)


@bug
def report_not_counted_as_a_heartbeat(patch: Patch) -> None:
    def report(self: Machine, accepted: Accepted, data: Any) -> None:
        assert isinstance(accepted.wait, ActivityWait)
        self.tick()
        accepted.wait.progress = data

    patch.setattr(Machine, "report", report)


@bug
def first_report_dropped(patch: Patch) -> None:
    report = Heartbeats.report

    async def drop(self: Heartbeats, data: Any) -> None:
        if self._next_report_at is None:
            self._next_report_at = self.lanes.committer.clock.now()
            return
        await report(self, data)

    patch.setattr(Heartbeats, "report", drop)


@bug
def heartbeat_of_an_earlier_attempt_counts(patch: Patch) -> None:
    def any_attempt(session: Session, body: Any) -> Accepted | None:
        if isinstance(body, Result) or not session.execution.live:
            return awaited(session, body)
        return calls.awaited(session.machine, body.event, body.wait_id, ActivityWait)

    awaited = attempts_module.awaited
    patch.setattr(attempts_module, "awaited", any_attempt)


@bug
def heartbeat_over_a_live_lease(patch: Patch) -> None:
    leased(patch, Heartbeats, "_decide")


@bug
def silent_attempt_never_taken_for_dead(patch: Patch) -> None:
    deliver = TimeOut.deliver

    def never(self: TimeOut, session: Session, now: datetime) -> datetime | None:
        accepted = self._first(session, now)
        if accepted is not None and isinstance(accepted.wait, ActivityWait):
            return None
        return deliver(self, session, now)

    patch.setattr(TimeOut, "deliver", never)


@bug
def changes_of_a_result_whose_then_has_raised_kept(patch: Patch) -> None:
    def without_undo(session: Session, accepted: Accepted, result: str, **how: Any) -> Exception | None:
        try:
            session.machine.handle_json(accepted, result.encode(), **how)
            session.check_fields()
        except Exception as raised:
            return raised
        return None

    patch.setattr(activities_module, "take_result", without_undo)
    patch.setattr(children_module, "take_result", without_undo)
