"""Runs a test's script with a crash at each point where the state is saved."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic_core import from_json, to_json

from cloud_adapter.options import EngineOptions
from gorchestrate.testing.environment import Environment
from workflow_core import Execution, InvalidFields, Workflow

CRASHES_MAX: Final = 2_000

Script = Callable[[Environment], Any]


@dataclass(frozen=True)
class Problem:
    """A crash after which something was different.

    Attributes:
        crash: where the process was killed.
        difference: what was different then.
    """

    crash: str
    difference: str

    def __str__(self) -> str:
        return f"{self.crash}:\n    {self.difference}"


class CrashProblems(AssertionError):
    """With a crash, a script ended in another way than without one.

    Attributes:
        problems: the crashes, and what was different.
    """

    def __init__(self, problems: list[Problem], crashes: int) -> None:
        self.problems = problems
        listed = "\n".join(f"  {problem}" for problem in problems)
        super().__init__(
            f"{len(problems)} of {crashes} crashes changed how the script ends:\n{listed}\n"
            "A step or an activity that was not saved runs again. Pass its idempotency_key to the outside system, so "
            "that the system recognizes the repeated request."
        )


@dataclass(frozen=True)
class _End:
    """How a script ended: what it returned, and the status, fields and error of each instance."""

    returned: Any
    instances: dict[str, tuple[str, str, str]]

    def difference(self, other: _End) -> str:
        """Returns what is different in ``other``; empty if nothing is."""
        if self.returned != other.returned:
            return f"the script returned {other.returned!r}, not {self.returned!r}"
        for name, state in self.instances.items():
            for what, before, after in zip(
                ("is", "has the fields", "has the error"),
                state,
                other.instances.get(name, ("gone", "", "")),
                strict=True,
            ):
                if before != after:
                    return f"{name} {what} {after or 'none'}, not {before or 'none'}"
        new = sorted(set(other.instances) - set(self.instances))
        return f"there is another instance: {new[0]}" if new else ""


def crash_everywhere(
    script: Script,
    *workflows: type[Workflow],
    ignored_fields: Collection[str] = (),
    options: EngineOptions | None = None,
) -> int:
    """Runs a script without a fault, and then again and again: in the n-th run, the process is killed just before it
    saves for the n-th time, or just after it. Another process continues from what was saved. Each run must end like the
    first one: with the same statuses and fields of all instances, and with the same return value of the script. Return
    from it what the outside world has seen, such as the mails of a fake.

    A process that is killed after a step has run, but before its state is saved, runs the step again. So this finds
    steps that are not idempotent.

    Args:
        script: gets a new environment in each run. It creates instances, sends events and moves the time. Requests that
            the crash interrupts are repeated with the same idempotency key.
        workflows: the workflows to serve.
        ignored_fields: the names of fields that may differ, such as times. The idempotency keys of later statements
            differ as well.
        options: options of the engine.

    Returns:
        The number of crashes.

    Raises:
        CrashProblems: a run ended differently. Lists all of them.
        AssertionError, ...: what the script raised without a crash.
    """
    if isinstance(script, type) or not callable(script):
        raise TypeError(f"the script is {script!r}: pass the function first, as crash_everywhere(script, Approval)")
    with Environment(*workflows, options=options) as environment:
        expected = _play(script, environment, ignored_fields)
        saves = environment.store.saves
    if saves > CRASHES_MAX:
        raise ValueError(f"the script saves {saves} times, the limit is {CRASHES_MAX}: use a shorter one")
    problems = []
    for number in range(1, saves + 1):
        for after in (False, True):
            with Environment(*workflows, options=options) as environment:
                environment.store.kill_at, environment.store.kill_after = number, after
                try:
                    difference = expected.difference(_play(script, environment, ignored_fields))
                except Exception as error:
                    difference = f"the script raised {type(error).__name__}: {error}"
                when = "just after" if after else "just before"
                crash = f"killed {when} save {number} ({environment.store.saving})"
            if difference:
                problems.append(Problem(crash, difference))
    if problems:
        raise CrashProblems(problems, 2 * saves)
    return 2 * saves


def _play(script: Script, environment: Environment, ignored_fields: Collection[str]) -> _End:
    returned = script(environment)
    by_name = {workflow.__workflow_name__: workflow for workflow in environment.workflows}
    ends: dict[str, tuple[str, str, str]] = {}
    shown: dict[tuple[str, str], str] = {}
    for name, id in environment.store.ids:
        instance = environment.load(by_name[name], id)
        execution = instance.execution
        shown[name, id] = _shown(execution, shown)
        try:
            by_name[name].load_fields(instance.fields, execution.fields_version)
        except InvalidFields as error:
            raise AssertionError(f"{name} {id!r} cannot be loaded again: {error}") from error
        error_text = f"{execution.error.type}: {execution.error.message}" if execution.error is not None else ""
        fields = {key: value for key, value in from_json(instance.fields).items() if key not in ignored_fields}
        ends[shown[name, id]] = (str(execution.status), to_json(fields).decode(), error_text)
    return _End(returned, ends)


def _shown(execution: Execution, shown: Mapping[tuple[str, str], str]) -> str:
    """Returns the name of an instance, which is the same in each run. The id of a child may be random, so it is named
    by its parent and the statement that started it.

    Args:
        shown: the names of the instances that were created before it.
    """
    parent = execution.parent
    if parent is None:
        return f"{execution.workflow} {execution.id!r}"
    name = f"child {parent.event!r} of {shown.get((parent.workflow, parent.id), parent.id)}"
    numbered = (f"{name}, number {number}" for number in itertools.count(2))
    return next(free for free in itertools.chain([name], numbered) if free not in shown.values())
