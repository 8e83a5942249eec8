"""Warnings about definitions: code that works, but not as its author may expect."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from cloud_adapter.cli.access_matrix import unsendable
from cloud_adapter.hosting.unencrypted import FIX, unencrypted
from cloud_adapter.store_settings import SecretSettings
from workflow_core import Workflow
from workflow_core.diagrams.describe import Node, statements
from workflow_core.plain.methods import RUN
from workflow_core.program.reachability import unreachable
from workflow_core.replacements import COMPILED
from workflow_core.signatures import is_async

_OVERLAPPING = frozenset(("activity", "child", "select", "sleep", "wait_for"))
"""The kinds of statements during which other threads of the instance can run."""


@dataclass(frozen=True, slots=True)
class DefinitionWarning:
    """A statement that works, but not as its author may expect.

    Attributes:
        statement: the kind and the name of the statement, such as ``Parallel 'notify'``.
        what: the unexpected behavior and the reason.
        fix: what to write instead.
    """

    workflow: str
    statement: str
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.statement} of workflow {self.workflow!r}: {self.what}. {self.fix}."

    def to_dict(self) -> dict[str, str]:
        """The warning as JSON data."""
        return {"workflow": self.workflow, "statement": self.statement, "warning": self.what, "fix": self.fix}


def advise(workflows: Iterable[type[Workflow]], settings: SecretSettings) -> list[DefinitionWarning]:
    """Returns warnings about parallel statements that cannot overlap, events that no principal may send, workflows that
    only code can create, methods ``run`` that are not the definition, locals of unknown types, statements that no path
    leads to, and secrets that are not encrypted."""
    workflows = list(workflows)
    return [
        *_parallel_warnings(workflows),
        *_event_warnings(workflows),
        *_creation_warnings(workflows),
        *_run_warnings(workflows),
        *_local_warnings(workflows),
        *_unreachable_warnings(workflows),
        *_secret_warnings(workflows, settings),
    ]


def _local_warnings(workflows: Iterable[type[Workflow]]) -> Iterator[DefinitionWarning]:
    for cls in workflows:
        stored = [local for rest in cls.__program__.rests.values() for local in rest.kept]
        for key in dict.fromkeys(local.key for local in stored if local.is_untyped and not local.is_hidden):
            yield DefinitionWarning(
                cls.__workflow_name__,
                f"local {key!r}",
                "nothing tells its type, so it is stored as plain JSON, and a value that JSON would change, such as a "
                "tuple or a date, fails when the instance stores it",
                f"Annotate it where it is assigned: {key.rpartition('/')[2]}: Type = ..., or annotate the function "
                "that returns it",
            )


def _run_warnings(workflows: Iterable[type[Workflow]]) -> Iterator[DefinitionWarning]:
    for cls in workflows:
        own = vars(cls)
        has_both = "definition" in own and COMPILED not in own and RUN in own and is_async(own[RUN])
        if has_both and RUN not in cls.__program__.methods:
            yield DefinitionWarning(
                cls.__workflow_name__,
                f"method {RUN!r}",
                "the class also has a definition, which does not call it",
                "Remove one of them, or give the method another name",
            )


def _unreachable_warnings(workflows: Iterable[type[Workflow]]) -> Iterator[DefinitionWarning]:
    for cls in workflows:
        if names := unreachable(cls.__program__):
            them = "them" if len(names) > 1 else "it"
            yield DefinitionWarning(
                cls.__workflow_name__,
                f"statements {', '.join(map(repr, names))}" if len(names) > 1 else f"statement {names[0]!r}",
                f"no path leads to {them}: what stands before {them} ends the thread, loops without an end, or has a "
                f"condition that is a constant",
                f"Remove {them}, unless instances from earlier code stand there",
            )


def _secret_warnings(workflows: Iterable[type[Workflow]], settings: SecretSettings) -> Iterator[DefinitionWarning]:
    what, fix = "these settings have no key, so they would not be encrypted", FIX[0].upper() + FIX[1:]
    for name in unencrypted(workflows, settings):
        yield DefinitionWarning(name, "Secrets", what, fix)


def _event_warnings(workflows: Iterable[type[Workflow]]) -> Iterator[DefinitionWarning]:
    for cls in workflows:
        if events := unsendable(cls):
            yield DefinitionWarning(
                cls.__workflow_name__,
                f"events {', '.join(map(repr, events))}" if len(events) > 1 else f"event {events[0]!r}",
                "no role may send them, so an API with authenticators denies them to everyone",
                "Write On(..., role=...), or Access(send={...}) for all events without a role. Callback URLs need none",
            )


def _creation_warnings(workflows: Sequence[type[Workflow]]) -> Iterator[DefinitionWarning]:
    """Warns about required fields that a request cannot set. A child gets them from its parent; whether code creates
    the others is unknown."""
    nodes = [node for cls in workflows for node in _all(statements(cls.__program__))]
    children = {node["workflow"] for node in nodes if node["kind"] == "child"}
    for cls in workflows:
        required = [name for name, field in cls.model_fields.items() if field.is_required()]
        missing = [name for name in required if name not in (*cls.create_fields, *cls.__created_by__)]
        if missing and cls.__workflow_name__ not in children:
            yield DefinitionWarning(
                cls.__workflow_name__,
                f"fields {', '.join(map(repr, missing))}" if len(missing) > 1 else f"field {missing[0]!r}",
                "no default and not in create_fields, so only code can create an instance",
                f"If clients shall create some, write create_fields = {(*cls.create_fields, *missing)}, or a default",
            )


def _parallel_warnings(workflows: Iterable[type[Workflow]]) -> list[DefinitionWarning]:
    return [
        DefinitionWarning(
            cls.__workflow_name__,
            f"{kind} {name!r}",
            f"{what}, and steps of one instance never overlap: they run one after another",
            "Use activities or children instead",
        )
        for cls in workflows
        for kind, name, what in _parallel_steps(statements(cls.__program__))
    ]


def _parallel_steps(nodes: Sequence[Node]) -> Iterator[tuple[str, str, str]]:
    """Parallel statements whose branches consist only of steps: kind, name, and the problem."""
    for node in _all(nodes):
        if node["kind"] == "for_each" and node["parallel"] and _has_only_steps(node["statements"]):
            yield "ForEach", node["name"], "its items run only steps"
        if node["kind"] in ("parallel", "race"):
            count, total = sum(map(_has_only_steps, node["branches"])), len(node["branches"])
            if count > 1:  # a single branch of steps overlaps with branches that wait
                what = "its branches" if count == total else f"{count} of its {total} branches"
                yield node["kind"].capitalize(), node["name"], f"{what} are steps"


def _has_only_steps(nodes: Sequence[Node]) -> bool:
    """Whether a section has a step, and no statement during which other threads can run."""
    kinds = {node["kind"] for node in _all(nodes)}
    return "step" in kinds and not kinds & _OVERLAPPING


def _all(nodes: Iterable[Node]) -> Iterator[Node]:
    """The nodes of a tree (see ``describe.statements``), in order."""
    for node in nodes:
        yield node
        for part in ("work", "statements", "branches", "cases", "excepts", "finally"):
            inside = node.get(part) or ()
            for inner in [inside] if isinstance(inside, dict) else inside:
                yield from _all(inner if isinstance(inner, list) else (inner,))
