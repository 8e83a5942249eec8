"""Whether live instances can go on under other code: compares definitions with where the instances of a store stand.

It reads and changes nothing. What it looks for is what would stop an instance, or let it lose something without a word;
what the engine takes in its stride, such as statements that were added or moved, is no problem.

``advise`` looks at the definitions alone, for what works but not as its author may expect.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic_core import to_json

from cloud_adapter.clock import CLOCK_SKEW
from cloud_adapter.document import Instance
from cloud_adapter.ports import Store
from cloud_adapter.stores.listings import EPOCH
from workflow_core import (
    Execution,
    InvalidFields,
    InvalidInput,
    NewerVersion,
    Status,
    Teardown,
    Thread,
    ThreadStatus,
    Wait,
    WaitKind,
    WaitStatus,
    Workflow,
)
from workflow_core.diagrams.describe import Node, statements
from workflow_core.machine.renaming import rename
from workflow_core.program.program import Instruction, Op, Program

LIVE = (Status.RUNNING, Status.WAITING, Status.PAUSED)
"""The statuses of what still has a way to go."""

PAGE = 100

_PARKED = (ThreadStatus.WAITING, ThreadStatus.SETTING_UP)
_WAITS = (Op.SELECT, Op.WAIT_FOR, Op.FORK)

_OVERLAPPING = frozenset(("activity", "child", "select", "sleep", "wait_for"))
"""The kinds of statements during which other threads of the instance go on."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with an instance, in words that are the same for all that have it, and what to do."""

    workflow: str
    what: str
    fix: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where a problem was met: an instance (none: a document cannot be read), and the thread, if it is about one."""

    id: str
    thread: str = ""


@dataclass(slots=True)
class Report:
    """What a check has found.

    Attributes:
        checked: how many instances were looked at, by their workflow.
        problems: each problem, and where it was met.
    """

    checked: dict[str, int] = field(default_factory=dict)
    problems: dict[Problem, list[Place]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON data."""
        return {
            "ok": not self.problems,
            "checked": self.checked,
            "problems": [
                {
                    "workflow": problem.workflow,
                    "problem": problem.what,
                    "fix": problem.fix,
                    "instances": [{"id": one.id or None, "thread": one.thread or None} for one in places],
                }
                for problem, places in self.problems.items()
            ],
        }


