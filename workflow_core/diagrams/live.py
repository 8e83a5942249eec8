"""The live state of an instance on the tree of its definition, for diagrams and custom drawings.

The positions of threads are exact. Passed statements are inferred from the history that the caller passes and from the
order of statements, because a section always runs from its top. A statement that was added before a reached statement
therefore counts as passed although it never ran. So does a statement that an operator skipped. Nothing may be known
about a branch that was left long ago.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import field
from typing import Any

from workflow_core.diagrams import describe
from workflow_core.diagrams.describe import Node
from workflow_core.execution import Execution, Status, Thread
from workflow_core.program.program import Program
from workflow_core.records import record
from workflow_core.stored_parts import MAIN_THREAD
from workflow_core.times import rfc3339
from workflow_core.wait_types import RetriedWait, TimerWait

Place = str | tuple[str, str]
"""The name of a statement, a branch or a timeout; for an event, the names of the select and the event."""

_PARTS = frozenset(("branch", "on", "timeout", "when", "done", "except"))
_TIMERS = frozenset(("timeout", "sleep", "within"))
_RECORDED = frozenset(("step", "select", "sleep", "activity", "child"))


@record(frozen=True, slots=True)
class Live:
    """An instance and its definition.

    Attributes:
        statements: the tree of ``describe.statements``, in which each statement, branch, case and clause has an
            additional item ``live``: the ``threads`` at it (``id``, ``status``, ``attempt``, ``error``), whether it was
            ``passed``, its last ``error`` or None, and for a timer when it is ``due``, or None.
        id: the id of the instance.
        status: the status of the instance; ``error``: why it failed, or an empty text.
        starting: the main thread, if it is before its first statement.
        lost: the threads at statements that the definition no longer contains: their ids, and the statements' names.
        ended: whether the main thread is known to have reached the end of the definition.
    """

    statements: list[Node]
    id: str
    status: Status
    error: str
    starting: list[Node]
    lost: list[tuple[str, str]]
    ended: bool


def look(
    program: Program,
    execution: Execution,
    passed: Collection[Place] = (),
    errors: Mapping[Place, str] | None = None,
) -> Live:
    """Returns the live state of an instance.

    Args:
        passed: what is known to have happened: completed steps and waits, events and timeouts.
        errors: the errors of places that failed and were not completed later.

    Example:
        >>> from gorchestrate import Execution, S, Step, Workflow, resume
        >>> class Greeting(Workflow):
        ...     definition = S(Step("say hello", lambda w: None), Step("say goodbye", lambda w: None))
        >>> execution = Execution.start("greeting-1", Greeting)
        >>> looked = look(Greeting.__program__, execution, passed=["say hello"])
        >>> [node["live"]["passed"] for node in looked.statements]
        [True, False]
    """
    return _Look(program, execution, passed, errors or {}).live()


@record(slots=True)
class _Found:
    """The findings about a place. ``fatal``: the instance failed there."""

    threads: list[Node] = field(default_factory=list)
    error: str | None = None
    fatal: bool = False


class _Look:
    def __init__(
        self, program: Program, execution: Execution, passed: Collection[Place], errors: Mapping[Place, str]
    ) -> None:
        self.program = program
        self.execution = execution
        self.passed = frozenset(passed)
        self.found: dict[Place, _Found] = {place: _Found(error=error) for place, error in errors.items()}
        self.due: dict[Place, str] = {}
        self.visited: set[Place] = set()
        for thread in execution.threads:
            self.thread(thread)
        if execution.error is not None and execution.status is Status.FAILED:
            found = self.at(execution.error.statement)
            found.error, found.fatal = execution.error.text, True

    def at(self, place: Place) -> _Found:
        return self.found.setdefault(place, _Found())

    def thread(self, thread: Thread) -> None:
        """Adds a thread to its place, and its waits to theirs."""
        error = None if thread.error is None else thread.error.text
        attempt = thread.attempt
        for wait in thread.waits:
            if isinstance(wait, RetriedWait):
                if wait.event == thread.step:
                    error, attempt = error or wait.error, attempt or wait.attempt
                elif wait.error is not None:
                    self.at((thread.step, wait.event)).error = wait.error
            if isinstance(wait, TimerWait) and wait.deadline is not None:
                due = rfc3339(wait.deadline)
                self.due[wait.event] = min(self.due.get(wait.event, due), due)
        at = {"id": thread.id, "status": thread.status.value, "attempt": attempt, "error": error}
        self.at(self.place_of(thread)).threads.append(at)
        for clause in thread.errors:
            self.passed |= {clause}

    def place_of(self, thread: Thread) -> str:
        if thread.step or thread.name == MAIN_THREAD:
            return thread.step
        parent = self.execution.thread(thread.parent)
        return thread.name if parent is None else parent.step

    def live(self) -> Live:
        statements = describe.statements(self.program)
        is_known, _ = self.section(statements)
        execution = self.execution
        ended = execution.status is Status.FINISHED and not _may_have_returned(statements, is_known)
        if ended:
            for node in statements:
                node["live"]["passed"] = True
        start = self.found.pop("", _Found())
        lost = [
            (str(thread["id"]), str(place))
            for place, found in self.found.items()
            if place not in self.visited
            for thread in found.threads
        ]
        error = execution.error.text if execution.error is not None else ""
        return Live(statements, execution.id, execution.status, error, start.threads, lost, ended)

    def section(self, nodes: list[Node]) -> tuple[bool, bool]:
        """Adds the live state to a sequence of statements. Returns whether any was reached, and whether a thread is
        still in one or has failed in one."""
        reached = busy = False
        for node in reversed(nodes):
            node_reached, node_busy = self.node(node, self.own(node, node.get("name")))
            node["live"]["passed"] |= reached
            reached |= node_reached
            busy |= node_busy
        return reached, busy

    def place_of_part(self, node: Node, part: Node) -> Place | None:
        if part["kind"] == "on":
            return node["name"], part["name"]
        return self.own(part, part["work"]["name"] if part["kind"] == "done" else part["name"])

    def own(self, node: Node, place: Place | None) -> Place | None:
        """Returns a place, or None if it is that of another node: a decision or a loop may share the name of a step."""
        is_label = node["kind"] in ("branch", "switch", "when", "while")
        return None if is_label and isinstance(place, str) and place in self.program.rests else place

    def node(self, node: Node, place: Place | None) -> tuple[bool, bool]:
        """Does the same for a statement or a part of one."""
        kind, is_part = node["kind"], node["kind"] in _PARTS
        found, due = _Found(), None
        if place is not None:
            due = self.due.get(place) if kind in _TIMERS else None
            # A thread is at a statement, never at a part, which may share the name of a statement inside it.
            if not is_part or kind == "on":
                self.visited.add(place)
                found = self.found.get(place, found)
        # What is recorded under the name of a fail is the timeout that leads to it.
        passed = place in self.passed and kind != "fail"
        inner = self.inside(node)
        inner_reached = any(reached for reached, _ in inner)
        busy = bool(found.threads) or found.fatal or any(inner_busy for _, inner_busy in inner)
        reached = passed or inner_reached or (not is_part and (bool(found.threads) or found.error is not None))
        if kind == "done":  # work that fails ends the select, not the case
            passed |= node["work"]["live"]["passed"]
            busy |= node["work"]["live"]["error"] is not None
        else:
            passed |= inner_reached and (is_part or kind == "go" or not busy)
        # A thread that retries has its own error.
        error = None if found.threads and not found.fatal else found.error
        node["live"] = {"threads": found.threads, "passed": passed, "error": error, "due": due}
        return reached, busy

    def inside(self, node: Node) -> list[tuple[bool, bool]]:
        """Does the same for each section inside a statement, and each part of it."""
        work = [node["work"]] if "work" in node else []
        result = [self.section([*work, *node.get("statements", [])]), self.section(node.get("finally") or [])]
        for part in _parts(node):
            if isinstance(part, list):
                result.append(self.section(part))
            else:
                result.append(self.node(part, self.place_of_part(node, part)))
        if node["kind"] == "within":  # its timer has its name, and is due there
            node["cases"][0]["live"]["due"] = None
        return result


def _parts(node: Node) -> list[Any]:
    return [*node.get("branches", ()), *node.get("cases", ()), *node.get("excepts", ())]


def _may_have_returned(nodes: list[Node], is_known: bool) -> bool:
    """Whether the main thread may have ended by a ``Return`` among these statements.

    Args:
        is_known: whether its last action is recorded. Then, actions that are not recorded did not happen.
    """
    for node in nodes:
        kind = node["kind"]
        if kind == "return":
            return True
        if kind in ("go", "parallel", "race") or (kind == "for_each" and node["parallel"]):
            continue
        # A case that happened is recorded. A condition or an error may not be.
        unsure = ("branch", "when", "except") if is_known else _PARTS
        parts = [part["statements"] for part in _parts(node) if part["kind"] in unsure or part["live"]["passed"]]
        if any(_may_have_returned(inner, is_known) for inner in [node.get("statements", []), *parts]):
            return True
        is_recorded = kind in _RECORDED and not any(part["kind"] == "when" for part in _parts(node))
        if is_known and is_recorded and not (node["live"]["passed"] or node.get("detached")):
            return False
    return False


THREADS_SHOWN = 3
"""The maximum number of threads that are named."""

_WORDS = {"resuming": "starting", "executing": "at its step", "setting_up": "setting up", "waiting": "waiting"}


def in_words(threads: Collection[Node]) -> list[str]:
    """The threads at a statement, grouped by their status, without threads whose last attempt failed."""
    result = []
    for status, word in _WORDS.items():
        ids = [str(thread["id"]) for thread in threads if thread["status"] == status and not thread["attempt"]]
        more = f" and {len(ids) - THREADS_SHOWN} more" if len(ids) > THREADS_SHOWN else ""
        if ids:
            result.append(f"{', '.join(ids[:THREADS_SHOWN])}{more}: {word}")
    return result


def errors_in_words(node: Node) -> list[str]:
    """The error of a statement, or the errors of the threads at it whose attempts failed."""
    live = node["live"]
    if live["error"] is not None:
        return [live["error"]]
    failed = [thread for thread in live["threads"] if thread["attempt"]]
    result = [
        f"{thread['id']}: attempt {thread['attempt']} failed, {thread['error']}" for thread in failed[:THREADS_SHOWN]
    ]
    more = len(failed) - THREADS_SHOWN
    return [*result, f"and {more} more"] if more > 0 else result


def state_of(node: Node) -> str:
    """The most urgent state of a node: ``here``, ``failed``, ``passed``, or an empty text."""
    live = node.get("live")
    if live is None:
        return ""
    if live["error"] is not None:
        return "failed"
    if live["threads"]:
        return "here"
    return "passed" if live["passed"] else ""
