"""Checks whether live instances can continue under other code: compares definitions with the instances of a store.

The check changes nothing. It finds what would stop an instance or make it lose data silently. Changes that the engine
handles, such as added or moved statements, are not problems.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cloud_adapter.cli.live_instances import Damaged, live_instances
from cloud_adapter.document import Instance
from cloud_adapter.engine.secrets import Secrets
from cloud_adapter.errors import DamagedDocument, SecretsUnreadable
from cloud_adapter.ports import Codec, Store
from cloud_adapter.variables import KMS_KEY_VARIABLE, SECRET_KEYS_VARIABLE
from workflow_core import (
    Execution,
    InvalidFields,
    InvalidInput,
    NewerVersion,
    Thread,
    ThreadStatus,
    WaitStatus,
    Workflow,
)
from workflow_core.execution import BufferedEvent
from workflow_core.machine.renaming import rename
from workflow_core.machine.stored_values import reasons_of, unfit_values
from workflow_core.plain.methods import plain_run
from workflow_core.program.cases import HandlerCase, SelectOp, WatchOp
from workflow_core.program.code import ForkOp, Instruction, StepOp, WaitForOp, loops_around
from workflow_core.program.program import Program
from workflow_core.signatures import HandlerSignature
from workflow_core.wait_types import ActivityWait, ChildTeardown, ChildWait, ConditionWait, EventWait

DAMAGED_FIX = "repair the document, or delete it"

_PARKED = (ThreadStatus.WAITING, ThreadStatus.SETTING_UP)


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem and its fix. Instances with the same problem have equal values."""

    workflow: str
    what: str
    fix: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where a problem was found: an instance (empty if the document is damaged), and the thread if it concerns one."""

    id: str
    thread: str = ""


@dataclass(slots=True)
class Report:
    """The findings of a check.

    Attributes:
        checked: the number of checked instances of each workflow.
        problems: each problem, with the places where it was found.
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
                    "instances": [{"id": place.id or None, "thread": place.thread or None} for place in places],
                }
                for problem, places in self.problems.items()
            ],
        }


async def check_store(
    store: Store,
    workflows: Iterable[type[Workflow]],
    codec: Codec | None = None,
    progress: Callable[[int], None] = lambda count: None,
) -> Report:
    """Checks every live instance of a store, including instances of workflows that are not among ``workflows``, and
    ended instances with unfinished cleanups.

    Instances may move during the check. Those that did are checked again at the end.

    Args:
        progress: called with the number of instances that were checked so far, after each of them.

    Raises:
        Unavailable: the store did not answer; try again.
    """
    known = {cls.__workflow_name__: cls for cls in workflows}
    secrets = Secrets(codec, known)
    found: dict[tuple[str, str], list[tuple[Problem, Place]]] = {}
    async for instance in live_instances(store):
        if isinstance(instance, Damaged):
            problem = Problem(instance.workflow, instance.what, DAMAGED_FIX)
            found[instance.workflow, instance.what] = [(problem, Place(""))]
        else:
            found[instance.workflow, instance.id] = await _check_instance(known, instance, secrets)
        progress(len(found))
    report = Report()
    for (workflow, _), problems in sorted(found.items()):
        report.checked[workflow] = report.checked.get(workflow, 0) + 1
        for problem, place in problems:
            report.problems.setdefault(problem, []).append(place)
    return report


async def _check_instance(
    workflows: Mapping[str, type[Workflow]], instance: Instance, secrets: Secrets
) -> list[tuple[Problem, Place]]:
    try:
        return list(check_instance(workflows, await secrets.opened(instance)))
    except SecretsUnreadable:
        what = "its secrets cannot be decrypted with the keys that are set here"
        fix = f"set {SECRET_KEYS_VARIABLE} or {KMS_KEY_VARIABLE} as in the deployment"
    except DamagedDocument as error:
        what, fix = str(error), DAMAGED_FIX
    return [(Problem(instance.workflow, what, fix), Place(instance.id))]


