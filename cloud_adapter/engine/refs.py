"""References to instances."""

from __future__ import annotations

from cloud_adapter.names import check_id
from workflow_core import Workflow
from workflow_core.records import record


@record(frozen=True, slots=True)
class InstanceRef:
    """The workflow and the id of an instance. Use ``checked`` for an id from outside. A stored id was already
    checked."""

    cls: type[Workflow]
    id: str

    @classmethod
    def checked(cls, workflow: type[Workflow], id: str) -> InstanceRef:
        """Returns the reference for an id from a request.

        Raises:
            InvalidRequest: the id is invalid.
        """
        return cls(workflow, check_id(id))

    @property
    def workflow(self) -> str:
        """The name of the workflow."""
        return self.cls.__workflow_name__

    def __str__(self) -> str:
        return f"{self.workflow!r} {self.id!r}"
