"""The engine's tasks: their names, paths and bodies. This module does not create tasks in a queue."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator

from cloud_adapter.clock import CLOCK_SKEW
from cloud_adapter.observability.span import Trace
from cloud_adapter.observability.telemetry import carrier
from cloud_adapter.ports import LONG, Task
from workflow_core import Execution
from workflow_core.events import stable_key
from workflow_core.wait_types import ActivityWait, AnyTimedWait

PUT_OFF_SECONDS_MAX = 10.0
"""The longest minimum delay of a task that is postponed repeatedly."""

FENCE_LENGTH = 16
"""The number of characters in the fence of a task."""

RESUME_PATH = "/resume"
TIMEOUT_PATH = "/callback/timeout"
ACTIVITY_PATH = "/activity"
COLLECT_PATH = "/callback/collect"


class InstanceTask(BaseModel):
    """The fields that the body of every task has.

    Attributes:
        pc: the pc of the commit that the task belongs to.
        created_at: when the task was created. If it waits too long for its commit, it is given up.
        again: how many times it was postponed.
        trace: the span in which it was created; see ``telemetry.carrier``. An invalid value counts as empty.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)

    path: ClassVar[str]

    workflow: str
    id: str
    pc: int
    created_at: AwareDatetime
    again: int = 0
    trace: Trace = Field(default_factory=dict)

    @staticmethod
    def common(execution: Execution, now: datetime) -> dict[str, Any]:
        """Returns the values of the fields that every task has, for the current state of an instance."""
        return {"workflow": execution.workflow, "id": execution.id, "pc": execution.pc, "created_at": now}

    @field_validator("trace", mode="before")
    @classmethod
    def _forgive(cls, value: object) -> Trace:
        """Drops invalid parts of a trace, so that no task fails because of its trace."""
        texts = value if isinstance(value, dict) else {}
        return {name: text for name, text in texts.items() if isinstance(name, str) and isinstance(text, str)}

    def task(self, salt: str, at: datetime | None = None) -> Task:
        """Returns the task. The same ``salt`` results in the same name, and an empty one in no name."""
        name = stable_key(self.path, self.workflow, self.id, *self._about(), salt) if salt else ""
        trace = carrier() or self.trace
        body = self.model_dump(mode="json", exclude={"trace"})
        group = f"{self.workflow}/{self.id}"
        return Task(name, self.path, body | {"trace": trace} if trace else body, at, group=group)

    def later(self, at: datetime, now: datetime, pc: int) -> Task:
        """Returns the same task for a later time, after it was delivered too early.

        Its name contains that time, the state of the instance, its commit, and how many times it was postponed.
        Duplicate deliveries therefore do not multiply, and tasks that wait for the same work continue as one. In
        another state, it is another task, because this one may already have been delivered by then. The delay grows
        each time, because the cause may be a wrong clock.

        Args:
            pc: the current pc of the instance.
        """
        following = self.model_copy(update={"again": self.again + 1})
        seconds = min(0.1 * 2 ** min(self.again, 10), PUT_OFF_SECONDS_MAX) if self.again else 0.0
        least = timedelta(seconds=seconds)
        salt = f"again {following.again} {at.isoformat()} {pc}{self._commit()}"
        return following.task(salt, max(at, now + least))

    def _about(self) -> tuple[str, ...]:
        return ()

    def _commit(self) -> str:
        """Returns what distinguishes the tasks of different commits for the same work; empty if one task is enough."""
        return ""


class ResumeTask(InstanceTask):
    """The body of a task that moves an instance on."""

    path = RESUME_PATH

    @classmethod
    def of(cls, execution: Execution, now: datetime) -> ResumeTask:
        """Returns the body of the task for the current state of an instance."""
        return cls(**cls.common(execution, now))