def check_instance(workflows: Mapping[str, type[Workflow]], instance: Instance) -> Iterator[tuple[Problem, Place]]:
    """Yields what would stop an instance under these workflows. Applies the new names of statements to the instance."""
    cls = workflows.get(instance.workflow)
    if cls is None:
        what = "the workflow no longer exists"
        fix = "keep it until its instances have ended, or cancel them"
        yield Problem(instance.workflow, what, fix), Place(instance.id)
        return
    execution = instance.execution
    rename(execution, cls.__program__)
    found: list[tuple[str, str, str | _Missing]] = [("", *problem) for problem in _fields(cls, instance)]
    found += [("", *problem) for problem in _teardowns(cls.__program__, workflows, execution)]
    if not execution.ended:
        found += [("", *problem) for problem in _buffered(cls.__program__, execution)]
        for thread in execution.threads:
            found += [(thread.id, *problem) for problem in _thread(cls.__program__, workflows, thread)]
        for unfit in unfit_values(cls.__program__, execution):
            fix = f"{unfit.fix}, {_OTHERWISE}" if unfit.fix else _OTHERWISE
            found.append((unfit.thread, unfit.what, fix))
    for thread_id, what, remedy in found:
        fix = remedy.fix(cls) if isinstance(remedy, _Missing) else remedy
        yield Problem(instance.workflow, what, fix), Place(instance.id, thread_id)


_OTHERWISE = "wait until no instance is there, or repair the instances"
_CALLED = "add .named({name!r}) to the call that replaces it, "
_DECORATED = "add renamed_from={name!r} to the decorator of its replacement, "
_SECTION = "add @section(renamed_from={name!r}) to the method that replaces the section, "
_SECTIONS = re.compile(r"(?:[^/\"'(]*[^/\"'(\s]/)*")
"""The sections before a name: ``payments/pay``. The name itself may contain a division: ``sleep(self.n / 2)``."""
_NOT_NAMED = ("for ", "parallel ")
"""How the names of blocks begin that cannot have another one."""


@dataclass(frozen=True, slots=True)
class _Missing:
    """A name that the definition no longer has.

    Attributes:
        name: the name.
        renaming: how a plain definition declares it; empty if it cannot, or if the form is not known.
    """

    name: str
    renaming: str = ""

    def fix(self, cls: type[Workflow]) -> str:
        """Says what to do about it in the definition of this class."""
        name, renaming = self.name, self.renaming
        if plain_run(cls) is None:
            renaming = "add renamed_from={name!r} to its replacement, "
        elif renaming:
            found = _SECTIONS.match(name)
            prefix = found.group() if found else ""
            if prefix and not any(rest.startswith(prefix) for rest in cls.__program__.rests):
                renaming, name = _SECTION, prefix.rstrip("/").rpartition("/")[2]
            name = name.removeprefix(prefix)
        return f"{renaming.format(name=name)}restore it, {_OTHERWISE}"


_Found = Iterator[tuple[str, str | _Missing]]
"""Problems, each with its fix, or with the name that is missing."""


def _fields(cls: type[Workflow], instance: Instance) -> _Found:
    version = instance.execution.fields_version
    try:
        cls.load_fields(instance.fields, version)
    except NewerVersion:
        yield (
            f"it was saved by version {version}, but this code has version {cls.__workflow_version__}",
            "deploy that version or a later one",
        )
    except InvalidFields as error:
        is_older = version < cls.__workflow_version__
        migrate = "correct migrate" if is_older else "increase the version of the workflow and write migrate"
        yield str(error), f"give new fields a default, or {migrate}"


def _thread(program: Program, workflows: Mapping[str, type[Workflow]], thread: Thread) -> _Found:
    if not thread.step:
        if thread.name not in program.entries:
            yield f"it starts at {thread.name!r}, which the definition no longer contains", _Missing(thread.name)
        return
    instruction = program.rests.get(thread.step)
    if instruction is None:
        yield f"it is at {thread.step!r}, which the definition no longer contains", _missing(thread)
        return
    if thread.status is ThreadStatus.EXECUTING and not isinstance(instruction, StepOp):
        yield f"it is at the step {thread.step!r}, which is no longer a step", _missing(thread)
        return
    if thread.status in _PARKED:
        yield from _waits(program, workflows, thread, instruction)
    yield from _around(program, thread, instruction)


