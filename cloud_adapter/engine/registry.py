"""The workflows that one engine serves together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cloud_adapter.engine.operations import ACTIONS, REPAIRS
from cloud_adapter.errors import WorkflowNotFound
from workflow_core import DefinitionError, Workflow
from workflow_core.program.cases import ChildCase, SelectOp


def served(workflows: Mapping[str, type[Workflow]], name: str, *, names: bool = True) -> type[Workflow]:
    """Returns the workflow of that name.

    Args:
        names: whether the error may name the workflows that there are.

    Raises:
        WorkflowNotFound: it is not among the served workflows.
    """
    try:
        return workflows[name]
    except KeyError:
        if not names:
            raise WorkflowNotFound(f"unknown workflow {name!r}") from None
        known = ", ".join(sorted(workflows)) or "none"
        raise WorkflowNotFound(f"unknown workflow {name!r}. Available: {known}") from None


def by_name(workflows: Iterable[type[Workflow]]) -> dict[str, type[Workflow]]:
    """Returns the workflows by name, after checking that an engine can serve them together.

    Raises:
        DefinitionError: two workflows have the same name, an event has the name of an operation on instances or one
            that a URL cannot contain, or the workflow of a child is not among them.
    """
    result: dict[str, type[Workflow]] = {}
    for cls in workflows:
        other = result.setdefault(cls.__workflow_name__, cls)
        if other is not cls:
            raise DefinitionError(
                f"{cls.__module__}.{cls.__qualname__} and {other.__module__}.{other.__qualname__}",
                f"both are named {cls.__workflow_name__!r}",
                "Rename one of them.",
            )
        for event in cls.__program__.events:
            reason = ""
            if event in (*ACTIONS, *REPAIRS):
                reason = f"its event {event!r} has the name of an operation on instances"
            elif event in (".", ".."):
                reason = f"its event {event!r} is not valid in a URL, from which clients remove '.' and '..'"
            if reason:
                raise DefinitionError(f"workflow {cls.__workflow_name__!r}", reason, "Give the event another name.")
    for cls in result.values():
        selects = (instruction for instruction in cls.__program__.code if isinstance(instruction, SelectOp))
        for case in (case for select in selects for case in select.cases.values()):
            if isinstance(case, ChildCase) and case.child.workflow not in result:
                raise DefinitionError(
                    f"Child {case.event!r} of workflow {cls.__workflow_name__!r}",
                    f"its workflow {case.child.workflow!r} is not served here. Available: {', '.join(sorted(result))}",
                    "Pass both workflows to Service(...), and import both where they are served.",
                )
    return result


def without(workflows: Mapping[str, type[Workflow]], internal: Iterable[type[Workflow]]) -> dict[str, type[Workflow]]:
    """Returns the workflows that are not internal.

    Raises:
        DefinitionError: an internal workflow is not among them.
    """
    hidden = set(internal)
    for cls in hidden:
        if workflows.get(cls.__workflow_name__) is not cls:
            raise DefinitionError(
                f"internal workflow {cls.__workflow_name__!r}", "it is not served here", "Pass it as a workflow too."
            )
    return {name: cls for name, cls in workflows.items() if cls not in hidden}