class WaitTask(InstanceTask):
    """The body of a task for one wait of an instance, which ``wait_id`` and ``event`` identify.

    Attributes:
        fence: the token that the commit of the task has stored in the wait. Tasks are created before their commit, so
            the tasks of a lost commit remain. Their fence differs from the stored one, so they do nothing. In a task
            that an earlier release has created, it is None, and only the wait is compared.
    """

    wait_id: str
    event: str
    fence: str | None = None

    @classmethod
    def of(cls, execution: Execution, wait: AnyTimedWait, now: datetime) -> Self:
        """Returns the body of the task for a wait, in the current state of an instance."""
        about: dict[str, Any] = {"wait_id": wait.id, "event": wait.event, "fence": wait.task}
        if isinstance(wait, ActivityWait):
            about["attempt"] = wait.attempt
        return cls.model_validate(cls.common(execution, now) | about)

    def is_for(self, wait: AnyTimedWait) -> bool:
        """Whether the task belongs to the commit that has stored the wait in its current state."""
        return self.fence is None or self.fence == wait.task

    def _about(self) -> tuple[str, ...]:
        return self.wait_id, self.event

    def _commit(self) -> str:
        # Another fence means another task: the task of a lost commit must not replace the valid one.
        return f" {self.fence}"


class TimeoutTask(WaitTask):
    """The body of a task that delivers a timeout, or ends attempts of activities that have taken too long.

    Attributes:
        wait_id, event: empty if the task is for all attempts that the commit with the fence has scheduled.
    """

    path = TIMEOUT_PATH

    @classmethod
    def of_attempts(cls, execution: Execution, fence: str, now: datetime) -> TimeoutTask:
        """Returns the body of the single task for the deadlines of all attempts that a commit schedules."""
        return cls(**cls.common(execution, now), wait_id="", event="", fence=fence)


def timer_name(workflow: str, id: str, wait_id: str, event: str, fence: str) -> str:
    """Returns the name of the task that the commit with that fence has created for a timeout."""
    if len(fence) != FENCE_LENGTH:
        return fence  # an earlier release stored the name itself
    return stable_key(TIMEOUT_PATH, workflow, id, wait_id, event, fence)


class ActivityTask(WaitTask):
    """The body of a task that runs an activity.

    Attributes:
        attempt: the number of failed attempts before this one. A task that arrives after the next attempt has begun
            does nothing.
    """

    path = ACTIVITY_PATH

    attempt: int

    def task(self, salt: str, at: datetime | None = None) -> Task:
        """See ``InstanceTask.task``. The name says that the request may take long."""
        task = super().task(salt, at)
        return replace(task, name=task.name + LONG)

    def _about(self) -> tuple[str, ...]:
        return *super()._about(), str(self.attempt)


class CollectTask(InstanceTask):
    """The body of a task that collects an instance's inbox.

    Attributes:
        due: when it is due: the end of the second in which its entries were posted.
        is_last: whether it is the additional check for entries that were posted by a process whose clock is behind.
    """

    path = COLLECT_PATH

    due: AwareDatetime
    is_last: bool = False

    @classmethod
    def after(cls, workflow: str, id: str, at: datetime, now: datetime) -> Task:
        """Returns the task for entries that were posted at ``at``, or that cannot be processed before ``at``. The whole
        second has the same task."""
        slot = int(at.timestamp()) + 1
        due = datetime.fromtimestamp(slot, UTC)
        return cls(workflow=workflow, id=id, pc=0, created_at=now, due=due).task(f"slot {slot}", due)

    def last(self, now: datetime) -> Task:
        """Returns the task that checks the inbox again, after a longer time than clocks may differ. All tasks that are
        due within one ``CLOCK_SKEW`` are followed by the same one."""
        seconds = int(CLOCK_SKEW.total_seconds())
        window = int(self.due.timestamp()) // seconds
        due = datetime.fromtimestamp((window + 2) * seconds, UTC)
        following = self.model_copy(update={"due": due, "is_last": True, "created_at": now, "again": 0})
        return following.task(f"last {window}", due)