@dataclass(frozen=True, slots=True)
class DefinitionWarning:
    """What works in a definition, but not as its author may expect.

    Attributes:
        statement: the kind and the name of the statement, as ``Parallel 'notify'``.
        what: what is unexpected, and why.
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


def advise(workflows: Iterable[type[Workflow]]) -> list[DefinitionWarning]:
    """The warnings about definitions: where statements are written in parallel that cannot overlap."""
    return [
        DefinitionWarning(
            cls.__workflow_name__,
            f"{kind} {name!r}",
            f"{what}, and steps of one instance never overlap: they run one after another",
            "Make them activities, or children",
        )
        for cls in workflows
        for kind, name, what in _in_vain(statements(cls.__program__))
    ]


async def check_store(store: Store, workflows: Iterable[type[Workflow]]) -> Report:
    """Looks at every live instance of a store, also of workflows that are not among ``workflows``, and at those that
    have ended and are not done with cleaning up.

    Instances move on meanwhile; one that did is looked at again at the end.

    Raises:
        Unavailable: try again.
    """
    known = {cls.__workflow_name__: cls for cls in workflows}
    found: dict[tuple[str, str], list[tuple[Problem, Place]]] = {}
    async for instance in _live(store):
        if isinstance(instance, _Damaged):
            fix = "repair the document, or delete it"
            found[instance.workflow, instance.what] = [(Problem(instance.workflow, instance.what, fix), Place(""))]
        else:
            found[instance.workflow, instance.id] = list(check_instance(known, instance))
    report = Report()
    for (workflow, _), problems in sorted(found.items()):
        report.checked[workflow] = report.checked.get(workflow, 0) + 1
        for problem, place in problems:
            report.problems.setdefault(problem, []).append(place)
    return report


def check_instance(workflows: Mapping[str, type[Workflow]], instance: Instance) -> Iterator[tuple[Problem, Place]]:
    """What would stop an instance under these workflows. The instance is put on the names that they have now."""
    cls = workflows.get(instance.workflow)
    if cls is None:
        what = "the workflow is gone"
        fix = "bring it back until its instances have come to their end, or cancel them"
        yield Problem(instance.workflow, what, fix), Place(instance.id)
        return
    execution = instance.execution
    rename(execution, cls.__program__)
    found = [("", *one) for one in _fields(cls, instance)]
    found += [("", *one) for one in _teardowns(cls.__program__, workflows, execution)]
    if not execution.ended:
        found += [("", *one) for one in _buffered(cls.__program__, execution)]
        for thread in execution.threads:
            found += [(thread.id, *one) for one in _thread(cls.__program__, workflows, thread)]
    for thread_id, what, fix in found:
        yield Problem(instance.workflow, what, fix), Place(instance.id, thread_id)


# --- definitions -----------------------------------------------------------------------------


def _in_vain(nodes: Sequence[Node]) -> Iterator[tuple[str, str, str]]:
    """What is written in parallel and holds steps alone: its kind, its name, and what is wrong."""
    for node in _all(nodes):
        if node["kind"] == "for_each" and node["parallel"] and _is_steps_alone(node["statements"]):
            yield "ForEach", node["name"], "its rounds are steps"
        if node["kind"] == "parallel":
            count, total = sum(map(_is_steps_alone, node["branches"])), len(node["branches"])
            if count > 1:  # one beside branches that wait does overlap with them
                what = "its branches" if count == total else f"{count} of its {total} branches"
                yield "Parallel", node["name"], f"{what} are steps"


def _is_steps_alone(nodes: Sequence[Node]) -> bool:
    """Whether there is a step in a section, and nothing that leaves the instance to others meanwhile."""
    kinds = {node["kind"] for node in _all(nodes)}
    return "step" in kinds and not kinds & _OVERLAPPING


def _all(nodes: Iterable[Node]) -> Iterator[Node]:
    """The nodes of a tree, see ``describe.statements``, in their order."""
    for node in nodes:
        yield node
        for part in ("statements", "branches", "cases", "excepts", "finally"):
            for inner in node.get(part) or ():
                yield from _all(inner if isinstance(inner, list) else (inner,))


# --- the parts of an instance ----------------------------------------------------------------

_Found = Iterator[tuple[str, str]]
"""What is wrong, and the fix."""


def _fields(cls: type[Workflow], instance: Instance) -> _Found:
    version = instance.execution.fields_version
    try:
        cls.load_fields(instance.fields, version)
    except NewerVersion:
        yield (
            f"it was saved by version {version}, this code has version {cls.__workflow_version__}",
            "deploy that version or a later one",
        )
    except InvalidFields as error:
        yield (
            str(error),
            "give new fields a default, or raise the version of the workflow and write migrate",
        )


def _thread(program: Program, workflows: Mapping[str, type[Workflow]], thread: Thread) -> _Found:
    if not thread.step:
        if thread.name not in program.entries:
            yield f"it is to begin with {thread.name!r}, which the definition no longer has", _fix(thread.name)
        return
    instruction = program.rests.get(thread.step)
    if instruction is None:
        yield f"it stands on {thread.step!r}, which the definition no longer has", _fix(thread.step)
        return
    if thread.status is ThreadStatus.EXECUTING and instruction.op is not Op.STEP:
        yield f"it stands on the step {thread.step!r}, which is not a step any more", _fix(thread.step)
        return
    if thread.status in _PARKED:
        yield from _waits(program, workflows, thread, instruction)
    yield from _around(program, thread, instruction)


def _waits(
    program: Program, workflows: Mapping[str, type[Workflow]], thread: Thread, instruction: Instruction
) -> _Found:
    """What the thread waits for."""
    on_condition = any(wait.kind is WaitKind.CONDITION for wait in thread.waits)
    if instruction.op not in _WAITS or on_condition is (instruction.op is Op.SELECT):
        yield f"it waits in {thread.step!r}, which is not a wait of that kind any more", _fix(thread.step)
        return
    for wait in thread.waits if not on_condition else ():
        case = instruction.cases.get(wait.event)
        if case is None or case.kind is not wait.kind:
            yield (
                f"it waits in {thread.step!r} for the {wait.kind} {wait.event!r}, which is no longer there",
                _fix(wait.event),
            )
        elif case.activity is not None and case.activity.signature.takes_input:
            try:
                case.activity.signature.validate_json(wait.event, to_json(wait.input))
            except InvalidInput as error:
                yield (
                    f"the input of activity {wait.event!r} does not fit its function now: {_of(error)}",
                    "let the function take the old input as well, or wait until the activities have ended",
                )
        elif wait.kind is WaitKind.CHILD and wait.status is not WaitStatus.SET_UP:
            yield from _child(workflows, wait, wait.input)


def _around(program: Program, thread: Thread, instruction: Instruction) -> _Found:
    """What is kept for the sections that the thread is in, by their names."""
    each = instruction.each
    while each is not None:
        if each.name not in thread.positions:
            yield (
                f"it stands on {thread.step!r} in the ForEach {each.name!r} without a position there, and would begin "
                f"with the first item",
                "give the ForEach renamed_from if it had another name, wait until no instance stands in it, or repair "
                "the instances",
            )
        each = each.outer
    cleanups = {one.name for one in program.code if one.op is Op.LEFT}
    for name in thread.pending.keys() - cleanups:
        yield f"it is on its way out of the Try {name!r}, which has no finally_ any more", _fix(name)
    if instruction.caught and thread.errors and instruction.caught not in thread.errors:
        yield (
            f"it stands in the except_ {instruction.caught!r}, and the error was caught under another name",
            "give the except_ the name that it had, or renamed_from",
        )


def _buffered(program: Program, execution: Execution) -> _Found:
    for one in execution.buffer:
        case = next((case for _, case in program.events.get(one.event, ()) if case.buffered), None)
        if case is None:
            yield f"it keeps an event {one.event!r}, which is not buffered anywhere now", _fix(one.event)
            continue
        assert case.signature is not None
        try:
            case.signature.validate_json(one.event, one.input.encode())
        except InvalidInput as error:
            yield (
                f"it keeps an event {one.event!r} whose input does not fit its handler now: {_of(error)}",
                "let the handler take the old input as well, or wait until the events were handled",
            )


def _teardowns(program: Program, workflows: Mapping[str, type[Workflow]], execution: Execution) -> _Found:
    for one in execution.teardowns:
        if one.kind is WaitKind.CHILD:
            yield from _child(workflows, one, one.setup_data)
            continue
        instruction = program.rests.get(one.step)
        case = None if instruction is None else instruction.cases.get(one.event)
        if case is None or case.event_handler is None:
            yield (
                f"its event {one.event!r} of {one.step!r} is still to be torn down, and has no handler now",
                _fix(one.step),
            )


def _child(workflows: Mapping[str, type[Workflow]], wait: Wait | Teardown, child: Mapping[str, Any]) -> _Found:
    name = child["workflow"]
    if name not in workflows:
        verb = "started" if isinstance(wait, Wait) else "canceled"
        yield f"its child of {wait.event!r} is still to be {verb}, and is of {name!r}, which is gone", "bring that back"


def _fix(name: str) -> str:
    return (
        f"give what has taken its place renamed_from={name!r}, bring it back, wait until no instance stands there, or "
        f"repair the instances"
    )


def _of(error: InvalidInput) -> str:
    return "; ".join(f"{one['field'] or 'input'}: {one['message']}" for one in error.errors)


# --- all instances of a store ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Damaged:
    """A document that cannot be read."""

    workflow: str
    what: str


async def _live(store: Store) -> AsyncIterator[Instance | _Damaged]:
    """What still has a way to go; one that moves meanwhile may come twice, its last state last."""
    for workflow in await store.workflows():
        newest = (await store.list(workflow, limit=1)).instances
        since = _updated_at(newest[0]) - CLOCK_SKEW if newest else EPOCH
        for status in LIVE:
            async for one in _listed(store, workflow, status):
                yield one
        # A listing is ordered by the last update, and what is updated moves before the pages that are still to come.
        async for one in _listed(store, workflow):
            if isinstance(one, Instance) and _updated_at(one) < since:
                break
            if isinstance(one, _Damaged) or one.execution.status in LIVE:
                yield one
    # With something due, though it has ended: teardowns, or a parent that is still to be told.
    last: Instance | None = None
    while due := await store.due(datetime.max.replace(tzinfo=UTC), PAGE, after=last):
        for instance in due:
            if instance.execution.ended:
                yield instance
        last = due[-1]


async def _listed(store: Store, workflow: str, status: str | None = None) -> AsyncIterator[Instance | _Damaged]:
    cursor: str | None = None
    while True:
        page = await store.list(workflow, status=status, limit=PAGE, cursor=cursor)
        for what in page.damaged:
            yield _Damaged(workflow, what)
        for instance in page.instances:
            yield instance
        cursor = page.cursor
        if cursor is None:
            return


def _updated_at(instance: Instance) -> datetime:
    return instance.execution.updated_at or EPOCH
