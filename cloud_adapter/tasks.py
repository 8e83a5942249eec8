"""The engine's tasks: their names, paths and bodies. Creates none."""

from __future__ import annotations

from datetime import datetime

from pydantic import AwareDatetime, BaseModel, ConfigDict

from cloud_adapter.ports import Task
from workflow_core import Execution, Wait
from workflow_core.events import stable_key

RESUME_PATH = "/resume"
TIMEOUT_PATH = "/callback/timeout"


class ResumeTask(BaseModel):
    """The body of a task that moves an instance on.

    Attributes:
        pc: the pc of the commit that the task belongs to.
        created_at: when the task was made; one that waits too long for its commit is given up.
    """

    model_config = ConfigDict(frozen=True)

    workflow: str
    id: str
    pc: int
    created_at: AwareDatetime

    @classmethod
    def of(cls, execution: Execution, now: datetime) -> ResumeTask:
        """The task for an instance as it stands."""
        return cls(workflow=execution.workflow, id=execution.id, pc=execution.pc, created_at=now)

    def task(self, salt: str, at: datetime | None = None) -> Task:
        """The task; the same ``salt`` gives the same name."""
        name = stable_key("resume", self.workflow, self.id, salt)
        return Task(name, RESUME_PATH, self.model_dump(mode="json"), at)


class TimeoutTask(BaseModel):
    """The body of a task that delivers a timeout; ``wait_id`` and ``event`` say which."""

    model_config = ConfigDict(frozen=True)

    workflow: str
    id: str
    pc: int
    created_at: AwareDatetime
    wait_id: str
    event: str

    @classmethod
    def of(cls, execution: Execution, wait: Wait, now: datetime) -> TimeoutTask:
        """The task for a timeout of an instance as it stands."""
        return cls(
            workflow=execution.workflow,
            id=execution.id,
            pc=execution.pc,
            created_at=now,
            wait_id=wait.id,
            event=wait.event,
        )

    def task(self, salt: str, at: datetime) -> Task:
        """The task; the same ``salt`` gives the same name."""
        name = stable_key("timeout", self.workflow, self.id, self.wait_id, self.event, salt)
        return Task(name, TIMEOUT_PATH, self.model_dump(mode="json"), at)
