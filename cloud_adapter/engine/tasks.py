"""The engine's tasks: their names, paths and bodies. Creates none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator

from cloud_adapter.clock import CLOCK_SKEW
from cloud_adapter.observability.span import Trace
from cloud_adapter.observability.telemetry import carrier
from cloud_adapter.ports import Task
from workflow_core import Execution
from workflow_core.events import stable_key
from workflow_core.wait_types import ActivityWait, AnyTimedWait

PUT_OFF_SECONDS_MAX = 10.0
"""How long a task waits at the least that was put off again and again."""

FENCE_LENGTH = 16
"""How many characters the fence of a task has."""

RESUME_PATH = "/resume"
TIMEOUT_PATH = "/callback/timeout"
ACTIVITY_PATH = "/activity"
COLLECT_PATH = "/callback/collect"


class InstanceTask(BaseModel):
    """What the body of every task has.

    Attributes:
        pc: the pc of the commit that the task belongs to.
        created_at: when the task was made; one that waits too long for its commit is given up.
        again: how often it has put itself off.
        trace: the span in which it was made, see ``telemetry.carrier``; what is none counts as empty.
    """

    model_config = ConfigDict(frozen=True)

    path: ClassVar[str]

    workflow: str
    id: str
    pc: int
    created_at: AwareDatetime
    again: int = 0
    trace: Trace = Field(default_factory=dict)

    @staticmethod
    def common(execution: Execution, now: datetime) -> dict[str, Any]:
        """The fields that every task of an instance has, as it stands."""
        return {"workflow": execution.workflow, "id": execution.id, "pc": execution.pc, "created_at": now}

    @field_validator("trace", mode="before")
    @classmethod
    def _forgive(cls, value: object) -> Trace:
        """No task fails for its trace."""
        texts = value if isinstance(value, dict) else {}
        return {name: text for name, text in texts.items() if isinstance(name, str) and isinstance(text, str)}

    def task(self, salt: str, at: datetime | None = None) -> Task:
        """The task; the same ``salt`` gives the same name, an empty one none at all."""
        name = stable_key(self.path, self.workflow, self.id, *self._about(), salt) if salt else ""
        trace = carrier() or self.trace
        body = self.model_dump(mode="json", exclude={"trace"})
        group = f"{self.workflow}/{self.id}"
        return Task(name, self.path, body | {"trace": trace} if trace else body, at, group=group)

    def later(self, at: datetime, now: datetime, pc: int) -> Task:
        """The same task once more, where it has come too early: at ``at``.

        It is named after that moment, the state that was met, its commit, and how often it was put off, so that
        deliveries made twice do not multiply, and all that wait for the same go on as one. In another state it is
        another task, as this one may have come and gone by then. It waits longer each time, as it may be a clock that
        is wrong.

        Args:
            pc: the pc of the instance as it was met.
        """
        following = self.model_copy(update={"again": self.again + 1})
        seconds = min(0.1 * 2 ** min(self.again, 10), PUT_OFF_SECONDS_MAX) if self.again else 0.0
        least = timedelta(seconds=seconds)
        salt = f"again {following.again} {at.isoformat()} {pc}{self._commit()}"
        return following.task(salt, max(at, now + least))

    def _about(self) -> tuple[str, ...]:
        return ()

    def _commit(self) -> str:
        """What tells apart the tasks of several commits that are for the same; empty if one stands for all."""
        return ""


class ResumeTask(InstanceTask):
    """The body of a task that moves an instance on."""

    path = RESUME_PATH

    @classmethod
    def of(cls, execution: Execution, now: datetime) -> ResumeTask:
        """The task for an instance as it stands."""
        return cls(**cls.common(execution, now))


class WaitTask(InstanceTask):
    """The body of a task that is about one wait of an instance; ``wait_id`` and ``event`` say which.

    Attributes:
        fence: what the commit that the task belongs to has stored in the wait. A task is created before its commit, so
            those of a commit that lost remain: their fence is not the stored one, and they do nothing. None in a task
            that an earlier release has made: then the wait alone is compared.
    """

    wait_id: str
    event: str
    fence: str | None = None

    @classmethod
    def of(cls, execution: Execution, wait: AnyTimedWait, now: datetime) -> Self:
        """The task for a wait of an instance as it stands."""
        about: dict[str, Any] = {"wait_id": wait.id, "event": wait.event, "fence": wait.task}
        if isinstance(wait, ActivityWait):
            about["attempt"] = wait.attempt
        return cls.model_validate(cls.common(execution, now) | about)

    def is_for(self, wait: AnyTimedWait) -> bool:
        """Whether the task belongs to the commit that has stored the wait, as it stands."""
        return self.fence is None or self.fence == wait.task

    def _about(self) -> tuple[str, ...]:
        return self.wait_id, self.event

    def _commit(self) -> str:
        # Another fence is another task: one of a commit that lost must not take the place of the one that counts.
        return f" {self.fence}"


class TimeoutTask(WaitTask):
    """The body of a task that delivers a timeout, or ends attempts of activities that have taken too long.

    Attributes:
        wait_id, event: empty for all attempts that the commit with that fence has scheduled.
    """

    path = TIMEOUT_PATH

    @classmethod
    def of_attempts(cls, execution: Execution, fence: str, now: datetime) -> TimeoutTask:
        """The one task for the deadlines of all attempts that a commit schedules."""
        return cls(**cls.common(execution, now), wait_id="", event="", fence=fence)


def timer_name(workflow: str, id: str, wait_id: str, event: str, fence: str) -> str:
    """The name of the task that a commit with that fence has made for a timeout."""
    if len(fence) != FENCE_LENGTH:
        return fence  # an earlier release has stored the name itself
    return stable_key(TIMEOUT_PATH, workflow, id, wait_id, event, fence)


class ActivityTask(WaitTask):
    """The body of a task that runs an activity.

    Attributes:
        attempt: how often it has failed before; one that comes later than the next attempt does nothing.
    """

    path = ACTIVITY_PATH

    attempt: int

    def _about(self) -> tuple[str, ...]:
        return *super()._about(), str(self.attempt)


class CollectTask(InstanceTask):
    """The body of a task that takes an instance's inbox in.

    Attributes:
        due: when it is to come; the end of the second in which the entries were posted that it is for.
        is_last: it looks once more, for what was posted by a clock that is behind.
    """

    path = COLLECT_PATH

    due: AwareDatetime
    is_last: bool = False

    @classmethod
    def after(cls, workflow: str, id: str, at: datetime, now: datetime) -> Task:
        """The task for what was posted at ``at``, or cannot be taken in before; the same one for the whole second."""
        slot = int(at.timestamp()) + 1
        due = datetime.fromtimestamp(slot, UTC)
        return cls(workflow=workflow, id=id, pc=0, created_at=now, due=due).task(f"slot {slot}", due)

    def last(self, now: datetime) -> Task:
        """The task that looks once more, later than clocks differ; all tasks that are due within one ``CLOCK_SKEW`` are
        followed by the same one."""
        seconds = int(CLOCK_SKEW.total_seconds())
        window = int(self.due.timestamp()) // seconds
        due = datetime.fromtimestamp((window + 2) * seconds, UTC)
        following = self.model_copy(update={"due": due, "is_last": True, "created_at": now, "again": 0})
        return following.task(f"last {window}", due)
