"""References to instances."""

from __future__ import annotations

from typing import NamedTuple

from cloud_adapter.names import check_id
from workflow_core import Workflow


class InstanceRef(NamedTuple):
    """The workflow and the id of an instance. Use ``checked`` for an id from outside. A stored id was already checked.

    It is the key of several dictionaries, so it is a tuple, whose hash takes a fifth of that of a record.
    """

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