def _waits(
    program: Program, workflows: Mapping[str, type[Workflow]], thread: Thread, instruction: Instruction
) -> _Found:
    """Problems with the waits of a thread."""
    on_condition = any(isinstance(wait, ConditionWait) for wait in thread.waits)
    if not isinstance(instruction, (WaitForOp, ForkOp, WatchOp) if on_condition else SelectOp):
        yield f"it waits in {thread.step!r}, which is no longer a wait of that kind", _missing(thread)
        return
    for wait in thread.waits if not on_condition else ():
        case = program.case(thread.step, wait.event)
        if case is None or not isinstance(wait, case.wait_type):
            yield (
                f"it waits in {thread.step!r} for the {wait.kind} {wait.event!r}, which no longer exists",
                _Missing(wait.event, _DECORATED if isinstance(wait, EventWait) else ""),
            )
        elif isinstance(wait, ChildWait) and wait.status is not WaitStatus.SET_UP:
            yield from _child(workflows, wait)


def _around(program: Program, thread: Thread, instruction: Instruction) -> _Found:
    """Problems with data that is stored under the names of the sections around a thread."""
    for each in loops_around(instruction):
        if each.name not in thread.positions:
            yield (
                f"it is at {thread.step!r} in the ForEach {each.name!r} but has no position there, and would start at "
                f"the first item",
                "add renamed_from to the ForEach if it had another name, wait until no instance is in it, or repair "
                "the instances",
            )
    for name in thread.pending.keys() - program.sections:
        yield f"it is in the finally_ of the Try {name!r}, which the definition no longer contains", _Missing(name)
    for name in instruction.caught:
        if thread.errors and name not in thread.errors:
            yield (
                f"it is in the except_ {name!r}, but the error was caught under another name",
                "give the except_ its former name, or add renamed_from",
            )


def _buffered(program: Program, execution: Execution) -> _Found:
    for event in execution.buffer:
        cases = [case for _, case in program.events.get(event.event, ()) if case.buffered]
        if not cases:
            yield (
                f"it has a buffered event {event.event!r}, which is no longer buffered anywhere",
                _Missing(event.event, _DECORATED),
            )
        refusals = [reasons for case in cases if (reasons := _refusal(case.signature, event))]
        if refusals and len(refusals) == len(cases):
            yield (
                f"it has a buffered event {event.event!r} with an input that its handler no longer accepts: "
                f"{refusals[0]}",
                "make the handler accept the old input too, or wait until the events are handled",
            )


def _refusal(signature: HandlerSignature, event: BufferedEvent) -> str:
    """Returns why a handler does not accept a buffered event; empty if it does."""
    try:
        (signature.load if event.by_name else signature.validate_json)(event.event, event.input.encode())
    except InvalidInput as error:
        return reasons_of(error)
    return ""


def _teardowns(program: Program, workflows: Mapping[str, type[Workflow]], execution: Execution) -> _Found:
    for teardown in execution.teardowns:
        if isinstance(teardown, ChildTeardown):
            yield from _child(workflows, teardown)
            continue
        case = program.case(teardown.step, teardown.event) if teardown.step in program.rests else None
        if not isinstance(case, HandlerCase):
            place = f"its event {teardown.event!r} of {teardown.step!r}"
            yield f"{place} must still be torn down, but no longer has a handler", _Missing(teardown.step)


def _child(workflows: Mapping[str, type[Workflow]], wait: ChildWait | ChildTeardown) -> _Found:
    name = wait.child["workflow"]
    if name not in workflows:
        verb = "started" if isinstance(wait, ChildWait) else "canceled"
        what = f"its child of {wait.event!r} must still be {verb}, but its workflow {name!r} no longer exists"
        yield what, "restore that workflow"


def _missing(thread: Thread) -> _Missing:
    """The name of the statement at which a thread is."""
    waits = thread.waits if thread.status in _PARKED else []
    if thread.status is ThreadStatus.EXECUTING or any(isinstance(wait, ActivityWait) for wait in waits):
        return _Missing(thread.step, _DECORATED)
    is_call = bool(waits) and not thread.step.rpartition("/")[2].startswith(_NOT_NAMED)
    return _Missing(thread.step, _CALLED if is_call else "")
