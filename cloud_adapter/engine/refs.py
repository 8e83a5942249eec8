"""Which instance something is for, as one value."""

from __future__ import annotations

from dataclasses import dataclass

from cloud_adapter.names import check_id
from workflow_core import Workflow


@dataclass(frozen=True, slots=True)
class InstanceRef:
    """The workflow and the id of an instance. An id from outside comes in by ``checked``; a stored one was checked."""

    cls: type[Workflow]
    id: str

    @classmethod
    def checked(cls, workflow: type[Workflow], id: str) -> InstanceRef:
        """The instance with an id that somebody has given.

        Raises:
            InvalidRequest: it cannot be the id of an instance.
        """
        return cls(workflow, check_id(id))

    @property
    def workflow(self) -> str:
        """The name of the workflow."""
        return self.cls.__workflow_name__

    def __str__(self) -> str:
        return f"{self.workflow!r} {self.id!r}"
