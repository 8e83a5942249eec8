"""Errands: children from the perspective of their parent.

The rule: a thread that waits for a child has exactly one errand for it, from the start of the wait. Leaving the wait
before the child has ended adds exactly one cancellation to the teardowns. A child that is forgotten, started twice or
never canceled is therefore visible as an errand in the wrong state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, SecretStr

from tests.core.reference import Reference, RefThread, Rest
from tests.simulation.model.violations import require
from workflow_core import Child, Done, EventRequest, Select
from workflow_core.events import stable_key


@dataclass(eq=False)
class Errand:
    """A child as its parent sees it.

    Attributes:
        is_born: the other instance was created.
        is_started: the parent knows that.
        is_over: the parent no longer waits, because it knows of the end or the child is detached.
        is_left: the parent no longer waits, and the child must be canceled.
        is_torn_down: the engine has reported that the child is canceled.
    """

    id: str
    fields: dict[str, Any]
    detached: bool
    is_born: bool = False
    is_started: bool = False
    is_over: bool = False
    is_left: bool = False
    is_torn_down: bool = False


class Cancellation:
    """The entry in the list of teardowns for a child that must be canceled."""

    def setup(self, request: EventRequest) -> None: ...

    def handle(self, request: EventRequest, input: Any) -> None: ...

    def teardown(self, request: EventRequest, handled: bool) -> None: ...


class ReferenceWithChildren(Reference):
    """The naive executor. It rests on a child until the result of the child is reported."""

    def __init__(self, *args: Any) -> None:
        self.errands: dict[tuple[str, str], Errand] = {}
        super().__init__(*args)

    def walk(self, thread: RefThread, go: Callable[[], Any]) -> None:
        super().walk(thread, go)
        for name, child in children_at(thread.at):
            if (thread.wait_id, name) in self.errands:
                continue
            before, self.current = self.current, thread
            id = "" if child.id is None else str(self.call(child.id))  # type: ignore[arg-type]
            given = {} if child.input is None else self.call(child.input)
            self.errands[thread.wait_id, name] = Errand(id, taken_fields(child, given), child.detached)
            self.current = before

    def leave(self, thread: RefThread, event: str | None) -> None:
        """Leaves a wait, so that its children must be canceled."""
        super().leave(thread, event)
        for name, _ in children_at(thread.at):
            errand = self.errands.get((thread.wait_id, name))
            if errand is None or errand.is_over or errand.is_left:
                continue
            errand.is_left = True
            child: dict[str, Any] = {"workflow": "child", "id": errand.id}
            if not errand.is_started:
                child |= {"fields": errand.fields, "detached": errand.detached}
            request = EventRequest(self.workflow, self.id, thread.id, thread.wait_id, name, child, "teardown")
            self.teardowns.append((Cancellation(), request, False))

    def learn_id(self, errand: Errand, wait_id: str, event: str, id: str) -> None:
        """Sets the random id of a child, once it is stored."""
        foreseen = stable_key(type(self.workflow).__workflow_name__, self.id, wait_id, event)
        require(id != foreseen, f"the id of child {event!r} can be foreseen")
        errand.id = id
        for _, request, _ in self.teardowns:
            if (request.wait_id, request.event) == (wait_id, event) and isinstance(request.setup_data, dict):
                request.setup_data["id"] = id

    def errands_of(self, thread: RefThread) -> dict[str, Errand]:
        """Returns the errands that the thread rests on, by the names of the children."""
        return {name: self.errands[thread.wait_id, name] for name, _ in children_at(thread.at)}

    def child_started(self, thread: RefThread, errand: Errand) -> None:
        errand.is_started = True
        if errand.detached:
            errand.is_over = True
            self.advance(thread)
        else:
            self.pc += 1

    def child_done(self, thread: RefThread, name: str, result: int) -> None:
        self.errands_of(thread)[name].is_over = True
        dict(children_at(thread.at))[name].then(self.workflow, result)  # type: ignore[misc]
        self.advance(thread, name)

    def child_failed(self, thread: RefThread, name: str, error: Exception) -> None:
        self.errands_of(thread)[name].is_over = True
        self.fail_at(thread, error, name)


def taken_fields(child: Child, given: Any) -> Any:
    """The fields that are stored for a child: those that it is given, as its class takes them if that is known."""
    given = given.model_dump(mode="json") if isinstance(given, BaseModel) else given
    if not isinstance(given, dict):
        return given
    if isinstance(child.workflow, type):
        taken = child.workflow(**given)
        given = {name: getattr(taken, name) for name in given}
    return {name: _plain(value) for name, value in given.items()}


def _plain(value: Any) -> Any:
    """A value as a field of a child, which takes a secret as its text."""
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def children_at(at: Rest | None) -> list[tuple[str, Child]]:
    """The children that a thread waits for at a rest, by their names."""
    if at is not None and isinstance(at.statement, Child):
        return [(at.name, at.statement)]
    if at is None or not isinstance(at.statement, Select):
        return []
    works = (case.work for case in at.statement.cases if isinstance(case, Done))
    return [(at.prefix + work.name, work) for work in works if isinstance(work, Child)]
