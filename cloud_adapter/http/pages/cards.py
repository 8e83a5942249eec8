"""The forms on an instance's page: one for each event that it accepts, and one for each operation.

A card describes a form and the request that the form posts. It sends nothing. The texts of an operation, such as the
label of its button, are in ``cloud_adapter.engine.operations``.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from cloud_adapter.engine.operations import ACTIONS, Action
from cloud_adapter.engine.view import View
from cloud_adapter.errors import Busy, InvalidRequest, Unavailable
from cloud_adapter.http.bodies import check_size, check_values
from cloud_adapter.http.pages.form_fields import MISSING, Field
from cloud_adapter.http.pages.forms import Form
from workflow_core import EventNotAccepted, InvalidInput, WorkflowError
from workflow_core.program.cases import ClientCase, EventCase
from workflow_core.program.program import Program
from workflow_core.stored_parts import MAIN_THREAD


@dataclass(slots=True)
class Card:
    """A form with a button that sends it.

    Attributes:
        id: stable: the same form always has the same id.
        kind: ``event``, ``operation`` or ``new``.
        name: the name of the event or the action.
        place: where the instance waits for the event, in words.
        hidden: the hidden controls that are posted with the fields.
        form: its fields; None if there are none.
        message: why it was not sent, if the reason is not an error in a field.
        is_open: whether it is expanded.
        gone: whether it can no longer be sent.
        posted: whether it shows posted values.
        focus: the id of the field that gets the focus.
    """

    id: str
    kind: str
    name: str
    title: str
    button: str
    text: str = ""
    role: str = ""
    place: str = ""
    hidden: dict[str, str] = field(default_factory=dict)
    form: Form | None = None
    message: str = ""
    is_open: bool = True
    gone: bool = False
    posted: bool = False
    focus: str = ""

    @property
    def errors(self) -> list[tuple[Field, str]]:
        """The errors in its fields."""
        return [] if self.form is None else self.form.errors()

    @property
    def failed(self) -> bool:
        """Whether it was sent and rejected."""
        return bool(self.message or self.errors)

    def refuse(self, message: str) -> None:
        """Records why it was not sent."""
        self.message = message

    def renew(self) -> None:
        """Gives it a new idempotency key, so that sending it again is a new request."""
        self.hidden["key"] = secrets.token_urlsafe(16)


def event_cards(view: View) -> list[Card]:
    """Returns a card for each event that an instance accepts now."""
    return [
        _event_card(accepted.thread.id, accepted.thread.step, accepted.wait_id, accepted.case)
        for accepted in view.accepted
        if isinstance(accepted.case, ClientCase)
    ]


def posted_event(program: Program, data: Mapping[str, str]) -> Card:
    """Returns the card of a posted event, whether or not the event is accepted now.

    Raises:
        InvalidRequest: the form is not from one of the pages.
    """
    event, select = data.get("event", ""), data.get("select", "")
    case = next((case for name, case in program.events.get(event, ()) if name == select), None)
    if case is None:
        raise InvalidRequest(f"unknown event {event[:100]!r} at {select[:100]!r}: reload the page")
    card = _event_card(data.get("thread", ""), select, data.get("wait_id", ""), case, data)
    card.hidden["key"] = data.get("key") or card.hidden["key"]
    card.posted = True
    return card


def operation_cards(view: View) -> list[Card]:
    """Returns a card for each operation that is possible in the current state of an instance."""
    if view.problem or not view.operator:
        return []
    # In reverse order, so that cancel, which cannot be undone, is last.
    return [_operation_card(kind) for kind in reversed(ACTIONS.values()) if kind.is_offered(view.instance.execution)]


def posted_operation(data: Mapping[str, str]) -> Card:
    """Returns the card of a posted operation.

    Raises:
        InvalidRequest: the operation is unknown.
    """
    name = data.get("operation", "")
    if name not in ACTIONS:
        raise InvalidRequest(f"unknown operation {name[:100]!r}. Available: {', '.join(ACTIONS)}")
    card = _operation_card(ACTIONS[name], data)
    card.is_open = card.posted = True
    return card


def new_card(schema: dict[str, Any], data: Mapping[str, str] | None = None) -> Card:
    """Returns the card for the initial fields of an instance."""
    card = Card("new", "new", "new", "Initial fields", "Create", form=Form(schema, data))
    card.renew()
    if data is not None:
        card.hidden["key"] = data.get("key") or card.hidden["key"]
    return card


def refused(card: Card, error: WorkflowError, problem: dict[str, Any]) -> int:
    """Records on a card why it was not sent. Returns the status of the page.

    Args:
        problem: the problem document of the error.
    """
    if isinstance(error, InvalidInput) and card.form is not None:
        card.form.refuse(error.errors)
    elif isinstance(error, EventNotAccepted):
        card.refuse(f"The event is no longer accepted: the instance is {error.status}. Nothing was changed.")
    else:
        card.refuse(problem["detail"])
    if not isinstance(error, (Busy, Unavailable)):
        card.renew()  # if it is unknown whether the request took effect, it must stay the same request
    status: int = problem["status"]
    return status


def body_of(card: Card, limit: int) -> bytes:
    """Returns the input in a form.

    Raises:
        TooLarge: it is larger than a request of the API may be.
    """
    value = MISSING if card.form is None else card.form.value()
    body = b"" if value is MISSING else json.dumps(value).encode()
    check_size(len(body), limit)
    check_values(body)
    return body


def _event_card(
    thread: str, select: str, wait_id: str, case: ClientCase, data: Mapping[str, str] | None = None
) -> Card:
    schema = case.signature.input_schema
    digest = hashlib.sha256(json.dumps([thread, select, case.event, schema]).encode()).hexdigest()
    card = Card(
        f"card-{digest[:12]}",
        "event",
        case.event,
        case.event,
        f"Send {case.event}",
        text=_described(case.handler) if isinstance(case, EventCase) else "",
        role=case.role or "",
        place=select if thread == MAIN_THREAD else f"{select} (thread {thread})",
        hidden={"event": case.event, "select": select, "thread": thread, "wait_id": wait_id},
        form=None if schema is None else Form(schema, data),
    )
    card.renew()
    return card


def _operation_card(kind: type[Action], data: Mapping[str, str] | None = None) -> Card:
    return Card(
        f"card-{kind.name}",
        "operation",
        kind.name,
        kind.title,
        kind.button,
        kind.confirmation,
        hidden={"operation": kind.name},
        form=Form(_arguments_schema(kind), data),
        is_open=False,
    )


@cache
def _arguments_schema(kind: type[Action]) -> dict[str, Any]:
    """The schema of an action's form: its own arguments, then who requests it and why."""
    schema = kind.model_json_schema()
    properties = {name: schema["properties"][name] for name in (*kind.arguments(), "by", "reason")}
    kept = {key: schema[key] for key in ("$defs", "required") if key in schema}
    return {"type": "object", "properties": properties} | kept


def _described(function: Any) -> str:
    text = getattr(function, "__doc__", None)
    return inspect.cleandoc(text) if text and getattr(function, "__name__", "") != "<lambda>" else ""
